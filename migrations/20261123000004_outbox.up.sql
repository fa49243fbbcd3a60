-- What the platform writes: insert-only, never updated, partitioned by time so that old payloads leave by dropping a
-- partition. The default partition takes every id for which there is no other, so that no insert fails for want of one.
CREATE TABLE postcall.outbox (
    id         uuid        NOT NULL DEFAULT postcall.uuid_v7(),
    agent      text        NOT NULL CONSTRAINT agent_must_not_be_empty CHECK (agent <> ''),
    call       json        NOT NULL CONSTRAINT call_must_be_a_json_object CHECK (json_typeof(call) = 'object'),
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT outbox_takes_each_id_once PRIMARY KEY (id)
) PARTITION BY RANGE (id);

-- lz4 reads and writes several times faster than pglz; a server built without it keeps its default.
DO $$
BEGIN
    ALTER TABLE postcall.outbox ALTER COLUMN call SET COMPRESSION lz4;
EXCEPTION WHEN feature_not_supported THEN
    RAISE NOTICE 'this server has no lz4; calls are compressed by its default method';
END
$$;

CREATE TABLE postcall.outbox_default PARTITION OF postcall.outbox DEFAULT;

COMMENT ON TABLE postcall.outbox IS 'Completed calls, inserted by the platform in its own transaction';
COMMENT ON COLUMN postcall.outbox.id IS 'The call''s id; time-ordered by default, or the platform''s own';
COMMENT ON COLUMN postcall.outbox.agent IS 'The voice agent that held the call';
COMMENT ON COLUMN postcall.outbox.call IS 'The completed call as one JSON object, kept to the letter';
COMMENT ON COLUMN postcall.outbox.created_at IS 'When it was inserted';

-- The id may be read back (RETURNING id, ON CONFLICT (id) DO NOTHING); nothing else may. created_at is not the
-- platform's to choose: history is searched by it.
GRANT INSERT (id, agent, call), SELECT (id) ON postcall.outbox TO postcall_platform;
GRANT SELECT ON postcall.outbox TO postcall_dispatcher;
