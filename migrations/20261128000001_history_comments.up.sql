-- Every column of the view says what it is. Auditors read the view, and not the tables behind it, and `\d+` showed them a comment
-- on five of its 37 columns.
--
-- A comment locks the view against other changes of the schema only: whoever reads it goes on.

COMMENT ON COLUMN postcall.delivery_history.delivery_id IS 'The delivery; time-ordered';
COMMENT ON COLUMN postcall.delivery_history.call_id IS 'The call, in postcall.outbox while its payload is kept';
COMMENT ON COLUMN postcall.delivery_history.call_sid IS 'The provider''s id of the call (callInfo.callSid)';
COMMENT ON COLUMN postcall.delivery_history.agent IS 'The call''s agent';
COMMENT ON COLUMN postcall.delivery_history.action IS 'The name of the action among the agent''s actions';
COMMENT ON COLUMN postcall.delivery_history.action_version IS 'The version that was claimed; null while the delivery waits';
COMMENT ON COLUMN postcall.delivery_history.state IS 'What is known now: waiting, sending, delivered, rejected, failed, unknown or skipped';
COMMENT ON COLUMN postcall.delivery_history.error_kind IS
    'failed: render, blocked, dns, connect, tls. unknown: timeout, reset, protocol, dispatcher_lost. Otherwise null';
COMMENT ON COLUMN postcall.delivery_history.error_detail IS 'What happened, for people; no personal data';
COMMENT ON COLUMN postcall.delivery_history.method IS 'HTTP method of the request';
COMMENT ON COLUMN postcall.delivery_history.url IS 'The rendered URL; the values of query parameters with secret names are masked';
COMMENT ON COLUMN postcall.delivery_history.response_code IS 'HTTP status code; null if no response head arrived';
COMMENT ON COLUMN postcall.delivery_history.latency_ms IS 'From the attempt''s start to its end, monotonic clock, milliseconds';
COMMENT ON COLUMN postcall.delivery_history.created_at IS 'When the call was inserted, or the replay asked for';
COMMENT ON COLUMN postcall.delivery_history.claimed_at IS 'When it was claimed, just before the attempt; null while it waits';
COMMENT ON COLUMN postcall.delivery_history.finished_at IS 'When the outcome was recorded; null while it waits or is in flight';
COMMENT ON COLUMN postcall.delivery_history.dispatcher IS 'The name of the dispatcher that claimed it';
COMMENT ON COLUMN postcall.delivery_history.replay_of IS 'The delivery that this one repeats; null if it is no replay';
COMMENT ON COLUMN postcall.delivery_history.replayed_by IS 'Who asked for the replay';
COMMENT ON COLUMN postcall.delivery_history.replay_reason IS 'Why the replay was asked for';
COMMENT ON COLUMN postcall.delivery_history.dns_ms IS
    'From the attempt''s start until the host''s name was looked up, milliseconds; null if none was';
COMMENT ON COLUMN postcall.delivery_history.connected_ms IS
    'From the attempt''s start until its own new connection was ready, milliseconds; null where a kept-alive one was used';
COMMENT ON COLUMN postcall.delivery_history.head_ms IS 'From the attempt''s start until the response head had arrived, milliseconds';
COMMENT ON COLUMN postcall.delivery_history.body_end IS
    'How the response body ended: complete, truncated (longer than is read), reset, timeout, cut (dispatcher stopped)';
COMMENT ON COLUMN postcall.delivery_history.request_bytes IS 'Bytes of the request body; null if none was rendered';
COMMENT ON COLUMN postcall.delivery_history.request_sha256 IS 'SHA-256 of the request body';
COMMENT ON COLUMN postcall.delivery_history.response_bytes IS 'Bytes of the response body that were read';
COMMENT ON COLUMN postcall.delivery_history.response_sha256 IS 'SHA-256 of the response body, as far as it was read';
COMMENT ON COLUMN postcall.delivery_history.unresolved IS 'Placeholders that found no value; null if all did';
COMMENT ON COLUMN postcall.delivery_history.resolved_at IS 'When more became known about a delivery that was unknown; null if nothing did';
COMMENT ON COLUMN postcall.delivery_history.resolved_by IS 'Who found it out: a person, or the dispatcher that sent the delivery';
COMMENT ON COLUMN postcall.delivery_history.resolution_reason IS
    'How it became known: the person''s reason, or that the claim''s own result came late';
