-- Writes a busy month directly into its tables, without triggers, for scripts/bench-pages: `bench.rows` calls with a
-- delivery that has ended, of 1,000 agents, and `bench.waiting` deliveries that wait.
--
-- - agent_0 has half of what has ended, and 7 of 10 deliveries that wait; 199 other agents have the rest of the queue.
-- - Six of a hundred deliveries were created in the last hour, so that all of its minutes are full.
-- - Of 1,000 deliveries, 980 were delivered, 8 rejected, 6 failed, 4 are unknown and 2 were skipped. Of 10 unknown
--   deliveries, 3 have a late result and 2 a person's finding. Of 10 rejected deliveries, 5 were replayed.
-- - agent_0 has 3,000 versions of an action, 3,000 switches and 3,000 tests.
-- - 60 pauses are in force, also of agent_0 and of hosts, and 240 are over; two dispatchers live, 3,000 have ended.
SET session_replication_role = replica;
SET synchronous_commit = off;
SET jit = off;

-- Makes the partitions of the past month. Those of the present exist already.
DO $$
DECLARE
    first_day timestamptz;
    kind record;
BEGIN
    FOR kind IN SELECT * FROM (VALUES ('delivery', 'month', 2, 'history_is_immutable'), ('outbox', 'week', 6, 'calls_are_immutable'))
                              AS kinds (name, period, count, guard) LOOP
        FOR first_day IN SELECT date_trunc(kind.period, now()) - n * ('1 ' || kind.period)::interval
                         FROM generate_series(1, kind.count) AS n LOOP
            EXECUTE format('CREATE TABLE postcall.%I PARTITION OF postcall.%I FOR VALUES FROM (%L) TO (%L)',
                           kind.name || '_' || to_char(first_day, 'YYYYMMDD'), kind.name, postcall.uuid_v7_floor(first_day),
                           postcall.uuid_v7_floor(first_day + ('1 ' || kind.period)::interval));
            PERFORM postcall.guard_against_truncate(
                format('postcall.%I', kind.name || '_' || to_char(first_day, 'YYYYMMDD'))::regclass);
            EXECUTE format('ALTER TABLE postcall.%I ENABLE ALWAYS TRIGGER %I',
                           kind.name || '_' || to_char(first_day, 'YYYYMMDD'), kind.guard);
        END LOOP;
    END LOOP;
END
$$;

-- Returns an id that a delivery made at that time may have.
CREATE FUNCTION pg_temp.id_at(at timestamptz) RETURNS uuid LANGUAGE sql VOLATILE
RETURN (overlay(lpad(to_hex((extract(epoch FROM at) * 1000000)::bigint * 512 / 125), 15, '0') PLACING '7' FROM 13 FOR 0)
        || right(gen_random_uuid()::text, 17))::uuid;
-- Returns a number below `most` that depends on the text alone.
CREATE FUNCTION pg_temp.chance(text text, most integer) RETURNS integer LANGUAGE sql IMMUTABLE
RETURN (hashtext(text) & 2147483647) % most;

INSERT INTO postcall.action (agent, name, enabled, version, created_at)
SELECT 'agent_' || n, 'default', n % 50 <> 49, CASE WHEN n = 0 THEN 3000 ELSE 1 + n % 3 END, now() - interval '40 days'
FROM generate_series(0, 999) AS n;
INSERT INTO postcall.action_version (action_id, version, method, url, timeout_ms, headers, body, published_at, published_by, reason)
SELECT action_id, number, 'POST', format('https://receiver-%s.example/hook/%s', action_id % 300, number), 15000,
       '{"x-api-key": "secret"}', format('{"sid": "${callInfo.callSid}", "note": "%s"}', repeat('x', 300)),
       now() - interval '40 days' + number * interval '15 minutes', 'ann', 'a change'
FROM postcall.action, generate_series(1, version) AS number;
INSERT INTO postcall.action_switch (action_id, enabled, switched_at, switched_by, reason)
SELECT action_id, number % 2 = 1, now() - interval '40 days' + number * interval '16 minutes', 'bob', 'a change'
FROM postcall.action, generate_series(1, CASE WHEN agent = 'agent_0' THEN 3000 ELSE 1 END) AS number;
INSERT INTO postcall.dispatcher (name, version, started_at, lease_until, stopped_at)
SELECT 'host-' || n || ':1234', '0.3.0', now() - n * interval '14 minutes',
       CASE WHEN n <= 2 THEN now() + interval '10 hours' ELSE now() - n * interval '1 minute' END,
       CASE WHEN n > 2 THEN now() - n * interval '1 minute' END
FROM generate_series(1, 3002) AS n;
INSERT INTO postcall.dispatcher_report (dispatcher_id, concurrency, in_flight, unrecorded, hosts, hosts_left_out)
SELECT n, 256, 100, 0,
       (SELECT jsonb_agg(jsonb_build_object('host', 'receiver-' || h || '.example:443', 'limit', 8, 'in_flight', 2, 'waiting_lanes', 1,
                                            'condition', CASE WHEN h < 5 THEN '{"state": "silent", "since_ms": 60000}'::jsonb
                                                              ELSE '{"state": "answering"}'::jsonb END))
        FROM generate_series(0, 49) AS h), 250
FROM generate_series(1, 2) AS n;

INSERT INTO postcall.outbox (id, agent, call, created_at, action_ids, call_bytes, call_sid)
SELECT pg_temp.id_at(at), agent,
       format('{"callInfo":{"callSid":"CA%s","from":"+15551234567","to":"+15557654321"},"agent":{"name":"%s"},'
              '"summary":"%s","context":{"leadId":"%s"}}', md5(n::text), agent, repeat('x', 200), n)::json,
       at, ARRAY[action_id], 350, 'CA' || md5(n::text)
FROM (SELECT n, now() - CASE WHEN n % 100 < 6 THEN interval '1 hour' ELSE interval '30 days' END
                        * (1 - n::float8 / current_setting('bench.rows')::bigint) AS at,
             CASE WHEN n % 2 = 0 THEN 'agent_0' ELSE 'agent_' || pg_temp.chance(n::text, 1000) END AS agent
      FROM generate_series(1, current_setting('bench.rows')::bigint) AS n) AS made
JOIN postcall.action USING (agent)
ORDER BY at;
-- Calls without a delivery: of agents that nobody knows.
INSERT INTO postcall.outbox (id, agent, call, created_at, action_ids, call_bytes, call_sid)
SELECT pg_temp.id_at(at), 'agnt_' || n % 100, '{"callInfo":{}}', at, ARRAY[]::bigint[], 15, NULL
FROM generate_series(1, 2000) AS n, LATERAL (SELECT now() - n * interval '20 minutes') AS moment (at);

INSERT INTO postcall.delivery (delivery_id, call_id, claim, action_id, created_at, claimed_at, finished_at,
    action_version, dispatcher_id, latency_ms, dns_ms, connected_ms, head_ms, request_bytes, response_bytes, response_code, agent, state,
    error_kind, error_detail, call_sid, method, url, request_sha256, response_sha256, body_end, unresolved)
SELECT pg_temp.id_at(created_at), id, gen_random_uuid(), action_id, created_at, created_at + interval '5 ms',
       created_at + interval '150 ms', 1, 1 + luck % 20,
       CASE WHEN state <> 'skipped' AND kind IS DISTINCT FROM 'render' THEN 20 + luck % 300 END, 1, 5,
       CASE WHEN code IS NOT NULL THEN 20 END, 200, CASE WHEN code IS NOT NULL THEN 12 END, code, agent, state, kind,
       CASE WHEN kind IS NOT NULL THEN 'what happened, for people' END, call_sid, 'POST',
       format('https://receiver-%s.example/hook/1', action_id % 300), sha256('request'),
       CASE WHEN code IS NOT NULL THEN sha256('response') END, CASE WHEN code IS NOT NULL THEN 'complete' END,
       CASE WHEN luck % 50 = 0 THEN ARRAY['context.leadId'] END
FROM (SELECT outbox.*, action_ids[1] AS action_id, luck,
             CASE WHEN luck < 980 THEN 'delivered' WHEN luck < 988 THEN 'rejected' WHEN luck < 994 THEN 'failed'
                  WHEN luck < 998 THEN 'unknown' ELSE 'skipped' END AS state,
             CASE WHEN luck < 970 THEN 200 WHEN luck < 980 THEN 204 WHEN luck < 984 THEN 500 WHEN luck < 987 THEN 404
                  WHEN luck < 988 THEN 302 END AS code,
             CASE WHEN luck BETWEEN 988 AND 993 THEN (ARRAY['connect', 'dns', 'tls', 'render', 'blocked'])[1 + luck % 5]
                  WHEN luck BETWEEN 994 AND 997 THEN (ARRAY['timeout', 'reset', 'protocol', 'dispatcher_lost'])[1 + luck % 4]
             END AS kind
      FROM postcall.outbox, LATERAL (SELECT pg_temp.chance(id::text, 1000) AS luck) AS chance
      WHERE cardinality(action_ids) = 1 AND created_at < now()) AS made
ORDER BY created_at;

INSERT INTO postcall.resolution (delivery_id, source, state, resolved_by, reason, resolved_at, response_code, response_bytes,
    response_sha256, body_end, latency_ms, method, url)
SELECT delivery_id, 'claim', 'delivered', 'host-1:1234', 'its late result', finished_at + interval '1 minute', 200, 2, sha256(''),
       'complete', 90, 'POST', url
FROM postcall.delivery WHERE state = 'unknown' AND pg_temp.chance(call_id::text, 10) < 3;
INSERT INTO postcall.resolution (delivery_id, source, state, resolved_by, reason, resolved_at)
SELECT delivery_id, 'person', 'delivered', 'ann', 'asked the receiver', finished_at + interval '1 day'
FROM postcall.delivery WHERE state = 'unknown' AND pg_temp.chance(call_id::text, 10) IN (3, 4);

WITH replayed AS (
    INSERT INTO postcall.replay (delivery_id, replay_of, message_id, replayed_by, reason, created_at)
    SELECT pg_temp.id_at(finished_at + interval '1 hour'), delivery_id, delivery_id, 'ann', 'the receiver was down',
           finished_at + interval '1 hour'
    FROM postcall.delivery
    WHERE state = 'rejected' AND pg_temp.chance(delivery_id::text, 10) < 5 AND finished_at < now() - interval '1 hour'
    RETURNING *)
INSERT INTO postcall.delivery (delivery_id, call_id, claim, action_id, created_at, claimed_at, finished_at,
    action_version, dispatcher_id, latency_ms, request_bytes, response_bytes, response_code, agent, state, call_sid,
    method, url, request_sha256, response_sha256, body_end)
SELECT replayed.delivery_id, call_id, gen_random_uuid(), action_id, replayed.created_at, replayed.created_at,
       replayed.created_at + interval '90 ms', 1, dispatcher_id, 80, 200, 12, 200, agent, 'delivered', call_sid, method, url,
       request_sha256, response_sha256, body_end
FROM replayed JOIN postcall.delivery ON delivery.delivery_id = replayed.replay_of;
INSERT INTO postcall.response_excerpt (delivery_id, beginning, ending, left_out, kept_until)
SELECT delivery_id, convert_to(repeat('no such lead ', 50), 'UTF8'), '', 0, now() + interval '7 days'
FROM postcall.delivery WHERE state = 'rejected';

-- What waits, and the 200 that are in flight.
WITH piled AS (
    INSERT INTO postcall.outbox (id, agent, call, created_at, action_ids, call_bytes, call_sid)
    SELECT pg_temp.id_at(at), agent, format('{"callInfo":{"callSid":"CAw%s"}}', n)::json, at, ARRAY[action_id], 40, 'CAw' || n
    FROM (SELECT n, now() - interval '20 minutes' + n * interval '19 minutes' / current_setting('bench.waiting')::bigint AS at,
                 'agent_' || CASE WHEN n % 10 < 7 THEN 0 ELSE 1 + pg_temp.chance(n::text, 199) END AS agent
          FROM generate_series(1, current_setting('bench.waiting')::bigint) AS n) AS made
    JOIN postcall.action USING (agent)
    RETURNING *)
INSERT INTO postcall.waiting (delivery_id, call_id, agent, action_id, created_at, call_bytes, call_sid)
SELECT pg_temp.id_at(created_at), id, agent, action_ids[1], created_at, call_bytes, call_sid FROM piled ORDER BY created_at;
WITH claimed AS (
    DELETE FROM postcall.waiting
    WHERE delivery_id IN (SELECT delivery_id FROM postcall.waiting ORDER BY delivery_id LIMIT 200) RETURNING *)
INSERT INTO postcall.sending (delivery_id, call_id, agent, action_id, action_version, created_at, dispatcher_id, claim,
    claimed_at, call_bytes, sid)
SELECT delivery_id, call_id, agent, action_id, 1, created_at, 1, gen_random_uuid(), now(), call_bytes, call_sid FROM claimed;

INSERT INTO postcall.pause (agent, host, reason, paused_by, paused_at, db_user)
SELECT CASE WHEN n % 2 = 0 THEN 'agent_' || n - 2 END, CASE WHEN n % 2 = 1 THEN format('receiver-%s.example', n) END,
       'it is being moved', 'bob', now() - n * interval '2 hours', 'bob'
FROM generate_series(1, 300) AS n;
INSERT INTO postcall.pause_end (pause_id, reason, resumed_by, resumed_at, db_user)
SELECT pause_id, 'it has been moved', 'bob', paused_at + interval '1 hour', 'bob' FROM postcall.pause WHERE pause_id > 60;
INSERT INTO postcall.active_pause (pause_id, agent, action_id, host)
SELECT pause_id, agent, action_id, host FROM postcall.pause WHERE pause_id <= 60;

INSERT INTO postcall.action_test (test_id, started_at, given_up_at, action_version, timeout_ms, request_bytes, agent, action, call_source,
    method, url, request_sha256, tested_by, reason, db_user)
SELECT pg_temp.id_at(at), at, at + interval '1 minute', 1, 15000, 2, 'agent_' || CASE WHEN n % 2 = 0 THEN 0 ELSE n % 1000 END, 'default',
       'sample', 'POST', 'https://receiver-1.example/hook/1', sha256('{}'), 'ann', 'does it work', 'ann'
FROM generate_series(1, 6000) AS n, LATERAL (SELECT now() - n * interval '7 minutes') AS moment (at);
INSERT INTO postcall.action_test_result (test_id, recorded_at, latency_ms, response_bytes, response_sha256, response_code, state, body_end)
SELECT test_id, started_at + interval '1 second', 100, 2, sha256(''), 200, 'delivered', 'complete' FROM postcall.action_test;

RESET session_replication_role;
RESET synchronous_commit;
RESET jit;
