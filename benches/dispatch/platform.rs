//! Measures what inserts into the outbox cost the platform.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use sqlx::AssertSqlSafe;
use sqlx::postgres::PgListener;

use crate::calls;
use crate::database::Database;
use crate::print::{chapter, figure, note, rounded};
use crate::process::Dispatcher;
use crate::receiver::Receiver;

/// How many sessions write at the same time.
const WRITERS: usize = 8;
/// How often each case is measured. The cases take turns, so that a slow moment of the machine affects more than one.
const ROUNDS: usize = 3;
/// How many single inserts are made to count their WAL.
const WAL_INSERTS: usize = 2_000;
/// How long to wait until the dispatcher sleeps.
const FALLING_ASLEEP: Duration = Duration::from_secs(2);

const OUTBOX: &str = "INSERT INTO postcall.outbox (agent, call) VALUES ($1, $2::text::json)";
const PLAIN: &str = "INSERT INTO plain (agent, call) VALUES ($1, $2::text::json)";
const PLAIN_TABLE: &str = "CREATE TABLE plain (id uuid PRIMARY KEY DEFAULT postcall.uuid_v7(), agent text NOT NULL,
    call json COMPRESSION lz4 NOT NULL, created_at timestamptz NOT NULL DEFAULT clock_timestamp())";
/// An agent without an action. Its calls are kept, and nothing is sent.
const QUIET_AGENT: &str = "agent_without_action";

/// Measures and prints all figures of this subject. Each turn lasts `seconds`.
pub async fn measure(seconds: u64) {
    chapter("What the platform pays: 8 sessions, each inserting one call a transaction");
    let receiver = Receiver::start();
    let database = Database::new("bench_platform").await;
    database.publish(&receiver.url()).await;
    database.execute(PLAIN_TABLE).await;
    wal(&database).await;

    let turn = Duration::from_secs(seconds);
    let (mut plain, mut quiet, mut stopped, mut running) = (0.0, 0.0, 0.0, 0.0);
    let mut rings = 0;
    for _ in 0..ROUNDS {
        plain += write(&database, PLAIN, None, turn).await.1;
        quiet += write(&database, OUTBOX, Some(QUIET_AGENT), turn).await.1;
        stopped += write(&database, OUTBOX, None, turn).await.1;
        database.empty_queue().await;
        let (rate, rung) = beside_dispatcher(&database, &receiver, turn).await;
        running += rate;
        rings += rung;
    }
    note("In turns, three times each; ratios against the plain table.");
    let line = |what: &str, sum: f64| {
        let rate = rounded(sum / ROUNDS as f64);
        figure(what, format!("{rate} ({})", rounded(sum / plain)), "commits/s");
    };
    line("a plain table of the same shape", plain);
    line("the outbox, agent without an action", quiet);
    line("the outbox, agent with an action, no dispatcher runs", stopped);
    line("the outbox, agent with an action, a dispatcher delivers on the same two cores", running);
    figure("notifications rung during the last, in all its turns", rings, "");
    database.close().await;
}

/// Measures the WAL of single inserts.
async fn wal(database: &Database) {
    note("WAL: single inserts after a CHECKPOINT, full_page_writes as the server has it.");
    let plain = wal_of(database, PLAIN, None).await;
    let quiet = wal_of(database, OUTBOX, Some(QUIET_AGENT)).await;
    let action = wal_of(database, OUTBOX, None).await;
    figure("WAL of an insert into a plain table of the same shape", rounded(plain), "bytes");
    figure("WAL of an insert into the outbox, agent without an action", rounded(quiet), "bytes");
    figure("WAL of an insert into the outbox, agent with an action", rounded(action), "bytes");
    figure("which is what the queue's row costs", rounded(action - quiet), "bytes");
    database.empty_queue().await;
}

async fn wal_of(database: &Database, sql: &'static str, agent: Option<&str>) -> f64 {
    database.execute("CHECKPOINT").await;
    let texts = calls::all();
    let from = database.counters().await.wal_bytes;
    for index in 0..WAL_INSERTS {
        let agent = agent.map_or_else(|| calls::agent(index), str::to_owned);
        let text = calls::nth(&texts, index);
        sqlx::query(AssertSqlSafe(sql)).bind(agent).bind(text).execute(&database.pool).await.unwrap();
    }
    (database.counters().await.wal_bytes - from) as f64 / WAL_INSERTS as f64
}

/// Does the same as [`write`], beside a dispatcher that sleeps at the beginning. Returns the commits a second and the
/// number of notifications.
async fn beside_dispatcher(database: &Database, receiver: &Receiver, turn: Duration) -> (f64, usize) {
    receiver.forget();
    let dispatcher = Dispatcher::start(&database.url, 64).await;
    tokio::time::sleep(FALLING_ASLEEP).await;
    let mut listener = PgListener::connect(&database.url).await.unwrap();
    listener.listen("postcall").await.unwrap();
    let rings = Arc::new(AtomicUsize::new(0));
    let counted = rings.clone();
    let counting = tokio::spawn(async move {
        while listener.recv().await.is_ok() {
            counted.fetch_add(1, Ordering::Relaxed);
        }
    });
    let (count, rate) = write(database, OUTBOX, None, turn).await;
    let rung = rings.load(Ordering::Relaxed);
    counting.abort();
    receiver.has(count).await;
    receiver.arrivals(count);
    dispatcher.stop().await;
    (rate, rung)
}

/// Lets all writers commit for as long as `turn`. Returns the number of commits, and the commits a second.
async fn write(database: &Database, sql: &'static str, agent: Option<&'static str>, turn: Duration) -> (usize, f64) {
    let texts = Arc::new(calls::all());
    let started = Instant::now();
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let (pool, texts) = (database.pool.clone(), texts.clone());
            tokio::spawn(async move {
                let mut connection = pool.acquire().await.unwrap();
                let mut count = 0;
                while started.elapsed() < turn {
                    let index = writer + count * WRITERS;
                    let agent = agent.map_or_else(|| calls::agent(index), str::to_owned);
                    let text = calls::nth(&texts, index);
                    let insert = sqlx::query(AssertSqlSafe(sql)).bind(agent).bind(text);
                    insert.execute(&mut *connection).await.unwrap();
                    count += 1;
                }
                count
            })
        })
        .collect();
    let mut count = 0;
    for writer in writers {
        count += writer.await.unwrap();
    }
    (count, count as f64 / started.elapsed().as_secs_f64())
}
