-- Attaching a partition reads the whole default partition under a lock, and whoever inserts into that one waits meanwhile. So the
-- default partition is kept small: ids that are no time-ordered ones of our time (those of version 4 above all, of which 98 in
-- 100 lie above the year 2100 if read as a time) have a partition of their own, which no later partition touches.
SET LOCAL lock_timeout = '3s';

CREATE OR REPLACE FUNCTION postcall.make_partitions(at timestamptz DEFAULT now()) RETURNS SETOF text
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET timezone = 'UTC'
    SET lock_timeout = '50ms' AS $$
DECLARE
    -- Reading so much takes 10 to 20 ms, with every page in memory.
    most_bytes_read_under_lock CONSTANT bigint := 64 * 1024 * 1024;
    parent    text;
    key       text;
    partition text;
    from_id   text;
    to_id     text;
    taken     boolean;
BEGIN
    -- Whoever may execute this can make the partitions of these months and no others.
    IF at NOT BETWEEN now() - interval '1 day' AND now() + interval '1 day' THEN
        RAISE EXCEPTION 'partitions are made for the present only, not for %', at
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    FOR parent, key, partition, from_id, to_id IN
        SELECT p.parent, p.key, p.parent || to_char(starts_at, '_YYYYMMDD'), quote_literal(postcall.uuid_v7_floor(starts_at)),
               quote_literal(postcall.uuid_v7_floor(starts_at + ('1 ' || p.period)::interval))
        FROM (VALUES ('outbox', 'id', 'week'), ('delivery', 'delivery_id', 'month')) AS p (parent, key, period),
             generate_series(0, 2) AS n,
             LATERAL (SELECT date_trunc(p.period, at) + n * ('1 ' || p.period)::interval) AS s (starts_at)
        UNION ALL
        SELECT 'outbox', 'id', 'outbox_foreign', quote_literal(postcall.uuid_v7_floor('2100-01-01 00:00:00+00')), 'MAXVALUE'
    LOOP
        CONTINUE WHEN to_regclass('postcall.' || partition) IS NOT NULL;
        IF pg_relation_size(format('postcall.%I', parent || '_default')::regclass) > most_bytes_read_under_lock THEN
            RAISE WARNING 'partition % is not made: the default partition has outgrown 64 MiB, and inserts would wait', partition;
            CONTINUE;
        END IF;
        -- Ids that lie in the default partition already keep their range from having its own: found by an index, not by trying.
        EXECUTE format('SELECT EXISTS (SELECT FROM postcall.%I WHERE %I >= %s AND (%L = ''MAXVALUE'' OR %I < %s))',
                       parent || '_default', key, from_id, to_id, key, replace(to_id, 'MAXVALUE', 'NULL')) INTO taken;
        CONTINUE WHEN taken;
        BEGIN
            EXECUTE format('CREATE TABLE postcall.%I (LIKE postcall.%I INCLUDING ALL)', partition, parent);
            EXECUTE format('ALTER TABLE postcall.%I ATTACH PARTITION postcall.%I FOR VALUES FROM (%s) TO (%s)',
                           parent, partition, from_id, to_id);
            PERFORM postcall.guard_against_truncate(format('postcall.%I', partition)::regclass);
            RETURN NEXT partition;
        EXCEPTION WHEN lock_not_available OR check_violation OR duplicate_table THEN
            RAISE DEBUG 'partition % is left for later: %', partition, SQLERRM;
        END;
    END LOOP;
END
$$;
COMMENT ON FUNCTION postcall.make_partitions(timestamptz) IS
    'Makes missing partitions for the current and the two coming periods, and the one of foreign ids; returns the names of those it made';

SELECT postcall.make_partitions();
