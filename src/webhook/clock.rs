//! The clock by which leases end. It is monotonic, so that changes of the wall clock do not matter. It goes on while
//! the machine is suspended, because for all other machines that time has passed.

use std::ops::Add;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// On Linux, CLOCK_MONOTONIC, which `std::time::Instant` reads, stops while the machine is suspended. This clock does
/// not.
#[cfg(any(target_os = "linux", target_os = "android"))]
const CLOCK: ClockId = ClockId::CLOCK_BOOTTIME;
/// On macOS this clock goes on while the machine is suspended. Other systems have no such clock.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const CLOCK: ClockId = ClockId::CLOCK_MONOTONIC;

/// A point in time. It can only be compared with others of the same process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment {
    /// The time since the machine was started.
    uptime: Duration,
}

impl Moment {
    /// The present moment. If no clock can be read, it is the greatest possible moment, so that nothing may begin.
    pub fn now() -> Moment {
        let read = clock_gettime(CLOCK).or_else(|_| clock_gettime(ClockId::CLOCK_MONOTONIC));
        Moment { uptime: read.map_or(Duration::MAX, Duration::from) }
    }

    /// How long this moment is after `earlier`. Zero if it is not later.
    pub fn saturating_since(self, earlier: Moment) -> Duration {
        self.uptime.saturating_sub(earlier.uptime)
    }

    /// The moment `nanos` nanoseconds after the machine's start.
    pub(super) fn from_nanos(nanos: u64) -> Moment {
        Moment { uptime: Duration::from_nanos(nanos) }
    }

    /// The nanoseconds since the machine's start. After 584 years the value no longer grows.
    pub(super) fn as_nanos(self) -> u64 {
        u64::try_from(self.uptime.as_nanos()).unwrap_or(u64::MAX)
    }
}

impl Add<Duration> for Moment {
    type Output = Moment;

    /// The moment that is `later` after this one, or the greatest possible moment.
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

    /// This environment variable is set in the child process.
    const CHILD: &str = "POSTCALL_TEST_BOOTTIME";

    /// No test can suspend the machine. But in a time namespace, only the clock that counts suspension can be moved.
    /// The test moves that clock, and compares the moment with the kernel's value of it in /proc/uptime.
    #[cfg(target_os = "linux")]
    #[test]
    fn time_in_which_the_machine_was_suspended_counts() {
        if std::env::var_os(CHILD).is_some() {
            let uptime = std::fs::read_to_string("/proc/uptime").unwrap();
            let uptime: f64 = uptime.split(' ').next().unwrap().parse().unwrap();
            let seen = Moment::now().uptime.as_secs_f64();
            assert!(seen > 1e6 && (seen - uptime).abs() < 1e5, "{seen} s seen, {uptime} s have passed");
            return;
        }
        let program = std::env::current_exe().unwrap();
        let name = "webhook::clock::tests::time_in_which_the_machine_was_suspended_counts";
        let mut child = std::process::Command::new("unshare");
        child.args(["--map-root-user", "--time", "--boottime", "1000000", "--fork"]).arg(program);
        match child.args(["--exact", name]).env(CHILD, "").output() {
            Ok(output) if output.status.code() != Some(1) => {
                let told = String::from_utf8_lossy(&output.stdout);
                assert!(output.status.success() && told.contains("1 passed"), "{told}");
            }
            refused => eprintln!("NOT TESTED: this system lets no time namespace be made: {refused:?}"),
        }
    }
}
