-- Secrets of more than 4096 bytes have to be removed before.
SET LOCAL lock_timeout = '3s';

CREATE OR REPLACE FUNCTION postcall.refuse_early_secret() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF concat_ws(' ', NEW.url, NEW.headers, NEW.body) ~ '\$\{\s*secret\M' AND EXISTS (
        SELECT FROM postcall.dispatcher
        WHERE NOT knows_secrets AND stopped_at IS NULL AND lost_at IS NULL AND lease_until > clock_timestamp()
    ) THEN
        RAISE EXCEPTION 'a dispatcher of an earlier release is running, which knows no secrets'
            USING ERRCODE = 'object_not_in_prerequisite_state', CONSTRAINT = 'dispatchers_know_secrets';
    END IF;
    RETURN NEW;
END
$$;

CREATE OR REPLACE FUNCTION postcall.version_digest(action_id bigint, version integer) RETURNS bytea
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT sha256(string_agg(int4send(coalesce(octet_length(part), -1)) || convert_to(coalesce(part, ''), 'UTF8'), '' ORDER BY place))
    FROM postcall.action_version AS published,
         unnest(ARRAY[published.url, published.headers, published.body]) WITH ORDINALITY AS parts (part, place)
    WHERE published.action_id = version_digest.action_id AND published.version = version_digest.version;
END;
COMMENT ON FUNCTION postcall.version_digest(bigint, integer) IS 'The SHA-256 of a version''s URL, headers and body as written';

ALTER TABLE postcall.secret
    DROP CONSTRAINT secret_value_has_1_to_16384_bytes,
    ADD CONSTRAINT secret_value_has_1_to_4096_bytes CHECK (octet_length(sealed_value) BETWEEN 41 AND 4136);

ALTER TABLE postcall.action_version DROP COLUMN client_certificate;
