//! Torture: one long stream of calls against real dispatchers and a real server with a synchronous standby, while everything
//! goes wrong at once. At the end the books must balance: nothing was sent twice, nothing is lost, and nothing grew.
//!
//! `scripts/torture` runs it for an hour. Without options it is a short test of the suite, which also forges the receivers'
//! record and must notice it. It shares what starts and cuts servers with `tests/it`.

#![expect(clippy::unwrap_used, reason = "a run that cannot go on stops where it stands")]
#![expect(clippy::expect_used, reason = "likewise, saying why")]
#![expect(
    clippy::disallowed_methods,
    reason = "a test looks at the program from outside, by a clock and an exit status of its own"
)]

use std::collections::HashMap;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use uuid::Uuid;

use arguments::{Arguments, Asked, SHORT_RUN};
use chaos::Fleet;
use receivers::{Record, Seen};
use run::Run;
use servers::Servers;

mod arguments;
mod audit;
mod chaos;
mod members;
mod people;
mod platform;
mod progress;
mod receivers;
mod run;
mod scene;
mod servers;

#[path = "../it/support/cluster.rs"]
#[allow(dead_code, reason = "tests/it uses more of it")]
mod cluster;
#[path = "../it/support/database.rs"]
#[allow(dead_code, reason = "tests/it uses more of it")]
mod database;
#[path = "../it/support/not_tested.rs"]
#[allow(dead_code, reason = "tests/it uses more of it")]
mod not_tested;
#[path = "../it/support/proxy.rs"]
#[allow(dead_code, reason = "tests/it uses more of it")]
mod proxy;
#[path = "../it/support/tools.rs"]
#[allow(dead_code, reason = "tests/it uses more of it")]
mod tools;
#[path = "../it/support/wire.rs"]
mod wire;

fn main() -> ExitCode {
    let Asked::Run(arguments) = Arguments::read() else { return ExitCode::SUCCESS };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let name = if arguments.is_short { SHORT_RUN } else { "torture" };
    let wrongs = runtime.block_on(torture(arguments));
    println!("{name} ... {}", if wrongs == 0 { "ok" } else { "FAILED" });
    if wrongs == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The whole run. Returns how much was wrong.
async fn torture(arguments: Arguments) -> usize {
    println!("{arguments:?}\nPOSTCALL_TEST_SEED={} (or --seed) makes the same decisions again", arguments.seed);
    let mut servers = Servers::start().await;
    let record = Record::new();
    let ways = servers.ways.clone();
    let mut connection = ways.connect().await.unwrap();
    scene::set(&arguments.binary, &ways.others_url(), &mut connection, &record).await;
    servers.follow().await;
    let run = Run::new(arguments, record, ways);
    let mut fleet = Fleet::start(&run);
    let (acknowledged, (), (), (), samples) = tokio::join!(
        platform::complete_calls(&run),
        fleet.suffer(),
        chaos::of_servers(&run, &mut servers),
        people::order(&run),
        progress::watch(&run),
    );
    println!("the stream is over; what is left is being sent");
    settle(&run, &mut fleet).await;
    fleet.retire_all().await;
    println!("settled after {} s", run.began.elapsed().as_secs());

    let mut wrongs = progress::flatness(&samples);
    wrongs.extend(invariants(&run).await);
    wrongs.append(&mut run.register.wrongs.lock().unwrap());
    let books = audit::draw_up(&run, run.record.all(), &acknowledged).await;
    books.print();
    if !books.wrongs.is_empty() {
        books.tell(&run).await;
    }
    if run.arguments.is_short {
        wrongs.extend(forgeries(&run, &acknowledged).await);
    }
    println!("the most memory that this program had: {} MiB", members::memory_of("self", "VmHWM:").unwrap_or(0) >> 20);
    for wrong in &wrongs {
        println!("- {wrong}");
    }
    wrongs.len() + books.wrongs.len()
}

/// So long nothing may move while something is left.
const STANDSTILL: Duration = Duration::from_secs(150);

/// Lets the world behave, and waits until everything has ended.
async fn settle(run: &Run, fleet: &mut Fleet<'_>) {
    run.record.open_all();
    let (mut least, mut moved, mut told, mut cured) = (i64::MAX, Instant::now(), Instant::now(), false);
    loop {
        tokio::time::sleep(Duration::from_millis(250)).await;
        fleet.supervise();
        let Ok(mut connection) = run.ways.connect().await else { continue };
        cured = cured || sqlx::raw_sql(scene::CURE).execute(&mut connection).await.is_ok();
        let left = "SELECT (SELECT count(*) FROM postcall.waiting) + (SELECT count(*) FROM postcall.sending)";
        let Ok(left) = sqlx::query_scalar::<_, i64>(left).fetch_one(&mut connection).await else { continue };
        if left == 0 && cured {
            return;
        }
        if left < least {
            (least, moved) = (left, Instant::now());
        }
        if told.elapsed() > Duration::from_secs(10) {
            println!("{:>5} s: {left} are left, {}", run.began.elapsed().as_secs(), agents_left(&mut connection).await);
            told = Instant::now();
        }
        if moved.elapsed() > STANDSTILL {
            println!("{left} deliveries do not end");
            return;
        }
    }
}

/// Whose deliveries have not ended.
async fn agents_left(connection: &mut sqlx::PgConnection) -> String {
    let sql = "SELECT coalesce(string_agg(concat_ws(' ', n, agent, state), ', '), 'nothing') FROM (
                   SELECT agent, 'waiting' AS state, count(*) AS n FROM postcall.waiting GROUP BY agent
                   UNION ALL SELECT agent, 'sending', count(*) FROM postcall.sending GROUP BY agent) AS agents";
    sqlx::query_scalar(sql).fetch_one(connection).await.unwrap_or_default()
}

/// The program's own check.
async fn invariants(run: &Run) -> Option<String> {
    let mut command = tokio::process::Command::new(&run.arguments.binary);
    let output = command.env("DATABASE_URL", run.ways.others_url()).arg("check-invariants").output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    println!("{said}");
    (!output.status.success()).then(|| format!("check-invariants: {said}"))
}

/// Forges the receivers' record and the platform's in several ways. Returns the forgeries that were not noticed.
async fn forgeries(run: &Run, acknowledged: &[Uuid]) -> Vec<String> {
    let sound = run.record.all();
    let mut connection = run.ways.connect().await.unwrap();
    let one = async |connection: &mut sqlx::PgConnection, state: &'static str| -> u128 {
        let sql =
            "SELECT delivery_id FROM postcall.delivery AS it WHERE state = $1 AND agent IN ('honest', 'unrenderable')
                   AND NOT EXISTS (SELECT FROM postcall.replay WHERE message_id = it.delivery_id) LIMIT 1";
        let id: Uuid = sqlx::query_scalar(sql).bind(state).fetch_one(connection).await.unwrap();
        id.as_u128()
    };
    let (delivered, failed) = (one(&mut connection, "delivered").await, one(&mut connection, "failed").await);
    let once = Seen { count: 1, ..Seen::default() };
    let mut unnoticed = Vec::new();
    let mut try_one = async |what: &str, seen: HashMap<u128, Seen>, acknowledged: &[Uuid]| {
        if audit::draw_up(run, seen, acknowledged).await.wrongs.is_empty() {
            unnoticed.push(format!("nobody notices that {what}"));
        }
    };
    let forged = |forge: &dyn Fn(&mut HashMap<u128, Seen>)| {
        let mut seen = sound.clone();
        forge(&mut seen);
        seen
    };
    try_one("one arrived twice", forged(&|seen| seen.get_mut(&delivered).unwrap().count += 1), acknowledged).await;
    try_one("one never arrived", forged(&|seen| seen.retain(|id, _| *id != delivered)), acknowledged).await;
    try_one("one that failed arrived", forged(&|seen| seen.extend([(failed, once)])), acknowledged).await;
    try_one("one came from nowhere", forged(&|seen| seen.extend([(7, once)])), acknowledged).await;
    try_one("a call is lost", sound.clone(), &[acknowledged, &[Uuid::from_u128(7)]].concat()).await;
    unnoticed
}
