-- The outbox first, as an insert does: none may be the victim of a deadlock.
LOCK TABLE postcall.outbox IN ACCESS EXCLUSIVE MODE;

DO $$
DECLARE
    guarded   regclass;
    guard     text;
BEGIN
    FOR guarded IN SELECT tgrelid::regclass FROM pg_trigger WHERE tgname = 'rows_are_not_truncated' LOOP
        EXECUTE format('DROP TRIGGER rows_are_not_truncated ON %s', guarded);
    END LOOP;
    FOR guarded, guard IN
        SELECT tgrelid::regclass, tgname FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid
        WHERE relnamespace = 'postcall'::regnamespace AND NOT tgisinternal AND tgenabled = 'A'
    LOOP
        EXECUTE format('ALTER TABLE %s ENABLE TRIGGER %I', guarded, guard);
    END LOOP;
END
$$;
DROP TRIGGER calls_are_immutable ON postcall.outbox;
DROP TRIGGER identities_stay ON postcall.action;
DROP TRIGGER dispatchers_stay ON postcall.dispatcher;
DROP TRIGGER ends_are_final ON postcall.dispatcher;
DROP TRIGGER versions_are_not_early ON postcall.action_version;
DROP FUNCTION postcall.refuse_early_version();
DROP TRIGGER versions_count_up ON postcall.action;
ALTER TABLE postcall.action DROP CONSTRAINT the_newest_version_exists;
DROP FUNCTION postcall.guard_against_truncate(regclass);
