//! Keeps the excerpts of responses for people who ask why a receiver refused a request. Results come first: an excerpt is
//! written after its result, and if the database does not take it, it is lost.

use tracing::warn;
use uuid::Uuid;

use crate::domain::chain::chain;
use crate::domain::delivery::Outcome;
use crate::domain::excerpt::Excerpt;
use crate::domain::retention::ExcerptDays;
use crate::store::session::Session;

/// The excerpts of results that are recorded, until they are written: no more than one batch of results has.
#[derive(Default)]
pub(super) struct ExcerptKeeper {
    days: ExcerptDays,
    pending: Vec<(Uuid, Box<Excerpt>)>,
    /// Whether the log has said that excerpts are lost, and none was written since.
    is_losing: bool,
}

impl ExcerptKeeper {
    /// Keeps excerpts for so long.
    pub(super) fn new(days: ExcerptDays) -> ExcerptKeeper {
        ExcerptKeeper { days, pending: Vec::new(), is_losing: false }
    }

    /// Takes the excerpt out of a recorded outcome, if it has one.
    pub(super) fn take(&mut self, delivery_id: Uuid, outcome: &mut Outcome) {
        if let Outcome::Answered(answer) = outcome
            && let Some(excerpt) = answer.excerpt.take()
        {
            self.pending.push((delivery_id, excerpt));
        }
    }

    /// Writes what was taken, in one statement that is tried once.
    pub(super) async fn keep(&mut self, session: &mut Session) {
        let Some(days) = self.days.days().filter(|_| !self.pending.is_empty()) else { return };
        let excerpts = std::mem::take(&mut self.pending);
        match session.keep_excerpts(&excerpts, days).await {
            Ok(()) => self.is_losing = false,
            Err(error) if !self.is_losing => {
                self.is_losing = true;
                warn!(error = %chain(&error), "excerpts of responses cannot be kept and are lost; results are recorded");
            }
            Err(_) => {}
        }
    }
}
