CREATE OR REPLACE FUNCTION postcall.record_switch() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO postcall.action_switch (action_id, enabled, switched_by)
    VALUES (NEW.action_id, NEW.enabled, nullif(left(current_setting('postcall.person', true), 200), ''));
    RETURN NULL;
END
$$;

ALTER TABLE postcall.action_switch DROP COLUMN reason;
ALTER TABLE postcall.action_version DROP COLUMN reason;
