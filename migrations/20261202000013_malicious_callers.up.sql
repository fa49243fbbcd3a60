-- What each function that works with the owner's rights (SECURITY DEFINER) can be made to do by a malicious caller, beside the function;
-- tests/it/definers.rs tries it. Two bounds that were missing are set: how many deliveries one call locks, and for how long an excerpt of a
-- response can be kept.
SET LOCAL lock_timeout = '3s';

CREATE OR REPLACE FUNCTION postcall.lock_deliveries(ids uuid[]) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    most CONSTANT integer := 10000;
BEGIN
    IF cardinality(ids) > most THEN
        RAISE EXCEPTION 'no more than % deliveries are locked at once', most USING ERRCODE = 'program_limit_exceeded';
    END IF;
    -- In one order for all, so that nobody waits in a circle.
    PERFORM FROM postcall.delivery WHERE delivery_id = ANY (ids) ORDER BY delivery_id FOR UPDATE;
END
$$;

-- --keep-responses-days is 366 at most. Once true, it stays true.
ALTER TABLE postcall.response_excerpt ADD CONSTRAINT excerpts_are_kept_for_366_days_at_most
    CHECK (kept_until <= now() + interval '367 days') NOT VALID;

COMMENT ON FUNCTION postcall.admit_action_test() IS
    'Trigger on postcall.action_test: gives it its id and times, and takes no more than a few of each agent at once and a minute. A malicious caller, who may test actions, can use up the tests of an agent (2 at once, 10 a minute), and leave a row in tested_agent for each name that it invents; it chooses neither id, time nor database user';
COMMENT ON FUNCTION postcall.admit_finding() IS
    'Trigger on postcall.resolution: takes a person''s finding only about an unknown delivery that was not replayed. A malicious caller, who may replay, can lock one delivery that is unknown until its own transaction ends, and so learn whether an id is one of an unknown delivery; nothing is changed';
COMMENT ON FUNCTION postcall.admit_pause() IS
    'Trigger on postcall.pause: takes a pause only of what is not paused, and notes it as active. A malicious caller, who may pause, can pause whatever it likes under any person''s name, and use up all 1000 pauses; the database user is recorded';
COMMENT ON FUNCTION postcall.admit_pause_end() IS
    'Trigger on postcall.pause_end: takes an end only of a pause that is active, which it then is no longer. A malicious caller, who may pause, can end the pauses of others under any person''s name; the database user is recorded';
COMMENT ON FUNCTION postcall.await_deliveries() IS
    'Trigger on postcall.outbox: one waiting delivery per new call and action in its action_ids. A malicious caller, who may insert calls, can make as many deliveries wait as it inserts calls for the actions of an agent, and keep dispatchers asleep for a second at most; it chooses neither actions nor ids of deliveries';
COMMENT ON FUNCTION postcall.await_replay() IS
    'Trigger on postcall.replay: puts the new delivery into the queue. A malicious caller, who may replay, can have a message sent again as often as it inserts replays, each time on record; the delivery that it puts into the queue is of the same call, agent and action';
COMMENT ON FUNCTION postcall.expire_response_excerpts() IS
    'Deletes a portion of the excerpts of responses whose time is past; says how many. A malicious caller can delete nothing that is still kept, whenever it calls';
COMMENT ON FUNCTION postcall.identify_replay() IS
    'Trigger on postcall.replay: gives a replay its delivery and its message. A malicious caller, who may replay, can lock deliveries that have ended until its own transaction ends, and so hold up those who replay or resolve them; it chooses neither the new id nor the message';
COMMENT ON FUNCTION postcall.lock_deliveries(uuid[]) IS
    'Until the end of the transaction nobody else replays these deliveries, or says what became of them. A malicious caller can hold up those who replay or resolve deliveries, of 10000 at a time, until its own transaction ends, and learn nothing of them; dispatchers do not wait for these locks';
COMMENT ON FUNCTION postcall.make_partitions(timestamptz) IS
    'Makes missing partitions for the current and the two coming periods, and those of foreign ids; returns the names of those it made. A malicious caller can make partitions of the present and the next two periods earlier than a dispatcher would, and lock a default partition until its own transaction ends, if one was missing; it chooses neither names nor bounds';
COMMENT ON FUNCTION postcall.prune_partition(text, integer, integer) IS
    'Drops a partition that is old as a whole and in which nothing is pending; says whether, or why not. Fails where a lock is not to be had at once. A malicious caller can remove what is older than the least days that the owner has set in postcall.retention, and, where something is that old, lock a parent table and postcall.retention until its own transaction ends: the platform and readers of history wait so long';
COMMENT ON FUNCTION postcall.prune_plan(integer, integer) IS
    'What would leave if calls and history were kept for so many days, and what stays why; null keeps for ever. A malicious caller learns the names, bounds and sizes of partitions, and one id of a delivery that is still to be sent; nothing is changed';
COMMENT ON FUNCTION postcall.prune_rows(text, integer, integer, timestamptz, uuid) IS
    'Deletes the next portion of old rows behind a place; says how many, and whether there are more. Fails where a lock is not to be had at once. A malicious caller can remove what is older than the least days that the owner has set in postcall.retention, 2000 rows at a time, and keep others from replaying until its own transaction ends';
COMMENT ON FUNCTION postcall.prune_tests(integer) IS
    'Deletes the next portion of old tests; says how many, and whether there are more. Fails where a lock is not to be had at once. A malicious caller can remove tests, and the record of secrets that were read for them, if they are older than the least days of history that the owner has set in postcall.retention';
COMMENT ON FUNCTION postcall.record_pruning() IS
    'Trigger on postcall.retention: records that history was removed. A malicious caller, who may prune, can only have the truth recorded: when history begins now; it chooses neither time nor database user';
COMMENT ON FUNCTION postcall.record_secret_change() IS
    'Trigger on postcall.secret: records who set or removed it. A malicious caller, who may set secrets, can give any person''s name and reason (the settings postcall.person and postcall.reason); it can neither leave the record out nor choose its time and database user';
COMMENT ON FUNCTION postcall.record_switch() IS
    'Trigger on postcall.action: records each switching. A malicious caller, who may switch actions, can give any person''s name and reason (the settings postcall.person and postcall.reason); it can neither leave the record out nor choose its time and database user';
COMMENT ON FUNCTION postcall.register_call() IS
    'Trigger on postcall.outbox: which actions the call is to be delivered by, its length and its provider''s id. A malicious caller, who may insert calls, learns neither ids nor the number of an agent''s actions, because it reads back the call''s id only; a call that is very large takes the time that it takes to read it';
COMMENT ON FUNCTION postcall.secrets_for_test(bigint) IS
    'The encrypted secrets of a row of secret_opening, for who recorded it, within a minute. A malicious caller gets the encrypted secrets of any agent, 16 at a time and 120 times an hour, and with the key file can open them; never without a committed record with the name of its database user';
COMMENT ON FUNCTION postcall.version_digest(bigint, integer) IS
    'The digest of a version: of one that stands in clear the SHA-256 of its URL, headers and body as written, and of the secret that it names as its certificate; of a sealed one the keyed digest that is kept with it. A malicious caller can test guesses about a version that is not sealed: whoever knows all of its templates but a weak password in them can find that password; so use secrets in the place of passwords, or publish with the key file';
