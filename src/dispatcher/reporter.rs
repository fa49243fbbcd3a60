//! Writes down every few seconds what this dispatcher does, for `postcall status`. Nothing depends on it, so what fails is
//! passed over; and it has a connection of its own, so nobody waits for it.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::STATEMENT_TIMEOUT;
use super::lease::Lease;
use super::place::Places;
use crate::domain::chain::chain;
use crate::domain::report::Report;
use crate::store::Store;
use crate::store::session::Session;

/// Between two reports.
const EVERY: Duration = Duration::from_secs(3);
/// A report in which nothing has changed is written again after so many that were left out, so that it does not look old.
const MOST_LEFT_OUT: u32 = 10;

/// The room.
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
        Reporter { session: store.session(STATEMENT_TIMEOUT), lease, places, concurrency, max_unrecorded }
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
