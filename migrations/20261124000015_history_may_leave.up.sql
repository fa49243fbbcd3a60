-- The guards of history let a row go once it is over: a delivery from before the time at which history begins, and a replay or a
-- finding whose delivery is nowhere any more. That is a property of the row, not of who deletes it: no setting of a session opens
-- the guards, and the time only moves forward (postcall.retention).
SET LOCAL lock_timeout = '3s';
LOCK TABLE postcall.delivery, postcall.replay, postcall.resolution IN ACCESS EXCLUSIVE MODE;

CREATE FUNCTION postcall.is_on_its_way(delivery_id uuid) RETURNS boolean
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
RETURN EXISTS (SELECT FROM postcall.waiting WHERE waiting.delivery_id = is_on_its_way.delivery_id)
       OR EXISTS (SELECT FROM postcall.sending WHERE sending.delivery_id = is_on_its_way.delivery_id);
COMMENT ON FUNCTION postcall.is_on_its_way(uuid) IS 'Whether a delivery waits or is in flight';
REVOKE EXECUTE ON FUNCTION postcall.is_on_its_way(uuid) FROM PUBLIC;

CREATE FUNCTION postcall.keep_history() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    begins timestamptz;
BEGIN
    IF TG_OP = 'DELETE' THEN
        SELECT history_begins INTO begins FROM postcall.retention;
        IF OLD.delivery_id < postcall.uuid_v7_floor(begins) THEN
            IF TG_ARGV[0] = 'delivery' THEN
                IF OLD.created_at < begins THEN
                    RETURN OLD;
                END IF;
            ELSIF NOT postcall.is_on_its_way(OLD.delivery_id)
                  AND NOT EXISTS (SELECT FROM postcall.delivery WHERE delivery.delivery_id = OLD.delivery_id) THEN
                RETURN OLD;
            END IF;
        END IF;
    END IF;
    RAISE EXCEPTION 'rows of postcall.% are never changed or deleted', TG_TABLE_NAME
        USING ERRCODE = 'restrict_violation', HINT = 'History is only ever added to; what is old leaves by `postcall prune`.';
END
$$;
COMMENT ON FUNCTION postcall.keep_history() IS
    'Trigger: makes history, replays and findings immutable, even for their owner, until history no longer reaches back to them';
REVOKE EXECUTE ON FUNCTION postcall.keep_history() FROM PUBLIC;

DROP TRIGGER history_is_immutable ON postcall.delivery;
DROP TRIGGER replays_are_immutable ON postcall.replay;
DROP TRIGGER evidence_is_immutable ON postcall.resolution;
CREATE TRIGGER history_is_immutable BEFORE UPDATE OR DELETE ON postcall.delivery
    FOR EACH ROW EXECUTE FUNCTION postcall.keep_history('delivery');
CREATE TRIGGER replays_are_immutable BEFORE UPDATE OR DELETE ON postcall.replay
    FOR EACH ROW EXECUTE FUNCTION postcall.keep_history('replay');
CREATE TRIGGER evidence_is_immutable BEFORE UPDATE OR DELETE ON postcall.resolution
    FOR EACH ROW EXECUTE FUNCTION postcall.keep_history('resolution');

ALTER TABLE postcall.replay ENABLE ALWAYS TRIGGER replays_are_immutable;
ALTER TABLE postcall.resolution ENABLE ALWAYS TRIGGER evidence_is_immutable;
ALTER TABLE postcall.delivery ENABLE ALWAYS TRIGGER history_is_immutable;
DO $$
DECLARE
    partition regclass;
BEGIN
    -- Whether this reaches the partitions depends on the server's version, so it is said to each.
    FOR partition IN SELECT inhrelid::regclass FROM pg_inherits WHERE inhparent = 'postcall.delivery'::regclass LOOP
        EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER history_is_immutable', partition);
    END LOOP;
END
$$;
