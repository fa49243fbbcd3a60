//! The rights of all roles: the complete list, compared with the catalog in both directions.

use std::collections::BTreeSet;

use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::support::database::Database;
use crate::support::intruder::attempt;

/// Every right that somebody other than the owner has, and why. A line that is not here, or is here in vain, is a mistake.
const RIGHTS: &[&str] = &[
    // Inserts calls, and reads back the id. Its id's default is evaluated with its own rights.
    "platform: USAGE on schema postcall",
    "platform: INSERT on columns of outbox (agent, call, id)",
    "platform: SELECT on columns of outbox (id)",
    "platform: EXECUTE on function uuid_v7",
    // Moves deliveries from waiting to sending to history; reads calls and templates.
    "dispatcher: USAGE on schema postcall",
    // To lock rows takes the right to change one column.
    "dispatcher: DELETE, INSERT, SELECT on table waiting",
    "dispatcher: UPDATE on columns of waiting (call_sid)",
    "dispatcher: DELETE, INSERT, SELECT on table sending",
    "dispatcher: UPDATE on columns of sending (sid)",
    "dispatcher: SELECT on table delivery",
    // All columns but the number of the transaction, by which history is sealed.
    "dispatcher: INSERT on columns of delivery (action_id, action_version, agent, body_end, call_id, call_sid, claim, claimed_at, \
     connected_ms, created_at, delivery_id, dispatcher_id, dns_ms, error_detail, error_kind, finished_at, head_ms, latency_ms, \
     method, request_bytes, request_head_hmac, request_sha256, response_bytes, response_code, response_sha256, state, \
     unresolved, url)",
    // `postcall doctor` says whether history is sealed.
    "dispatcher: SELECT on table seal_slice",
    "dispatcher: SELECT on columns of seal_turn (exported_size)",
    "dispatcher: SELECT on table outbox",
    // Counts the rows of the default partitions for metrics.
    "dispatcher: SELECT on columns of delivery_default (created_at)",
    "dispatcher: SELECT on columns of outbox_default (created_at)",
    "dispatcher: SELECT on table action",
    "dispatcher: SELECT on table action_version",
    "dispatcher: SELECT on table replay",
    // Its own lease, and the end of others.
    "dispatcher: SELECT on table dispatcher",
    "dispatcher: INSERT on columns of dispatcher (knows_sealed_versions, knows_secrets, knows_signing, lease_until, name, \
     policy, version)",
    "dispatcher: UPDATE on columns of dispatcher (claim_epoch, lease_until, lost_at, stopped_at)",
    // What comes late: with neither time nor user of its choice.
    "dispatcher: SELECT on table resolution",
    "dispatcher: INSERT on columns of resolution (body_end, connected_ms, delivery_id, dns_ms, error_detail, error_kind, \
     head_ms, latency_ms, method, reason, request_bytes, request_head_hmac, request_sha256, resolved_by, response_bytes, \
     response_code, response_sha256, source, state, unresolved, url)",
    "dispatcher: SELECT, UPDATE on sequence bell",
    "dispatcher: EXECUTE on function make_partitions",
    // Lets go what is old, within the owner's bounds (retention).
    "dispatcher: SELECT on table retention",
    "dispatcher: EXECUTE on function kept_since",
    "dispatcher: EXECUTE on function prune_partition",
    "dispatcher: EXECUTE on function prune_plan",
    "dispatcher: EXECUTE on function prune_rows",
    // Keeps excerpts of responses, which it cannot read, and deletes those that are past their time.
    "dispatcher: INSERT on table response_excerpt",
    "dispatcher: EXECUTE on function expire_response_excerpts",
    "dispatcher: EXECUTE on function prune_tests",
    // The previous release's dispatchers call it.
    "dispatcher: EXECUTE on function call_sid",
    // Looks at the ledger, at history and at the accounts.
    "dispatcher: SELECT on table _sqlx_migrations",
    "dispatcher: SELECT on table action_switch",
    "dispatcher: SELECT on view delivery_history",
    "dispatcher: EXECUTE on function history_begins",
    "dispatcher: EXECUTE on function registration",
    "dispatcher: EXECUTE on function uuid_v7_floor",
    // Heeds what is paused; says about itself what goes on.
    "dispatcher: SELECT on table pause",
    "dispatcher: SELECT on table pause_end",
    "dispatcher: SELECT on table active_pause",
    "dispatcher: SELECT on view action_target",
    "dispatcher: DELETE, INSERT, SELECT, UPDATE on table dispatcher_report",
    // Opens secrets, and is the only one who reads them, encrypted as they are.
    "dispatcher: SELECT on table secret",
    // Opens the keys that sign requests, as it opens secrets; shows whether a past request was signed.
    "dispatcher: SELECT on table signing_key",
    "dispatcher: SELECT on table signing_change",
    // Publishes, switches, replays, resolves. Neither times nor the database user are its to choose, nor the queue to write.
    "publisher: USAGE on schema postcall",
    "publisher: INSERT on columns of action (agent, enabled, name, version)",
    "publisher: UPDATE on columns of action (enabled, version)",
    "publisher: INSERT on columns of action_version (action_id, body, client_certificate, digest, headers, key_id, method, \
     published_by, reason, sealed_value, timeout_ms, url, version, wrapped_key)",
    "publisher: INSERT on columns of replay (reason, replay_of, replayed_by)",
    "publisher: INSERT on columns of resolution (delivery_id, reason, resolved_by, state)",
    "publisher: EXECUTE on function lock_deliveries",
    "publisher: INSERT on columns of pause (action_id, agent, host, paused_by, reason)",
    "publisher: INSERT on columns of pause_end (pause_id, reason, resumed_by)",
    // Sets and removes secrets, and reads back neither value nor key.
    "publisher: INSERT on columns of secret (agent, key_id, name, sealed_value, wrapped_key)",
    "publisher: UPDATE on columns of secret (key_id, sealed_value, wrapped_key)",
    "publisher: DELETE on table secret",
    "publisher: SELECT on columns of secret (agent, format, key_id, name, set_at)",
    "publisher: SELECT on table secret_change",
    // Tests an action with its secrets: gets them, encrypted, once this is recorded with neither time nor user of its choice.
    "publisher: INSERT on columns of secret_opening (agent, names, opened_by, reason)",
    "publisher: SELECT on table secret_opening",
    "publisher: EXECUTE on function secrets_for_test",
    // Enables, rotates and disables signing, and reads back no key; a trigger ends the older ones and writes the record.
    "publisher: INSERT on columns of signing_key (agent, keep_older_seconds, key_id, public_key, replaces, scheme, sealed_value, \
     signing_key_id, wrapped_key)",
    "publisher: DELETE on table signing_key",
    "publisher: SELECT on columns of signing_key (agent, format, keep_older_seconds, key_id, made_at, public_key, replaces, scheme, \
     signing_key_id, signs_until)",
    "publisher: SELECT on table signing_change",
    // Tests an action of an agent whose requests are signed: as with secrets.
    "publisher: EXECUTE on function signing_keys_for_test",
    "publisher: SELECT on table pause",
    "publisher: SELECT on table pause_end",
    "publisher: SELECT on table active_pause",
    "publisher: SELECT on view action_target",
    "publisher: SELECT on table dispatcher_report",
    // Tests actions, and records what became of its own tests; with neither id, times nor database user of its choice.
    "publisher: INSERT on columns of action_test (action, action_version, agent, call_id, call_source, file_sha256, method, \
     reason, request_bytes, request_head_hmac, request_sha256, tested_by, timeout_ms, unresolved, url)",
    "publisher: INSERT on columns of action_test_result (body_end, connected_ms, dns_ms, error_detail, error_kind, head_ms, \
     latency_ms, response_bytes, response_code, response_sha256, state, test_id)",
    "publisher: SELECT on table action_test",
    "publisher: SELECT on table action_test_result",
    "publisher: SELECT on view action_test_history",
    // Lets go what is old, within the owner's bounds (retention).
    "publisher: SELECT on table retention",
    "publisher: EXECUTE on function kept_since",
    "publisher: EXECUTE on function prune_partition",
    "publisher: EXECUTE on function prune_plan",
    "publisher: EXECUTE on function prune_rows",
    "publisher: EXECUTE on function prune_tests",
    "publisher: SELECT on table action",
    "publisher: SELECT on table action_version",
    "publisher: SELECT on table action_switch",
    "publisher: SELECT on table waiting",
    "publisher: SELECT on table sending",
    "publisher: SELECT on table delivery",
    "publisher: SELECT on table replay",
    "publisher: SELECT on table resolution",
    "publisher: SELECT on table dispatcher",
    "publisher: SELECT on view delivery_history",
    "publisher: SELECT on columns of outbox (action_ids, agent, call_bytes, call_sid, created_at, id)",
    "publisher: SELECT on table _sqlx_migrations",
    "publisher: EXECUTE on function history_begins",
    "publisher: EXECUTE on function uuid_v7_floor",
    // Verifies history.
    "publisher: SELECT on table pruning",
    "publisher: SELECT on table seal_slice",
    "publisher: SELECT on table seal_node",
    "publisher: SELECT on table seal_turn",
    "publisher: EXECUTE on function version_digest",
    // Seals history: reads what is sealed, and adds to the log, with no time of its choice.
    "sealer: USAGE on schema postcall",
    "sealer: SELECT on table _sqlx_migrations",
    "sealer: SELECT on table action",
    "sealer: SELECT on columns of action_version (action_id, db_user, method, published_at, published_by, reason, timeout_ms, \
     version, xact)",
    "sealer: SELECT on table action_switch",
    "sealer: SELECT on table delivery",
    "sealer: SELECT on table pause",
    "sealer: SELECT on table pause_end",
    "sealer: SELECT on table pruning",
    "sealer: SELECT on table replay",
    "sealer: SELECT on table resolution",
    "sealer: SELECT on table seal_slice",
    "sealer: SELECT on table seal_turn",
    "sealer: INSERT on columns of seal_slice (checkpoint, first_leaf, frontier, hashes, ids, kinds, leaf_fields, root, size, through_id, \
     through_kind, through_xact)",
    "sealer: INSERT, SELECT on table seal_node",
    "sealer: UPDATE on columns of seal_turn (exported_size, held_by, held_until)",
    "sealer: EXECUTE on function version_digest",
    // Reads what happened and who did it: neither calls nor templates.
    "auditor: USAGE on schema postcall",
    // Verifies history.
    "auditor: SELECT on table pruning",
    "auditor: SELECT on table seal_slice",
    "auditor: SELECT on table seal_node",
    "auditor: SELECT on table seal_turn",
    "auditor: EXECUTE on function version_digest",
    "auditor: SELECT on columns of action_version (action_id, db_user, key_id, method, published_at, published_by, reason, \
     timeout_ms, version, xact)",
    "auditor: SELECT on columns of outbox (action_ids, agent, call_bytes, call_sid, created_at, id)",
    "auditor: SELECT on table action",
    "auditor: SELECT on table action_switch",
    "auditor: SELECT on table waiting",
    "auditor: SELECT on table sending",
    "auditor: SELECT on table delivery",
    "auditor: SELECT on table replay",
    "auditor: SELECT on table resolution",
    "auditor: SELECT on table dispatcher",
    "auditor: SELECT on view delivery_history",
    // Of secrets their names, and who set them.
    "auditor: SELECT on columns of secret (agent, format, key_id, name, set_at)",
    "auditor: SELECT on table secret_change",
    "auditor: SELECT on table secret_opening",
    // Of keys that sign whose they are and the public ones, and who changed them.
    "auditor: SELECT on columns of signing_key (agent, format, keep_older_seconds, key_id, made_at, public_key, replaces, scheme, \
     signing_key_id, signs_until)",
    "auditor: SELECT on table signing_change",
    "auditor: SELECT on table pause",
    "auditor: SELECT on table pause_end",
    "auditor: SELECT on table active_pause",
    "auditor: SELECT on table action_test",
    "auditor: SELECT on table action_test_result",
    "auditor: SELECT on view action_test_history",
    // Of an action's URL scheme, host and port.
    "auditor: SELECT on view action_target",
    "auditor: SELECT on table dispatcher_report",
    "auditor: SELECT on table retention",
    "auditor: SELECT on table _sqlx_migrations",
    "auditor: EXECUTE on function history_begins",
    "auditor: EXECUTE on function uuid_v7_floor",
    // Sees what goes on, and neither a single delivery nor a template.
    "console_viewer: USAGE on schema postcall",
    "console_viewer: SELECT on table _sqlx_migrations",
    "console_viewer: SELECT on table action",
    "console_viewer: SELECT on columns of action_version (action_id, method, published_at, published_by, timeout_ms, version)",
    "console_viewer: SELECT on view action_target",
    "console_viewer: SELECT on table dispatcher",
    "console_viewer: SELECT on table dispatcher_report",
    "console_viewer: SELECT on table pause",
    "console_viewer: SELECT on table pause_end",
    "console_viewer: SELECT on table active_pause",
    "console_viewer: SELECT on columns of waiting (action_id, agent, created_at, delivery_id)",
    "console_viewer: SELECT on columns of sending (action_id, delivery_id, dispatcher_id)",
    "console_viewer: SELECT on columns of delivery (action_id, delivery_id, state)",
    // How an unknown delivery ended, for the figures of the last hour: neither by whom nor why.
    "console_viewer: SELECT on columns of resolution (delivery_id, source, state)",
    // Reads as an auditor; pauses, switches, replays and resolves, and publishes nothing.
    "console_operator: USAGE on schema postcall",
    "console_operator: UPDATE on columns of action (enabled)",
    "console_operator: INSERT on columns of replay (reason, replay_of, replayed_by)",
    "console_operator: INSERT on columns of resolution (delivery_id, reason, resolved_by, state)",
    "console_operator: EXECUTE on function lock_deliveries",
    "console_operator: INSERT on columns of pause (action_id, agent, host, paused_by, reason)",
    "console_operator: INSERT on columns of pause_end (pause_id, reason, resumed_by)",
    "console_operator: SELECT on columns of action_version (action_id, db_user, key_id, method, published_at, published_by, reason, \
     timeout_ms, version)",
    "console_operator: SELECT on columns of outbox (action_ids, agent, call_bytes, call_sid, created_at, id)",
    "console_operator: SELECT on table action",
    "console_operator: SELECT on table action_switch",
    "console_operator: SELECT on table signing_change",
    "console_operator: SELECT on table waiting",
    "console_operator: SELECT on table sending",
    "console_operator: SELECT on table delivery",
    "console_operator: SELECT on table replay",
    "console_operator: SELECT on table resolution",
    "console_operator: SELECT on table dispatcher",
    "console_operator: SELECT on view delivery_history",
    "console_operator: SELECT on table pause",
    "console_operator: SELECT on table pause_end",
    "console_operator: SELECT on table active_pause",
    "console_operator: SELECT on table action_test",
    "console_operator: SELECT on table action_test_result",
    "console_operator: SELECT on view action_test_history",
    "console_operator: SELECT on view action_target",
    "console_operator: SELECT on table dispatcher_report",
    "console_operator: SELECT on table retention",
    "console_operator: SELECT on table _sqlx_migrations",
    "console_operator: EXECUTE on function history_begins",
    "console_operator: EXECUTE on function uuid_v7_floor",
    "console_operator: EXECUTE on function version_digest",
];

/// Functions that work with the rights of their owner: all of them triggers but those that are granted above.
const OWNERS_RIGHTS: &str = "admit_action_test, admit_finding, admit_pause, admit_pause_end, admit_signing_key, await_deliveries, await_replay, \
     expire_response_excerpts, identify_replay, lock_deliveries, make_partitions, prune_partition, prune_plan, prune_rows, prune_tests, \
     record_pruning, record_secret_change, record_signing_end, record_switch, register_call, secrets_for_test, signing_keys_for_test, version_digest";

/// Functions whose path is not fixed, because that would cost the platform something at each insert: there is no name in them
/// that the path could give another meaning.
const QUALIFIED: &str = "await_deliveries, call_sid, register_call";

/// What in these functions is looked for along the path: an operator that is not named with its schema, or a word that stands for
/// one; a type; a function; a table. (A table of a trigger's own comes before all others.)
const UNQUALIFIED: &str = r#"
    WITH left_over AS (
        SELECT proname, regexp_replace(prosrc, $$--[^\n]*|'[^']*'|:=|::|OPERATOR\(pg_catalog\.[^)]+\)|(pg_catalog|postcall)\.("left"|\w+)$$,
                                       ' qualified ', 'g') AS source
        FROM pg_proc WHERE pronamespace = 'postcall'::regnamespace AND proname = ANY (string_to_array($1, ', '))
    )
    SELECT proname || ': ' || found[1]
    FROM left_over, regexp_matches(source, $$[-+*/<>=~!@#%^&|`?]+|\m(?:IN|BETWEEN|DISTINCT|NULLIF|LIKE|ILIKE|SIMILAR)\M|\m(?:text|json|uuid|name)\M|\m(?!coalesce|ARRAY|ANY)\w+\(|(?:FROM|JOIN)\s+(?!new_call|qualified)\w+$$, 'gi') AS found"#;

/// The rights in the catalog, in the form of [`RIGHTS`]: on the schema, tables, views, sequences, columns, functions and types,
/// and the defaults for what is created later.
const CATALOG: &str = r#"
    WITH granted AS (
        SELECT 'schema ' || nspname AS object, nspowner AS owner, acl.*
        FROM pg_namespace, aclexplode(coalesce(nspacl, acldefault('n', nspowner))) AS acl
        WHERE nspname = 'postcall'
        UNION ALL
        SELECT CASE relkind WHEN 'S' THEN 'sequence ' WHEN 'v' THEN 'view ' ELSE 'table ' END || relname::text, relowner, acl.*
        FROM pg_class,
             aclexplode(coalesce(relacl, acldefault(CASE relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", relowner))) AS acl
        WHERE relnamespace = 'postcall'::regnamespace AND relkind NOT IN ('i', 'I')
        UNION ALL
        SELECT 'columns of ' || relname || ' (' || string_agg(attname, ', ' ORDER BY attname) || ')', relowner, acl.*
        FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid, aclexplode(attacl) AS acl
        WHERE relnamespace = 'postcall'::regnamespace AND NOT attisdropped
        GROUP BY relname, relowner, acl.grantor, acl.grantee, acl.privilege_type, acl.is_grantable
        UNION ALL
        SELECT 'function ' || proname, proowner, acl.*
        FROM pg_proc, aclexplode(coalesce(proacl, acldefault('f', proowner))) AS acl
        WHERE pronamespace = 'postcall'::regnamespace
        UNION ALL
        SELECT 'type ' || typname, typowner, acl.*
        FROM pg_type, aclexplode(typacl) AS acl WHERE typnamespace = 'postcall'::regnamespace
        UNION ALL
        SELECT 'default of ' || defaclobjtype::text, defaclrole, acl.*
        FROM pg_default_acl, aclexplode(defaclacl) AS acl
    )
    SELECT CASE grantee WHEN 0 THEN 'PUBLIC' ELSE regexp_replace(grantee::regrole::text, '^postcall_', '') END || ': '
           || string_agg(privilege_type || CASE WHEN is_grantable THEN ' WITH GRANT OPTION' ELSE '' END, ', '
                         ORDER BY privilege_type)
           || ' on ' || object
    FROM granted WHERE grantee <> owner
    GROUP BY grantee, object"#;

/// The newest migration that the previous release has.
const LAST_OF_THE_PREVIOUS_RELEASE: u64 = 20_261_123_000_014;

async fn texts(database: &Database, sql: &str) -> Vec<String> {
    let mut texts: Vec<String> = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(&database.pool).await.unwrap();
    texts.sort();
    texts
}

#[tokio::test]
async fn each_role_has_the_rights_of_the_list_and_no_other() {
    let database = Database::new().await;
    let mut expected: Vec<String> = RIGHTS.iter().map(|&right| right.to_owned()).collect();
    expected.sort();
    assert_eq!(texts(&database, CATALOG).await, expected);
}

#[tokio::test]
async fn migrating_changes_no_default_of_a_platform_s_own_functions() {
    let database = Database::new().await;
    assert_eq!(database.number("SELECT count(*) FROM pg_default_acl").await, 0);
    // What the migrating user creates for the platform afterwards is as open as it was before.
    database.execute("CREATE FUNCTION public.price() RETURNS integer LANGUAGE sql RETURN 1").await;
    assert_eq!(
        database.number("SELECT has_function_privilege('pg_monitor', 'public.price()', 'EXECUTE')::int::bigint").await,
        1
    );
}

#[tokio::test]
async fn no_function_looks_for_anything_along_its_caller_s_path() {
    let database = Database::new().await;
    // Its path is fixed, or its body was bound when it was created, or each name in it stands with its schema.
    let open = "SELECT string_agg(proname, ', ' ORDER BY proname) FROM pg_proc
                WHERE pronamespace = 'postcall'::regnamespace
                  AND NOT coalesce('search_path=pg_catalog, pg_temp' = ANY (proconfig), prosqlbody IS NOT NULL)";
    assert_eq!(database.text(open).await.unwrap(), QUALIFIED);
    let astray: Vec<String> = sqlx::query_scalar(UNQUALIFIED).bind(QUALIFIED).fetch_all(&database.pool).await.unwrap();
    assert_eq!(astray, Vec::<String>::new());
    let owners = "SELECT string_agg(proname, ', ' ORDER BY proname) FROM pg_proc
                  WHERE pronamespace = 'postcall'::regnamespace AND prosecdef";
    assert_eq!(database.text(owners).await.unwrap(), OWNERS_RIGHTS);
    let unbound = &format!(
        "SELECT proname::text FROM pg_proc WHERE pronamespace = 'postcall'::regnamespace AND prosecdef
         AND proname <> ALL (string_to_array('{QUALIFIED}', ', '))
         AND NOT coalesce('search_path=pg_catalog, pg_temp' = ANY (proconfig), false)"
    );
    assert_eq!(texts(&database, unbound).await, Vec::<String>::new());
}

#[tokio::test]
async fn whoever_was_granted_the_outbox_directly_can_still_insert_after_the_migration() {
    let database = Database::at_version(LAST_OF_THE_PREVIOUS_RELEASE).await;
    let own = database.login(&[]).await;
    let user = own.split(['/', '@']).nth(2).unwrap();
    database
        .execute(&format!(
            "GRANT USAGE ON SCHEMA postcall TO {user}; GRANT INSERT (agent, call) ON postcall.outbox TO {user}"
        ))
        .await;
    database.store.migrate().await.unwrap();
    let mut platform = PgConnection::connect(&own).await.unwrap();
    let insert = "INSERT INTO postcall.outbox (agent, call) VALUES ('a', '{}')";
    sqlx::query(insert).execute(&mut platform).await.unwrap();
}

#[tokio::test]
async fn a_user_who_only_reads_can_back_up_everything() {
    let database = Database::new().await;
    // Row-level security, even one that hides nothing, makes pg_dump fail for such a user.
    let hiding = "SELECT relname::text FROM pg_class WHERE relnamespace = 'postcall'::regnamespace AND relrowsecurity";
    assert_eq!(texts(&database, hiding).await, Vec::<String>::new());
}

/// A statement that is tried, and the right that it needs, in the form of [`RIGHTS`]: role, privilege, object, column.
struct Trial {
    sql: String,
    needs: Right,
}

type Right = (String, String, String);

/// What the lines of [`RIGHTS`] allow a role: privilege, object, and column ("" for the whole object).
fn written(role: &str) -> BTreeSet<Right> {
    let mut rights = BTreeSet::new();
    for line in RIGHTS {
        let (of, rest) = line.split_once(": ").unwrap();
        let (privileges, object) = rest.split_once(" on ").unwrap();
        if of != role {
            continue;
        }
        let object = object.strip_prefix("columns of ").unwrap_or_else(|| object.split_once(' ').unwrap().1);
        let (name, columns) = object.split_once(" (").unwrap_or((object, ")"));
        for privilege in privileges.split(", ") {
            for column in columns.trim_end_matches(')').split(", ") {
                rights.insert((privilege.to_owned(), name.to_owned(), column.to_owned()));
            }
        }
    }
    rights
}

/// Everything that can be tried on what the schema holds now. Nothing is changed by it: EXPLAIN checks rights and executes nothing.
async fn trials(database: &Database) -> Vec<Trial> {
    let mut trials = Vec::new();
    let mut add = |privilege: &str, object: &str, column: &str, sql: String| {
        trials.push(Trial { sql, needs: (privilege.to_owned(), object.to_owned(), column.to_owned()) });
    };
    let columns = "SELECT relname::text, attname::text, relkind::text FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid
                   WHERE relnamespace = 'postcall'::regnamespace AND relkind IN ('r', 'p', 'v') AND attnum > 0 AND NOT attisdropped";
    let columns: Vec<(String, String, String)> = sqlx::query_as(columns).fetch_all(&database.pool).await.unwrap();
    assert!(columns.len() > 200);
    for (table, column, kind) in &columns {
        add("SELECT", table, column, format!("EXPLAIN SELECT {column} FROM postcall.{table}"));
        if kind != "v" {
            let insert = format!("EXPLAIN INSERT INTO postcall.{table} ({column}) VALUES (DEFAULT)");
            add("INSERT", table, column, insert);
            add("UPDATE", table, column, format!("EXPLAIN UPDATE postcall.{table} SET {column} = DEFAULT"));
        }
    }
    let tables: BTreeSet<(&String, &String)> = columns.iter().map(|(table, _, kind)| (table, kind)).collect();
    for (table, kind) in tables {
        if kind != "v" {
            add("DELETE", table, "", format!("EXPLAIN DELETE FROM postcall.{table}"));
            add("TRUNCATE", table, "", format!("TRUNCATE postcall.{table}"));
            add(
                "TRIGGER",
                table,
                "",
                format!("CREATE TRIGGER t BEFORE INSERT ON postcall.{table} EXECUTE FUNCTION mine()"),
            );
            add("OWNER", table, "", format!("DROP TABLE postcall.{table}"));
            add("OWNER", table, "", format!("ALTER TABLE postcall.{table} DISABLE TRIGGER ALL"));
        }
    }
    let functions = "SELECT proname::text, 'EXPLAIN SELECT postcall.' || proname || '(' || coalesce(
                            (SELECT string_agg('NULL::' || type::regtype, ', ') FROM unnest(proargtypes) AS type), '') || ')'
                     FROM pg_proc WHERE pronamespace = 'postcall'::regnamespace AND prorettype <> 'trigger'::regtype
                     UNION ALL
                     SELECT proname::text, 'CREATE TRIGGER t BEFORE INSERT ON own EXECUTE FUNCTION postcall.' || proname || '()'
                     FROM pg_proc WHERE pronamespace = 'postcall'::regnamespace AND prorettype = 'trigger'::regtype";
    for (name, sql) in sqlx::query_as::<_, (String, String)>(functions).fetch_all(&database.pool).await.unwrap() {
        add("EXECUTE", &name, "", sql);
    }
    let sequences =
        "SELECT relname::text FROM pg_class WHERE relnamespace = 'postcall'::regnamespace AND relkind = 'S'";
    for sequence in texts(database, sequences).await {
        add("SELECT", &sequence, "", format!("SELECT last_value FROM postcall.{sequence}"));
        add("UPDATE", &sequence, "", format!("SELECT setval('postcall.{sequence}', 1)"));
    }
    for (what, sql) in BEYOND {
        add(what, "", "", sql.to_owned());
    }
    trials
}

/// What nobody may but the owner and superusers, beside what the catalog lists.
const BEYOND: [(&str, &str); 16] = [
    ("CREATE", "CREATE TABLE postcall.mine ()"),
    ("CREATE", "CREATE FUNCTION postcall.mine() RETURNS integer LANGUAGE sql RETURN 1"),
    ("CREATE", "CREATE TABLE public.mine ()"),
    ("CREATE", "CREATE SCHEMA mine"),
    ("OWNER", "DROP SCHEMA postcall CASCADE"),
    ("OWNER", "ALTER FUNCTION postcall.refuse_change() RENAME TO mine"),
    ("SUPERUSER", "SET session_replication_role = replica"),
    ("SUPERUSER", "SET log_statement = 'none'"),
    ("SUPERUSER", "COPY (SELECT 1) TO PROGRAM 'true'"),
    ("SUPERUSER", "SELECT pg_read_file('PG_VERSION')"),
    ("SUPERUSER", "SELECT lo_import('/etc/hostname')"),
    ("SUPERUSER", "SET SESSION AUTHORIZATION postgres"),
    ("SUPERUSER", "CREATE ROLE mine"),
    ("SUPERUSER", "SET ROLE postgres"),
    ("SUPERUSER", "SET ROLE pg_read_all_data"),
    ("SUPERUSER", "SET ROLE pg_monitor"),
];

/// Every role of ours.
const ALL_ROLES: [&str; 7] =
    ["platform", "dispatcher", "publisher", "sealer", "auditor", "console_viewer", "console_operator"];

/// A user with this role (none, if it is empty) tries everything, and gets what is written in [`RIGHTS`] and nothing else.
async fn tries_everything(role: &str) {
    let database = Database::new().await;
    let name = format!("postcall_{role}");
    let roles: &[&str] = if role.is_empty() { &[] } else { &[&name] };
    let mut connection = database.connect_as(roles).await;
    let own =
        "CREATE TEMP TABLE own (); CREATE FUNCTION pg_temp.mine() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN END'";
    sqlx::raw_sql(own).execute(&mut connection).await.unwrap();
    let allowed = written(role);
    let (mut wrong, mut gained) = (Vec::new(), 0);
    for Trial { sql, needs } in trials(&database).await {
        let (privilege, object, _) = &needs;
        let whole = (privilege.clone(), object.clone(), String::new());
        let is_allowed = allowed.contains(&needs) || allowed.contains(&whole);
        let error = attempt(&mut connection, &sql.replace("FUNCTION mine()", "FUNCTION pg_temp.mine()")).await;
        let refused = error.as_deref().is_some_and(|error| error.starts_with("42501 "));
        gained += usize::from(error.is_none());
        if (is_allowed && error.is_some()) || (!is_allowed && !refused) {
            wrong.push(format!("{sql}: {}", error.as_deref().unwrap_or("it is done")));
        }
    }
    for other in ALL_ROLES.into_iter().filter(|other| *other != role) {
        let error = attempt(&mut connection, &format!("SET ROLE postcall_{other}")).await;
        assert!(error.as_deref().is_some_and(|error| error.starts_with("42501 ")), "SET ROLE {other}: {error:?}");
    }
    assert_eq!(wrong, Vec::<String>::new(), "{role}");
    assert_eq!(gained > 0, !role.is_empty(), "{role}: {gained}");
}

/// One test for each role, so that each says for itself what is wrong.
macro_rules! each_role_tries_everything {
    ($($test:ident = $role:literal,)+) => {$(
        #[tokio::test]
        async fn $test() {
            tries_everything($role).await;
        }
    )+};
}

each_role_tries_everything! {
    the_platform_tries_everything_and_gets_what_is_written = "platform",
    a_dispatcher_tries_everything_and_gets_what_is_written = "dispatcher",
    a_publisher_tries_everything_and_gets_what_is_written = "publisher",
    a_sealer_tries_everything_and_gets_what_is_written = "sealer",
    an_auditor_tries_everything_and_gets_what_is_written = "auditor",
    a_viewer_of_the_console_tries_everything_and_gets_what_is_written = "console_viewer",
    an_operator_of_the_console_tries_everything_and_gets_what_is_written = "console_operator",
    a_user_without_a_role_tries_everything_and_gets_nothing = "",
}
