-- The view, so that each of its questions finds its rows by an index, and reads no payload.
--
-- - Waiting and sending carry the call's provider id themselves.
-- - Deliveries whose outcome was certain from the start are an arm of their own: their state is a column, with an index. What
--   was learnt later can only concern those that are unknown.
-- - Kind and detail of an error always come from one source: the claim's late result, or else what was recorded.
SET LOCAL lock_timeout = '3s';

CREATE OR REPLACE VIEW postcall.delivery_history AS
SELECT record.delivery_id, record.call_id, record.call_sid, record.agent, action.name AS action, record.action_version,
       record.state, record.error_kind, record.error_detail, record.method, record.url, record.response_code,
       record.latency_ms,
       (extract(epoch FROM coalesce(record.claimed_at, clock_timestamp()) - record.created_at) * 1000)::bigint AS queue_ms,
       record.created_at, record.claimed_at, record.finished_at, dispatcher.name AS dispatcher,
       replay.replay_of, replay.replayed_by, replay.reason AS replay_reason,
       coalesce(replay.message_id, record.delivery_id) AS message_id,
       record.dns_ms, record.connected_ms, record.head_ms, record.body_end,
       record.request_bytes, record.request_sha256, record.response_bytes, record.response_sha256, record.unresolved,
       record.recorded_state, record.resolved_at, record.resolved_by, record.resolution_reason,
       record.recorded_error_kind, record.resolved_from
FROM (
    SELECT delivery_id, call_id, call_sid, agent, action_id, action_version, state, error_kind, error_detail, method, url,
           response_code, latency_ms, created_at, claimed_at, finished_at, dispatcher_id, dns_ms, connected_ms, head_ms,
           body_end, request_bytes, request_sha256, response_bytes, response_sha256, unresolved,
           state AS recorded_state, NULL::timestamptz AS resolved_at, NULL::text AS resolved_by,
           NULL::text AS resolution_reason, error_kind AS recorded_error_kind, NULL::text AS resolved_from
    FROM postcall.delivery
    WHERE state <> 'unknown'
    UNION ALL
    -- The claim's own evidence outranks a person's finding. A delivery that was answered after all has no error; one of which
    -- all that is known is that it failed has no kind; what was recorded at first stands in recorded_error_kind.
    SELECT delivery.delivery_id, call_id, call_sid, agent, action_id, action_version,
           coalesce(late.state, found.state, delivery.state),
           CASE WHEN late.state IS NOT NULL THEN late.error_kind
                WHEN found.state IS NULL THEN delivery.error_kind END,
           CASE WHEN late.state IS NOT NULL THEN late.error_detail
                WHEN found.state IS NULL THEN delivery.error_detail END,
           coalesce(late.method, delivery.method), coalesce(late.url, delivery.url), late.response_code,
           coalesce(late.latency_ms, delivery.latency_ms), created_at, claimed_at, finished_at, dispatcher_id,
           coalesce(late.dns_ms, delivery.dns_ms), coalesce(late.connected_ms, delivery.connected_ms),
           coalesce(late.head_ms, delivery.head_ms), late.body_end,
           coalesce(late.request_bytes, delivery.request_bytes), coalesce(late.request_sha256, delivery.request_sha256),
           late.response_bytes, late.response_sha256, coalesce(late.unresolved, delivery.unresolved),
           delivery.state, coalesce(late.resolved_at, found.resolved_at), coalesce(late.resolved_by, found.resolved_by),
           coalesce(late.reason, found.reason), delivery.error_kind, coalesce(late.source, found.source)
    FROM postcall.delivery
    LEFT JOIN postcall.resolution AS late ON late.delivery_id = delivery.delivery_id AND late.source = 'claim'
    LEFT JOIN postcall.resolution AS found ON found.delivery_id = delivery.delivery_id AND found.source = 'person'
    WHERE delivery.state = 'unknown'
    UNION ALL
    SELECT delivery_id, call_id, sid, agent, action_id, action_version, 'sending', NULL, NULL, NULL, NULL, NULL, NULL,
           created_at, claimed_at, NULL, dispatcher_id, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
           NULL, NULL, NULL, NULL, NULL, NULL
    FROM postcall.sending
    UNION ALL
    SELECT delivery_id, call_id, call_sid, agent, action_id, NULL, 'waiting', NULL, NULL, NULL, NULL, NULL, NULL,
           created_at, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
           NULL, NULL, NULL, NULL, NULL, NULL
    FROM postcall.waiting
) AS record
LEFT JOIN postcall.action ON action.action_id = record.action_id
LEFT JOIN postcall.dispatcher ON dispatcher.dispatcher_id = record.dispatcher_id
LEFT JOIN postcall.replay ON replay.delivery_id = record.delivery_id;

COMMENT ON COLUMN postcall.delivery_history.recorded_error_kind IS
    'The error kind when the delivery ended; kept where a late answer or a finding has taken its place';
COMMENT ON COLUMN postcall.delivery_history.resolved_from IS
    'Where later knowledge comes from: claim (its own late result) or person (a finding); null where there is none';

-- The view no longer calls it; the previous release's dispatchers do, as long as they run.
REVOKE EXECUTE ON FUNCTION postcall.call_sid(json) FROM postcall_auditor, postcall_publisher;
