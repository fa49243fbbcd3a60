SET LOCAL lock_timeout = '3s';
LOCK TABLE postcall.delivery, postcall.resolution, postcall.replay, postcall.action_version, postcall.action_switch, postcall.pause,
    postcall.pause_end, postcall.retention IN ACCESS EXCLUSIVE MODE;

DROP FUNCTION postcall.continue_seals();
DROP FUNCTION postcall.version_digest(bigint, integer);
DROP TABLE postcall.seal_node, postcall.seal_slice, postcall.seal_turn;
DROP TRIGGER record_pruning ON postcall.retention;
DROP TABLE postcall.pruning;
DROP FUNCTION postcall.record_pruning();

GRANT INSERT ON postcall.delivery TO postcall_dispatcher;
-- The indexes go with the column.
ALTER TABLE postcall.delivery DROP COLUMN xact;
ALTER TABLE postcall.resolution DROP COLUMN xact;
ALTER TABLE postcall.replay DROP COLUMN xact;
ALTER TABLE postcall.action_version DROP COLUMN xact;
ALTER TABLE postcall.action_switch DROP COLUMN xact;
ALTER TABLE postcall.pause DROP COLUMN xact;
ALTER TABLE postcall.pause_end DROP COLUMN xact;

REVOKE ALL ON ALL TABLES IN SCHEMA postcall FROM postcall_sealer;
REVOKE ALL ON SCHEMA postcall FROM postcall_sealer;
-- A role that another database of the cluster still uses stays.
DO $$
BEGIN
    DROP ROLE postcall_sealer;
EXCEPTION
    WHEN dependent_objects_still_exist THEN
        RAISE NOTICE 'role postcall_sealer is used elsewhere in this cluster and stays';
    WHEN insufficient_privilege THEN
        RAISE NOTICE 'role postcall_sealer stays: the user % may not drop it', current_user;
END
$$;
