//! The lease: how a dispatcher proves that it lives, and how it stops by itself when it cannot.
//!
//! The database's clock decides when others may declare this dispatcher lost. Its own monotonic clock, which goes on
//! while the machine is suspended, closes the [`Fence`] earlier: a renewal that was asked for at time t is good until
//! t + lease at least, since the database set the lease after that; and the fence closes a margin before. So no request
//! begins under a lease that may be over, not even in a process or on a machine that was stopped and goes on much later.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::backoff::Outage;
use crate::store::dispatchers::Renewal;
use crate::store::session::Session;
use crate::store::{Store, StoreError};
use crate::webhook::{Fence, Moment};

/// A lease is renewed this often within its length. The others are then looked after, too.
const RENEWALS: u32 = 5;
/// The part of a lease by which the fence closes before it ends, for clocks that run apart and threads that run late.
const MARGIN: u32 = 5;
/// The shortest lease.
pub const MIN_LEASE: Duration = Duration::from_millis(1_000);

/// One registration: an id, and until when requests that were claimed under it may begin.
///
/// After being declared lost, a dispatcher has another id and another fence. The old fence is never moved again, so that
/// what others have given up stays behind it for good.
#[derive(Clone)]
pub(super) struct Registration {
    /// Under which id to claim.
    pub(super) dispatcher_id: i32,
    /// Behind which fence to send what was claimed under it.
    pub(super) fence: Fence,
}

/// What the other rooms of a dispatcher know of its lease.
pub(super) struct Lease {
    current: Mutex<Registration>,
}

impl Lease {
    /// The registration that counts now.
    pub(super) fn current(&self) -> Registration {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn replace(&self, registration: Registration) {
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = registration;
    }
}

/// Keeps the lease, and gives up what other dispatchers lost.
pub(super) struct Keeper {
    session: Session,
    name: String,
    length: Duration,
    outage: Outage,
    /// Since when every renewal has succeeded.
    steady_since: Option<Instant>,
}

impl Keeper {
    /// Registers the dispatcher and returns its lease, open.
    pub(super) async fn start(store: &Store, name: &str, length: Duration) -> Result<(Keeper, Arc<Lease>), StoreError> {
        // No statement of the keeper may take so long that the next renewal comes too late.
        let session = store.session(length / RENEWALS);
        let mut keeper =
            Keeper { session, name: name.to_owned(), length, outage: Outage::none("lease"), steady_since: None };
        let lease = Lease { current: Mutex::new(keeper.register().await?) };
        Ok((keeper, Arc::new(lease)))
    }

    /// Renews until `stop`, then retires. What is claimed must be settled by then.
    pub(super) async fn run(mut self, lease: Arc<Lease>, stop: CancellationToken) {
        let mut beats = tokio::time::interval(self.length / RENEWALS);
        beats.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while stop.run_until_cancelled(beats.tick()).await.is_some() {
            match self.beat(&lease).await {
                Ok(()) => self.outage.over(),
                Err(error) => {
                    self.steady_since = None;
                    let _stopped_meanwhile = stop.run_until_cancelled(self.outage.wait(&error)).await;
                }
            }
        }
        if let Err(error) = self.session.retire(lease.current().dispatcher_id).await {
            warn!(%error, "could not note that this dispatcher stopped; its lease will run out");
        }
    }

    /// One renewal, and one look at the others.
    async fn beat(&mut self, lease: &Lease) -> Result<(), StoreError> {
        let (asked, beat) = (Moment::now(), Instant::now());
        let registration = lease.current();
        match self.session.renew(registration.dispatcher_id, self.length).await? {
            Renewal::Renewed => self.extend(&registration.fence, asked),
            Renewal::Lost => self.begin_anew(lease).await?,
        }
        let steady = beat - *self.steady_since.get_or_insert(beat);
        self.look_after_others(steady).await
    }

    /// Gives up what others lost. After an outage of the database, when nobody could renew, the others have a full lease
    /// to be heard of again before they are declared lost; so has whoever ran before this dispatcher started.
    async fn look_after_others(&mut self, steady: Duration) -> Result<(), StoreError> {
        let lost = if steady >= self.length { self.session.declare_lost().await? } else { 0 };
        let unknown = self.session.give_up().await?;
        if lost > 0 || unknown > 0 {
            warn!(lost, unknown, "gave up what lost dispatchers had in flight");
        }
        Ok(())
    }

    /// Declared lost, while paused or cut off. What was in flight has been given up by others; what is claimed from now
    /// on is claimed under a new id.
    async fn begin_anew(&mut self, lease: &Lease) -> Result<(), StoreError> {
        let was = lease.current().dispatcher_id;
        let registration = self.register().await?;
        warn!(was, dispatcher_id = registration.dispatcher_id, "was declared lost; goes on as another");
        lease.replace(registration);
        Ok(())
    }

    async fn register(&mut self) -> Result<Registration, StoreError> {
        let asked = Moment::now();
        let dispatcher_id = self.session.register(&self.name, env!("CARGO_PKG_VERSION"), self.length).await?;
        info!(dispatcher_id, name = self.name, lease_ms = self.length.as_millis() as u64, "registered");
        let fence = Fence::closed();
        self.extend(&fence, asked);
        Ok(Registration { dispatcher_id, fence })
    }

    fn extend(&self, fence: &Fence, asked: Moment) {
        fence.move_to(asked + (self.length - self.length / MARGIN));
    }
}
