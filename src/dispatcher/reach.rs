//! How whatever takes checkpoints out of reach of the database's owner behaves while something outside does not take them: its pauses grow,
//! and it writes one log line when that begins and one when it ends.

use std::error::Error;
use std::time::{Duration, Instant};

use tracing::{info, warn};

use crate::domain::chain::chain;

/// The pause after the first failure. It doubles with each that follows.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause.
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// How long to pause after the `failures`-th failure in a row (counted from 1).
pub(super) fn pause(failures: u32) -> Duration {
    FIRST_PAUSE.saturating_mul(1 << (failures.clamp(1, 16) - 1)).min(LONGEST_PAUSE)
}

/// What is outside, as one who needs it sees it.
pub(super) struct Reach {
    /// What is done with checkpoints there, for the log.
    done: &'static str,
    /// Since when nothing works, and how often it was tried.
    trouble: Option<(Instant, u32)>,
}

impl Reach {
    /// There is no trouble yet.
    pub(super) fn of(done: &'static str) -> Reach {
        Reach { done, trouble: None }
    }

    /// Notes that nothing was taken, and says so if it is the first time. Returns how long to wait before the next try.
    pub(super) fn failed(&mut self, cause: &dyn Error) -> Duration {
        let (since, failures) = self.trouble.take().unwrap_or_else(|| {
            warn!(error = %chain(cause), "checkpoints are not {}; sealing goes on, and it is tried again", self.done);
            (Instant::now(), 0)
        });
        let failures = failures.saturating_add(1);
        self.trouble = Some((since, failures));
        pause(failures)
    }

    /// Notes that something was taken, and says so if nothing was before.
    pub(super) fn goes_on(&mut self) {
        if let Some((since, failures)) = self.trouble.take() {
            let lasted_ms = since.elapsed().as_millis() as u64;
            info!(lasted_ms, failures, "checkpoints are {} again", self.done);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_bound() {
        assert_eq!([1, 2, 3].map(pause), [1, 2, 4].map(Duration::from_secs));
        assert_eq!([7, 100, u32::MAX].map(pause), [LONGEST_PAUSE; 3]);
    }
}
