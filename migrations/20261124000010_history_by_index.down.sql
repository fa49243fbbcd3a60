-- A column cannot be taken out of a view, so the former one is made anew.
DROP VIEW postcall.delivery_history;

CREATE VIEW postcall.delivery_history AS
SELECT story.delivery_id, story.call_id, story.call_sid, story.agent, action.name AS action, story.action_version,
       story.state, story.error_kind, story.error_detail, story.method, story.url, story.response_code,
       story.latency_ms,
       (extract(epoch FROM coalesce(story.claimed_at, clock_timestamp()) - story.created_at) * 1000)::bigint AS queue_ms,
       story.created_at, story.claimed_at, story.finished_at, dispatcher.name AS dispatcher,
       replay.replay_of, replay.replayed_by, replay.reason AS replay_reason,
       coalesce(replay.message_id, story.delivery_id) AS message_id,
       story.dns_ms, story.connected_ms, story.head_ms, story.body_end,
       story.request_bytes, story.request_sha256, story.response_bytes, story.response_sha256, story.unresolved,
       story.recorded_state, story.resolved_at, story.resolved_by, story.resolution_reason
FROM (
    -- What was learnt later stands in the place of what was not known then: the claim's own evidence, or else what a
    -- person found out. A delivery that was answered after all has no error.
    SELECT delivery.delivery_id, call_id, call_sid, agent, action_id, action_version,
           coalesce(late.state, found.state, delivery.state) AS state,
           CASE coalesce(late.state, found.state, 'failed') WHEN 'failed'
               THEN coalesce(late.error_kind, delivery.error_kind) END AS error_kind,
           CASE coalesce(late.state, found.state, 'failed') WHEN 'failed' THEN delivery.error_detail END AS error_detail,
           coalesce(delivery.method, late.method) AS method,
           coalesce(delivery.url, late.url) AS url,
           coalesce(delivery.response_code, late.response_code) AS response_code,
           coalesce(late.latency_ms, delivery.latency_ms) AS latency_ms,
           created_at, claimed_at, finished_at, dispatcher_id,
           coalesce(delivery.dns_ms, late.dns_ms) AS dns_ms,
           coalesce(delivery.connected_ms, late.connected_ms) AS connected_ms,
           coalesce(delivery.head_ms, late.head_ms) AS head_ms,
           coalesce(delivery.body_end, late.body_end) AS body_end,
           coalesce(delivery.request_bytes, late.request_bytes) AS request_bytes,
           coalesce(delivery.request_sha256, late.request_sha256) AS request_sha256,
           coalesce(delivery.response_bytes, late.response_bytes) AS response_bytes,
           coalesce(delivery.response_sha256, late.response_sha256) AS response_sha256,
           coalesce(delivery.unresolved, late.unresolved) AS unresolved,
           delivery.state AS recorded_state,
           coalesce(late.resolved_at, found.resolved_at) AS resolved_at,
           coalesce(late.resolved_by, found.resolved_by) AS resolved_by,
           coalesce(late.reason, found.reason) AS resolution_reason
    FROM postcall.delivery
    LEFT JOIN postcall.resolution AS late ON late.delivery_id = delivery.delivery_id AND late.source = 'claim'
    LEFT JOIN postcall.resolution AS found ON found.delivery_id = delivery.delivery_id AND found.source = 'person'
    UNION ALL
    SELECT delivery_id, call_id,
           (SELECT postcall.call_sid(outbox.call) FROM postcall.outbox WHERE outbox.id = sending.call_id),
           agent, action_id, action_version, 'sending', NULL, NULL, NULL, NULL, NULL, NULL, created_at, claimed_at,
           NULL, dispatcher_id, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL
    FROM postcall.sending
    UNION ALL
    SELECT delivery_id, call_id,
           (SELECT postcall.call_sid(outbox.call) FROM postcall.outbox WHERE outbox.id = waiting.call_id),
           agent, action_id, NULL, 'waiting', NULL, NULL, NULL, NULL, NULL, NULL, created_at, NULL,
           NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL
    FROM postcall.waiting
) AS story
LEFT JOIN postcall.action ON action.action_id = story.action_id
LEFT JOIN postcall.dispatcher ON dispatcher.dispatcher_id = story.dispatcher_id
LEFT JOIN postcall.replay ON replay.delivery_id = story.delivery_id;

COMMENT ON VIEW postcall.delivery_history IS 'Every delivery, waiting and in flight ones included: what auditors read';
COMMENT ON COLUMN postcall.delivery_history.queue_ms IS 'From created_at to the claim, or until now, milliseconds';
COMMENT ON COLUMN postcall.delivery_history.recorded_state IS
    'The state when the delivery ended; differs from state where something was learnt later';
COMMENT ON COLUMN postcall.delivery_history.message_id IS 'What the receiver saw as webhook-id';

GRANT SELECT ON postcall.delivery_history TO postcall_auditor, postcall_dispatcher, postcall_publisher;
GRANT EXECUTE ON FUNCTION postcall.call_sid(json) TO postcall_auditor, postcall_publisher;
