//! Compares inserts into the outbox with what it would cost the platform to write the same by itself: the call into a
//! plain table, and one narrow row into a second table.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::calls;
use crate::database::Database;
use crate::print::{chapter, measured, note, ratios};
use crate::throughput::order;

/// How many sessions write at the same time.
const WRITERS: [usize; 3] = [1, 8, 32];

const TABLES: &str = "CREATE TABLE plain (id uuid PRIMARY KEY DEFAULT postcall.uuid_v7(), agent text NOT NULL,
        call json COMPRESSION lz4 NOT NULL, created_at timestamptz NOT NULL DEFAULT clock_timestamp());
    CREATE TABLE second (delivery_id uuid PRIMARY KEY DEFAULT postcall.uuid_v7(), call_id uuid NOT NULL, agent text NOT NULL,
        action_id bigint NOT NULL, created_at timestamptz NOT NULL DEFAULT clock_timestamp())";
const OUTBOX: &[&str] = &["INSERT INTO postcall.outbox (agent, call) VALUES ($1, $2::text::json)"];
const PLAIN: &[&str] = &["INSERT INTO plain (agent, call) VALUES ($1, $2::text::json)"];
/// Writes both rows by one statement, with as few round trips as an insert into the outbox.
const BOTH_AT_ONCE: &[&str] = &["WITH call AS (
        INSERT INTO plain (agent, call) VALUES ($1, $2::text::json) RETURNING id, agent)
    INSERT INTO second (call_id, agent, action_id) SELECT id, agent, 1 FROM call"];
/// Writes both rows as a platform would write them.
const BOTH: &[&str] = &[
    "INSERT INTO plain (agent, call) VALUES ($1, $2::text::json)",
    "INSERT INTO second (call_id, agent, action_id) SELECT gen_random_uuid(), $1, octet_length($2)",
];

/// The cases that are compared: a name, and the statements of one transaction. The outbox comes first.
const CASES: [(&str, &[&str]); 4] = [
    ("the outbox, agent with an action, no dispatcher runs", OUTBOX),
    ("a plain table of the same shape", PLAIN),
    ("a plain table and a second one, one statement", BOTH_AT_ONCE),
    ("a plain table and a second one, two statements in a transaction", BOTH),
];

/// Measures and prints all figures of this part. Each turn lasts `turn`.
pub async fn measure(turn: Duration, rounds: usize) {
    for writers in WRITERS {
        chapter(&format!("What the platform pays: {writers} sessions, each inserting one call a transaction"));
        note("In turns, every other round backwards.");
        let database = Database::new("bench_writers").await;
        database.publish("http://127.0.0.1:9/").await;
        database.execute(TABLES).await;
        let mut rates: Vec<Vec<f64>> = vec![Vec::new(); CASES.len()];
        for round in 0..rounds {
            for which in order(CASES.len(), round) {
                rates[which].push(write(&database.url, CASES[which].1, writers, turn).await);
                // No dispatcher claims what waits, so the queue is emptied: a long queue must not change the
                // comparison.
                database.empty_queue().await;
                database.execute("TRUNCATE plain, second").await;
                database.execute("CHECKPOINT").await;
            }
        }
        for ((what, _), rates) in CASES.iter().zip(&rates) {
            measured(&format!("{writers} writers: {what}"), rates, "commits/s");
        }
        for ((what, _), reference) in CASES.iter().zip(&rates).skip(1) {
            measured(&format!("{writers} writers: the outbox against {what}"), &ratios(&rates[0], reference), "");
        }
        database.close().await;
    }
}

/// Lets `writers` sessions commit for as long as `turn`. Returns the commits a second.
async fn write(url: &str, statements: &'static [&'static str], writers: usize, turn: Duration) -> f64 {
    let texts = Arc::new(calls::all());
    let mut connections = Vec::new();
    for _ in 0..writers {
        connections.push(PgConnection::connect(url).await.unwrap());
    }
    let started = Instant::now();
    let writing: Vec<_> = connections
        .into_iter()
        .enumerate()
        .map(|(writer, mut connection)| {
            let texts = texts.clone();
            tokio::spawn(async move {
                let mut count = 0;
                while started.elapsed() < turn {
                    let index = writer + count * writers;
                    commit(&mut connection, statements, &calls::agent(index), &calls::nth(&texts, index)).await;
                    count += 1;
                }
                connection.close().await.unwrap();
                count
            })
        })
        .collect();
    let mut count = 0;
    for writer in writing {
        count += writer.await.unwrap();
    }
    count as f64 / started.elapsed().as_secs_f64()
}

/// Commits one transaction. A single statement is a transaction by itself, so it needs no BEGIN.
async fn commit(connection: &mut PgConnection, statements: &[&'static str], agent: &str, text: &str) {
    if let [statement] = statements {
        sqlx::query(AssertSqlSafe(*statement)).bind(agent).bind(text).execute(connection).await.unwrap();
        return;
    }
    let mut transaction = connection.begin().await.unwrap();
    for statement in statements {
        let insert = sqlx::query(AssertSqlSafe(*statement)).bind(agent).bind(text);
        insert.execute(&mut *transaction).await.unwrap();
    }
    transaction.commit().await.unwrap();
}
