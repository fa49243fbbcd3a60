REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA postcall FROM postcall_console_viewer, postcall_console_operator;
-- Rights on columns go with those on their table.
REVOKE ALL ON ALL TABLES IN SCHEMA postcall FROM postcall_console_viewer, postcall_console_operator;
REVOKE ALL ON SCHEMA postcall FROM postcall_console_viewer, postcall_console_operator;

-- A role that another database of the cluster still uses stays.
DO $$
DECLARE
    role_name text;
BEGIN
    FOREACH role_name IN ARRAY ARRAY['postcall_console_viewer', 'postcall_console_operator'] LOOP
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
