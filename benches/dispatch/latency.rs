//! From the platform's commit to the receiver.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::calls;
use crate::database::Database;
use crate::print::{chapter, figure, note, percentiles, rounded};
use crate::process::{Dispatcher, cpu_seconds};
use crate::receiver::Receiver;

/// The steady stream's calls a second.
const RATE: u32 = 100;
/// The rare calls: so far apart that the dispatcher sleeps in between.
const RARE: (usize, Duration) = (5, Duration::from_secs(2));
/// In how long the idle dispatcher's own cost is counted.
const IDLE: Duration = Duration::from_secs(5);

/// When the platform did what.
struct Written {
    call_id: Uuid,
    began: Instant,
    committing: Instant,
}

/// Measures and prints.
pub async fn measure(seconds: u64) {
    chapter("Latency: from the platform to the receiver, one transaction a call");
    let receiver = Receiver::start();
    let database = Database::new("bench_latency").await;
    database.publish(&receiver.url()).await;
    let dispatcher = Dispatcher::start(&database.url, 64).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (cpu, counters) = (dispatcher.cpu_seconds(), database.counters().await);
    tokio::time::sleep(IDLE).await;
    let share = (dispatcher.cpu_seconds() - cpu) / IDLE.as_secs_f64();
    let transactions = database.counters().await.transactions - counters.transactions;
    figure("an idle dispatcher: share of one core", rounded(share * 100.0), "%");
    figure("an idle dispatcher: transactions", rounded(transactions as f64 / IDLE.as_secs_f64()), "/s");

    let server = database.cpu_seconds().await + dispatcher.cpu_seconds() + cpu_seconds(std::process::id());
    let count = usize::try_from(seconds * 2).unwrap() * RATE as usize;
    let mut written = stream(&database, count, Duration::from_secs(1) / RATE).await;
    let used = database.cpu_seconds().await + dispatcher.cpu_seconds() + cpu_seconds(std::process::id()) - server;
    let share = used / (seconds * 2) as f64;
    print(&database, &receiver, &written, &format!("{RATE} calls a second")).await;
    figure("share of one core that everything together used for that", rounded(share * 100.0), "%");

    note("Asleep: one call every two seconds, so that the dispatcher has to be woken by the bell.");
    receiver.forget();
    database.execute("ALTER TABLE postcall.delivery DISABLE TRIGGER ALL; TRUNCATE postcall.delivery").await;
    written = stream(&database, RARE.0, RARE.1).await;
    print(&database, &receiver, &written, "a call every 2 s").await;
    dispatcher.stop().await;
    database.close().await;
}

/// Writes calls evenly spaced, each when it is due, however long the one before it takes.
async fn stream(database: &Database, count: usize, spacing: Duration) -> Vec<Written> {
    let texts = calls::all();
    let mut due = tokio::time::interval(spacing);
    // The first tick comes at once.
    due.tick().await;
    let mut writing = Vec::with_capacity(count);
    for index in 0..count {
        due.tick().await;
        let (pool, text) = (database.pool.clone(), calls::nth(&texts, index));
        writing.push(tokio::spawn(async move { write(&pool, &calls::agent(index), &text).await }));
    }
    let mut written = Vec::with_capacity(count);
    for one in writing {
        written.push(one.await.unwrap());
    }
    written
}

/// The platform's transaction.
async fn write(pool: &sqlx::PgPool, agent: &str, call: &str) -> Written {
    let mut transaction = pool.begin().await.unwrap();
    let began = Instant::now();
    let call_id =
        sqlx::query_scalar("INSERT INTO postcall.outbox (agent, call) VALUES ($1, $2::text::json) RETURNING id")
            .bind(agent)
            .bind(call)
            .fetch_one(&mut *transaction)
            .await
            .unwrap();
    let committing = Instant::now();
    transaction.commit().await.unwrap();
    Written { call_id, began, committing }
}

async fn print(database: &Database, receiver: &Receiver, written: &[Written], what: &str) {
    receiver.has(written.len()).await;
    database.has_recorded(written.len()).await;
    let arrivals = receiver.arrivals(written.len());
    let calls: HashMap<Uuid, Uuid> =
        sqlx::query_as::<_, (Uuid, Uuid)>("SELECT call_id, delivery_id FROM postcall.delivery")
            .fetch_all(&database.pool)
            .await
            .unwrap()
            .into_iter()
            .collect();
    let since = |start: fn(&Written) -> Instant| -> Vec<f64> {
        written
            .iter()
            .map(|one| arrivals[&calls[&one.call_id]].saturating_duration_since(start(one)).as_secs_f64() * 1_000.0)
            .collect()
    };
    percentiles(&format!("{what}: from COMMIT to receipt"), &mut since(|one| one.committing));
    percentiles(&format!("{what}: from INSERT to receipt"), &mut since(|one| one.began));
}
