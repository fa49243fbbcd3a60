//! The limits of requests in flight that people set, and what follows from them for hosts that are not known to answer.

use super::Manner;

/// The limits of one process, for all outboxes that it serves together.
#[derive(Clone, Debug)]
pub struct Limits {
    /// How many requests may be in flight in all, at least 1.
    pub in_flight: usize,
    /// How many requests of one agent may be in flight, at least 1.
    pub per_agent: usize,
    /// How many requests to one host and port may be in flight, at least 1. The adaptive limit never exceeds it.
    pub per_host: usize,
    /// Whether the limits of hosts adapt, and hosts that are not known to answer share a part of the places.
    pub adapt: bool,
    /// Whether nothing is sent to unreachable hosts until a probe connects.
    pub hold_unreachable: bool,
}

impl Limits {
    /// How many places all hosts that are not known to answer may have together.
    pub(super) fn of_doubtful_hosts(&self) -> usize {
        (self.in_flight / 2).max(1)
    }

    /// How many places all hosts of a manner have together. `silent` is how many places silent hosts hold now.
    ///
    /// New hosts get a quarter of what silent hosts leave. Within [`super::host::QUIET`] a new host answers, and then this
    /// limit does not concern it any more, or it counts as silent. So there is a place for the next new host at almost
    /// any time, however many new hosts hang.
    pub(super) fn of_manner(&self, manner: Manner, silent: usize) -> usize {
        match manner {
            Manner::Untried => self.of_doubtful_hosts().saturating_sub(silent).div_ceil(4),
            Manner::Silent => (self.of_doubtful_hosts() / 2).max(1),
            Manner::Answering => usize::MAX,
        }
    }

    /// Up to how many places hosts that wait for a shared place are called. New hosts wait because other new hosts
    /// hang, or hang themselves. They leave half of the places to hosts that arrive now.
    pub(super) fn of_those_waiting(&self, manner: Manner, silent: usize) -> usize {
        let limit = self.of_manner(manner, silent);
        match manner {
            Manner::Untried if silent < self.of_doubtful_hosts().div_ceil(2) => limit.div_ceil(2),
            Manner::Untried => limit / 2,
            Manner::Silent | Manner::Answering => limit,
        }
    }
}
