//! How a worker behaves while the database does not answer: its pauses grow, and it writes one log line per outage.

use std::time::{Duration, Instant};

use tracing::{info, warn};

use crate::domain::chain::chain;
use crate::store::StoreError;

/// The first pause after an error.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// How long to pause after the `failures`-th failure in a row (counted from 1). `jitter`, from 0 to 1, spreads
/// dispatchers that lost the same database over the second half of the pause.
fn pause(failures: u32, jitter: f64) -> Duration {
    let full = FIRST_PAUSE.saturating_mul(1 << failures.clamp(1, 16) >> 1).min(LONGEST_PAUSE);
    full.mul_f64(0.5 + jitter / 2.0)
}

/// An outage of the database, as one worker sees it.
pub(super) struct Outage {
    worker: &'static str,
    failures: u32,
    since: Option<Instant>,
}

impl Outage {
    /// There is no outage yet. `worker` is the name that the log shows.
    pub(super) fn none(worker: &'static str) -> Outage {
        Outage { worker, failures: 0, since: None }
    }

    /// Whether there is none.
    pub(super) fn is_over(&self) -> bool {
        self.since.is_none()
    }

    /// Notes a failure, says so if it is the first, and waits before the next try.
    pub(super) async fn wait(&mut self, error: &StoreError) {
        self.failures = self.failures.saturating_add(1);
        if self.since.is_none() {
            self.since = Some(Instant::now());
            warn!(worker = self.worker, error = %chain(error), "the database does not do what it should; trying until it does");
        }
        tokio::time::sleep(pause(self.failures, fastrand::f64())).await;
    }

    /// Notes a success, and says so if it ends an outage.
    pub(super) fn over(&mut self) {
        if let Some(since) = self.since.take() {
            let lasted_ms = since.elapsed().as_millis() as u64;
            info!(worker = self.worker, lasted_ms, failures = self.failures, "the database is back");
            self.failures = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound_and_jitter_spreads_their_second_half() {
        assert_eq!(pause(1, 1.0), FIRST_PAUSE);
        assert_eq!(pause(1, 0.0), FIRST_PAUSE / 2);
        assert_eq!(pause(2, 1.0), FIRST_PAUSE * 2);
        assert_eq!(pause(8, 1.0), LONGEST_PAUSE);
        assert_eq!(pause(u32::MAX, 0.0), LONGEST_PAUSE / 2);
    }
}
