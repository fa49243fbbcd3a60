-- Why an action was published, enabled or disabled, in the words of whoever did it. Null where nobody said, and in rows from
-- before this migration. Releases that do not know these columns leave them null.
SET LOCAL lock_timeout = '3s';

-- NOT VALID: the rows that exist have no reason, so there is nothing to read under a lock.
ALTER TABLE postcall.action_version ADD COLUMN reason text;
ALTER TABLE postcall.action_version
    ADD CONSTRAINT version_reason_has_1_to_1000_characters CHECK (char_length(reason) BETWEEN 1 AND 1000) NOT VALID;
COMMENT ON COLUMN postcall.action_version.reason IS 'Why it was published; null if nobody said';

ALTER TABLE postcall.action_switch ADD COLUMN reason text;
ALTER TABLE postcall.action_switch
    ADD CONSTRAINT switch_reason_has_1_to_1000_characters CHECK (char_length(reason) BETWEEN 1 AND 1000) NOT VALID;
COMMENT ON COLUMN postcall.action_switch.reason IS 'Why it was switched; null if nobody said';

-- As the person's name, the reason stands in a setting of the transaction: an UPDATE has no place for either.
CREATE OR REPLACE FUNCTION postcall.record_switch() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO postcall.action_switch (action_id, enabled, switched_by, reason)
    VALUES (NEW.action_id, NEW.enabled, nullif(left(current_setting('postcall.person', true), 200), ''),
            nullif(left(current_setting('postcall.reason', true), 1000), ''));
    RETURN NULL;
END
$$;

GRANT INSERT (reason) ON postcall.action_version TO postcall_publisher;
GRANT SELECT (reason) ON postcall.action_version TO postcall_auditor;
