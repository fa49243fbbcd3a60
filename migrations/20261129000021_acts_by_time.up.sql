-- What people did, the newest first (`postcall audit`, the console's page /audit): each table of acts by the time of the act, so
-- that a page reads as many rows as it shows, however many there are.
--
-- None of these tables is on the way of a call: rows come only by people who publish, switch, pause, resume, replay or resolve. The
-- late results that dispatchers record are not in the index of findings.
SET LOCAL lock_timeout = '3s';
CREATE INDEX version_by_time ON postcall.action_version (published_at);
CREATE INDEX switch_by_time ON postcall.action_switch (switched_at);
CREATE INDEX pause_by_time ON postcall.pause (paused_at);
CREATE INDEX pause_end_by_time ON postcall.pause_end (resumed_at);
CREATE INDEX replay_by_time ON postcall.replay (created_at);
CREATE INDEX finding_by_time ON postcall.resolution (resolved_at) WHERE source = 'person';
