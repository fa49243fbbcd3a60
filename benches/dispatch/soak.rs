//! A dispatcher that always has work, for long: calls are piled up as fast as they leave, and what is of interest is read
//! from time to time.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use crate::database::Database;
use crate::receiver::Receiver;

/// Calls that are piled up at a time: a small part of the backlog.
const PORTION: usize = 2_000;
/// How often the backlog is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// How it stood at one moment.
#[derive(Clone, Copy)]
pub struct Sample {
    /// Since the beginning.
    pub elapsed: Duration,
    /// Requests so far.
    pub received: usize,
    /// Calls committed and not yet received.
    pub open: usize,
    /// Megabytes of `waiting` and its indexes.
    pub waiting_megabytes: f64,
    /// The same of `sending`.
    pub sending_megabytes: f64,
}

/// Keeps `backlog` calls waiting for the first `agents` agents while a dispatcher runs, and samples every `interval` from
/// the first receipt on until `go_on` breaks; then waits until everything is received. Returns how many calls there were,
/// and the samples.
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

/// Requests a second between each two samples.
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
