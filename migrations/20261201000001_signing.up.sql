-- The keys that sign an agent's requests (Standard Webhooks 1.0.0). They are encrypted before they come here, as secrets are: by a
-- key of their own, and that key by a key of the operator. The key without an end is the current one; whether an agent has one is
-- whether its requests are signed. Those that a rotation has replaced go on signing beside it until their end.
SET LOCAL lock_timeout = '3s';

CREATE TABLE postcall.signing_key (
    signing_key_id     uuid        NOT NULL PRIMARY KEY,
    agent              text        NOT NULL,
    scheme             text        NOT NULL,
    public_key         text,
    format             smallint    NOT NULL DEFAULT 1,
    key_id             text        NOT NULL,
    wrapped_key        bytea       NOT NULL,
    sealed_value       bytea       NOT NULL,
    replaces           uuid,
    keep_older_seconds integer     NOT NULL DEFAULT 0,
    made_at            timestamptz NOT NULL DEFAULT clock_timestamp(),
    signs_until        timestamptz,
    CONSTRAINT signing_key_agent_has_1_to_200_characters CHECK (char_length(agent) BETWEEN 1 AND 200),
    CONSTRAINT signing_key_scheme_is_known CHECK (scheme IN ('v1', 'v1a')),
    CONSTRAINT only_an_asymmetric_key_has_a_public_one CHECK ((scheme = 'v1a') = (public_key IS NOT NULL)),
    CONSTRAINT signing_key_public_key_has_44_characters_of_base64
        CHECK (public_key IS NULL OR public_key ~ '^whpk_[A-Za-z0-9+/]{43}=$'),
    CONSTRAINT signing_key_format_is_known CHECK (format = 1),
    CONSTRAINT signing_key_key_id_is_hexadecimal CHECK (key_id ~ '^[0-9a-f]{16}$'),
    -- A nonce of 24 bytes, a key of 32, and a tag of 16.
    CONSTRAINT signing_key_wrapped_key_has_72_bytes CHECK (octet_length(wrapped_key) = 72),
    -- A nonce, 24 to 64 bytes, and a tag.
    CONSTRAINT signing_key_value_has_24_to_64_bytes CHECK (octet_length(sealed_value) BETWEEN 64 AND 104),
    CONSTRAINT older_keys_sign_for_30_days_at_most CHECK (keep_older_seconds BETWEEN 0 AND 2592000)
);
-- At most one current key for an agent, which each claim looks up.
CREATE UNIQUE INDEX signing_key_is_current_once ON postcall.signing_key (agent) WHERE signs_until IS NULL;
CREATE INDEX signing_key_of_agent ON postcall.signing_key (agent);
COMMENT ON TABLE postcall.signing_key IS 'The keys that sign agents'' requests, encrypted';
COMMENT ON COLUMN postcall.signing_key.signing_key_id IS 'The key''s id, which says nothing about the key';
COMMENT ON COLUMN postcall.signing_key.agent IS 'The agent whose requests it signs';
COMMENT ON COLUMN postcall.signing_key.scheme IS 'v1 (HMAC-SHA256, a shared secret) or v1a (ed25519, a pair of keys)';
COMMENT ON COLUMN postcall.signing_key.public_key IS 'Of v1a: the key that verifies, which everybody may know';
COMMENT ON COLUMN postcall.signing_key.format IS 'How it is encrypted; 1 is XChaCha20-Poly1305 with a key of its own';
COMMENT ON COLUMN postcall.signing_key.key_id IS 'The operator''s key that encrypts its key';
COMMENT ON COLUMN postcall.signing_key.wrapped_key IS 'The key with which it is encrypted, itself encrypted';
COMMENT ON COLUMN postcall.signing_key.sealed_value IS 'Its bytes, encrypted';
COMMENT ON COLUMN postcall.signing_key.replaces IS 'The current key before it; null if signing was enabled with it';
COMMENT ON COLUMN postcall.signing_key.keep_older_seconds IS 'For how long the keys before it go on signing beside it, at most';
COMMENT ON COLUMN postcall.signing_key.made_at IS 'When it began to sign';
COMMENT ON COLUMN postcall.signing_key.signs_until IS 'Until when it signs beside a newer one; null for the current key';

CREATE TABLE postcall.signing_change (
    change_id      bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    agent          text        NOT NULL,
    change         text        NOT NULL,
    scheme         text,
    signing_key_id uuid,
    changed_by     text,
    reason         text,
    changed_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    db_user        text        NOT NULL DEFAULT session_user,
    CONSTRAINT signing_change_is_known CHECK (change IN ('enabled', 'rotated', 'disabled')),
    CONSTRAINT signing_changed_by_has_1_to_200_characters CHECK (char_length(changed_by) BETWEEN 1 AND 200),
    CONSTRAINT signing_reason_has_1_to_1000_characters CHECK (char_length(reason) BETWEEN 1 AND 1000)
);
COMMENT ON TABLE postcall.signing_change IS 'Who enabled, rotated and disabled whose signing, and when; never a key, and never changed';
COMMENT ON COLUMN postcall.signing_change.change_id IS 'Identity; counts up';
COMMENT ON COLUMN postcall.signing_change.agent IS 'The agent';
COMMENT ON COLUMN postcall.signing_change.change IS 'enabled, rotated or disabled';
COMMENT ON COLUMN postcall.signing_change.scheme IS 'v1 or v1a; null for disabled';
COMMENT ON COLUMN postcall.signing_change.signing_key_id IS 'The id of the key that signs from then on; null for disabled';
COMMENT ON COLUMN postcall.signing_change.changed_by IS 'Who did it, in that person''s own words; null if nobody said';
COMMENT ON COLUMN postcall.signing_change.reason IS 'Why; null if nobody said';
COMMENT ON COLUMN postcall.signing_change.changed_at IS 'When';
COMMENT ON COLUMN postcall.signing_change.db_user IS 'The database user who did it';
CREATE INDEX signing_change_of_agent ON postcall.signing_change (agent, changed_at);
CREATE INDEX signing_change_by_time ON postcall.signing_change (changed_at);

-- Dispatchers that do not sign.
ALTER TABLE postcall.dispatcher ADD COLUMN knows_signing boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN postcall.dispatcher.knows_signing IS 'Whether it signs requests; false for those of releases up to 0.3.0';
GRANT INSERT (knows_signing) ON postcall.dispatcher TO postcall_dispatcher;

-- SECURITY DEFINER: whoever adds a key ends the older ones and writes the record, and has no other right to do either. What a
-- malicious caller can make it do: end the older keys of any agent, as one who may rotate the key of any agent; but never without
-- the record.
CREATE FUNCTION postcall.admit_signing_key() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    current_key uuid;
BEGIN
    -- Locked, so that of two changes at the same moment the second one sees what the first one has left.
    SELECT signing_key_id INTO current_key FROM postcall.signing_key WHERE agent = NEW.agent AND signs_until IS NULL FOR UPDATE;
    IF current_key IS DISTINCT FROM NEW.replaces THEN
        RAISE EXCEPTION 'the key does not replace the current one of the agent'
            USING ERRCODE = 'object_not_in_prerequisite_state', CONSTRAINT = 'signing_key_replaces_the_current_one';
    END IF;
    IF EXISTS (
        SELECT FROM postcall.dispatcher
        WHERE NOT knows_signing AND stopped_at IS NULL AND lost_at IS NULL AND lease_until > clock_timestamp()
    ) THEN
        RAISE EXCEPTION 'a dispatcher of an earlier release is running, which signs nothing'
            USING ERRCODE = 'object_not_in_prerequisite_state', CONSTRAINT = 'dispatchers_know_signing';
    END IF;
    NEW.made_at := clock_timestamp();
    NEW.signs_until := NULL;
    UPDATE postcall.signing_key SET signs_until = least(signs_until, NEW.made_at + NEW.keep_older_seconds * interval '1 second')
    WHERE agent = NEW.agent;
    -- What is over is not kept. Without a current key, older ones are left over from one that somebody deleted alone.
    DELETE FROM postcall.signing_key WHERE agent = NEW.agent AND (signs_until <= NEW.made_at OR NEW.replaces IS NULL);
    -- Each of them is one more signature in every request.
    IF (SELECT count(*) FROM postcall.signing_key WHERE agent = NEW.agent) >= 4 THEN
        RAISE EXCEPTION 'four keys of the agent sign already'
            USING ERRCODE = 'program_limit_exceeded', CONSTRAINT = 'signing_keys_are_few';
    END IF;
    INSERT INTO postcall.signing_change (agent, change, scheme, signing_key_id, changed_by, reason)
    VALUES (NEW.agent, CASE WHEN NEW.replaces IS NULL THEN 'enabled' ELSE 'rotated' END, NEW.scheme, NEW.signing_key_id,
            nullif(left(current_setting('postcall.person', true), 200), ''),
            nullif(left(current_setting('postcall.reason', true), 1000), ''));
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION postcall.admit_signing_key() IS
    'Trigger on postcall.signing_key: a new key ends the older ones and is recorded; none comes while a dispatcher signs nothing';
REVOKE EXECUTE ON FUNCTION postcall.admit_signing_key() FROM PUBLIC;
CREATE TRIGGER admit_signing_key BEFORE INSERT ON postcall.signing_key
    FOR EACH ROW EXECUTE FUNCTION postcall.admit_signing_key();

-- SECURITY DEFINER: whoever disables signing cannot leave it out of the record. A malicious caller can make it do nothing else.
CREATE FUNCTION postcall.record_signing_end() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF EXISTS (
        SELECT FROM gone JOIN postcall.signing_key AS kept ON kept.agent = gone.agent AND kept.signs_until IS NULL
        WHERE gone.signs_until > clock_timestamp()
    ) THEN
        RAISE EXCEPTION 'a key that signs beside the current one ends by its time, or by a new rotation'
            USING ERRCODE = 'restrict_violation';
    END IF;
    INSERT INTO postcall.signing_change (agent, change, changed_by, reason)
    SELECT agent, 'disabled', nullif(left(current_setting('postcall.person', true), 200), ''),
           nullif(left(current_setting('postcall.reason', true), 1000), '')
    FROM gone WHERE signs_until IS NULL;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION postcall.record_signing_end() IS 'Trigger on postcall.signing_key: records who disabled signing';
REVOKE EXECUTE ON FUNCTION postcall.record_signing_end() FROM PUBLIC;
CREATE TRIGGER record_signing_end AFTER DELETE ON postcall.signing_key REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT EXECUTE FUNCTION postcall.record_signing_end();
CREATE TRIGGER signing_keys_stay_as_they_are BEFORE UPDATE ON postcall.signing_key FOR EACH ROW
    WHEN (OLD.signing_key_id IS DISTINCT FROM NEW.signing_key_id OR OLD.agent IS DISTINCT FROM NEW.agent
          OR OLD.scheme IS DISTINCT FROM NEW.scheme OR OLD.public_key IS DISTINCT FROM NEW.public_key
          OR OLD.sealed_value IS DISTINCT FROM NEW.sealed_value OR OLD.replaces IS DISTINCT FROM NEW.replaces
          OR OLD.signs_until < NEW.signs_until OR OLD.signs_until IS NOT NULL AND NEW.signs_until IS NULL)
    EXECUTE FUNCTION postcall.refuse_change('Rotate the key instead.');
CREATE TRIGGER signing_changes_are_immutable BEFORE UPDATE OR DELETE ON postcall.signing_change
    FOR EACH ROW EXECUTE FUNCTION postcall.refuse_change('It is a record of what happened.');
ALTER TABLE postcall.signing_key ENABLE ALWAYS TRIGGER signing_keys_stay_as_they_are;
ALTER TABLE postcall.signing_change ENABLE ALWAYS TRIGGER signing_changes_are_immutable;
SELECT postcall.guard_against_truncate('postcall.signing_key'), postcall.guard_against_truncate('postcall.signing_change');

-- A dispatcher of release 0.3.0 that was lost and comes back registers again, without a look at the schema.
CREATE FUNCTION postcall.refuse_dispatcher_without_signing() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF EXISTS (SELECT FROM postcall.signing_key WHERE signs_until IS NULL) THEN
        RAISE EXCEPTION 'requests of an agent are signed, and this dispatcher signs nothing: it needs a later release of postcall'
            USING ERRCODE = 'object_not_in_prerequisite_state', CONSTRAINT = 'dispatchers_know_signing';
    END IF;
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION postcall.refuse_dispatcher_without_signing() IS
    'Trigger on postcall.dispatcher: none registers that would send unsigned what is to be signed';
REVOKE EXECUTE ON FUNCTION postcall.refuse_dispatcher_without_signing() FROM PUBLIC;
CREATE TRIGGER signing_is_known BEFORE INSERT ON postcall.dispatcher
    FOR EACH ROW WHEN (NOT NEW.knows_signing AND NEW.lost_at IS NULL AND NEW.stopped_at IS NULL)
    EXECUTE FUNCTION postcall.refuse_dispatcher_without_signing();

-- A publisher enables, rotates and disables, and reads back no key. Only a dispatcher reads them. Everybody who reads history may
-- know who is signed, and by which public key.
GRANT SELECT ON postcall.signing_key TO postcall_dispatcher;
GRANT SELECT (signing_key_id, agent, scheme, public_key, format, key_id, replaces, keep_older_seconds, made_at, signs_until)
    ON postcall.signing_key TO postcall_publisher, postcall_auditor;
GRANT INSERT (signing_key_id, agent, scheme, public_key, key_id, wrapped_key, sealed_value, replaces, keep_older_seconds), DELETE
    ON postcall.signing_key TO postcall_publisher;
GRANT SELECT ON postcall.signing_change TO postcall_dispatcher, postcall_publisher, postcall_auditor, postcall_console_operator;

-- Whoever tests an action of an agent whose requests are signed has to have the keys for a moment, encrypted. The record is the one
-- of secrets that are read for a test, with the name 'signing key', which no secret can have. SECURITY DEFINER: a publisher reads
-- what encrypts a key only in this way. A malicious caller gets the keys of any agent, as one who may test the actions of any agent;
-- but never without a committed record with the name of the database user.
CREATE FUNCTION postcall.signing_keys_for_test(opening bigint)
    RETURNS TABLE (signing_key_id uuid, scheme text, key_id text, wrapped_key bytea, sealed_value bytea, signs_at timestamptz)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
    SELECT found.signing_key_id, found.scheme, found.key_id, found.wrapped_key, found.sealed_value, clock_timestamp()
    FROM postcall.secret_opening JOIN postcall.signing_key AS found ON found.agent = secret_opening.agent
    WHERE secret_opening.opening_id = opening AND secret_opening.db_user = session_user
        AND secret_opening.names = ARRAY['signing key']
        AND secret_opening.opened_at > clock_timestamp() - interval '1 minute'
        AND secret_opening.transaction IS DISTINCT FROM pg_current_xact_id_if_assigned()
        AND (found.signs_until IS NULL OR found.signs_until > clock_timestamp())
    ORDER BY found.signs_until IS NOT NULL, found.made_at DESC
$$;
COMMENT ON FUNCTION postcall.signing_keys_for_test(bigint) IS
    'The encrypted keys that sign the requests of the agent of a row of secret_opening, for who recorded it, within a minute';
REVOKE EXECUTE ON FUNCTION postcall.signing_keys_for_test(bigint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION postcall.signing_keys_for_test(bigint) TO postcall_publisher;
