//! What to measure, and how much of it.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};

use crate::calls::Size;
use crate::fair::{self, Case};
use crate::flat;
use crate::lanes::Body;

/// Figures of postcall, beside a private durable Postgres. Everything if no subject is named, which takes some two and a
/// half hours; each says how long it takes at its defaults.
#[derive(Parser)]
pub struct Arguments {
    /// What to measure.
    #[arg(value_enum)]
    pub subjects: Vec<Subject>,

    /// Everything tiny, whatever the sizes below say: shows in about a minute and a half that all of it works, that
    /// nothing is lost and nothing doubled. The figures mean nothing.
    #[arg(long)]
    pub smoke: bool,

    /// Write the figures there too, as JSON: one object each, and what they depend on.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,

    /// Another build of postcall, measured in turns with this one, each with the schema that it makes itself.
    #[arg(long, value_name = "PATH")]
    pub binary: Option<PathBuf>,

    /// Repetitions of what is compared, in turns.
    #[arg(long, default_value_t = 3, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub rounds: u32,

    /// Calls of a throughput figure, and deliveries whose cost is counted beside a long history. Large ones: a quarter.
    #[arg(long, default_value_t = 20_000, value_name = "N")]
    pub calls: usize,

    /// Requests in flight: throughput with each; burst and latency with the first; fair, flat and prune with the last.
    #[arg(long, default_value = "64,256", value_delimiter = ',', value_name = "N,…")]
    pub concurrency: Vec<usize>,

    /// Seconds of each of the platform's turns.
    #[arg(long, default_value_t = 5, value_name = "N")]
    pub seconds: u64,

    /// Seconds of a steady stream of calls: latency, fair, prune.
    #[arg(long, default_value_t = 20, value_name = "N")]
    pub stream_seconds: u64,

    /// Seconds for which an idle dispatcher is watched.
    #[arg(long, default_value_t = 20, value_name = "N")]
    pub idle_seconds: u64,

    /// Scenes of fair; all if none is named.
    #[arg(long = "case", value_enum, value_name = "CASE")]
    pub cases: Vec<Case>,

    /// Calls that wait for receivers in trouble.
    #[arg(long, default_value_t = 20_000, value_name = "N")]
    pub backlog: usize,

    /// Honest calls a second beside them.
    #[arg(long, default_value_t = 100.0, value_name = "N")]
    pub rate: f64,

    /// Honest calls that come at once in the end.
    #[arg(long, default_value_t = 5_000, value_name = "N")]
    pub burst: usize,

    /// Seconds for which honest calls are waited for after the last was written.
    #[arg(long, default_value_t = 20, value_name = "N")]
    pub patience_seconds: u64,

    /// Seconds for which a host is down.
    #[arg(long, default_value_t = 600, value_name = "N")]
    pub down_seconds: u64,

    /// The many lanes of fair and flat.
    #[arg(long, default_value_t = 10_000, value_name = "N")]
    pub lanes: usize,

    /// Rows in the long queue, and those that wait beside a history.
    #[arg(long, default_value_t = 1_000_000, value_name = "N")]
    pub waiting: i64,

    /// Deliveries in the history.
    #[arg(long, default_value_t = 1_000_000, value_name = "N")]
    pub rows: i64,

    /// Seconds for which a snapshot is held under load.
    #[arg(long, default_value_t = 1_800, value_name = "N")]
    pub held_seconds: u64,

    /// Deliveries after which the sizes of the queue's tables are looked at.
    #[arg(long, default_value_t = 1_000_000, value_name = "N")]
    pub deliveries: usize,

    /// Ask a database whose history an earlier run (or benches/dispatch/history.sql) has made, instead of making one.
    #[arg(long, value_name = "URL")]
    pub filled: Option<String>,

    /// Print the plan of each statement that is asked of the history.
    #[arg(long)]
    pub plans: bool,

    /// How this program starts itself: send the baseline's requests to this URL, print requests a second, and end.
    #[arg(long, hide = true)]
    pub baseline: Option<String>,

    /// Of the baseline.
    #[arg(long, hide = true, value_enum, default_value = "rendered")]
    pub body: Body,

    /// Of the baseline.
    #[arg(long, hide = true, value_enum, default_value = "small")]
    pub size: Size,

    /// How this program starts itself: be the receiver.
    #[arg(long, hide = true)]
    pub receiver: bool,

    /// Said by cargo.
    #[arg(long, hide = true)]
    pub bench: bool,
}

/// A group of figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Subject {
    /// Deliveries a second beside the bare HTTP client, CPU, WAL, batches and memory; two dispatchers beside one. 5 minutes.
    Throughput,
    /// The same, for calls that all arrive at once while the dispatcher sleeps. 1 minute.
    Burst,
    /// From the platform's commit to the receiver; what an idle dispatcher costs. 4 minutes.
    Latency,
    /// Honest agents beside receivers that hang, are slow or are gone. 30 minutes; one --case: 3 to 11.
    Fair,
    /// The same cost beside a long history and queue, under a held snapshot, after very many. 45 minutes.
    Flat,
    /// What the platform pays for inserting into the outbox: commits a second, WAL. 5 minutes.
    Platform,
    /// What others notice while old partitions leave. 3 minutes.
    Prune,
    /// What a claim costs with a short and a long queue. 2 minutes.
    Queue,
    /// What a question costs a database with a long history. 5 minutes.
    History,
}

impl Arguments {
    /// Those of the command line; tiny ones where it asks for them.
    pub fn read() -> Arguments {
        let arguments = Arguments::parse();
        if !arguments.smoke {
            return arguments;
        }
        Arguments {
            rounds: 1,
            calls: 400,
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

    /// Whether a subject is to be measured.
    pub fn wants(&self, subject: Subject) -> bool {
        self.subjects.is_empty() || self.subjects.contains(&subject)
    }

    /// Repetitions.
    pub fn rounds(&self) -> usize {
        self.rounds as usize
    }

    /// The concurrency of subjects that know one receiver.
    pub fn usual_concurrency(&self) -> usize {
        self.concurrency[0]
    }

    /// The concurrency of subjects that know many.
    pub fn full_concurrency(&self) -> usize {
        self.concurrency[self.concurrency.len() - 1]
    }

    /// How much of fair.
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

    /// How much of flat.
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
