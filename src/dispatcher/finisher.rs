//! Writes what came of the attempts, in batches that grow with the load, and tries until the database has taken them.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info};

use super::backoff::Outage;
use super::blocked::BlockedWarning;
use super::place::Place;
use crate::domain::claim::{Finished, Hold, Settled};
use crate::domain::delivery::{Failure, Outcome, State};
use crate::store::StoreError;
use crate::store::finish::Recording;
use crate::store::session::Session;

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

/// A result and the place in which it came about. The place goes with the result, and comes free when the database has it:
/// so a dispatcher that dies leaves no more in `sending` than it had permits.
pub(super) struct Handed {
    /// What became of the delivery.
    pub(super) settled: Settled,
    /// Its place among what is in flight.
    pub(super) place: Place,
}

/// What a finisher has recorded so far; it outlives the finisher.
pub(super) type Books = Arc<Mutex<Tally>>;

pub(super) struct Finisher {
    session: Session,
    inbox: mpsc::Receiver<Handed>,
    given_up: CancellationToken,
    outage: Outage,
    blocked: BlockedWarning,
    tally: Tally,
    /// Where the tally is left at the end.
    books: Books,
}

impl Finisher {
    /// Takes results from `inbox` until all senders are gone. `given_up` ends the trying. However it ends, what was
    /// recorded is then to be found in `books`.
    pub(super) fn new(
        session: Session,
        inbox: mpsc::Receiver<Handed>,
        given_up: CancellationToken,
        books: Books,
    ) -> Finisher {
        let (outage, blocked) = (Outage::none("finisher"), BlockedWarning::default());
        Finisher { session, inbox, given_up, outage, blocked, tally: Tally::default(), books }
    }

    pub(super) async fn run(mut self) {
        let mut batch = Vec::with_capacity(MAX_BATCH);
        while self.inbox.recv_many(&mut batch, MAX_BATCH).await > 0 {
            let mut finished = Vec::with_capacity(batch.len());
            let mut unsent = Vec::new();
            let mut places = Vec::with_capacity(batch.len());
            for handed in batch.drain(..) {
                places.push(handed.place);
                match handed.settled {
                    Settled::Finished(one) => finished.push(one),
                    Settled::Unsent(hold) => unsent.push(hold),
                }
            }
            self.record(finished).await;
            self.release(unsent).await;
            places.into_iter().for_each(Place::leave);
        }
        self.blocked.flush();
    }

    /// Writes until the database has taken it, or until nobody waits for it any more.
    async fn record(&mut self, finished: Vec<Finished>) {
        if finished.is_empty() {
            return;
        }
        let recordings = loop {
            match self.session.finish(&finished).await {
                Ok(recordings) => break recordings,
                Err(refusal) if refusal.is_about_the_data() => return self.record_one_by_one(finished).await,
                Err(failure) => {
                    if self.give_up_after(&failure).await {
                        return self.leave(finished.len(), &failure);
                    }
                }
            }
        };
        self.outage.over();
        let late = self.note(finished, &recordings);
        self.record_evidence(late).await;
    }

    /// One row that the database refuses must not hold up the others. It stays in `sending`, where it is seen, and is
    /// given up when this dispatcher stops.
    async fn record_one_by_one(&mut self, finished: Vec<Finished>) {
        if let [one] = &finished[..] {
            self.tally.unwritten += 1;
            error!(delivery_id = %one.hold.delivery_id(), "the database refuses to record this outcome");
            return;
        }
        for one in finished {
            Box::pin(self.record(vec![one])).await;
        }
    }

    /// What came after it had been given up is evidence: it says what the unknown delivery was.
    async fn record_evidence(&mut self, late: Vec<Finished>) {
        while !late.is_empty() {
            match self.session.record_evidence(&late).await {
                Ok(news) => return info!(late = late.len(), news, "late results recorded as evidence"),
                Err(failure) => {
                    if self.give_up_after(&failure).await {
                        return self.leave(late.len(), &failure);
                    }
                }
            }
        }
    }

    /// Puts back to waiting what was not sent. What has been given up in the meantime stays so, as certainly unsent.
    async fn release(&mut self, unsent: Vec<Hold>) {
        if unsent.is_empty() {
            return;
        }
        loop {
            match self.release_once(&unsent).await {
                Ok(released) => {
                    self.outage.over();
                    self.tally.returned += released;
                    return;
                }
                Err(failure) => {
                    if self.give_up_after(&failure).await {
                        return self.leave(unsent.len(), &failure);
                    }
                }
            }
        }
    }

    async fn release_once(&mut self, unsent: &[Hold]) -> Result<usize, StoreError> {
        let released = self.session.release(unsent).await?;
        let given_up: Vec<&Hold> = unsent.iter().filter(|hold| !released.contains(&hold.delivery_id())).collect();
        if !given_up.is_empty() {
            self.session.record_unsent(&given_up).await?;
        }
        Ok(released.len())
    }

    /// Waits before another try; whether there shall be none.
    async fn give_up_after(&mut self, failure: &StoreError) -> bool {
        let given_up = self.given_up.clone();
        given_up.is_cancelled() || given_up.run_until_cancelled(self.outage.wait(failure)).await.is_none()
    }

    fn leave(&mut self, results: usize, failure: &StoreError) {
        self.tally.unwritten += results;
        error!(results, error = %failure, "stopping with results that the database did not take");
    }

    /// Counts what was recorded and returns what was not, because it had been given up.
    fn note(&mut self, finished: Vec<Finished>, recordings: &[Recording]) -> Vec<Finished> {
        let mut late = Vec::new();
        let mut blocked = 0;
        for (one, recording) in finished.into_iter().zip(recordings) {
            let (delivery_id, state) = (one.hold.delivery_id(), one.outcome.state());
            if *recording == Recording::NotHeld {
                late.push(one);
                continue;
            }
            debug!(%delivery_id, %state, "recorded");
            self.tally.count(state);
            blocked += usize::from(matches!(one.outcome, Outcome::Failed { kind: Failure::Blocked, .. }));
        }
        self.blocked.note(blocked);
        late
    }
}

impl Drop for Finisher {
    fn drop(&mut self) {
        *self.books.lock().unwrap_or_else(PoisonError::into_inner) = self.tally;
    }
}

impl Tally {
    fn count(&mut self, state: State) {
        match state {
            State::Delivered => self.delivered += 1,
            State::Rejected => self.rejected += 1,
            State::Failed => self.failed += 1,
            State::Unknown => self.unknown += 1,
            State::Skipped => self.skipped += 1,
            // No outcome has these states.
            State::Waiting | State::Sending => {}
        }
    }
}
