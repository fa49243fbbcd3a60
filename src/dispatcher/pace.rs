//! How large the next claim may be. If a claim is not answered in time, the next one is smaller, down to a single
//! delivery, which then gets more and more time. Claims grow back gradually.
//!
//! Without this, a claim that is too large for the link to the database would be made again and again, and nothing
//! would ever be delivered. The slowest link that still works carries one largest call in
//! [`LONGEST_STATEMENT_TIMEOUT`]. With the usual limit of 8 MiB that is 1.7 Mbit/s. A single call that needs longer is
//! passed over for a while, so that the calls behind it have their turn.

use std::time::Duration;

/// How many deliveries one claim takes at most, however many places are free. This keeps the statement short.
pub(super) const MAX_DELIVERIES: usize = 500;
/// How many bytes of calls one claim fetches at most, unless a single call is larger. Even at 100 Mbit/s this many
/// arrive within half a second, and a claim holds no lock much longer.
pub(super) const MAX_BYTES: usize = 4 * 1024 * 1024;
/// How long a claim may take, unless it is for a single delivery whose earlier claim took too long.
const STATEMENT_TIMEOUT: Duration = super::STATEMENT_TIMEOUT;
/// How long a claim for a single delivery may take at most.
const LONGEST_STATEMENT_TIMEOUT: Duration = Duration::from_secs(40);

/// Each step makes a claim four times smaller: it shifts the sizes right by this many bits.
const STEP_BITS: u32 = 2;
/// After this many steps, a claim is for a single delivery.
const STEPS_TO_ONE: u32 = 4;
/// The largest number of steps. Each step after [`STEPS_TO_ONE`] doubles the statement timeout, up to
/// [`LONGEST_STATEMENT_TIMEOUT`].
const STEPS: u32 = STEPS_TO_ONE + 2;
/// After this many claims that took something, claims grow by one step. A claim without an answer starts the count
/// anew.
const SUCCESSES_TO_GROW: u32 = 8;

/// How large the next claim may be, and how long it may take. It has no clock: it is told how claims ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Pace {
    /// How many steps the next claim is smaller than the largest one.
    steps: u32,
    /// How many claims took something since the last step.
    successes: u32,
}

impl Pace {
    /// How many deliveries the next claim may take.
    pub(super) fn deliveries(&self) -> usize {
        match self.steps >= STEPS_TO_ONE {
            true => 1,
            false => MAX_DELIVERIES >> (STEP_BITS * self.steps),
        }
    }

    /// How many bytes the next claim may fetch. The first delivery is taken, however large its call is.
    pub(super) fn bytes(&self) -> usize {
        MAX_BYTES >> (STEP_BITS * self.steps.min(STEPS_TO_ONE))
    }

    /// How long the next claim may take.
    pub(super) fn statement_timeout(&self) -> Duration {
        LONGEST_STATEMENT_TIMEOUT.min(STATEMENT_TIMEOUT * (1 << self.steps.saturating_sub(STEPS_TO_ONE)))
    }

    /// Notes that a claim was answered, and how many deliveries it took. A claim that took none proves nothing about
    /// the link.
    pub(super) fn answered(&mut self, deliveries: usize) {
        self.successes += u32::from(deliveries > 0);
        if self.successes >= SUCCESSES_TO_GROW {
            self.successes = 0;
            self.steps = self.steps.saturating_sub(1);
        }
    }

    /// Notes that a claim was not answered in time. Returns `true` if it was for a single delivery and already had the
    /// longest statement timeout.
    pub(super) fn unanswered(&mut self) -> bool {
        self.successes = 0;
        let exhausted = self.steps >= STEPS;
        self.steps = (self.steps + 1).min(STEPS);
        exhausted
    }
}

/// What to claim instead of what the database refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Instead {
    /// The two halves of the lanes.
    Halves,
    /// So many deliveries of the only lane.
    Fewer(usize),
    /// The only delivery, without its call.
    WithoutCall,
    /// Nothing: the only delivery is passed over for a while.
    Nothing,
}

/// What to claim instead of `deliveries` of each of so many lanes, if the database refuses that. `fetch` says whether the calls were to be
/// fetched.
pub(super) fn instead_of(lanes: usize, deliveries: usize, fetch: bool) -> Instead {
    match (lanes, deliveries, fetch) {
        (0 | 1, 0 | 1, true) => Instead::WithoutCall,
        (0 | 1, 0 | 1, false) => Instead::Nothing,
        (0 | 1, ..) => Instead::Fewer(deliveries / 2),
        _ => Instead::Halves,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_claim_is_divided_down_to_one_delivery_without_its_call() {
        let all = [(3, 8, true), (2, 1, true), (1, 8, true), (1, 3, true), (1, 2, false), (1, 1, true), (1, 1, false)];
        let expected = [
            Instead::Halves,
            Instead::Halves,
            Instead::Fewer(4),
            Instead::Fewer(1),
            Instead::Fewer(1),
            Instead::WithoutCall,
            Instead::Nothing,
        ];
        assert_eq!(all.map(|(lanes, deliveries, fetch)| instead_of(lanes, deliveries, fetch)), expected);
    }

    #[test]
    fn a_claim_that_is_not_answered_is_followed_by_a_smaller_one_down_to_a_single_one_with_more_time() {
        let mut pace = Pace::default();
        let mut seen = vec![(pace.deliveries(), pace.bytes(), pace.statement_timeout())];
        while !pace.unanswered() {
            seen.push((pace.deliveries(), pace.bytes(), pace.statement_timeout()));
        }
        assert_eq!(seen[0], (MAX_DELIVERIES, MAX_BYTES, STATEMENT_TIMEOUT));
        for (before, after) in seen.iter().zip(&seen[1..]) {
            assert!(
                after.0 < before.0 && after.2 == STATEMENT_TIMEOUT || after.0 == 1 && after.2 >= before.2,
                "{seen:?}"
            );
            assert!(after.1 <= before.1, "{seen:?}");
        }
        assert_eq!(seen.last().map(|last| (last.0, last.2)), Some((1, LONGEST_STATEMENT_TIMEOUT)));
        assert!(pace.unanswered(), "and so it stays");
    }

    #[test]
    fn growing_back_is_gradual_and_a_failure_interrupts_it() {
        let mut pace = Pace::default();
        while !pace.unanswered() {}
        let mut before = pace.deliveries();
        let mut claims = 0;
        while pace != (Pace { successes: pace.successes, ..Pace::default() }) {
            pace.answered(1);
            claims += 1;
            assert!(pace.deliveries() <= before * 8, "{pace:?}");
            before = pace.deliveries();
        }
        assert_eq!(claims, STEPS * SUCCESSES_TO_GROW);
        pace.unanswered();
        for _ in 1..SUCCESSES_TO_GROW {
            pace.answered(1);
        }
        pace.unanswered();
        pace.answered(1);
        assert_eq!(pace.steps, 2);
    }

    #[test]
    fn an_empty_queue_proves_nothing() {
        let mut pace = Pace::default();
        pace.unanswered();
        let before = pace.clone();
        (0..100).for_each(|_| pace.answered(0));
        assert_eq!(pace, before);
    }
}
