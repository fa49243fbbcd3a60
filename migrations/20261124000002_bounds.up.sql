-- Bounds of what rows can hold. A name that an index cannot hold, or a time that no calculation can use, would stop
-- everybody whose rows share a statement with it.
--
-- NOT VALID: rows that exist are left alone, so that no table is read under a lock; every new row is checked.
SET LOCAL lock_timeout = '3s';

ALTER TABLE postcall.action
    ADD CONSTRAINT action_agent_has_at_most_200_characters CHECK (char_length(agent) <= 200) NOT VALID,
    ADD CONSTRAINT action_name_has_at_most_100_characters CHECK (char_length(name) <= 100) NOT VALID,
    ADD CONSTRAINT action_times_are_finite CHECK (isfinite(created_at)) NOT VALID;
ALTER TABLE postcall.action_version
    ADD CONSTRAINT version_times_are_finite CHECK (isfinite(published_at)) NOT VALID;
ALTER TABLE postcall.action_switch
    ADD CONSTRAINT switch_times_are_finite CHECK (isfinite(switched_at)) NOT VALID;
ALTER TABLE postcall.outbox
    ADD CONSTRAINT agent_has_at_most_200_characters CHECK (char_length(agent) <= 200) NOT VALID,
    ADD CONSTRAINT call_times_are_finite CHECK (isfinite(created_at)) NOT VALID;
ALTER TABLE postcall.waiting
    ADD CONSTRAINT waiting_times_are_finite CHECK (isfinite(created_at)) NOT VALID;
ALTER TABLE postcall.sending
    ADD CONSTRAINT sending_times_are_finite CHECK (isfinite(created_at) AND isfinite(claimed_at)) NOT VALID;
ALTER TABLE postcall.delivery
    ADD CONSTRAINT delivery_times_are_finite
        CHECK (isfinite(created_at) AND isfinite(claimed_at) AND isfinite(finished_at)) NOT VALID;
ALTER TABLE postcall.dispatcher
    ADD CONSTRAINT dispatcher_name_has_at_most_300_characters CHECK (char_length(name) <= 300) NOT VALID,
    ADD CONSTRAINT dispatcher_version_has_at_most_100_characters CHECK (char_length(version) <= 100) NOT VALID,
    ADD CONSTRAINT dispatcher_times_are_finite
        CHECK (isfinite(started_at) AND isfinite(lease_until) AND coalesce(isfinite(stopped_at), true)
               AND coalesce(isfinite(lost_at), true)) NOT VALID;
ALTER TABLE postcall.replay
    ADD CONSTRAINT replayed_by_has_at_most_200_characters CHECK (char_length(replayed_by) <= 200) NOT VALID,
    ADD CONSTRAINT replay_reason_has_at_most_1000_characters CHECK (char_length(reason) <= 1000) NOT VALID,
    ADD CONSTRAINT replay_times_are_finite CHECK (isfinite(created_at)) NOT VALID;
ALTER TABLE postcall.resolution
    ADD CONSTRAINT resolved_by_has_at_most_200_characters CHECK (char_length(resolved_by) <= 200) NOT VALID,
    ADD CONSTRAINT resolution_reason_has_at_most_1000_characters CHECK (char_length(reason) <= 1000) NOT VALID,
    ADD CONSTRAINT resolution_times_are_finite CHECK (isfinite(resolved_at)) NOT VALID;
