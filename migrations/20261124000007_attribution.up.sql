-- Who did something by hand: the name that a person gives, and beside it the user who was logged into the database, which the
-- person cannot choose. The database user is null in rows from before this migration.
SET LOCAL lock_timeout = '3s';

ALTER TABLE postcall.action_version ADD COLUMN db_user text;
ALTER TABLE postcall.action_version
    ALTER COLUMN db_user SET DEFAULT session_user,
    ADD CONSTRAINT published_by_has_at_most_200_characters CHECK (char_length(published_by) <= 200) NOT VALID;
COMMENT ON COLUMN postcall.action_version.published_by IS 'Who published it, in that person''s own words';
COMMENT ON COLUMN postcall.action_version.db_user IS 'The database user who published it';

ALTER TABLE postcall.action_switch ADD COLUMN switched_by text, ADD COLUMN db_user text;
ALTER TABLE postcall.action_switch
    ALTER COLUMN db_user SET DEFAULT session_user,
    ADD CONSTRAINT switched_by_has_at_most_200_characters CHECK (char_length(switched_by) <= 200);
COMMENT ON COLUMN postcall.action_switch.switched_by IS 'Who switched it, in that person''s own words; null if nobody said';
COMMENT ON COLUMN postcall.action_switch.db_user IS 'The database user who switched it';

ALTER TABLE postcall.replay ADD COLUMN db_user text;
ALTER TABLE postcall.replay ALTER COLUMN db_user SET DEFAULT session_user;
COMMENT ON COLUMN postcall.replay.replayed_by IS 'Who asked for it, in that person''s own words';
COMMENT ON COLUMN postcall.replay.db_user IS 'The database user who asked for it';

ALTER TABLE postcall.resolution ADD COLUMN db_user text, ADD COLUMN error_detail text;
ALTER TABLE postcall.resolution
    ALTER COLUMN db_user SET DEFAULT session_user,
    ALTER COLUMN source SET DEFAULT 'person',
    ADD CONSTRAINT resolution_detail_has_at_most_1024_bytes CHECK (octet_length(error_detail) <= 1024);
COMMENT ON COLUMN postcall.resolution.resolved_by IS 'The dispatcher, or the person in that person''s own words';
COMMENT ON COLUMN postcall.resolution.db_user IS 'The database user who recorded it';
COMMENT ON COLUMN postcall.resolution.error_detail IS 'Why it failed, for people';

-- An action is switched by an UPDATE, which has no place for a name: the person's stands in the transaction's setting
-- postcall.person. SECURITY DEFINER, as before: whoever may switch an action need not have any right on its record.
CREATE OR REPLACE FUNCTION postcall.record_switch() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO postcall.action_switch (action_id, enabled, switched_by)
    VALUES (NEW.action_id, NEW.enabled, nullif(left(current_setting('postcall.person', true), 200), ''));
    RETURN NULL;
END
$$;

-- The last switch of an action, for those who list actions.
CREATE INDEX switch_by_action ON postcall.action_switch (action_id, switch_id);

-- Who recorded something, and when, is nobody's to choose: dispatchers had these columns too.
REVOKE INSERT ON postcall.resolution FROM postcall_dispatcher;
GRANT INSERT (delivery_id, source, state, resolved_by, reason, method, url, request_bytes, request_sha256, unresolved,
              error_kind, error_detail, response_code, response_bytes, response_sha256, body_end, latency_ms, dns_ms,
              connected_ms, head_ms) ON postcall.resolution TO postcall_dispatcher;

GRANT INSERT (action_id, version, method, url, timeout_ms, headers, body, published_by) ON postcall.action_version
    TO postcall_publisher;
GRANT SELECT (db_user) ON postcall.action_version TO postcall_auditor;
