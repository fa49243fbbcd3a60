//! Calls that come one by one, each in a transaction of its own, whether or not those before it are through: as callers
//! hang up, and not as a loop would write.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use sqlx::PgPool;

use crate::calls;
use crate::database::Database;
use crate::print::{measured, percentile};
use crate::receiver::Arrival;

/// Of all streams of chance, so that two runs write at the same moments.
const SEED: u64 = 7;

/// When calls are due.
#[derive(Clone, Copy)]
pub enum Pace {
    /// At this distance.
    Even(Duration),
    /// By chance, so many a second on average, none knowing of the others (Poisson).
    Chance {
        /// A second.
        per_second: f64,
    },
}

/// When the platform did what with one call.
#[derive(Clone, Copy)]
pub struct Written {
    /// The call's number.
    pub call: u64,
    /// Before its INSERT.
    pub began: Instant,
    /// Before its COMMIT.
    pub committing: Instant,
    /// When the COMMIT had returned.
    pub committed: Instant,
}

/// Writes the calls of `count` numbers from `first` on, one of each agent in turn, each when it is due, however long the
/// one before it takes.
pub async fn write(database: &Database, agents: &[String], first: usize, count: usize, pace: Pace) -> Vec<Written> {
    let texts = calls::all();
    let mut chance = fastrand::Rng::with_seed(SEED);
    let mut due = tokio::time::Instant::now();
    let mut writing = Vec::with_capacity(count);
    for index in first..first + count {
        due += match pace {
            Pace::Even(distance) => distance,
            // 1 - f64() is never 0, of which there is no logarithm.
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

/// The platform's transaction.
async fn insert(pool: &PgPool, agent: &str, text: &str, call: u64) -> Written {
    let mut transaction = pool.begin().await.unwrap();
    let began = Instant::now();
    let insert = sqlx::query("INSERT INTO postcall.outbox (agent, call) VALUES ($1, $2::text::json)");
    insert.bind(agent).bind(text).execute(&mut *transaction).await.unwrap();
    let committing = Instant::now();
    transaction.commit().await.unwrap();
    Written { call, began, committing, committed: Instant::now() }
}

/// The milliseconds from COMMIT to receipt of each call, and of how many there was no receipt. Those count with the time
/// they had waited until `until`, which is less than they will have waited.
pub fn waits(written: &[Written], arrivals: &[Arrival], until: Instant) -> (Vec<f64>, usize) {
    let at: HashMap<u64, Instant> = arrivals.iter().map(|arrival| (arrival.call, arrival.at)).collect();
    let missing = written.iter().filter(|one| !at.contains_key(&one.call)).count();
    let wait = |one: &Written| ms(one.committing, *at.get(&one.call).unwrap_or(&until));
    (written.iter().map(wait).collect(), missing)
}

/// Milliseconds between two moments.
pub fn ms(from: Instant, to: Instant) -> f64 {
    to.saturating_duration_since(from).as_secs_f64() * 1_000.0
}

/// Prints percentiles: each round has its own, and the median of the rounds is told.
pub fn percentiles(what: &str, rounds: &mut [Vec<f64>]) {
    for (name, share) in [("p50", 0.5), ("p95", 0.95), ("p99", 0.99), ("longest", 1.0)] {
        let values: Vec<f64> = rounds.iter_mut().map(|values| percentile(values, share)).collect();
        measured(&format!("{what}, {name}"), &values, "ms");
    }
}
