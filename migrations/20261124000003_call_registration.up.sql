-- What is known of a call is written down once, when it is inserted: which actions it is to be delivered by, how long its
-- text is, and the provider's id in it. Everything later reads these columns and not the payload.
--
-- - action_ids is the decision itself. The deliveries are made from it, so the accounts can be checked exactly, whatever the
--   inserting transaction could see of an action that was switched at the same time.
-- - call_bytes lets a claim know what a payload weighs before it fetches it.
-- - call_sid is carried along to waiting, sending and history.
-- Rows from before this migration have null in all three.
SET LOCAL lock_timeout = '3s';
-- First what an insert of the platform locks first: in another order, the two could wait for each other in a circle, and the
-- server would make one of them fail.
LOCK TABLE postcall.outbox IN ACCESS EXCLUSIVE MODE;

-- The former version called a subquery, which kept the planner from inlining it (39 µs instead of 4).
-- 60 bits of time: microseconds since 1970 times 4096/1000 are the milliseconds and, in twelve more bits, their fraction.
CREATE OR REPLACE FUNCTION postcall.uuid_v7() RETURNS uuid
    LANGUAGE sql VOLATILE PARALLEL SAFE
RETURN (overlay(lpad(to_hex((extract(epoch FROM clock_timestamp()) * 1000000)::bigint * 512 / 125), 15, '0')
                PLACING '7' FROM 13 FOR 0)
        || right(gen_random_uuid()::text, 17))::uuid;

-- The one rule of what a call's provider id is: callInfo.callSid if it is a string or a number, as text, the first 256
-- characters of it. The json operators refuse a document that holds an escaped NUL or half an emoji anywhere; such a call
-- has no id here. PARALLEL UNSAFE, because a block with EXCEPTION begins a subtransaction, which no parallel worker may.
CREATE OR REPLACE FUNCTION postcall.call_sid(call json) RETURNS text
    LANGUAGE plpgsql IMMUTABLE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    sid json;
BEGIN
    -- Not where it is declared: an error there is past this block's EXCEPTION.
    sid := call #> '{callInfo,callSid}';
    RETURN CASE WHEN json_typeof(sid) IN ('string', 'number') THEN nullif(left(sid #>> '{}', 256), '') END;
EXCEPTION WHEN OTHERS THEN
    -- Whatever it is, no call is refused for the sake of its id.
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION postcall.call_sid(json) IS
    'callInfo.callSid of a call: a string or a number, its first 256 characters; else null';
REVOKE EXECUTE ON FUNCTION postcall.call_sid(json) FROM PUBLIC;
-- The previous release's view and dispatchers call it: a view does not lend its owner's rights to the functions in it.
GRANT EXECUTE ON FUNCTION postcall.call_sid(json) TO postcall_dispatcher, postcall_publisher, postcall_auditor;

ALTER TABLE postcall.outbox
    ADD COLUMN action_ids bigint[],
    ADD COLUMN call_bytes integer,
    ADD COLUMN call_sid   text;
COMMENT ON COLUMN postcall.outbox.action_ids IS
    'The actions that were enabled for its agent when it was inserted: it is delivered by these; null before that was kept';
COMMENT ON COLUMN postcall.outbox.call_bytes IS 'Bytes of the call''s text; null before that was kept';
COMMENT ON COLUMN postcall.outbox.call_sid IS 'The provider''s id of the call (postcall.call_sid); null before that was kept';

ALTER TABLE postcall.waiting
    ADD COLUMN call_bytes integer,
    ADD COLUMN call_sid   text;
COMMENT ON COLUMN postcall.waiting.call_bytes IS 'As in postcall.outbox';
COMMENT ON COLUMN postcall.waiting.call_sid IS 'As in postcall.outbox';

-- Not call_sid: the previous release's dispatchers join this table to a column of that name, which would become ambiguous.
ALTER TABLE postcall.sending
    ADD COLUMN call_bytes integer,
    ADD COLUMN sid        text;
COMMENT ON COLUMN postcall.sending.call_bytes IS 'As in postcall.outbox';
COMMENT ON COLUMN postcall.sending.sid IS 'call_sid of postcall.outbox';

GRANT SELECT (action_ids, call_bytes, call_sid) ON postcall.outbox TO postcall_auditor, postcall_publisher;

-- For deliveries that a dispatcher of the previous release has put back: it does not carry their columns along. A function,
-- so that the statement which claims does not have to prepare for reading every partition several times.
CREATE FUNCTION postcall.registration(call_id uuid, OUT call_bytes integer, OUT call_sid text)
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    SELECT coalesce(outbox.call_bytes, octet_length(outbox.call::text)),
           CASE WHEN outbox.call_bytes IS NULL THEN postcall.call_sid(outbox.call) ELSE outbox.call_sid END
    INTO registration.call_bytes, registration.call_sid
    FROM postcall.outbox WHERE outbox.id = registration.call_id;
END
$$;
COMMENT ON FUNCTION postcall.registration(uuid) IS
    'A call''s length and provider id: as they were kept, or found out now; null if its payload is gone';
REVOKE EXECUTE ON FUNCTION postcall.registration(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION postcall.registration(uuid) TO postcall_dispatcher;

-- SECURITY DEFINER: the platform need not be able to read actions. What a malicious caller can make it do: nothing, since
-- nobody but the owner may execute it, and the owner has bound it to the outbox.
CREATE FUNCTION postcall.register_call() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    NEW.call_bytes := octet_length(NEW.call::text);
    NEW.call_sid := postcall.call_sid(NEW.call);
    NEW.action_ids := ARRAY(SELECT action_id FROM postcall.action
                            WHERE action.agent = NEW.agent AND action.enabled
                            ORDER BY action_id);
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION postcall.register_call() IS
    'Trigger on postcall.outbox: which actions the call is to be delivered by, its length and its provider''s id';
REVOKE EXECUTE ON FUNCTION postcall.register_call() FROM PUBLIC;

CREATE TRIGGER register_call BEFORE INSERT ON postcall.outbox
    FOR EACH ROW EXECUTE FUNCTION postcall.register_call();

-- As before, with three differences. The deliveries are those of action_ids. A bell that lies further ahead than any sleep is
-- ignored: whoever may set it cannot make every insert notify. And a database, a role or a transaction that says
-- postcall.wake_up = 'poll' never notifies: PREPARE TRANSACTION refuses a transaction that has.
CREATE OR REPLACE FUNCTION postcall.await_deliveries() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    -- Dispatchers sleep for a second or two.
    longest_sleep_ms CONSTANT bigint := 10000;
    now_ms           bigint;
    asleep_until_ms  bigint;
BEGIN
    INSERT INTO postcall.waiting (delivery_id, call_id, agent, action_id, created_at, call_bytes, call_sid)
    SELECT postcall.uuid_v7(), new_call.id, new_call.agent, action_id, new_call.created_at, new_call.call_bytes,
           new_call.call_sid
    FROM new_call, unnest(new_call.action_ids) AS action_id;

    IF FOUND AND coalesce(current_setting('postcall.wake_up', true), '') <> 'poll' THEN
        now_ms := extract(epoch FROM clock_timestamp()) * 1000;
        SELECT last_value INTO asleep_until_ms FROM postcall.bell;
        IF asleep_until_ms > now_ms AND asleep_until_ms <= now_ms + longest_sleep_ms THEN
            PERFORM pg_notify('postcall', '');
        END IF;
    END IF;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION postcall.await_deliveries() IS
    'Trigger on postcall.outbox: one waiting delivery per new call and action in its action_ids';
