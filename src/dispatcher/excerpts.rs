//! Keeps the excerpts of responses for people who ask why a receiver refused a request. Results come first: an excerpt is
//! written after its result, and if the database does not take it, it is lost.

use std::time::{Duration, Instant};

use tokio::time::timeout;
use tracing::warn;
use uuid::Uuid;

use crate::domain::chain::chain;
use crate::domain::delivery::Outcome;
use crate::domain::excerpt::Excerpt;
use crate::domain::retention::ExcerptDays;
use crate::store::session::Session;

/// How long writing excerpts may take.
const PATIENCE: Duration = Duration::from_millis(500);
/// How long none is written after a failure.
const AFTER_A_FAILURE: Duration = Duration::from_secs(60);

/// The excerpts of results that are recorded, until they are written: no more than one batch of results has.
#[derive(Default)]
pub(super) struct ExcerptKeeper {
    days: ExcerptDays,
    pending: Vec<(Uuid, Box<Excerpt>)>,
    pause: Pause,
}

/// Until when no excerpts are written, if the last ones could not be.
#[derive(Default)]
struct Pause(Option<Instant>);

impl Pause {
    fn is_over(&self, now: Instant) -> bool {
        self.0.is_none_or(|until| now >= until)
    }

    /// Begins one if excerpts were lost just now.
    fn note(&mut self, lost: bool, now: Instant) {
        self.0 = lost.then(|| now + AFTER_A_FAILURE);
    }
}

impl ExcerptKeeper {
    /// Keeps excerpts for so long.
    pub(super) fn new(days: ExcerptDays) -> ExcerptKeeper {
        ExcerptKeeper { days, pending: Vec::new(), pause: Pause::default() }
    }

    /// Takes the excerpt out of a recorded outcome, if it has one.
    pub(super) fn take(&mut self, delivery_id: Uuid, outcome: &mut Outcome) {
        if let Outcome::Answered(answer) = outcome
            && let Some(excerpt) = answer.excerpt.take()
        {
            self.pending.push((delivery_id, excerpt));
        }
    }

    /// Writes what was taken, in one statement that is tried once. Results wait for it, so it has little time, and after a
    /// failure none is written for a while: whoever locks the table of excerpts delays results by 0.5 s in a minute.
    pub(super) async fn keep(&mut self, session: &mut Session) {
        let Some(days) = self.days.days().filter(|_| !self.pending.is_empty()) else { return };
        let excerpts = std::mem::take(&mut self.pending);
        if !self.pause.is_over(Instant::now()) {
            return;
        }
        // If it takes too long, its connection is dropped with it, and the next statement opens another one.
        let lost = match timeout(PATIENCE, session.keep_excerpts(&excerpts, days)).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(chain(&error).to_string()),
            Err(_) => Some(format!("the database did not take them within {PATIENCE:?}")),
        };
        if let Some(error) = &lost {
            warn!(error, "excerpts of responses cannot be kept and are lost for a while; results are recorded");
        }
        self.pause.note(lost.is_some(), Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_excerpts_were_lost_none_are_written_for_a_minute_and_then_again() {
        let (mut pause, now) = (Pause::default(), Instant::now());
        assert!(pause.is_over(now));
        pause.note(true, now);
        let just_before = AFTER_A_FAILURE - Duration::from_nanos(1);
        assert_eq!([just_before, AFTER_A_FAILURE].map(|after| pause.is_over(now + after)), [false, true]);
        pause.note(false, now);
        assert!(pause.is_over(now));
    }
}
