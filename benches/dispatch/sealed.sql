-- Writes history that is to be sealed directly into its table, without triggers: `bench.rows` deliveries of a year, of 1,000 agents, in
-- transactions of 32 deliveries, as a dispatcher under load records them. Their calls are not written: nothing that seals or verifies reads them.
--
-- - Of 1,000 deliveries, 970 were delivered, 12 rejected, 10 failed, 5 are unknown and 3 were skipped.
-- - Every fiftieth delivery has a placeholder without a value.
-- - Numbers of transactions that have not happened on this server are those of a server before it: `seal_turn.ahead` says so.
SET session_replication_role = replica;
SET synchronous_commit = off;
SET jit = off;

DO $$
DECLARE
    first_day timestamptz;
BEGIN
    FOR first_day IN SELECT date_trunc('month', now()) - n * interval '1 month' FROM generate_series(1, 12) AS n LOOP
        EXECUTE format('CREATE TABLE postcall.%I PARTITION OF postcall.delivery FOR VALUES FROM (%L) TO (%L)',
                       'delivery_' || to_char(first_day, 'YYYYMMDD'), postcall.uuid_v7_floor(first_day),
                       postcall.uuid_v7_floor(first_day + interval '1 month'));
    END LOOP;
END
$$;

-- Returns an id that a delivery made at that time may have.
CREATE FUNCTION pg_temp.id_at(at timestamptz) RETURNS uuid LANGUAGE sql VOLATILE
RETURN (overlay(lpad(to_hex((extract(epoch FROM at) * 1000000)::bigint * 512 / 125), 15, '0') PLACING '7' FROM 13 FOR 0)
        || right(gen_random_uuid()::text, 17))::uuid;

INSERT INTO postcall.delivery (delivery_id, call_id, claim, action_id, created_at, claimed_at, finished_at,
    action_version, dispatcher_id, latency_ms, dns_ms, connected_ms, head_ms, request_bytes, response_bytes, response_code, agent, state,
    error_kind, error_detail, call_sid, method, url, request_sha256, response_sha256, body_end, unresolved, xact)
SELECT pg_temp.id_at(at), pg_temp.id_at(at), gen_random_uuid(), 1 + agent, at, at + interval '5 ms',
       at + interval '150 ms', 1, 1 + n % 2, CASE WHEN state <> 'skipped' AND kind IS DISTINCT FROM 'render' THEN 20 + luck % 300 END, 1, 5,
       CASE WHEN code IS NOT NULL THEN 20 END, 1900, CASE WHEN code IS NOT NULL THEN 12 END, code, 'agent_' || agent, state, kind,
       CASE WHEN kind IS NOT NULL THEN 'what happened, for people' END, 'CA' || md5(n::text), 'POST',
       format('https://receiver-%s.example/hook/1', agent % 300), sha256('request'),
       CASE WHEN code IS NOT NULL THEN sha256('response') END, CASE WHEN code IS NOT NULL THEN 'complete' END,
       CASE WHEN n % 50 = 0 THEN ARRAY['context.leadId'] END, 1000 + n / 32
FROM (SELECT n, luck, n * 2654435761 % 1000 AS agent,
             now() - interval '10 minutes' - (1 - n::float8 / current_setting('bench.rows')::bigint) * interval '360 days' AS at,
             CASE WHEN luck < 970 THEN 'delivered' WHEN luck < 982 THEN 'rejected' WHEN luck < 992 THEN 'failed'
                  WHEN luck < 997 THEN 'unknown' ELSE 'skipped' END AS state,
             CASE WHEN luck < 960 THEN 200 WHEN luck < 970 THEN 204 WHEN luck < 976 THEN 500 WHEN luck < 981 THEN 404
                  WHEN luck < 982 THEN 302 END AS code,
             CASE WHEN luck BETWEEN 982 AND 991 THEN (ARRAY['connect', 'dns', 'tls', 'render', 'blocked'])[1 + luck % 5]
                  WHEN luck BETWEEN 992 AND 996 THEN (ARRAY['timeout', 'reset', 'protocol', 'dispatcher_lost'])[1 + luck % 4]
             END AS kind
      FROM generate_series(1, current_setting('bench.rows')::bigint) AS n, LATERAL (SELECT n * 7919 % 1000 AS luck) AS chance) AS made;
UPDATE postcall.seal_turn SET ahead = 2000 + current_setting('bench.rows')::bigint / 32;

RESET session_replication_role;
RESET synchronous_commit;
RESET jit;
