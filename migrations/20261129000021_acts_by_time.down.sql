SET LOCAL lock_timeout = '3s';
DROP INDEX postcall.finding_by_time;
DROP INDEX postcall.replay_by_time;
DROP INDEX postcall.pause_end_by_time;
DROP INDEX postcall.pause_by_time;
DROP INDEX postcall.switch_by_time;
DROP INDEX postcall.version_by_time;
