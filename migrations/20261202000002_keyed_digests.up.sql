-- Whoever reads a SHA-256 of a body can try what the body was: a phone number is one of few. A dispatcher with the operator's keys keeps an
-- HMAC-SHA256 instead, behind the 8 bytes of the id of the key that it was made with. What has 32 bytes is a SHA-256, as before.
--
-- NOT VALID: each of these allows more than the one before it, so rows from before need not be read, and dispatchers need not wait for that.
SET LOCAL lock_timeout = '3s';
ALTER TABLE postcall.delivery
    DROP CONSTRAINT delivery_request_sha256_check,
    ADD CONSTRAINT delivery_request_sha256_check CHECK (octet_length(request_sha256) IN (32, 40)) NOT VALID;
ALTER TABLE postcall.resolution
    DROP CONSTRAINT resolution_request_sha256_check,
    ADD CONSTRAINT resolution_request_sha256_check CHECK (octet_length(request_sha256) IN (32, 40)) NOT VALID;
ALTER TABLE postcall.action_test
    DROP CONSTRAINT action_test_request_sha256_check,
    ADD CONSTRAINT action_test_request_sha256_check CHECK (octet_length(request_sha256) IN (32, 40)) NOT VALID;
DO $$
DECLARE
    kept text;
BEGIN
    FOREACH kept IN ARRAY ARRAY['delivery', 'resolution', 'action_test', 'delivery_history'] LOOP
        EXECUTE format('COMMENT ON COLUMN postcall.%I.request_sha256 IS %L', kept,
            'Digest of the request body: 32 bytes of SHA-256, or 8 of the id of an operator''s key and 32 of HMAC-SHA256 under it');
    END LOOP;
END
$$;
