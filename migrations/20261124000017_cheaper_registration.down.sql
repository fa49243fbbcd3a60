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

CREATE OR REPLACE FUNCTION postcall.register_call() RETURNS trigger
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
