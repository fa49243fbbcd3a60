-- A tested file may hold what only its author knows, such as a token in a header. Whoever reads the file's SHA-256 and knows all but a short
-- token can try which one it was. With the operator's keys, the digest is an HMAC-SHA256 behind the 8 bytes of the key's id, as that of a body.
--
-- NOT VALID: it allows more than the one before it, so rows from before need not be read.
SET LOCAL lock_timeout = '3s';
ALTER TABLE postcall.action_test
    DROP CONSTRAINT action_test_file_sha256_check,
    ADD CONSTRAINT action_test_file_sha256_check CHECK (octet_length(file_sha256) IN (32, 40)) NOT VALID;
COMMENT ON COLUMN postcall.action_test.file_sha256 IS
    'Digest of the action file that was tested: 32 bytes of SHA-256, or 8 of the id of an operator''s key and 32 of HMAC-SHA256 under it; null for a published version';
