SET LOCAL lock_timeout = '3s';
ALTER TABLE postcall.delivery
    DROP CONSTRAINT agent_has_at_most_200_characters,
    DROP CONSTRAINT call_sid_has_at_most_256_characters,
    DROP CONSTRAINT method_has_at_most_16_characters,
    DROP CONSTRAINT url_has_at_most_2048_bytes,
    DROP CONSTRAINT unresolved_is_a_short_list;
ALTER TABLE postcall.resolution
    DROP CONSTRAINT method_has_at_most_16_characters,
    DROP CONSTRAINT url_has_at_most_2048_bytes,
    DROP CONSTRAINT unresolved_is_a_short_list;
