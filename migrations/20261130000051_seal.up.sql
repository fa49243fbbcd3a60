-- History that proves itself: which transaction wrote a row, and the sealed tree over all of it (docs/auditing.md, decision 12).
--
-- Rows are sealed in the order of the transactions that wrote them, up to the oldest transaction that has not ended: nothing that
-- commits later can appear before that place. So each row of history tells its transaction. The number costs 8 bytes a row and an
-- entry in an index; it is written by the column's default, so that releases that do not know it write it, too.
--
-- While the index of a long history is built, dispatchers can record nothing: the results wait in the dispatchers meanwhile.
SET LOCAL lock_timeout = '3s';
LOCK TABLE postcall.delivery, postcall.resolution, postcall.replay, postcall.action_version, postcall.action_switch, postcall.pause,
    postcall.pause_end, postcall.retention IN ACCESS EXCLUSIVE MODE;

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'postcall_sealer') THEN
        CREATE ROLE postcall_sealer NOLOGIN;
    END IF;
EXCEPTION
    WHEN duplicate_object OR unique_violation THEN
        RAISE DEBUG 'role postcall_sealer was made at the same time';
    WHEN insufficient_privilege THEN
        RAISE EXCEPTION 'the user % may not create the role postcall_sealer', current_user
            USING ERRCODE = 'insufficient_privilege',
                  HINT = 'Let a superuser, or a role with CREATEROLE, run: CREATE ROLE postcall_sealer NOLOGIN; then migrate again.';
END
$$;

-- When history was removed: what tells a row that is missing from one that has left. Written by a trigger, so that no way of
-- removing history leaves it out.
CREATE TABLE postcall.pruning (
    pruning_id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    history_begins timestamptz NOT NULL,
    pruned_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    db_user        text        NOT NULL DEFAULT session_user,
    CONSTRAINT pruning_times_are_in_range CHECK (pruned_at >= '2000-01-01Z' AND pruned_at < '10000-01-01Z')
);
COMMENT ON TABLE postcall.pruning IS 'Every time that history was removed because it was old';
COMMENT ON COLUMN postcall.pruning.pruning_id IS 'Identity; counts up';
COMMENT ON COLUMN postcall.pruning.history_begins IS 'History from before this time was removed';
COMMENT ON COLUMN postcall.pruning.pruned_at IS 'When';
COMMENT ON COLUMN postcall.pruning.db_user IS 'The database user who removed it';
INSERT INTO postcall.pruning (history_begins) SELECT history_begins FROM postcall.retention WHERE history_begins IS NOT NULL;

-- SECURITY DEFINER: whoever removes history has no right on its record.
CREATE FUNCTION postcall.record_pruning() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO postcall.pruning (history_begins) VALUES (NEW.history_begins);
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION postcall.record_pruning() IS 'Trigger on postcall.retention: records that history was removed';
REVOKE EXECUTE ON FUNCTION postcall.record_pruning() FROM PUBLIC;
CREATE TRIGGER record_pruning AFTER UPDATE ON postcall.retention
    FOR EACH ROW WHEN (NEW.history_begins IS DISTINCT FROM OLD.history_begins) EXECUTE FUNCTION postcall.record_pruning();
CREATE TRIGGER prunings_are_immutable BEFORE UPDATE OR DELETE ON postcall.pruning
    FOR EACH ROW EXECUTE FUNCTION postcall.refuse_change('It is a record of what happened.');
ALTER TABLE postcall.pruning ENABLE ALWAYS TRIGGER prunings_are_immutable;
SELECT postcall.guard_against_truncate('postcall.pruning');

-- The number of the transaction: 0 in rows from before this migration, all of which have been committed. A constant first, because
-- it is not written into the rows that exist.
DO $$
DECLARE
    sealed text;
BEGIN
    FOREACH sealed IN ARRAY ARRAY['delivery', 'resolution', 'replay', 'action_version', 'action_switch', 'pause', 'pause_end', 'pruning'] LOOP
        EXECUTE format('ALTER TABLE postcall.%I ADD COLUMN xact bigint NOT NULL DEFAULT 0', sealed);
        EXECUTE format('ALTER TABLE postcall.%I ALTER COLUMN xact SET DEFAULT pg_current_xact_id()::text::bigint', sealed);
        EXECUTE format('COMMENT ON COLUMN postcall.%I.xact IS %L', sealed,
                       'The transaction that wrote the row, by which it is sealed; 0 in rows from before this was kept');
    END LOOP;
END
$$;
CREATE INDEX delivery_by_xact ON postcall.delivery (xact, delivery_id);
CREATE INDEX resolution_by_xact ON postcall.resolution (xact, delivery_id);
CREATE INDEX replay_by_xact ON postcall.replay (xact, delivery_id);
CREATE INDEX version_by_xact ON postcall.action_version (xact);
CREATE INDEX switch_by_xact ON postcall.action_switch (xact);
CREATE INDEX pause_by_xact ON postcall.pause (xact);
CREATE INDEX pause_end_by_xact ON postcall.pause_end (xact);
CREATE INDEX pruning_by_xact ON postcall.pruning (xact);

-- Dispatchers do not choose the number: with a number of its choice, a dispatcher could keep what it writes from being sealed.
-- All columns that there are now; a later migration grants those that it adds.
DO $$
BEGIN
    REVOKE INSERT ON postcall.delivery FROM postcall_dispatcher;
    EXECUTE (SELECT format('GRANT INSERT (%s) ON postcall.delivery TO postcall_dispatcher', string_agg(quote_ident(attname), ', '))
             FROM pg_attribute
             WHERE attrelid = 'postcall.delivery'::regclass AND attnum > 0 AND NOT attisdropped AND attname <> 'xact');
END
$$;

-- A server counts its transactions; another server, to which a dump was restored, counts anew. `ahead` is added there, so that the
-- numbers go on (postcall.continue_seals). Whoever seals holds the turn for a while, so that there is one at a time. A row, and not
-- an advisory lock, which anybody who can connect could hold.
CREATE TABLE postcall.seal_turn (
    singleton  boolean NOT NULL DEFAULT true PRIMARY KEY CONSTRAINT seal_turn_is_one_row CHECK (singleton),
    ahead      bigint  NOT NULL DEFAULT 0,
    held_by    uuid,
    held_until timestamptz
);
COMMENT ON TABLE postcall.seal_turn IS 'Whose turn it is to seal history; one row';
COMMENT ON COLUMN postcall.seal_turn.singleton IS 'Always true: there is one row';
COMMENT ON COLUMN postcall.seal_turn.ahead IS 'How far the numbers in xact are ahead of the server''s own';
COMMENT ON COLUMN postcall.seal_turn.held_by IS 'The sealer whose turn it is: an id that it drew when it started';
COMMENT ON COLUMN postcall.seal_turn.held_until IS 'From then on, it is anybody''s turn';
INSERT INTO postcall.seal_turn DEFAULT VALUES;

-- The log: leaves in portions, in the order in which they were sealed. They outlive the rows whose hashes they are.
CREATE TABLE postcall.seal_slice (
    size         bigint      NOT NULL PRIMARY KEY,
    first_leaf   bigint      NOT NULL CONSTRAINT a_leaf_is_sealed_once UNIQUE,
    through_xact bigint      NOT NULL,
    through_kind smallint    NOT NULL,
    through_id   uuid        NOT NULL,
    kinds        bytea       NOT NULL,
    ids          bytea       NOT NULL,
    hashes       bytea       NOT NULL,
    frontier     bytea       NOT NULL,
    root         bytea       NOT NULL,
    checkpoint   text        NOT NULL,
    sealed_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT a_slice_has_1_to_65536_leaves CHECK (first_leaf >= 0 AND size - first_leaf BETWEEN 1 AND 65536),
    CONSTRAINT each_leaf_has_a_kind_an_id_and_a_hash
        CHECK (octet_length(kinds) = size - first_leaf AND octet_length(ids) = 16 * (size - first_leaf)
               AND octet_length(hashes) = 32 * (size - first_leaf)),
    CONSTRAINT a_root_has_32_bytes CHECK (octet_length(root) = 32),
    CONSTRAINT a_frontier_is_bounded CHECK (octet_length(frontier) BETWEEN 32 AND 2048),
    CONSTRAINT a_checkpoint_is_bounded CHECK (octet_length(checkpoint) <= 4096),
    CONSTRAINT seal_times_are_in_range CHECK (sealed_at >= '2000-01-01Z' AND sealed_at < '10000-01-01Z')
);
-- Hashes do not get smaller by compressing them.
ALTER TABLE postcall.seal_slice ALTER COLUMN hashes SET STORAGE EXTERNAL, ALTER COLUMN ids SET STORAGE EXTERNAL;
-- Which slice has the leaf of a row.
CREATE UNIQUE INDEX seal_slice_by_place ON postcall.seal_slice (through_xact, through_kind, through_id);
COMMENT ON TABLE postcall.seal_slice IS 'The log of leaves: what was sealed, portion by portion, each with its checkpoint; never changed';
COMMENT ON COLUMN postcall.seal_slice.size IS 'How many leaves the log has with this slice';
COMMENT ON COLUMN postcall.seal_slice.first_leaf IS 'The number of its first leaf, counted from 0';
COMMENT ON COLUMN postcall.seal_slice.through_xact IS
    'With the next two: the place up to which it holds every row; rows are in the order of transaction, kind and id';
COMMENT ON COLUMN postcall.seal_slice.through_kind IS 'The kind of that place';
COMMENT ON COLUMN postcall.seal_slice.through_id IS 'The id of that place';
COMMENT ON COLUMN postcall.seal_slice.kinds IS 'The kind of each leaf''s row, one byte each';
COMMENT ON COLUMN postcall.seal_slice.ids IS 'The id of each leaf''s row, 16 bytes each';
COMMENT ON COLUMN postcall.seal_slice.hashes IS 'The leaves'' hashes, 32 bytes each';
COMMENT ON COLUMN postcall.seal_slice.frontier IS 'The roots of the largest complete subtrees behind it, 32 bytes each';
COMMENT ON COLUMN postcall.seal_slice.root IS 'The root of the tree of all leaves up to here';
COMMENT ON COLUMN postcall.seal_slice.checkpoint IS 'Size and root, signed: a C2SP signed note';
COMMENT ON COLUMN postcall.seal_slice.sealed_at IS 'When';

CREATE TABLE postcall.seal_node (
    level    smallint NOT NULL,
    position bigint   NOT NULL,
    hash     bytea    NOT NULL CONSTRAINT a_node_has_32_bytes CHECK (octet_length(hash) = 32),
    PRIMARY KEY (level, position)
);
COMMENT ON TABLE postcall.seal_node IS 'Nodes of the tree of leaves, of every eighth level, from which proofs are made; never changed';
COMMENT ON COLUMN postcall.seal_node.level IS 'The level: a node of level n is the root of 2^n leaves';
COMMENT ON COLUMN postcall.seal_node.position IS 'Its place in its level, counted from 0';
COMMENT ON COLUMN postcall.seal_node.hash IS 'Its hash';

CREATE TRIGGER slices_are_immutable BEFORE UPDATE OR DELETE ON postcall.seal_slice
    FOR EACH ROW EXECUTE FUNCTION postcall.refuse_change('What is sealed stays sealed.');
CREATE TRIGGER nodes_are_immutable BEFORE UPDATE OR DELETE ON postcall.seal_node
    FOR EACH ROW EXECUTE FUNCTION postcall.refuse_change('What is sealed stays sealed.');
CREATE TRIGGER the_turn_stays BEFORE DELETE ON postcall.seal_turn
    FOR EACH ROW EXECUTE FUNCTION postcall.refuse_change('It says whose turn it is.');
ALTER TABLE postcall.seal_slice ENABLE ALWAYS TRIGGER slices_are_immutable;
ALTER TABLE postcall.seal_node ENABLE ALWAYS TRIGGER nodes_are_immutable;
ALTER TABLE postcall.seal_turn ENABLE ALWAYS TRIGGER the_turn_stays;
SELECT postcall.guard_against_truncate('postcall.seal_slice'), postcall.guard_against_truncate('postcall.seal_node'),
       postcall.guard_against_truncate('postcall.seal_turn');

-- What a version says, as a digest: its URL, headers and body are not for everybody who may verify. Each with its length before it,
-- -1 for null. SECURITY DEFINER: auditors and sealers may not read templates. What a malicious caller can make it do: it learns
-- whether two versions are the same, and can try guesses of a whole template.
CREATE FUNCTION postcall.version_digest(action_id bigint, version integer) RETURNS bytea
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT sha256(string_agg(int4send(coalesce(octet_length(part), -1)) || convert_to(coalesce(part, ''), 'UTF8'), '' ORDER BY place))
    FROM postcall.action_version AS published,
         unnest(ARRAY[published.url, published.headers, published.body]) WITH ORDINALITY AS parts (part, place)
    WHERE published.action_id = version_digest.action_id AND published.version = version_digest.version;
END;
COMMENT ON FUNCTION postcall.version_digest(bigint, integer) IS 'The SHA-256 of a version''s URL, headers and body as written';
REVOKE EXECUTE ON FUNCTION postcall.version_digest(bigint, integer) FROM PUBLIC;

-- For the owner, once, after a dump was restored on another server: the numbers of its transactions go on behind those in the rows.
CREATE FUNCTION postcall.continue_seals() RETURNS bigint
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
    SET lock_timeout = '3s' AS $$
DECLARE
    sealed  text;
    highest bigint := (SELECT coalesce(max(through_xact), 0) FROM postcall.seal_slice);
    found   bigint;
    further bigint;
BEGIN
    FOREACH sealed IN ARRAY ARRAY['delivery', 'resolution', 'replay', 'action_version', 'action_switch', 'pause', 'pause_end', 'pruning'] LOOP
        EXECUTE format('LOCK TABLE postcall.%I IN ACCESS EXCLUSIVE MODE', sealed);
        EXECUTE format('SELECT coalesce(max(xact), 0) FROM postcall.%I', sealed) INTO found;
        highest := greatest(highest, found);
    END LOOP;
    SELECT ahead INTO further FROM postcall.seal_turn FOR UPDATE;
    -- From the oldest transaction that has not ended on: it may still write.
    further := greatest(further, highest + 1 - pg_snapshot_xmin(pg_current_snapshot())::text::bigint);
    UPDATE postcall.seal_turn SET ahead = further;
    FOREACH sealed IN ARRAY ARRAY['delivery', 'resolution', 'replay', 'action_version', 'action_switch', 'pause', 'pause_end', 'pruning'] LOOP
        EXECUTE format('ALTER TABLE postcall.%I ALTER COLUMN xact SET DEFAULT pg_current_xact_id()::text::bigint + %s', sealed, further);
    END LOOP;
    RETURN further;
END
$$;
COMMENT ON FUNCTION postcall.continue_seals() IS
    'For the owner, after a dump was restored on another server: lets the numbers in xact go on; returns by how much they are ahead';
REVOKE EXECUTE ON FUNCTION postcall.continue_seals() FROM PUBLIC;

-- Who seals reads what is sealed, and adds to the log. What a malicious sealer can do: add slices that are wrong, which whoever
-- verifies sees; what was signed and exported before, it cannot take back.
GRANT USAGE ON SCHEMA postcall TO postcall_sealer;
GRANT SELECT ON postcall._sqlx_migrations, postcall.delivery, postcall.resolution, postcall.replay, postcall.action,
    postcall.action_switch, postcall.pause, postcall.pause_end, postcall.pruning, postcall.seal_slice, postcall.seal_node,
    postcall.seal_turn TO postcall_sealer;
GRANT SELECT (action_id, version, method, timeout_ms, published_at, published_by, db_user, reason, xact) ON postcall.action_version
    TO postcall_sealer;
GRANT EXECUTE ON FUNCTION postcall.version_digest(bigint, integer) TO postcall_sealer;
GRANT UPDATE (held_by, held_until) ON postcall.seal_turn TO postcall_sealer;
GRANT INSERT (size, first_leaf, through_xact, through_kind, through_id, kinds, ids, hashes, frontier, root, checkpoint)
    ON postcall.seal_slice TO postcall_sealer;
GRANT INSERT ON postcall.seal_node TO postcall_sealer;

-- Who verifies.
GRANT SELECT ON postcall.pruning, postcall.seal_slice, postcall.seal_node, postcall.seal_turn TO postcall_auditor, postcall_publisher;
GRANT SELECT (xact) ON postcall.action_version TO postcall_auditor;
GRANT EXECUTE ON FUNCTION postcall.version_digest(bigint, integer) TO postcall_auditor, postcall_publisher;
-- `postcall doctor`, run as a dispatcher, says whether history is sealed.
GRANT SELECT ON postcall.seal_slice TO postcall_dispatcher;
