//! Whether a host can be reached. After a few deliveries in a row that provably reached nobody, the host counts as
//! unreachable. Its deliveries then wait, and a probe, which connects and sends nothing, finds out when it can be
//! reached again.

use std::time::{Duration, Instant};

use crate::domain::delivery::Failure;

/// After this many deliveries in a row that reached nobody, a host is unreachable.
pub const FAILURES_IN_A_ROW: u32 = 3;
/// The pause before the first probe.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Each further pause is twice as long, up to this one. A host that can be reached again is probed within this time.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// What is known about reaching a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// The host is not known to be unreachable.
    Reachable {
        /// With how many more failures in a row it becomes unreachable, at least 1.
        failures_left: u32,
    },
    /// The host cannot be reached.
    Unreachable {
        /// Since when it is unreachable.
        since: Instant,
        /// How the last delivery failed.
        last: Failure,
        /// The pause before the next probe.
        pause: Duration,
        /// When the next probe is due. `None` while a probe is under way.
        probe_at: Option<Instant>,
        /// Whether the last probe had no answer of any kind.
        is_black_hole: bool,
    },
}

impl Reach {
    /// The reach of a host of which nothing is known.
    pub(super) fn unknown() -> Reach {
        Reach::Reachable { failures_left: FAILURES_IN_A_ROW }
    }

    pub(super) fn is_unreachable(&self) -> bool {
        matches!(self, Reach::Unreachable { .. })
    }

    /// Notes that a delivery reached the host.
    pub(super) fn reached(&mut self) {
        *self = Reach::unknown();
    }

    /// Notes that a delivery provably reached nobody. If that made the host unreachable, returns when the first probe
    /// is due.
    pub(super) fn failed(&mut self, kind: Failure, now: Instant) -> Option<Instant> {
        let Reach::Reachable { failures_left } = self else { return None };
        *failures_left = failures_left.saturating_sub(1);
        if *failures_left > 0 {
            return None;
        }
        let probe_at = now + FIRST_PAUSE;
        *self = Reach::Unreachable {
            since: now,
            last: kind,
            pause: FIRST_PAUSE,
            probe_at: Some(probe_at),
            is_black_hole: false,
        };
        Some(probe_at)
    }

    /// Notes that the probe that was due at `due` begins. Returns `false` if no probe was due then.
    pub(super) fn begin_probe(&mut self, due: Instant) -> bool {
        match self {
            Reach::Unreachable { probe_at, .. } if *probe_at == Some(due) => {
                *probe_at = None;
                true
            }
            _ => false,
        }
    }

    /// Notes that the probe connected. If the next delivery still fails to reach the host, the host is unreachable
    /// again.
    pub(super) fn probe_connected(&mut self) {
        if self.is_unreachable() {
            self.suspect();
        }
    }

    /// Makes the host reachable, but one failure makes it unreachable again. A host for which no lane waits is not
    /// probed, so its next delivery finds out.
    pub(super) fn suspect(&mut self) {
        *self = Reach::Reachable { failures_left: 1 };
    }

    /// Whether its last probe had no answer of any kind.
    pub(super) fn is_black_hole(&self) -> bool {
        matches!(self, Reach::Unreachable { is_black_hole: true, .. })
    }

    /// Notes that the probe did not connect. `black_hole` says that it had no answer of any kind. Returns when the next
    /// probe is due.
    pub(super) fn probe_failed(&mut self, black_hole: bool, now: Instant) -> Option<Instant> {
        let Reach::Unreachable { pause, probe_at, is_black_hole, .. } = self else { return None };
        *is_black_hole = black_hole;
        *pause = (*pause * 2).min(LONGEST_PAUSE);
        *probe_at = Some(now + *pause);
        *probe_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_failures_in_a_row_make_a_host_unreachable() {
        let (mut reach, now) = (Reach::unknown(), Instant::now());
        for _ in 0..10 {
            for _ in 1..FAILURES_IN_A_ROW {
                assert_eq!(reach.failed(Failure::Connect, now), None);
            }
            reach.reached();
        }
        for _ in 1..FAILURES_IN_A_ROW {
            reach.failed(Failure::Dns, now);
        }
        assert!(!reach.is_unreachable());
        assert_eq!(reach.failed(Failure::Tls, now), Some(now + FIRST_PAUSE));
        assert!(reach.is_unreachable());
        assert_eq!(reach.failed(Failure::Tls, now), None, "the probe is due already");
    }

    #[test]
    fn pauses_between_probes_grow_up_to_a_bound_and_each_probe_is_made_once() {
        let (mut reach, mut now) = (Reach::unknown(), Instant::now());
        let mut due = (0..FAILURES_IN_A_ROW).find_map(|_| reach.failed(Failure::Connect, now)).unwrap();
        let mut pauses = vec![];
        for _ in 0..8 {
            assert!(reach.begin_probe(due) && !reach.begin_probe(due));
            pauses.push(due - now);
            now = due;
            due = reach.probe_failed(false, now).unwrap();
        }
        assert!(pauses.is_sorted() && pauses[0] == FIRST_PAUSE && pauses[7] == LONGEST_PAUSE, "{pauses:?}");
    }

    #[test]
    fn after_a_probe_that_connected_one_failure_is_enough() {
        let (mut reach, now) = (Reach::unknown(), Instant::now());
        for _ in 0..FAILURES_IN_A_ROW {
            reach.failed(Failure::Connect, now);
        }
        reach.probe_connected();
        assert!(!reach.is_unreachable());
        assert!(reach.failed(Failure::Connect, now).is_some());
        reach.reached();
        assert_eq!(reach, Reach::unknown());
    }
}
