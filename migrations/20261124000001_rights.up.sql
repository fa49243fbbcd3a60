-- Who may do what. No function of the schema can be executed by PUBLIC, and each role has what its work needs.
SET LOCAL lock_timeout = '3s';

-- A role for the people who publish, switch, replay and resolve, so that nobody works as the owner.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'postcall_publisher') THEN
        CREATE ROLE postcall_publisher NOLOGIN;
    END IF;
EXCEPTION
    WHEN duplicate_object OR unique_violation THEN
        RAISE DEBUG 'role postcall_publisher was made at the same time';
    WHEN insufficient_privilege THEN
        RAISE EXCEPTION 'the user % may not create the role postcall_publisher', current_user
            USING ERRCODE = 'insufficient_privilege',
                  HINT = 'Let a superuser, or a role with CREATEROLE, run: CREATE ROLE postcall_publisher NOLOGIN; then migrate again.';
END
$$;

-- Functions. Each is for those roles only that are named here or in a later migration.
REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA postcall FROM PUBLIC;
GRANT EXECUTE ON FUNCTION postcall.uuid_v7()
    TO postcall_platform, postcall_dispatcher, postcall_publisher;
GRANT EXECUTE ON FUNCTION postcall.uuid_v7_floor(timestamptz)
    TO postcall_dispatcher, postcall_publisher, postcall_auditor;
GRANT EXECUTE ON FUNCTION postcall.history_begins()
    TO postcall_dispatcher, postcall_publisher, postcall_auditor;

-- An operator may have granted the outbox to roles of its own, past postcall_platform. The default of the id is evaluated
-- with the rights of whoever inserts, so these roles need the function as well: no insert may fail because of this file.
DO $$
DECLARE
    writer regrole;
BEGIN
    FOR writer IN
        SELECT DISTINCT granted.grantee::regrole
        FROM pg_class
        LEFT JOIN pg_attribute ON attrelid = pg_class.oid AND attnum > 0,
             LATERAL (SELECT * FROM aclexplode(relacl) UNION ALL SELECT * FROM aclexplode(attacl)) AS granted
        WHERE pg_class.oid = 'postcall.outbox'::regclass AND privilege_type = 'INSERT' AND granted.grantee <> 0
    LOOP
        EXECUTE format('GRANT EXECUTE ON FUNCTION postcall.uuid_v7() TO %s', writer);
    END LOOP;
END
$$;

-- Functions that are created later are to be closed as well. Postgres knows no such default for one schema alone (a default of
-- a schema can only add rights), so this default is for all functions that this user creates in this database. Where the
-- user owns functions of somebody else's, such as the platform's, its later functions would be closed too: there the
-- default stays as it is, and only the test of the rights stands guard.
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_proc
               WHERE proowner = current_user::regrole
                 AND pronamespace NOT IN ('postcall'::regnamespace, 'pg_catalog'::regnamespace,
                                          'information_schema'::regnamespace)) THEN
        RAISE NOTICE 'the default rights on functions stay as they are: % owns functions outside of postcall', current_user;
    ELSE
        ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
    END IF;
END
$$;

-- Trigger functions, too, look for nothing along their caller's path.
ALTER FUNCTION postcall.refuse_change() SET search_path = pg_catalog, pg_temp;

-- Publishers.
GRANT USAGE ON SCHEMA postcall TO postcall_publisher;
GRANT SELECT ON postcall._sqlx_migrations, postcall.action, postcall.action_version, postcall.action_switch,
    postcall.waiting, postcall.sending, postcall.delivery, postcall.replay, postcall.resolution, postcall.dispatcher,
    postcall.delivery_history TO postcall_publisher;
GRANT SELECT (id, agent, created_at) ON postcall.outbox TO postcall_publisher;
GRANT INSERT (agent, name, enabled, version), UPDATE (enabled, version) ON postcall.action TO postcall_publisher;

-- Auditors read what happened and who did it: neither calls nor templates.
GRANT SELECT ON postcall.action, postcall.action_switch, postcall.waiting, postcall.sending, postcall.delivery,
    postcall.replay, postcall.resolution, postcall.dispatcher TO postcall_auditor;
GRANT SELECT (action_id, version, method, timeout_ms, published_at, published_by) ON postcall.action_version
    TO postcall_auditor;
GRANT SELECT (id, agent, created_at) ON postcall.outbox TO postcall_auditor;
