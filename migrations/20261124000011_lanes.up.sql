-- The order of sending within a lane: a lane is what waits for one action. A claim names lanes, and takes the oldest of each.
--
-- The primary key stays: it finds one delivery, shows what waits in order of time, and is what the previous release claims by.
SET LOCAL lock_timeout = '3s';
-- First what an insert of the platform locks first, so that the two cannot wait for each other in a circle. Inserts wait while the
-- index is built: about a second for a million deliveries that wait.
LOCK TABLE postcall.outbox IN ACCESS EXCLUSIVE MODE;

CREATE INDEX waiting_by_lane ON postcall.waiting (action_id, delivery_id);
