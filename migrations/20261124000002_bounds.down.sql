-- As on the way up, the outbox first: no insert may be the victim of a deadlock.
LOCK TABLE postcall.outbox IN ACCESS EXCLUSIVE MODE;

ALTER TABLE postcall.resolution
    DROP CONSTRAINT resolved_by_has_at_most_200_characters,
    DROP CONSTRAINT resolution_reason_has_at_most_1000_characters,
    DROP CONSTRAINT resolution_times_are_in_range;
ALTER TABLE postcall.replay
    DROP CONSTRAINT replayed_by_has_at_most_200_characters,
    DROP CONSTRAINT replay_reason_has_at_most_1000_characters,
    DROP CONSTRAINT replay_times_are_in_range;
ALTER TABLE postcall.dispatcher
    DROP CONSTRAINT dispatcher_name_has_at_most_300_characters,
    DROP CONSTRAINT dispatcher_version_has_at_most_100_characters,
    DROP CONSTRAINT dispatcher_times_are_in_range;
ALTER TABLE postcall.delivery DROP CONSTRAINT delivery_times_are_in_range;
ALTER TABLE postcall.sending DROP CONSTRAINT sending_times_are_in_range;
ALTER TABLE postcall.waiting DROP CONSTRAINT waiting_times_are_in_range;
ALTER TABLE postcall.outbox
    DROP CONSTRAINT agent_has_at_most_200_characters,
    DROP CONSTRAINT call_times_are_in_range;
ALTER TABLE postcall.action_switch DROP CONSTRAINT switch_times_are_in_range;
ALTER TABLE postcall.action_version DROP CONSTRAINT version_times_are_in_range;
ALTER TABLE postcall.action
    DROP CONSTRAINT action_agent_has_at_most_200_characters,
    DROP CONSTRAINT action_name_has_at_most_100_characters,
    DROP CONSTRAINT action_times_are_in_range;
