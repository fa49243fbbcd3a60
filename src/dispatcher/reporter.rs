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

/// The report that the database has.
#[derive(Default)]
struct LastWritten {
    report: Option<Report>,
    /// How many that were the same have been left out since.
    left_out: u32,
}

impl LastWritten {
    /// Whether this report is left out, because the database has the same one, and not for too long.
    fn suffices_for(&mut self, report: &Report) -> bool {
        let suffices = self.report.as_ref() == Some(report) && self.left_out < MOST_LEFT_OUT;
        if suffices {
            self.left_out += 1;
        }
        suffices
    }
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
        let mut written = LastWritten::default();
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            let report = self.report();
            if written.suffices_for(&report) {
                continue;
            }
            let dispatcher_id = self.lease.current().dispatcher_id;
            let Some(answer) = stop.run_until_cancelled(self.session.report(dispatcher_id, &report)).await else {
                return;
            };
            match answer {
                Ok(()) => written = LastWritten { report: Some(report), left_out: 0 },
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_that_says_nothing_new_is_written_after_so_many_that_were_left_out() {
        let report = |in_flight| Report::new(64, in_flight, 0, Vec::new());
        let mut written = LastWritten::default();
        assert!(!written.suffices_for(&report(1)), "none was written");
        written = LastWritten { report: Some(report(1)), left_out: 0 };
        for _ in 0..MOST_LEFT_OUT {
            assert!(!written.suffices_for(&report(2)));
            assert!(written.suffices_for(&report(1)));
        }
        assert!(!written.suffices_for(&report(1)));
    }
}
