//! One clock for all processes of a run: the machine's monotonic clock. No process can set it, and all processes read
//! the same value.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};

/// The current value of the machine's monotonic clock, in nanoseconds.
pub fn now_ns() -> u64 {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC).unwrap();
    u64::try_from(time.tv_sec()).unwrap() * 1_000_000_000 + u64::try_from(time.tv_nsec()).unwrap()
}

/// The moment at which another process of this machine read `at_ns` from [`now_ns`]. An [`Instant`] cannot be made from
/// a number, only from another [`Instant`], so the first call must come before all moments that are asked for.
pub fn instant(at_ns: u64) -> Instant {
    static ANCHOR: OnceLock<(Instant, u64)> = OnceLock::new();
    let (instant, anchor_ns) = *ANCHOR.get_or_init(|| (Instant::now(), now_ns()));
    match at_ns.checked_sub(anchor_ns) {
        Some(later) => instant + Duration::from_nanos(later),
        None => instant.checked_sub(Duration::from_nanos(anchor_ns - at_ns)).unwrap(),
    }
}
