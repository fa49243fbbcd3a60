-- What may leave, and what has left: one row.
--
-- - The least times for which calls and history are kept are the owner's to set. Whoever else prunes (dispatchers, publishers) can
--   remove nothing younger, and nothing at all where they are null: so a dispatcher that was taken over destroys no history.
-- - history_begins is raised, in the same transaction, by whatever removes history. It is what makes the accounts exact afterwards:
--   nothing is asked about calls and replays from before it.
-- - Whoever prunes locks this table for the moment in which something leaves, and whoever checks the accounts locks it (ACCESS
--   SHARE) before taking a snapshot. So there is one at a time who prunes, and no partition leaves in the middle of a check. A
--   table, and not an advisory lock, which anybody who can connect could hold.
CREATE TABLE postcall.retention (
    singleton          boolean NOT NULL DEFAULT true PRIMARY KEY CONSTRAINT retention_is_one_row CHECK (singleton),
    least_calls_days   integer CONSTRAINT calls_are_kept_for_a_day CHECK (least_calls_days BETWEEN 1 AND 36500),
    least_history_days integer CONSTRAINT history_is_kept_for_a_day CHECK (least_history_days BETWEEN 1 AND 36500),
    history_begins     timestamptz CONSTRAINT history_begins_in_range
                           CHECK (history_begins >= '2000-01-01Z' AND history_begins < '10000-01-01Z'),
    CONSTRAINT history_is_kept_as_long_as_calls CHECK (least_history_days >= least_calls_days)
);
COMMENT ON TABLE postcall.retention IS 'What may leave, set by the owner, and what has left; one row';
COMMENT ON COLUMN postcall.retention.singleton IS 'Always true: there is one row';
COMMENT ON COLUMN postcall.retention.least_calls_days IS
    'Days for which calls are kept at least, whoever but the owner prunes; null: nobody else may remove calls';
COMMENT ON COLUMN postcall.retention.least_history_days IS
    'Days for which history is kept at least, whoever but the owner prunes; null: nobody else may remove history';
COMMENT ON COLUMN postcall.retention.history_begins IS
    'History from before this time may have been removed; null: none was, but by dropping partitions by hand';
INSERT INTO postcall.retention DEFAULT VALUES;

CREATE TRIGGER retention_stays BEFORE DELETE ON postcall.retention
    FOR EACH ROW EXECUTE FUNCTION postcall.refuse_change('It says what has left.');
CREATE TRIGGER history_begins_no_earlier BEFORE UPDATE ON postcall.retention
    FOR EACH ROW WHEN (OLD.history_begins IS NOT NULL AND (NEW.history_begins < OLD.history_begins) IS NOT FALSE)
    EXECUTE FUNCTION postcall.refuse_change('What has left does not come back.');
ALTER TABLE postcall.retention ENABLE ALWAYS TRIGGER retention_stays;
ALTER TABLE postcall.retention ENABLE ALWAYS TRIGGER history_begins_no_earlier;
SELECT postcall.guard_against_truncate('postcall.retention');

GRANT SELECT ON postcall.retention TO postcall_dispatcher, postcall_publisher, postcall_auditor;

-- As before, and what was removed otherwise than by partition counts as well.
CREATE OR REPLACE FUNCTION postcall.history_begins() RETURNS timestamptz
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT greatest((SELECT retention.history_begins FROM postcall.retention),
                    coalesce(min(to_timestamp(('x' || translate(left(bound[1], 13), '-', ''))::bit(48)::bigint / 1000.0)),
                             '-infinity'))
    FROM pg_inherits
    JOIN pg_class ON pg_class.oid = inhrelid,
         regexp_match(pg_get_expr(relpartbound, pg_class.oid), $re$FROM \('([0-9a-f-]+)'\)$re$) AS bound
    WHERE inhparent = 'postcall.delivery'::regclass;
END;
COMMENT ON FUNCTION postcall.history_begins() IS
    'From when on history is whole: the beginning of its oldest partition, or the end of what was removed, whichever is later';
