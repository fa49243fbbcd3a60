//! What a dispatcher has done since it started. It records by additions to atomics, so that counting costs a delivery
//! neither a lock nor an allocation. The log's line of each minute and the metrics read the same counters.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::histogram::{Distribution, Histogram};
use crate::domain::claim::{Completion, Finished};
use crate::domain::closed_set::closed_set;
use crate::domain::delivery::{Failure, Outcome, State, UnknownReason};
use crate::domain::error_kind::ErrorKind;

/// Upper bounds of the buckets for requests. The longest timeout of an action is 120 s.
const REQUEST_BOUNDS_MS: [u64; 15] =
    [5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 15_000, 30_000, 60_000, 120_000];
/// Upper bounds of the buckets for waiting. What waits longer than an hour is an incident.
const QUEUE_BOUNDS_MS: [u64; 15] =
    [5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000, 600_000, 3_600_000];
/// The ends without an error kind come first: delivered, rejected, skipped.
const WITHOUT_KIND: [State; 3] = [State::Delivered, State::Rejected, State::Skipped];
/// How many ways to end there are.
const ENDS: usize = WITHOUT_KIND.len() + ErrorKind::ALL.len();
/// Classes of response codes, by their first digit. HTTP defines 1 to 5; receivers may send others.
const CODE_CLASSES: [&str; 6] = ["other", "1xx", "2xx", "3xx", "4xx", "5xx"];

closed_set! {
    /// What a dispatcher does with the database. Each has a session of its own.
    pub enum Operation {
        /// It finds the lanes that have work, and reads what is paused.
        Scout = "scout",
        /// It claims deliveries.
        Claim = "claim",
        /// It records results.
        Finish = "finish",
        /// It renews its lease.
        Lease = "lease",
        /// It gives up what lost dispatchers had in flight.
        Recovery = "recovery",
        /// It makes partitions, and removes old calls and history.
        Housekeeping = "housekeeping",
        /// It reports what it does, for `postcall status`.
        Report = "report",
        /// It seals history.
        Seal = "seal",
        /// It reads figures for the metrics.
        Figures = "figures",
    }
}

/// The counters of one dispatcher.
#[derive(Debug)]
pub struct Counters {
    claimed: AtomicU64,
    returned: AtomicU64,
    unwritten: AtomicU64,
    unresolved: AtomicU64,
    spans_exported: AtomicU64,
    spans_dropped: AtomicU64,
    checkpoints_exported: AtomicU64,
    checkpoint_exports_failed: AtomicU64,
    parts_restarted: AtomicU64,
    recorded: [AtomicU64; ENDS],
    responses: [AtomicU64; CODE_CLASSES.len()],
    errors: [Arc<AtomicU64>; Operation::ALL.len()],
    request_duration: Histogram,
    queue_duration: Histogram,
}

impl Default for Counters {
    fn default() -> Counters {
        Counters {
            claimed: AtomicU64::default(),
            returned: AtomicU64::default(),
            unwritten: AtomicU64::default(),
            unresolved: AtomicU64::default(),
            spans_exported: AtomicU64::default(),
            spans_dropped: AtomicU64::default(),
            checkpoints_exported: AtomicU64::default(),
            checkpoint_exports_failed: AtomicU64::default(),
            parts_restarted: AtomicU64::default(),
            recorded: Default::default(),
            responses: Default::default(),
            errors: Default::default(),
            request_duration: Histogram::new(&REQUEST_BOUNDS_MS),
            queue_duration: Histogram::new(&QUEUE_BOUNDS_MS),
        }
    }
}

/// The counters at one moment.
#[derive(Clone, Debug)]
pub struct Totals {
    /// Deliveries that were claimed.
    pub claimed: u64,
    /// Deliveries that went back to waiting.
    pub returned: u64,
    /// Results that the database did not take.
    pub unwritten: u64,
    /// Placeholders that found no value in the call.
    pub unresolved: u64,
    /// Spans that a collector has taken.
    pub spans_exported: u64,
    /// Spans that no collector has taken.
    pub spans_dropped: u64,
    /// Checkpoints that were exported to a URL.
    pub checkpoints_exported: u64,
    /// Tries to do so that failed.
    pub checkpoint_exports_failed: u64,
    /// How often a part of the sealer began anew after a panic.
    pub parts_restarted: u64,
    /// Deliveries that were recorded, by state and error kind. Every pair that there is has an entry.
    pub recorded: Vec<(State, Option<ErrorKind>, u64)>,
    /// Responses by the class of their code.
    pub responses: Vec<(&'static str, u64)>,
    /// Failed statements, by what they were for.
    pub errors: Vec<(Operation, u64)>,
    pub(super) request_duration: Distribution,
    pub(super) queue_duration: Distribution,
}

impl Totals {
    /// How many deliveries were recorded in this state.
    pub fn recorded_as(&self, state: State) -> u64 {
        self.recorded.iter().filter(|(of, _, _)| *of == state).map(|(_, _, count)| count).sum()
    }
}

impl Counters {
    /// One more delivery was claimed.
    pub fn claimed(&self) {
        add(&self.claimed, 1);
    }

    /// A delivery that was claimed had waited for so long.
    pub fn waited(&self, waited: Duration) {
        self.queue_duration.observe(waited);
    }

    /// An attempt has ended like this.
    pub fn attempted(&self, completion: &Completion) {
        let Completion::Finished(Finished { outcome, record, .. }) = completion else { return };
        if let Outcome::Answered(answer) = outcome {
            let class = usize::from(answer.response_code / 100);
            add(&self.responses[if class < CODE_CLASSES.len() { class } else { 0 }], 1);
        }
        if let Some(timing) = &record.timing {
            self.request_duration.observe(timing.latency);
        }
        let unresolved = record.sent.as_ref().map_or(0, |sent| sent.unresolved.len());
        if unresolved > 0 {
            add(&self.unresolved, unresolved);
        }
    }

    /// A delivery was recorded with this outcome.
    pub fn recorded(&self, outcome: &Outcome) {
        add(&self.recorded[end(outcome)], 1);
    }

    /// So many deliveries more went back to waiting.
    pub fn returned(&self, count: usize) {
        add(&self.returned, count);
    }

    /// So many results more were not taken by the database.
    pub fn unwritten(&self, count: usize) {
        add(&self.unwritten, count);
    }

    /// So many spans more were taken by the collector.
    pub fn spans_exported(&self, count: usize) {
        add(&self.spans_exported, count);
    }

    /// So many spans more are lost: the queue was full, or the collector did not take them.
    pub fn spans_dropped(&self, count: usize) {
        add(&self.spans_dropped, count);
    }

    /// A checkpoint more stands at its URL.
    pub fn checkpoint_exported(&self) {
        add(&self.checkpoints_exported, 1);
    }

    /// A checkpoint was not taken by its URL; it is exported later.
    pub fn checkpoint_not_exported(&self) {
        add(&self.checkpoint_exports_failed, 1);
    }

    /// What takes checkpoints elsewhere panicked, and begins anew.
    pub fn part_restarted(&self) {
        add(&self.parts_restarted, 1);
    }

    /// The counter of the statements that failed in this operation.
    pub fn errors(&self, operation: Operation) -> &Arc<AtomicU64> {
        &self.errors[operation as usize]
    }

    /// All counters now.
    pub fn totals(&self) -> Totals {
        let without_kind = WITHOUT_KIND.into_iter().map(|state| (state, None));
        let with_kind = ErrorKind::ALL.into_iter().map(|kind| (kind.state(), Some(kind)));
        let ends = without_kind.chain(with_kind).zip(&self.recorded);
        let codes = CODE_CLASSES.into_iter().zip(&self.responses);
        Totals {
            claimed: get(&self.claimed),
            returned: get(&self.returned),
            unwritten: get(&self.unwritten),
            unresolved: get(&self.unresolved),
            spans_exported: get(&self.spans_exported),
            spans_dropped: get(&self.spans_dropped),
            checkpoints_exported: get(&self.checkpoints_exported),
            checkpoint_exports_failed: get(&self.checkpoint_exports_failed),
            parts_restarted: get(&self.parts_restarted),
            recorded: ends.map(|((state, kind), count)| (state, kind, get(count))).collect(),
            responses: codes.map(|(class, count)| (class, get(count))).collect(),
            errors: Operation::ALL.into_iter().map(|operation| (operation, get(self.errors(operation)))).collect(),
            request_duration: self.request_duration.distribution(),
            queue_duration: self.queue_duration.distribution(),
        }
    }
}

/// The place of an outcome in [`Counters::recorded`].
fn end(outcome: &Outcome) -> usize {
    match outcome {
        Outcome::Answered(_) if outcome.state() == State::Delivered => 0,
        Outcome::Answered(_) => 1,
        Outcome::Skipped => 2,
        Outcome::Failed { kind, .. } => WITHOUT_KIND.len() + *kind as usize,
        Outcome::Unknown { kind, .. } => WITHOUT_KIND.len() + Failure::ALL.len() + *kind as usize,
    }
}

fn add(counter: &AtomicU64, count: usize) {
    counter.fetch_add(count as u64, Ordering::Relaxed);
}

fn get(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

// The places of the error kinds are those of their lists.
const _: () = assert!(Failure::Tls as usize + 1 == Failure::ALL.len());
const _: () = assert!(UnknownReason::DispatcherLost as usize + 1 == UnknownReason::ALL.len());

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::claim::{AttemptRecord, ClaimToken};
    use crate::domain::delivery::{Ending, Timing};

    #[test]
    fn each_outcome_is_counted_under_its_own_state_and_error_kind() {
        let failed = Failure::ALL.map(|kind| Outcome::Failed { kind, detail: String::new() });
        let unknown = UnknownReason::ALL.map(|kind| Outcome::Unknown { kind, detail: String::new() });
        let mut all = vec![Outcome::answered(204), Outcome::answered(302), Outcome::Skipped];
        all.extend(failed.into_iter().chain(unknown));
        assert_eq!(all.len(), ENDS);
        for outcome in all {
            let counters = Counters::default();
            counters.recorded(&outcome);
            let totals = counters.totals();
            let counted: Vec<_> = totals.recorded.iter().filter(|(_, _, count)| *count > 0).collect();
            assert_eq!(counted, [&(outcome.state(), outcome.error_kind(), 1)]);
            assert_eq!(totals.recorded_as(outcome.state()), 1);
        }
    }

    #[test]
    fn each_response_is_counted_in_the_class_of_its_code_and_only_attempts_have_a_duration() {
        let counters = Counters::default();
        let attempted = |outcome, timing| {
            let token = ClaimToken::new(uuid::Uuid::nil(), uuid::Uuid::nil());
            counters.attempted(&token.complete(Ending::Final(outcome), AttemptRecord { sent: None, timing }));
        };
        for code in [101, 200, 204, 302, 404, 503, 600, 999] {
            attempted(Outcome::answered(code), Some(Timing::default()));
        }
        attempted(Outcome::Skipped, None);
        let totals = counters.totals();
        let counts: Vec<(&str, u64)> = totals.responses;
        assert_eq!(counts, [("other", 2), ("1xx", 1), ("2xx", 2), ("3xx", 1), ("4xx", 1), ("5xx", 1)]);
        assert_eq!(totals.request_duration.buckets.iter().map(|(_, count)| count).sum::<u64>(), 8);
    }
}
