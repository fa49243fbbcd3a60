-- What must not be changed or erased is guarded by triggers that also fire in a session which replays somebody else's changes
-- (ENABLE ALWAYS). An owner can switch a guard off: `postcall check-invariants` then says so.
SET LOCAL lock_timeout = '3s';
-- First what an insert of the platform locks first: in another order, the two could wait for each other in a circle, and the
-- server would make one of them fail.
LOCK TABLE postcall.outbox IN ACCESS EXCLUSIVE MODE;

CREATE TRIGGER calls_are_immutable BEFORE UPDATE ON postcall.outbox
    FOR EACH ROW EXECUTE FUNCTION postcall.refuse_change('A call is kept as the platform wrote it.');

-- What history refers to keeps its identity, and an end stays an end: no dispatcher comes back to life under its id.
CREATE TRIGGER identities_stay BEFORE UPDATE ON postcall.action
    FOR EACH ROW WHEN ((OLD.action_id, OLD.agent, OLD.name, OLD.created_at)
                       IS DISTINCT FROM (NEW.action_id, NEW.agent, NEW.name, NEW.created_at))
    EXECUTE FUNCTION postcall.refuse_change('Only its version and whether it is enabled can change.');
CREATE TRIGGER dispatchers_stay BEFORE DELETE ON postcall.dispatcher
    FOR EACH ROW EXECUTE FUNCTION postcall.refuse_change('History refers to it.');
CREATE TRIGGER ends_are_final BEFORE UPDATE ON postcall.dispatcher
    FOR EACH ROW WHEN ((OLD.lost_at IS NOT NULL AND NEW.lost_at IS DISTINCT FROM OLD.lost_at)
                       OR (OLD.stopped_at IS NOT NULL AND NEW.stopped_at IS NULL))
    EXECUTE FUNCTION postcall.refuse_change('A dispatcher that has ended starts again under a new id.');

-- Versions count up one by one, and the newest is one that exists. Otherwise a publisher could write the next version ahead of
-- its time, so that nobody could ever publish the action again; point the action at a version that there is not; or bring an
-- older one back without a trace. Both are looked at when the transaction ends, because publishing changes two tables.
ALTER TABLE postcall.action
    ADD CONSTRAINT the_newest_version_exists FOREIGN KEY (action_id, version)
        REFERENCES postcall.action_version (action_id, version) DEFERRABLE INITIALLY DEFERRED NOT VALID;

CREATE TRIGGER versions_count_up BEFORE UPDATE ON postcall.action
    FOR EACH ROW WHEN (NEW.version NOT IN (OLD.version, OLD.version + 1))
    EXECUTE FUNCTION postcall.refuse_change('To go back to an older version, publish it anew.');

CREATE FUNCTION postcall.refuse_early_version() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM postcall.action
                   WHERE action.action_id = NEW.action_id AND action.version >= NEW.version) THEN
        RAISE EXCEPTION 'version % of action % is not the next one', NEW.version, NEW.action_id
            USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION postcall.refuse_early_version() IS
    'Trigger on postcall.action_version: a version that its action has not reached when the transaction ends';
REVOKE EXECUTE ON FUNCTION postcall.refuse_early_version() FROM PUBLIC;
CREATE CONSTRAINT TRIGGER versions_are_not_early AFTER INSERT ON postcall.action_version
    DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION postcall.refuse_early_version();

-- A trigger on TRUNCATE belongs to one table alone: a partition that is truncated by its own name needs its own.
CREATE FUNCTION postcall.guard_against_truncate(guarded regclass) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    EXECUTE format('CREATE TRIGGER rows_are_not_truncated BEFORE TRUNCATE ON %s
                    FOR EACH STATEMENT EXECUTE FUNCTION postcall.refuse_change(%L)',
                   guarded, 'Old partitions may be dropped; nothing else may be erased.');
    EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER rows_are_not_truncated', guarded);
END
$$;
COMMENT ON FUNCTION postcall.guard_against_truncate(regclass) IS 'Makes TRUNCATE fail on a table of this schema';
REVOKE EXECUTE ON FUNCTION postcall.guard_against_truncate(regclass) FROM PUBLIC;

DO $$
DECLARE
    guarded   text;
    guard     text;
    partition regclass;
BEGIN
    FOR guarded IN
        SELECT unnest(ARRAY['outbox', 'delivery', 'action', 'action_version', 'action_switch', 'replay', 'resolution',
                            'waiting', 'sending', 'dispatcher'])
        UNION ALL
        SELECT relname FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
        WHERE inhparent IN ('postcall.outbox'::regclass, 'postcall.delivery'::regclass)
    LOOP
        PERFORM postcall.guard_against_truncate(format('postcall.%I', guarded)::regclass);
    END LOOP;

    FOR guarded, guard IN VALUES
        ('outbox', 'calls_are_immutable'), ('delivery', 'history_is_immutable'), ('action', 'actions_stay'),
        ('action_version', 'versions_are_immutable'), ('action_switch', 'switches_are_immutable'),
        ('replay', 'replays_are_immutable'), ('resolution', 'evidence_is_immutable'),
        ('action', 'identities_stay'), ('action', 'versions_count_up'), ('dispatcher', 'dispatchers_stay'), ('dispatcher', 'ends_are_final')
    LOOP
        EXECUTE format('ALTER TABLE postcall.%I ENABLE ALWAYS TRIGGER %I', guarded, guard);
        -- Whether this reaches the partitions depends on the server's version, so it is said to each.
        FOR partition IN SELECT inhrelid::regclass FROM pg_inherits WHERE inhparent = format('postcall.%I', guarded)::regclass
        LOOP
            EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I', partition, guard);
        END LOOP;
    END LOOP;
END
$$;
