//! The clock by which leases end. It is monotonic, so that nobody's changes of the wall clock matter, and it goes on while
//! the machine is suspended: to everybody else that time has passed.

use std::ops::Add;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// Linux stops CLOCK_MONOTONIC, from which `std::time::Instant` is read, while the machine is suspended.
#[cfg(any(target_os = "linux", target_os = "android"))]
const CLOCK: ClockId = ClockId::CLOCK_BOOTTIME;
/// On macOS this one goes on; other systems have none that does.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const CLOCK: ClockId = ClockId::CLOCK_MONOTONIC;

/// A point in time, comparable with others of the same process only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment {
    /// Since the machine was started.
    uptime: Duration,
}

impl Moment {
    /// The present. On a system that has no such clock it is the end of time, so that nothing may begin.
    pub fn now() -> Moment {
        let read = clock_gettime(CLOCK).or_else(|_| clock_gettime(ClockId::CLOCK_MONOTONIC));
        Moment { uptime: read.map_or(Duration::MAX, Duration::from) }
    }

    /// How long after `earlier` this is; zero if it is not after it.
    pub fn saturating_since(self, earlier: Moment) -> Duration {
        self.uptime.saturating_sub(earlier.uptime)
    }

    /// The moment `nanos` nanoseconds after the machine's start.
    pub(super) fn from_nanos(nanos: u64) -> Moment {
        Moment { uptime: Duration::from_nanos(nanos) }
    }

    /// Nanoseconds since the machine's start; after 584 years always the same.
    pub(super) fn as_nanos(self) -> u64 {
        u64::try_from(self.uptime.as_nanos()).unwrap_or(u64::MAX)
    }
}

impl Add<Duration> for Moment {
    type Output = Moment;

    /// The moment `later`, or the end of time.
    fn add(self, later: Duration) -> Moment {
        Moment { uptime: self.uptime.saturating_add(later) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_on_and_is_never_moved_past_the_end_of_time() {
        let before = Moment::now();
        let after = Moment::now();
        assert!(after >= before && before.saturating_since(after + Duration::from_secs(1)) == Duration::ZERO);
        let last = before + Duration::MAX;
        assert_eq!(last + Duration::from_secs(1), last);
    }
}
