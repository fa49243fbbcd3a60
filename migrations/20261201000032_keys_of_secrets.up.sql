-- Who sets a secret is recorded when its value changes. Publishers may change the other columns as well, because they set all of them
-- at once; one who changed the key alone made every secret unreadable without leaving a record. Only the owner changes a key without
-- the value: that is `postcall secret rekey`.
SET LOCAL lock_timeout = '3s';

CREATE FUNCTION postcall.refuse_lone_key() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT pg_has_role((SELECT relowner FROM pg_class WHERE oid = TG_RELID), 'MEMBER') THEN
        RAISE EXCEPTION 'the key of a secret changes with its value' USING ERRCODE = 'insufficient_privilege',
            HINT = 'Only the owner of the schema changes keys alone (postcall secret rekey).';
    END IF;
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION postcall.refuse_lone_key() IS
    'Trigger on postcall.secret: only the owner changes the key of a secret without its value, which is recorded';
REVOKE EXECUTE ON FUNCTION postcall.refuse_lone_key() FROM PUBLIC;
CREATE TRIGGER keys_change_with_their_value BEFORE UPDATE ON postcall.secret
    FOR EACH ROW WHEN (NEW.sealed_value IS NOT DISTINCT FROM OLD.sealed_value) EXECUTE FUNCTION postcall.refuse_lone_key();
ALTER TABLE postcall.secret ENABLE ALWAYS TRIGGER keys_change_with_their_value;
