SET LOCAL lock_timeout = '3s';
CREATE OR REPLACE FUNCTION postcall.lock_deliveries(ids uuid[]) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    -- In one order for all, so that nobody waits in a circle.
    PERFORM FROM postcall.delivery WHERE delivery_id = ANY (ids) ORDER BY delivery_id FOR UPDATE;
END
$$;
ALTER TABLE postcall.response_excerpt DROP CONSTRAINT excerpts_are_kept_for_366_days_at_most;
COMMENT ON FUNCTION postcall.admit_action_test() IS
    'Trigger on postcall.action_test: gives it its id and times, and takes no more than a few of each agent at once and a minute';
COMMENT ON FUNCTION postcall.admit_finding() IS
    'Trigger on postcall.resolution: takes a person''s finding only about an unknown delivery that was not replayed';
COMMENT ON FUNCTION postcall.admit_pause() IS
    'Trigger on postcall.pause: takes a pause only of what is not paused, and notes it as active';
COMMENT ON FUNCTION postcall.admit_pause_end() IS
    'Trigger on postcall.pause_end: takes an end only of a pause that is active, which it then is no longer';
COMMENT ON FUNCTION postcall.await_deliveries() IS
    'Trigger on postcall.outbox: one waiting delivery per new call and action in its action_ids';
COMMENT ON FUNCTION postcall.await_replay() IS
    'Trigger on postcall.replay: puts the new delivery into the queue';
COMMENT ON FUNCTION postcall.expire_response_excerpts() IS NULL;
COMMENT ON FUNCTION postcall.identify_replay() IS
    'Trigger on postcall.replay: gives a replay its delivery and its message';
COMMENT ON FUNCTION postcall.lock_deliveries(uuid[]) IS
    'Until the end of the transaction nobody else replays these deliveries, or says what became of them';
COMMENT ON FUNCTION postcall.make_partitions(timestamptz) IS
    'Makes missing partitions for the current and the two coming periods, and those of foreign ids; returns the names of those it made';
COMMENT ON FUNCTION postcall.prune_partition(text, integer, integer) IS
    'Drops a partition that is old as a whole and in which nothing is pending; says whether, or why not. Fails where a lock is not to be had at once';
COMMENT ON FUNCTION postcall.prune_plan(integer, integer) IS
    'What would leave if calls and history were kept for so many days, and what stays why; null keeps for ever';
COMMENT ON FUNCTION postcall.prune_rows(text, integer, integer, timestamptz, uuid) IS
    'Deletes the next portion of old rows behind a place; says how many, and whether there are more. Fails where a lock is not to be had at once';
COMMENT ON FUNCTION postcall.prune_tests(integer) IS
    'Deletes the next portion of old tests; says how many, and whether there are more. Fails where a lock is not to be had at once';
COMMENT ON FUNCTION postcall.record_pruning() IS
    'Trigger on postcall.retention: records that history was removed';
COMMENT ON FUNCTION postcall.record_secret_change() IS
    'Trigger on postcall.secret: records who set or removed it';
COMMENT ON FUNCTION postcall.record_switch() IS
    'Trigger on postcall.action: records each switching';
COMMENT ON FUNCTION postcall.register_call() IS
    'Trigger on postcall.outbox: which actions the call is to be delivered by, its length and its provider''s id';
COMMENT ON FUNCTION postcall.secrets_for_test(bigint) IS
    'The encrypted secrets of a row of secret_opening, for who recorded it, within a minute';
COMMENT ON FUNCTION postcall.version_digest(bigint, integer) IS
    'What history knows a version by: the SHA-256 of its URL, headers and body as written, and of the secret that it names as its certificate; of a sealed version its column digest';
