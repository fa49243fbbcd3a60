//! What the platform pays for writing into the outbox.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use sqlx::postgres::PgListener;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::calls;
use crate::database::Database;
use crate::print::{chapter, figure, note, rounded};
use crate::process::Dispatcher;
use crate::receiver::Receiver;

/// Sessions that write at the same time.
const WRITERS: usize = 8;
/// The same, where the outbox is held against a second insert.
const FEW_AND_MANY_WRITERS: [usize; 3] = [1, 8, 32];
/// Each case is measured so often, in turns, so that a slow moment of the machine does not fall on one alone.
const ROUNDS: usize = 3;
/// Single inserts whose write-ahead log is counted.
const WAL_INSERTS: usize = 2_000;
/// What bloats the figures of the first moments.
const FALLING_ASLEEP: Duration = Duration::from_secs(2);

const OUTBOX: &str = "INSERT INTO postcall.outbox (agent, call) VALUES ($1, $2::text::json)";
const PLAIN: &str = "INSERT INTO plain (agent, call) VALUES ($1, $2::text::json)";
const PLAIN_TABLE: &str = "CREATE TABLE plain (id uuid PRIMARY KEY DEFAULT postcall.uuid_v7(), agent text NOT NULL,
    call json COMPRESSION lz4 NOT NULL, created_at timestamptz NOT NULL DEFAULT clock_timestamp())";
/// What a platform would write instead: a narrow row of its own, in the same transaction.
const SECOND: &str = "INSERT INTO second (agent) VALUES ($1)";
const SECOND_TABLE: &str = "CREATE TABLE second (id uuid PRIMARY KEY DEFAULT postcall.uuid_v7(), agent text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp())";
/// An agent without an action: its calls are kept, and nothing is sent.
const QUIET_AGENT: &str = "agent_without_action";

/// Measures and prints.
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
        empty_the_queue(&database).await;
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
    beside_a_second_insert(&database, turn).await;
    database.close().await;
}

/// The outbox, which makes the row of the queue itself, beside a plain table and a second insert by hand.
async fn beside_a_second_insert(database: &Database, turn: Duration) {
    chapter("The outbox beside a plain table and a plain second insert, each in a transaction: BEGIN, INSERT, COMMIT");
    database.execute(SECOND_TABLE).await;
    for writers in FEW_AND_MANY_WRITERS {
        let (mut by_hand, mut outbox) = (Cost::default(), Cost::default());
        for _ in 0..ROUNDS {
            by_hand += transactions(database, &[PLAIN, SECOND], writers, turn).await;
            outbox += transactions(database, &[OUTBOX], writers, turn).await;
            database.execute("TRUNCATE plain, second").await;
            empty_the_queue(database).await;
        }
        note(&format!("{writers} sessions, in turns, three times each."));
        figure("plain table and second insert", rounded(by_hand.per_second()), "commits/s");
        let ratio = rounded(outbox.per_second() / by_hand.per_second());
        figure("the outbox", format!("{} ({ratio})", rounded(outbox.per_second())), "commits/s");
        figure("CPU of Postgres for the first", rounded(by_hand.micros_each()), "µs");
        let ratio = rounded(by_hand.micros_each() / outbox.micros_each());
        figure("CPU of Postgres for the second", format!("{} ({ratio})", rounded(outbox.micros_each())), "µs");
    }
}

/// What a number of commits took.
#[derive(Clone, Copy, Default)]
struct Cost {
    commits: f64,
    seconds: f64,
    server_seconds: f64,
}

impl Cost {
    fn per_second(self) -> f64 {
        self.commits / self.seconds
    }

    fn micros_each(self) -> f64 {
        self.server_seconds * 1e6 / self.commits
    }
}

impl std::ops::AddAssign for Cost {
    fn add_assign(&mut self, other: Cost) {
        self.commits += other.commits;
        self.seconds += other.seconds;
        self.server_seconds += other.server_seconds;
    }
}

/// Lets `writers` sessions commit transactions of these inserts for as long as `turn`.
async fn transactions(database: &Database, inserts: &'static [&'static str], writers: usize, turn: Duration) -> Cost {
    let texts = Arc::new(calls::all());
    let mut connections = Vec::new();
    for _ in 0..writers {
        connections.push(PgConnection::connect(&database.url).await.unwrap());
    }
    let (server, started) = (database.cpu_seconds().await, Instant::now());
    let tasks: Vec<_> = connections
        .into_iter()
        .enumerate()
        .map(|(writer, mut connection)| {
            let texts = texts.clone();
            tokio::spawn(async move {
                let mut count = 0;
                while started.elapsed() < turn {
                    let index = writer + count * writers;
                    let mut transaction = connection.begin().await.unwrap();
                    for sql in inserts {
                        let insert = sqlx::query(AssertSqlSafe(*sql)).bind(calls::agent(index));
                        // The second insert has no call.
                        let insert = if sql.contains("$2") { insert.bind(calls::nth(&texts, index)) } else { insert };
                        insert.execute(&mut *transaction).await.unwrap();
                    }
                    transaction.commit().await.unwrap();
                    count += 1;
                }
                (count, connection)
            })
        })
        .collect();
    let (mut count, mut open) = (0, Vec::new());
    for task in tasks {
        let (committed, connection) = task.await.unwrap();
        count += committed;
        open.push(connection);
    }
    let seconds = started.elapsed().as_secs_f64();
    // Read before the sessions end: what they used is gone with them.
    let server_seconds = database.cpu_seconds().await - server;
    Cost { commits: count as f64, seconds, server_seconds }
}

/// Write-ahead log of single inserts.
async fn wal(database: &Database) {
    note("WAL: single inserts after a CHECKPOINT, full_page_writes as the server has it.");
    let plain = wal_of(database, PLAIN, None).await;
    let quiet = wal_of(database, OUTBOX, Some(QUIET_AGENT)).await;
    let action = wal_of(database, OUTBOX, None).await;
    figure("WAL of an insert into a plain table of the same shape", rounded(plain), "bytes");
    figure("WAL of an insert into the outbox, agent without an action", rounded(quiet), "bytes");
    figure("WAL of an insert into the outbox, agent with an action", rounded(action), "bytes");
    figure("which is what the queue's row costs", rounded(action - quiet), "bytes");
    empty_the_queue(database).await;
}

/// What was written for nobody to send.
async fn empty_the_queue(database: &Database) {
    database.execute("DELETE FROM postcall.waiting").await;
    database.execute("VACUUM postcall.waiting").await;
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

/// As [`write`], with a dispatcher that sleeps at the beginning; and how often it was rung for.
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

/// Lets all writers commit for as long as `turn`; how many commits, and how many a second.
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
