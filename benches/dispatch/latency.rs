//! Measures the time from the platform's commit to the receiver, and the cost of a dispatcher that has nothing to do.

use std::time::{Duration, Instant};

use crate::calls;
use crate::database::Database;
use crate::print::{chapter, figure, measured, rounded};
use crate::process::{Dispatcher, Program, Shares};
use crate::receiver::Receiver;
use crate::stream::{self, Pace, Written, ms, percentiles, waits};
use crate::throughput::order;

/// How many calls of the stream come a second.
const RATE: f64 = 100.0;
/// The number of rare calls, and the time between them. It is so long that the dispatcher sleeps in between.
const RARE: (usize, Duration) = (5, Duration::from_secs(2));
/// How long to wait until a dispatcher has finished the work of its start.
const SETTLING: Duration = Duration::from_secs(2);

/// The results of all rounds of one program.
#[derive(Default)]
struct Rounds {
    idle_percent: Vec<f64>,
    idle_server_percent: Vec<f64>,
    idle_transactions: Vec<f64>,
    from_commit: Vec<Vec<f64>>,
    from_insert: Vec<Vec<f64>>,
    busy_percent: Vec<f64>,
    rare: Vec<Vec<f64>>,
}

/// Measures and prints all figures of this subject. A round is idle for `idle`, and then streams for `seconds`.
pub async fn measure(programs: &[&Program], seconds: u64, idle: Duration, concurrency: usize, rounds: usize) {
    chapter("Latency: from the platform to the receiver, one transaction a call, arrivals by chance");
    let mut all: Vec<Rounds> = programs.iter().map(|_| Rounds::default()).collect();
    for round in 0..rounds {
        for index in order(programs.len(), round) {
            measure_round(programs[index], seconds, idle, concurrency, &mut all[index]).await;
        }
    }
    for (program, mut rounds) in programs.iter().zip(all) {
        let label = program.label;
        figure(&format!("{label}: calls of each round of the stream"), rounded(RATE * seconds as f64), "");
        percentiles(&format!("{label}: {RATE} calls a second, COMMIT to receipt"), &mut rounds.from_commit);
        percentiles(&format!("{label}: {RATE} calls a second, INSERT to receipt"), &mut rounds.from_insert);
        measured(&format!("{label}: share of a core that everything used for that"), &rounds.busy_percent, "%");
        percentiles(&format!("{label}: asleep, a call every 2 s, COMMIT to receipt"), &mut rounds.rare);
        measured(&format!("{label}: idle dispatcher, share of a core"), &rounds.idle_percent, "%");
        let what = format!("{label}: idle dispatcher, share of a core that Postgres uses more than without");
        measured(&what, &rounds.idle_server_percent, "%");
        measured(&format!("{label}: idle dispatcher, transactions"), &rounds.idle_transactions, "/s");
    }
}

async fn measure_round(program: &Program, seconds: u64, idle: Duration, concurrency: usize, rounds: &mut Rounds) {
    let receiver = Receiver::start();
    let database = Database::of(program, "bench_latency").await;
    database.publish(&receiver.url()).await;
    let agents: Vec<String> = (0..calls::AGENTS).map(calls::agent_of).collect();
    let percent = |from: f64, to: f64| (to - from) * 100.0 / idle.as_secs_f64();

    let server = database.cpu_seconds().await;
    tokio::time::sleep(idle).await;
    let without = percent(server, database.cpu_seconds().await);
    let dispatcher = Dispatcher::of(program, &database.url, concurrency, Shares::All).await;
    tokio::time::sleep(SETTLING).await;
    let (server, cpu) = (database.cpu_seconds().await, dispatcher.cpu_seconds());
    let transactions = database.counters().await.transactions;
    tokio::time::sleep(idle).await;
    rounds.idle_percent.push(percent(cpu, dispatcher.cpu_seconds()));
    rounds.idle_server_percent.push(percent(server, database.cpu_seconds().await) - without);
    let transactions = database.counters().await.transactions - transactions;
    rounds.idle_transactions.push(transactions as f64 / idle.as_secs_f64());

    let cpu = dispatcher.cpu_seconds() + database.cpu_seconds().await + receiver.cpu_seconds();
    let (count, started) = ((RATE * seconds as f64) as usize, Instant::now());
    let written = stream::write(&database, &agents, 0, count, Pace::Chance { per_second: RATE }).await;
    let used = dispatcher.cpu_seconds() + database.cpu_seconds().await + receiver.cpu_seconds() - cpu;
    rounds.busy_percent.push(used * 100.0 / started.elapsed().as_secs_f64());
    let (from_commit, from_insert) = received(&receiver, &written).await;
    rounds.from_commit.push(from_commit);
    rounds.from_insert.push(from_insert);

    receiver.forget();
    let written = stream::write(&database, &agents, count, RARE.0, Pace::Even(RARE.1)).await;
    rounds.rare.push(received(&receiver, &written).await.0);
    database.has_recorded(count + RARE.0).await;
    dispatcher.stop().await;
    database.assert_all_delivered(count + RARE.0).await;
    database.close().await;
}

/// The milliseconds to each receipt, from COMMIT and from INSERT. Panics if a receipt is missing.
async fn received(receiver: &Receiver, written: &[Written]) -> (Vec<f64>, Vec<f64>) {
    receiver.has(written.len()).await;
    let arrivals = receiver.all();
    let (from_commit, missing) = waits(written, &arrivals, Instant::now());
    assert_eq!(missing, 0, "LOST: as many calls have to arrive as were committed");
    let inserting = written.iter().zip(&from_commit).map(|(one, wait)| ms(one.began, one.committing) + wait).collect();
    (from_commit, inserting)
}
