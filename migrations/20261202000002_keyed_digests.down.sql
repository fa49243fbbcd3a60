-- Rows with a keyed digest stay as they are: history is never changed.
SET LOCAL lock_timeout = '3s';
ALTER TABLE postcall.delivery
    DROP CONSTRAINT delivery_request_sha256_check,
    ADD CONSTRAINT delivery_request_sha256_check CHECK (octet_length(request_sha256) = 32) NOT VALID;
ALTER TABLE postcall.resolution
    DROP CONSTRAINT resolution_request_sha256_check,
    ADD CONSTRAINT resolution_request_sha256_check CHECK (octet_length(request_sha256) = 32) NOT VALID;
ALTER TABLE postcall.action_test
    DROP CONSTRAINT action_test_request_sha256_check,
    ADD CONSTRAINT action_test_request_sha256_check CHECK (octet_length(request_sha256) = 32) NOT VALID;
DO $$
DECLARE
    kept text;
BEGIN
    FOREACH kept IN ARRAY ARRAY['delivery', 'resolution', 'action_test', 'delivery_history'] LOOP
        EXECUTE format('COMMENT ON COLUMN postcall.%I.request_sha256 IS %L', kept, 'SHA-256 of the request body');
    END LOOP;
END
$$;
