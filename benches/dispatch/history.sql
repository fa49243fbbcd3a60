-- Writes a year of history directly into its tables, without triggers: `bench.rows` deliveries of 1,000 agents, and
-- `bench.waiting` deliveries that wait, all of one agent. These two settings say how many.
--
-- - The agents are unequal: the share of an agent falls with the cube of its number.
-- - Every tenth agent has a second action, so that each of its calls has two deliveries.
-- - Of 1,000 deliveries, 970 were delivered, 12 rejected, 10 failed, 5 are unknown and 3 were skipped. Of 10 unknown
--   deliveries, 5 have a late result and 2 a person's finding.
-- - Of 10 rejected deliveries, one was replayed, an hour later.
SET session_replication_role = replica;
SET synchronous_commit = off;
SET jit = off;

-- Makes the partitions of the past year. Those of the present exist already.
DO $$
DECLARE
    first_day timestamptz;
BEGIN
    FOR first_day IN SELECT date_trunc('month', now()) - n * interval '1 month' FROM generate_series(1, 12) AS n LOOP
        EXECUTE format('CREATE TABLE postcall.%I PARTITION OF postcall.delivery FOR VALUES FROM (%L) TO (%L)',
                       'delivery_' || to_char(first_day, 'YYYYMMDD'), postcall.uuid_v7_floor(first_day),
                       postcall.uuid_v7_floor(first_day + interval '1 month'));
        PERFORM postcall.guard_against_truncate(format('postcall.%I', 'delivery_' || to_char(first_day, 'YYYYMMDD'))::regclass);
        EXECUTE format('ALTER TABLE postcall.%I ENABLE ALWAYS TRIGGER history_is_immutable',
                       'delivery_' || to_char(first_day, 'YYYYMMDD'));
    END LOOP;
    FOR first_day IN SELECT date_trunc('week', now()) - n * interval '1 week' FROM generate_series(1, 53) AS n LOOP
        EXECUTE format('CREATE TABLE postcall.%I PARTITION OF postcall.outbox FOR VALUES FROM (%L) TO (%L)',
                       'outbox_' || to_char(first_day, 'YYYYMMDD'), postcall.uuid_v7_floor(first_day),
                       postcall.uuid_v7_floor(first_day + interval '1 week'));
        PERFORM postcall.guard_against_truncate(format('postcall.%I', 'outbox_' || to_char(first_day, 'YYYYMMDD'))::regclass);
        EXECUTE format('ALTER TABLE postcall.%I ENABLE ALWAYS TRIGGER calls_are_immutable',
                       'outbox_' || to_char(first_day, 'YYYYMMDD'));
    END LOOP;
END
$$;

-- Returns an id that a delivery made at that time may have.
CREATE FUNCTION pg_temp.id_at(at timestamptz) RETURNS uuid LANGUAGE sql VOLATILE
RETURN (overlay(lpad(to_hex((extract(epoch FROM at) * 1000000)::bigint * 512 / 125), 15, '0') PLACING '7' FROM 13 FOR 0)
        || right(gen_random_uuid()::text, 17))::uuid;

INSERT INTO postcall.action (agent, name, enabled, version)
SELECT 'agent_' || n, 'default', true, 1 FROM generate_series(0, 999) AS n
UNION ALL
SELECT 'agent_' || n, 'crm', true, 1 FROM generate_series(0, 999, 10) AS n;
INSERT INTO postcall.action_version (action_id, version, method, url, timeout_ms)
SELECT action_id, 1, 'POST', 'https://receiver.example/hook', 15000 FROM postcall.action;
INSERT INTO postcall.action_switch (action_id, enabled, switched_at)
SELECT action_id, true, now() - interval '1 year' FROM postcall.action;
INSERT INTO postcall.dispatcher (name, version, lease_until)
SELECT 'host-' || n || ':1234', '0.1.0', now() + interval '1 hour' FROM generate_series(1, 20) AS n;

INSERT INTO postcall.outbox (id, agent, call, created_at, action_ids, call_bytes, call_sid)
SELECT pg_temp.id_at(at), actions.agent,
       format('{"callInfo":{"callSid":"CA%s","from":"+15551234567"},"summary":"%s"}', md5(n::text), repeat('x', 100))::json,
       at, actions.ids, 200, 'CA' || md5(n::text)
FROM generate_series(1, (current_setting('bench.rows')::bigint * 10 / 11)) AS n
CROSS JOIN LATERAL (SELECT now() - interval '10 minutes'
                     - (1 - n * 1.1 / current_setting('bench.rows')::bigint) * interval '365 days') AS moment (at)
JOIN (SELECT agent, array_agg(action_id ORDER BY action_id) AS ids, substr(agent, 7)::integer AS number
      FROM postcall.action GROUP BY agent) AS actions
  ON actions.number = floor(1000 * power((n * 2654435761 % 4294967296) / 4294967296::float8, 3))::integer;

INSERT INTO postcall.delivery (delivery_id, call_id, claim, action_id, created_at, claimed_at, finished_at,
    action_version, dispatcher_id, latency_ms, request_bytes, response_bytes, response_code, agent, state, error_kind,
    error_detail, call_sid, method, url, request_sha256, response_sha256, body_end, unresolved)
SELECT pg_temp.id_at(created_at), id, gen_random_uuid(), action_id, created_at, created_at + interval '5 ms',
       created_at + interval '150 ms', 1, 1 + luck % 20, CASE WHEN state <> 'skipped' AND kind IS DISTINCT FROM 'render' THEN 20 + luck % 300 END,
       200, CASE WHEN code IS NOT NULL THEN 12 END, code, agent, state, kind,
       CASE WHEN kind IS NOT NULL THEN 'what happened, for people' END, call_sid, 'POST', 'https://receiver.example/hook',
       sha256('request'), CASE WHEN code IS NOT NULL THEN sha256('response') END, CASE WHEN code IS NOT NULL THEN 'complete' END,
       CASE WHEN luck % 50 = 0 THEN ARRAY['context.leadId'] END
FROM (SELECT outbox.*, action_id, luck,
             CASE WHEN luck < 970 THEN 'delivered' WHEN luck < 982 THEN 'rejected' WHEN luck < 992 THEN 'failed'
                  WHEN luck < 997 THEN 'unknown' ELSE 'skipped' END AS state,
             CASE WHEN luck < 960 THEN 200 WHEN luck < 970 THEN 204 WHEN luck < 976 THEN 500 WHEN luck < 981 THEN 404
                  WHEN luck < 982 THEN 302 END AS code,
             CASE WHEN luck BETWEEN 982 AND 991 THEN (ARRAY['connect', 'dns', 'tls', 'render', 'blocked'])[1 + luck % 5]
                  WHEN luck BETWEEN 992 AND 996 THEN (ARRAY['timeout', 'reset', 'protocol', 'dispatcher_lost'])[1 + luck % 4]
             END AS kind
      FROM postcall.outbox, unnest(action_ids) AS action_id,
           LATERAL (SELECT (hashtext(id::text || action_id) & 2147483647) % 1000 AS luck) AS chance) AS made
ORDER BY created_at;

INSERT INTO postcall.resolution (delivery_id, source, state, resolved_by, reason, resolved_at, error_kind, error_detail,
    response_code, response_bytes, response_sha256, body_end, latency_ms, method, url)
SELECT delivery_id, 'claim', CASE WHEN luck < 4 THEN 'delivered' WHEN luck = 4 THEN 'failed' ELSE 'rejected' END, 'host-1:1234',
       'its late result', finished_at + interval '1 minute', CASE WHEN luck = 4 THEN 'connect' END,
       CASE WHEN luck = 4 THEN 'refused' END, CASE WHEN luck < 4 THEN 200 WHEN luck = 5 THEN 500 END,
       CASE WHEN luck <> 4 THEN 2 END, CASE WHEN luck <> 4 THEN sha256('') END, CASE WHEN luck <> 4 THEN 'complete' END, 90, 'POST', url
FROM (SELECT *, (hashtext(call_id::text) & 2147483647) % 10 AS luck FROM postcall.delivery WHERE state = 'unknown') AS doubtful
WHERE luck < 6;
INSERT INTO postcall.resolution (delivery_id, source, state, resolved_by, reason, resolved_at)
SELECT delivery_id, 'person', (ARRAY['delivered', 'rejected', 'failed'])[1 + (hashtext(delivery_id::text) & 2147483647) % 3], 'ann',
       'asked the receiver', finished_at + interval '1 day'
FROM postcall.delivery WHERE state = 'unknown' AND (hashtext(call_id::text) & 2147483647) % 10 IN (5, 6, 7);

WITH replayed AS (
    INSERT INTO postcall.replay (delivery_id, replay_of, message_id, replayed_by, reason, created_at)
    SELECT pg_temp.id_at(finished_at + interval '1 hour'), delivery_id, delivery_id, 'ann', 'the receiver was down',
           finished_at + interval '1 hour'
    FROM postcall.delivery
    WHERE state = 'rejected' AND (hashtext(delivery_id::text) & 2147483647) % 10 = 0 AND finished_at < now() - interval '2 hours'
    RETURNING *)
INSERT INTO postcall.delivery (delivery_id, call_id, claim, action_id, created_at, claimed_at, finished_at,
    action_version, dispatcher_id, latency_ms, request_bytes, response_bytes, response_code, agent, state, call_sid,
    method, url, request_sha256, response_sha256, body_end)
SELECT replayed.delivery_id, call_id, gen_random_uuid(), action_id, replayed.created_at, replayed.created_at,
       replayed.created_at + interval '90 ms', 1, dispatcher_id, 80, 200, 12, 200, agent, 'delivered', call_sid, method, url,
       request_sha256, response_sha256, body_end
FROM replayed JOIN postcall.delivery ON delivery.delivery_id = replayed.replay_of;

-- Many deliveries of one agent wait, and 64 are in flight.
WITH piled AS (
    INSERT INTO postcall.outbox (id, agent, call, created_at, action_ids, call_bytes, call_sid)
    SELECT pg_temp.id_at(at), 'agent_1', format('{"callInfo":{"callSid":"CAw%s"}}', n)::json, at,
           ARRAY(SELECT action_id FROM postcall.action WHERE agent = 'agent_1'), 40, 'CAw' || n
    FROM generate_series(1, current_setting('bench.waiting')::bigint) AS n,
         LATERAL (SELECT now() - interval '9 minutes' + n * interval '8 minutes' / current_setting('bench.waiting')::bigint) AS moment (at)
    RETURNING *)
INSERT INTO postcall.waiting (delivery_id, call_id, agent, action_id, created_at, call_bytes, call_sid)
SELECT pg_temp.id_at(created_at), id, agent, action_id, created_at, call_bytes, call_sid
FROM piled, unnest(action_ids) AS action_id;
WITH claimed AS (
    DELETE FROM postcall.waiting
    WHERE delivery_id IN (SELECT delivery_id FROM postcall.waiting ORDER BY delivery_id LIMIT 64) RETURNING *)
INSERT INTO postcall.sending (delivery_id, call_id, agent, action_id, action_version, created_at, dispatcher_id, claim,
    claimed_at, call_bytes, sid)
SELECT delivery_id, call_id, agent, action_id, 1, created_at, 1, gen_random_uuid(), now(), call_bytes, call_sid FROM claimed;

RESET session_replication_role;
RESET synchronous_commit;
RESET jit;
