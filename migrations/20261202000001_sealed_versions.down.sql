SET LOCAL lock_timeout = '3s';

-- What is sealed cannot be opened here, and would be lost for good.
DO $$
BEGIN
    IF EXISTS (SELECT FROM postcall.action_version WHERE key_id IS NOT NULL) THEN
        RAISE EXCEPTION 'versions of actions are sealed: an earlier release cannot open them';
    END IF;
END
$$;

DROP TRIGGER versions_are_immutable ON postcall.action_version;
CREATE TRIGGER versions_are_immutable BEFORE UPDATE OR DELETE ON postcall.action_version
    FOR EACH ROW EXECUTE FUNCTION postcall.refuse_change('Publish a new version instead.');
ALTER TABLE postcall.action_version ENABLE ALWAYS TRIGGER versions_are_immutable;
DROP FUNCTION postcall.keep_version();
DROP TRIGGER sealed_versions_are_known ON postcall.dispatcher;
DROP FUNCTION postcall.refuse_dispatcher_without_sealed_versions();
DROP TRIGGER admit_version ON postcall.action_version;
DROP FUNCTION postcall.admit_version();
ALTER TABLE postcall.dispatcher DROP COLUMN knows_sealed_versions;

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

ALTER TABLE postcall.action_version
    DROP COLUMN key_id, DROP COLUMN wrapped_key, DROP COLUMN sealed_value, DROP COLUMN digest;
COMMENT ON COLUMN postcall.action_version.url IS 'URL template as written';
COMMENT ON COLUMN postcall.action_version.headers IS 'Headers template as written; null if none';
COMMENT ON COLUMN postcall.action_version.body IS 'Body template as written; null means the whole call';
