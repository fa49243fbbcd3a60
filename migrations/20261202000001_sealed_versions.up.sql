-- Templates hold customers' secrets, too: tokens typed straight into them, URLs whose path is the password. A sealed version keeps URL,
-- headers and body encrypted, as a secret is kept. In clear stays what is needed without them: method, timeout, the name of the
-- certificate's secret, and the origin.
SET LOCAL lock_timeout = '3s';

-- The URL of a sealed version is its origin with a placeholder behind it that never ends. So the origin is found where it always was, and
-- a program that does not know sealed versions can make no request of one.
ALTER TABLE postcall.action_version
    ADD COLUMN key_id       text,
    ADD COLUMN wrapped_key  bytea,
    ADD COLUMN sealed_value bytea,
    ADD COLUMN digest       bytea,
    ADD CONSTRAINT version_key_id_is_hexadecimal CHECK (key_id ~ '^[0-9a-f]{16}$'),
    -- A nonce of 24 bytes, a key of 32, and a tag of 16.
    ADD CONSTRAINT version_wrapped_key_has_72_bytes CHECK (octet_length(wrapped_key) = 72),
    -- A nonce, 14 to 196653 bytes (a byte, perhaps 32 random ones, and three texts with their lengths), and a tag.
    ADD CONSTRAINT sealed_templates_are_bounded CHECK (octet_length(sealed_value) BETWEEN 53 AND 196693),
    ADD CONSTRAINT version_digest_has_32_bytes CHECK (octet_length(digest) = 32),
    ADD CONSTRAINT a_version_is_sealed_as_a_whole CHECK (
        num_nulls(key_id, wrapped_key, sealed_value, digest) = 4
        OR num_nulls(key_id, wrapped_key, sealed_value, digest, headers, body) = 2
           AND headers IS NULL AND body IS NULL AND url ~ '^[^/?#]+//[^/?#]+/\$\{$');
COMMENT ON COLUMN postcall.action_version.url IS
    'URL template as written; of a sealed version its origin, and ${ behind it, which no program sends';
COMMENT ON COLUMN postcall.action_version.headers IS 'Headers template as written; null if none, or if the version is sealed';
COMMENT ON COLUMN postcall.action_version.body IS
    'Body template as written; null means the whole call, or that the version is sealed';
COMMENT ON COLUMN postcall.action_version.key_id IS
    'The operator''s key that encrypts the key of a sealed version; null if the version is not sealed';
COMMENT ON COLUMN postcall.action_version.wrapped_key IS 'The key of a sealed version, encrypted';
COMMENT ON COLUMN postcall.action_version.sealed_value IS 'URL, headers and body of a sealed version, encrypted';
COMMENT ON COLUMN postcall.action_version.digest IS
    'What history knows a sealed version by: an HMAC-SHA256 of it under a key that is sealed with it; of one that was published in clear its SHA-256';
-- Whether there are sealed versions, and which ones.
CREATE INDEX version_is_sealed ON postcall.action_version (action_id, version) WHERE key_id IS NOT NULL;
GRANT INSERT (key_id, wrapped_key, sealed_value, digest) ON postcall.action_version TO postcall_publisher;
GRANT SELECT (key_id) ON postcall.action_version TO postcall_auditor;

-- The digest of a version that is not sealed stays what it was, and sealing a version later does not change it.
CREATE OR REPLACE FUNCTION postcall.version_digest(action_id bigint, version integer) RETURNS bytea
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT coalesce(published.digest, (
        SELECT sha256(string_agg(int4send(coalesce(octet_length(part), -1)) || convert_to(coalesce(part, ''), 'UTF8'), '' ORDER BY place))
        FROM unnest(ARRAY[published.url, published.headers, published.body] || array_remove(ARRAY[published.client_certificate], NULL))
            WITH ORDINALITY AS parts (part, place)))
    FROM postcall.action_version AS published
    WHERE published.action_id = version_digest.action_id AND published.version = version_digest.version;
END;
COMMENT ON FUNCTION postcall.version_digest(bigint, integer) IS
    'What history knows a version by: the SHA-256 of its URL, headers and body as written, and of the secret that it names as its certificate; of a sealed version its column digest';

-- Dispatchers that open sealed versions. The others can make no request of one: all its deliveries would fail.
ALTER TABLE postcall.dispatcher ADD COLUMN knows_sealed_versions boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN postcall.dispatcher.knows_sealed_versions IS
    'Whether it opens sealed versions of actions; false for those of releases up to 0.3.0';
GRANT INSERT (knows_sealed_versions) ON postcall.dispatcher TO postcall_dispatcher;

CREATE FUNCTION postcall.admit_version() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_OP = 'INSERT' AND NEW.key_id IS NULL AND EXISTS (SELECT FROM postcall.action_version WHERE key_id IS NOT NULL) THEN
        RAISE EXCEPTION 'versions of actions are sealed in this database, and this one is not'
            USING ERRCODE = 'object_not_in_prerequisite_state', CONSTRAINT = 'versions_are_sealed';
    END IF;
    IF NEW.key_id IS NOT NULL AND EXISTS (
        SELECT FROM postcall.dispatcher
        WHERE NOT knows_sealed_versions AND stopped_at IS NULL AND lost_at IS NULL AND lease_until > clock_timestamp()
    ) THEN
        RAISE EXCEPTION 'a dispatcher of an earlier release is running, which cannot open sealed versions'
            USING ERRCODE = 'object_not_in_prerequisite_state', CONSTRAINT = 'dispatchers_know_sealed_versions';
    END IF;
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION postcall.admit_version() IS
    'Trigger on postcall.action_version: once a version is sealed, all later ones are; and none is while a dispatcher runs that cannot open it';
REVOKE EXECUTE ON FUNCTION postcall.admit_version() FROM PUBLIC;
CREATE TRIGGER admit_version BEFORE INSERT OR UPDATE ON postcall.action_version
    FOR EACH ROW EXECUTE FUNCTION postcall.admit_version();

-- A dispatcher of release 0.3.0 that was lost and comes back registers again, without a look at the schema.
CREATE FUNCTION postcall.refuse_dispatcher_without_sealed_versions() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF EXISTS (SELECT FROM postcall.action_version WHERE key_id IS NOT NULL) THEN
        RAISE EXCEPTION 'versions of actions are sealed, and this dispatcher cannot open them: it needs a later release of postcall'
            USING ERRCODE = 'object_not_in_prerequisite_state', CONSTRAINT = 'dispatchers_know_sealed_versions';
    END IF;
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION postcall.refuse_dispatcher_without_sealed_versions() IS
    'Trigger on postcall.dispatcher: none registers whose deliveries of sealed versions would all fail';
REVOKE EXECUTE ON FUNCTION postcall.refuse_dispatcher_without_sealed_versions() FROM PUBLIC;
CREATE TRIGGER sealed_versions_are_known BEFORE INSERT ON postcall.dispatcher
    FOR EACH ROW WHEN (NOT NEW.knows_sealed_versions AND NEW.lost_at IS NULL AND NEW.stopped_at IS NULL)
    EXECUTE FUNCTION postcall.refuse_dispatcher_without_sealed_versions();

-- A version never changes. What may change is how it is kept, and only by the schema's owner: one that is in clear becomes sealed under
-- the digest that history knows it by (`postcall action seal`), and the key of a sealed one is encrypted anew (`postcall secret rekey`).
CREATE FUNCTION postcall.keep_version() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND pg_has_role((SELECT relowner FROM pg_class WHERE oid = TG_RELID), 'MEMBER') AND (
        OLD.key_id IS NULL AND NEW.key_id IS NOT NULL
            AND NEW.digest = postcall.version_digest(OLD.action_id, OLD.version)
            AND to_jsonb(NEW) - ARRAY['url', 'headers', 'body', 'key_id', 'wrapped_key', 'sealed_value', 'digest']
                = to_jsonb(OLD) - ARRAY['url', 'headers', 'body', 'key_id', 'wrapped_key', 'sealed_value', 'digest']
        OR OLD.key_id IS NOT NULL AND NEW.wrapped_key <> OLD.wrapped_key
            AND to_jsonb(NEW) - ARRAY['key_id', 'wrapped_key'] = to_jsonb(OLD) - ARRAY['key_id', 'wrapped_key']
    ) THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'rows of postcall.% are never changed or deleted', TG_TABLE_NAME
        USING ERRCODE = 'restrict_violation', HINT = 'Publish a new version instead.';
END
$$;
COMMENT ON FUNCTION postcall.keep_version() IS
    'Trigger on postcall.action_version: a version never changes; its owner may seal it, and encrypt its key anew';
REVOKE EXECUTE ON FUNCTION postcall.keep_version() FROM PUBLIC;
DROP TRIGGER versions_are_immutable ON postcall.action_version;
CREATE TRIGGER versions_are_immutable BEFORE UPDATE OR DELETE ON postcall.action_version
    FOR EACH ROW EXECUTE FUNCTION postcall.keep_version();
ALTER TABLE postcall.action_version ENABLE ALWAYS TRIGGER versions_are_immutable;
