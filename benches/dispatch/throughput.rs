//! Deliveries a second, beside what the HTTP client reaches without a database; and what they cost.

use std::time::{Duration, Instant};

use crate::baseline;
use crate::database::{Counters, Database};
use crate::print::{chapter, figure, note, rounded};
use crate::process::{Dispatcher, cpu_seconds};
use crate::receiver::Receiver;

/// Long enough for an idle dispatcher to be asleep.
const FALLING_ASLEEP: Duration = Duration::from_secs(3);

/// When the calls come.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// They wait when the dispatcher starts.
    BeforeTheDispatcher,
    /// One transaction commits all of them while it sleeps. Its statements were planned for an empty queue.
    WhileItSleeps,
}

/// CPU seconds of the three that share the machine.
#[derive(Clone, Copy)]
struct Cpu {
    dispatcher: f64,
    receiver: f64,
    server: f64,
}

impl Cpu {
    async fn now(dispatcher: &Dispatcher, database: &Database) -> Cpu {
        Cpu {
            dispatcher: dispatcher.cpu_seconds(),
            receiver: cpu_seconds(std::process::id()),
            server: database.cpu_seconds().await,
        }
    }
}

/// Measures and prints.
pub async fn measure(arrival: Arrival, calls: usize, concurrency: usize) {
    chapter(match arrival {
        Arrival::BeforeTheDispatcher => "Throughput: all calls wait when the dispatcher starts",
        Arrival::WhileItSleeps => "Burst: all calls arrive in one commit while the dispatcher sleeps",
    });
    let receiver = Receiver::start();
    let database = Database::new("bench_throughput").await;
    database.publish(&receiver.url()).await;
    if arrival == Arrival::BeforeTheDispatcher {
        database.fill(calls).await;
    }
    database.execute("CHECKPOINT").await;

    let before = baseline::requests_per_second(&receiver.url(), calls, concurrency).await;
    receiver.forget();
    let per_second = dispatch(arrival, calls, concurrency, &receiver, &database).await;
    let after = baseline::requests_per_second(&receiver.url(), calls, concurrency).await;

    figure("the HTTP client alone, no database, just before", rounded(before), "requests/s");
    figure("the same just after", rounded(after), "requests/s");
    figure("throughput against the mean of both", rounded(per_second * 2.0 / (before + after)), "");
    database.close().await;
}

/// Lets one dispatcher deliver everything; returns deliveries a second by the database's clock.
async fn dispatch(arrival: Arrival, calls: usize, concurrency: usize, receiver: &Receiver, database: &Database) -> f64 {
    let mut counters = database.counters().await;
    let mut started = Instant::now();
    let dispatcher = Dispatcher::start(&database.url, concurrency).await;
    let cpu = Cpu::now(&dispatcher, database).await;
    if arrival == Arrival::WhileItSleeps {
        tokio::time::sleep(FALLING_ASLEEP).await;
        database.fill(calls).await;
        started = Instant::now();
        counters = database.counters().await;
    }
    receiver.has(calls).await;
    let received = started.elapsed();
    database.has_recorded(calls).await;
    let used = Cpu::now(&dispatcher, database).await;
    let peak = dispatcher.peak_megabytes();
    let wal = database.counters().await;
    dispatcher.stop().await;
    let ended = database.counters().await;
    receiver.arrivals(calls);
    database.assert_all_delivered(calls).await;

    let calls = calls as f64;
    let seconds = "SELECT extract(epoch FROM max(finished_at) - min(claimed_at)) FROM postcall.delivery";
    let per_second = calls / database.number(seconds).await;
    figure("deliveries from the first claim to the last record", rounded(per_second), "/s");
    figure("the same by the clock, to the last receipt", rounded(calls / received.as_secs_f64()), "/s");
    if arrival == Arrival::BeforeTheDispatcher {
        // The processes' own start is in it, which is little at this length.
        print_cpu(cpu, used, calls);
        print_wal(counters, wal, ended, calls);
    }
    print_batches(database, calls).await;
    figure("peak memory of the dispatcher (VmHWM)", rounded(peak), "MB");
    per_second
}

fn print_cpu(from: Cpu, to: Cpu, calls: f64) {
    let each = |from: f64, to: f64| rounded((to - from) * 1e6 / calls);
    figure("CPU of a delivery: dispatcher", each(from.dispatcher, to.dispatcher), "µs");
    figure("CPU of a delivery: Postgres, all its processes", each(from.server, to.server), "µs");
    figure("CPU of a delivery: receiver", each(from.receiver, to.receiver), "µs");
}

fn print_wal(from: Counters, to: Counters, ended: Counters, calls: f64) {
    note("WAL: after a CHECKPOINT, full_page_writes as the server has it; claim and completion, vacuum if it ran.");
    figure("WAL of a delivery", rounded((to.wal_bytes - from.wal_bytes) as f64 / calls), "bytes");
    figure("full pages in it, of 8 kB before compression", ended.full_pages - from.full_pages, "pages");
    let each = (ended.transactions - from.transactions) as f64 * 1_000.0 / calls;
    figure("statements of 1,000 deliveries (transactions; the pool's pings do not count)", rounded(each), "");
}

async fn print_batches(database: &Database, calls: f64) {
    // Both ends leave their traces in history: a claim its token, a recording its transaction id.
    let claims = database.number("SELECT count(DISTINCT claim) FROM postcall.delivery").await;
    let records = database.number("SELECT count(DISTINCT xmin::text) FROM postcall.delivery").await;
    figure("deliveries in one claim, on average", rounded(calls / claims), "");
    figure("results in one recording, on average", rounded(calls / records), "");
}
