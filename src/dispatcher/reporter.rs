//! Writes a report of what this dispatcher does every few seconds, for `postcall status`. Nothing depends on the
//! reports, so a failed one is skipped. The reporter has a connection of its own, so no other worker waits for it.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::STATEMENT_TIMEOUT;
use super::in_flight::Places;
use super::lease::Lease;
use crate::domain::chain::chain;
use crate::domain::report::Report;
use crate::metrics::Operation;
use crate::store::Store;
use crate::store::session::Session;

/// The time between two reports.
const EVERY: Duration = Duration::from_secs(3);
/// An unchanged report is skipped this many times in a row. Then it is written again, so that it does not look old.
const MOST_LEFT_OUT: u32 = 10;

/// The reporter worker of one dispatcher.
pub(super) struct Reporter {
    session: Session,
    lease: Arc<Lease>,
    places: Places,
    concurrency: usize,
    max_unrecorded: usize,
}

impl Reporter {
    pub(super) fn new(
        store: &Store,
        lease: Arc<Lease>,
        places: Places,
        concurrency: usize,
        max_unrecorded: usize,
    ) -> Reporter {
        let session = store.session(STATEMENT_TIMEOUT).counting(places.counts.errors(Operation::Report));
        Reporter { session, lease, places, concurrency, max_unrecorded }
    }

    /// Reports until `stop`.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (mut last, mut left_out) = (None, 0);
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            let report = self.report();
            if last.as_ref() == Some(&report) && left_out < MOST_LEFT_OUT {
                left_out += 1;
                continue;
            }
            let dispatcher_id = self.lease.current().dispatcher_id;
            let Some(written) = stop.run_until_cancelled(self.session.report(dispatcher_id, &report)).await else {
                return;
            };
            match written {
                Ok(()) => (last, left_out) = (Some(report), 0),
                Err(error) => debug!(error = %chain(&error), "cannot write a report"),
            }
        }
    }

    fn report(&self) -> Report {
        let (in_flight, hosts) = self.places.schedule.report();
        let unrecorded = self.places.waiting_to_be_recorded(self.max_unrecorded);
        Report::new(self.concurrency, in_flight, unrecorded, hosts)
    }
}
