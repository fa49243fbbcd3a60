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
DROP FUNCTION postcall.guard_against_truncate(regclass);
