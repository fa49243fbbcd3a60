SET LOCAL lock_timeout = '3s';
LOCK TABLE postcall.delivery, postcall.replay, postcall.resolution IN ACCESS EXCLUSIVE MODE;
DROP TRIGGER history_is_immutable ON postcall.delivery;
DROP TRIGGER replays_are_immutable ON postcall.replay;
DROP TRIGGER evidence_is_immutable ON postcall.resolution;
CREATE TRIGGER history_is_immutable BEFORE UPDATE OR DELETE ON postcall.delivery
    FOR EACH ROW EXECUTE FUNCTION postcall.refuse_change('History is only ever added to; old partitions may be dropped.');
CREATE TRIGGER replays_are_immutable BEFORE UPDATE OR DELETE ON postcall.replay
    FOR EACH ROW EXECUTE FUNCTION postcall.refuse_change('It is a record of what happened.');
CREATE TRIGGER evidence_is_immutable BEFORE UPDATE OR DELETE ON postcall.resolution
    FOR EACH ROW EXECUTE FUNCTION postcall.refuse_change('What was learnt is only ever added to.');
ALTER TABLE postcall.replay ENABLE ALWAYS TRIGGER replays_are_immutable;
ALTER TABLE postcall.resolution ENABLE ALWAYS TRIGGER evidence_is_immutable;
ALTER TABLE postcall.delivery ENABLE ALWAYS TRIGGER history_is_immutable;
DO $$
DECLARE
    partition regclass;
BEGIN
    FOR partition IN SELECT inhrelid::regclass FROM pg_inherits WHERE inhparent = 'postcall.delivery'::regclass LOOP
        EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER history_is_immutable', partition);
    END LOOP;
END
$$;
DROP FUNCTION postcall.keep_history();
DROP FUNCTION postcall.is_on_its_way(uuid);
