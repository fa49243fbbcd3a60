-- What is in flight. The claim moves a row here, and commits, before the first byte of its request leaves: whatever
-- dies afterwards, the delivery is known to have been about to be sent, by whom and since when.
CREATE TABLE postcall.sending (
    delivery_id    uuid        NOT NULL PRIMARY KEY,
    call_id        uuid        NOT NULL,
    agent          text        NOT NULL,
    action_id      bigint      NOT NULL,
    action_version integer     NOT NULL,
    created_at     timestamptz NOT NULL,
    dispatcher_id  integer     NOT NULL,
    claim          uuid        NOT NULL,
    claimed_at     timestamptz NOT NULL
) WITH (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0
);
COMMENT ON TABLE postcall.sending IS 'Deliveries in flight; a row here is in state sending';
COMMENT ON COLUMN postcall.sending.delivery_id IS 'The delivery';
COMMENT ON COLUMN postcall.sending.call_id IS 'The call, in postcall.outbox';
COMMENT ON COLUMN postcall.sending.agent IS 'The call''s agent';
COMMENT ON COLUMN postcall.sending.action_id IS 'The action it is sent by';
COMMENT ON COLUMN postcall.sending.action_version IS 'The version that is sent: the newest when it was claimed';
COMMENT ON COLUMN postcall.sending.created_at IS 'When the call was inserted, or the replay asked for';
COMMENT ON COLUMN postcall.sending.dispatcher_id IS 'Who sends it';
COMMENT ON COLUMN postcall.sending.claim IS 'Token of the claim: only its holder may finish the delivery';
COMMENT ON COLUMN postcall.sending.claimed_at IS 'When it was claimed';

GRANT SELECT, INSERT, UPDATE, DELETE ON postcall.sending TO postcall_dispatcher;
