//! The loop: permits, claim, attempt, finish; wake, drain.
//!
//! ```text
//!            permits                       one task per delivery                  batches
//! claimer ──────────▶ store.claim ──spawn──▶ attempt: render, send ──settled──▶ finisher ──▶ store.finish
//!    ▲ rest: poll fast, then slower, then sleep until the bell rings               │ permit returns when recorded
//! ```
//!
//! What must not break:
//! - No request starts before the claim that covers it is committed, and each claimed delivery is attempted once.
//! - No more is claimed than there are free permits and room for its bytes, so whatever is in `sending` is being sent, or
//!   waits for no more than the bytes that others hold.
//! - No transaction is open while a request is out.
//! - A result that is in hand is written, whatever stops in the meantime. Its permit comes back when the database has it,
//!   or has refused it for good: so `sending` never holds more of a dispatcher than its permits and what was refused.
//! - No row, call or version that is too large, damaged or refused keeps any other from being sent or recorded.
//! - No request begins under a lease that may be over, and the lease is kept until everything is settled.
//! - Dispatchers never talk to each other: Postgres is what they share.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::store::{Store, StoreError};
use crate::webhook::Webhook;
use attempt::Means;
use budget::Budget;
pub use budget::{DEFAULT_MAX_BYTES_IN_FLIGHT, DEFAULT_MAX_CALL_BYTES, least_bytes_in_flight};
use claimer::Claimer;
use finisher::Finisher;
pub use finisher::Tally;
use lease::Keeper;
pub use lease::MIN_LEASE;
use recovery::Recovery;

mod attempt;
mod backoff;
mod budget;
mod claimer;
mod finisher;
mod housekeeping;
mod lease;
mod mark;
mod pace;
mod prepare;
mod recovery;
mod rest;
mod size;
mod templates;

/// How long a statement may take before it is taken for lost.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long the results of a drain may take to be written, on top of the drain itself.
const LAST_WRITES: Duration = Duration::from_secs(10);

/// What the dispatcher itself is told.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Requests in flight at most, at least 1.
    pub concurrency: usize,
    /// After how long without a sign of life it counts as lost, at least [`MIN_LEASE`].
    pub lease: Duration,
    /// How long what is in flight may take to end once claiming has stopped.
    pub drain_timeout: Duration,
    /// Bytes of the largest call that is fetched; a larger one fails.
    pub max_call_bytes: usize,
    /// Bytes of calls and bodies held at the same time, at least [`least_bytes_in_flight`].
    pub max_bytes_in_flight: usize,
}

/// How the outside stops a dispatcher.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    /// Claim no more, and end when what is in flight has ended.
    pub drain: CancellationToken,
    /// End what is in flight now.
    pub cut: CancellationToken,
}

/// Runs one dispatcher under `name` until `stop` says so and everything is settled. Returns what became of what it
/// claimed.
///
/// # Errors
/// Those of registering with the database at the start; later ones are waited out.
pub async fn run(
    store: Store,
    webhook: Webhook,
    settings: Settings,
    name: &str,
    stop: Stop,
) -> Result<Tally, StoreError> {
    let (keeper, lease) = Keeper::start(&store, name, settings.lease).await?;
    let all_settled = CancellationToken::new();
    let keeper = tokio::spawn(keeper.run(lease.clone(), all_settled.clone()));
    let recovery = Recovery::new(&store, lease.clone(), settings.lease);
    let recovery = tokio::spawn(recovery.run(all_settled.clone()));
    let permits = Arc::new(Semaphore::new(settings.concurrency));
    let attempts = TaskTracker::new();
    let given_up = CancellationToken::new();
    let (settled, inbox) = mpsc::channel(settings.concurrency);
    let finisher = tokio::spawn(Finisher::new(store.session(PATIENCE), inbox, given_up.clone()).run());
    let housekeeping = tokio::spawn(housekeeping::run(store.clone(), stop.drain.clone()));

    let budget = Arc::new(Budget::new(settings.max_bytes_in_flight, settings.max_call_bytes));
    let means = Means { webhook: Arc::new(webhook), budget, cut: stop.cut.clone() };
    let claimer = Claimer::new(&store, lease, permits, attempts.clone(), means, settled, stop.drain.clone());
    info!(concurrency = settings.concurrency, "dispatching");
    claimer.run().await;

    drain(&attempts, settings.drain_timeout, &stop.cut).await;
    let deadline = tokio::time::sleep(LAST_WRITES);
    tokio::spawn(async move {
        deadline.await;
        given_up.cancel();
    });
    let tally = finisher.await.unwrap_or_default();
    housekeeping.await.ok();
    all_settled.cancel();
    recovery.await.ok();
    keeper.await.ok();
    Ok(tally)
}

/// Waits until every attempt has ended, cutting them short after `timeout` or when told to.
async fn drain(attempts: &TaskTracker, timeout: Duration, cut: &CancellationToken) {
    attempts.close();
    if !attempts.is_empty() {
        info!(in_flight = attempts.len(), timeout_ms = timeout.as_millis() as u64, "draining");
    }
    tokio::select! {
        () = attempts.wait() => {}
        () = cut.cancelled() => {}
        () = tokio::time::sleep(timeout) => warn!(in_flight = attempts.len(), "cutting off what is still in flight"),
    }
    cut.cancel();
    attempts.wait().await;
}
