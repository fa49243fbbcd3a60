-- Keys that sign requests are read for tests as secrets are, and bounded in the same way: whoever has recorded too many openings within
-- the hour, in whatever transactions, gets nothing. And beside each function that came with signing stands what a malicious caller can
-- make it do.
SET LOCAL lock_timeout = '3s';

CREATE OR REPLACE FUNCTION postcall.signing_keys_for_test(opening bigint)
    RETURNS TABLE (signing_key_id uuid, scheme text, key_id text, wrapped_key bytea, sealed_value bytea, signs_at timestamptz)
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    most_an_hour CONSTANT integer := 120;
BEGIN
    -- As in secrets_for_test.
    IF (SELECT earlier.opened_at FROM postcall.secret_opening AS earlier WHERE earlier.db_user = session_user
        ORDER BY earlier.opening_id DESC OFFSET most_an_hour LIMIT 1) > clock_timestamp() - interval '1 hour' THEN
        RAISE EXCEPTION 'this database user has read secrets for % tests within an hour, and there cannot be more', most_an_hour
            USING ERRCODE = 'restrict_violation', CONSTRAINT = 'secret_openings_an_hour_are_bounded', HINT = 'Wait an hour.';
    END IF;
    RETURN QUERY
    SELECT found.signing_key_id, found.scheme, found.key_id, found.wrapped_key, found.sealed_value, clock_timestamp()
    FROM postcall.secret_opening JOIN postcall.signing_key AS found ON found.agent = secret_opening.agent
    WHERE secret_opening.opening_id = opening AND secret_opening.db_user = session_user
        AND secret_opening.names = ARRAY['signing key']
        AND secret_opening.opened_at > clock_timestamp() - interval '1 minute'
        AND secret_opening.transaction IS DISTINCT FROM pg_current_xact_id_if_assigned()
        AND (found.signs_until IS NULL OR found.signs_until > clock_timestamp())
    ORDER BY found.signs_until IS NOT NULL, found.made_at DESC;
END
$$;
COMMENT ON FUNCTION postcall.signing_keys_for_test(bigint) IS
    'The encrypted keys that sign the requests of the agent of a row of secret_opening, for who recorded it, within a minute. A malicious caller gets the encrypted signing keys of any agent, counted with its secrets 120 times an hour, and with the key file can sign as that agent; never without a committed record with the name of its database user';
COMMENT ON FUNCTION postcall.admit_signing_key() IS
    'Trigger on postcall.signing_key: a new key ends the older ones and is recorded; none comes while a dispatcher signs nothing. A malicious caller, who may publish, can end the older signing keys of any agent by a new one, under any person''s name and reason (the settings postcall.person and postcall.reason); it can neither leave the record out nor choose its time and database user';
COMMENT ON FUNCTION postcall.record_signing_end() IS
    'Trigger on postcall.signing_key: records who disabled signing. A malicious caller, who may publish, can end the signing of any agent, under any person''s name and reason; it can neither leave the record out nor choose its time and database user';
