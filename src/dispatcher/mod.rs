//! The loop: which lanes have work, who is next, claim, attempt, finish; wake, drain.
//!
//! ```text
//! scout: what arrives, what is paused        prober: which hosts are back
//!    │ rests, then sleeps until a call comes     │
//!    ▼                                           ▼
//! schedule (crate::scheduler) ◀──────────────── permits come back with the answers ─┐
//!    │ turns: which lanes, how many                                                 │
//!    ▼                                      one task per delivery                   │         batches
//! claimer ──────────▶ store.claim ──spawn──▶ attempt: render, send ──completion─────┴▶ finisher ──▶ store.finish
//! ```
//!
//! What must not break:
//! - No request starts before the claim that covers it is committed, and each claimed delivery is attempted once.
//! - No more is claimed than there are free permits and room for its bytes, so whatever is in `sending` is being sent,
//!   waits for no more than the bytes that others hold, or has been answered and is about to be recorded.
//! - No transaction is open while a request is out.
//! - A result that is in hand is written, whatever stops in the meantime. No more than a bounded number of results wait for
//!   that beside the permits (see `place`): so `sending` never holds more of a dispatcher than its permits, that bound, and
//!   what was refused for good.
//! - No row, call or version that is too large, damaged or refused keeps any other from being sent or recorded.
//! - No request begins under a lease that may be over, and the lease is kept until everything is settled.
//! - A room that ends early ends the dispatcher: it drains, and says which it was ([`Cause`]).
//! - Dispatchers never talk to each other: Postgres is what they share.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::join;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::domain::policy::Policy;
use crate::domain::retention::Retention;
use crate::scheduler::Limits;
use crate::store::{Store, StoreError};
use crate::webhook::Webhook;
use attempt::Means;
use budget::Budget;
pub use budget::{DEFAULT_MAX_BYTES_IN_FLIGHT, DEFAULT_MAX_CALL_BYTES, least_bytes_in_flight};
use claimer::Claimer;
pub use finisher::Tally;
use finisher::{Books, Finisher, PendingResult};
pub use lease::MIN_LEASE;
use lease::{Identity, Lease, LeaseKeeper, Unregistered};
use place::{Losses, Places};
pub use policy::PolicyConflict;
use recovery::Recovery;
use reporter::Reporter;
use schedule::Schedule;
use scout::Scout;
pub use supervision::{Cause, Room};
use supervision::{Watch, Work};

mod attempt;
mod backoff;
mod blocked;
mod budget;
mod claimer;
mod cursors;
mod finisher;
mod housekeeping;
mod idle_wait;
mod lease;
mod minute;
mod pace;
mod place;
mod policy;
mod prepare;
mod prober;
mod recovery;
mod reporter;
pub mod retention;
mod schedule;
mod scout;
mod supervision;
mod templates;
mod unstarted;

#[cfg(test)]
mod tests;

/// How long a statement may take before it is taken for lost.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the results of a drain may take to be written, on top of the drain itself.
const LAST_WRITES: Duration = Duration::from_secs(10);

/// What the dispatcher itself is told.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Requests in flight: in all, per agent, per host.
    pub limits: Limits,
    /// Results that may wait to be recorded beside the requests in flight.
    pub max_unrecorded: usize,
    /// After how long without a sign of life it counts as lost, at least [`MIN_LEASE`].
    pub lease: Duration,
    /// How long what is in flight may take to end once claiming has stopped.
    pub drain_timeout: Duration,
    /// What its client may call, to be compared with that of other dispatchers.
    pub policy: Policy,
    /// Whether it starts although others that live have another policy.
    pub change_policy: bool,
    /// Bytes of the largest call that is fetched; a larger one fails.
    pub max_call_bytes: usize,
    /// Bytes of calls and bodies held at the same time, at least [`least_bytes_in_flight`].
    pub max_bytes_in_flight: usize,
    /// For how long calls and history are kept.
    pub retention: Retention,
}

/// How the outside stops a dispatcher.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    /// Claim no more, and end when what is in flight has ended.
    pub drain: CancellationToken,
    /// End what is in flight now.
    pub cut: CancellationToken,
}

/// Why a dispatcher did not start, or stopped without being asked to.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The database, at the start; what it does later is waited out.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It did not start: others that live have another policy.
    #[error("{0}")]
    PolicyDiffers(PolicyConflict),
    /// It stopped by itself, after a drain.
    #[error("{cause}")]
    Stopped {
        /// Why.
        cause: Cause,
        /// What became of what it had claimed.
        tally: Tally,
    },
}

/// Runs one dispatcher under `name` until `stop` says so and everything is settled. Returns what became of what it
/// claimed.
///
/// # Errors
/// Those of registering with the database at the start, and what makes it stop by itself.
pub async fn run(
    store: Store,
    webhook: Webhook,
    settings: Settings,
    name: &str,
    stop: Stop,
) -> Result<Tally, RunError> {
    let (dispatcher, rooms) = Dispatcher::prepare(&store, webhook, settings, name, stop).await?;
    dispatcher.supervise(rooms).await
}

/// The work of each room. Apart from the [`Dispatcher`], so that a test can put a room in its place that fails.
struct Rooms {
    scout: Work,
    claimer: Work,
    finisher: Work,
    lease: Work,
    recovery: Work,
    housekeeping: Work,
    prober: Work,
    reporter: Work,
}

/// What holds the rooms together.
struct Dispatcher {
    settings: Settings,
    stop: Stop,
    lease: Arc<Lease>,
    attempts: TaskTracker,
    losses: Losses,
    books: Books,
    /// Keeps the finisher's queue open until the claimer has ended, so that none of the two ends the other's work.
    results: mpsc::Sender<PendingResult>,
    /// Tells the finisher to try no longer.
    given_up: CancellationToken,
    /// Tells the keeper of the lease that nothing is left that needs it.
    all_settled: CancellationToken,
}

impl Dispatcher {
    /// Registers with the database and gets the rooms ready.
    async fn prepare(
        store: &Store,
        webhook: Webhook,
        settings: Settings,
        name: &str,
        stop: Stop,
    ) -> Result<(Dispatcher, Rooms), RunError> {
        let (policy, change_policy) = (settings.policy.clone(), settings.change_policy);
        let identity = Identity { name: name.to_owned(), policy, change_policy };
        let (keeper, lease) =
            LeaseKeeper::start(store, identity, settings.lease).await.map_err(|error| match error {
                Unregistered::Store(error) => RunError::Store(error),
                Unregistered::Policy(conflict) => RunError::PolicyDiffers(conflict),
            })?;
        let (given_up, all_settled) = (CancellationToken::new(), CancellationToken::new());
        let (attempts, books) = (TaskTracker::new(), Books::default());
        let schedule = Arc::new(Schedule::new(settings.limits.clone()));
        let (concurrency, max_unrecorded) = (settings.limits.in_flight, settings.max_unrecorded);
        let places = Places::new(schedule.clone(), max_unrecorded);
        let losses = places.losses.clone();
        // Room for every place: whoever has one never waits here.
        let (results, inbox) = mpsc::channel(concurrency + max_unrecorded);
        let session = store.session(STATEMENT_TIMEOUT);
        let finisher =
            Finisher::new(session, inbox, concurrency, given_up.clone(), places.counts.clone(), books.clone());
        let budget = Arc::new(Budget::new(settings.max_bytes_in_flight, settings.max_call_bytes));
        let webhook = Arc::new(webhook);
        let means = Means { webhook: webhook.clone(), budget, cut: stop.cut.clone() };
        let drain = stop.drain.clone();
        let scout = Scout::new(store, schedule.clone());
        let reporter = Reporter::new(store, lease.clone(), places.clone(), concurrency, max_unrecorded);
        let minutes = minute::run(places.clone(), max_unrecorded, stop.drain.clone());
        let claimer = Claimer::new(store, lease.clone(), places, attempts.clone(), means, results.clone(), drain);
        let recovery = Recovery::new(store, lease.clone(), settings.lease);
        let rooms = Rooms {
            scout: ends_well(scout.run(stop.drain.clone())),
            prober: ends_well(prober::run(schedule, webhook, stop.drain.clone())),
            // Side by side: the log says what goes on although the database does not answer.
            reporter: ends_well(join(reporter.run(stop.drain.clone()), minutes).map(drop)),
            claimer: ends_well(claimer.run()),
            finisher: ends_well(finisher.run()),
            recovery: ends_well(recovery.run(all_settled.clone())),
            lease: Box::pin(keeper.run(lease.clone(), all_settled.clone())),
            housekeeping: ends_well(housekeeping::run(store.clone(), settings.retention, stop.drain.clone())),
        };
        Ok((Dispatcher { settings, stop, lease, attempts, losses, books, results, given_up, all_settled }, rooms))
    }

    /// Lets the rooms work until told to stop, or until one of them ends by itself; then lets them end, one after the
    /// other, as each is no longer needed.
    async fn supervise(self, rooms: Rooms) -> Result<Tally, RunError> {
        let mut watch = Watch::new(|room| {
            self.stop.drain.cancel();
            // Whoever begins a request now could not have its result recorded.
            if room == Room::Finisher {
                self.lease.shut();
            }
        });
        watch.open(Room::Lease, rooms.lease);
        watch.open(Room::Recovery, rooms.recovery);
        watch.open(Room::Finisher, rooms.finisher);
        watch.open(Room::Housekeeping, rooms.housekeeping);
        watch.open(Room::Prober, rooms.prober);
        watch.open(Room::Reporter, rooms.reporter);
        watch.open(Room::Scout, rooms.scout);
        watch.open(Room::Claimer, rooms.claimer);
        info!(concurrency = self.settings.limits.in_flight, "dispatching");
        watch.until(self.stop.drain.cancelled()).await;

        // These have been told by the same token, and any of them may be the first to end.
        let told = [Room::Housekeeping, Room::Scout, Room::Prober, Room::Reporter];
        told.iter().for_each(|room| watch.dismiss(*room));
        watch.end_of(Room::Claimer).await;
        // From here on it ends by itself once the last attempt has handed over its result.
        watch.dismiss(Room::Finisher);
        drop(self.results);
        watch.until(drain(&self.attempts, self.settings.drain_timeout, &self.stop.cut)).await;
        let _ended_in_time = tokio::time::timeout(LAST_WRITES, watch.end_of(Room::Finisher)).await;
        self.given_up.cancel();
        watch.end_of(Room::Finisher).await;
        for room in told {
            watch.end_of(room).await;
        }
        // Both are told at the same time, and either may be the first to end.
        watch.dismiss(Room::Recovery);
        watch.dismiss(Room::Lease);
        self.all_settled.cancel();
        watch.end_of(Room::Recovery).await;
        watch.end_of(Room::Lease).await;

        let mut tally = *self.books.lock().unwrap_or_else(PoisonError::into_inner);
        tally.unwritten += self.losses.count();
        match watch.cause() {
            None => Ok(tally),
            Some(cause) => Err(RunError::Stopped { cause, tally }),
        }
    }
}

/// The work of a room that never finds a reason to stop by itself.
fn ends_well(work: impl Future<Output = ()> + Send + 'static) -> Work {
    Box::pin(async {
        work.await;
        Ok(())
    })
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
