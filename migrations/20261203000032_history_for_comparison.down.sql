-- A column cannot be taken out of a view, so the former one is made anew, with the comments that it had.
SET LOCAL lock_timeout = '3s';
CREATE TEMPORARY TABLE comments_kept ON COMMIT DROP AS
SELECT attname::text AS name, col_description(attrelid, attnum) AS comment
FROM pg_attribute
WHERE attrelid = 'postcall.delivery_history'::regclass AND attnum > 0
  AND attname NOT IN ('request_head_hmac', 'recorded_error_detail');

DROP VIEW postcall.delivery_history;

CREATE VIEW postcall.delivery_history AS
SELECT record.delivery_id, record.call_id, record.call_sid, record.agent, action.name AS action, record.action_version,
       record.state, record.error_kind, record.error_detail, record.method, record.url, record.response_code,
       record.latency_ms,
       (extract(epoch FROM coalesce(record.claimed_at, greatest(statement_timestamp(), record.created_at))
                           - record.created_at) * 1000)::bigint AS queue_ms,
       record.created_at, record.claimed_at, record.finished_at, dispatcher.name AS dispatcher,
       replay.replay_of, replay.replayed_by, replay.reason AS replay_reason,
       coalesce(replay.message_id, record.delivery_id) AS message_id,
       record.dns_ms, record.connected_ms, record.head_ms, record.body_end,
       record.request_bytes, record.request_sha256, record.response_bytes, record.response_sha256, record.unresolved,
       record.recorded_state, record.resolved_at, record.resolved_by, record.resolution_reason,
       record.recorded_error_kind, record.resolved_from,
       (SELECT later.delivery_id FROM postcall.replay AS later
        WHERE later.message_id = coalesce(replay.message_id, record.delivery_id)
          AND later.delivery_id > record.delivery_id
        ORDER BY later.delivery_id DESC LIMIT 1) AS replayed_as
FROM (
    -- Certain from the start.
    (SELECT delivery_id, call_id, call_sid, agent, action_id, action_version, state, error_kind, error_detail, method, url,
            response_code, latency_ms, created_at, claimed_at, finished_at, dispatcher_id, dns_ms, connected_ms, head_ms,
            body_end, request_bytes, request_sha256, response_bytes, response_sha256, unresolved,
            state AS recorded_state, NULL::timestamptz AS resolved_at, NULL::text AS resolved_by,
            NULL::text AS resolution_reason, error_kind AS recorded_error_kind, NULL::text AS resolved_from
     FROM postcall.delivery
     WHERE state <> 'unknown'
     ORDER BY delivery_id DESC)
    UNION ALL
    -- In doubt.
    (SELECT delivery_id, call_id, call_sid, agent, action_id, action_version, 'unknown', error_kind, error_detail, method,
            url, NULL, latency_ms, created_at, claimed_at, finished_at, dispatcher_id, dns_ms, connected_ms, head_ms,
            NULL, request_bytes, request_sha256, NULL, NULL, unresolved, 'unknown', NULL, NULL, NULL, error_kind, NULL
     FROM postcall.delivery
     WHERE state = 'unknown'
       AND (SELECT true FROM postcall.resolution WHERE resolution.delivery_id = delivery.delivery_id LIMIT 1) IS NOT TRUE
     ORDER BY delivery_id DESC)
    UNION ALL
    -- In doubt at first, until the claim's own result arrived.
    (SELECT delivery.delivery_id, call_id, call_sid, agent, action_id, action_version, late.state, late.error_kind,
            late.error_detail, late.method, late.url, late.response_code, late.latency_ms, created_at, claimed_at,
            finished_at, dispatcher_id, late.dns_ms, late.connected_ms, late.head_ms, late.body_end, late.request_bytes,
            late.request_sha256, late.response_bytes, late.response_sha256, late.unresolved, 'unknown', late.resolved_at,
            late.resolved_by, late.reason, delivery.error_kind, 'claim'
     FROM postcall.resolution AS late
     JOIN postcall.delivery ON delivery.delivery_id = late.delivery_id
     WHERE late.source = 'claim' AND delivery.state = 'unknown'
     ORDER BY delivery.delivery_id DESC)
    UNION ALL
    -- In doubt at first, until a person found out.
    (SELECT delivery.delivery_id, call_id, call_sid, agent, action_id, action_version, found.state, NULL, NULL,
            delivery.method, delivery.url, NULL, delivery.latency_ms, created_at, claimed_at, finished_at, dispatcher_id,
            delivery.dns_ms, delivery.connected_ms, delivery.head_ms, NULL, delivery.request_bytes,
            delivery.request_sha256, NULL, NULL, delivery.unresolved, 'unknown', found.resolved_at, found.resolved_by,
            found.reason, delivery.error_kind, 'person'
     FROM postcall.resolution AS found
     JOIN postcall.delivery ON delivery.delivery_id = found.delivery_id
     WHERE found.source = 'person' AND delivery.state = 'unknown'
       AND (SELECT true FROM postcall.resolution AS late
            WHERE late.delivery_id = found.delivery_id AND late.source = 'claim') IS NOT TRUE
     ORDER BY delivery.delivery_id DESC)
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

COMMENT ON VIEW postcall.delivery_history IS 'Every delivery, waiting and in flight ones included: what auditors read';
DO $$
DECLARE
    kept record;
BEGIN
    FOR kept IN SELECT name, comment FROM comments_kept LOOP
        EXECUTE format('COMMENT ON COLUMN postcall.delivery_history.%I IS %L', kept.name, kept.comment);
    END LOOP;
END
$$;

GRANT SELECT ON postcall.delivery_history
    TO postcall_auditor, postcall_dispatcher, postcall_publisher, postcall_console_operator;
