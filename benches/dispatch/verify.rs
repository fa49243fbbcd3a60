//! Measures how fast history is sealed that nobody has sealed yet, and how fast `postcall audit verify` verifies all of it.
//! `--rows` says how many deliveries there are. The rows are in the memory of the machine, if they fit in there.

use std::time::Instant;

use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::database::Database;
use crate::print::{chapter, measured, note};
use crate::process::{self, Dispatcher, Program, SealKey, Shares};
use crate::seal::all_is_sealed;

/// The script that makes the rows.
const ROWS: &str = include_str!("sealed.sql");

/// Measures and prints all figures of this subject. It verifies `rounds` times.
pub async fn measure(rows: i64, rounds: usize) {
    chapter(&format!("Verifying: {rows} deliveries of a year"));
    let database = Database::new("bench_verify").await;
    let started = Instant::now();
    let mut connection = PgConnection::connect(&database.url).await.unwrap();
    for statement in [&format!("SET bench.rows = {rows}; {ROWS}"), "VACUUM ANALYZE", "CHECKPOINT"] {
        sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut connection).await.unwrap();
    }
    connection.close().await.unwrap();
    note(&format!("The rows were made in {} s.", started.elapsed().as_secs()));

    let key = SealKey::new();
    let sealing = Program::candidate().told("with", &["--seal-key-file", key.path()]);
    let server = database.server_cpu_seconds().await;
    let dispatcher = Dispatcher::of(&sealing, &database.url, 1, Shares::All).await;
    let started = Instant::now();
    all_is_sealed(&database).await;
    measured("sealing all of it", &[started.elapsed().as_secs_f64()], "s");
    measured("CPU of sealing, dispatcher", &[dispatcher.cpu_seconds()], "s");
    measured("CPU of sealing, Postgres, all its processes", &[database.server_cpu_seconds().await - server], "s");
    dispatcher.stop().await;
    database.execute("CHECKPOINT").await;

    let mut runs = Vec::new();
    for _ in 0..rounds {
        runs.push(verify(&database, key.verifier()).await);
    }
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    note(&format!("The load of the machine at the end: {}", load.trim()));
    for (index, (what, unit)) in
        [("verifying all of it", "s"), ("CPU of verifying, postcall", "s"), ("CPU of verifying, Postgres", "s")]
            .into_iter()
            .enumerate()
    {
        measured(what, &runs.iter().map(|run| run[index]).collect::<Vec<_>>(), unit);
    }
    measured("peak memory of postcall", &[process::peak_megabytes_of_children()], "MB");
    database.close().await;
}

/// Verifies once. Returns the seconds, and the CPU seconds of postcall and of Postgres.
async fn verify(database: &Database, key: &str) -> [f64; 3] {
    let server = database.server_cpu_seconds().await;
    let (started, own) = (Instant::now(), process::cpu_seconds_of_children());
    let output =
        Program::candidate().command(&database.url).args(["audit", "verify", "--key", key]).output().await.unwrap();
    let seconds = started.elapsed().as_secs_f64();
    assert!(output.status.success(), "WRONG: {output:?}");
    [seconds, process::cpu_seconds_of_children() - own, database.server_cpu_seconds().await - server]
}
