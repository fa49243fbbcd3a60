-- A delivery made by hand from an earlier one: who asked for it, and why. A delivery is replayed once; to send the
-- message again, its replay is replayed. So the deliveries of one message are a chain, and the unique constraint alone
-- decides between two people who replay the same delivery at the same time.
CREATE TABLE postcall.replay (
    delivery_id uuid        NOT NULL PRIMARY KEY,
    replay_of   uuid        NOT NULL CHECK (replay_of <> delivery_id),
    message_id  uuid        NOT NULL,
    replayed_by text        NOT NULL CHECK (replayed_by <> ''),
    reason      text        NOT NULL CHECK (reason <> ''),
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT a_delivery_is_replayed_once UNIQUE (replay_of)
);
-- The other deliveries of the same message.
CREATE INDEX replay_by_message ON postcall.replay (message_id);

COMMENT ON TABLE postcall.replay IS 'Deliveries made by hand from earlier ones';
COMMENT ON COLUMN postcall.replay.delivery_id IS 'The new delivery';
COMMENT ON COLUMN postcall.replay.replay_of IS 'The delivery it repeats';
COMMENT ON COLUMN postcall.replay.message_id IS 'The first delivery''s id, which receivers see as webhook-id';
COMMENT ON COLUMN postcall.replay.replayed_by IS 'Who asked for it';
COMMENT ON COLUMN postcall.replay.reason IS 'Why';
COMMENT ON COLUMN postcall.replay.created_at IS 'When';

CREATE TRIGGER replays_are_immutable BEFORE UPDATE OR DELETE ON postcall.replay
    FOR EACH ROW EXECUTE FUNCTION postcall.refuse_change('It is a record of what happened.');

GRANT SELECT ON postcall.replay TO postcall_dispatcher;
