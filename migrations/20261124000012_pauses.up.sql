-- What is paused, by whom and why. What is paused waits; it does not fail.
--
-- A pause and its end are rows that are only ever added. What is paused at this moment stands in a small table of its own, so that
-- dispatchers, which ask for it every few seconds, never read the history of pauses. Triggers keep the two in step.
SET LOCAL lock_timeout = '3s';
-- The outbox is not locked: an insert of the platform reads postcall.action, and the lock that a foreign key takes there keeps no
-- reader waiting.

CREATE TABLE postcall.pause (
    pause_id  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    agent     text,
    action_id bigint      REFERENCES postcall.action,
    host      text,
    reason    text        NOT NULL,
    paused_by text        NOT NULL,
    paused_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    db_user   text        NOT NULL DEFAULT session_user,
    CONSTRAINT a_pause_has_one_target CHECK (num_nonnulls(agent, action_id, host) = 1),
    CONSTRAINT paused_agent_has_1_to_200_characters CHECK (char_length(agent) BETWEEN 1 AND 200),
    -- As the url crate writes a host: lower case, ASCII (IDNA), perhaps with a port; nothing else of a URL.
    CONSTRAINT paused_host_is_normalised CHECK (octet_length(host) <= 300 AND host ~ '^[!-@[-~]+$' AND host !~ '[/?#@\\]'),
    CONSTRAINT pause_reason_has_1_to_1000_characters CHECK (char_length(reason) BETWEEN 1 AND 1000),
    CONSTRAINT paused_by_has_1_to_200_characters CHECK (char_length(paused_by) BETWEEN 1 AND 200),
    CONSTRAINT pause_times_are_in_range CHECK (paused_at >= '2000-01-01Z' AND paused_at < '10000-01-01Z')
);
COMMENT ON TABLE postcall.pause IS 'Every pause that there ever was: of an agent, an action or a host; never changed';
COMMENT ON COLUMN postcall.pause.pause_id IS 'Identity; counts up';
COMMENT ON COLUMN postcall.pause.agent IS 'The agent all of whose actions are paused; null if the target is another one';
COMMENT ON COLUMN postcall.pause.action_id IS 'The action that is paused; null if the target is another one';
COMMENT ON COLUMN postcall.pause.host IS
    'The host that is paused, with its port (crm.example:8443) or for all ports (crm.example); null if the target is another one';
COMMENT ON COLUMN postcall.pause.reason IS 'Why';
COMMENT ON COLUMN postcall.pause.paused_by IS 'Who paused it, in that person''s own words';
COMMENT ON COLUMN postcall.pause.paused_at IS 'When';
COMMENT ON COLUMN postcall.pause.db_user IS 'The database user who paused it';

CREATE TABLE postcall.pause_end (
    pause_id   bigint      NOT NULL PRIMARY KEY REFERENCES postcall.pause,
    reason     text        NOT NULL,
    resumed_by text        NOT NULL,
    resumed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    db_user    text        NOT NULL DEFAULT session_user,
    CONSTRAINT pause_end_reason_has_1_to_1000_characters CHECK (char_length(reason) BETWEEN 1 AND 1000),
    CONSTRAINT resumed_by_has_1_to_200_characters CHECK (char_length(resumed_by) BETWEEN 1 AND 200),
    CONSTRAINT pause_end_times_are_in_range CHECK (resumed_at >= '2000-01-01Z' AND resumed_at < '10000-01-01Z')
);
COMMENT ON TABLE postcall.pause_end IS 'The ends of pauses; never changed';
COMMENT ON COLUMN postcall.pause_end.pause_id IS 'The pause that ended';
COMMENT ON COLUMN postcall.pause_end.reason IS 'Why it ended';
COMMENT ON COLUMN postcall.pause_end.resumed_by IS 'Who resumed it, in that person''s own words';
COMMENT ON COLUMN postcall.pause_end.resumed_at IS 'When';
COMMENT ON COLUMN postcall.pause_end.db_user IS 'The database user who resumed it';

-- No foreign key to the pause: the row is written by a trigger before the pause itself is.
CREATE TABLE postcall.active_pause (
    pause_id  bigint NOT NULL PRIMARY KEY,
    agent     text   CONSTRAINT an_agent_is_paused_once UNIQUE,
    action_id bigint CONSTRAINT an_action_is_paused_once UNIQUE,
    host      text   CONSTRAINT a_host_is_paused_once UNIQUE
);
COMMENT ON TABLE postcall.active_pause IS 'What is paused at this moment: the pauses without an end';
COMMENT ON COLUMN postcall.active_pause.pause_id IS 'The pause, in postcall.pause';
COMMENT ON COLUMN postcall.active_pause.agent IS 'As in postcall.pause, as are all columns that follow';
COMMENT ON COLUMN postcall.active_pause.action_id IS 'The action';
COMMENT ON COLUMN postcall.active_pause.host IS 'The host';

-- A target is paused once at a time. Whoever comes second waits until the first one's transaction is over (and only for a pause
-- of the same target), and then nothing is inserted: who inserts looks at how many rows it were.
--
-- All dispatchers keep all active pauses in memory, so their number is bounded. Publishers at the same moment may pass the bound by
-- a few: nothing depends on its being exact.
--
-- SECURITY DEFINER: whoever may pause need not have any right on what is derived from that.
CREATE FUNCTION postcall.admit_pause() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    most_pauses CONSTANT integer := 1000;
BEGIN
    INSERT INTO postcall.active_pause (pause_id, agent, action_id, host)
    VALUES (NEW.pause_id, NEW.agent, NEW.action_id, NEW.host)
    ON CONFLICT DO NOTHING;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    IF (SELECT count(*) FROM postcall.active_pause) > most_pauses THEN
        RAISE EXCEPTION '% pauses are active, and there cannot be more', most_pauses
            USING ERRCODE = 'restrict_violation', CONSTRAINT = 'active_pauses_are_bounded',
                  HINT = 'Resume what need not be paused any longer.';
    END IF;
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION postcall.admit_pause() IS
    'Trigger on postcall.pause: takes a pause only of what is not paused, and notes it as active';
REVOKE EXECUTE ON FUNCTION postcall.admit_pause() FROM PUBLIC;
CREATE TRIGGER admit_pause BEFORE INSERT ON postcall.pause
    FOR EACH ROW EXECUTE FUNCTION postcall.admit_pause();

-- Of two who resume the same at the same time, the second waits for the row, finds it gone, and inserts nothing.
CREATE FUNCTION postcall.admit_pause_end() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    DELETE FROM postcall.active_pause WHERE active_pause.pause_id = NEW.pause_id;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION postcall.admit_pause_end() IS
    'Trigger on postcall.pause_end: takes an end only of a pause that is active, which it then is no longer';
REVOKE EXECUTE ON FUNCTION postcall.admit_pause_end() FROM PUBLIC;
CREATE TRIGGER admit_pause_end BEFORE INSERT ON postcall.pause_end
    FOR EACH ROW EXECUTE FUNCTION postcall.admit_pause_end();

CREATE TRIGGER pauses_are_immutable BEFORE UPDATE OR DELETE ON postcall.pause
    FOR EACH ROW EXECUTE FUNCTION postcall.refuse_change('Resume it, and pause anew.');
CREATE TRIGGER pause_ends_are_immutable BEFORE UPDATE OR DELETE ON postcall.pause_end
    FOR EACH ROW EXECUTE FUNCTION postcall.refuse_change('It is a record of what happened.');
CREATE TRIGGER active_pauses_stay_as_they_are BEFORE UPDATE ON postcall.active_pause
    FOR EACH ROW EXECUTE FUNCTION postcall.refuse_change('Resume it, and pause anew.');
ALTER TABLE postcall.pause ENABLE ALWAYS TRIGGER pauses_are_immutable;
ALTER TABLE postcall.pause_end ENABLE ALWAYS TRIGGER pause_ends_are_immutable;
ALTER TABLE postcall.active_pause ENABLE ALWAYS TRIGGER active_pauses_stay_as_they_are;
SELECT postcall.guard_against_truncate('postcall.pause'),
       postcall.guard_against_truncate('postcall.pause_end'),
       postcall.guard_against_truncate('postcall.active_pause');

-- Where an action's deliveries go: scheme, host and port as they are written, nothing that can be a secret. With it those who may
-- not read templates see what a pause of a host concerns. What has a user or a password before its host is never sent.
--
-- By split_part, which takes a tenth of a regular expression's time: all actions are read to find those of a host.
CREATE VIEW postcall.action_target AS
SELECT action.action_id, action.agent, action.name,
       CASE WHEN lower(parts.scheme) IN ('https:', 'http:') AND parts.nothing = '' AND strpos(parts.host, '@') = 0
            THEN parts.scheme || '//' || parts.host END AS target
FROM postcall.action
JOIN postcall.action_version ON action_version.action_id = action.action_id AND action_version.version = action.version
CROSS JOIN LATERAL (
    SELECT btrim(split_part(literal.url, '/', 1), E' \t\n\r\f') AS scheme,
           split_part(literal.url, '/', 2) AS nothing,
           btrim(split_part(split_part(split_part(literal.url, '/', 3), '?', 1), '#', 1), E' \t\n\r\f') AS host
    FROM (SELECT left(action_version.url, 1024) AS url OFFSET 0) AS literal
    OFFSET 0
) AS parts;
COMMENT ON VIEW postcall.action_target IS 'Where each action''s newest version goes';
COMMENT ON COLUMN postcall.action_target.action_id IS 'The action';
COMMENT ON COLUMN postcall.action_target.agent IS 'Its agent';
COMMENT ON COLUMN postcall.action_target.name IS 'Its name among the agent''s actions';
COMMENT ON COLUMN postcall.action_target.target IS 'Scheme, host and port of its URL as written; null if it has no such';

GRANT SELECT ON postcall.pause, postcall.pause_end, postcall.active_pause, postcall.action_target
    TO postcall_dispatcher, postcall_publisher, postcall_auditor;
GRANT INSERT (agent, action_id, host, reason, paused_by) ON postcall.pause TO postcall_publisher;
GRANT INSERT (pause_id, reason, resumed_by) ON postcall.pause_end TO postcall_publisher;
