-- Makes the partitions of the current and the coming periods. Partitions are named for the period's first day.
--
-- Attaching (unlike CREATE TABLE … PARTITION OF) lets inserts into other partitions go on. It does lock the default
-- partition for the moment of reading it, so it waits for that lock very briefly and otherwise leaves the work to the
-- next call: the platform must never queue behind us. Ids that already lie in the default partition keep their range
-- from getting a partition of its own, which costs nothing but the convenience of dropping it.
-- SECURITY DEFINER: dispatchers may make partitions without owning the tables.
CREATE FUNCTION postcall.make_partitions(at timestamptz DEFAULT now()) RETURNS SETOF text
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET timezone = 'UTC'
    SET lock_timeout = '50ms' AS $$
DECLARE
    parent    text;
    period    text;
    starts_at timestamptz;
    partition text;
BEGIN
    FOR parent, period, starts_at IN
        SELECT p.parent, p.period, date_trunc(p.period, at) + n * ('1 ' || p.period)::interval
        FROM (VALUES ('outbox', 'week'), ('delivery', 'month')) AS p (parent, period), generate_series(0, 2) AS n
    LOOP
        partition := parent || to_char(starts_at, '_YYYYMMDD');
        CONTINUE WHEN to_regclass('postcall.' || partition) IS NOT NULL;
        BEGIN
            EXECUTE format('CREATE TABLE postcall.%I (LIKE postcall.%I INCLUDING ALL)', partition, parent);
            EXECUTE format('ALTER TABLE postcall.%I ATTACH PARTITION postcall.%I FOR VALUES FROM (%L) TO (%L)',
                parent, partition, postcall.uuid_v7_floor(starts_at),
                postcall.uuid_v7_floor(starts_at + ('1 ' || period)::interval));
            RETURN NEXT partition;
        EXCEPTION WHEN lock_not_available OR check_violation OR duplicate_table THEN
            RAISE DEBUG 'partition % is left for later: %', partition, SQLERRM;
        END;
    END LOOP;
END
$$;
COMMENT ON FUNCTION postcall.make_partitions(timestamptz) IS
    'Makes missing partitions for the current and the two coming periods; returns the names of those it made';

REVOKE ALL ON FUNCTION postcall.make_partitions(timestamptz) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION postcall.make_partitions(timestamptz) TO postcall_dispatcher;

-- From when on history is whole, as far as dropped partitions go. The default partition has no bounds and does not count.
CREATE FUNCTION postcall.history_begins() RETURNS timestamptz
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT coalesce(min(to_timestamp(('x' || translate(left(bound[1], 13), '-', ''))::bit(48)::bigint / 1000.0)),
                    '-infinity')
    FROM pg_inherits
    JOIN pg_class ON pg_class.oid = inhrelid,
         regexp_match(pg_get_expr(relpartbound, pg_class.oid), $re$FROM \('([0-9a-f-]+)'\)$re$) AS bound
    WHERE inhparent = 'postcall.delivery'::regclass;
END;
COMMENT ON FUNCTION postcall.history_begins() IS 'The beginning of the oldest partition of postcall.delivery';

SELECT postcall.make_partitions();
