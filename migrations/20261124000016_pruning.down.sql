SET LOCAL lock_timeout = '3s';
LOCK TABLE postcall.outbox IN ACCESS EXCLUSIVE MODE;
CREATE OR REPLACE FUNCTION postcall.make_partitions(at timestamptz DEFAULT now()) RETURNS SETOF text
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET timezone = 'UTC'
    SET lock_timeout = '50ms' AS $$
DECLARE
    -- Reading so much takes 10 to 20 ms, with every page in memory (as they are: see below).
    most_bytes_read_under_lock CONSTANT bigint := 64 * 1024 * 1024;
    parent    text;
    key       text;
    partition text;
    from_id   text;
    to_id     text;
    taken     boolean;
    warmed    bigint;
BEGIN
    -- Whoever may execute this can make the partitions of these months and no others.
    IF at IS NULL OR at NOT BETWEEN now() - interval '1 day' AND now() + interval '1 day' THEN
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
        SELECT 'outbox', 'id', 'outbox_past', 'MINVALUE', quote_literal(postcall.uuid_v7_floor('2020-01-01 00:00:00+00'))
        UNION ALL
        SELECT 'outbox', 'id', 'outbox_foreign', quote_literal(postcall.uuid_v7_floor('2040-01-01 00:00:00+00')), 'MAXVALUE'
    LOOP
        CONTINUE WHEN to_regclass('postcall.' || partition) IS NOT NULL;
        IF pg_relation_size(format('postcall.%I', parent || '_default')::regclass) > most_bytes_read_under_lock THEN
            RAISE WARNING 'partition % is not made: the default partition has outgrown 64 MiB, and inserts would wait', partition;
            CONTINUE;
        END IF;
        -- Ids that lie in the default partition already keep their range from having its own: found by an index, not by trying.
        EXECUTE format('SELECT EXISTS (SELECT FROM postcall.%I WHERE %s AND %s)', parent || '_default',
                       CASE from_id WHEN 'MINVALUE' THEN 'true' ELSE format('%I >= %s', key, from_id) END,
                       CASE to_id WHEN 'MAXVALUE' THEN 'true' ELSE format('%I < %s', key, to_id) END) INTO taken;
        CONTINUE WHEN taken;
        -- Read once without a lock, so that under the lock every page is in memory.
        EXECUTE format('SELECT count(created_at) FROM postcall.%I', parent || '_default') INTO warmed;
        BEGIN
            EXECUTE format('CREATE TABLE postcall.%I (LIKE postcall.%I INCLUDING ALL)', partition, parent);
            EXECUTE format('ALTER TABLE postcall.%I ATTACH PARTITION postcall.%I FOR VALUES FROM (%s) TO (%s)',
                           parent, partition, from_id, to_id);
            PERFORM postcall.guard_against_truncate(format('postcall.%I', partition)::regclass);
            RETURN NEXT partition;
        EXCEPTION WHEN lock_not_available OR check_violation OR duplicate_table OR invalid_object_definition THEN
            -- The last: its range belongs to another partition already.
            RAISE DEBUG 'partition % is left for later: %', partition, SQLERRM;
        END;
    END LOOP;
END
$$;

DROP INDEX IF EXISTS postcall.outbox_default_by_age, postcall.outbox_past_by_age, postcall.outbox_foreign_by_age;
DROP FUNCTION postcall.prune_rows(text, integer, integer, timestamptz, uuid);
DROP FUNCTION postcall.prune_partition(text, integer, integer);
DROP FUNCTION postcall.prune_plan(integer, integer);
DROP FUNCTION postcall.has_index_by_age(text);
DROP FUNCTION postcall.pending_delivery(uuid, uuid);
DROP FUNCTION postcall.time_of_id(uuid);
DROP FUNCTION postcall.partitions_by_time();
DROP FUNCTION postcall.kept_since(text, integer);
