-- The beginning and the end of responses other than 2xx, for as long as the operator keeps them (`run --keep-responses-days`).
-- A receiver writes what it likes into them, personal data included, so they are not a part of history: no role but the
-- dispatchers' may touch them, and who may read them is the owner's to say.
SET LOCAL lock_timeout = '3s';

CREATE TABLE postcall.response_excerpt (
    delivery_id uuid PRIMARY KEY,
    beginning   bytea NOT NULL,
    ending      bytea NOT NULL,
    left_out    integer NOT NULL,
    kept_until  timestamptz NOT NULL,
    CONSTRAINT beginning_has_at_most_2048_bytes CHECK (octet_length(beginning) <= 2048),
    CONSTRAINT ending_has_at_most_2048_bytes CHECK (octet_length(ending) <= 2048),
    CONSTRAINT left_out_is_not_negative CHECK (left_out >= 0)
);
COMMENT ON TABLE postcall.response_excerpt IS 'The beginning and the end of responses other than 2xx; may hold personal data';
COMMENT ON COLUMN postcall.response_excerpt.delivery_id IS 'The delivery that the response answered';
COMMENT ON COLUMN postcall.response_excerpt.beginning IS 'The first bytes of the body';
COMMENT ON COLUMN postcall.response_excerpt.ending IS 'The last bytes of the body that were read; empty if the beginning is all';
COMMENT ON COLUMN postcall.response_excerpt.left_out IS 'How many bytes between the two were read and are not kept';
COMMENT ON COLUMN postcall.response_excerpt.kept_until IS 'From then on, dispatchers delete the row';
CREATE INDEX response_excerpt_by_age ON postcall.response_excerpt (kept_until);

SELECT postcall.guard_against_truncate('postcall.response_excerpt');

-- Deletes one portion of what is no longer kept, and returns how many rows it has deleted. Whoever calls it can end nothing
-- that is still kept.
CREATE FUNCTION postcall.expire_response_excerpts() RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    removed bigint;
BEGIN
    -- SKIP LOCKED: several dispatchers do this at the same time.
    DELETE FROM postcall.response_excerpt
    WHERE delivery_id IN (SELECT delivery_id FROM postcall.response_excerpt WHERE kept_until < now()
                          ORDER BY kept_until LIMIT 1000 FOR UPDATE SKIP LOCKED);
    GET DIAGNOSTICS removed = ROW_COUNT;
    RETURN removed;
END
$$;
REVOKE ALL ON FUNCTION postcall.expire_response_excerpts() FROM PUBLIC;

GRANT INSERT ON postcall.response_excerpt TO postcall_dispatcher;
GRANT EXECUTE ON FUNCTION postcall.expire_response_excerpts() TO postcall_dispatcher;
