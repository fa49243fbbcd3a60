-- Old calls and old history leave: by partition where their ids are times, else row by row.
--
-- A partition is dropped in one transaction, so that nothing that dies in the middle leaves anything half done. DETACH …
-- CONCURRENTLY is not to be had beside a default partition, and a plain DETACH takes the same lock as the drop, for as long. What
-- the platform notices of a drop is that lock: it is waited for no longer than 25 ms, because whoever comes behind waits with it,
-- and held for a few milliseconds. Reading, deleting files and writing payloads happen outside of it.
--
-- What a malicious caller can make these functions do: nothing beyond the owner's bounds (postcall.retention), which are checked
-- before any lock is taken. Within them, a caller whose transaction stays open keeps the locks that it took, as it could by
-- locking the queue.
SET LOCAL lock_timeout = '3s';
LOCK TABLE postcall.outbox IN ACCESS EXCLUSIVE MODE;

-- From when on something is kept: whole days, so that the bound has no fraction that ids cannot hold. In UTC, as the partitions.
CREATE FUNCTION postcall.kept_since(what text, keep_days integer) RETURNS timestamptz
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
    SET timezone = 'UTC' AS $$
DECLARE
    least_days integer;
BEGIN
    IF what NOT IN ('calls', 'history') OR keep_days IS NULL OR keep_days NOT BETWEEN 1 AND 36500 THEN
        RAISE EXCEPTION 'calls or history are kept for 1 to 36500 days' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF NOT pg_has_role(session_user, (SELECT relowner FROM pg_class WHERE oid = 'postcall.outbox'::regclass), 'USAGE') THEN
        SELECT CASE what WHEN 'calls' THEN least_calls_days ELSE least_history_days END INTO least_days FROM postcall.retention;
        IF least_days IS NULL THEN
            RAISE EXCEPTION 'only the owner of the schema may remove % in this database, as long as postcall.retention does not say for how long they are kept at least', what
                USING ERRCODE = 'insufficient_privilege';
        ELSIF keep_days < least_days THEN
            RAISE EXCEPTION '% are kept for at least % days in this database (postcall.retention), not %', what, least_days, keep_days
                USING ERRCODE = 'insufficient_privilege';
        END IF;
    END IF;
    RETURN date_trunc('day', now()) - make_interval(days => keep_days);
END
$$;
COMMENT ON FUNCTION postcall.kept_since(text, integer) IS
    'The time up to which calls or history may leave, if they are kept for so many days; fails where the owner does not permit it';

CREATE FUNCTION postcall.partitions_by_time(OUT parent text, OUT partition text, OUT from_id uuid, OUT to_id uuid) RETURNS SETOF record
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT parent.relname::text, child.relname::text, bound[1]::uuid, bound[2]::uuid
    FROM pg_inherits
    JOIN pg_class AS parent ON parent.oid = inhparent
    JOIN pg_class AS child ON child.oid = inhrelid,
         regexp_match(pg_get_expr(child.relpartbound, child.oid), $re$FROM \('([0-9a-f-]+)'\) TO \('([0-9a-f-]+)'\)$re$) AS bound
    WHERE inhparent IN ('postcall.outbox'::regclass, 'postcall.delivery'::regclass)
      AND child.relnamespace = 'postcall'::regnamespace AND bound IS NOT NULL
    ORDER BY inhparent, bound[1]::uuid;
END;
COMMENT ON FUNCTION postcall.partitions_by_time() IS 'The partitions of calls and history that are bounded by ids at both ends';

CREATE FUNCTION postcall.time_of_id(id uuid) RETURNS timestamptz
    LANGUAGE sql IMMUTABLE
    SET search_path = pg_catalog, pg_temp
RETURN to_timestamp(('x' || translate(left(id::text, 13), '-', ''))::bit(48)::bigint / 1000.0);
COMMENT ON FUNCTION postcall.time_of_id(uuid) IS 'The time in a time-ordered id';

-- One statement, so one snapshot: a delivery that moves between the two tables is found in one of them. It reads the queue, because
-- an index on the call would cost each insert of the platform; nothing but what is locked by prune_partition waits meanwhile.
CREATE FUNCTION postcall.pending_delivery(from_id uuid, to_id uuid) RETURNS uuid
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
    SET enable_seqscan = 'on' AS $$
BEGIN
    RETURN (SELECT delivery_id
            FROM (SELECT delivery_id, call_id FROM postcall.waiting
                  UNION ALL SELECT delivery_id, call_id FROM postcall.sending) AS pending
            WHERE call_id >= from_id AND call_id < to_id
            LIMIT 1);
END
$$;
COMMENT ON FUNCTION postcall.pending_delivery(uuid, uuid) IS 'A delivery that waits or is in flight, of a call in this range of ids';

-- SECURITY DEFINER: callers own none of these tables.
CREATE FUNCTION postcall.prune_plan(keep_calls_days integer, keep_history_days integer,
    OUT what text, OUT source text, OUT begins timestamptz, OUT ends timestamptz, OUT bytes bigint, OUT outcome text,
    OUT pending uuid) RETURNS SETOF record
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET enable_seqscan = 'on' SET enable_sort = 'on' SET enable_bitmapscan = 'on' AS $$
DECLARE
    calls_bound   timestamptz := CASE WHEN keep_calls_days IS NOT NULL THEN postcall.kept_since('calls', keep_calls_days) END;
    history_bound timestamptz := CASE WHEN keep_history_days IS NOT NULL THEN postcall.kept_since('history', keep_history_days) END;
    bound         timestamptz;
    found_old     boolean;
    part          record;
BEGIN
    FOR part IN SELECT * FROM postcall.partitions_by_time() AS p ORDER BY p.parent = 'delivery', p.from_id LOOP
        source := part.partition;
        what := CASE part.parent WHEN 'outbox' THEN 'calls' ELSE 'history' END;
        bound := CASE what WHEN 'calls' THEN calls_bound ELSE history_bound END;
        CONTINUE WHEN bound IS NULL;
        begins := postcall.time_of_id(part.from_id);
        ends := postcall.time_of_id(part.to_id);
        bytes := pg_total_relation_size(to_regclass(format('postcall.%I', source)));
        pending := NULL;
        outcome := 'young';
        IF ends <= bound THEN
            IF what = 'calls' THEN
                pending := postcall.pending_delivery(part.from_id, part.to_id);
            END IF;
            outcome := CASE WHEN pending IS NULL THEN 'due' ELSE 'pending' END;
        END IF;
        RETURN NEXT;
    END LOOP;

    begins := NULL;
    ends := NULL;
    pending := NULL;
    FOREACH source IN ARRAY ARRAY['outbox_default', 'outbox_past', 'outbox_foreign', 'delivery_default'] LOOP
        what := CASE source WHEN 'delivery_default' THEN 'history' ELSE 'calls' END;
        bound := CASE what WHEN 'calls' THEN calls_bound ELSE history_bound END;
        CONTINUE WHEN bound IS NULL OR to_regclass('postcall.' || source) IS NULL;
        bytes := pg_total_relation_size(to_regclass('postcall.' || source));
        outcome := 'no_index';
        IF what = 'history' THEN
            SELECT EXISTS (SELECT FROM postcall.delivery_default
                           WHERE delivery_id < postcall.uuid_v7_floor(bound) AND created_at < bound) INTO found_old;
            outcome := CASE WHEN found_old THEN 'due' ELSE 'young' END;
        ELSIF postcall.has_index_by_age(source) THEN
            EXECUTE format('SELECT EXISTS (SELECT FROM postcall.%I WHERE created_at < $1)', source) INTO found_old USING bound;
            outcome := CASE WHEN found_old THEN 'due' ELSE 'young' END;
        END IF;
        RETURN NEXT;
    END LOOP;

    outcome := 'detached';
    FOR source, what IN
        SELECT relname, CASE WHEN relname ~ '^outbox' THEN 'calls' ELSE 'history' END FROM pg_class
        WHERE relnamespace = 'postcall'::regnamespace AND relkind = 'r' AND NOT relispartition AND relname ~ '^(outbox|delivery)_'
        ORDER BY relname
    LOOP
        bytes := pg_total_relation_size(to_regclass(format('postcall.%I', source)));
        RETURN NEXT;
    END LOOP;
END
$$;
COMMENT ON FUNCTION postcall.prune_plan(integer, integer) IS
    'What would leave if calls and history were kept for so many days, and what stays why; null keeps for ever';

CREATE FUNCTION postcall.has_index_by_age(source text) RETURNS boolean
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
RETURN EXISTS (SELECT FROM pg_index
               WHERE indexrelid = to_regclass('postcall.' || source || '_by_age') AND indrelid = to_regclass('postcall.' || source)
                 AND indisvalid);
COMMENT ON FUNCTION postcall.has_index_by_age(text) IS 'Whether the old calls in a partition of foreign ids can be found by an index';

-- Drops one partition, if all of it is old and nothing in it is still to be sent. SECURITY DEFINER: callers own none of the tables.
--
-- A call in the partition can become pending only by a replay, or by an insert into the partition itself: both are shut out
-- while the queue is read and until the end. Nobody else waits for that: claims and results go on, as do inserts into all other
-- partitions. Only then the lock on the parent is taken, for the drop alone.
CREATE FUNCTION postcall.prune_partition(partition text, keep_calls_days integer, keep_history_days integer,
    OUT outcome text, OUT pending uuid)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET lock_timeout = '25ms' AS $$
DECLARE
    part  record;
    what  text;
BEGIN
    IF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted') THEN
        RAISE EXCEPTION 'a partition is dropped in a transaction of isolation level READ COMMITTED'
            USING ERRCODE = 'feature_not_supported';
    END IF;
    SELECT * INTO part FROM postcall.partitions_by_time() AS p WHERE p.partition = prune_partition.partition;
    IF NOT FOUND THEN
        outcome := 'gone';
        RETURN;
    END IF;
    what := CASE part.parent WHEN 'outbox' THEN 'calls' ELSE 'history' END;
    IF postcall.time_of_id(part.to_id)
       > postcall.kept_since(what, CASE what WHEN 'calls' THEN keep_calls_days ELSE keep_history_days END) THEN
        outcome := 'young';
        RETURN;
    END IF;
    -- One at a time, and none while the accounts are checked. Whoever was here before may have taken it away.
    LOCK TABLE postcall.retention IN ACCESS EXCLUSIVE MODE;
    IF NOT EXISTS (SELECT FROM postcall.partitions_by_time() AS p WHERE p = part) THEN
        outcome := 'gone';
        RETURN;
    END IF;
    IF what = 'calls' THEN
        LOCK TABLE postcall.replay IN SHARE MODE;
        EXECUTE format('LOCK TABLE ONLY postcall.%I IN SHARE MODE', partition);
        pending := postcall.pending_delivery(part.from_id, part.to_id);
        IF pending IS NOT NULL THEN
            outcome := 'pending';
            RETURN;
        END IF;
    ELSE
        UPDATE postcall.retention SET history_begins = postcall.time_of_id(part.to_id)
        WHERE history_begins IS NULL OR history_begins < postcall.time_of_id(part.to_id);
    END IF;
    -- From here on the platform waits, or the writers of history. Whoever uses the partition or the default one now does so
    -- past their parent (autovacuum): it is not waited for.
    EXECUTE format('LOCK TABLE ONLY postcall.%I IN ACCESS EXCLUSIVE MODE', part.parent);
    EXECUTE format('LOCK TABLE ONLY postcall.%I, ONLY postcall.%I IN ACCESS EXCLUSIVE MODE NOWAIT', partition, part.parent || '_default');
    PERFORM set_config('lock_timeout', '10ms', true);
    EXECUTE format('DROP TABLE postcall.%I', partition);
    outcome := 'left';
    RAISE LOG 'postcall: partition % was removed by %', partition, session_user;
END
$$;
COMMENT ON FUNCTION postcall.prune_partition(text, integer, integer) IS
    'Drops a partition that is old as a whole and in which nothing is pending; says whether, or why not. Fails where a lock is not to be had at once';

-- Deletes one portion of what no partition takes with it. Each call is a transaction of its own and begins behind the last.
-- SECURITY DEFINER: callers may delete none of it.
CREATE FUNCTION postcall.prune_rows(source text, keep_calls_days integer, keep_history_days integer,
    after_at timestamptz, after_id uuid,
    OUT outcome text, OUT removed bigint, OUT last_at timestamptz, OUT last_id uuid)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET enable_seqscan = 'on' SET enable_sort = 'on' SET enable_bitmapscan = 'on'
    SET lock_timeout = '25ms' AS $$
DECLARE
    -- 2,000 calls of 2 KB are deleted in some 20 ms.
    portion CONSTANT integer := 2000;
    bound   timestamptz;
    ids     uuid[];
    times   timestamptz[];
    pending uuid[];
BEGIN
    IF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted') THEN
        RAISE EXCEPTION 'old rows are deleted in a transaction of isolation level READ COMMITTED'
            USING ERRCODE = 'feature_not_supported';
    END IF;
    removed := 0;
    outcome := 'done';
    IF source IN ('outbox_default', 'outbox_past', 'outbox_foreign') THEN
        bound := postcall.kept_since('calls', keep_calls_days);
        IF to_regclass('postcall.' || source) IS NULL THEN
            RETURN;
        ELSIF NOT postcall.has_index_by_age(source) THEN
            outcome := 'no_index';
            RETURN;
        END IF;
        -- As in prune_partition: a call that is there becomes pending by a replay only.
        LOCK TABLE postcall.replay IN SHARE MODE;
        EXECUTE format('SELECT array_agg(id), array_agg(created_at)
                        FROM (SELECT id, created_at FROM postcall.%I
                              WHERE created_at < $1 AND (created_at, id) > ($2, $3)
                              ORDER BY created_at, id LIMIT $4) AS old', source)
            INTO ids, times USING bound, after_at, after_id, portion;
        pending := ARRAY(SELECT call_id FROM postcall.waiting WHERE call_id = ANY (ids)
                         UNION SELECT call_id FROM postcall.sending WHERE call_id = ANY (ids));
        EXECUTE format('DELETE FROM postcall.%I WHERE id = ANY ($1) AND id <> ALL ($2)', source) USING ids, pending;
        GET DIAGNOSTICS removed = ROW_COUNT;
    ELSIF source = 'delivery_default' THEN
        bound := postcall.kept_since('history', keep_history_days);
        SELECT array_agg(old.delivery_id), array_agg(old.created_at) INTO ids, times
        FROM (SELECT delivery_id, created_at FROM postcall.delivery_default
              WHERE delivery_id < postcall.uuid_v7_floor(bound) AND created_at < bound AND delivery_id > after_id
              ORDER BY delivery_id LIMIT portion) AS old;
        IF ids IS NOT NULL THEN
            UPDATE postcall.retention SET history_begins = bound WHERE history_begins IS NULL OR history_begins < bound;
            DELETE FROM postcall.delivery_default WHERE delivery_id = ANY (ids);
            GET DIAGNOSTICS removed = ROW_COUNT;
        END IF;
    ELSIF source IN ('replay', 'resolution') THEN
        -- What was said about deliveries that have left. A replay goes with its own delivery, not with the one that it repeats.
        PERFORM postcall.kept_since('history', keep_history_days);
        SELECT postcall.uuid_v7_floor(history_begins) INTO last_id FROM postcall.retention;
        EXECUTE format('SELECT array_agg(delivery_id)
                        FROM (SELECT DISTINCT delivery_id FROM postcall.%I WHERE delivery_id < $1 AND delivery_id > $2
                              ORDER BY delivery_id LIMIT $3) AS old', source)
            INTO ids USING last_id, after_id, portion;
        last_id := NULL;
        EXECUTE format('DELETE FROM postcall.%I AS told
                        WHERE delivery_id = ANY ($1) AND NOT postcall.is_on_its_way(delivery_id)
                          AND NOT EXISTS (SELECT FROM postcall.delivery WHERE delivery.delivery_id = told.delivery_id)', source)
            USING ids;
        GET DIAGNOSTICS removed = ROW_COUNT;
    ELSE
        RAISE EXCEPTION 'no rows are removed from %', source USING ERRCODE = 'invalid_parameter_value';
    END IF;
    last_id := ids[cardinality(ids)];
    last_at := times[cardinality(times)];
    IF cardinality(ids) = portion THEN
        outcome := 'more';
    END IF;
    IF removed > 0 THEN
        RAISE LOG 'postcall: % rows of % were removed by %', removed, source, session_user;
    END IF;
END
$$;
COMMENT ON FUNCTION postcall.prune_rows(text, integer, integer, timestamptz, uuid) IS
    'Deletes the next portion of old rows behind a place; says how many, and whether there are more. Fails where a lock is not to be had at once';

REVOKE EXECUTE ON FUNCTION postcall.kept_since(text, integer), postcall.partitions_by_time(), postcall.time_of_id(uuid),
    postcall.pending_delivery(uuid, uuid), postcall.has_index_by_age(text), postcall.prune_plan(integer, integer),
    postcall.prune_partition(text, integer, integer), postcall.prune_rows(text, integer, integer, timestamptz, uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION postcall.kept_since(text, integer), postcall.prune_plan(integer, integer),
    postcall.prune_partition(text, integer, integer), postcall.prune_rows(text, integer, integer, timestamptz, uuid)
    TO postcall_dispatcher, postcall_publisher;

-- Old calls in the partitions of foreign ids are found by when they were inserted. A btree and not BRIN: the space of calls that
-- have left is used again, and then no range of pages is old or new as a whole. Where such a partition is large already, building
-- the index would keep inserts waiting: `postcall prune` then says so, with the statement that builds it beside them.
DO $$
DECLARE
    source text;
BEGIN
    FOREACH source IN ARRAY ARRAY['outbox_default', 'outbox_past', 'outbox_foreign'] LOOP
        CONTINUE WHEN to_regclass('postcall.' || source) IS NULL;
        IF pg_relation_size(format('postcall.%I', source)::regclass) > 64 * 1024 * 1024 THEN
            RAISE WARNING 'partition % has outgrown 64 MiB; `postcall prune` says how to build its index', source;
        ELSE
            EXECUTE format('CREATE INDEX %I ON postcall.%I (created_at, id)', source || '_by_age', source);
        END IF;
    END LOOP;
END
$$;

-- As before, with that index on the partitions of foreign ids.
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
            IF partition IN ('outbox_past', 'outbox_foreign') THEN
                EXECUTE format('CREATE INDEX %I ON postcall.%I (created_at, id)', partition || '_by_age', partition);
            END IF;
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
