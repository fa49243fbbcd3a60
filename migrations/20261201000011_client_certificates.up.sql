-- A version of an action may name the secret that holds the certificate which is shown to the receiver, as a part of TLS. A chain
-- with its key is longer than other secrets.
SET LOCAL lock_timeout = '3s';

ALTER TABLE postcall.action_version
    ADD COLUMN client_certificate text
        CONSTRAINT client_certificate_is_a_name CHECK (client_certificate ~ '^[A-Za-z][A-Za-z0-9_-]{0,63}$');
COMMENT ON COLUMN postcall.action_version.client_certificate IS
    'The secret that holds the certificate which is shown to the receiver; null if none is shown';
GRANT INSERT (client_certificate) ON postcall.action_version TO postcall_publisher;

-- A nonce, 1 to 16384 bytes, and a tag.
ALTER TABLE postcall.secret
    DROP CONSTRAINT secret_value_has_1_to_4096_bytes,
    ADD CONSTRAINT secret_value_has_1_to_16384_bytes CHECK (octet_length(sealed_value) BETWEEN 41 AND 16424);

-- The digest of a version without a certificate stays what it was, because it is sealed.
CREATE OR REPLACE FUNCTION postcall.version_digest(action_id bigint, version integer) RETURNS bytea
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT sha256(string_agg(int4send(coalesce(octet_length(part), -1)) || convert_to(coalesce(part, ''), 'UTF8'), '' ORDER BY place))
    FROM postcall.action_version AS published,
         unnest(ARRAY[published.url, published.headers, published.body] || array_remove(ARRAY[published.client_certificate], NULL))
             WITH ORDINALITY AS parts (part, place)
    WHERE published.action_id = version_digest.action_id AND published.version = version_digest.version;
END;
COMMENT ON FUNCTION postcall.version_digest(bigint, integer) IS
    'The SHA-256 of a version''s URL, headers and body as written, and of the secret that it names as its certificate';

-- An earlier dispatcher would show no certificate.
CREATE OR REPLACE FUNCTION postcall.refuse_early_secret() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF (NEW.client_certificate IS NOT NULL OR concat_ws(' ', NEW.url, NEW.headers, NEW.body) ~ '\$\{\s*secret\M') AND EXISTS (
        SELECT FROM postcall.dispatcher
        WHERE NOT knows_secrets AND stopped_at IS NULL AND lost_at IS NULL AND lease_until > clock_timestamp()
    ) THEN
        RAISE EXCEPTION 'a dispatcher of an earlier release is running, which knows no secrets'
            USING ERRCODE = 'object_not_in_prerequisite_state', CONSTRAINT = 'dispatchers_know_secrets';
    END IF;
    RETURN NEW;
END
$$;
