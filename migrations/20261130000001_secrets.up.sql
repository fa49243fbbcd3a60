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
