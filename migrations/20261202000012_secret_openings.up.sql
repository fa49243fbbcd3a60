-- The record of who read secrets for a test grew without end, and at any speed. Now a database user reads secrets 120 times an hour at
-- most, each time up to 16 of them, and the record leaves with the tests for which it was made (`--keep-history-days`).
--
-- Who set and removed a secret (secret_change) stays for good, like each switch, pause and version of an action.
SET LOCAL lock_timeout = '3s';

CREATE INDEX secret_opening_by_user ON postcall.secret_opening (db_user, opening_id);

-- Several at the same time, which do not see each other, can be a few more than that; secrets_for_test looks again.
CREATE FUNCTION postcall.admit_secret_opening() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    most_an_hour CONSTANT integer := 120;
BEGIN
    IF (SELECT opened_at FROM postcall.secret_opening WHERE db_user = session_user
        ORDER BY opening_id DESC OFFSET most_an_hour - 1 LIMIT 1) > clock_timestamp() - interval '1 hour' THEN
        RAISE EXCEPTION 'this database user has read secrets for % tests within an hour, and there cannot be more', most_an_hour
            USING ERRCODE = 'restrict_violation', CONSTRAINT = 'secret_openings_an_hour_are_bounded', HINT = 'Wait an hour.';
    END IF;
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION postcall.admit_secret_opening() IS
    'Trigger on postcall.secret_opening: takes no more than 120 of each database user an hour';
REVOKE EXECUTE ON FUNCTION postcall.admit_secret_opening() FROM PUBLIC;
CREATE TRIGGER admit_secret_opening BEFORE INSERT ON postcall.secret_opening
    FOR EACH ROW EXECUTE FUNCTION postcall.admit_secret_opening();
ALTER TABLE postcall.secret_opening ENABLE ALWAYS TRIGGER admit_secret_opening;

-- The same, and bounded: whoever has recorded too many openings within the hour, in whatever transactions, gets nothing.
CREATE OR REPLACE FUNCTION postcall.secrets_for_test(opening bigint)
    RETURNS TABLE (name text, key_id text, wrapped_key bytea, sealed_value bytea)
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    most_an_hour CONSTANT integer := 120;
BEGIN
    -- The one behind the most that there can be. Each opening that was read was committed before, and so is seen here.
    IF (SELECT earlier.opened_at FROM postcall.secret_opening AS earlier WHERE earlier.db_user = session_user
        ORDER BY earlier.opening_id DESC OFFSET most_an_hour LIMIT 1) > clock_timestamp() - interval '1 hour' THEN
        RAISE EXCEPTION 'this database user has read secrets for % tests within an hour, and there cannot be more', most_an_hour
            USING ERRCODE = 'restrict_violation', CONSTRAINT = 'secret_openings_an_hour_are_bounded', HINT = 'Wait an hour.';
    END IF;
    RETURN QUERY
    SELECT secret.name, secret.key_id, secret.wrapped_key, secret.sealed_value
    FROM postcall.secret_opening JOIN postcall.secret
        ON secret.agent = secret_opening.agent AND secret.name = ANY (secret_opening.names)
    WHERE secret_opening.opening_id = opening AND secret_opening.db_user = session_user
        AND secret_opening.opened_at > clock_timestamp() - interval '1 minute'
        AND secret_opening.transaction IS DISTINCT FROM pg_current_xact_id_if_assigned();
END
$$;

CREATE FUNCTION postcall.keep_opening() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_OP = 'DELETE' AND OLD.opened_at < (SELECT tests_begin FROM postcall.retention) THEN
        RETURN OLD;
    END IF;
    RAISE EXCEPTION 'rows of postcall.% are never changed or deleted', TG_TABLE_NAME
        USING ERRCODE = 'restrict_violation', HINT = 'It is a record of what happened; what is old leaves by `postcall prune`.';
END
$$;
COMMENT ON FUNCTION postcall.keep_opening() IS 'Trigger on postcall.secret_opening: rows leave when they are old, and are never changed';
REVOKE EXECUTE ON FUNCTION postcall.keep_opening() FROM PUBLIC;
DROP TRIGGER secret_openings_are_immutable ON postcall.secret_opening;
CREATE TRIGGER secret_openings_are_immutable BEFORE UPDATE OR DELETE ON postcall.secret_opening
    FOR EACH ROW EXECUTE FUNCTION postcall.keep_opening();
ALTER TABLE postcall.secret_opening ENABLE ALWAYS TRIGGER secret_openings_are_immutable;

CREATE OR REPLACE FUNCTION postcall.prune_tests(keep_history_days integer, OUT outcome text, OUT removed bigint)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET lock_timeout = '25ms' AS $$
DECLARE
    portion  CONSTANT integer := 2000;
    -- Ids hold no time before 1970.
    bound    timestamptz := greatest(postcall.kept_since('history', keep_history_days), '2000-01-01Z');
    ids      uuid[];
    openings bigint[];
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
    -- Openings of secrets leave with the tests for which they were made: of the oldest, those that are old.
    SELECT array_agg(opening_id) INTO openings
    FROM (SELECT opening_id, opened_at FROM postcall.secret_opening ORDER BY opening_id LIMIT portion) AS oldest
    WHERE opened_at < bound;
    IF openings IS NOT NULL THEN
        UPDATE postcall.retention SET tests_begin = bound WHERE tests_begin IS NULL OR tests_begin < bound;
        DELETE FROM postcall.secret_opening WHERE opening_id = ANY (openings);
        RAISE LOG 'postcall: % rows of secret_opening were removed by %', cardinality(openings), session_user;
    END IF;
    IF portion IN (cardinality(ids), cardinality(openings)) THEN
        outcome := 'more';
    ELSE
        -- Nobody waits for the lock of an agent for which nothing was tested for so long; whoever does is not waited for.
        DELETE FROM postcall.tested_agent WHERE agent = ANY (ARRAY(
            SELECT agent FROM postcall.tested_agent WHERE tested_at < bound ORDER BY agent LIMIT portion
            FOR UPDATE SKIP LOCKED));
    END IF;
END
$$;
