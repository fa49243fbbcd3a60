//! The lease: how a dispatcher proves that it lives, and how it stops by itself when it cannot.
//!
//! The database's clock decides when others may declare this dispatcher lost. Its own monotonic clock closes the
//! [`Fence`] earlier: a renewal that was asked for at time t is good until t + lease at least, since the database set
//! the lease after that; and the fence closes a margin before. So no request begins under a lease that may be over,
//! not even in a process that was stopped and goes on much later.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::backoff::Outage;
use crate::store::dispatchers::Renewal;
use crate::store::session::Session;
use crate::store::{Store, StoreError};
use crate::webhook::Fence;

/// A lease is renewed this often within its length.
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
    /// Since when every renewal has succeeded; `None` if the last one failed.
    renewed_since: Mutex<Option<Instant>>,
}

impl Lease {
    /// The registration that counts now.
    pub(super) fn current(&self) -> Registration {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Since when every renewal has succeeded; `None` if the last one failed.
    pub(super) fn renewed_since(&self) -> Option<Instant> {
        *self.renewed_since.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn replace(&self, registration: Registration) {
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = registration;
    }

    fn note_renewal(&self, renewed: bool) {
        let mut since = self.renewed_since.lock().unwrap_or_else(PoisonError::into_inner);
        *since = renewed.then(|| since.unwrap_or_else(Instant::now));
    }
}

/// Keeps the lease.
pub(super) struct Keeper {
    session: Session,
    name: String,
    length: Duration,
    outage: Outage,
}

impl Keeper {
    /// Registers the dispatcher and returns its lease, open.
    pub(super) async fn start(store: &Store, name: &str, length: Duration) -> Result<(Keeper, Arc<Lease>), StoreError> {
        // No statement of the keeper may take so long that the next renewal comes too late.
        let session = store.session(length / RENEWALS);
        let mut keeper = Keeper { session, name: name.to_owned(), length, outage: Outage::none("lease") };
        let lease = Lease { current: Mutex::new(keeper.register().await?), renewed_since: Mutex::new(None) };
        Ok((keeper, Arc::new(lease)))
    }

    /// Renews until `stop`, then retires. What is claimed must be settled by then.
    pub(super) async fn run(mut self, lease: Arc<Lease>, stop: CancellationToken) {
        let mut beats = tokio::time::interval(self.length / RENEWALS);
        beats.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while stop.run_until_cancelled(beats.tick()).await.is_some() {
            let beat = self.beat(&lease).await;
            lease.note_renewal(beat.is_ok());
            match beat {
                Ok(()) => self.outage.over(),
                Err(error) => {
                    let _stopped_meanwhile = stop.run_until_cancelled(self.outage.wait(&error)).await;
                }
            }
        }
        if let Err(error) = self.session.retire(lease.current().dispatcher_id).await {
            warn!(%error, "could not note that this dispatcher stopped; its lease will run out");
        }
    }

    /// One renewal.
    async fn beat(&mut self, lease: &Lease) -> Result<(), StoreError> {
        let asked = Instant::now();
        let registration = lease.current();
        match self.session.renew(registration.dispatcher_id, self.length).await? {
            Renewal::Renewed => self.extend(&registration.fence, asked),
            Renewal::Lost => self.begin_anew(lease).await?,
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
        let asked = Instant::now();
        let dispatcher_id = self.session.register(&self.name, env!("CARGO_PKG_VERSION"), self.length).await?;
        info!(dispatcher_id, name = self.name, lease_ms = self.length.as_millis() as u64, "registered");
        let fence = Fence::closed();
        self.extend(&fence, asked);
        Ok(Registration { dispatcher_id, fence })
    }

    fn extend(&self, fence: &Fence, asked: Instant) {
        fence.move_to(asked + self.length - self.length / MARGIN);
    }
}
