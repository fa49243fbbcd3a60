//! The promise while things die: real processes, real signals, a real Postgres. Each test ends with the accounts, which
//! fail if anything was requested twice, lost sight of, or shown as something it was not.
//!
//! Decisions left to chance come from a seed that is printed. `scripts/torture --faults` runs these tests longer and larger.

use serde_json::json;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::support::database::Database;

mod connections;
mod disk;
mod failover;
mod kills;
mod outages;
mod pauses;
mod points;
mod receivers;
mod restarts;

/// Text that only the claim's statement contains.
const CLAIM: &str = "DELETE FROM postcall.waiting";
/// Text that only the statement that records outcomes contains.
const COMPLETION: &str = "WITH done AS";

/// Gives agent `a` an action that sends its calls to `url`, with a timeout that no test comes near.
pub async fn send_calls_to(database: &Database, url: &str) {
    send_calls_within(database, url, 120_000).await;
}

/// As [`send_calls_to`], with another timeout.
async fn send_calls_within(database: &Database, url: &str, timeout_ms: u32) {
    let action = json!({"method": "POST", "url": url, "timeout": timeout_ms, "body": "{\"number\": ${number}}"});
    database.publish("a", "default", &action).await;
}

/// Inserts calls of agent `a`.
async fn insert_calls(database: &Database, calls: usize) {
    database
        .execute(&format!(
            "INSERT INTO postcall.outbox (agent, call)
             SELECT 'a', json_build_object('number', number) FROM generate_series(1, {calls}) AS number"
        ))
        .await;
}

/// A transaction of the test's own that stands in somebody's way, until it is let go.
struct Obstacle(PgConnection);

impl Obstacle {
    /// Runs `sql` in a transaction that stays open.
    async fn put(database: &Database, sql: &str) -> Obstacle {
        let mut connection = PgConnection::connect(&database.url).await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(format!("BEGIN; {sql}"))).execute(&mut connection).await.unwrap();
        Obstacle(connection)
    }

    /// Waits until a statement that contains `marker` has run into it.
    async fn is_met_by(&self, database: &Database, marker: &str) {
        let blocked = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database()
                                      AND application_name = 'postcall' AND wait_event_type = 'Lock'";
        database.until(&format!("{blocked} AND query LIKE '%{marker}%')")).await;
    }

    /// Takes it out of the way.
    async fn remove(mut self) {
        sqlx::raw_sql("ROLLBACK").execute(&mut self.0).await.unwrap();
    }
}
