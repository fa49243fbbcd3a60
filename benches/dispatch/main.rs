//! Figures, not tests: how fast, how soon, and at what cost to the platform. `scripts/bench` starts it beside a private,
//! durable Postgres server. Nothing here passes or fails by time; a delivery that is lost or doubled ends the run.
//!
//! Three processes share the machine, as little work as possible going into the two that are not measured: this one,
//! with the receiver on a thread of its own; `postcall run`, the release binary; and the server. Whatever is compared
//! is measured in the same run, because the machine's own speed changes from run to run.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on stops where it stands")]
#![expect(clippy::expect_used, reason = "likewise, saying why")]

use clap::{Parser, ValueEnum};

mod baseline;
mod calls;
mod database;
mod history;
mod latency;
mod platform;
mod print;
mod process;
mod prune;
mod queue;
mod receiver;
mod throughput;

/// What to measure, and how much of it.
#[derive(Parser)]
struct Arguments {
    /// What to measure; everything if nothing is named.
    #[arg(value_enum)]
    subjects: Vec<Subject>,

    /// Calls of the throughput figures.
    #[arg(long, default_value_t = 20_000)]
    calls: usize,

    /// Requests in flight.
    #[arg(long, default_value_t = 64)]
    concurrency: usize,

    /// Seconds of each of the platform's turns and of the steady stream.
    #[arg(long, default_value_t = 5)]
    seconds: u64,

    /// Rows in the long queue, and those that wait beside a history.
    #[arg(long, default_value_t = 1_000_000)]
    waiting: i64,

    /// Deliveries in the history.
    #[arg(long, default_value_t = 1_000_000)]
    rows: i64,

    /// Ask a database whose history an earlier run (or benches/dispatch/history.sql) has made, instead of making one.
    #[arg(long, value_name = "URL")]
    filled: Option<String>,

    /// Print the plan of each statement that is asked of the history.
    #[arg(long)]
    plans: bool,

    /// How this program starts itself: send the baseline's requests to this URL, print requests a second, and end.
    #[arg(long, hide = true)]
    baseline: Option<String>,

    /// Said by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Subject {
    /// Deliveries a second beside the bare HTTP client, WAL, transactions, CPU and memory of it.
    Throughput,
    /// The same, for calls that all arrive at once while the dispatcher sleeps.
    Burst,
    /// From the platform's commit to the receiver.
    Latency,
    /// What the platform pays for inserting into the outbox: commits a second, WAL.
    Platform,
    /// What a claim costs with a short and a long queue.
    Queue,
    /// What a question costs a database with a long history.
    History,
    /// What inserts and claims notice while full partitions leave.
    Prune,
}

fn main() {
    let arguments = Arguments::parse();
    if !arguments.bench {
        eprintln!("a benchmark: run it by scripts/bench");
        return;
    }
    if let Some(url) = &arguments.baseline {
        return baseline::run(url, arguments.calls, arguments.concurrency);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(measure(&arguments));
}

async fn measure(arguments: &Arguments) {
    let wanted = |subject| arguments.subjects.is_empty() || arguments.subjects.contains(&subject);
    print::machine();
    print::chapter("The machine");
    print::note(&database::describe_server().await);
    print::note(&calls::describe());
    if wanted(Subject::Throughput) {
        throughput::measure(throughput::Arrival::BeforeTheDispatcher, arguments.calls, arguments.concurrency).await;
    }
    if wanted(Subject::Burst) {
        throughput::measure(throughput::Arrival::WhileItSleeps, arguments.calls, arguments.concurrency).await;
    }
    if wanted(Subject::Latency) {
        latency::measure(arguments.seconds).await;
    }
    if wanted(Subject::Platform) {
        platform::measure(arguments.seconds).await;
    }
    if wanted(Subject::Queue) {
        queue::measure(arguments.waiting).await;
    }
    if wanted(Subject::History) {
        let database = match &arguments.filled {
            Some(url) => database::Database::at(url).await,
            None => history::database(arguments.rows, arguments.waiting).await,
        };
        history::measure(database, arguments.plans).await;
    }
    if wanted(Subject::Prune) {
        prune::measure(arguments.calls, arguments.waiting, arguments.seconds).await;
    }
}
