//! Measures whether a delivery always costs the same: beside a long history and a long queue, while somebody holds a
//! snapshot, and after very many other deliveries.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use crate::calls;
use crate::database::Database;
use crate::history;
use crate::lanes::{Body, Lane};
use crate::print::{Figure, chapter, figure, measured, note, ratios, rounded};
use crate::process::{Dispatcher, Program, Shares};
use crate::receiver::Receiver;
use crate::soak;
use crate::throughput::order;

/// Before the counting begins, one part in so many of the counted number is delivered.
const WARMING_SHARE: usize = 5;
/// The time of a held snapshot is divided into so many parts. The first and the last are compared.
const WINDOWS: u32 = 10;
/// How often the sizes of tables are read.
const READING: Duration = Duration::from_secs(1);

/// The sizes of the measurements.
#[derive(Clone, Copy)]
pub struct Sizes {
    /// How many deliveries the long history has.
    pub rows: i64,
    /// How many calls the long queue has.
    pub waiting: usize,
    /// How many lanes the long queue is spread over.
    pub lanes: usize,
    /// The cost of so many deliveries is counted.
    pub calls: usize,
    /// How long a snapshot is held.
    pub held: Duration,
    /// After so many deliveries the sizes of the tables are read.
    pub deliveries: usize,
    /// How many requests may be in flight.
    pub concurrency: usize,
    /// How often each comparison is repeated.
    pub rounds: usize,
}

/// Measures and prints all figures of this subject.
pub async fn measure(sizes: Sizes) {
    cost(sizes).await;
    held_snapshot(sizes).await;
    bounded_tables(sizes).await;
}

/// What a delivery cost, and how many were made a second.
struct Cost {
    per_second: f64,
    server_us: f64,
    dispatcher_us: f64,
}

/// Compares the cost of the same deliveries in an empty database, and beside a long history and a long queue of other
/// lanes.
async fn cost(sizes: Sizes) {
    let Sizes { rows, waiting, lanes, calls, rounds, .. } = sizes;
    chapter(&format!("Flat: {rows} deliveries in history and {waiting} waiting in {lanes} lanes, against nothing"));
    let receiver = Receiver::start();
    let full = Database::new("bench_full").await;
    history::fill(&full, rows, 0).await;
    full.publish_lanes(&Lane::on_one_host(&receiver, lanes, Body::Default)).await;
    let started = Instant::now();
    full.pile(0..waiting, lanes).await;
    full.execute("CHECKPOINT").await;
    note(&format!("The queue was filled in {} s.", started.elapsed().as_secs()));
    // Each round takes a small share of the queue, which is not filled again.
    let mut costs = [Vec::new(), Vec::new()];
    for round in 0..rounds {
        for which in order(2, round) {
            if which == 1 {
                costs[1].push(cost_of(&full, &receiver, sizes).await);
                continue;
            }
            let empty = Database::new("bench_empty").await;
            empty.publish_lanes(&Lane::on_one_host(&receiver, calls::AGENTS, Body::Default)).await;
            // There are enough calls that the queue is not empty when the last counted ones are claimed.
            empty.pile(0..calls * 2, calls::AGENTS).await;
            empty.execute("CHECKPOINT").await;
            costs[0].push(cost_of(&empty, &receiver, sizes).await);
            empty.close().await;
        }
    }
    full.close().await;
    let figures: [Figure<Cost>; 3] = [
        ("deliveries", |cost| cost.per_second, "/s"),
        ("CPU of a delivery, Postgres, all its processes", |cost| cost.server_us, "µs"),
        ("CPU of a delivery, dispatcher", |cost| cost.dispatcher_us, "µs"),
    ];
    for (what, value, unit) in figures {
        let [empty, full] = [&costs[0], &costs[1]].map(|costs| costs.iter().map(value).collect::<Vec<f64>>());
        measured(&format!("empty: {what}"), &empty, unit);
        measured(&format!("full: {what}"), &full, unit);
        measured(&format!("full against empty: {what}"), &ratios(&full, &empty), "");
    }
}

/// Lets a dispatcher work until the counted deliveries are made, and stops it. What it does at its start and its end
/// does not count.
async fn cost_of(database: &Database, receiver: &Receiver, sizes: Sizes) -> Cost {
    receiver.forget();
    let dispatcher = Dispatcher::of(Program::candidate(), &database.url, sizes.concurrency, Shares::All).await;
    let snapshot = async || (receiver.count(), Instant::now(), database.cpu_seconds().await, dispatcher.cpu_seconds());
    receiver.has(sizes.calls / WARMING_SHARE).await;
    let (from, began, server, own) = snapshot().await;
    receiver.has(from + sizes.calls).await;
    let (to, ended, server_then, own_then) = snapshot().await;
    dispatcher.stop().await;
    receiver.all();
    let count = (to - from) as f64;
    Cost {
        per_second: count / (ended - began).as_secs_f64(),
        server_us: (server_then - server) * 1e6 / count,
        dispatcher_us: (own_then - own) * 1e6 / count,
    }
}

/// Measures a dispatcher at full load while a transaction holds a snapshot, so that vacuum can remove no deleted row. A
/// twin does the same beside it without a snapshot. History grows in both, and the machine's speed changes for both, so
/// what only a snapshot costs is the ratio of the two. They share the server's memory: what the snapshot's dead rows
/// take from its cache, they take from both.
async fn held_snapshot(sizes: Sizes) {
    chapter(&format!(
        "Flat: under load while a snapshot is held for {} s, beside a twin without",
        sizes.held.as_secs()
    ));
    let (held, twin) = tokio::join!(Soaked::new("bench_held", sizes), Soaked::new("bench_twin", sizes));
    let mut report = held.database.pool.begin().await.unwrap();
    sqlx::query("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ").execute(&mut *report).await.unwrap();
    sqlx::query("SELECT FROM postcall.waiting LIMIT 1").execute(&mut *report).await.unwrap();
    let (of_held, of_twin) = tokio::join!(held.run(sizes), twin.run(sizes));
    report.rollback().await.unwrap();
    let [rates, rates_of_twin] = [&of_held, &of_twin].map(|(_, samples)| soak::rates(samples));
    measured("with a snapshot: deliveries in each tenth of the time", &rates, "/s");
    measured("without: deliveries in each tenth of the time", &rates_of_twin, "/s");
    let against_twin = ratios(&rates, &rates_of_twin);
    measured("with against without, in each tenth", &against_twin, "");
    figure("with against without, in the first tenth", rounded(against_twin[0]), "");
    figure("with against without, in the last tenth", rounded(against_twin[against_twin.len() - 1]), "");
    figure("with a snapshot: last tenth against first", rounded(rates[rates.len() - 1] / rates[0]), "");
    figure("without: last tenth against first", rounded(rates_of_twin[rates_of_twin.len() - 1] / rates_of_twin[0]), "");
    tell_sizes(&of_held.1);
    held.finish(of_held.0).await;
    twin.finish(of_twin.0).await;
}

/// A database, a receiver and a dispatcher that always has work.
struct Soaked {
    receiver: Receiver,
    database: Database,
    dispatcher: Dispatcher,
}

impl Soaked {
    async fn new(name: &str, sizes: Sizes) -> Soaked {
        let receiver = Receiver::start();
        receiver.count_only();
        let database = Database::new(name).await;
        database.publish_lanes(&Lane::on_one_host(&receiver, calls::AGENTS, Body::Default)).await;
        let dispatcher = Dispatcher::of(Program::candidate(), &database.url, sizes.concurrency, Shares::All).await;
        Soaked { receiver, database, dispatcher }
    }

    /// Works for the time for which a snapshot is held. Returns how many calls there were, and a sample of each tenth.
    async fn run(&self, sizes: Sizes) -> (usize, Vec<soak::Sample>) {
        let until = |sample: &soak::Sample| {
            if sample.elapsed < sizes.held { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        };
        let work = (calls::AGENTS, sizes.calls);
        soak::run(&self.database, &self.receiver, work, sizes.held / WINDOWS, until).await
    }

    /// Checks that nothing was lost or sent twice: there are as many requests as deliveries.
    async fn finish(self, calls: usize) {
        self.database.has_recorded(calls).await;
        self.dispatcher.stop().await;
        self.database.assert_all_delivered(calls).await;
        assert_eq!(self.receiver.count(), calls, "DOUBLED: as many requests as calls");
        self.database.close().await;
    }
}

/// Measures the sizes of the tables that every delivery passes through, with the server's own settings of autovacuum.
async fn bounded_tables(sizes: Sizes) {
    chapter(&format!("Flat: tables after {} deliveries, plain autovacuum", sizes.deliveries));
    let soaked = Soaked::new("bench_soak", sizes).await;
    let until = |sample: &soak::Sample| {
        if sample.received < sizes.deliveries { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    };
    let (calls, samples) =
        soak::run(&soaked.database, &soaked.receiver, (calls::AGENTS, sizes.calls), READING, until).await;
    measured("deliveries in each second", &soak::rates(&samples), "/s");
    tell_sizes(&samples);
    for table in ["waiting", "sending"] {
        let vacuums =
            format!("SELECT autovacuum_count FROM pg_stat_user_tables WHERE relid = 'postcall.{table}'::regclass");
        figure(&format!("autovacuums of {table}"), soaked.database.number(&vacuums).await, "");
    }
    soaked.finish(calls).await;
}

fn tell_sizes(samples: &[soak::Sample]) {
    let open: Vec<f64> = samples.iter().map(|sample| sample.open as f64).collect();
    measured("calls waiting or in flight meanwhile; near 0 it was the writer who was slow", &open, "");
    let tables: [Figure<soak::Sample>; 2] =
        [("waiting", |sample| sample.waiting_megabytes, "MB"), ("sending", |sample| sample.sending_megabytes, "MB")];
    for (table, size, unit) in tables {
        let sizes: Vec<f64> = samples.iter().map(size).collect();
        measured(&format!("size of {table} with its indexes, over time"), &sizes, unit);
        figure(&format!("size of {table} with its indexes, at the end"), rounded(sizes[sizes.len() - 1]), unit);
    }
}
