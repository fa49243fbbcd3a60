-- What must not be changed or erased is guarded by triggers that also fire in a session which replays somebody else's changes
-- (ENABLE ALWAYS). An owner can switch a guard off: `postcall check-invariants` then says so.
SET LOCAL lock_timeout = '3s';

CREATE TRIGGER calls_are_immutable BEFORE UPDATE ON postcall.outbox
    FOR EACH ROW EXECUTE FUNCTION postcall.refuse_change('A call is kept as the platform wrote it.');

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
                            'waiting', 'sending'])
        UNION ALL
        SELECT relname FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
        WHERE inhparent IN ('postcall.outbox'::regclass, 'postcall.delivery'::regclass)
    LOOP
        PERFORM postcall.guard_against_truncate(format('postcall.%I', guarded)::regclass);
    END LOOP;

    FOR guarded, guard IN VALUES
        ('outbox', 'calls_are_immutable'), ('delivery', 'history_is_immutable'), ('action', 'actions_stay'),
        ('action_version', 'versions_are_immutable'), ('action_switch', 'switches_are_immutable'),
        ('replay', 'replays_are_immutable'), ('resolution', 'evidence_is_immutable')
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
