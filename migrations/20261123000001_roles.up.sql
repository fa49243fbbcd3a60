-- Three group roles (NOLOGIN): grant them to the users that really log in.
-- Roles belong to the whole cluster, so another database of it may have made them already, or a superuser for a
-- migrating user that may not make roles.
COMMENT ON SCHEMA postcall IS 'postcall: completed calls on their way to their webhooks, and the history of every delivery';

DO $$
DECLARE
    wanted text;
BEGIN
    FOREACH wanted IN ARRAY ARRAY['postcall_platform', 'postcall_dispatcher', 'postcall_auditor'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = wanted) THEN
            BEGIN
                EXECUTE format('CREATE ROLE %I NOLOGIN', wanted);
            EXCEPTION WHEN duplicate_object OR unique_violation THEN
                RAISE DEBUG 'role % was made at the same time', wanted;
            END;
        END IF;
        EXECUTE format('GRANT USAGE ON SCHEMA postcall TO %I', wanted);
    END LOOP;
END
$$;

-- Programs compare the ledger with what they were built for before they do anything.
GRANT SELECT ON postcall._sqlx_migrations TO postcall_dispatcher, postcall_auditor;
