-- Rows with a keyed digest of the response stay as they are: history is never changed. The digests of heads are lost with their column.
SET LOCAL lock_timeout = '3s';
DROP VIEW postcall.action_test_history;
CREATE VIEW postcall.action_test_history AS
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
       test.started_at, test.given_up_at, result.recorded_at, test.tested_by, test.reason, test.db_user
FROM postcall.action_test AS test
LEFT JOIN postcall.action_test_result AS result ON result.test_id = test.test_id;
COMMENT ON VIEW postcall.action_test_history IS
    'Tests of actions with what became of them, one row each; a test without a result is unknown once its time is over';
GRANT SELECT ON postcall.action_test_history TO postcall_publisher, postcall_auditor, postcall_console_operator;

ALTER TABLE postcall.delivery
    DROP COLUMN request_head_hmac,
    DROP CONSTRAINT delivery_response_sha256_check,
    ADD CONSTRAINT delivery_response_sha256_check CHECK (octet_length(response_sha256) = 32) NOT VALID;
ALTER TABLE postcall.resolution
    DROP COLUMN request_head_hmac,
    DROP CONSTRAINT resolution_response_sha256_check,
    ADD CONSTRAINT resolution_response_sha256_check CHECK (octet_length(response_sha256) = 32) NOT VALID;
ALTER TABLE postcall.action_test
    DROP COLUMN request_head_hmac;
ALTER TABLE postcall.action_test_result
    DROP CONSTRAINT action_test_result_response_sha256_check,
    ADD CONSTRAINT action_test_result_response_sha256_check CHECK (octet_length(response_sha256) = 32) NOT VALID;
ALTER TABLE postcall.seal_slice
    DROP COLUMN leaf_fields;

COMMENT ON COLUMN postcall.delivery.response_sha256 IS 'SHA-256 of the response body, as far as it was read';
COMMENT ON COLUMN postcall.resolution.response_sha256 IS 'SHA-256 of the response body';
COMMENT ON COLUMN postcall.action_test_result.response_sha256 IS 'SHA-256 of the response body, as far as it was read';
COMMENT ON COLUMN postcall.delivery_history.response_sha256 IS 'SHA-256 of the response body, as far as it was read';
