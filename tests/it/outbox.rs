//! The platform's side: one insert is all that it needs, and nothing of postcall can hinder it.

use serde_json::json;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::support::database::Database;

/// An enabled action of agent `a`; it is never sent here.
async fn database_with_action() -> Database {
    let database = Database::new().await;
    database.publish("a", "default", &json!({"method": "POST", "url": "https://receiver.example/hook"})).await;
    database
}

#[tokio::test]
async fn a_committed_call_waits_once_for_each_enabled_action_of_its_agent_and_for_no_other() {
    let database = database_with_action().await;
    let action = |enabled: bool| json!({"method": "GET", "url": "https://receiver.example/", "enabled": enabled});
    database.publish("a", "second", &action(true)).await;
    database.publish("a", "off", &action(false)).await;
    database.publish("b", "default", &action(true)).await;
    database.insert_call("a", &json!({})).await;
    let names = "SELECT string_agg(action || ' ' || state, ', ' ORDER BY action) FROM postcall.delivery_history";
    assert_eq!(database.text(names).await.unwrap(), "default waiting, second waiting");
}

#[tokio::test]
async fn a_call_of_an_agent_without_actions_is_kept_and_waits_for_nothing() {
    let database = Database::new().await;
    database.insert_call("nobody", &json!({})).await;
    assert_eq!(database.number("SELECT count(*) FROM postcall.outbox").await, 1);
    assert_eq!(database.number("SELECT count(*) FROM postcall.waiting").await, 0);
}

#[tokio::test]
async fn a_rolled_back_call_never_existed() {
    let database = database_with_action().await;
    let mut transaction = database.pool.begin().await.unwrap();
    sqlx::query("INSERT INTO postcall.outbox (agent, call) VALUES ('a', '{}')")
        .execute(&mut *transaction)
        .await
        .unwrap();
    transaction.rollback().await.unwrap();
    assert_eq!(database.number("SELECT count(*) FROM postcall.outbox").await, 0);
    assert_eq!(database.number("SELECT count(*) FROM postcall.waiting").await, 0);
}

#[tokio::test]
async fn ten_thousand_calls_in_one_statement_wait_once_each() {
    let database = database_with_action().await;
    database
        .execute("INSERT INTO postcall.outbox (agent, call) SELECT 'a', json_build_object('n', n) FROM generate_series(1, 10000) AS n")
        .await;
    assert_eq!(database.number("SELECT count(DISTINCT call_id) FROM postcall.waiting").await, 10_000);
    assert_eq!(database.number("SELECT count(DISTINCT delivery_id) FROM postcall.waiting").await, 10_000);
    let versions = "SELECT count(*) FROM postcall.outbox WHERE substr(id::text, 15, 1) = '7'";
    assert_eq!(database.number(versions).await, 10_000, "ids are UUIDs of version 7");
}

#[tokio::test]
async fn what_the_platform_wrote_is_kept_to_the_letter() {
    let database = database_with_action().await;
    let written = r#"{"z": 1.10,  "a":"\u0000é\ud83d", "n": 123456789012345678901234567890, "n": 1e400}"#;
    sqlx::query("INSERT INTO postcall.outbox (agent, call) VALUES ('a', $1::text::json)")
        .bind(written)
        .execute(&database.pool)
        .await
        .unwrap();
    assert_eq!(database.text("SELECT call::text FROM postcall.outbox").await.unwrap(), written);
    assert_eq!(database.number("SELECT count(*) FROM postcall.delivery_history").await, 1, "the view copes with it");
}

#[tokio::test]
async fn bad_input_is_refused_with_its_reason() {
    let database = database_with_action().await;
    let insert =
        |agent: &str, call: &str| format!("INSERT INTO postcall.outbox (agent, call) VALUES ('{agent}', '{call}')");
    assert_eq!(database.error_of(&insert("a", "{oops")).await, "invalid input syntax for type json");
    for not_an_object in ["[]", "1", "\"text\"", "null"] {
        let message = database.error_of(&insert("a", not_an_object)).await;
        assert!(message.contains("\"call_must_be_a_json_object\""), "{message}");
    }
    let message = database.error_of(&insert("", "{}")).await;
    assert!(message.contains("\"agent_must_not_be_empty\""), "{message}");
    let message = database.error_of(&insert(&"ä".repeat(201), "{}")).await;
    assert!(message.contains("\"agent_has_at_most_200_characters\""), "{message}");
    let message = database.error_of("INSERT INTO postcall.outbox (agent) VALUES ('a')").await;
    assert!(message.contains("null value in column \"call\""), "{message}");
    assert_eq!(database.number("SELECT count(*) FROM postcall.outbox").await, 0);
}

#[tokio::test]
async fn the_same_id_twice_is_refused_or_on_request_ignored() {
    let database = database_with_action().await;
    // An id in the range of a partition, one that belongs in the default one, and one of the platform's making.
    for id in [
        "01a20a0c-146c-7e1c-9aa8-e0f101fcdd31",
        "9b2f0a3e-0000-4000-8000-000000000001",
        "00000000-0000-0000-0000-000000000001",
    ] {
        let insert = format!("INSERT INTO postcall.outbox (id, agent, call) VALUES ('{id}', 'a', '{{}}')");
        database.execute(&insert).await;
        let message = database.error_of(&insert).await;
        assert!(message.contains("duplicate key value violates unique constraint"), "{message}");
        database.execute(&format!("{insert} ON CONFLICT DO NOTHING")).await;
        database.execute(&format!("{insert} ON CONFLICT (id) DO NOTHING")).await;
    }
    assert_eq!(database.number("SELECT count(*) FROM postcall.outbox").await, 3);
    assert_eq!(database.number("SELECT count(*) FROM postcall.waiting").await, 3);
}

#[tokio::test]
async fn inserting_never_waits_for_whatever_else_is_going_on() {
    let database = database_with_action().await;
    database.insert_call("a", &json!({})).await;
    // There is a partition to be made, of a time that is still to come.
    database
        .execute(
            "DO $$ BEGIN
               EXECUTE 'DROP TABLE ' || (SELECT max(inhrelid::regclass::text) FROM pg_inherits
                                         WHERE inhparent = 'postcall.outbox'::regclass AND inhrelid::regclass::text ~ '[0-9]$');
             END $$",
        )
        .await;
    // Open transactions that hold every lock that our own statements take.
    let mut open = Vec::new();
    for statement in [
        "SELECT * FROM postcall.waiting FOR UPDATE",
        "UPDATE postcall.action SET version = version, enabled = false",
        "SELECT 1 / count(*) FROM postcall.make_partitions()",
        "SELECT setval('postcall.bell', 0)",
        "INSERT INTO postcall.dispatcher (name, version, lease_until) VALUES ('d', '1', now())",
    ] {
        let mut connection = PgConnection::connect(&database.url).await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(format!("BEGIN; {statement}"))).execute(&mut connection).await.unwrap();
        open.push(connection);
    }
    database.execute("BEGIN; SET LOCAL lock_timeout = '1ms'; INSERT INTO postcall.outbox (agent, call) VALUES ('a', '{}'); COMMIT").await;
    assert_eq!(database.number("SELECT count(*) FROM postcall.waiting").await, 2);
    drop(open);
}

#[tokio::test]
async fn a_missing_partition_never_fails_an_insert() {
    let database = database_with_action().await;
    database
        .execute(
            "DO $$ DECLARE name text; BEGIN
               FOR name IN SELECT inhrelid::regclass FROM pg_inherits WHERE inhparent = 'postcall.outbox'::regclass
                   AND inhrelid <> 'postcall.outbox_default'::regclass
               LOOP EXECUTE 'DROP TABLE ' || name; END LOOP; END $$",
        )
        .await;
    database.insert_call("a", &json!({})).await;
    assert_eq!(database.number("SELECT count(*) FROM postcall.outbox_default").await, 1);
    // The range that the default partition now covers is left to it; later ranges get partitions again.
    let made = database.session().make_partitions().await.unwrap();
    assert_eq!(made.len(), 4, "two weeks and both partitions of foreign ids: {made:?}");
    assert_eq!(database.session().make_partitions().await.unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn the_platform_s_role_may_insert_calls_and_nothing_else() {
    let database = database_with_action().await;
    let platform = |sql: &str| format!("SET ROLE postcall_platform; {sql}; RESET ROLE");
    database.execute(&platform("INSERT INTO postcall.outbox (agent, call) VALUES ('a', '{}') RETURNING id")).await;
    assert_eq!(database.number("SELECT count(*) FROM postcall.waiting").await, 1);
    for refused in [
        "SELECT call FROM postcall.outbox",
        "UPDATE postcall.outbox SET agent = 'b'",
        "DELETE FROM postcall.outbox",
        "SELECT * FROM postcall.waiting",
        "SELECT * FROM postcall.delivery_history",
        "SELECT * FROM postcall.action",
        "INSERT INTO postcall.outbox (agent, call, created_at) VALUES ('a', '{}', now())",
        "INSERT INTO postcall.outbox_default (agent, call) VALUES ('a', '{}')",
        "SELECT postcall.make_partitions()",
    ] {
        let mut connection = PgConnection::connect(&database.url).await.unwrap();
        let error = sqlx::raw_sql(AssertSqlSafe(platform(refused))).execute(&mut connection).await.expect_err(refused);
        assert!(error.to_string().contains("permission denied"), "{refused}: {error}");
    }
}

#[tokio::test]
async fn the_platform_rings_only_while_a_dispatcher_sleeps() {
    let database = database_with_action().await;
    let mut listener = sqlx::postgres::PgListener::connect_with(&database.pool).await.unwrap();
    listener.listen("postcall").await.unwrap();
    // Nobody sleeps; then somebody slept, until before now; then somebody sleeps; then somebody is awake again.
    database.insert_call("a", &json!({})).await;
    database.session().request_wake_up(std::time::Duration::ZERO).await.unwrap();
    database.insert_call("a", &json!({})).await;
    database.session().request_wake_up(std::time::Duration::from_secs(5)).await.unwrap();
    database.insert_call("nobody", &json!({})).await;
    database.insert_call("a", &json!({"rings": true})).await;
    database.session().cancel_wake_up().await.unwrap();
    database.insert_call("a", &json!({})).await;
    // Notifications arrive in the order of commits: the mark comes after all that the inserts sent.
    database.execute("NOTIFY postcall, 'mark'").await;
    assert_eq!(listener.recv().await.unwrap().payload(), "", "one ring");
    assert_eq!(listener.recv().await.unwrap().payload(), "mark", "and no other");
}
