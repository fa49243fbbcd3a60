//! A lane: the deliveries that wait for one action. It is the unit of scheduling. Its agent and its host are those of
//! the action.

use std::sync::Arc;

use super::ring::Outbox;
use crate::domain::host::Origin;

/// Which lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LaneId {
    /// Where its deliveries wait.
    pub outbox: Outbox,
    /// The id of its action in that outbox.
    pub action_id: i64,
}

/// Whose places a lane uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owners {
    /// The agent that the action belongs to.
    pub agent: Arc<str>,
    /// The host that its requests go to. `None` if nothing will be sent, because the action is disabled or gone, or its
    /// URL cannot be read. Then the lane does not wait for a host.
    pub host: Option<Origin>,
}

/// The state of a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LaneState {
    /// Nothing is known to wait in it.
    Idle,
    /// It is in the queue of lanes that get the next places.
    Ready,
    /// It waits at a queue, or because it is paused.
    Held,
    /// A claim for its deliveries is under way. There is one at most, so their order is kept.
    Claiming {
        /// Whether more deliveries were found in it meanwhile.
        found_again: bool,
    },
}

/// A lane's place in a queue. If the lane has moved to another queue, the ticket's number is no longer the lane's
/// number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ticket {
    pub(super) lane: LaneId,
    pub(super) number: u64,
}

/// The state of the action from which a lane's owners were read. When it has changed, the owners must be read again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Edition {
    /// The newest version of the action.
    pub version: i32,
    /// Whether it is enabled.
    pub enabled: bool,
}

/// What the scheduler knows of a lane.
#[derive(Clone, Debug)]
pub(super) struct Lane {
    pub(super) owners: Owners,
    pub(super) edition: Edition,
    pub(super) state: LaneState,
    /// The number of its current ticket.
    pub(super) number: u64,
}
