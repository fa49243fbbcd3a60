-- Roles for people who use the console and may do less than a publisher, so that Postgres itself refuses what somebody's role in
-- the console may not do. The console's own user is a member of the roles of its visitors and takes on one for each session.
--
-- - postcall_console_viewer sees what goes on: dispatchers, figures, pauses, agents and their actions. No single delivery, no id of
--   a call, no template.
-- - postcall_console_operator reads what an auditor reads, and does what a publisher does to deliveries: it pauses, resumes,
--   enables, disables, replays and resolves. It reads no template and publishes nothing.
DO $$
DECLARE
    wanted text;
BEGIN
    FOREACH wanted IN ARRAY ARRAY['postcall_console_viewer', 'postcall_console_operator'] LOOP
        BEGIN
            IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = wanted) THEN
                EXECUTE format('CREATE ROLE %I NOLOGIN', wanted);
            END IF;
        EXCEPTION
            WHEN duplicate_object OR unique_violation THEN
                RAISE DEBUG 'role % was made at the same time', wanted;
            WHEN insufficient_privilege THEN
                RAISE EXCEPTION 'the user % may not create the role %', current_user, wanted
                    USING ERRCODE = 'insufficient_privilege',
                          HINT = format('Let a superuser, or a role with CREATEROLE, run: CREATE ROLE %I NOLOGIN; then migrate again.', wanted);
        END;
    END LOOP;
END
$$;

GRANT USAGE ON SCHEMA postcall TO postcall_console_viewer, postcall_console_operator;

-- Viewers. Of what waits, is in flight or has ended: how much, since when and how it ended.
GRANT SELECT ON postcall._sqlx_migrations, postcall.action, postcall.dispatcher, postcall.dispatcher_report, postcall.pause,
    postcall.pause_end, postcall.active_pause, postcall.action_target TO postcall_console_viewer;
GRANT SELECT (action_id, version, method, timeout_ms, published_at, published_by) ON postcall.action_version
    TO postcall_console_viewer;
GRANT SELECT (delivery_id, action_id, agent, created_at) ON postcall.waiting TO postcall_console_viewer;
GRANT SELECT (delivery_id, action_id, dispatcher_id) ON postcall.sending TO postcall_console_viewer;
GRANT SELECT (delivery_id, action_id, state) ON postcall.delivery TO postcall_console_viewer;
GRANT SELECT (delivery_id) ON postcall.resolution TO postcall_console_viewer;

-- Operators: what auditors read …
GRANT SELECT ON postcall._sqlx_migrations, postcall.action, postcall.action_switch, postcall.waiting, postcall.sending,
    postcall.delivery, postcall.replay, postcall.resolution, postcall.dispatcher, postcall.delivery_history, postcall.pause,
    postcall.pause_end, postcall.active_pause, postcall.action_target, postcall.dispatcher_report, postcall.retention
    TO postcall_console_operator;
GRANT SELECT (action_id, version, method, timeout_ms, published_at, published_by, db_user, reason) ON postcall.action_version
    TO postcall_console_operator;
GRANT SELECT (id, agent, created_at, call_sid, call_bytes, action_ids) ON postcall.outbox TO postcall_console_operator;
GRANT EXECUTE ON FUNCTION postcall.history_begins(), postcall.uuid_v7_floor(timestamptz) TO postcall_console_operator;
-- … and what they do, with neither time nor database user of their choice.
GRANT UPDATE (enabled) ON postcall.action TO postcall_console_operator;
GRANT INSERT (replay_of, replayed_by, reason) ON postcall.replay TO postcall_console_operator;
GRANT INSERT (delivery_id, state, resolved_by, reason) ON postcall.resolution TO postcall_console_operator;
GRANT INSERT (agent, action_id, host, reason, paused_by) ON postcall.pause TO postcall_console_operator;
GRANT INSERT (pause_id, reason, resumed_by) ON postcall.pause_end TO postcall_console_operator;
GRANT EXECUTE ON FUNCTION postcall.lock_deliveries(uuid[]) TO postcall_console_operator;
