REVOKE SELECT (id, agent, created_at) ON postcall.outbox FROM postcall_auditor, postcall_publisher;
REVOKE SELECT (action_id, version, method, timeout_ms, published_at, published_by) ON postcall.action_version
    FROM postcall_auditor;
REVOKE SELECT ON postcall.action, postcall.action_switch, postcall.waiting, postcall.sending, postcall.delivery,
    postcall.replay, postcall.resolution, postcall.dispatcher FROM postcall_auditor;
REVOKE ALL ON ALL TABLES IN SCHEMA postcall FROM postcall_publisher;
ALTER FUNCTION postcall.refuse_change() RESET search_path;
REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA postcall FROM postcall_platform, postcall_dispatcher, postcall_publisher,
    postcall_auditor;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA postcall TO PUBLIC;
REVOKE ALL ON FUNCTION postcall.make_partitions(timestamptz) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION postcall.make_partitions(timestamptz) TO postcall_dispatcher;
REVOKE ALL ON SCHEMA postcall FROM postcall_publisher;

DO $$
BEGIN
    DROP ROLE postcall_publisher;
EXCEPTION
    WHEN dependent_objects_still_exist THEN
        RAISE NOTICE 'role postcall_publisher is used elsewhere in this cluster and stays';
    WHEN insufficient_privilege THEN
        RAISE NOTICE 'role postcall_publisher stays: the user % may not drop it', current_user;
END
$$;
