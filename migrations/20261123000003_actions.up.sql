-- An action and its versions. An action is never deleted and its identity never changes: history refers to it.
CREATE TABLE postcall.action (
    action_id  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    agent      text        NOT NULL CONSTRAINT action_agent_must_not_be_empty CHECK (agent <> ''),
    name       text        NOT NULL DEFAULT 'default' CONSTRAINT action_name_must_not_be_empty CHECK (name <> ''),
    enabled    boolean     NOT NULL,
    version    integer     NOT NULL CONSTRAINT action_version_counts_from_one CHECK (version >= 1),
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT action_is_named_once_per_agent UNIQUE (agent, name)
);
COMMENT ON TABLE postcall.action IS 'What is sent for an agent''s calls; an agent has any number of actions';
COMMENT ON COLUMN postcall.action.action_id IS 'Identity; never reused';
COMMENT ON COLUMN postcall.action.agent IS 'The voice agent whose calls it is sent for';
COMMENT ON COLUMN postcall.action.name IS 'Its name among the agent''s actions';
COMMENT ON COLUMN postcall.action.enabled IS 'Whether new calls get a delivery, and waiting deliveries are sent';
COMMENT ON COLUMN postcall.action.version IS 'The newest version: the one that is sent';
COMMENT ON COLUMN postcall.action.created_at IS 'When its first version was published';

CREATE TABLE postcall.action_version (
    action_id    bigint      NOT NULL REFERENCES postcall.action,
    version      integer     NOT NULL CHECK (version >= 1),
    method       text        NOT NULL CHECK (method IN ('GET', 'POST', 'PUT')),
    url          text        NOT NULL CHECK (octet_length(url) BETWEEN 1 AND 65536),
    timeout_ms   integer     NOT NULL CHECK (timeout_ms BETWEEN 100 AND 120000),
    headers      text        CHECK (octet_length(headers) <= 65536),
    body         text        CHECK (octet_length(body) <= 65536),
    published_at timestamptz NOT NULL DEFAULT now(),
    published_by text        NOT NULL DEFAULT session_user,
    PRIMARY KEY (action_id, version)
);
COMMENT ON TABLE postcall.action_version IS 'One published version of an action: immutable';
COMMENT ON COLUMN postcall.action_version.action_id IS 'The action it is a version of';
COMMENT ON COLUMN postcall.action_version.version IS 'Counts from 1 within the action';
COMMENT ON COLUMN postcall.action_version.method IS 'HTTP method';
COMMENT ON COLUMN postcall.action_version.url IS 'URL template as written';
COMMENT ON COLUMN postcall.action_version.timeout_ms IS 'Deadline of the whole request, milliseconds';
COMMENT ON COLUMN postcall.action_version.headers IS 'Headers template as written; null if none';
COMMENT ON COLUMN postcall.action_version.body IS 'Body template as written; null means the whole call';
COMMENT ON COLUMN postcall.action_version.published_at IS 'When it was published';
COMMENT ON COLUMN postcall.action_version.published_by IS 'The database user who published it';

CREATE FUNCTION postcall.refuse_change() RETURNS trigger
    LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'rows of postcall.% are never changed or deleted', TG_TABLE_NAME
        USING ERRCODE = 'restrict_violation', HINT = TG_ARGV[0];
END
$$;
COMMENT ON FUNCTION postcall.refuse_change() IS 'Trigger: makes a table''s rows immutable, even for its owner';

CREATE TRIGGER versions_are_immutable BEFORE UPDATE OR DELETE ON postcall.action_version
    FOR EACH ROW EXECUTE FUNCTION postcall.refuse_change('Publish a new version instead.');
CREATE TRIGGER actions_stay BEFORE DELETE ON postcall.action
    FOR EACH ROW EXECUTE FUNCTION postcall.refuse_change('Disable the action instead.');

-- When which action was enabled: what tells, later, which calls ought to have been given a delivery. Written by a
-- trigger, so that no way of switching an action leaves it out. Nothing of it is on the platform's way.
CREATE TABLE postcall.action_switch (
    switch_id   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    action_id   bigint      NOT NULL REFERENCES postcall.action,
    enabled     boolean     NOT NULL,
    switched_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE postcall.action_switch IS 'Every switching of an action, its creation included';
COMMENT ON COLUMN postcall.action_switch.switch_id IS 'Counts up; the order within an action';
COMMENT ON COLUMN postcall.action_switch.action_id IS 'The action';
COMMENT ON COLUMN postcall.action_switch.enabled IS 'Whether it is enabled from then on';
COMMENT ON COLUMN postcall.action_switch.switched_at IS 'When, shortly before the switch was committed';

-- SECURITY DEFINER: whoever may switch an action need not have any right on its record.
CREATE FUNCTION postcall.record_switch() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO postcall.action_switch (action_id, enabled) VALUES (NEW.action_id, NEW.enabled);
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION postcall.record_switch() IS 'Trigger on postcall.action: records each switching';

CREATE TRIGGER record_creation AFTER INSERT ON postcall.action
    FOR EACH ROW EXECUTE FUNCTION postcall.record_switch();
CREATE TRIGGER record_switch AFTER UPDATE ON postcall.action
    FOR EACH ROW WHEN (OLD.enabled IS DISTINCT FROM NEW.enabled) EXECUTE FUNCTION postcall.record_switch();
CREATE TRIGGER switches_are_immutable BEFORE UPDATE OR DELETE ON postcall.action_switch
    FOR EACH ROW EXECUTE FUNCTION postcall.refuse_change('It is a record of what happened.');

GRANT SELECT ON postcall.action, postcall.action_version, postcall.action_switch TO postcall_dispatcher;
