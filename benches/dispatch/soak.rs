//! Runs a dispatcher that always has work for a long time. New calls are inserted as fast as calls are delivered, and
//! samples are taken from time to time.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use crate::database::Database;
use crate::receiver::Receiver;

/// How many calls are inserted at a time. It is a small part of the backlog.
const PORTION: usize = 2_000;
/// How often the size of the backlog is checked.
const LOOK: Duration = Duration::from_millis(20);

/// The state at one moment.
#[derive(Clone, Copy)]
pub struct Sample {
    /// The time since the beginning.
    pub elapsed: Duration,
    /// How many requests have arrived so far.
    pub received: usize,
    /// How many calls are committed and not yet received.
    pub open: usize,
    /// The size of `waiting` and its indexes, in megabytes.
    pub waiting_megabytes: f64,
    /// The size of `sending` and its indexes, in megabytes.
    pub sending_megabytes: f64,
}

/// Keeps `backlog` calls waiting for the first `agents` agents while a dispatcher runs. From the first receipt on,
/// takes a sample every `interval` until `go_on` breaks. Then waits until everything is received. Returns how many
/// calls there were, and the samples.
pub async fn run(
    database: &Database,
    receiver: &Receiver,
    (agents, backlog): (usize, usize),
    interval: Duration,
    go_on: impl Fn(&Sample) -> ControlFlow<()>,
) -> (usize, Vec<Sample>) {
    let mut inserted = backlog;
    database.pile(0..inserted, agents).await;
    receiver.has(1).await;
    let started = Instant::now();
    let mut samples = vec![sample(database, receiver, started, inserted).await];
    loop {
        if inserted < receiver.count() + backlog {
            database.pile(inserted..inserted + PORTION, agents).await;
            inserted += PORTION;
        } else {
            tokio::time::sleep(LOOK).await;
        }
        if started.elapsed() >= samples[samples.len() - 1].elapsed + interval {
            let now = sample(database, receiver, started, inserted).await;
            samples.push(now);
            if go_on(&now).is_break() {
                break;
            }
        }
    }
    receiver.has(inserted).await;
    (inserted, samples)
}

/// The requests a second between each two samples.
pub fn rates(samples: &[Sample]) -> Vec<f64> {
    let rate = |pair: &[Sample]| {
        (pair[1].received - pair[0].received) as f64 / (pair[1].elapsed - pair[0].elapsed).as_secs_f64()
    };
    samples.windows(2).map(rate).collect()
}

async fn sample(database: &Database, receiver: &Receiver, started: Instant, inserted: usize) -> Sample {
    let megabytes =
        async |table: &str| database.number(&format!("SELECT pg_total_relation_size('postcall.{table}')")).await / 1e6;
    let (waiting_megabytes, sending_megabytes) = (megabytes("waiting").await, megabytes("sending").await);
    let received = receiver.count();
    Sample { elapsed: started.elapsed(), received, open: inserted - received, waiting_megabytes, sending_megabytes }
}
