-- History keeps digests to compare with. Two of them were missing where there is a key:
--
-- - Of the head of a request (method, URL and headers). Without it, a call that was altered afterwards showed a URL that was never
--   sent, and nothing said so. It is made with a key or not at all: whoever reads a plain one can try what the URL was.
-- - Of responses: a receiver may send back what it was sent, and a plain SHA-256 of that can be tried as well.
--
-- A sealed row covers the new digest. A sealer of an earlier release would seal such a row without it, and the row would then count as
-- altered. So the log takes no slice of one any more: leaf_fields says how many fields a delivery has, and earlier releases do not say
-- it. Deliveries go on, and what has ended is sealed by the next sealer of this release.
--
-- NOT VALID: each of these allows more than the one before it, or is about rows that are still to come, so no row need be read, and
-- dispatchers need not wait for that.
SET LOCAL lock_timeout = '3s';

ALTER TABLE postcall.delivery
    ADD COLUMN request_head_hmac bytea,
    ADD CONSTRAINT delivery_request_head_hmac_check CHECK (octet_length(request_head_hmac) = 40) NOT VALID,
    DROP CONSTRAINT delivery_response_sha256_check,
    ADD CONSTRAINT delivery_response_sha256_check CHECK (octet_length(response_sha256) IN (32, 40)) NOT VALID;
ALTER TABLE postcall.resolution
    ADD COLUMN request_head_hmac bytea,
    ADD CONSTRAINT resolution_request_head_hmac_check CHECK (octet_length(request_head_hmac) = 40) NOT VALID,
    DROP CONSTRAINT resolution_response_sha256_check,
    ADD CONSTRAINT resolution_response_sha256_check CHECK (octet_length(response_sha256) IN (32, 40)) NOT VALID;
ALTER TABLE postcall.action_test
    ADD COLUMN request_head_hmac bytea,
    ADD CONSTRAINT action_test_request_head_hmac_check CHECK (octet_length(request_head_hmac) = 40) NOT VALID;
ALTER TABLE postcall.action_test_result
    DROP CONSTRAINT action_test_result_response_sha256_check,
    ADD CONSTRAINT action_test_result_response_sha256_check CHECK (octet_length(response_sha256) IN (32, 40)) NOT VALID;
ALTER TABLE postcall.seal_slice
    ADD COLUMN leaf_fields smallint,
    ADD CONSTRAINT leaves_have_all_fields CHECK (leaf_fields IS NOT NULL AND leaf_fields >= 28) NOT VALID;

CREATE OR REPLACE VIEW postcall.action_test_history AS
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
       test.started_at, test.given_up_at, result.recorded_at, test.tested_by, test.reason, test.db_user,
       test.request_head_hmac
FROM postcall.action_test AS test
LEFT JOIN postcall.action_test_result AS result ON result.test_id = test.test_id;

GRANT INSERT (request_head_hmac) ON postcall.delivery, postcall.resolution TO postcall_dispatcher;
GRANT INSERT (request_head_hmac) ON postcall.action_test TO postcall_publisher;
GRANT INSERT (leaf_fields) ON postcall.seal_slice TO postcall_sealer;

COMMENT ON COLUMN postcall.seal_slice.leaf_fields IS
    'How many fields a delivery has in the release that sealed it; null: 27';
DO $$
DECLARE
    kept text;
BEGIN
    FOREACH kept IN ARRAY ARRAY['delivery', 'resolution', 'action_test'] LOOP
        EXECUTE format('COMMENT ON COLUMN postcall.%I.request_head_hmac IS %L', kept,
            'Digest of method, URL and headers of the request: 8 bytes of the id of an operator''s key, and 32 of HMAC-SHA256 under it');
    END LOOP;
    FOREACH kept IN ARRAY ARRAY['delivery', 'resolution', 'action_test_result', 'delivery_history'] LOOP
        EXECUTE format('COMMENT ON COLUMN postcall.%I.response_sha256 IS %L', kept,
            'Digest of the response body, as far as it was read: 32 bytes of SHA-256, or 8 of the id of an operator''s key and 32 of HMAC-SHA256 under it');
    END LOOP;
END
$$;
