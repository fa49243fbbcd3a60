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
GRANT EXECUTE ON FUNCTION postcall.uuid_v7() TO postcall_platform;
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

-- Functions that are created later have to be closed by the migration that creates them. A default cannot do it: a default of
-- one schema can only add rights, and one of the user would also close what this user creates for others in this database.

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
