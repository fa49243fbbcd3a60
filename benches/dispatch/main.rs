//! Measures postcall: throughput, latency, fairness, and the cost to the platform. These are figures, not tests.
//! Nothing passes or fails by time, but a delivery that is lost or sent twice ends the run. `scripts/bench` starts this
//! program beside a private, durable Postgres server.
//!
//! Four kinds of processes share the machine: this program; the receiver ([`receiver`]), which is this program started
//! again; `postcall run`, the release binary; and the server. The processes that are not measured do as little work as
//! possible. What is compared is measured in the same run and in turns, because the machine's own speed changes from
//! run to run. The program prints medians, and the least and the greatest value.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on stops where it stands")]
#![expect(clippy::expect_used, reason = "likewise, saying why")]

use std::time::Duration;

use clap::ValueEnum;
use serde_json::json;

use arguments::{Arguments, Subject};
use process::Program;

/// The allocator of postcall. It is used here, too, so that the HTTP client alone is measured under the same
/// conditions.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

mod arguments;
mod baseline;
mod calls;
mod clock;
mod console;
mod database;
mod fair;
mod flat;
mod history;
mod lanes;
mod latency;
mod monitoring;
mod platform;
mod print;
mod process;
mod prune;
mod queue;
mod receiver;
mod seal;
mod servers;
mod several;
mod soak;
mod stream;
mod throughput;
mod verify;
mod writers;

fn main() {
    let arguments = Arguments::read();
    if !arguments.bench {
        eprintln!("a benchmark: run it by scripts/bench");
        return;
    }
    if let Some(url) = &arguments.baseline {
        let concurrency = arguments.usual_concurrency();
        return baseline::run(url, arguments.calls, concurrency, arguments.body, arguments.size);
    }
    if arguments.receiver {
        return receiver::server::run();
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(measure_all(&arguments));
}

async fn measure_all(arguments: &Arguments) {
    let reference = arguments.binary.as_ref().map(|path| Program::at("reference", path));
    let programs: Vec<&Program> = [Program::candidate()].into_iter().chain(&reference).collect();
    describe(&programs).await;
    for subject in Subject::value_variants().iter().filter(|subject| arguments.wants(**subject)) {
        print::subject(subject.to_possible_value().unwrap().get_name());
        measure(*subject, &programs, arguments).await;
        // The file is written after each subject, so that an interrupted run keeps its figures.
        if let Some(path) = &arguments.json {
            print::write_json(path);
        }
    }
}

/// Prints and keeps the circumstances that the figures depend on.
async fn describe(programs: &[&Program]) {
    print::machine();
    print::chapter("The machine");
    let server = database::describe_server().await;
    print::note(&server);
    print::note(&calls::describe());
    for program in programs {
        print::note(&format!("{}: {}", program.label, program.version()));
        print::circumstance(program.label, json!(program.version()));
    }
    print::circumstance("server", json!(server));
    print::circumstance("calls", json!(calls::describe()));
    print::circumstance("arguments", json!(std::env::args().skip(1).collect::<Vec<_>>()));
}

async fn measure(subject: Subject, programs: &[&Program], arguments: &Arguments) {
    let (rounds, concurrency) = (arguments.rounds(), arguments.usual_concurrency());
    match subject {
        Subject::Throughput => {
            throughput::measure(programs, arguments.calls, &arguments.concurrency, rounds).await;
        }
        Subject::Burst => throughput::burst(programs, arguments.calls, concurrency, rounds).await,
        Subject::Latency => {
            let idle = Duration::from_secs(arguments.idle_seconds);
            latency::measure(programs, arguments.stream_seconds, idle, concurrency, rounds).await;
        }
        Subject::Monitoring => monitoring::measure(arguments.calls, concurrency, rounds).await,
        Subject::Several => several::measure(arguments.calls, concurrency, rounds).await,
        Subject::Seal => seal::measure(arguments.seal_calls, concurrency, rounds).await,
        Subject::Verify => verify::measure(arguments.rows, rounds).await,
        Subject::Fair => fair::measure(programs, &arguments.cases, arguments.fair()).await,
        Subject::Flat => flat::measure(arguments.flat()).await,
        Subject::Console => {
            let length = Duration::from_secs(arguments.stream_seconds);
            console::measure(length, concurrency, arguments.calls, rounds).await;
        }
        Subject::Platform => {
            platform::measure(arguments.seconds).await;
            writers::measure(Duration::from_secs(arguments.seconds), rounds).await;
        }
        Subject::Prune => {
            prune::measure(programs, arguments.rows, arguments.stream_seconds, arguments.full_concurrency()).await
        }
        Subject::Queue => queue::measure(arguments.waiting).await,
        Subject::History => {
            let database = match &arguments.filled {
                Some(url) => database::Database::at(url).await,
                None => history::database(arguments.rows, arguments.waiting).await,
            };
            history::measure(database, arguments.plans).await;
        }
    }
}
