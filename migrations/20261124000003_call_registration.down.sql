CREATE OR REPLACE FUNCTION postcall.await_deliveries() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO postcall.waiting (delivery_id, call_id, agent, action_id, created_at)
    SELECT postcall.uuid_v7(), new_call.id, new_call.agent, action.action_id, new_call.created_at
    FROM new_call
    JOIN postcall.action ON action.agent = new_call.agent
    WHERE action.enabled;

    IF FOUND AND (SELECT last_value FROM postcall.bell) > extract(epoch FROM clock_timestamp()) * 1000 THEN
        PERFORM pg_notify('postcall', '');
    END IF;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION postcall.await_deliveries() IS
    'Trigger on postcall.outbox: one waiting delivery per new call and enabled action of its agent';

DROP TRIGGER register_call ON postcall.outbox;
DROP FUNCTION postcall.register_call();
DROP FUNCTION postcall.registration(uuid);
ALTER TABLE postcall.sending DROP COLUMN call_bytes, DROP COLUMN sid;
ALTER TABLE postcall.waiting DROP COLUMN call_bytes, DROP COLUMN call_sid;
ALTER TABLE postcall.outbox DROP COLUMN action_ids, DROP COLUMN call_bytes, DROP COLUMN call_sid;

REVOKE EXECUTE ON FUNCTION postcall.call_sid(json) FROM postcall_dispatcher, postcall_publisher, postcall_auditor;
CREATE OR REPLACE FUNCTION postcall.call_sid(call json) RETURNS text
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
    RETURN call #>> '{callInfo,callSid}';
EXCEPTION WHEN OTHERS THEN
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION postcall.call_sid(json) IS 'callInfo.callSid of a call, or null';

CREATE OR REPLACE FUNCTION postcall.uuid_v7() RETURNS uuid
    LANGUAGE sql VOLATILE PARALLEL SAFE
BEGIN ATOMIC
    SELECT (lpad(to_hex(us / 1000), 12, '0')
            || '7' || lpad(to_hex((us % 1000) * 4096 / 1000), 3, '0')
            || right(gen_random_uuid()::text, 17))::uuid
    FROM (SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS us) AS now_us;
END;
