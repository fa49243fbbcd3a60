-- Bounds of what rows can hold. A name that an index cannot hold, or a time that no calculation can use (infinity) and no
-- client can read (the year 262143 ends chrono's calendar), would stop everybody whose rows share a statement with it.
--
-- NOT VALID: rows that exist are left alone, so that no table is read under a lock; every new row is checked.
SET LOCAL lock_timeout = '3s';
-- The outbox first, as an insert does: who inserts then either is through, or waits without holding anything that this file
-- needs. In any other order the platform could be the victim of a deadlock.
LOCK TABLE postcall.outbox IN ACCESS EXCLUSIVE MODE;

-- An action with a longer name could not even be disabled any more. Calls of its agent would be refused as well, so this is
-- said before, and not found out by the platform.
DO $$
DECLARE
    too_long text;
BEGIN
    SELECT format('agent %s…, action %s…', left(agent, 20), left(name, 20)) INTO too_long
    FROM postcall.action WHERE char_length(agent) > 200 OR char_length(name) > 100 LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'an agent has more than 200 characters, or an action more than 100: %', too_long
            USING ERRCODE = 'check_violation',
                  HINT = 'Publish it under a shorter name, let the platform use that, and shorten the old row: UPDATE postcall.action.';
    END IF;
END
$$;

ALTER TABLE postcall.action
    ADD CONSTRAINT action_agent_has_at_most_200_characters CHECK (char_length(agent) <= 200) NOT VALID,
    ADD CONSTRAINT action_name_has_at_most_100_characters CHECK (char_length(name) <= 100) NOT VALID,
    ADD CONSTRAINT action_times_are_in_range
        CHECK (created_at >= '2000-01-01Z' AND created_at < '10000-01-01Z') NOT VALID;
ALTER TABLE postcall.action_version
    ADD CONSTRAINT version_times_are_in_range
        CHECK (published_at >= '2000-01-01Z' AND published_at < '10000-01-01Z') NOT VALID;
ALTER TABLE postcall.action_switch
    ADD CONSTRAINT switch_times_are_in_range
        CHECK (switched_at >= '2000-01-01Z' AND switched_at < '10000-01-01Z') NOT VALID;
ALTER TABLE postcall.outbox
    ADD CONSTRAINT agent_has_at_most_200_characters CHECK (char_length(agent) <= 200) NOT VALID,
    ADD CONSTRAINT call_times_are_in_range
        CHECK (created_at >= '2000-01-01Z' AND created_at < '10000-01-01Z') NOT VALID;
ALTER TABLE postcall.waiting
    ADD CONSTRAINT waiting_times_are_in_range
        CHECK (created_at >= '2000-01-01Z' AND created_at < '10000-01-01Z') NOT VALID;
ALTER TABLE postcall.sending
    ADD CONSTRAINT sending_times_are_in_range
        CHECK (least(created_at, claimed_at) >= '2000-01-01Z'
               AND greatest(created_at, claimed_at) < '10000-01-01Z') NOT VALID;
ALTER TABLE postcall.delivery
    ADD CONSTRAINT delivery_times_are_in_range
        CHECK (least(created_at, claimed_at, finished_at) >= '2000-01-01Z'
               AND greatest(created_at, claimed_at, finished_at) < '10000-01-01Z') NOT VALID;
ALTER TABLE postcall.dispatcher
    ADD CONSTRAINT dispatcher_name_has_at_most_300_characters CHECK (char_length(name) <= 300) NOT VALID,
    ADD CONSTRAINT dispatcher_version_has_at_most_100_characters CHECK (char_length(version) <= 100) NOT VALID,
    ADD CONSTRAINT dispatcher_times_are_in_range
        CHECK (least(started_at, lease_until, stopped_at, lost_at) >= '2000-01-01Z'
               AND greatest(started_at, lease_until, stopped_at, lost_at) < '10000-01-01Z') NOT VALID;
ALTER TABLE postcall.replay
    ADD CONSTRAINT replayed_by_has_at_most_200_characters CHECK (char_length(replayed_by) <= 200) NOT VALID,
    ADD CONSTRAINT replay_reason_has_at_most_1000_characters CHECK (char_length(reason) <= 1000) NOT VALID,
    ADD CONSTRAINT replay_times_are_in_range
        CHECK (created_at >= '2000-01-01Z' AND created_at < '10000-01-01Z') NOT VALID;
ALTER TABLE postcall.resolution
    ADD CONSTRAINT resolved_by_has_at_most_200_characters CHECK (char_length(resolved_by) <= 200) NOT VALID,
    ADD CONSTRAINT resolution_reason_has_at_most_1000_characters CHECK (char_length(reason) <= 1000) NOT VALID,
    ADD CONSTRAINT resolution_times_are_in_range
        CHECK (resolved_at >= '2000-01-01Z' AND resolved_at < '10000-01-01Z') NOT VALID;
