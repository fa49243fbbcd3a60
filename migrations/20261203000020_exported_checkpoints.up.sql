-- Checkpoints may be exported to a URL of the operator (`run --checkpoint-url`), which is not always there. Up to where they were exported is
-- noted here, because whoever seals next may be a process on another machine. It is not evidence: whoever changes it can have checkpoints
-- exported again, or left out, but not the newest one, which each sealer exports when it begins, and which continues all earlier ones.
--
-- Nullable, so that nothing is rewritten, and earlier releases do not see it.
SET LOCAL lock_timeout = '3s';
ALTER TABLE postcall.seal_turn ADD COLUMN exported_size bigint;
COMMENT ON COLUMN postcall.seal_turn.exported_size IS
    'How many leaves the log had at the newest checkpoint that a sealer exported to its --checkpoint-url; null if none was';
GRANT UPDATE (exported_size) ON postcall.seal_turn TO postcall_sealer;
-- `postcall doctor` says for each role how far exporting is; dispatchers that do not seal see nothing else of this table.
GRANT SELECT (exported_size) ON postcall.seal_turn TO postcall_dispatcher;
