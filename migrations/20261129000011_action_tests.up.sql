-- Tests of actions: a person sends one real request, to see what a receiver answers. A test is no delivery: it stands in tables of
-- its own, so that no count, no history and no replay ever meets it. Its id is what the receiver sees as webhook-id.
--
-- The promise holds for a test, too. Its row is committed before the request begins, and its result is a row of its own, inserted
-- once. A test without a result is `sending` until its time is over (given_up_at), and `unknown` from then on: nobody has to find
-- the process that ended in between, and nothing sends a test again. A result that comes later still counts.
SET LOCAL lock_timeout = '3s';

CREATE TABLE postcall.action_test (
    test_id        uuid        NOT NULL PRIMARY KEY,
    call_id        uuid,
    started_at     timestamptz NOT NULL,
    given_up_at    timestamptz NOT NULL,
    action_version integer     CHECK (action_version >= 1),
    timeout_ms     integer     NOT NULL CHECK (timeout_ms BETWEEN 100 AND 120000),
    request_bytes  integer     CHECK (request_bytes >= 0),
    agent          text        NOT NULL,
    action         text        NOT NULL,
    file_sha256    bytea       CHECK (octet_length(file_sha256) = 32),
    call_source    text        NOT NULL,
    method         text        CHECK (method IN ('GET', 'POST', 'PUT')),
    url            text        CHECK (octet_length(url) <= 2048),
    request_sha256 bytea       CHECK (octet_length(request_sha256) = 32),
    unresolved     text[],
    tested_by      text        NOT NULL,
    reason         text        NOT NULL,
    db_user        text        NOT NULL,

    CONSTRAINT tested_agent_has_1_to_200_characters CHECK (char_length(agent) BETWEEN 1 AND 200),
    CONSTRAINT tested_action_has_1_to_100_characters CHECK (char_length(action) BETWEEN 1 AND 100),
    CONSTRAINT a_version_or_a_file_is_tested CHECK (num_nonnulls(action_version, file_sha256) = 1),
    CONSTRAINT call_source_is_known CHECK (call_source IN ('sample', 'file', 'outbox')),
    CONSTRAINT only_a_past_call_has_an_id CHECK ((call_source = 'outbox') = (call_id IS NOT NULL)),
    CONSTRAINT a_request_has_a_method_and_a_url CHECK ((method IS NULL) = (url IS NULL)),
    CONSTRAINT a_tested_body_has_a_digest
        CHECK ((request_bytes IS NULL) = (request_sha256 IS NULL) AND (request_bytes IS NULL OR url IS NOT NULL)),
    CONSTRAINT tested_placeholders_are_bounded
        CHECK (cardinality(unresolved) BETWEEN 1 AND 33 AND octet_length(unresolved::text) <= 8192),
    CONSTRAINT tested_by_has_1_to_200_characters CHECK (char_length(tested_by) BETWEEN 1 AND 200),
    CONSTRAINT test_reason_has_1_to_1000_characters CHECK (char_length(reason) BETWEEN 1 AND 1000),
    CONSTRAINT test_times_are_in_range
        CHECK (started_at >= '2000-01-01Z' AND given_up_at > started_at AND given_up_at < '10000-01-01Z')
);
-- The newest of an agent, for lists and for the bounds below.
CREATE INDEX action_test_by_agent ON postcall.action_test (agent, test_id);

COMMENT ON TABLE postcall.action_test IS 'Tests of actions: one request each, made by a person; no deliveries. Never changed';
COMMENT ON COLUMN postcall.action_test.test_id IS 'The test; time-ordered; the receiver sees it as webhook-id';
COMMENT ON COLUMN postcall.action_test.call_id IS 'The past call that it was made with; null for the sample and for a file';
COMMENT ON COLUMN postcall.action_test.started_at IS 'When it was recorded, just before the request';
COMMENT ON COLUMN postcall.action_test.given_up_at IS 'From when on it is unknown, as long as it has no result';
COMMENT ON COLUMN postcall.action_test.action_version IS 'The version that was tested; null for a file';
COMMENT ON COLUMN postcall.action_test.timeout_ms IS 'Deadline of the request, milliseconds';
COMMENT ON COLUMN postcall.action_test.request_bytes IS 'Bytes of the request body; null if there is none';
COMMENT ON COLUMN postcall.action_test.agent IS 'The agent whose action it is, or for whom the file was tested';
COMMENT ON COLUMN postcall.action_test.action IS 'The name of the action, or the one that the file would have';
COMMENT ON COLUMN postcall.action_test.file_sha256 IS 'SHA-256 of the action file that was tested; null for a published version';
COMMENT ON COLUMN postcall.action_test.call_source IS 'Where the call came from: sample, file or outbox';
COMMENT ON COLUMN postcall.action_test.method IS 'HTTP method of the request; null if none could be rendered';
COMMENT ON COLUMN postcall.action_test.url IS 'The rendered URL, query values with secret names masked';
COMMENT ON COLUMN postcall.action_test.request_sha256 IS 'SHA-256 of the request body';
COMMENT ON COLUMN postcall.action_test.unresolved IS 'Placeholders that found nothing; null if all did';
COMMENT ON COLUMN postcall.action_test.tested_by IS 'Who tested it, in that person''s own words';
COMMENT ON COLUMN postcall.action_test.reason IS 'Why';
COMMENT ON COLUMN postcall.action_test.db_user IS 'The database user who tested it';

CREATE TABLE postcall.action_test_result (
    test_id         uuid        NOT NULL PRIMARY KEY REFERENCES postcall.action_test,
    recorded_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    latency_ms      integer     CHECK (latency_ms >= 0),
    dns_ms          integer     CHECK (dns_ms >= 0),
    connected_ms    integer     CHECK (connected_ms >= 0),
    head_ms         integer     CHECK (head_ms >= 0),
    response_bytes  integer     CHECK (response_bytes >= 0),
    response_code   smallint    CHECK (response_code BETWEEN 100 AND 999),
    state           text        NOT NULL,
    error_kind      text,
    error_detail    text        CHECK (octet_length(error_detail) <= 1024),
    response_sha256 bytea       CHECK (octet_length(response_sha256) = 32),
    body_end        text,

    CONSTRAINT test_state_is_final CHECK (state IN ('delivered', 'rejected', 'failed', 'unknown', 'unsent')),
    CONSTRAINT tested_2xx_means_delivered CHECK ((state = 'delivered') = (coalesce(response_code, 0) BETWEEN 200 AND 299)),
    CONSTRAINT a_tested_answer_is_delivered_or_rejected
        CHECK ((state IN ('delivered', 'rejected')) = (response_code IS NOT NULL)),
    CONSTRAINT a_failed_test_was_certainly_not_sent
        CHECK ((state = 'failed') = (error_kind IS NOT NULL AND error_kind IN ('render', 'blocked', 'dns', 'connect', 'tls'))),
    CONSTRAINT an_unknown_test_was_perhaps_received
        CHECK ((state = 'unknown') = (error_kind IS NOT NULL AND error_kind IN ('timeout', 'reset', 'protocol', 'test_stopped'))),
    CONSTRAINT only_a_test_without_an_answer_has_an_error
        CHECK ((error_kind IS NOT NULL) = (state IN ('failed', 'unknown')) AND (error_kind IS NOT NULL OR error_detail IS NULL)),
    CONSTRAINT a_tested_answer_has_a_body_end
        CHECK ((body_end IS NOT NULL) = (response_code IS NOT NULL)
               AND (body_end IS NULL OR body_end IN ('complete', 'truncated', 'reset', 'timeout', 'cut'))),
    CONSTRAINT a_tested_answer_has_a_digest
        CHECK ((response_sha256 IS NOT NULL) = (response_code IS NOT NULL)
               AND (response_bytes IS NOT NULL) = (response_code IS NOT NULL)),
    CONSTRAINT a_tested_attempt_has_a_latency
        CHECK ((latency_ms IS NOT NULL) = (state <> 'unsent' AND coalesce(error_kind, '') <> 'render')),
    CONSTRAINT test_result_times_are_in_range CHECK (recorded_at >= '2000-01-01Z' AND recorded_at < '10000-01-01Z')
);
COMMENT ON TABLE postcall.action_test_result IS 'What became of tests that have ended; never changed';
COMMENT ON COLUMN postcall.action_test_result.test_id IS 'The test';
COMMENT ON COLUMN postcall.action_test_result.recorded_at IS 'When the result was recorded';
COMMENT ON COLUMN postcall.action_test_result.latency_ms IS 'From the attempt''s start to its end, monotonic clock, milliseconds';
COMMENT ON COLUMN postcall.action_test_result.dns_ms IS 'From the attempt''s start until the name was resolved; null if none was';
COMMENT ON COLUMN postcall.action_test_result.connected_ms IS 'From the attempt''s start until the connection was ready';
COMMENT ON COLUMN postcall.action_test_result.head_ms IS 'From the attempt''s start until the response head had arrived';
COMMENT ON COLUMN postcall.action_test_result.response_bytes IS 'Bytes of the response body that were read';
COMMENT ON COLUMN postcall.action_test_result.response_code IS 'HTTP status code; null if no response head arrived';
COMMENT ON COLUMN postcall.action_test_result.state IS
    'delivered, rejected, failed, unknown, or unsent (it was stopped before anything was sent)';
COMMENT ON COLUMN postcall.action_test_result.error_kind IS
    'failed: render, blocked, dns, connect, tls. unknown: timeout, reset, protocol, test_stopped';
COMMENT ON COLUMN postcall.action_test_result.error_detail IS 'What happened, for people; no personal data';
COMMENT ON COLUMN postcall.action_test_result.response_sha256 IS 'SHA-256 of the response body, as far as it was read';
COMMENT ON COLUMN postcall.action_test_result.body_end IS
    'How the response body ended: complete, truncated (longer than is read), reset, timeout, cut (the test was stopped)';

-- Those who test for one agent come one after the other, for the moment of an insert: the row of the agent is their lock. It is a
-- table, and not an advisory lock, which anybody who can connect could hold.
CREATE TABLE postcall.tested_agent (
    agent     text        NOT NULL PRIMARY KEY,
    tested_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE postcall.tested_agent IS 'Agents for whom something was tested; each row is the lock under which tests are counted';
COMMENT ON COLUMN postcall.tested_agent.agent IS 'The agent';
COMMENT ON COLUMN postcall.tested_agent.tested_at IS 'When something was tested for it last';

-- Whose id, times and database user are its own, and not those of whoever inserts it. And whose number is bounded, so that nobody
-- can make a flood of requests out of tests: whatever process asks, and however many do so at once.
--
-- Both counts read the index by agent, no further back than a test can last; the bound of one minute bounds them.
--
-- SECURITY DEFINER: whoever may test need not have any right on the lock.
CREATE FUNCTION postcall.admit_action_test() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    most_in_flight CONSTANT integer := 2;
    most_a_minute  CONSTANT integer := 10;
    -- What a test may last beside its timeout: 10 s until its request begins (the program's own bound, by its own clock), and 10 s
    -- until its result is recorded.
    beside         CONSTANT interval := interval '20 seconds';
BEGIN
    IF NEW.action_version IS NOT NULL AND NOT EXISTS (
        SELECT FROM postcall.action JOIN postcall.action_version USING (action_id)
        WHERE action.agent = NEW.agent AND action.name = NEW.action AND action_version.version = NEW.action_version
    ) THEN
        RAISE EXCEPTION 'there is no such version of an action' USING ERRCODE = 'foreign_key_violation';
    END IF;
    -- From here on, nobody else tests for this agent until the end of the transaction.
    INSERT INTO postcall.tested_agent (agent) VALUES (NEW.agent)
    ON CONFLICT (agent) DO UPDATE SET tested_at = clock_timestamp();
    NEW.test_id := postcall.uuid_v7();
    NEW.started_at := clock_timestamp();
    NEW.given_up_at := NEW.started_at + make_interval(secs => NEW.timeout_ms / 1000.0) + beside;
    NEW.db_user := session_user;
    IF (SELECT count(*) FROM postcall.action_test AS earlier
        WHERE earlier.agent = NEW.agent AND earlier.test_id >= postcall.uuid_v7_floor(NEW.started_at - interval '3 minutes')
          AND earlier.given_up_at > NEW.started_at
          AND NOT EXISTS (SELECT FROM postcall.action_test_result AS result WHERE result.test_id = earlier.test_id)
       ) >= most_in_flight THEN
        RAISE EXCEPTION '% tests are in flight for this agent, and there cannot be more', most_in_flight
            USING ERRCODE = 'restrict_violation', CONSTRAINT = 'tests_in_flight_are_bounded', HINT = 'Wait for the end of one.';
    END IF;
    IF (SELECT count(*) FROM postcall.action_test AS earlier
        WHERE earlier.agent = NEW.agent AND earlier.test_id >= postcall.uuid_v7_floor(NEW.started_at - interval '1 minute')
       ) >= most_a_minute THEN
        RAISE EXCEPTION '% tests were made for this agent within a minute, and there cannot be more', most_a_minute
            USING ERRCODE = 'restrict_violation', CONSTRAINT = 'tests_a_minute_are_bounded', HINT = 'Wait a minute.';
    END IF;
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION postcall.admit_action_test() IS
    'Trigger on postcall.action_test: gives it its id and times, and takes no more than a few of each agent at once and a minute';
REVOKE EXECUTE ON FUNCTION postcall.admit_action_test() FROM PUBLIC;
CREATE TRIGGER admit_action_test BEFORE INSERT ON postcall.action_test
    FOR EACH ROW EXECUTE FUNCTION postcall.admit_action_test();

CREATE FUNCTION postcall.refuse_foreign_test_result() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM postcall.action_test AS test WHERE test.test_id = NEW.test_id AND test.db_user = session_user) THEN
        RAISE EXCEPTION 'only the database user who made a test records its result' USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION postcall.refuse_foreign_test_result() IS
    'Trigger on postcall.action_test_result: takes a result only from the database user who made the test';
REVOKE EXECUTE ON FUNCTION postcall.refuse_foreign_test_result() FROM PUBLIC;
CREATE TRIGGER refuse_foreign_test_result BEFORE INSERT ON postcall.action_test_result
    FOR EACH ROW EXECUTE FUNCTION postcall.refuse_foreign_test_result();

-- Old tests leave with old history (postcall prune). Their time is one of its own: the accounts of deliveries reach as far back as
-- before, whatever tests leave.
ALTER TABLE postcall.retention ADD COLUMN tests_begin timestamptz
    CONSTRAINT tests_begin_in_range CHECK (tests_begin >= '2000-01-01Z' AND tests_begin < '10000-01-01Z');
COMMENT ON COLUMN postcall.retention.tests_begin IS 'Tests from before this time may have been removed; null: none was';
CREATE TRIGGER tests_begin_no_earlier BEFORE UPDATE ON postcall.retention
    FOR EACH ROW WHEN (OLD.tests_begin IS NOT NULL AND (NEW.tests_begin < OLD.tests_begin) IS NOT FALSE)
    EXECUTE FUNCTION postcall.refuse_change('What has left does not come back.');
ALTER TABLE postcall.retention ENABLE ALWAYS TRIGGER tests_begin_no_earlier;

CREATE FUNCTION postcall.keep_test() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_OP = 'DELETE' AND OLD.test_id < postcall.uuid_v7_floor((SELECT tests_begin FROM postcall.retention)) THEN
        RETURN OLD;
    END IF;
    RAISE EXCEPTION 'rows of postcall.% are never changed or deleted', TG_TABLE_NAME
        USING ERRCODE = 'restrict_violation', HINT = 'Tests are only ever added; what is old leaves by `postcall prune`.';
END
$$;
COMMENT ON FUNCTION postcall.keep_test() IS
    'Trigger: makes tests and their results immutable, even for their owner, until they are old enough to leave';
REVOKE EXECUTE ON FUNCTION postcall.keep_test() FROM PUBLIC;
CREATE TRIGGER tests_are_immutable BEFORE UPDATE OR DELETE ON postcall.action_test
    FOR EACH ROW EXECUTE FUNCTION postcall.keep_test();
CREATE TRIGGER test_results_are_immutable BEFORE UPDATE OR DELETE ON postcall.action_test_result
    FOR EACH ROW EXECUTE FUNCTION postcall.keep_test();
ALTER TABLE postcall.action_test ENABLE ALWAYS TRIGGER tests_are_immutable;
ALTER TABLE postcall.action_test_result ENABLE ALWAYS TRIGGER test_results_are_immutable;
SELECT postcall.guard_against_truncate('postcall.action_test'),
       postcall.guard_against_truncate('postcall.action_test_result'),
       postcall.guard_against_truncate('postcall.tested_agent');

-- Deletes one portion of old tests with their results; each call is a transaction of its own. SECURITY DEFINER: callers may delete
-- none of it.
CREATE FUNCTION postcall.prune_tests(keep_history_days integer, OUT outcome text, OUT removed bigint)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET lock_timeout = '25ms' AS $$
DECLARE
    portion CONSTANT integer := 2000;
    -- Ids hold no time before 1970.
    bound   timestamptz := greatest(postcall.kept_since('history', keep_history_days), '2000-01-01Z');
    ids     uuid[];
BEGIN
    IF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted') THEN
        RAISE EXCEPTION 'old rows are deleted in a transaction of isolation level READ COMMITTED'
            USING ERRCODE = 'feature_not_supported';
    END IF;
    outcome := 'done';
    removed := 0;
    SELECT array_agg(old.test_id) INTO ids
    FROM (SELECT test_id FROM postcall.action_test WHERE test_id < postcall.uuid_v7_floor(bound)
          ORDER BY test_id LIMIT portion) AS old;
    IF ids IS NOT NULL THEN
        UPDATE postcall.retention SET tests_begin = bound WHERE tests_begin IS NULL OR tests_begin < bound;
        DELETE FROM postcall.action_test_result WHERE test_id = ANY (ids);
        DELETE FROM postcall.action_test WHERE test_id = ANY (ids);
        GET DIAGNOSTICS removed = ROW_COUNT;
        RAISE LOG 'postcall: % rows of action_test were removed by %', removed, session_user;
    END IF;
    IF cardinality(ids) = portion THEN
        outcome := 'more';
    ELSE
        -- Nobody waits for the lock of an agent for which nothing was tested for so long; whoever does is not waited for.
        DELETE FROM postcall.tested_agent WHERE agent = ANY (ARRAY(
            SELECT agent FROM postcall.tested_agent WHERE tested_at < bound ORDER BY agent LIMIT portion
            FOR UPDATE SKIP LOCKED));
    END IF;
END
$$;
COMMENT ON FUNCTION postcall.prune_tests(integer) IS
    'Deletes the next portion of old tests; says how many, and whether there are more. Fails where a lock is not to be had at once';
REVOKE EXECUTE ON FUNCTION postcall.prune_tests(integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION postcall.prune_tests(integer) TO postcall_dispatcher, postcall_publisher;

CREATE VIEW postcall.action_test_history AS
SELECT test.test_id, test.agent, test.action, test.action_version, test.file_sha256, test.call_source, test.call_id,
       coalesce(result.state, CASE WHEN statement_timestamp() < test.given_up_at THEN 'sending' ELSE 'unknown' END) AS state,
       CASE WHEN result.test_id IS NOT NULL THEN result.error_kind
            WHEN statement_timestamp() >= test.given_up_at THEN 'test_lost' END AS error_kind,
       CASE WHEN result.test_id IS NOT NULL THEN result.error_detail
            WHEN statement_timestamp() >= test.given_up_at
            THEN 'no result was recorded: the process that made the test ended, or it could not reach the database' END AS error_detail,
       test.method, test.url, test.timeout_ms, test.request_bytes, test.request_sha256, test.unresolved,
       result.response_code, result.response_bytes, result.response_sha256, result.body_end,
       result.latency_ms, result.dns_ms, result.connected_ms, result.head_ms,
       test.started_at, test.given_up_at, result.recorded_at, test.tested_by, test.reason, test.db_user
FROM postcall.action_test AS test
LEFT JOIN postcall.action_test_result AS result ON result.test_id = test.test_id;
COMMENT ON VIEW postcall.action_test_history IS
    'Tests of actions with what became of them, one row each; a test without a result is unknown once its time is over';

GRANT SELECT ON postcall.action_test, postcall.action_test_result, postcall.action_test_history
    TO postcall_publisher, postcall_auditor;
GRANT INSERT (agent, action, action_version, file_sha256, call_source, call_id, timeout_ms, method, url, request_bytes,
              request_sha256, unresolved, tested_by, reason) ON postcall.action_test TO postcall_publisher;
GRANT INSERT (test_id, state, error_kind, error_detail, response_code, response_bytes, response_sha256, body_end, latency_ms, dns_ms,
              connected_ms, head_ms) ON postcall.action_test_result TO postcall_publisher;
