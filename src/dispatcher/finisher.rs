//! Records the results of the attempts, in batches that grow with the load, and tries until the database has taken
//! them.
//!
//! A row that the database refuses because of its content is not tried again and again. The finisher finds it by
//! halving the batch, and writes it without its texts. So one such row costs its batch some twenty statements, once. If
//! the database refuses it even then, it stays in `sending`, and is given up when this dispatcher has stopped. Its
//! place comes free like every other: a result that cannot be written must not take a place from results that can.

#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use super::backoff::Outage;
use super::blocked::BlockedWarning;
use super::excerpts::ExcerptKeeper;
use super::in_flight::InFlight;
use crate::domain::chain::chain;
use crate::domain::claim::{ClaimToken, Completion, Finished, Texts};
use crate::domain::delivery::{Failure, Outcome, State};
use crate::domain::retention::ExcerptDays;
use crate::metrics::Counters;
use crate::store::StoreError;
use crate::store::finish::Recording;
use crate::store::session::Session;

/// How many results one statement writes at most. Results that arrive while a statement runs go into the next one.
const MAX_BATCH: usize = 500;

/// Fewer results than this are recorded at once, because there is no load.
const FEW: usize = 4;
/// How long the finisher waits at most for more results when it has at least [`FEW`].
const GATHERING: Duration = Duration::from_millis(5);

/// How many deliveries were recorded in each final state, and how many went back to waiting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// The receiver answered with 2xx.
    pub delivered: usize,
    /// The receiver gave any other answer.
    pub rejected: usize,
    /// The request certainly reached nobody.
    pub failed: usize,
    /// The request may have reached the receiver.
    pub unknown: usize,
    /// The action was disabled.
    pub skipped: usize,
    /// The delivery is known to be unsent, and waits again.
    pub returned: usize,
    /// The result could not be written before the end. These deliveries are still in `sending`.
    pub unwritten: usize,
}

/// A result, and its delivery, which is in flight until the database has taken the result, or has refused it for
/// good. So a dispatcher that dies leaves no more deliveries in `sending` than it had places and refused results.
/// The log names each refused result.
pub(super) struct PendingResult {
    /// What became of the delivery.
    pub(super) completion: Completion,
    /// The delivery.
    pub(super) in_flight: InFlight,
}

/// The tally of a finisher. It outlives the finisher, which writes it when it is dropped.
pub(super) type Books = Arc<Mutex<Tally>>;

pub(super) struct Finisher {
    session: Session,
    inbox: mpsc::Receiver<PendingResult>,
    /// With this many results, the finisher does not wait for more.
    enough: usize,
    stop_trying: CancellationToken,
    outage: Outage,
    blocked: BlockedWarning,
    excerpts: ExcerptKeeper,
    tally: Tally,
    counts: Arc<Counters>,
    /// Where the tally is stored when this finisher is dropped.
    books: Books,
}

impl Finisher {
    /// Takes results from `inbox` until all senders are gone. After `stop_trying` is cancelled, it tries nothing again.
    /// However it ends, `books` then holds the tally.
    pub(super) fn new(
        session: Session,
        inbox: mpsc::Receiver<PendingResult>,
        concurrency: usize,
        stop_trying: CancellationToken,
        counts: Arc<Counters>,
        books: Books,
    ) -> Finisher {
        let (outage, blocked) = (Outage::none("finisher"), BlockedWarning::default());
        Finisher {
            session,
            inbox,
            enough: (concurrency / 2).clamp(FEW, MAX_BATCH),
            stop_trying,
            outage,
            blocked,
            excerpts: ExcerptKeeper::default(),
            tally: Tally::default(),
            counts,
            books,
        }
    }

    /// The same, which also keeps excerpts of responses for so long.
    pub(super) fn keeping_excerpts(mut self, days: ExcerptDays) -> Finisher {
        self.excerpts = ExcerptKeeper::new(days);
        self
    }

    pub(super) async fn run(mut self) {
        let mut batch = Vec::with_capacity(MAX_BATCH);
        while self.inbox.recv_many(&mut batch, MAX_BATCH).await > 0 {
            gather(&mut self.inbox, &mut batch, self.enough).await;
            let mut finished = Vec::with_capacity(batch.len());
            let mut unsent = Vec::new();
            let mut returning = Vec::new();
            let mut ended = Vec::with_capacity(batch.len());
            for pending in batch.drain(..) {
                match pending.completion {
                    Completion::Finished(one) => {
                        finished.push(one);
                        ended.push(pending.in_flight);
                    }
                    Completion::Unsent(token) => {
                        returning.push((token.delivery_id(), pending.in_flight));
                        unsent.push(token);
                    }
                }
            }
            self.record(finished).await;
            self.release(unsent).await;
            for (delivery_id, in_flight) in returning {
                in_flight.returned(delivery_id);
                in_flight.leave();
            }
            ended.into_iter().for_each(InFlight::leave);
        }
        self.blocked.flush();
    }

    /// Writes results until the database has taken or refused each of them, or until `stop_trying` is cancelled.
    async fn record(&mut self, finished: Vec<Finished>) {
        let mut due = vec![finished];
        while let Some(batch) = due.pop() {
            if batch.is_empty() {
                continue;
            }
            match self.session.finish(&batch).await {
                Ok(recordings) => {
                    self.outage.over();
                    let late = self.note(batch, &recordings);
                    self.excerpts.keep(&mut self.session).await;
                    self.record_evidence(late).await;
                }
                Err(refusal) if refusal.is_about_the_data() => due.extend(self.smaller(batch, &refusal)),
                Err(failure) => {
                    due.push(batch);
                    if self.give_up_after(&failure).await {
                        return self.leave(due.iter().map(Vec::len).sum(), &failure);
                    }
                }
            }
        }
    }

    /// Records late results as evidence: each says how a delivery that was given up as `unknown` really ended.
    async fn record_evidence(&mut self, late: Vec<Finished>) {
        let mut due = vec![late];
        while let Some(batch) = due.pop() {
            if batch.is_empty() {
                continue;
            }
            match self.session.record_evidence(&batch).await {
                Ok(news) => info!(results.late = batch.len(), results.new = news, "late results recorded as evidence"),
                Err(refusal) if refusal.is_about_the_data() => due.extend(self.smaller(batch, &refusal)),
                Err(failure) => {
                    due.push(batch);
                    if self.give_up_after(&failure).await {
                        return self.leave(due.iter().map(Vec::len).sum(), &failure);
                    }
                }
            }
        }
    }

    /// What to try instead of a batch that the database refuses: its two halves, or a single row without its texts. If
    /// that was refused already, nothing is tried.
    fn smaller(&mut self, mut batch: Vec<Finished>, refusal: &StoreError) -> Vec<Vec<Finished>> {
        if let [one] = &mut batch[..] {
            let delivery_id = one.token.delivery_id();
            if one.texts == Texts::Refused {
                self.unwritten(1);
                error!(delivery.id = %delivery_id, error = %chain(refusal), "the database refuses to record this outcome");
                return Vec::new();
            }
            warn!(delivery.id = %delivery_id, error = %chain(refusal), "the database refuses this outcome; recording it without its texts");
            one.texts = Texts::Refused;
            return vec![batch];
        }
        let back = batch.split_off(batch.len() / 2);
        vec![back, batch]
    }

    /// Moves unsent deliveries back to `waiting`. A delivery that was given up in the meantime stays given up; that it
    /// was certainly not sent is recorded.
    async fn release(&mut self, unsent: Vec<ClaimToken>) {
        let mut due = vec![unsent];
        while let Some(mut batch) = due.pop() {
            if batch.is_empty() {
                continue;
            }
            match self.release_once(&batch).await {
                Ok(released) => {
                    self.outage.over();
                    self.tally.returned += released;
                    self.counts.returned(released);
                }
                Err(refusal) if refusal.is_about_the_data() => match &batch[..] {
                    [one] => {
                        self.unwritten(1);
                        error!(delivery.id = %one.delivery_id(), error = %chain(&refusal), "the database refuses to take this delivery back");
                    }
                    _ => {
                        due.push(batch.split_off(batch.len() / 2));
                        due.push(batch);
                    }
                },
                Err(failure) => {
                    due.push(batch);
                    if self.give_up_after(&failure).await {
                        return self.leave(due.iter().map(Vec::len).sum(), &failure);
                    }
                }
            }
        }
    }

    async fn release_once(&mut self, unsent: &[ClaimToken]) -> Result<usize, StoreError> {
        let released = self.session.release(unsent).await?;
        let no_longer_held: Vec<&ClaimToken> =
            unsent.iter().filter(|token| !released.contains(&token.delivery_id())).collect();
        if !no_longer_held.is_empty() {
            self.session.record_unsent(&no_longer_held).await?;
        }
        Ok(released.len())
    }

    /// Waits before the next try. Returns `true` if there must be no next try.
    async fn give_up_after(&mut self, failure: &StoreError) -> bool {
        let stop_trying = self.stop_trying.clone();
        // Nothing is said of an outage that nobody waits for.
        stop_trying.is_cancelled() || stop_trying.run_until_cancelled(self.outage.wait(failure)).await.is_none()
    }

    fn leave(&mut self, results: usize, failure: &StoreError) {
        self.unwritten(results);
        error!(results.unwritten = results, error = %chain(failure), "stopping with results that the database did not take");
    }

    fn unwritten(&mut self, results: usize) {
        self.tally.unwritten += results;
        self.counts.unwritten(results);
    }

    /// Counts the results that were recorded, and returns those that were not because their delivery had been given up.
    fn note(&mut self, finished: Vec<Finished>, recordings: &[Recording]) -> Vec<Finished> {
        let mut late = Vec::new();
        let mut blocked = 0;
        for (mut one, recording) in finished.into_iter().zip(recordings) {
            let (delivery_id, state) = (one.token.delivery_id(), one.outcome.state());
            if *recording == Recording::NotHeld {
                late.push(one);
                continue;
            }
            self.tally.count(state);
            self.counts.recorded(&one.outcome);
            debug!(delivery.id = %delivery_id, %state, "recorded");
            self.excerpts.take(delivery_id, &mut one.outcome);
            blocked += usize::from(matches!(one.outcome, Outcome::Failed { kind: Failure::Blocked, .. }));
        }
        self.blocked.note(blocked);
        late
    }
}

/// Under load, when results arrive while others are being written, waits a moment until there are `enough` of them.
async fn gather<T>(inbox: &mut mpsc::Receiver<T>, batch: &mut Vec<T>, enough: usize) {
    if batch.len() < FEW {
        return;
    }
    let enough_have_come =
        async { while batch.len() < enough && inbox.recv_many(batch, MAX_BATCH - batch.len()).await > 0 {} };
    tokio::time::timeout(GATHERING, enough_have_come).await.ok();
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
            // An outcome never has one of these states.
            State::Waiting | State::Sending => {}
        }
    }
}
