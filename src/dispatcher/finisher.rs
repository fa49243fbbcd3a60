//! Writes what came of the attempts, in batches that grow with the load, and tries until the database has taken them.

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, warn};

use super::backoff::Outage;
use crate::domain::claim::{Finished, Hold, Settled};
use crate::domain::delivery::State;
use crate::store::finish::Recording;
use crate::store::{Store, StoreError};

/// Results in one statement at most. Whatever has come in while the last statement ran goes into the next one.
const MAX_BATCH: usize = 500;

/// How many deliveries were recorded in each final state, and how many went back to waiting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Answered with 2xx.
    pub delivered: usize,
    /// Answered otherwise.
    pub rejected: usize,
    /// Certainly not sent.
    pub failed: usize,
    /// Perhaps sent.
    pub unknown: usize,
    /// The action was disabled.
    pub skipped: usize,
    /// Known unsent, waiting again.
    pub returned: usize,
    /// Results that could not be written before the end; their deliveries are still in `sending`.
    pub unwritten: usize,
}

pub(super) struct Finisher {
    store: Store,
    inbox: mpsc::Receiver<Settled>,
    given_up: CancellationToken,
    outage: Outage,
    tally: Tally,
}

impl Finisher {
    /// Takes results from `inbox` until all senders are gone. `given_up` ends the trying.
    pub(super) fn new(store: Store, inbox: mpsc::Receiver<Settled>, given_up: CancellationToken) -> Finisher {
        Finisher { store, inbox, given_up, outage: Outage::none("finisher"), tally: Tally::default() }
    }

    pub(super) async fn run(mut self) -> Tally {
        let mut batch = Vec::with_capacity(MAX_BATCH);
        while self.inbox.recv_many(&mut batch, MAX_BATCH).await > 0 {
            let mut finished = Vec::with_capacity(batch.len());
            let mut unsent = Vec::new();
            for settled in batch.drain(..) {
                match settled {
                    Settled::Finished(one) => finished.push(one),
                    Settled::Unsent(hold) => unsent.push(hold),
                }
            }
            self.record(&finished).await;
            self.release(&unsent).await;
        }
        self.tally
    }

    async fn record(&mut self, finished: &[Finished]) {
        if finished.is_empty() {
            return;
        }
        let given_up = self.given_up.clone();
        loop {
            match self.store.finish(finished).await {
                Ok(recordings) => return self.note(finished, &recordings),
                Err(refusal) if refusal.is_about_the_data() => return self.record_one_by_one(finished).await,
                Err(failure) if given_up.is_cancelled() => return self.leave(finished.len(), &failure),
                Err(failure) => drop(given_up.run_until_cancelled(self.outage.wait(&failure)).await),
            }
        }
    }

    /// One row that the database refuses must not hold up the others. It stays in `sending`, where it is seen.
    async fn record_one_by_one(&mut self, finished: &[Finished]) {
        if let [one] = finished {
            self.tally.unwritten += 1;
            error!(delivery_id = %one.hold.delivery_id(), "the database refuses to record this outcome");
            return;
        }
        for one in finished {
            Box::pin(self.record(std::slice::from_ref(one))).await;
        }
    }

    async fn release(&mut self, unsent: &[Hold]) {
        if unsent.is_empty() {
            return;
        }
        let given_up = self.given_up.clone();
        loop {
            match self.store.release(unsent).await {
                Ok(released) => {
                    self.outage.over();
                    self.tally.returned += released.len();
                    return;
                }
                Err(failure) if given_up.is_cancelled() => return self.leave(unsent.len(), &failure),
                Err(failure) => drop(given_up.run_until_cancelled(self.outage.wait(&failure)).await),
            }
        }
    }

    fn leave(&mut self, results: usize, failure: &StoreError) {
        self.tally.unwritten += results;
        error!(results, error = %failure, "stopping with results that the database did not take");
    }

    fn note(&mut self, finished: &[Finished], recordings: &[Recording]) {
        self.outage.over();
        for (one, recording) in finished.iter().zip(recordings) {
            let (delivery_id, state) = (one.hold.delivery_id(), one.outcome.state());
            if *recording == Recording::NotHeld {
                warn!(%delivery_id, %state, "not recorded: this dispatcher no longer holds the delivery");
                continue;
            }
            debug!(%delivery_id, %state, "recorded");
            match state {
                State::Delivered => self.tally.delivered += 1,
                State::Rejected => self.tally.rejected += 1,
                State::Failed => self.tally.failed += 1,
                State::Unknown => self.tally.unknown += 1,
                State::Skipped => self.tally.skipped += 1,
                // No outcome has these states.
                State::Waiting | State::Sending => {}
            }
        }
    }
}
