//! The loop of a dispatcher: it finds the lanes that have work, plans whose turn it is, claims, attempts and finishes.
//!
//! ```text
//! scout: what arrives, what is paused        prober: which hosts are back
//!    │ rests, then sleeps until a call comes     │
//!    ▼                                           ▼
//! schedule (crate::scheduler) ◀──────────────── places come back with the answers ──┐
//!    │ turns: which lanes, how many                                                 │
//!    ▼                                      one task per delivery                   │         batches
//! claimer ──────────▶ store.claim ──spawn──▶ attempt: render, send ──completion─────┴▶ finisher ──▶ store.finish
//! ```
//!
//! What must not break:
//! - No request starts before the claim that covers it is committed, and each claimed delivery is attempted once.
//! - No more is claimed than there are free places and room for its bytes. So each delivery in `sending` is being
//!   sent, or waits only for bytes that other deliveries hold, or has been answered and is about to be recorded.
//! - No transaction is open while a request is in flight.
//! - A result that is known is written, even if the dispatcher is stopped in the meantime. The number of results that
//!   wait for this without a place is bounded (see `in_flight`). So `sending` never holds more deliveries of a dispatcher
//!   than its places, that bound, and the results that the database refused for good.
//! - No row, call or version that is too large, damaged or refused keeps any other from being sent or recorded.
//! - No request begins under a lease that may be over, and the lease is kept until everything is settled.
//! - A worker that ends early ends the dispatcher: it drains, and says which it was ([`StopCause`]).
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
use crate::domain::retention::{ExcerptDays, Retention};
use crate::metrics::{Metrics, Operation};
use crate::scheduler::Limits;
use crate::spans::Spans;
use crate::store::{Store, StoreError};
use crate::vault::Keyring;
use attempt::Means;
use budget::Budget;
pub use budget::{DEFAULT_MAX_BYTES_IN_FLIGHT, DEFAULT_MAX_CALL_BYTES, least_bytes_in_flight};
use claimer::{Caches, Claimer};
pub use finisher::Tally;
use finisher::{Books, Finisher, PendingResult};
use in_flight::{Losses, Places};
pub use lease::MIN_LEASE;
use lease::{Identity, Lease, LeaseKeeper, Unregistered};
pub use policy::PolicyConflict;
use recovery::Recovery;
use reporter::Reporter;
use scout::Scout;
use sealer::{Sealer, Sealing};
pub use seat::Seat;
use secrets::SecretCache;
use signing::SigningCache;
use starter::Starter;
pub use supervision::{StopCause, Worker};
use supervision::{Watch, Work};
use templates::Templates;

mod attempt;
mod backoff;
mod beside;
mod blocked;
mod budget;
mod checkpoint_exporter;
pub mod checkpoint_outlet;
pub mod checkpoint_stamper;
pub mod checkpoints;
mod claimer;
mod cursors;
mod excerpts;
mod finisher;
mod held;
mod housekeeping;
mod idle_wait;
mod in_flight;
mod kept;
mod lease;
mod live;
mod minute;
mod pace;
mod policy;
mod prober;
mod recovery;
mod rendering;
mod reporter;
pub mod retention;
mod schedule;
mod scout;
pub mod sealer;
mod seat;
mod secrets;
mod signing;
mod starter;
mod supervision;
mod templates;
mod unstarted;

#[cfg(test)]
mod tests;

/// How long a statement may take before it counts as lost.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the last results may take to be written after the drain.
const LAST_WRITES: Duration = Duration::from_secs(10);

/// The settings of one dispatcher.
#[derive(Clone, Debug)]
pub struct DispatcherSettings {
    /// How many requests may be in flight: in all, per agent and per host.
    pub limits: Limits,
    /// How many results may wait to be recorded, in addition to the requests in flight.
    pub max_unrecorded: usize,
    /// The length of its lease, at least [`MIN_LEASE`]. Without a renewal for this long, it counts as lost.
    pub lease: Duration,
    /// How long the attempts in flight may go on after claiming has stopped.
    pub drain_timeout: Duration,
    /// What its HTTP client may call. It is compared with the policies of other dispatchers.
    pub policy: Policy,
    /// Whether it starts although other live dispatchers have another policy.
    pub change_policy: bool,
    /// The largest call that is fetched, in bytes. The delivery of a larger call fails.
    pub max_call_bytes: usize,
    /// How many bytes of calls and bodies are held at the same time, at least [`least_bytes_in_flight`].
    pub max_bytes_in_flight: usize,
    /// How long calls and history are kept.
    pub retention: Retention,
    /// How long excerpts of responses are kept, if at all.
    pub keep_excerpts: ExcerptDays,
    /// The keys that open secrets. Without them, deliveries whose templates name a secret fail.
    pub keys: Option<Arc<Keyring>>,
    /// Where spans of its deliveries go, if they are exported.
    pub spans: Option<Spans>,
    /// How it seals history, if it does.
    pub sealing: Option<Sealing>,
}

/// The tokens by which the caller of [`run`] stops a dispatcher.
#[derive(Clone, Debug, Default)]
pub struct StopTokens {
    /// The dispatcher claims no more, and ends when all attempts in flight have ended.
    pub drain: CancellationToken,
    /// The dispatcher ends all attempts in flight at once.
    pub cut: CancellationToken,
}

/// Why a dispatcher did not start, or stopped without being asked to.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The database returned an error at the start. Later errors do not stop a dispatcher: it waits and tries again.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It did not start, because other live dispatchers have another policy.
    #[error("{0}")]
    PolicyDiffers(PolicyConflict),
    /// It stopped by itself, after a drain.
    #[error("{cause}")]
    Stopped {
        /// Why it stopped.
        cause: StopCause,
        /// How its claimed deliveries ended.
        tally: Tally,
    },
}

/// Runs one dispatcher under `name`, in its seat, until `stop` ends it and all its deliveries are settled. Returns how its claimed
/// deliveries ended. What it does meanwhile can be seen in `metrics`.
///
/// # Errors
/// Returns an error if it cannot register with the database at the start, or if it stops by itself.
pub async fn run(
    store: Store,
    seat: Seat,
    settings: DispatcherSettings,
    name: &str,
    stop: StopTokens,
    metrics: &Metrics,
) -> Result<Tally, RunError> {
    let schedule = seat.schedule.clone();
    let (dispatcher, workers) = Dispatcher::prepare(&store, seat, settings, name, stop, metrics).await?;
    let ended = dispatcher.supervise(workers).await;
    schedule.forget();
    ended
}

/// The work of each worker. It is separate from [`Dispatcher`], so that a test can replace a worker by one that fails.
struct Workers {
    scout: Work,
    claimer: Work,
    finisher: Work,
    lease: Work,
    recovery: Work,
    housekeeping: Work,
    prober: Work,
    reporter: Work,
    sealer: Work,
}

/// What holds the workers together.
struct Dispatcher {
    settings: DispatcherSettings,
    stop: StopTokens,
    lease: Arc<Lease>,
    attempts: TaskTracker,
    losses: Losses,
    books: Books,
    /// Keeps the finisher's queue open until the claimer has ended, so that neither of the two ends the other's work.
    results: mpsc::Sender<PendingResult>,
    /// Tells the finisher to stop trying.
    stop_trying: CancellationToken,
    /// Tells the keeper of the lease that nothing is left that needs it.
    all_settled: CancellationToken,
}

impl Dispatcher {
    /// Registers with the database and gets the workers ready. From then on, `metrics` says what is known of it.
    async fn prepare(
        store: &Store,
        seat: Seat,
        settings: DispatcherSettings,
        name: &str,
        stop: StopTokens,
        metrics: &Metrics,
    ) -> Result<(Dispatcher, Workers), RunError> {
        let counts = metrics.counters();
        let (policy, change_policy) = (settings.policy.clone(), settings.change_policy);
        let identity = Identity { name: name.to_owned(), policy, change_policy };
        let (keeper, lease) =
            LeaseKeeper::start(store, identity, settings.lease, counts).await.map_err(|error| match error {
                Unregistered::Store(error) => RunError::Store(error),
                Unregistered::Policy(conflict) => RunError::PolicyDiffers(conflict),
            })?;
        let (stop_trying, all_settled) = (CancellationToken::new(), CancellationToken::new());
        let (attempts, books) = (TaskTracker::new(), Books::default());
        let Seat { webhook, schedule } = seat;
        let (concurrency, max_unrecorded) = (settings.limits.in_flight, settings.max_unrecorded);
        let places = Places::new(schedule.clone(), max_unrecorded, counts.clone());
        let losses = places.losses.clone();
        // The queue has room for every place, so an attempt never waits here.
        let (results, inbox) = mpsc::channel(concurrency + max_unrecorded);
        let session = store.session(STATEMENT_TIMEOUT).counting(counts.errors(Operation::Finish));
        let finisher = Finisher::new(session, inbox, concurrency, stop_trying.clone(), counts.clone(), books.clone())
            .keeping_excerpts(settings.keep_excerpts);
        let budget = Arc::new(Budget::new(settings.max_bytes_in_flight, settings.max_call_bytes));
        let (cut, spans) = (stop.cut.clone(), settings.spans.clone());
        let means = Means { webhook: webhook.clone(), budget, cut, spans };
        let scout = Scout::new(store, schedule.clone(), counts);
        let reporter = Reporter::new(store, lease.clone(), places.clone(), concurrency, max_unrecorded);
        metrics.watch(live::look(&settings, &stop, &lease, &places));
        let minutes = minute::run(places.clone(), max_unrecorded, stop.drain.clone());
        let opened = Caches {
            templates: Templates::new(settings.keys.clone()),
            secrets: SecretCache::new(settings.keys.clone()),
            signing: SigningCache::new(settings.keys.clone()),
        };
        let starter = Starter { attempts: attempts.clone(), means, results: results.clone() };
        let claimer = Claimer::new(store, lease.clone(), places, starter, stop.drain.clone(), opened);
        let recovery = Recovery::new(store, lease.clone(), settings.lease, counts);
        let sealer = settings.sealing.clone().map(|sealing| Sealer::new(store, sealing, counts));
        let workers = Workers {
            sealer: ends_well(sealer::run(sealer, stop.drain.clone())),
            scout: ends_well(scout.run(stop.drain.clone())),
            prober: ends_well(prober::run(schedule, webhook, stop.drain.clone())),
            // Side by side: the log says what goes on although the database does not answer.
            reporter: ends_well(join(reporter.run(stop.drain.clone()), minutes).map(drop)),
            claimer: ends_well(claimer.run()),
            finisher: ends_well(finisher.run()),
            recovery: ends_well(recovery.run(all_settled.clone())),
            lease: Box::pin(keeper.run(lease.clone(), all_settled.clone())),
            housekeeping: ends_well(housekeeping::run(
                store.clone(),
                settings.retention,
                counts.clone(),
                stop.drain.clone(),
            )),
        };
        Ok((Dispatcher { settings, stop, lease, attempts, losses, books, results, stop_trying, all_settled }, workers))
    }

    /// Lets the workers work until the dispatcher is told to stop, or until a worker ends by itself. Then it ends the workers
    /// one after the other, each when it is no longer needed.
    async fn supervise(self, workers: Workers) -> Result<Tally, RunError> {
        let mut watch = Watch::new(|worker| {
            self.stop.drain.cancel();
            // Without a finisher, nobody could record the result of a request that begins now.
            if worker == Worker::Finisher {
                self.lease.shut();
            }
        });
        watch.start(Worker::Lease, workers.lease);
        watch.start(Worker::Recovery, workers.recovery);
        watch.start(Worker::Finisher, workers.finisher);
        watch.start(Worker::Housekeeping, workers.housekeeping);
        watch.start(Worker::Prober, workers.prober);
        watch.start(Worker::Reporter, workers.reporter);
        watch.start(Worker::Sealer, workers.sealer);
        watch.start(Worker::Scout, workers.scout);
        watch.start(Worker::Claimer, workers.claimer);
        info!(concurrency = self.settings.limits.in_flight, "dispatching");
        watch.until(self.stop.drain.cancelled()).await;

        // The same token stops all of these, and any of them may end first.
        let told = [Worker::Housekeeping, Worker::Scout, Worker::Prober, Worker::Reporter, Worker::Sealer];
        told.iter().for_each(|worker| watch.dismiss(*worker));
        watch.end_of(Worker::Claimer).await;
        // From here on the finisher ends by itself once the last attempt has handed over its result.
        watch.dismiss(Worker::Finisher);
        drop(self.results);
        watch.until(drain(&self.attempts, self.settings.drain_timeout, &self.stop.cut)).await;
        let _ended_in_time = tokio::time::timeout(LAST_WRITES, watch.end_of(Worker::Finisher)).await;
        self.stop_trying.cancel();
        watch.end_of(Worker::Finisher).await;
        for worker in told {
            watch.end_of(worker).await;
        }
        // The same token stops both, and either may end first.
        watch.dismiss(Worker::Recovery);
        watch.dismiss(Worker::Lease);
        self.all_settled.cancel();
        watch.end_of(Worker::Recovery).await;
        watch.end_of(Worker::Lease).await;

        let mut tally = *self.books.lock().unwrap_or_else(PoisonError::into_inner);
        tally.unwritten += self.losses.count();
        match watch.cause() {
            None => Ok(tally),
            Some(cause) => Err(RunError::Stopped { cause, tally }),
        }
    }
}

/// The work of a worker that never finds a reason to stop by itself.
fn ends_well(work: impl Future<Output = ()> + Send + 'static) -> Work {
    Box::pin(async {
        work.await;
        Ok(())
    })
}

/// Waits for `work`, but no longer than until `stop`. It does not say which came first: the caller's loop checks `stop`.
async fn until<T>(stop: &CancellationToken, work: impl Future<Output = T>) {
    stop.run_until_cancelled(work).await;
}

/// Waits until every attempt has ended. After `timeout`, or when `cut` is cancelled, it ends the attempts early.
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
