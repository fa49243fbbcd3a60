-- What a dispatcher may record is bounded by the database as well, and not by dispatchers alone: whoever has taken one over writes
-- what he likes. A list of names with a null or of two dimensions is a row that cannot be sealed, and nothing behind it would be; and
-- sealing, verifying and every page that shows a row have it in memory. The limits are those of docs/operating.md (refused rows).
--
-- NOT VALID: rows from before are not read, and dispatchers need not wait for that.
SET LOCAL lock_timeout = '3s';
ALTER TABLE postcall.delivery
    ADD CONSTRAINT agent_has_at_most_200_characters CHECK (char_length(agent) <= 200) NOT VALID,
    ADD CONSTRAINT call_sid_has_at_most_256_characters CHECK (char_length(call_sid) <= 256) NOT VALID,
    ADD CONSTRAINT method_has_at_most_16_characters CHECK (char_length(method) <= 16) NOT VALID,
    ADD CONSTRAINT url_has_at_most_2048_bytes CHECK (octet_length(url) <= 2048) NOT VALID,
    ADD CONSTRAINT unresolved_is_a_short_list CHECK (coalesce(array_ndims(unresolved), 1) = 1 AND cardinality(unresolved) <= 64
        AND array_position(unresolved, NULL) IS NULL AND octet_length(array_to_string(unresolved, '')) <= 4096) NOT VALID;
ALTER TABLE postcall.resolution
    ADD CONSTRAINT method_has_at_most_16_characters CHECK (char_length(method) <= 16) NOT VALID,
    ADD CONSTRAINT url_has_at_most_2048_bytes CHECK (octet_length(url) <= 2048) NOT VALID,
    ADD CONSTRAINT unresolved_is_a_short_list CHECK (coalesce(array_ndims(unresolved), 1) = 1 AND cardinality(unresolved) <= 64
        AND array_position(unresolved, NULL) IS NULL AND octet_length(array_to_string(unresolved, '')) <= 4096) NOT VALID;
