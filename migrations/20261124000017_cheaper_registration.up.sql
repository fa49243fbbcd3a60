-- The platform's insert pays a little less for the same: 8 to 10 µs of the server's CPU, of the 75 (no action) to 105 (one action)
-- that these functions cost it. What they write is the same to the letter.
--
-- - A function that sets search_path costs 3 to 6 µs at each call, and there were three of them, one inside another. They set
--   nothing any more, and look for nothing along the path either: every function, operator, type and table is named with its
--   schema. Mind what hides an operator: IN, BETWEEN, IS DISTINCT FROM, NULLIF and CASE x WHEN look for theirs along the path.
--   Types and tables without a schema would be looked for among the session's own temporary ones first.
-- - What is left is what it takes to parse the document a second time (12 µs for 2 KB; #> is the cheapest that gives the id and
--   its type), to read the actions (12 µs), to insert the row of the queue (30 µs), and to call two triggers (15 µs).
-- - The block with EXCEPTION stays: a subtransaction that writes nothing costs half a microsecond. #> refuses what the type json
--   takes: an escaped NUL, half an emoji, and a nesting that is just as deep as the type's own check still could go.

CREATE OR REPLACE FUNCTION postcall.call_sid(call pg_catalog.json) RETURNS pg_catalog.text
    LANGUAGE plpgsql IMMUTABLE PARALLEL UNSAFE AS $$
DECLARE
    sid  pg_catalog.json;
    kept pg_catalog.text;
BEGIN
    -- Not where it is declared: an error there is past this block's EXCEPTION.
    sid := call OPERATOR(pg_catalog.#>) '{callInfo,callSid}';
    IF pg_catalog.json_typeof(sid) OPERATOR(pg_catalog.=) ANY (ARRAY['string', 'number']) THEN
        kept := pg_catalog."left"(sid OPERATOR(pg_catalog.#>>) '{}', 256);
        IF kept OPERATOR(pg_catalog.<>) '' THEN
            RETURN kept;
        END IF;
    END IF;
    RETURN NULL;
EXCEPTION WHEN OTHERS THEN
    -- Whatever it is, no call is refused for the sake of its id.
    RETURN NULL;
END
$$;

CREATE OR REPLACE FUNCTION postcall.register_call() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    NEW.call_bytes := pg_catalog.octet_length(NEW.call::pg_catalog.text);
    NEW.call_sid := postcall.call_sid(NEW.call);
    NEW.action_ids := ARRAY(SELECT action.action_id FROM postcall.action
                            WHERE action.agent OPERATOR(pg_catalog.=) NEW.agent AND action.enabled
                            ORDER BY action.action_id);
    RETURN NEW;
END
$$;

CREATE OR REPLACE FUNCTION postcall.await_deliveries() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    -- Dispatchers sleep for a second or two.
    longest_sleep_ms CONSTANT bigint := 10000;
    now_ms           bigint;
    asleep_until_ms  bigint;
BEGIN
    INSERT INTO postcall.waiting (delivery_id, call_id, agent, action_id, created_at, call_bytes, call_sid)
    SELECT postcall.uuid_v7(), new_call.id, new_call.agent, registered.action_id, new_call.created_at, new_call.call_bytes,
           new_call.call_sid
    FROM new_call, pg_catalog.unnest(new_call.action_ids) AS registered (action_id);

    IF FOUND AND coalesce(pg_catalog.current_setting('postcall.wake_up', true), '') OPERATOR(pg_catalog.<>) 'poll' THEN
        now_ms := pg_catalog.date_part('epoch', pg_catalog.clock_timestamp()) OPERATOR(pg_catalog.*) 1000;
        SELECT bell.last_value INTO asleep_until_ms FROM postcall.bell;
        IF asleep_until_ms OPERATOR(pg_catalog.>) now_ms
           AND asleep_until_ms OPERATOR(pg_catalog.<=) (now_ms OPERATOR(pg_catalog.+) longest_sleep_ms) THEN
            PERFORM pg_catalog.pg_notify('postcall', '');
        END IF;
    END IF;
    RETURN NULL;
END
$$;
