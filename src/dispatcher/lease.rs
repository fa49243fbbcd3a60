//! The lease: how a dispatcher proves that it lives, and how it stops by itself when it cannot.
//!
//! The database's clock decides when others may declare this dispatcher lost. Its own monotonic clock, which goes on
//! while the machine is suspended, closes the [`Fence`] earlier: a renewal that was asked for at time t is good until
//! t + lease at least, since the database set the lease after that; and the fence closes a margin before. So no request
//! begins under a lease that may be over, not even in a process or on a machine that was stopped and goes on much later.

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::backoff::Outage;
use super::policy::{self, PolicyConflict};
use crate::domain::policy::Policy;
use crate::store::dispatchers::{Newcomer, Registering, Renewal, Standing};
use crate::store::session::Session;
use crate::store::{Store, StoreError};
use crate::webhook::{Fence, Moment};

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
    state: Mutex<LeaseState>,
}

struct LeaseState {
    current: Registration,
    /// Since when every renewal has succeeded; `None` if the last one failed.
    renewed_since: Option<Instant>,
    /// Whether no request may begin any more, whatever the lease says.
    shut: bool,
}

impl Lease {
    fn of(current: Registration) -> Lease {
        Lease { state: Mutex::new(LeaseState { current, renewed_since: None, shut: false }) }
    }

    /// The registration that counts now.
    pub(super) fn current(&self) -> Registration {
        self.lock().current.clone()
    }

    /// Closes the fence for good: no request begins any more. Those that are out go on.
    pub(super) fn shut(&self) {
        let mut state = self.lock();
        state.shut = true;
        state.current.fence.close();
    }

    /// Since when every renewal has succeeded; `None` if the last one failed.
    pub(super) fn renewed_since(&self) -> Option<Instant> {
        self.lock().renewed_since
    }

    fn replace(&self, registration: Registration) {
        let mut state = self.lock();
        if state.shut {
            registration.fence.close();
        }
        state.current = registration;
    }

    /// Moves a fence of this lease ahead, unless it has been shut.
    fn extend(&self, fence: &Fence, until: Moment) {
        let state = self.lock();
        if !state.shut {
            fence.move_to(until);
        }
    }

    fn note_renewal(&self, renewed: bool) {
        let mut state = self.lock();
        state.renewed_since = renewed.then(|| state.renewed_since.unwrap_or_else(Instant::now));
    }

    fn lock(&self) -> MutexGuard<'_, LeaseState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// As whom a keeper registers.
pub(super) struct Identity {
    /// Host name and process id, for people.
    pub(super) name: String,
    /// What it may call.
    pub(super) policy: Policy,
    /// Whether it starts although others have another policy.
    pub(super) change_policy: bool,
}

/// Why a dispatcher could not be registered.
pub(super) enum Unregistered {
    Store(StoreError),
    Policy(PolicyConflict),
}

/// Keeps the lease.
pub(super) struct LeaseKeeper {
    session: Session,
    identity: Identity,
    length: Duration,
    outage: Outage,
}

impl LeaseKeeper {
    /// Registers the dispatcher and returns its lease, open.
    pub(super) async fn start(
        store: &Store,
        identity: Identity,
        length: Duration,
    ) -> Result<(LeaseKeeper, Arc<Lease>), Unregistered> {
        // No statement of the keeper may take so long that the next renewal comes too late.
        let session = store.session(length / RENEWALS);
        let mut keeper = LeaseKeeper { session, identity, length, outage: Outage::none("lease") };
        let standing = if keeper.identity.change_policy { Standing::BeforeAll } else { Standing::BehindAll };
        match keeper.register(standing).await {
            Ok(Ok(registration)) => Ok((keeper, Arc::new(Lease::of(registration)))),
            Ok(Err(conflict)) => Err(Unregistered::Policy(conflict)),
            Err(error) => Err(Unregistered::Store(error)),
        }
    }

    /// Renews until `stop`, then retires. What is claimed must be settled by then.
    ///
    /// # Errors
    /// The dispatcher was declared lost, and those that live have replaced its policy.
    pub(super) async fn run(mut self, lease: Arc<Lease>, stop: CancellationToken) -> Result<(), PolicyConflict> {
        let mut beats = tokio::time::interval(self.length / RENEWALS);
        beats.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while stop.run_until_cancelled(beats.tick()).await.is_some() {
            let beat = self.beat(&lease).await;
            lease.note_renewal(beat.is_ok());
            match beat {
                Ok(ControlFlow::Continue(())) => self.outage.over(),
                Ok(ControlFlow::Break(conflict)) => return Err(conflict),
                Err(error) => {
                    let _stopped_meanwhile = stop.run_until_cancelled(self.outage.wait(&error)).await;
                }
            }
        }
        if let Err(error) = self.session.retire(lease.current().dispatcher_id).await {
            warn!(%error, "could not note that this dispatcher stopped; its lease will run out");
        }
        Ok(())
    }

    /// One renewal.
    async fn beat(&mut self, lease: &Lease) -> Result<ControlFlow<PolicyConflict>, StoreError> {
        let asked = Moment::now();
        let registration = lease.current();
        match self.session.renew(registration.dispatcher_id, self.length).await? {
            Renewal::Renewed => lease.extend(&registration.fence, self.closing_time(asked)),
            Renewal::Lost => {
                if let Err(conflict) = self.begin_anew(lease).await? {
                    return Ok(ControlFlow::Break(conflict));
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Declared lost, while paused or cut off. What was in flight has been given up by others; what is claimed from now
    /// on is claimed under a new id. Not so if others have started with another policy meanwhile: theirs counts.
    async fn begin_anew(&mut self, lease: &Lease) -> Result<Result<(), PolicyConflict>, StoreError> {
        let was = lease.current().dispatcher_id;
        let registration = match self.register(Standing::BehindLaterThan(was)).await? {
            Ok(registration) => registration,
            Err(conflict) => return Ok(Err(conflict)),
        };
        let dispatcher_id = registration.dispatcher_id;
        warn!(dispatcher.id = dispatcher_id, dispatcher.previous_id = was, "was declared lost; goes on as another");
        lease.replace(registration);
        Ok(Ok(()))
    }

    async fn register(&mut self, standing: Standing) -> Result<Result<Registration, PolicyConflict>, StoreError> {
        let asked = Moment::now();
        let Identity { name, policy, .. } = &self.identity;
        let newcomer = Newcomer { name, version: env!("CARGO_PKG_VERSION"), lease: self.length, policy, standing };
        let dispatcher_id = match self.session.register(newcomer).await? {
            Registering::StandsBack(others) => return Ok(Err(PolicyConflict::new(policy, others))),
            Registering::Registered { dispatcher_id, others } => {
                policy::warn_of(&others);
                dispatcher_id
            }
        };
        let lease_ms = self.length.as_millis() as u64;
        info!(dispatcher.id = dispatcher_id, dispatcher.name = name, lease_ms, "registered");
        let fence = Fence::closed();
        fence.move_to(self.closing_time(asked));
        Ok(Ok(Registration { dispatcher_id, fence }))
    }

    /// When the fence closes if the lease was asked for at this time.
    fn closing_time(&self, asked: Moment) -> Moment {
        asked + (self.length - self.length / MARGIN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_that_was_shut_never_opens_a_fence_again() {
        let registration = |dispatcher_id| Registration { dispatcher_id, fence: Fence::open() };
        let lease = Lease::of(registration(1));
        let held = lease.current().fence;
        let later = Moment::now() + Duration::from_secs(60);
        lease.extend(&held, later);
        assert!(!held.is_closed());
        lease.shut();
        lease.extend(&held, later);
        assert!(held.is_closed(), "neither for what is claimed already");
        lease.replace(registration(2));
        assert!(lease.current().fence.is_closed(), "nor under another id");
    }
}
