//! Measures deliveries a second against the HTTP client alone, without a database, and what the deliveries cost.
//!
//! Each line of the grid is repeated: the client alone and then each program, and the next time in the other order. A
//! ratio compares two neighbours in time, and the median of the ratios is printed.

use std::time::{Duration, Instant};

use crate::baseline;
use crate::calls::{self, Size};
use crate::database::Database;
use crate::lanes::{Body, Lane};
use crate::print::{chapter, measured, note, ratios};
use crate::process::{Dispatcher, Program, Shares};
use crate::receiver::Receiver;

/// How long to wait until an idle dispatcher sleeps.
const FALLING_ASLEEP: Duration = Duration::from_secs(3);
/// A run with large calls has one part in so many of the calls of a run with small ones.
const LARGE_SHARE: usize = 4;

/// When the calls arrive.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// The calls already wait when the dispatcher starts.
    BeforeTheDispatcher,
    /// One transaction commits all calls while the dispatcher sleeps. Its statements were planned for an empty queue.
    WhileItSleeps,
}

/// What one run delivers, and how.
#[derive(Clone, Copy)]
pub struct Setup {
    /// How many calls there are, each with one delivery.
    pub calls: usize,
    /// How many requests of each dispatcher may be in flight.
    pub concurrency: usize,
    /// What requests carry.
    pub body: Body,
    /// The size of the calls.
    pub size: Size,
    /// How many lanes there are, all on one host.
    pub lanes: usize,
    /// How many dispatchers work on the same database.
    pub dispatchers: usize,
    /// When the calls arrive.
    pub arrival: Arrival,
}

/// The results of one run. CPU and WAL are those of one delivery.
#[derive(Clone, Copy, Default)]
pub struct Run {
    /// Deliveries a second, from the first claim to the last record, by the database's clock.
    pub per_second: f64,
    /// Deliveries a second until the last receipt, by this machine's clock.
    pub by_receipts: f64,
    /// CPU time of the dispatcher.
    pub dispatcher_us: f64,
    server_us: f64,
    receiver_us: f64,
    wal_bytes: f64,
    full_pages: f64,
    statements: f64,
    claim_size: Option<f64>,
    record_size: Option<f64>,
    peak_megabytes: f64,
}

/// Measures and prints the grid: each concurrency, body and size, and then two dispatchers against one.
pub async fn measure(programs: &[&Program], calls: usize, concurrencies: &[usize], rounds: usize) {
    note("Ratios are of neighbours in time; in brackets least and most of all rounds.");
    for &concurrency in concurrencies {
        for body in [Body::Rendered, Body::Default] {
            for size in [Size::Small, Size::Large] {
                let calls = if size == Size::Large { calls.div_ceil(LARGE_SHARE) } else { calls };
                let arrival = Arrival::BeforeTheDispatcher;
                let setup = Setup { calls, concurrency, body, size, lanes: calls::AGENTS, dispatchers: 1, arrival };
                chapter(&format!("Throughput: {concurrency} in flight, body {body:?}, calls {size:?}"));
                against_the_client(programs, setup, rounds).await;
            }
        }
    }
    two_dispatchers(programs[0], calls, concurrencies[0], rounds).await;
}

/// Measures and prints how fast calls are delivered that all arrive in one commit while the dispatcher sleeps.
pub async fn burst(programs: &[&Program], calls: usize, concurrency: usize, rounds: usize) {
    chapter("Burst: all calls arrive in one commit while the dispatcher sleeps");
    let (body, size, arrival) = (Body::Rendered, Size::Small, Arrival::WhileItSleeps);
    let setup = Setup { calls, concurrency, body, size, lanes: calls::AGENTS, dispatchers: 1, arrival };
    against_the_client(programs, setup, rounds).await;
}

async fn against_the_client(programs: &[&Program], setup: Setup, rounds: usize) {
    let receiver = Receiver::start();
    let Setup { calls, concurrency, body, size, .. } = setup;
    let mut client = Vec::new();
    let mut runs: Vec<Vec<Run>> = vec![Vec::new(); programs.len()];
    for round in 0..rounds {
        client.push(baseline::requests_per_second(&receiver.url(), calls, concurrency, body, size).await);
        receiver.forget();
        for index in order(programs.len(), round) {
            runs[index].push(once(programs[index], setup, &receiver).await);
        }
    }
    measured("the HTTP client alone, no database", &client, "requests/s");
    for (program, runs) in programs.iter().zip(&runs) {
        tell(program, runs, setup.arrival);
        let rates: Vec<f64> = runs.iter().map(|run| run.per_second).collect();
        measured(&format!("{}: throughput against the client alone", program.label), &ratios(&rates, &client), "");
    }
    if let [candidate, reference] = &runs[..] {
        compare(candidate, reference);
    }
}

/// Compares this build with another one.
fn compare(candidate: &[Run], reference: &[Run]) {
    let rates = |runs: &[Run]| -> Vec<f64> { runs.iter().map(|run| run.per_second).collect() };
    measured(
        "this build against the reference, deliveries a second",
        &ratios(&rates(candidate), &rates(reference)),
        "",
    );
}

/// Compares two dispatchers that share the work of one database with one alone.
async fn two_dispatchers(program: &Program, calls: usize, concurrency: usize, rounds: usize) {
    chapter(&format!("Throughput: two dispatchers on one database, {concurrency} in flight each"));
    let receiver = Receiver::start();
    let (body, size, arrival) = (Body::Rendered, Size::Small, Arrival::BeforeTheDispatcher);
    let mut rates = [Vec::new(), Vec::new()];
    for round in 0..rounds {
        for index in order(2, round) {
            let setup = Setup { calls, concurrency, body, size, lanes: calls::AGENTS, dispatchers: index + 1, arrival };
            rates[index].push(once(program, setup, &receiver).await.per_second);
        }
    }
    let [one, two] = rates;
    measured("one dispatcher", &one, "/s");
    measured("two dispatchers together", &two, "/s");
    measured("two against one", &ratios(&two, &one), "");
}

/// The order in which a round measures `count` things. Every other round goes backwards, so that changes of the machine
/// over time affect all alike.
pub fn order(count: usize, round: usize) -> Vec<usize> {
    if round.is_multiple_of(2) { (0..count).collect() } else { (0..count).rev().collect() }
}

/// The CPU seconds of the processes that share the machine.
#[derive(Clone, Copy)]
struct Cpu {
    dispatchers: f64,
    receiver: f64,
    server: f64,
}

impl Cpu {
    async fn now(dispatchers: &[Dispatcher], receiver: &Receiver, database: &Database) -> Cpu {
        Cpu {
            dispatchers: dispatchers.iter().map(Dispatcher::cpu_seconds).sum(),
            receiver: receiver.cpu_seconds(),
            server: database.cpu_seconds().await,
        }
    }
}

/// Delivers all calls of a setup once, in a database of its own. Panics if a delivery is lost or sent twice.
pub async fn once(program: &Program, setup: Setup, receiver: &Receiver) -> Run {
    let Setup { calls, concurrency, arrival, .. } = setup;
    receiver.forget();
    let database = Database::of(program, "bench_throughput").await;
    let lanes = Lane::on_one_host(receiver, setup.lanes, setup.body);
    database.publish_lanes(&lanes).await;
    let agents: Vec<String> = lanes.into_iter().map(|lane| lane.agent).collect();
    let texts = calls::all_of(setup.size);
    if arrival == Arrival::BeforeTheDispatcher {
        database.fill_with(0..calls, &agents, &texts).await;
    }
    database.execute("CHECKPOINT").await;

    let mut counters = database.counters().await;
    let mut started = Instant::now();
    let mut dispatchers = Vec::new();
    for _ in 0..setup.dispatchers {
        dispatchers.push(Dispatcher::of(program, &database.url, concurrency, Shares::All).await);
    }
    // The CPU time includes the start of the processes, which is little in a run of this length.
    let mut cpu = Cpu::now(&dispatchers, receiver, &database).await;
    if arrival == Arrival::WhileItSleeps {
        tokio::time::sleep(FALLING_ASLEEP).await;
        database.fill_with(0..calls, &agents, &texts).await;
        (started, counters) = (Instant::now(), database.counters().await);
        cpu = Cpu::now(&dispatchers, receiver, &database).await;
    }
    receiver.has(calls).await;
    database.has_recorded(calls).await;
    let used = Cpu::now(&dispatchers, receiver, &database).await;
    let peak_megabytes = dispatchers.iter().map(Dispatcher::peak_megabytes).fold(0.0, f64::max);
    let wal = database.counters().await;
    for dispatcher in dispatchers {
        dispatcher.stop().await;
    }
    let ended = database.counters().await;
    let last = receiver.counted().last;
    receiver.arrivals(calls);
    database.assert_all_delivered(calls).await;

    let count = calls as f64;
    let seconds = "SELECT extract(epoch FROM max(finished_at) - min(claimed_at)) FROM postcall.delivery_history";
    // History shows how many statements there were: each claim has its token, and each recording its transaction id.
    let claims = database.number_if_known("SELECT count(DISTINCT claim) FROM postcall.delivery").await;
    let records = database.number_if_known("SELECT count(DISTINCT xmin::text) FROM postcall.delivery").await;
    let run = Run {
        per_second: count / database.number(seconds).await,
        by_receipts: count / last.saturating_duration_since(started).as_secs_f64(),
        dispatcher_us: (used.dispatchers - cpu.dispatchers) * 1e6 / count,
        server_us: (used.server - cpu.server) * 1e6 / count,
        receiver_us: (used.receiver - cpu.receiver) * 1e6 / count,
        wal_bytes: (wal.wal_bytes - counters.wal_bytes) as f64 / count,
        full_pages: (ended.full_pages - counters.full_pages) as f64,
        statements: (ended.transactions - counters.transactions) as f64 * 1_000.0 / count,
        claim_size: claims.map(|claims| count / claims),
        record_size: records.map(|records| count / records),
        peak_megabytes,
    };
    database.close().await;
    run
}

fn tell(program: &Program, runs: &[Run], arrival: Arrival) {
    let line = |what: &str, value: fn(&Run) -> Option<f64>, unit: &str| {
        let values: Vec<f64> = runs.iter().filter_map(value).collect();
        measured(&format!("{}: {what}", program.label), &values, unit);
    };
    line("deliveries from the first claim to the last record", |run| Some(run.per_second), "/s");
    line("the same by the clock, to the last receipt", |run| Some(run.by_receipts), "/s");
    line("CPU of a delivery, dispatcher", |run| Some(run.dispatcher_us), "µs");
    line("CPU of a delivery, Postgres, all its processes", |run| Some(run.server_us), "µs");
    line("CPU of a delivery, receiver", |run| Some(run.receiver_us), "µs");
    if arrival == Arrival::BeforeTheDispatcher {
        // The WAL is that of claim and completion, and of vacuum if it ran. It is counted from a CHECKPOINT on, with
        // the server's setting of full_page_writes.
        line("WAL of a delivery", |run| Some(run.wal_bytes), "bytes");
        line("full pages in it, of 8 kB before compression", |run| Some(run.full_pages), "pages");
        line("transactions of 1,000 deliveries", |run| Some(run.statements), "");
    }
    line("deliveries in one claim, on average", |run| run.claim_size, "");
    line("results in one recording, on average", |run| run.record_size, "");
    line("peak memory of a dispatcher (VmHWM)", |run| Some(run.peak_megabytes), "MB");
}
