//! A lane: what waits for one action, which is the unit of scheduling. Its agent and its host are the action's.

use std::sync::Arc;

use crate::domain::host::Origin;

/// The action's number.
pub type LaneId = i64;

/// Whose places a lane uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owners {
    /// The agent that the action belongs to.
    pub agent: Arc<str>,
    /// Where its requests go. `None` where nothing will be sent, because the action is switched off or gone, or no URL
    /// of it can be read: then no host is waited for.
    pub host: Option<Origin>,
}

/// What a lane does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Nothing is known to wait in it.
    Idle,
    /// It stands in the queue of those that get the next places.
    Ready,
    /// It waits at a gate, or because it is paused.
    Held,
    /// A claim that asks for its deliveries is under way. There is one at most, so their order is kept.
    Claiming {
        /// Whether more was found in it meanwhile.
        found_again: bool,
    },
}

/// A lane's place in a queue. The lane may have left it for another: then the number is no longer the lane's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ticket {
    pub(super) lane: LaneId,
    pub(super) number: u64,
}

/// From what a lane's owners were read. When it has changed, they are to be read again.
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
    pub(super) state: State,
    /// Of the ticket that counts.
    pub(super) number: u64,
}
