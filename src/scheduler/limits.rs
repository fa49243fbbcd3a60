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

#[cfg(test)]
mod tests {
    use super::*;

    fn of(in_flight: usize) -> Limits {
        Limits { in_flight, per_agent: in_flight, per_host: in_flight, adapt: true, hold_unreachable: true }
    }

    #[test]
    fn hosts_that_are_not_known_to_answer_have_half_of_all_places_and_silent_ones_half_of_these() {
        for (in_flight, doubtful, silent) in [(1, 1, 1), (2, 1, 1), (4, 2, 1), (12, 6, 3), (256, 128, 64)] {
            assert_eq!(of(in_flight).of_doubtful_hosts(), doubtful);
            assert_eq!(of(in_flight).of_manner(Manner::Silent, 0), silent);
            assert_eq!(of(in_flight).of_those_waiting(Manner::Silent, 1), silent, "all of them may be called");
            assert!(of(in_flight).of_manner(Manner::Answering, doubtful) > in_flight);
        }
    }

    #[test]
    fn new_hosts_have_a_quarter_of_what_silent_ones_leave_and_those_that_wait_leave_half_of_it_to_those_that_arrive() {
        for (silent, all, waiting) in [(0, 5, 3), (1, 5, 3), (9, 3, 2), (10, 3, 1), (12, 2, 1), (16, 1, 0), (20, 0, 0)]
        {
            let limits = of(40);
            let (of_manner, of_those_waiting) =
                (limits.of_manner(Manner::Untried, silent), limits.of_those_waiting(Manner::Untried, silent));
            assert_eq!((of_manner, of_those_waiting), (all, waiting), "silent hosts hold {silent} of 20");
        }
    }
}
