CREATE OR REPLACE FUNCTION postcall.signing_keys_for_test(opening bigint)
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
COMMENT ON FUNCTION postcall.admit_signing_key() IS
    'Trigger on postcall.signing_key: a new key ends the older ones and is recorded; none comes while a dispatcher signs nothing';
COMMENT ON FUNCTION postcall.record_signing_end() IS 'Trigger on postcall.signing_key: records who disabled signing';
