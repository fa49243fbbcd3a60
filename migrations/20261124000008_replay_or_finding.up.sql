-- Of a person who replays an unknown delivery and one who says what became of it, only one can be right about the message: the
-- one who comes first. Both take the same lock first, the row of the delivery in history. No other role can take it: that asks
-- for a right that only the owner has, which is why these functions are SECURITY DEFINER. A malicious caller can make them
-- keep a publisher who replays or resolves the same delivery waiting for as long as the caller's transaction is open.
SET LOCAL lock_timeout = '3s';

-- For a statement that judges before it replays: it must not judge by what was true before a finding that it waited for.
CREATE FUNCTION postcall.lock_deliveries(ids uuid[]) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    -- In one order for all, so that nobody waits in a circle.
    PERFORM FROM postcall.delivery WHERE delivery_id = ANY (ids) ORDER BY delivery_id FOR UPDATE;
END
$$;
COMMENT ON FUNCTION postcall.lock_deliveries(uuid[]) IS
    'Until the end of the transaction nobody else replays these deliveries, or says what became of them';
REVOKE EXECUTE ON FUNCTION postcall.lock_deliveries(uuid[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION postcall.lock_deliveries(uuid[]) TO postcall_publisher;

-- A replay's identity is not its author's to choose: the new delivery's id is new, and the message is that of the chain.
CREATE FUNCTION postcall.identify_replay() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM FROM postcall.delivery WHERE delivery_id = NEW.replay_of FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'delivery % is not in history: only a delivery that has ended can be replayed', NEW.replay_of
            USING ERRCODE = 'foreign_key_violation';
    END IF;
    NEW.delivery_id := postcall.uuid_v7();
    NEW.message_id := coalesce((SELECT message_id FROM postcall.replay WHERE delivery_id = NEW.replay_of), NEW.replay_of);
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION postcall.identify_replay() IS 'Trigger on postcall.replay: gives a replay its delivery and its message';
REVOKE EXECUTE ON FUNCTION postcall.identify_replay() FROM PUBLIC;
CREATE TRIGGER identify_replay BEFORE INSERT ON postcall.replay
    FOR EACH ROW EXECUTE FUNCTION postcall.identify_replay();

-- The delivery itself: of the same call, by the same action. So nobody who may replay needs the right to write the queue.
CREATE FUNCTION postcall.await_replay() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO postcall.waiting (delivery_id, call_id, agent, action_id, created_at, call_bytes, call_sid)
    SELECT NEW.delivery_id, delivery.call_id, delivery.agent, delivery.action_id, clock_timestamp(), outbox.call_bytes,
           delivery.call_sid
    FROM postcall.delivery LEFT JOIN postcall.outbox ON outbox.id = delivery.call_id
    WHERE delivery.delivery_id = NEW.replay_of
    -- The previous release's replay puts it there itself.
    ON CONFLICT (delivery_id) DO NOTHING;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION postcall.await_replay() IS 'Trigger on postcall.replay: puts the new delivery into the queue';
REVOKE EXECUTE ON FUNCTION postcall.await_replay() FROM PUBLIC;
CREATE TRIGGER await_replay AFTER INSERT ON postcall.replay
    FOR EACH ROW EXECUTE FUNCTION postcall.await_replay();

-- A person's finding is only about a delivery that history holds as unknown and that nobody has replayed: of a replayed one, the
-- replay tells more. Nothing is inserted otherwise. What the claim itself learns late is always taken.
CREATE FUNCTION postcall.admit_finding() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    -- A transaction with one snapshot for all its statements would not see a replay that was committed since.
    IF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted') THEN
        RAISE EXCEPTION 'a finding is recorded in a transaction of isolation level READ COMMITTED'
            USING ERRCODE = 'feature_not_supported';
    END IF;
    PERFORM FROM postcall.delivery WHERE delivery_id = NEW.delivery_id AND state = 'unknown' FOR UPDATE;
    IF NOT FOUND OR EXISTS (SELECT FROM postcall.replay WHERE replay_of = NEW.delivery_id) THEN
        RETURN NULL;
    END IF;
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION postcall.admit_finding() IS
    'Trigger on postcall.resolution: takes a person''s finding only about an unknown delivery that was not replayed';
REVOKE EXECUTE ON FUNCTION postcall.admit_finding() FROM PUBLIC;
CREATE TRIGGER admit_finding BEFORE INSERT ON postcall.resolution
    FOR EACH ROW WHEN (NEW.source = 'person') EXECUTE FUNCTION postcall.admit_finding();

-- Dispatchers may write to this table too, but only what the claim itself has learnt. (Publishers cannot choose the source: it
-- is a person's.) Not by row-level security, which would make a backup by a user who only reads fail. With the rights of whoever
-- inserts, since these are what it asks for; so it is not SECURITY DEFINER.
CREATE FUNCTION postcall.refuse_foreign_finding() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT has_column_privilege('postcall.replay', 'replay_of', 'INSERT') THEN
        RAISE EXCEPTION 'permission denied: what a person found out is recorded by those who may replay'
            USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION postcall.refuse_foreign_finding() IS
    'Trigger on postcall.resolution: takes a person''s finding only from those who may replay';
REVOKE EXECUTE ON FUNCTION postcall.refuse_foreign_finding() FROM PUBLIC;
CREATE TRIGGER refuse_foreign_finding BEFORE INSERT ON postcall.resolution
    FOR EACH ROW WHEN (NEW.source = 'person') EXECUTE FUNCTION postcall.refuse_foreign_finding();

GRANT INSERT (replay_of, replayed_by, reason) ON postcall.replay TO postcall_publisher;
GRANT INSERT (delivery_id, state, resolved_by, reason) ON postcall.resolution TO postcall_publisher;
