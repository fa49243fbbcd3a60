//! Writes calls one by one, each in a transaction of its own. A call does not wait until those before it are written,
//! just as callers hang up independently of each other.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use sqlx::PgPool;

use crate::calls;
use crate::database::Database;
use crate::print::{measured, percentile};
use crate::receiver::Arrival;

/// The seed of all random streams, so that two runs write at the same moments.
const SEED: u64 = 7;

/// When calls are due.
#[derive(Clone, Copy)]
pub enum Pace {
    /// One call after each interval of this length.
    Even(Duration),
    /// At random moments that are independent of each other (Poisson).
    Chance {
        /// How many calls come a second on average.
        per_second: f64,
    },
}

/// When the platform wrote a call.
#[derive(Clone, Copy)]
pub struct Written {
    /// The call's number.
    pub call: u64,
    /// The moment before its INSERT.
    pub began: Instant,
    /// The moment before its COMMIT.
    pub committing: Instant,
    /// The moment when its COMMIT had returned.
    pub committed: Instant,
}

/// Writes `count` calls, numbered from `first`, one for each agent in turn. Each is written when it is due, however
/// long the one before it takes.
pub async fn write(database: &Database, agents: &[String], first: usize, count: usize, pace: Pace) -> Vec<Written> {
    let texts = calls::all();
    let mut chance = fastrand::Rng::with_seed(SEED);
    let mut due = tokio::time::Instant::now();
    let mut writing = Vec::with_capacity(count);
    for index in first..first + count {
        due += match pace {
            Pace::Even(distance) => distance,
            // 1 - f64() is never 0, so its logarithm is finite.
            Pace::Chance { per_second } => Duration::from_secs_f64(-(1.0 - chance.f64()).ln() / per_second),
        };
        tokio::time::sleep_until(due).await;
        let (pool, text, agent) =
            (database.pool.clone(), calls::nth(&texts, index), agents[index % agents.len()].clone());
        writing.push(tokio::spawn(async move { insert(&pool, &agent, &text, index as u64).await }));
    }
    let mut written = Vec::with_capacity(count);
    for one in writing {
        written.push(one.await.unwrap());
    }
    written
}

/// Makes one transaction of the platform.
async fn insert(pool: &PgPool, agent: &str, text: &str, call: u64) -> Written {
    let mut transaction = pool.begin().await.unwrap();
    let began = Instant::now();
    let insert = sqlx::query("INSERT INTO postcall.outbox (agent, call) VALUES ($1, $2::text::json)");
    insert.bind(agent).bind(text).execute(&mut *transaction).await.unwrap();
    let committing = Instant::now();
    transaction.commit().await.unwrap();
    Written { call, began, committing, committed: Instant::now() }
}

/// The milliseconds from COMMIT to receipt of each call, and the number of calls without a receipt. A call without a
/// receipt counts with the time that it had waited until `until`, which is less than its whole wait.
pub fn waits(written: &[Written], arrivals: &[Arrival], until: Instant) -> (Vec<f64>, usize) {
    let at: HashMap<u64, Instant> = arrivals.iter().map(|arrival| (arrival.call, arrival.at)).collect();
    let missing = written.iter().filter(|one| !at.contains_key(&one.call)).count();
    let wait = |one: &Written| ms(one.committing, *at.get(&one.call).unwrap_or(&until));
    (written.iter().map(wait).collect(), missing)
}

/// The milliseconds between two moments.
pub fn ms(from: Instant, to: Instant) -> f64 {
    to.saturating_duration_since(from).as_secs_f64() * 1_000.0
}

/// Prints percentiles. Each round has its own percentiles, and the median of the rounds is printed.
pub fn percentiles(what: &str, rounds: &mut [Vec<f64>]) {
    for (name, share) in [("p50", 0.5), ("p95", 0.95), ("p99", 0.99), ("longest", 1.0)] {
        let values: Vec<f64> = rounds.iter_mut().map(|values| percentile(values, share)).collect();
        measured(&format!("{what}, {name}"), &values, "ms");
    }
}
