//! How whoever needs something outside behaves while that does not do what it should: its pauses grow, and it writes
//! one log line when that begins and one when it ends. Outside is the database for most workers, and for what takes
//! checkpoints elsewhere also a URL or a directory.

use std::error::Error;
use std::time::{Duration, Instant};

use tokio::time::Sleep;
use tracing::{info, warn};

use crate::domain::chain::chain;

/// Pauses that grow: each may be twice as long as the one before it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pauses {
    /// The first pause.
    pub(super) first: Duration,
    /// The longest pause.
    pub(super) longest: Duration,
}

/// While the database is away.
const OF_DATABASE: Pauses = Pauses { first: Duration::from_millis(50), longest: Duration::from_secs(5) };
/// While something else is.
pub(super) const ELSEWHERE: Pauses = Pauses { first: Duration::from_secs(1), longest: Duration::from_secs(60) };

impl Pauses {
    /// How long to pause after the `failures`-th failure in a row (counted from 1).
    pub(super) fn after(self, failures: u32) -> Duration {
        self.spread(failures, fastrand::f64())
    }

    /// `jitter`, from 0 to 1, spreads those that lost the same thing over the second half of the pause.
    fn spread(self, failures: u32, jitter: f64) -> Duration {
        let full = self.first.saturating_mul(1 << (failures.clamp(1, 16) - 1)).min(self.longest);
        full.mul_f64(0.5 + jitter / 2.0)
    }
}

/// What may be away, as the log tells it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outside {
    /// That it is.
    pub(super) away: &'static str,
    /// That it is not any more.
    pub(super) back: &'static str,
    /// The pauses between tries.
    pub(super) pauses: Pauses,
}

const DATABASE: Outside = Outside {
    away: "the database does not do what it should; trying until it does",
    back: "the database is back",
    pauses: OF_DATABASE,
};

/// An outage of something outside, as one worker sees it.
pub(super) struct Outage {
    worker: &'static str,
    of: Outside,
    failures: u32,
    since: Option<Instant>,
}

impl Outage {
    /// There is no outage of the database yet. `worker` is the name that the log shows.
    pub(super) fn none(worker: &'static str) -> Outage {
        Outage::none_of(DATABASE, worker)
    }

    /// There is no outage of this yet.
    pub(super) fn none_of(of: Outside, worker: &'static str) -> Outage {
        Outage { worker, of, failures: 0, since: None }
    }

    /// Whether there is none.
    pub(super) fn is_over(&self) -> bool {
        self.since.is_none()
    }

    /// Notes a failure, and says so if it is the first. Ends when it is time for the next try.
    pub(super) fn wait(&mut self, error: &dyn Error) -> Sleep {
        self.failures = self.failures.saturating_add(1);
        if self.since.is_none() {
            self.since = Some(Instant::now());
            warn!(worker = self.worker, error = %chain(error), "{}", self.of.away);
        }
        tokio::time::sleep(self.of.pauses.after(self.failures))
    }

    /// Notes a success, and says so if it ends an outage.
    pub(super) fn over(&mut self) {
        if let Some(since) = self.since.take() {
            let lasted_ms = since.elapsed().as_millis() as u64;
            info!(worker = self.worker, lasted_ms, failures = self.failures, "{}", self.of.back);
            self.failures = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound_and_jitter_spreads_their_second_half() {
        for Pauses { first, longest } in [OF_DATABASE, ELSEWHERE] {
            let spread = |failures, jitter| Pauses { first, longest }.spread(failures, jitter);
            assert_eq!([1, 2, 3].map(|failures| spread(failures, 1.0)), [first, first * 2, first * 4]);
            assert_eq!(spread(1, 0.0), first / 2);
            assert_eq!([8, 100, u32::MAX].map(|failures| spread(failures, 1.0)), [longest; 3]);
            assert_eq!(spread(u32::MAX, 0.0), longest / 2);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_in_an_outage_waits_longer_each_time_and_from_the_beginning_in_the_next_one() {
        let (mut outage, error) =
            (Outage::none_of(Outside { pauses: ELSEWHERE, ..DATABASE }, "worker"), std::fmt::Error);
        for round in 0..2 {
            assert!(outage.is_over(), "{round}");
            for full in [1, 2, 4].map(Duration::from_secs) {
                let begun = tokio::time::Instant::now();
                outage.wait(&error).await;
                let waited = begun.elapsed();
                assert!(!outage.is_over() && (full / 2..=full + TICK).contains(&waited), "{round} {full:?} {waited:?}");
            }
            outage.over();
        }
    }

    /// The clock of pauses goes in such steps.
    const TICK: Duration = Duration::from_millis(1);
}
