-- Partitions of foreign ids that hold calls stay: the calls would be lost with them.
DO $$
DECLARE
    partition text;
    holds     boolean;
BEGIN
    FOREACH partition IN ARRAY ARRAY['outbox_past', 'outbox_foreign'] LOOP
        CONTINUE WHEN to_regclass('postcall.' || partition) IS NULL;
        EXECUTE format('SELECT EXISTS (SELECT FROM postcall.%I)', partition) INTO holds;
        IF NOT holds THEN
            EXECUTE format('DROP TABLE postcall.%I', partition);
        END IF;
    END LOOP;
END
$$;

CREATE OR REPLACE FUNCTION postcall.make_partitions(at timestamptz DEFAULT now()) RETURNS SETOF text
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
