//! What is kept for good cannot be changed, even by the owner of the tables, and under whatever name a table is used.

use serde_json::json;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::support::database::Database;
use crate::support::endings::{end_all, ended};

/// An ordinary session, and one that replays what another server did, in which ordinary triggers do not fire.
const SESSIONS: [&str; 2] = ["origin", "replica"];

/// A row in every table and every partition: old ones, those made later, the default and the one of foreign ids.
async fn database_with_rows_everywhere() -> Database {
    let database = Database::new().await;
    database.publish("a", "default", &json!({"method": "POST", "url": "https://receiver.example/"})).await;
    // The last partitions are made anew, as housekeeping makes them.
    let last = "SELECT max(inhrelid::regclass::text) FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
                WHERE inhparent = 'postcall.PARENT'::regclass AND relname ~ '[0-9]$'";
    for parent in ["outbox", "delivery"] {
        let partition = database.text(&last.replace("PARENT", parent)).await.unwrap();
        database.execute(&format!("DROP TABLE {partition}")).await;
        database.execute("SELECT postcall.make_partitions()").await;
        assert_eq!(database.text(&last.replace("PARENT", parent)).await.unwrap(), partition);
    }
    // The least id of each partition, one that lies before all of them, and one that lies between them.
    database
        .execute(
            "INSERT INTO postcall.outbox (id, agent, call)
             SELECT CASE WHEN relname ~ '_default$' THEN '01d00000-0000-7000-8000-000000000000'
                         ELSE coalesce(substring(pg_get_expr(relpartbound, oid) FROM $$FROM \\('([^']+)'\\)$$),
                                       '00000000-0000-4000-8000-000000000000') END::uuid, 'a', '{}'
             FROM pg_class WHERE relnamespace = 'postcall'::regnamespace AND relispartition AND relname ~ '^(outbox|delivery)'
                 AND relkind = 'r'
             ON CONFLICT DO NOTHING;
             UPDATE postcall.waiting SET delivery_id = call_id",
        )
        .await;
    end_all(&database, "failed").await;
    ended(&database, "unknown", 1).await;
    database
        .execute(
            "INSERT INTO postcall.replay (replay_of, replayed_by, reason)
             SELECT delivery_id, 'Ada', 'r' FROM postcall.delivery WHERE state = 'failed' LIMIT 1;
             INSERT INTO postcall.resolution (delivery_id, state, resolved_by, reason)
             SELECT delivery_id, 'failed', 'Ada', 'r' FROM postcall.delivery WHERE state = 'unknown';
             INSERT INTO postcall.dispatcher (name, version, lease_until, lost_at) VALUES ('d', '1', now(), now());
             INSERT INTO postcall.sending (delivery_id, call_id, agent, action_id, action_version, created_at,
                 dispatcher_id, claim, claimed_at)
             VALUES (postcall.uuid_v7(), postcall.uuid_v7(), 'a', 1, 1, now(), 1, postcall.uuid_v7(), now());
             INSERT INTO postcall.dispatcher_report (dispatcher_id, concurrency, in_flight, unrecorded, hosts, hosts_left_out)
             VALUES (1, 1, 1, 1, '[]', 0);
             INSERT INTO postcall.secret (agent, name, key_id, wrapped_key, sealed_value)
             VALUES ('a', 's', '0123456789abcdef', decode(repeat('00', 72), 'hex'), decode(repeat('00', 41), 'hex'));
             INSERT INTO postcall.secret_opening (agent, names, opened_by, reason) VALUES ('a', '{s}', 'Ada', 'r');
             INSERT INTO postcall.signing_key (signing_key_id, agent, scheme, key_id, wrapped_key, sealed_value)
             VALUES (postcall.uuid_v7(), 'a', 'v1', '0123456789abcdef', decode(repeat('00', 72), 'hex'), decode(repeat('00', 72), 'hex'));
             INSERT INTO postcall.pause (agent, reason, paused_by) VALUES ('a', 'r', 'Ada'), ('b', 'r', 'Ada');
             INSERT INTO postcall.pause_end (pause_id, reason, resumed_by) VALUES (1, 'r', 'Ada');
             INSERT INTO postcall.response_excerpt VALUES (postcall.uuid_v7(), '', '', 0, now());
             INSERT INTO postcall.action_test (agent, action, action_version, call_source, timeout_ms, tested_by, reason)
             VALUES ('a', 'default', 1, 'sample', 100, 'Ada', 'r');
             INSERT INTO postcall.action_test_result (test_id, state) SELECT test_id, 'unsent' FROM postcall.action_test;
             INSERT INTO postcall.pruning (history_begins) VALUES ('2001-01-01Z');
             INSERT INTO postcall.seal_slice (size, first_leaf, through_xact, through_kind, through_id, kinds, ids, hashes, frontier, root,
                 checkpoint, leaf_fields)
             VALUES (1, 0, 0, 1, postcall.uuid_v7(), '1', uuid_send(postcall.uuid_v7()), sha256(''), sha256(''), sha256(''), '', 28);
             INSERT INTO postcall.seal_node VALUES (8, 0, sha256(''))",
        )
        .await;
    database
}

/// Tables of the schema, partitions and parents among them.
async fn tables(database: &Database, condition: &str) -> Vec<String> {
    let sql = format!(
        "SELECT oid::regclass::text FROM pg_class WHERE relnamespace = 'postcall'::regnamespace AND relkind IN ('r', 'p')
             AND relname <> '_sqlx_migrations' AND {condition} ORDER BY 1"
    );
    sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(&database.pool).await.unwrap()
}

async fn refused(database: &Database, session: &str, sql: &str) {
    let mut owner = PgConnection::connect(&database.url).await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(format!("SET session_replication_role = {session}")))
        .execute(&mut owner)
        .await
        .unwrap();
    let error = sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut owner).await.expect_err(sql);
    assert!(error.to_string().contains("are never changed or deleted"), "{session}: {sql}: {error}");
}

#[tokio::test]
async fn no_table_and_no_partition_can_be_emptied_by_truncate() {
    let database = database_with_rows_everywhere().await;
    let all = tables(&database, "true").await;
    assert!(all.len() >= 19 && all.iter().any(|table| table == "postcall.outbox_foreign"), "{all:?}");
    for table in &all {
        let rows = database.number(&format!("SELECT count(*) FROM {table}")).await;
        assert!(rows > 0, "{table} is empty");
        for session in SESSIONS {
            refused(&database, session, &format!("TRUNCATE {table} CASCADE")).await;
        }
        assert_eq!(database.number(&format!("SELECT count(*) FROM {table}")).await, rows);
    }
}

#[tokio::test]
async fn rows_that_are_kept_for_good_are_neither_changed_nor_deleted_by_whatever_name_of_their_table() {
    let database = database_with_rows_everywhere().await;
    let kept = "(oid IN ('postcall.delivery'::regclass, 'postcall.action_version'::regclass, 'postcall.action_switch'::regclass,
                         'postcall.replay'::regclass, 'postcall.resolution'::regclass, 'postcall.pause'::regclass,
                         'postcall.pause_end'::regclass, 'postcall.pruning'::regclass, 'postcall.seal_slice'::regclass,
                         'postcall.seal_node'::regclass, 'postcall.action_test'::regclass,
                         'postcall.action_test_result'::regclass, 'postcall.secret_change'::regclass,
                         'postcall.secret_opening'::regclass, 'postcall.signing_change'::regclass)
                 OR oid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = 'postcall.delivery'::regclass))";
    for table in tables(&database, kept).await {
        let column = match table.as_str() {
            "postcall.pause" => "host",
            "postcall.pause_end" => "pause_id",
            "postcall.pruning" => "pruned_at",
            "postcall.seal_slice" => "root",
            "postcall.seal_node" => "hash",
            table if table.contains("action_test") => "test_id",
            "postcall.secret_change" => "name",
            "postcall.secret_opening" => "names",
            "postcall.signing_change" => "agent",
            table if table.contains("action") => "action_id",
            _ => "delivery_id",
        };
        for session in SESSIONS {
            for sql in [
                format!("UPDATE {table} SET {column} = {column}"),
                format!("DELETE FROM {table}"),
                format!("MERGE INTO {table} USING (SELECT) AS s ON true WHEN MATCHED THEN DELETE"),
                format!("MERGE INTO {table} USING (SELECT) AS s ON true WHEN MATCHED THEN UPDATE SET {column} = {table}.{column}")
                    .replace("= postcall.", "= "),
            ] {
                refused(&database, session, &sql).await;
            }
        }
    }
    let calls = "oid = 'postcall.outbox'::regclass OR oid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = 'postcall.outbox'::regclass)";
    for table in tables(&database, &format!("({calls})")).await {
        for session in SESSIONS {
            refused(&database, session, &format!("UPDATE {table} SET call = '{{}}'")).await;
            refused(&database, session, &format!("UPDATE {table} SET id = gen_random_uuid()")).await;
        }
    }
    for session in SESSIONS {
        refused(&database, session, "DELETE FROM postcall.action").await;
        refused(&database, session, "UPDATE postcall.action SET agent = 'b'").await;
        refused(&database, session, "UPDATE postcall.action SET name = 'b'").await;
        refused(&database, session, "DELETE FROM postcall.dispatcher").await;
        refused(&database, session, "UPDATE postcall.active_pause SET agent = 'c'").await;
    }
}

#[tokio::test]
async fn a_dispatcher_that_has_ended_never_comes_back_to_life() {
    let database = Database::new().await;
    let mut session = database.session();
    let lost = Database::register(&mut session).await;
    let stopped = Database::register(&mut session).await;
    database.execute(&format!("UPDATE postcall.dispatcher SET lost_at = now() WHERE dispatcher_id = {lost}")).await;
    session.retire(stopped).await.unwrap();
    let mut dispatcher = database.connect_as(&["postcall_dispatcher"]).await;
    for change in [
        format!("lost_at = NULL, lease_until = now() + interval '1 hour' WHERE dispatcher_id = {lost}"),
        format!("lost_at = now() + interval '1 hour' WHERE dispatcher_id = {lost}"),
        format!("stopped_at = NULL WHERE dispatcher_id = {stopped}"),
    ] {
        let sql = format!("UPDATE postcall.dispatcher SET {change}");
        let error = sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut dispatcher).await.expect_err(&change);
        assert!(error.to_string().contains("are never changed or deleted"), "{error}");
    }
}

#[tokio::test]
async fn an_action_s_versions_count_up_and_its_newest_exists() {
    let database = Database::new().await;
    let action = json!({"method": "POST", "url": "https://receiver.example/"});
    database.publish("a", "default", &action).await;
    database.publish("a", "default", &action).await;
    let mut publisher = database.connect_as(&["postcall_publisher"]).await;
    let version = |number: i32| {
        format!(
            "INSERT INTO postcall.action_version (action_id, version, method, url, timeout_ms)
             VALUES (1, {number}, 'GET', 'https://receiver.example/', 1000)"
        )
    };
    for (sql, reason) in [
        // Written ahead of its time it would stand in the way of whoever publishes next, for good.
        (version(3), "is not the next one"),
        ("UPDATE postcall.action SET version = 3".to_owned(), "the_newest_version_exists"),
        (format!("UPDATE postcall.action SET version = 7; {}", version(7)), "are never changed or deleted"),
        // Back to an older one without a trace.
        ("UPDATE postcall.action SET version = 1".to_owned(), "are never changed or deleted"),
        (
            "INSERT INTO postcall.action (agent, enabled, version) VALUES ('b', true, 1)".to_owned(),
            "the_newest_version_exists",
        ),
    ] {
        let error = sqlx::raw_sql(AssertSqlSafe(sql.as_str())).execute(&mut publisher).await.expect_err(&sql);
        assert!(error.to_string().contains(reason), "{sql}: {error}");
    }
    database.publish("a", "default", &action).await;
    assert_eq!(database.number("SELECT version::bigint FROM postcall.action").await, 3);
}
