//! The lease: how a dispatcher proves that it is alive, and how it stops sending when it cannot.
//!
//! The database's clock decides when others may declare this dispatcher lost. The dispatcher's own monotonic clock,
//! which goes on while the machine is suspended, closes the [`SendGate`] earlier. A renewal that was asked for at time t
//! is valid until t + lease at least, because the database sets the lease after t. The send gate closes a margin before
//! that. So no request begins under a lease that may be over, not even if the process or the machine was stopped and
//! goes on much later.

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::backoff::Outage;
use super::policy::{self, PolicyConflict};
use super::until;
use crate::domain::chain::chain;
use crate::domain::policy::Policy;
use crate::metrics::{Counters, Operation};
use crate::store::dispatchers::{Newcomer, Registering, Renewal, Standing};
use crate::store::session::Session;
use crate::store::{Store, StoreError};
use crate::webhook::{Moment, SendGate};

/// A lease is renewed this often within its length.
const RENEWALS: u32 = 5;
/// The send gate closes one part in so many of a lease before the lease ends, because clocks differ and threads may run
/// late.
const MARGIN: u32 = 5;
/// The shortest lease.
pub const MIN_LEASE: Duration = Duration::from_millis(1_000);

/// One registration: a dispatcher id, and the send gate for the requests that were claimed under it.
///
/// After a dispatcher was declared lost, it gets another id and another send gate. The old send gate is never moved again, so
/// the deliveries that others have given up can never begin.
#[derive(Clone)]
pub(super) struct Registration {
    /// The id under which to claim.
    pub(super) dispatcher_id: i32,
    /// The send gate under which to send what was claimed under this id.
    pub(super) send_gate: SendGate,
}

/// What the other workers of a dispatcher know of its lease.
pub(super) struct Lease {
    state: Mutex<LeaseState>,
}

struct LeaseState {
    current: Registration,
    /// Since when every renewal has succeeded; `None` if the last one failed.
    renewed_since: Option<Instant>,
    /// Whether no request may begin any more, even under a valid lease.
    shut: bool,
}

impl Lease {
    pub(super) fn of(current: Registration) -> Lease {
        Lease { state: Mutex::new(LeaseState { current, renewed_since: None, shut: false }) }
    }

    /// The registration that counts now.
    pub(super) fn current(&self) -> Registration {
        self.lock().current.clone()
    }

    /// Closes the send gate for good: no request begins any more. Requests in flight go on.
    pub(super) fn shut(&self) {
        let mut state = self.lock();
        state.shut = true;
        state.current.send_gate.close();
    }

    /// How long this lease, of this length, lasts if it is not renewed; zero if no request may begin.
    pub(super) fn remaining(&self, length: Duration) -> Duration {
        let until_closed = self.lock().current.send_gate.left().unwrap_or_default();
        if until_closed.is_zero() { until_closed } else { until_closed + length / MARGIN }
    }

    /// Since when every renewal has succeeded; `None` if the last one failed.
    pub(super) fn renewed_since(&self) -> Option<Instant> {
        self.lock().renewed_since
    }

    fn replace(&self, registration: Registration) {
        let mut state = self.lock();
        if state.shut {
            registration.send_gate.close();
        }
        state.current = registration;
    }

    /// Moves a send gate of this lease ahead, unless the lease has been shut.
    fn extend(&self, send_gate: &SendGate, until: Moment) {
        let state = self.lock();
        if !state.shut {
            send_gate.move_to(until);
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

/// What a lease keeper registers a dispatcher with.
pub(super) struct Identity {
    /// The host name and the process id, for people to read.
    pub(super) name: String,
    /// What it may call.
    pub(super) policy: Policy,
    /// Whether it starts although other live dispatchers have another policy.
    pub(super) change_policy: bool,
}

/// Why a dispatcher could not be registered.
pub(super) enum Unregistered {
    Store(StoreError),
    Policy(PolicyConflict),
}

/// Renews the lease.
pub(super) struct LeaseKeeper {
    session: Session,
    identity: Identity,
    length: Duration,
    outage: Outage,
}

impl LeaseKeeper {
    /// Registers the dispatcher, and returns its lease with an open send gate.
    pub(super) async fn start(
        store: &Store,
        identity: Identity,
        length: Duration,
        counts: &Counters,
    ) -> Result<(LeaseKeeper, Arc<Lease>), Unregistered> {
        // No statement of the keeper may take so long that the next renewal comes too late.
        let session = store.session(between_renewals(length)).counting(counts.errors(Operation::Lease));
        let mut keeper = LeaseKeeper { session, identity, length, outage: Outage::none("lease") };
        let standing = if keeper.identity.change_policy { Standing::BeforeAll } else { Standing::BehindAll };
        match keeper.register(standing).await {
            Ok(Ok(registration)) => Ok((keeper, Arc::new(Lease::of(registration)))),
            Ok(Err(conflict)) => Err(Unregistered::Policy(conflict)),
            Err(error) => Err(Unregistered::Store(error)),
        }
    }

    /// Renews the lease until `stop`, then retires the dispatcher. All claimed deliveries must be settled by then.
    ///
    /// # Errors
    /// Returns the conflict if the dispatcher was declared lost and live dispatchers have replaced its policy.
    pub(super) async fn run(mut self, lease: Arc<Lease>, stop: CancellationToken) -> Result<(), PolicyConflict> {
        let mut beats = tokio::time::interval(between_renewals(self.length));
        beats.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while stop.run_until_cancelled(beats.tick()).await.is_some() {
            let beat = self.beat(&lease).await;
            lease.note_renewal(beat.is_ok());
            match beat {
                Ok(ControlFlow::Continue(())) => self.outage.over(),
                Ok(ControlFlow::Break(conflict)) => return Err(conflict),
                Err(error) => until(&stop, self.outage.wait(&error)).await,
            }
        }
        if let Err(error) = self.session.retire(lease.current().dispatcher_id).await {
            warn!(error = %chain(&error), "could not note that this dispatcher stopped; its lease will run out");
        }
        Ok(())
    }

    /// Makes one renewal. Breaks if this dispatcher must stop.
    async fn beat(&mut self, lease: &Lease) -> Result<ControlFlow<PolicyConflict>, StoreError> {
        let asked = Moment::now();
        let registration = lease.current();
        match self.session.renew(registration.dispatcher_id, self.length).await? {
            Renewal::Renewed => lease.extend(&registration.send_gate, asked + usable(self.length)),
            Renewal::Lost => {
                if let Err(conflict) = self.begin_anew(lease).await? {
                    return Ok(ControlFlow::Break(conflict));
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Registers anew after this dispatcher was declared lost, for instance because the process was stopped or cut off
    /// from the database. Others have given up what it had in flight; from now on it claims under a new id. If others
    /// have started with another policy in the meantime, it does not go on, because their policy counts.
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
        let send_gate = SendGate::closed();
        send_gate.move_to(asked + usable(self.length));
        Ok(Ok(Registration { dispatcher_id, send_gate }))
    }
}

/// The time between two renewals of a lease of this length.
fn between_renewals(length: Duration) -> Duration {
    length / RENEWALS
}

/// How long requests may begin under a lease of this length, from when it was asked for: without the margin.
fn usable(length: Duration) -> Duration {
    length - length / MARGIN
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_that_was_shut_never_opens_a_send_gate_again() {
        let registration = |dispatcher_id| Registration { dispatcher_id, send_gate: SendGate::closed() };
        let lease = Lease::of(registration(1));
        let held = lease.current().send_gate;
        let later = Moment::now() + Duration::from_secs(60);
        lease.extend(&held, later);
        assert!(!held.is_closed());
        let next = Registration { dispatcher_id: 3, send_gate: SendGate::open() };
        lease.replace(next);
        assert!((lease.current().dispatcher_id, lease.current().send_gate.is_closed()) == (3, false));
        lease.replace(Registration { dispatcher_id: 1, send_gate: held.clone() });
        lease.shut();
        lease.extend(&held, later);
        assert!(held.is_closed(), "neither for what is claimed already");
        lease.replace(registration(2));
        assert!(lease.current().send_gate.is_closed(), "nor under another id");
    }

    #[test]
    fn a_lease_is_renewed_five_times_and_its_last_fifth_is_not_used() {
        let length = Duration::from_secs(10);
        assert_eq!((between_renewals(length), usable(length)), (Duration::from_secs(2), Duration::from_secs(8)));
    }

    #[test]
    fn what_is_left_of_a_lease_is_what_may_be_used_with_the_margin_and_nothing_when_it_is_shut() {
        let length = Duration::from_secs(10);
        let send_gate = SendGate::closed();
        send_gate.move_to(Moment::now() + usable(length));
        let lease = Lease::of(Registration { dispatcher_id: 1, send_gate });
        let left = lease.remaining(length);
        assert!(left <= length && left > length - Duration::from_secs(1), "{left:?}");
        lease.shut();
        assert_eq!(lease.remaining(length), Duration::ZERO);
    }

    #[test]
    fn renewals_count_from_the_first_one_after_the_last_failure() {
        let lease = Lease::of(Registration { dispatcher_id: 1, send_gate: SendGate::closed() });
        assert_eq!(lease.renewed_since(), None);
        lease.note_renewal(true);
        let since = lease.renewed_since();
        lease.note_renewal(true);
        assert!(since.is_some() && lease.renewed_since() == since);
        lease.note_renewal(false);
        assert_eq!(lease.renewed_since(), None);
    }
}
