//! Scenarios: which things may go wrong together, and how often; and the broken variants of the protocol.

use std::fmt;

use super::actions::Fault;
use super::marks::Mark;

/// A mistake that the protocol does not make. Each is one switch in the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// What a claim takes is sent before the claim is committed.
    SentBeforeTheCommit,
    /// What lost dispatchers had in flight goes back to waiting.
    LostBackToWaiting,
    /// A result is recorded, and an unsent delivery put back, whether the row is still in flight or not.
    NoFence,
    /// A result is recorded, and an unsent delivery put back, whichever claim holds it.
    NoToken,
    /// A revocation does not wait for a claim that runs.
    RevocationDoesNotWait,
    /// The epoch begins anew after a revocation.
    EpochRestarts,
    /// A repeated revocation raises the epoch once more, although it is about the same claim.
    EveryRaiseCounts,
    /// A claim whose answer was lost is not revoked.
    DoubtForgotten,
    /// Two people may record findings, or one a finding and another a replay, about one delivery.
    OrdersWithoutUniqueness,
    /// The send gate stays open when the lease is over.
    GateStaysOpen,
    /// A replay does not ask what became of the other deliveries of its message.
    ReplayBlind,
    /// The standby is asynchronous.
    AsynchronousFailover,
}

/// What is explored.
#[derive(Clone, Debug)]
pub struct Scenario {
    pub name: &'static str,
    /// Calls of the platform, one delivery each; the other deliveries are left for replays.
    pub calls: u8,
    /// Whether the calls are inserted at any time; otherwise they are there at the beginning.
    pub inserts: bool,
    pub processes: u8,
    /// Deliveries that one dispatcher may have in flight.
    pub places: u8,
    /// How many things may go wrong.
    pub faults: u8,
    /// Which things may go wrong.
    pub wrong: u32,
    /// How many orders people may give.
    pub orders: u8,
    /// Which kinds of orders.
    pub ordered: u32,
    /// Whether a receiver may refuse a request.
    pub refuses: bool,
    /// Whether every state of [`REACHED`](super::properties::REACHED) must be reached.
    pub reaches_all: bool,
    /// Branches that must be reached.
    pub expects: &'static [Mark],
    pub variant: Option<Variant>,
}

/// Kinds of orders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    Replay,
    Find,
    PauseHost,
    Disable,
}

impl Scenario {
    pub const NOTHING: Scenario = Scenario {
        name: "",
        calls: 1,
        inserts: false,
        processes: 2,
        places: 1,
        faults: 0,
        wrong: 0,
        orders: 0,
        ordered: 0,
        refuses: false,
        reaches_all: false,
        expects: &[],
        variant: None,
    };

    pub fn is_wrong(&self, variant: Variant) -> bool {
        self.variant == Some(variant)
    }

    pub fn may(&self, fault: Fault) -> bool {
        self.wrong & (1 << fault as u32) != 0
    }

    pub fn may_ask(&self, ask: Ask) -> bool {
        self.ordered & (1 << ask as u32) != 0
    }
}

/// The set of these faults.
pub const fn faults(of: &[Fault]) -> u32 {
    let (mut set, mut at) = (0, 0);
    while at < of.len() {
        set |= 1 << of[at] as u32;
        at += 1;
    }
    set
}

/// The set of these orders.
pub const fn asks(of: &[Ask]) -> u32 {
    let (mut set, mut at) = (0, 0);
    while at < of.len() {
        set |= 1 << of[at] as u32;
        at += 1;
    }
    set
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} ({} calls, {} dispatchers with {} places, {} faults, {} orders)",
            self.name, self.calls, self.processes, self.places, self.faults, self.orders
        )
    }
}
