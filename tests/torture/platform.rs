//! The platform: a steady stream of calls in transactions of its own, whatever happens to the database.

use std::time::{Duration, Instant};

use sqlx::PgConnection;
use uuid::Uuid;

use crate::run::Run;
use crate::scene::{AGENTS, Agent};

/// Calls in one transaction.
const CALLS_EACH: u64 = 20;
/// If more deliveries wait, the machine does not bear the rate, and the platform waits.
const MOST_WAITING: u64 = 5_000;
/// Among so many calls, the first ones, are some that cannot be claimed. They wait until the end, and each keeps a page of each
/// index that is ordered by time: if there were ever more of them, the tables would grow with them.
const CALLS_WITH_UNCLAIMABLE: u64 = 100_000;
/// How long it waits before it connects again.
const BEFORE_NEXT_TRY: Duration = Duration::from_millis(50);

/// Inserts calls until the run's time or its calls are over, and then ends the stream. Returns the ids of those whose commit
/// was acknowledged; where a connection broke during a commit, there may be more in the database.
pub async fn complete_calls(run: &Run) -> Vec<Uuid> {
    let mut chance = run.chance(1);
    let mut acknowledged = Vec::new();
    let mut pace = Instant::now();
    let (mut connection, mut number) = (None, 0);
    while run.done() < 1.0 {
        if run.counts.waiting.get() > MOST_WAITING {
            tokio::time::sleep(Duration::from_millis(100)).await;
            run.counts.held_back_ms.add(100);
            pace = Instant::now();
            continue;
        }
        tokio::time::sleep_until(pace.into()).await;
        // After an outage it does not catch up by more than a second's calls.
        let earliest = Instant::now().checked_sub(Duration::from_secs(1)).unwrap_or(pace);
        pace = pace.max(earliest) + Duration::from_secs_f64(CALLS_EACH as f64 / f64::from(run.arguments.rate));
        if connection.is_none() {
            connection = run.ways.connect().await.ok();
        }
        let Some(open) = &mut connection else {
            tokio::time::sleep(BEFORE_NEXT_TRY).await;
            continue;
        };
        match tokio::time::timeout(PATIENCE, insert(open, run.arguments.is_short, &mut number, &mut chance)).await {
            Ok(Ok(ids)) => {
                run.counts.calls.add(ids.len() as u64);
                acknowledged.extend(ids);
            }
            // Whether it was committed is not known to the platform; such calls are not inserted again.
            _ => connection = None,
        }
    }
    run.end();
    acknowledged
}

/// How long it waits for a commit.
const PATIENCE: Duration = Duration::from_secs(60);

async fn insert(
    connection: &mut PgConnection,
    is_short: bool,
    number: &mut u64,
    chance: &mut fastrand::Rng,
) -> Result<Vec<Uuid>, sqlx::Error> {
    let (mut agents, mut calls) = (Vec::new(), Vec::new());
    for _ in 0..CALLS_EACH {
        *number += 1;
        let mut agent = Agent::next(chance);
        // What could not be claimed is tried again after a minute, which a short run does not have.
        if agent.is_unclaimable() && (is_short || *number > CALLS_WITH_UNCLAIMABLE) {
            agent = &AGENTS[0];
        }
        agents.push(agent.name);
        calls.push(agent.call(*number, chance));
    }
    sqlx::query_scalar(
        "INSERT INTO postcall.outbox (agent, call)
         SELECT agent, call::json FROM unnest($1::text[], $2::text[]) AS completed (agent, call) RETURNING id",
    )
    .bind(agents)
    .bind(calls)
    .fetch_all(connection)
    .await
}
