//! Measures what sealing history costs a dispatcher under full load: the same calls are delivered without a sealer and with one, in
//! turns, each in a database of its own. A dispatcher seals only if it has a key, so the one without has none.
//!
//! A sealer works every 15 s. So a run should take a minute or more (`--calls`), and what is left unsealed at its end is waited for:
//! CPU and WAL are those of all deliveries and of all their leaves, whereas the rate is that until the last record.

use std::time::Duration;

use crate::calls;
use crate::database::Database;
use crate::lanes::{Body, Lane};
use crate::print::{Figure, chapter, measured, note, ratios};
use crate::process::{self, Dispatcher, Program, SealKey, Shares};
use crate::receiver::Receiver;
use crate::throughput::order;

/// How often it is asked whether everything is sealed.
const LOOK: Duration = Duration::from_millis(250);
/// How long a sealer may take for what was written last.
const PATIENCE: Duration = Duration::from_secs(300);

/// The results of one run. CPU and WAL are those of one delivery, with all that belongs to it.
struct Run {
    per_second: f64,
    seconds: f64,
    dispatcher_us: f64,
    server_us: f64,
    /// CPU time of the one process of Postgres that works for the sealer.
    sealer_us: f64,
    wal_bytes: f64,
    sealed_share: f64,
    /// The longest time from the end of a delivery until it was sealed.
    lag_seconds: f64,
}

/// Measures and prints all figures of this subject.
pub async fn measure(calls: usize, concurrency: usize, rounds: usize) {
    chapter(&format!("Sealing: {concurrency} in flight, {calls} calls, with a sealer and without"));
    note("Ratios are of neighbours in time, with against without; in brackets least and most of all rounds.");
    let key = SealKey::new();
    let programs = [
        Program::candidate().told("without", &[]),
        Program::candidate().told("with", &["--seal-key-file", key.path()]),
    ];
    let receiver = Receiver::start();
    // A run with a sealer lasts some seconds longer, in which a vacuum would be counted as the sealer's.
    let server = Database::new("bench_seal").await;
    server.set_autovacuum(false).await;
    let mut runs = [Vec::new(), Vec::new()];
    for round in 0..rounds {
        for index in order(programs.len(), round) {
            runs[index].push(once(&programs[index], index == 1, (calls, concurrency), &receiver).await);
        }
    }
    server.set_autovacuum(true).await;
    server.close().await;
    let figures: [Figure<Run>; 9] = [
        ("deliveries from the first claim to the last record", |run| run.per_second, "/s"),
        ("that took", |run| run.seconds, "s"),
        ("of them sealed by then", |run| run.sealed_share, ""),
        ("the longest time from the end of a delivery to its seal", |run| run.lag_seconds, "s"),
        ("CPU of a delivery, dispatcher", |run| run.dispatcher_us, "µs"),
        ("CPU of a delivery, Postgres, all its processes", |run| run.server_us, "µs"),
        ("of that, the process that works for the sealer", |run| run.sealer_us, "µs"),
        (
            "the same, of the CPU of dispatcher and Postgres",
            |run| run.sealer_us / (run.dispatcher_us + run.server_us),
            "",
        ),
        ("WAL of a delivery", |run| run.wal_bytes, "bytes"),
    ];
    let values = |runs: &[Run], value: fn(&Run) -> f64| -> Vec<f64> { runs.iter().map(value).collect() };
    for (program, runs) in programs.iter().zip(&runs) {
        for (what, value, unit) in figures {
            measured(&format!("{}: {what}", program.label), &values(runs, value), unit);
        }
    }
    let compared: [Figure<Run>; 5] = [
        ("rate", |run| run.per_second, ""),
        ("CPU of the dispatcher", |run| run.dispatcher_us, ""),
        ("CPU of Postgres", |run| run.server_us, ""),
        ("CPU of both", |run| run.dispatcher_us + run.server_us, ""),
        ("WAL", |run| run.wal_bytes, ""),
    ];
    for (what, value, unit) in compared {
        measured(
            &format!("with against without: {what}"),
            &ratios(&values(&runs[1], value), &values(&runs[0], value)),
            unit,
        );
    }
}

/// Delivers all calls once, and seals them if the program does.
async fn once(program: &Program, seals: bool, (calls, concurrency): (usize, usize), receiver: &Receiver) -> Run {
    receiver.forget();
    receiver.count_only();
    let database = Database::new("bench_seal_run").await;
    database.publish_lanes(&Lane::on_one_host(receiver, calls::AGENTS, Body::Default)).await;
    database.pile(0..calls, calls::AGENTS).await;
    database.execute("VACUUM ANALYZE").await;
    database.execute("CHECKPOINT").await;
    let (wal, server) = (database.counters().await.wal_bytes, database.server_cpu_seconds().await);
    let dispatcher = Dispatcher::of(program, &database.url, concurrency, Shares::All).await;
    receiver.has(calls).await;
    database.has_recorded(calls).await;
    let sealed = database.number("SELECT coalesce(max(size), 0) FROM postcall.seal_slice").await;
    if seals {
        all_is_sealed(&database).await;
    }
    let dispatcher_seconds = dispatcher.cpu_seconds();
    let sealer_seconds = if seals { sealer_cpu_seconds(&database).await } else { 0.0 };
    let server_seconds = database.server_cpu_seconds().await - server;
    let wal_bytes = (database.counters().await.wal_bytes - wal) as f64;
    dispatcher.stop().await;
    database.assert_all_delivered(calls).await;
    assert_eq!(receiver.count(), calls, "DOUBLED: as many requests as calls");
    let span = "SELECT extract(epoch FROM max(finished_at) - min(claimed_at)) FROM postcall.delivery";
    let (count, seconds) = (calls as f64, database.number(span).await);
    let lag_seconds = database.number(LONGEST_LAG).await;
    database.close().await;
    Run {
        per_second: count / seconds,
        seconds,
        dispatcher_us: dispatcher_seconds * 1e6 / count,
        server_us: server_seconds * 1e6 / count,
        sealer_us: sealer_seconds * 1e6 / count,
        wal_bytes: wal_bytes / count,
        sealed_share: sealed / count,
        lag_seconds,
    }
}

/// Seconds from the end of a delivery until it was sealed, at most; 0 if nothing was sealed. A slice ends within a transaction, so the
/// oldest delivery of the one before may be counted again: that makes it longer, never shorter.
const LONGEST_LAG: &str = "
    SELECT coalesce(max(extract(epoch FROM slice.sealed_at - oldest.finished_at)), 0)::float8
    FROM (SELECT sealed_at, through_xact, lag(through_xact, 1, 0::bigint) OVER (ORDER BY size) AS after_xact FROM postcall.seal_slice) slice
    CROSS JOIN LATERAL (
        SELECT min(finished_at) AS finished_at FROM postcall.delivery WHERE xact BETWEEN slice.after_xact AND slice.through_xact
    ) oldest";

/// The CPU seconds of the process of Postgres that works for the sealer, found by its last statement. It is exact, whereas the cost by the
/// difference of two runs is as noisy as the machine.
async fn sealer_cpu_seconds(database: &Database) -> f64 {
    let pid = "SELECT max(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
               AND query ~ 'record_send|INTO postcall.seal_slice|UPDATE postcall.seal_turn'";
    process::cpu_seconds(database.number(pid).await as u32)
}

/// Waits until every delivery that there is now is sealed. Panics if that does not happen.
pub async fn all_is_sealed(database: &Database) {
    let newest = database.number("SELECT max(xact) FROM postcall.delivery").await;
    // Asks the log alone: a question to history, asked again and again, would cost more than sealing does.
    let sealed = "SELECT coalesce(max(through_xact), -1) FROM postcall.seal_slice";
    for _ in 0..PATIENCE.as_millis() / LOOK.as_millis() {
        if database.number(sealed).await >= newest {
            return;
        }
        tokio::time::sleep(LOOK).await;
    }
    panic!("history is not sealed");
}
