-- A role that another database of the cluster still uses stays.
REVOKE ALL ON postcall._sqlx_migrations FROM postcall_dispatcher, postcall_auditor;

DO $$
DECLARE
    role_name text;
BEGIN
    FOREACH role_name IN ARRAY ARRAY['postcall_platform', 'postcall_dispatcher', 'postcall_auditor'] LOOP
        EXECUTE format('REVOKE ALL ON SCHEMA postcall FROM %I', role_name);
        BEGIN
            EXECUTE format('DROP ROLE %I', role_name);
        EXCEPTION
        WHEN dependent_objects_still_exist THEN
            RAISE NOTICE 'role % is used elsewhere in this cluster and stays', role_name;
        WHEN insufficient_privilege THEN
            RAISE NOTICE 'role % stays: the user % may not drop it', role_name, current_user;
        END;
    END LOOP;
END
$$;
