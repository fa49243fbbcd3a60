-- Turns new calls into waiting deliveries, one per enabled action of their agents, in the platform's transaction.
-- Once per statement, so that a bulk insert costs one join. It takes no lock that another transaction could hold.
-- SECURITY DEFINER: the platform may insert calls and need know nothing of what follows.
CREATE FUNCTION postcall.await_deliveries() RETURNS trigger
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

CREATE TRIGGER await_deliveries AFTER INSERT ON postcall.outbox
    REFERENCING NEW TABLE AS new_call
    FOR EACH STATEMENT EXECUTE FUNCTION postcall.await_deliveries();
