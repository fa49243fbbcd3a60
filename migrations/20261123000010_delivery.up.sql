-- History: one row per delivery that came to an end. Inserted once, never changed, partitioned by time.
-- The constraints say what a final state means, so that a row which makes no sense cannot exist.
CREATE TABLE postcall.delivery (
    delivery_id     uuid        NOT NULL PRIMARY KEY,
    call_id         uuid        NOT NULL,
    claim           uuid        NOT NULL,
    action_id       bigint      NOT NULL,
    created_at      timestamptz NOT NULL,
    claimed_at      timestamptz NOT NULL,
    finished_at     timestamptz NOT NULL,
    action_version  integer     NOT NULL,
    dispatcher_id   integer     NOT NULL,
    latency_ms      integer     CHECK (latency_ms >= 0),
    dns_ms          integer     CHECK (dns_ms >= 0),
    connected_ms    integer     CHECK (connected_ms >= 0),
    head_ms         integer     CHECK (head_ms >= 0),
    request_bytes   integer     CHECK (request_bytes >= 0),
    response_bytes  integer     CHECK (response_bytes >= 0),
    response_code   smallint    CHECK (response_code BETWEEN 100 AND 999),
    agent           text        NOT NULL,
    state           text        NOT NULL,
    error_kind      text,
    error_detail    text        CHECK (octet_length(error_detail) <= 1024),
    call_sid        text,
    method          text,
    url             text,
    request_sha256  bytea       CHECK (octet_length(request_sha256) = 32),
    response_sha256 bytea       CHECK (octet_length(response_sha256) = 32),
    body_end        text,
    unresolved      text[],

    CONSTRAINT state_is_final CHECK (state IN ('delivered', 'rejected', 'failed', 'unknown', 'skipped')),
    CONSTRAINT delivered_means_2xx CHECK ((state = 'delivered') = (coalesce(response_code, 0) BETWEEN 200 AND 299)),
    CONSTRAINT an_answer_means_delivered_or_rejected
        CHECK ((state IN ('delivered', 'rejected')) = (response_code IS NOT NULL)),
    CONSTRAINT failed_means_certainly_unsent
        CHECK (state <> 'failed' OR coalesce(error_kind IN ('render', 'blocked', 'dns', 'connect', 'tls'), false)),
    CONSTRAINT unknown_means_perhaps_received
        CHECK (state <> 'unknown' OR coalesce(error_kind IN ('timeout', 'reset', 'protocol', 'dispatcher_lost'), false)),
    CONSTRAINT only_failed_and_unknown_have_an_error
        CHECK ((state IN ('failed', 'unknown')) = (error_kind IS NOT NULL)
               AND (error_kind IS NOT NULL OR error_detail IS NULL)),
    CONSTRAINT an_attempt_has_a_latency
        CHECK (coalesce(error_kind, '') = 'dispatcher_lost'
               OR (latency_ms IS NOT NULL) = (state <> 'skipped' AND coalesce(error_kind, '') <> 'render')),
    CONSTRAINT an_answer_has_a_body_end
        CHECK ((body_end IS NOT NULL) = (response_code IS NOT NULL)
               AND (body_end IS NULL OR body_end IN ('complete', 'truncated', 'reset', 'timeout', 'cut'))),
    CONSTRAINT an_answer_has_a_digest
        CHECK ((response_sha256 IS NOT NULL) = (response_code IS NOT NULL)
               AND (response_bytes IS NOT NULL) = (response_code IS NOT NULL)),
    CONSTRAINT what_was_answered_was_sent
        CHECK (response_code IS NULL OR (method IS NOT NULL AND url IS NOT NULL)),
    CONSTRAINT nothing_ends_before_it_begins CHECK (finished_at >= claimed_at)
) PARTITION BY RANGE (delivery_id);

CREATE TABLE postcall.delivery_default PARTITION OF postcall.delivery DEFAULT;

-- What auditors ask: by call, by the provider's id, by agent and time. Newest first within an agent.
CREATE INDEX delivery_by_call ON postcall.delivery (call_id);
CREATE INDEX delivery_by_call_sid ON postcall.delivery (call_sid) WHERE call_sid IS NOT NULL;
CREATE INDEX delivery_by_agent ON postcall.delivery (agent, delivery_id);
-- Few rows, often asked for: what needs a person's eye.
CREATE INDEX delivery_not_delivered ON postcall.delivery (state, delivery_id) WHERE state <> 'delivered';

COMMENT ON TABLE postcall.delivery IS 'History: deliveries that came to an end, one row each, never changed';
COMMENT ON COLUMN postcall.delivery.delivery_id IS 'The delivery; time-ordered';
COMMENT ON COLUMN postcall.delivery.call_id IS 'The call, in postcall.outbox while its payload is kept';
COMMENT ON COLUMN postcall.delivery.claim IS 'Token of the claim under which it was sent';
COMMENT ON COLUMN postcall.delivery.action_id IS 'The action it was sent by';
COMMENT ON COLUMN postcall.delivery.created_at IS 'When the call was inserted, or the replay asked for';
COMMENT ON COLUMN postcall.delivery.claimed_at IS 'When it was claimed, just before the attempt';
COMMENT ON COLUMN postcall.delivery.finished_at IS 'When the outcome was recorded';
COMMENT ON COLUMN postcall.delivery.action_version IS 'The version that was sent';
COMMENT ON COLUMN postcall.delivery.dispatcher_id IS 'Who sent it';
COMMENT ON COLUMN postcall.delivery.latency_ms IS 'From the attempt''s start to its end, monotonic clock, milliseconds';
COMMENT ON COLUMN postcall.delivery.dns_ms IS 'From the attempt''s start until the name was resolved; null if none was';
COMMENT ON COLUMN postcall.delivery.connected_ms IS
    'From the attempt''s start until its own new connection was ready; null where a kept-alive one was used';
COMMENT ON COLUMN postcall.delivery.head_ms IS 'From the attempt''s start until the response head had arrived';
COMMENT ON COLUMN postcall.delivery.request_bytes IS 'Bytes of the request body; null if none was rendered';
COMMENT ON COLUMN postcall.delivery.response_bytes IS 'Bytes of the response body that were read';
COMMENT ON COLUMN postcall.delivery.response_code IS 'HTTP status code; null if no response head arrived';
COMMENT ON COLUMN postcall.delivery.agent IS 'The call''s agent';
COMMENT ON COLUMN postcall.delivery.state IS 'delivered, rejected, failed, unknown or skipped';
COMMENT ON COLUMN postcall.delivery.error_kind IS
    'failed: render, blocked, dns, connect, tls. unknown: timeout, reset, protocol, dispatcher_lost';
COMMENT ON COLUMN postcall.delivery.error_detail IS 'What happened, for people; no personal data';
COMMENT ON COLUMN postcall.delivery.call_sid IS 'The provider''s id of the call (callInfo.callSid)';
COMMENT ON COLUMN postcall.delivery.method IS 'HTTP method of the request';
COMMENT ON COLUMN postcall.delivery.url IS 'The rendered URL, query values with secret names masked';
COMMENT ON COLUMN postcall.delivery.request_sha256 IS 'SHA-256 of the request body';
COMMENT ON COLUMN postcall.delivery.response_sha256 IS 'SHA-256 of the response body, as far as it was read';
COMMENT ON COLUMN postcall.delivery.body_end IS
    'How the response body ended: complete, truncated (longer than is read), reset, timeout, cut (dispatcher stopped)';
COMMENT ON COLUMN postcall.delivery.unresolved IS 'Placeholders that found nothing; null if all did';

CREATE TRIGGER history_is_immutable BEFORE UPDATE OR DELETE ON postcall.delivery
    FOR EACH ROW EXECUTE FUNCTION postcall.refuse_change('History is only ever added to; old partitions may be dropped.');

GRANT SELECT, INSERT ON postcall.delivery TO postcall_dispatcher;
