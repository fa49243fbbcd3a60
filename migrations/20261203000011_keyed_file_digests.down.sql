-- Rows with a keyed digest stay as they are: history is never changed.
SET LOCAL lock_timeout = '3s';
ALTER TABLE postcall.action_test
    DROP CONSTRAINT action_test_file_sha256_check,
    ADD CONSTRAINT action_test_file_sha256_check CHECK (octet_length(file_sha256) = 32) NOT VALID;
COMMENT ON COLUMN postcall.action_test.file_sha256 IS 'SHA-256 of the action file that was tested; null for a published version';
