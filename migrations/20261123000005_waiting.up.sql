-- The queue: one narrow row per delivery to be made, written in the platform's transaction, deleted by the claim.
-- It holds only what waits, so a claim costs the same whatever the length of history.
-- No foreign keys: each would make the platform's transaction lock, and so perhaps wait for, a row of ours.
CREATE TABLE postcall.waiting (
    delivery_id uuid        NOT NULL PRIMARY KEY,
    call_id     uuid        NOT NULL,
    agent       text        NOT NULL,
    action_id   bigint      NOT NULL,
    created_at  timestamptz NOT NULL
) WITH (
    -- Every row dies young. Vacuum by count, not by share, and without pauses: there is little to read.
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0
);
COMMENT ON TABLE postcall.waiting IS 'Deliveries that are to be made; a row here is in state waiting';
COMMENT ON COLUMN postcall.waiting.delivery_id IS 'The delivery; time-ordered, which is the order of sending';
COMMENT ON COLUMN postcall.waiting.call_id IS 'The call, in postcall.outbox';
COMMENT ON COLUMN postcall.waiting.agent IS 'The call''s agent';
COMMENT ON COLUMN postcall.waiting.action_id IS 'The action it is to be sent by; which version is decided by the claim';
COMMENT ON COLUMN postcall.waiting.created_at IS 'When the call was inserted, or the replay asked for';

-- UPDATE is what SELECT … FOR UPDATE asks for; no statement changes a row.
GRANT SELECT, INSERT, UPDATE, DELETE ON postcall.waiting TO postcall_dispatcher;
