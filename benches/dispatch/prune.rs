//! Measures what others notice while old partitions are removed: the longest waits of inserts and of deliveries.

use std::time::{Duration, Instant};

use tokio::process::Command;

use crate::calls;
use crate::database::Database;
use crate::history;
use crate::print::{chapter, figure, measured, note, percentile, rounded};
use crate::process::{Dispatcher, Program, Shares};
use crate::receiver::Receiver;
use crate::stream::{self, Pace, Written, ms, waits};

/// How many calls come a second meanwhile.
const RATE: u32 = 100;
/// How many days are kept of the year that [`history`] fills.
const KEPT_DAYS: &str = "180";
/// How long to wait until the load is steady.
const BEFORE: Duration = Duration::from_secs(1);

/// Measures and prints all figures of this subject. There are `rows` deliveries of a year, and about half of them are
/// removed. The load lasts for `seconds` at least.
pub async fn measure(programs: &[&Program], rows: i64, seconds: u64, concurrency: usize) {
    for program in programs {
        let label = program.label;
        chapter(&format!("Prune, {label}: half of {rows} deliveries of a year leave under {RATE} calls a second"));
        if program.has_prune() {
            beside_load(program, rows, seconds, concurrency).await;
        } else {
            note("skipped: this binary has no prune");
        }
    }
}

async fn beside_load(program: &Program, rows: i64, seconds: u64, concurrency: usize) {
    let receiver = Receiver::start();
    let database = Database::of(program, "bench_prune").await;
    history::fill(&database, rows, 0).await;
    database.publish(&receiver.url()).await;
    let dispatcher = Dispatcher::of(program, &database.url, concurrency, Shares::All).await;
    tokio::time::sleep(BEFORE).await;
    let count = usize::try_from(seconds).unwrap() * RATE as usize;
    let (partitions, kept) = (partitions(&database).await, rows_kept(&database).await);

    let quiet = load(&database, 0, count).await;
    let mut command = program.command(&database.url);
    command.args(["prune", "--keep-calls-days", KEPT_DAYS, "--keep-history-days", KEPT_DAYS]);
    let pruning = tokio::spawn(prune(command));
    let mut noisy = Vec::new();
    // The load goes on until the pruning has ended.
    while noisy.is_empty() || !pruning.is_finished() {
        noisy.extend(load(&database, quiet.len() + noisy.len(), count).await);
    }
    let took = pruning.await.unwrap();
    receiver.has(quiet.len() + noisy.len()).await;
    let arrivals = receiver.all();
    dispatcher.stop().await;
    assert_eq!(arrivals.len(), quiet.len() + noisy.len(), "LOST: as many calls have to arrive as were committed");

    figure("the pruning took", rounded(took.as_secs_f64()), "s");
    figure("partitions before", partitions, "");
    figure("partitions after", self::partitions(&database).await, "");
    figure("calls and deliveries before", kept, "");
    figure("calls and deliveries after", rows_kept(&database).await, "");
    for (what, written) in [("before it", &quiet), ("beside it", &noisy)] {
        let mut inserts: Vec<f64> = written.iter().map(|one| ms(one.began, one.committed)).collect();
        let (mut receipts, _) = waits(written, &arrivals, Instant::now());
        for (name, share) in [("p99", 0.99), ("longest", 1.0)] {
            measured(&format!("INSERT and COMMIT {what}, {name}"), &[percentile(&mut inserts, share)], "ms");
            measured(&format!("COMMIT to receipt {what}, {name}"), &[percentile(&mut receipts, share)], "ms");
        }
    }
    database.close().await;
}

async fn load(database: &Database, first: usize, count: usize) -> Vec<Written> {
    let agents: Vec<String> = (0..calls::AGENTS).map(calls::agent_of).collect();
    stream::write(database, &agents, first, count, Pace::Even(Duration::from_secs(1) / RATE)).await
}

/// Prunes, beginning a little later than the load. Returns how long the pruning took.
async fn prune(mut command: Command) -> Duration {
    tokio::time::sleep(BEFORE).await;
    let started = Instant::now();
    let output = command.output().await.unwrap();
    assert!(output.status.success(), "prune: {}", String::from_utf8_lossy(&output.stderr));
    started.elapsed()
}

async fn partitions(database: &Database) -> f64 {
    let sql = "SELECT count(*) FROM pg_inherits
               WHERE inhparent IN ('postcall.outbox'::regclass, 'postcall.delivery'::regclass)";
    database.number(sql).await
}

async fn rows_kept(database: &Database) -> f64 {
    database.number("(SELECT count(*) FROM postcall.outbox) + (SELECT count(*) FROM postcall.delivery)").await
}
