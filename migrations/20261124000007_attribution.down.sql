CREATE OR REPLACE FUNCTION postcall.record_switch() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO postcall.action_switch (action_id, enabled) VALUES (NEW.action_id, NEW.enabled);
    RETURN NULL;
END
$$;

REVOKE INSERT (action_id, version, method, url, timeout_ms, headers, body, published_by) ON postcall.action_version
    FROM postcall_publisher;
REVOKE INSERT ON postcall.resolution FROM postcall_dispatcher;
GRANT INSERT ON postcall.resolution TO postcall_dispatcher;
DROP INDEX postcall.switch_by_action;
ALTER TABLE postcall.resolution
    ALTER COLUMN source DROP DEFAULT,
    DROP COLUMN db_user,
    DROP COLUMN error_detail;
ALTER TABLE postcall.replay DROP COLUMN db_user;
ALTER TABLE postcall.action_switch DROP COLUMN switched_by, DROP COLUMN db_user;
ALTER TABLE postcall.action_version
    DROP CONSTRAINT published_by_has_at_most_200_characters,
    DROP COLUMN db_user;

COMMENT ON COLUMN postcall.action_version.published_by IS 'The database user who published it';
COMMENT ON COLUMN postcall.replay.replayed_by IS 'Who asked for it';
COMMENT ON COLUMN postcall.resolution.resolved_by IS 'The dispatcher, or the person';
