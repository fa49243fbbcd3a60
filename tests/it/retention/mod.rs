//! Old calls and old history are removed: no delivery that is still to be sent loses its call, nothing waits for the
//! removal, the accounts stay exact, and no role removes more than the owner permits.

use postcall::domain::retention::Retention;
use serde_json::{Value, json};

use crate::support::database::Database;
use crate::support::process::{postcall_at, postcall_on, stderr, stdout};

mod leaving;
mod open;
mod others_go_on;
mod permitted;
mod replays;

/// A month and a week of long ago.
const WEEK: &str = "outbox_20250602";
const MONTH: &str = "delivery_20250601";
/// A time in both.
const THEN: &str = "2025-06-04 12:00Z";

/// A database with an action of agent a, partitions of long ago, and those of today.
async fn database_with_past() -> Database {
    let database = Database::new().await;
    database.publish("a", "default", &json!({"method": "POST", "url": "https://receiver.example/"})).await;
    partition(&database, "outbox", WEEK, "2025-06-02Z", "2025-06-09Z").await;
    partition(&database, "delivery", MONTH, "2025-06-01Z", "2025-07-01Z").await;
    database
}

async fn partition(database: &Database, parent: &str, name: &str, from: &str, to: &str) {
    let script = format!(
        "DO $$ BEGIN
             EXECUTE format('CREATE TABLE postcall.{name} PARTITION OF postcall.{parent} FOR VALUES FROM (%L) TO (%L)',
                            postcall.uuid_v7_floor('{from}'), postcall.uuid_v7_floor('{to}'));
             PERFORM postcall.guard_against_truncate('postcall.{name}');
             EXECUTE 'ALTER TABLE postcall.{name} ' || CASE '{parent}'
                 WHEN 'outbox' THEN 'ENABLE ALWAYS TRIGGER calls_are_immutable'
                 ELSE 'ENABLE ALWAYS TRIGGER history_is_immutable' END;
         END $$"
    );
    database.execute(&script).await;
}

/// Inserts `count` calls as if it were `then`, with ids of that time, and leaves their deliveries waiting.
async fn calls_of(database: &Database, then: &str, count: i32) {
    insert(database, then, "overlay(gen_random_uuid()::text PLACING left(postcall.uuid_v7_floor(at)::text, 14) || '7' FROM 1 FOR 15)::uuid", count)
        .await;
}

/// As [`calls_of`], with ids that are no times.
async fn foreign_calls_of(database: &Database, then: &str, count: i32) {
    insert(database, then, "overlay(gen_random_uuid()::text PLACING 'f' FROM 1 FOR 1)::uuid", count).await;
}

async fn insert(database: &Database, then: &str, id: &str, count: i32) {
    let script = format!(
        "WITH made AS (INSERT INTO postcall.outbox (id, agent, call, created_at)
                       SELECT {id}, 'a', '{{}}', at
                       FROM (SELECT '{then}'::timestamptz + n * interval '1 ms' AS at FROM generate_series(1, {count}) AS n) AS c
                       RETURNING id)
         SELECT count(*) FROM made;
         UPDATE postcall.waiting SET delivery_id =
             overlay(gen_random_uuid()::text PLACING left(postcall.uuid_v7_floor(created_at)::text, 14) || '7' FROM 1 FOR 15)::uuid
         WHERE created_at < now() - interval '1 day'"
    );
    database.execute(&script).await;
}

fn keep(calls: &str, history: &str) -> Retention {
    Retention::new(calls.parse().unwrap(), history.parse().unwrap()).unwrap()
}

/// What the command says of each partition: its outcome, and why.
fn prune(database: &Database, arguments: &[&str]) -> Vec<(String, String, String)> {
    prune_at(&database.url, arguments)
}

fn prune_at(url: &str, arguments: &[&str]) -> Vec<(String, String, String)> {
    let output = postcall_at(url, &[&["prune", "--format", "json"], arguments].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    let rows: Vec<Value> = serde_json::from_str(&stdout(&output)).unwrap();
    let text = |row: &Value, name: &str| row[name].as_str().unwrap_or_default().to_owned();
    rows.iter().map(|row| (text(row, "partition"), text(row, "outcome"), text(row, "why"))).collect()
}

fn outcome<'a>(rows: &'a [(String, String, String)], partition: &str) -> &'a str {
    rows.iter().find(|row| row.0 == partition).map_or("", |row| &row.1)
}

fn why<'a>(rows: &'a [(String, String, String)], partition: &str) -> &'a str {
    rows.iter().find(|row| row.0 == partition).map_or("", |row| &row.2)
}

async fn exists(database: &Database, table: &str) -> bool {
    database.number(&format!("SELECT count(to_regclass('postcall.{table}'))")).await == 1
}

async fn calls(database: &Database) -> i64 {
    database.number("SELECT count(*) FROM postcall.outbox").await
}

fn accounts_agree(database: &Database) {
    let output = postcall_on(database, &["check-invariants"]);
    assert!(output.status.success(), "{}", stdout(&output));
}
