-- What a dispatcher's database user can do in the place of another dispatcher. Dispatchers share one role; where each has a login of its
-- own, the database holds them apart by it. Where they share a login, nobody can tell them apart, and only what is refused to all of
-- them is refused: to end a lease before its time, to say that a living dispatcher is lost, and to give evidence about what is known.
--
-- The owner of the schema is not held to it: backups are restored, and tests set the clock of leases, by the owner.
SET LOCAL lock_timeout = '3s';

-- Dispatchers of release 0.3.0 that run meanwhile have no login here, and are not told apart.
ALTER TABLE postcall.dispatcher ADD COLUMN db_user text;
ALTER TABLE postcall.dispatcher ALTER COLUMN db_user SET DEFAULT session_user;
COMMENT ON COLUMN postcall.dispatcher.db_user IS
    'The database user as which it logged in, who alone renews its lease and records its results; null if it started before this column was there';

CREATE FUNCTION postcall.admit_lease() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    -- The longest lease that can be set is 10 minutes, and readings of the clock differ.
    longest CONSTANT interval := interval '11 minutes';
BEGIN
    IF pg_has_role((SELECT relowner FROM pg_class WHERE oid = TG_RELID), 'MEMBER') THEN
        RETURN NEW;
    END IF;
    IF TG_OP = 'UPDATE' THEN
        IF OLD.db_user <> session_user
           AND (NEW.claim_epoch, NEW.lease_until, NEW.stopped_at) IS DISTINCT FROM (OLD.claim_epoch, OLD.lease_until, OLD.stopped_at) THEN
            RAISE EXCEPTION 'dispatcher % belongs to another database user', OLD.dispatcher_id USING ERRCODE = 'insufficient_privilege';
        END IF;
        IF NEW.lost_at IS DISTINCT FROM OLD.lost_at AND OLD.lease_until >= clock_timestamp() THEN
            RAISE EXCEPTION 'the lease of dispatcher % is not over', OLD.dispatcher_id USING ERRCODE = 'restrict_violation';
        END IF;
        -- A lease is only ever made longer, also where the clock was set back.
        NEW.lease_until := greatest(NEW.lease_until, OLD.lease_until);
    END IF;
    NEW.lease_until := least(NEW.lease_until, clock_timestamp() + longest);
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION postcall.admit_lease() IS
    'Trigger on postcall.dispatcher: a lease is renewed by its own database user, never shortened, and nobody is lost before its end';
REVOKE EXECUTE ON FUNCTION postcall.admit_lease() FROM PUBLIC;
-- Behind ends_are_final, by name.
CREATE TRIGGER leases_are_their_holders BEFORE INSERT OR UPDATE ON postcall.dispatcher
    FOR EACH ROW EXECUTE FUNCTION postcall.admit_lease();
ALTER TABLE postcall.dispatcher ENABLE ALWAYS TRIGGER leases_are_their_holders;

-- For each statement, not for each row: it costs 0.1 ms of a statement that takes ten or more, whatever the batch.
CREATE FUNCTION postcall.admit_results() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF EXISTS (
        SELECT FROM written JOIN postcall.dispatcher USING (dispatcher_id)
        WHERE CASE WHEN written.error_kind = 'dispatcher_lost' THEN lost_at IS NULL AND stopped_at IS NULL
                   ELSE dispatcher.db_user <> session_user END
    ) AND NOT pg_has_role((SELECT relowner FROM pg_class WHERE oid = TG_RELID), 'MEMBER') THEN
        RAISE EXCEPTION 'a result is recorded by the database user of its dispatcher, and none is given up while its dispatcher lives'
            USING ERRCODE = 'insufficient_privilege', CONSTRAINT = 'results_are_their_dispatchers';
    END IF;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION postcall.admit_results() IS
    'Trigger on postcall.delivery: nobody records a result in the name of a dispatcher with another database user, nor gives up what a living one has';
REVOKE EXECUTE ON FUNCTION postcall.admit_results() FROM PUBLIC;
CREATE TRIGGER results_are_their_dispatchers AFTER INSERT ON postcall.delivery REFERENCING NEW TABLE AS written
    FOR EACH STATEMENT EXECUTE FUNCTION postcall.admit_results();
ALTER TABLE postcall.delivery ENABLE ALWAYS TRIGGER results_are_their_dispatchers;

CREATE FUNCTION postcall.admit_evidence() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    holder text;
BEGIN
    IF pg_has_role((SELECT relowner FROM pg_class WHERE oid = TG_RELID), 'MEMBER') THEN
        RETURN NEW;
    END IF;
    SELECT dispatcher.db_user INTO holder FROM postcall.delivery LEFT JOIN postcall.dispatcher USING (dispatcher_id)
    WHERE delivery.delivery_id = NEW.delivery_id AND delivery.state = 'unknown';
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is evidence only about a delivery that is unknown' USING ERRCODE = 'restrict_violation';
    ELSIF holder <> session_user THEN
        RAISE EXCEPTION 'evidence is given by the database user of the dispatcher that had the delivery'
            USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION postcall.admit_evidence() IS
    'Trigger on postcall.resolution: late evidence only about what is unknown, and only by the database user of the dispatcher that had it';
REVOKE EXECUTE ON FUNCTION postcall.admit_evidence() FROM PUBLIC;
CREATE TRIGGER admit_evidence BEFORE INSERT ON postcall.resolution
    FOR EACH ROW WHEN (NEW.source = 'claim') EXECUTE FUNCTION postcall.admit_evidence();
ALTER TABLE postcall.resolution ENABLE ALWAYS TRIGGER admit_evidence;

-- Dispatchers lock rows of these tables, for which the right to change one column is enough, and change none.
REVOKE UPDATE ON postcall.waiting, postcall.sending FROM postcall_dispatcher;
GRANT UPDATE (call_sid) ON postcall.waiting TO postcall_dispatcher;
GRANT UPDATE (sid) ON postcall.sending TO postcall_dispatcher;
