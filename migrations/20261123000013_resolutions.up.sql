-- What was learnt later about deliveries that history holds as unknown. History itself is never changed: the view shows
-- the resolution's state in its place, and says where it comes from.
CREATE TABLE postcall.resolution (
    delivery_id     uuid        NOT NULL,
    source          text        NOT NULL CHECK (source IN ('claim', 'person')),
    state           text        NOT NULL CHECK (state IN ('delivered', 'rejected', 'failed')),
    resolved_by     text        NOT NULL CHECK (resolved_by <> ''),
    reason          text        NOT NULL CHECK (reason <> ''),
    resolved_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    method          text,
    url             text,
    request_bytes   integer     CHECK (request_bytes >= 0),
    request_sha256  bytea       CHECK (octet_length(request_sha256) = 32),
    unresolved      text[],
    error_kind      text,
    response_code   smallint    CHECK (response_code BETWEEN 100 AND 999),
    response_bytes  integer     CHECK (response_bytes >= 0),
    response_sha256 bytea       CHECK (octet_length(response_sha256) = 32),
    body_end        text        CHECK (body_end IN ('complete', 'truncated', 'reset', 'timeout', 'cut')),
    latency_ms      integer     CHECK (latency_ms >= 0),
    dns_ms          integer     CHECK (dns_ms >= 0),
    connected_ms    integer     CHECK (connected_ms >= 0),
    head_ms         integer     CHECK (head_ms >= 0),
    PRIMARY KEY (delivery_id, source),
    CONSTRAINT a_late_answer_is_the_claim_s
        CHECK ((response_code IS NOT NULL) = (source = 'claim' AND state IN ('delivered', 'rejected'))),
    CONSTRAINT a_late_delivery_means_2xx
        CHECK (response_code IS NULL OR (state = 'delivered') = (response_code BETWEEN 200 AND 299)),
    CONSTRAINT a_late_failure_means_certainly_unsent
        CHECK (error_kind IS NULL OR (state = 'failed' AND error_kind IN ('render', 'blocked', 'dns', 'connect', 'tls')))
);
COMMENT ON TABLE postcall.resolution IS 'What was learnt later about unknown deliveries; the claim''s own evidence outranks a person''s finding';
COMMENT ON COLUMN postcall.resolution.delivery_id IS 'The delivery, unknown in postcall.delivery';
COMMENT ON COLUMN postcall.resolution.source IS 'claim: the late result of the original claim. person: somebody found out';
COMMENT ON COLUMN postcall.resolution.state IS 'What it was after all: delivered, rejected or failed';
COMMENT ON COLUMN postcall.resolution.resolved_by IS 'The dispatcher, or the person';
COMMENT ON COLUMN postcall.resolution.reason IS 'Why it is known';
COMMENT ON COLUMN postcall.resolution.resolved_at IS 'When it was recorded';
COMMENT ON COLUMN postcall.resolution.method IS 'As in postcall.delivery, as are all columns that follow';
COMMENT ON COLUMN postcall.resolution.url IS 'The rendered URL';
COMMENT ON COLUMN postcall.resolution.request_bytes IS 'Bytes of the request body';
COMMENT ON COLUMN postcall.resolution.request_sha256 IS 'SHA-256 of the request body';
COMMENT ON COLUMN postcall.resolution.unresolved IS 'Placeholders that found nothing';
COMMENT ON COLUMN postcall.resolution.error_kind IS 'Why it failed; null if all that is known is that nothing was sent';
COMMENT ON COLUMN postcall.resolution.response_code IS 'HTTP status code';
COMMENT ON COLUMN postcall.resolution.response_bytes IS 'Bytes of the response body that were read';
COMMENT ON COLUMN postcall.resolution.response_sha256 IS 'SHA-256 of the response body';
COMMENT ON COLUMN postcall.resolution.body_end IS 'How the response body ended';
COMMENT ON COLUMN postcall.resolution.latency_ms IS 'From the attempt''s start to its end, milliseconds';
COMMENT ON COLUMN postcall.resolution.dns_ms IS 'Until the name was resolved';
COMMENT ON COLUMN postcall.resolution.connected_ms IS 'Until its own new connection was ready';
COMMENT ON COLUMN postcall.resolution.head_ms IS 'Until the response head had arrived';

CREATE TRIGGER evidence_is_immutable BEFORE UPDATE OR DELETE ON postcall.resolution
    FOR EACH ROW EXECUTE FUNCTION postcall.refuse_change('What was learnt is only ever added to.');

GRANT SELECT, INSERT ON postcall.resolution TO postcall_dispatcher;
