//! The arguments: what to measure, and with which sizes.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};

use crate::calls::Size;
use crate::fair::{self, Case};
use crate::flat;
use crate::lanes::Body;

/// Measures postcall beside a private durable Postgres. Without a subject it measures everything, which takes some two
/// and a half hours. The list of subjects says how long each takes with the default sizes.
#[derive(Parser)]
pub struct Arguments {
    /// What to measure.
    #[arg(value_enum)]
    pub subjects: Vec<Subject>,

    /// Use tiny sizes, whatever the sizes below say. In about a minute and a half this shows that everything works, and
    /// that nothing is lost or sent twice. The figures mean nothing.
    #[arg(long)]
    pub smoke: bool,

    /// Also write the figures to this file, as JSON: one object for each figure, and the circumstances they depend on.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,

    /// Another build of postcall. It is measured in turns with this one, and each has the schema that it makes itself.
    #[arg(long, value_name = "PATH")]
    pub binary: Option<PathBuf>,

    /// How often each comparison is repeated, in turns.
    #[arg(long, default_value_t = 3, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub rounds: u32,

    /// Calls of a throughput figure (a quarter of them if they are large), and deliveries whose cost is counted by
    /// flat.
    #[arg(long, default_value_t = 20_000, value_name = "N")]
    pub calls: usize,

    /// Calls of a run of seal: so many that a run takes a minute, because history is sealed every 15 s.
    #[arg(long, default_value_t = 400_000, value_name = "N")]
    pub seal_calls: usize,

    /// Requests in flight. Throughput uses each value; burst and latency the first; fair, flat and prune the last.
    #[arg(long, default_value = "64,256", value_delimiter = ',', value_name = "N,…")]
    pub concurrency: Vec<usize>,

    /// Seconds of each turn of platform.
    #[arg(long, default_value_t = 5, value_name = "N")]
    pub seconds: u64,

    /// Seconds of a steady stream of calls, for latency, fair and prune, and of each turn of console.
    #[arg(long, default_value_t = 20, value_name = "N")]
    pub stream_seconds: u64,

    /// Seconds for which an idle dispatcher is watched.
    #[arg(long, default_value_t = 20, value_name = "N")]
    pub idle_seconds: u64,

    /// Scenes of fair. Without this option, fair plays all.
    #[arg(long = "case", value_enum, value_name = "CASE")]
    pub cases: Vec<Case>,

    /// Calls that wait for receivers in trouble, in fair.
    #[arg(long, default_value_t = 20_000, value_name = "N")]
    pub backlog: usize,

    /// Honest calls a second beside the receivers in trouble.
    #[arg(long, default_value_t = 100.0, value_name = "N")]
    pub rate: f64,

    /// Honest calls that arrive at once at the end.
    #[arg(long, default_value_t = 5_000, value_name = "N")]
    pub burst: usize,

    /// Seconds to wait for honest calls after the last one was written.
    #[arg(long, default_value_t = 20, value_name = "N")]
    pub patience_seconds: u64,

    /// Seconds for which a host is down.
    #[arg(long, default_value_t = 600, value_name = "N")]
    pub down_seconds: u64,

    /// The large number of lanes, in fair and flat.
    #[arg(long, default_value_t = 10_000, value_name = "N")]
    pub lanes: usize,

    /// Rows of the long queue in queue and flat, and deliveries that wait beside the history.
    #[arg(long, default_value_t = 1_000_000, value_name = "N")]
    pub waiting: i64,

    /// Deliveries in the history.
    #[arg(long, default_value_t = 1_000_000, value_name = "N")]
    pub rows: i64,

    /// Seconds for which a snapshot is held under load.
    #[arg(long, default_value_t = 1_800, value_name = "N")]
    pub held_seconds: u64,

    /// Deliveries after which flat reads the sizes of the queue's tables.
    #[arg(long, default_value_t = 1_000_000, value_name = "N")]
    pub deliveries: usize,

    /// Use a database whose history an earlier run (or benches/dispatch/history.sql) has made, instead of making one.
    #[arg(long, value_name = "URL")]
    pub filled: Option<String>,

    /// Print the plan of each statement that history measures.
    #[arg(long)]
    pub plans: bool,

    /// This program starts itself with it: send the baseline's requests to this URL, print requests a second, and end.
    #[arg(long, hide = true)]
    pub baseline: Option<String>,

    /// The body of the baseline's requests.
    #[arg(long, hide = true, value_enum, default_value = "rendered")]
    pub body: Body,

    /// The size of the baseline's calls.
    #[arg(long, hide = true, value_enum, default_value = "small")]
    pub size: Size,

    /// This program starts itself with it: be the receiver.
    #[arg(long, hide = true)]
    pub receiver: bool,

    /// Passed by cargo.
    #[arg(long, hide = true)]
    pub bench: bool,
}

/// A group of figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Subject {
    /// Deliveries a second against the HTTP client alone; CPU, WAL, batches, memory; two dispatchers. 5 minutes.
    Throughput,
    /// The same, for calls that all arrive at once while the dispatcher sleeps. 1 minute.
    Burst,
    /// The time from the platform's commit to the receiver, and the cost of an idle dispatcher. 4 minutes.
    Latency,
    /// What metrics that are scraped each second, and exported spans, cost a dispatcher. 3 minutes.
    Monitoring,
    /// What sealing history costs a dispatcher under full load. 15 minutes.
    Seal,
    /// How long it takes to seal a long history, and to verify it. 5 minutes.
    Verify,
    /// Honest agents beside receivers that hang, are slow or are down. 30 minutes; one --case takes 3 to 11.
    Fair,
    /// Whether databases that stop, stand still or fail over slow down another one of the same process. 3 minutes.
    Several,
    /// Whether a delivery costs the same beside a long history and queue and under a held snapshot. 45 minutes.
    Flat,
    /// What a dispatcher under full load loses while people look at the console. 4 minutes.
    Console,
    /// What inserts into the outbox cost the platform: commits a second, WAL. 5 minutes.
    Platform,
    /// How long inserts and deliveries wait while old partitions leave. 3 minutes.
    Prune,
    /// What a claim costs with a short and a long queue. 2 minutes.
    Queue,
    /// What a question costs in a database with a long history. 5 minutes.
    History,
}

impl Arguments {
    /// Reads the arguments from the command line. With `--smoke`, all sizes are tiny.
    pub fn read() -> Arguments {
        let arguments = Arguments::parse();
        if !arguments.smoke {
            return arguments;
        }
        Arguments {
            rounds: 1,
            calls: 400,
            seal_calls: 400,
            concurrency: vec![16],
            seconds: 1,
            stream_seconds: 2,
            idle_seconds: 5,
            backlog: 200,
            burst: 200,
            patience_seconds: 3,
            down_seconds: 3,
            lanes: 200,
            waiting: 20_000,
            rows: 20_000,
            held_seconds: 5,
            deliveries: 10_000,
            ..arguments
        }
    }

    /// Whether to measure a subject.
    pub fn wants(&self, subject: Subject) -> bool {
        self.subjects.is_empty() || self.subjects.contains(&subject)
    }

    /// How often each comparison is repeated.
    pub fn rounds(&self) -> usize {
        self.rounds as usize
    }

    /// The concurrency of subjects with one receiver.
    pub fn usual_concurrency(&self) -> usize {
        self.concurrency[0]
    }

    /// The concurrency of subjects with many receivers or lanes.
    pub fn full_concurrency(&self) -> usize {
        self.concurrency[self.concurrency.len() - 1]
    }

    /// The sizes of fair.
    pub fn fair(&self) -> fair::Sizes {
        fair::Sizes {
            backlog: self.backlog,
            rate: self.rate,
            seconds: self.stream_seconds,
            burst: self.burst,
            patience: Duration::from_secs(self.patience_seconds),
            down: Duration::from_secs(self.down_seconds),
            lanes: self.lanes,
            calls: self.calls,
            concurrency: self.full_concurrency(),
            rounds: self.rounds(),
        }
    }

    /// The sizes of flat.
    pub fn flat(&self) -> flat::Sizes {
        flat::Sizes {
            rows: self.rows,
            waiting: usize::try_from(self.waiting).unwrap(),
            lanes: self.lanes,
            calls: self.calls,
            held: Duration::from_secs(self.held_seconds),
            deliveries: self.deliveries,
            concurrency: self.full_concurrency(),
            rounds: self.rounds(),
        }
    }
}
