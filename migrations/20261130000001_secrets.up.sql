-- Secrets of agents, which their templates name as ${secret.NAME}. A value is encrypted before it comes here: by a key of its own,
-- and that key by a key of the operator, which the database never sees.
SET LOCAL lock_timeout = '3s';

CREATE TABLE postcall.secret (
    agent        text        NOT NULL,
    name         text        NOT NULL,
    format       smallint    NOT NULL DEFAULT 1,
    key_id       text        NOT NULL,
    wrapped_key  bytea       NOT NULL,
    sealed_value bytea       NOT NULL,
    set_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (agent, name),
    CONSTRAINT secret_agent_has_1_to_200_characters CHECK (char_length(agent) BETWEEN 1 AND 200),
    CONSTRAINT secret_name_is_plain CHECK (name ~ '^[A-Za-z][A-Za-z0-9_-]{0,63}$'),
    CONSTRAINT secret_format_is_known CHECK (format = 1),
    CONSTRAINT secret_key_id_is_hexadecimal CHECK (key_id ~ '^[0-9a-f]{16}$'),
    -- A nonce of 24 bytes, a key of 32, and a tag of 16.
    CONSTRAINT secret_wrapped_key_has_72_bytes CHECK (octet_length(wrapped_key) = 72),
    -- A nonce, 1 to 4096 bytes, and a tag.
    CONSTRAINT secret_value_has_1_to_4096_bytes CHECK (octet_length(sealed_value) BETWEEN 41 AND 4136)
);
COMMENT ON TABLE postcall.secret IS 'The secrets of agents, encrypted';
COMMENT ON COLUMN postcall.secret.agent IS 'The agent whose templates may name it';
COMMENT ON COLUMN postcall.secret.name IS 'Its name, as in ${secret.NAME}';
COMMENT ON COLUMN postcall.secret.format IS 'How it is encrypted; 1 is XChaCha20-Poly1305 with a key of its own';
COMMENT ON COLUMN postcall.secret.key_id IS 'The operator''s key that encrypts its key';
COMMENT ON COLUMN postcall.secret.wrapped_key IS 'Its key, encrypted';
COMMENT ON COLUMN postcall.secret.sealed_value IS 'Its value, encrypted';
COMMENT ON COLUMN postcall.secret.set_at IS 'When it got this value';

CREATE TABLE postcall.secret_change (
    change_id  bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    agent      text        NOT NULL,
    name       text        NOT NULL,
    change     text        NOT NULL,
    changed_by text,
    reason     text,
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    db_user    text        NOT NULL DEFAULT session_user,
    CONSTRAINT secret_change_is_known CHECK (change IN ('set', 'removed')),
    CONSTRAINT secret_changed_by_has_1_to_200_characters CHECK (char_length(changed_by) BETWEEN 1 AND 200),
    CONSTRAINT secret_reason_has_1_to_1000_characters CHECK (char_length(reason) BETWEEN 1 AND 1000)
);
COMMENT ON TABLE postcall.secret_change IS 'Who set and removed which secret, and when; never its value, and never changed';
COMMENT ON COLUMN postcall.secret_change.change_id IS 'Identity; counts up';
COMMENT ON COLUMN postcall.secret_change.agent IS 'The agent';
COMMENT ON COLUMN postcall.secret_change.name IS 'The secret''s name';
COMMENT ON COLUMN postcall.secret_change.change IS 'set or removed';
COMMENT ON COLUMN postcall.secret_change.changed_by IS 'Who did it, in that person''s own words; null if nobody said';
COMMENT ON COLUMN postcall.secret_change.reason IS 'Why; null if nobody said';
COMMENT ON COLUMN postcall.secret_change.changed_at IS 'When';
COMMENT ON COLUMN postcall.secret_change.db_user IS 'The database user who did it';
CREATE INDEX secret_change_of_secret ON postcall.secret_change (agent, name, change_id);

-- SECURITY DEFINER: whoever changes a secret cannot write what is recorded about it. A key that is wrapped anew is no change of
-- the secret. The time of a value is that of the server.
CREATE FUNCTION postcall.record_secret_change() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    touched postcall.secret := coalesce(NEW, OLD);
BEGIN
    IF TG_WHEN = 'BEFORE' THEN
        NEW.set_at := clock_timestamp();
        RETURN NEW;
    END IF;
    INSERT INTO postcall.secret_change (agent, name, change, changed_by, reason)
    VALUES (touched.agent, touched.name, CASE TG_OP WHEN 'DELETE' THEN 'removed' ELSE 'set' END,
            nullif(left(current_setting('postcall.person', true), 200), ''),
            nullif(left(current_setting('postcall.reason', true), 1000), ''));
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION postcall.record_secret_change() IS 'Trigger on postcall.secret: records who set or removed it';
REVOKE EXECUTE ON FUNCTION postcall.record_secret_change() FROM PUBLIC;
-- Recorded behind the change: before it, an insert that becomes an update would be recorded twice.
CREATE TRIGGER record_secret_change AFTER INSERT OR UPDATE OF sealed_value OR DELETE ON postcall.secret
    FOR EACH ROW EXECUTE FUNCTION postcall.record_secret_change();
CREATE TRIGGER time_of_secret BEFORE UPDATE OF sealed_value ON postcall.secret
    FOR EACH ROW EXECUTE FUNCTION postcall.record_secret_change();
ALTER TABLE postcall.secret ENABLE ALWAYS TRIGGER record_secret_change;
ALTER TABLE postcall.secret ENABLE ALWAYS TRIGGER time_of_secret;

CREATE TRIGGER secret_changes_are_immutable BEFORE UPDATE OR DELETE ON postcall.secret_change
    FOR EACH ROW EXECUTE FUNCTION postcall.refuse_change('It is a record of what happened.');
ALTER TABLE postcall.secret_change ENABLE ALWAYS TRIGGER secret_changes_are_immutable;
SELECT postcall.guard_against_truncate('postcall.secret'), postcall.guard_against_truncate('postcall.secret_change');

-- A publisher sets and removes, and reads back neither value nor key. Only a dispatcher reads them.
GRANT SELECT ON postcall.secret TO postcall_dispatcher;
GRANT SELECT (agent, name, format, key_id, set_at) ON postcall.secret TO postcall_publisher, postcall_auditor;
GRANT INSERT (agent, name, key_id, wrapped_key, sealed_value), UPDATE (key_id, wrapped_key, sealed_value), DELETE
    ON postcall.secret TO postcall_publisher;
GRANT SELECT ON postcall.secret_change TO postcall_publisher, postcall_auditor;

-- Whoever tests an action sends its secrets, and so has to have them for a moment, encrypted. This is recorded before: rows of this
-- table are for good, and secrets_for_test gives nothing for one that its own transaction could still take back.
CREATE TABLE postcall.secret_opening (
    opening_id  bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    agent       text        NOT NULL,
    names       text[]      NOT NULL,
    opened_by   text        NOT NULL,
    reason      text        NOT NULL,
    opened_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    db_user     text        NOT NULL DEFAULT session_user,
    transaction xid8        NOT NULL DEFAULT pg_current_xact_id(),
    CONSTRAINT secret_opening_agent_has_1_to_200_characters CHECK (char_length(agent) BETWEEN 1 AND 200),
    CONSTRAINT secret_opening_is_of_1_to_16_names
        CHECK (cardinality(names) BETWEEN 1 AND 16 AND octet_length(array_to_string(names, '')) <= 16 * 64),
    CONSTRAINT secret_opened_by_has_1_to_200_characters CHECK (char_length(opened_by) BETWEEN 1 AND 200),
    CONSTRAINT secret_opening_reason_has_1_to_1000_characters CHECK (char_length(reason) BETWEEN 1 AND 1000)
);
COMMENT ON TABLE postcall.secret_opening IS 'Who read which secrets, encrypted, to test an action with them; never changed';
COMMENT ON COLUMN postcall.secret_opening.opening_id IS 'Identity; counts up';
COMMENT ON COLUMN postcall.secret_opening.agent IS 'The agent whose secrets they are';
COMMENT ON COLUMN postcall.secret_opening.names IS 'The names that the tested action needs, whether or not there are such secrets';
COMMENT ON COLUMN postcall.secret_opening.opened_by IS 'Who tested, in that person''s own words';
COMMENT ON COLUMN postcall.secret_opening.reason IS 'Why';
COMMENT ON COLUMN postcall.secret_opening.opened_at IS 'When';
COMMENT ON COLUMN postcall.secret_opening.db_user IS 'The database user who did it';
COMMENT ON COLUMN postcall.secret_opening.transaction IS 'The transaction that recorded it; another one reads the secrets';
CREATE TRIGGER secret_openings_are_immutable BEFORE UPDATE OR DELETE ON postcall.secret_opening
    FOR EACH ROW EXECUTE FUNCTION postcall.refuse_change('It is a record of what happened.');
ALTER TABLE postcall.secret_opening ENABLE ALWAYS TRIGGER secret_openings_are_immutable;
SELECT postcall.guard_against_truncate('postcall.secret_opening');

-- SECURITY DEFINER: a publisher reads what encrypts a secret only in this way. A malicious caller gets the secrets of any agent, as
-- one who may test the actions of any agent; but never without a committed record with the name of the database user.
CREATE FUNCTION postcall.secrets_for_test(opening bigint)
    RETURNS TABLE (name text, key_id text, wrapped_key bytea, sealed_value bytea)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
    SELECT secret.name, secret.key_id, secret.wrapped_key, secret.sealed_value
    FROM postcall.secret_opening JOIN postcall.secret
        ON secret.agent = secret_opening.agent AND secret.name = ANY (secret_opening.names)
    WHERE secret_opening.opening_id = opening AND secret_opening.db_user = session_user
        AND secret_opening.opened_at > clock_timestamp() - interval '1 minute'
        AND secret_opening.transaction IS DISTINCT FROM pg_current_xact_id_if_assigned()
$$;
COMMENT ON FUNCTION postcall.secrets_for_test(bigint) IS
    'The encrypted secrets of a row of secret_opening, for who recorded it, within a minute';
REVOKE EXECUTE ON FUNCTION postcall.secrets_for_test(bigint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION postcall.secrets_for_test(bigint) TO postcall_publisher;
GRANT SELECT ON postcall.secret_opening TO postcall_publisher, postcall_auditor;
GRANT INSERT (agent, names, opened_by, reason) ON postcall.secret_opening TO postcall_publisher;

-- A dispatcher of release 0.3.0 or earlier takes ${secret.NAME} for a value of the call, and would send nothing in its place. It does
-- not write this column. Once its lease is over it sends nothing, and it cannot be started on this schema.
ALTER TABLE postcall.dispatcher ADD COLUMN knows_secrets boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN postcall.dispatcher.knows_secrets IS 'Whether it fills in secrets; false for those of releases up to 0.3.0';
GRANT INSERT (knows_secrets) ON postcall.dispatcher TO postcall_dispatcher;

-- The pattern finds more than what a template can have, and so no placeholder is missed.
CREATE FUNCTION postcall.refuse_early_secret() RETURNS trigger
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
COMMENT ON FUNCTION postcall.refuse_early_secret() IS
    'Trigger on postcall.action_version: no secret is named while a dispatcher runs that would send nothing in its place';
REVOKE EXECUTE ON FUNCTION postcall.refuse_early_secret() FROM PUBLIC;
CREATE TRIGGER secrets_are_known BEFORE INSERT ON postcall.action_version
    FOR EACH ROW EXECUTE FUNCTION postcall.refuse_early_secret();
ALTER TABLE postcall.action_version ENABLE ALWAYS TRIGGER secrets_are_known;
