SET LOCAL lock_timeout = '3s';
CREATE OR REPLACE FUNCTION postcall.prune_tests(keep_history_days integer, OUT outcome text, OUT removed bigint)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET lock_timeout = '25ms' AS $$
DECLARE
    portion CONSTANT integer := 2000;
    -- Ids hold no time before 1970.
    bound   timestamptz := greatest(postcall.kept_since('history', keep_history_days), '2000-01-01Z');
    ids     uuid[];
BEGIN
    IF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted') THEN
        RAISE EXCEPTION 'old rows are deleted in a transaction of isolation level READ COMMITTED'
            USING ERRCODE = 'feature_not_supported';
    END IF;
    outcome := 'done';
    removed := 0;
    SELECT array_agg(old.test_id) INTO ids
    FROM (SELECT test_id FROM postcall.action_test WHERE test_id < postcall.uuid_v7_floor(bound)
          ORDER BY test_id LIMIT portion) AS old;
    IF ids IS NOT NULL THEN
        UPDATE postcall.retention SET tests_begin = bound WHERE tests_begin IS NULL OR tests_begin < bound;
        DELETE FROM postcall.action_test_result WHERE test_id = ANY (ids);
        DELETE FROM postcall.action_test WHERE test_id = ANY (ids);
        GET DIAGNOSTICS removed = ROW_COUNT;
        RAISE LOG 'postcall: % rows of action_test were removed by %', removed, session_user;
    END IF;
    IF cardinality(ids) = portion THEN
        outcome := 'more';
    ELSE
        -- Nobody waits for the lock of an agent for which nothing was tested for so long; whoever does is not waited for.
        DELETE FROM postcall.tested_agent WHERE agent = ANY (ARRAY(
            SELECT agent FROM postcall.tested_agent WHERE tested_at < bound ORDER BY agent LIMIT portion
            FOR UPDATE SKIP LOCKED));
    END IF;
END
$$;
CREATE OR REPLACE FUNCTION postcall.secrets_for_test(opening bigint)
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
DROP TRIGGER secret_openings_are_immutable ON postcall.secret_opening;
CREATE TRIGGER secret_openings_are_immutable BEFORE UPDATE OR DELETE ON postcall.secret_opening
    FOR EACH ROW EXECUTE FUNCTION postcall.refuse_change('It is a record of what happened.');
ALTER TABLE postcall.secret_opening ENABLE ALWAYS TRIGGER secret_openings_are_immutable;
DROP TRIGGER admit_secret_opening ON postcall.secret_opening;
DROP FUNCTION postcall.admit_secret_opening(), postcall.keep_opening();
DROP INDEX postcall.secret_opening_by_user;
