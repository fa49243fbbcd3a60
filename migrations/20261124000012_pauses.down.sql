SET LOCAL lock_timeout = '3s';
-- Dropping a foreign key locks the table that it refers to, and an insert of the platform reads that one: so what such an insert
-- locks first is locked first here, too.
LOCK TABLE postcall.outbox IN ACCESS EXCLUSIVE MODE;
DROP VIEW postcall.action_target;
DROP TABLE postcall.active_pause, postcall.pause_end, postcall.pause;
DROP FUNCTION postcall.admit_pause_end();
DROP FUNCTION postcall.admit_pause();
