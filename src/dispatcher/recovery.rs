//! Gives up what lost dispatchers had in flight. A room with a session of its own, so that neither a long list nor a row
//! that the database refuses keeps this dispatcher from renewing its lease.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};
use uuid::Uuid;

use super::STATEMENT_TIMEOUT;
use super::backoff::Outage;
use super::lease::Lease;
use crate::domain::claim::{ClaimToken, Texts};
use crate::store::session::Session;
use crate::store::{Store, StoreError};

/// The others are looked after this often within a lease.
const LOOKS: u32 = 5;
/// Looking for what was left behind takes no more than one part in so many of the time, up to [`LONGEST_PAUSE`]. It reads all of `sending`, dead rows
/// included, and while somebody holds a snapshot there are ever more of them.
const RARITY: u32 = 20;
/// However long the last look took, the next one comes after this at the latest.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Deliveries that one statement gives up at most.
const BATCH: usize = 100;
/// Deliveries that history refused, and which are therefore left alone. When there are more, the others are tried again at
/// every look.
const MAX_REFUSED: usize = 10_000;

/// The room.
pub(super) struct Recovery {
    session: Session,
    lease: Arc<Lease>,
    /// How long a lease is.
    length: Duration,
    outage: Outage,
    /// When it is time to look again for what was left behind.
    look_due: Instant,
    refused: HashSet<Uuid>,
}

impl Recovery {
    pub(super) fn new(store: &Store, lease: Arc<Lease>, length: Duration) -> Recovery {
        let (session, outage) = (store.session(STATEMENT_TIMEOUT), Outage::none("recovery"));
        Recovery { session, lease, length, outage, look_due: Instant::now(), refused: HashSet::new() }
    }

    /// Looks after the others, at once and then several times within a lease, until `stop`.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut looks = tokio::time::interval(self.length / LOOKS);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while stop.run_until_cancelled(looks.tick()).await.is_some() {
            // Stopped in the middle of a statement, the session drops its connection, and what is left is found by others.
            let Some(looked) = stop.run_until_cancelled(self.look_after_others()).await else { return };
            match looked {
                Ok(()) => self.outage.over(),
                Err(error) => drop(stop.run_until_cancelled(self.outage.wait(&error)).await),
            }
        }
    }

    /// Declares dispatchers lost, and gives up what those that have ended left behind.
    ///
    /// After an outage of the database, when nobody could renew, the others have a full lease to be heard of again before
    /// they are declared lost; so has whoever ran before this dispatcher started. The own renewals tell: as long as they
    /// have succeeded, the others' could.
    async fn look_after_others(&mut self) -> Result<(), StoreError> {
        let steady = self.lease.renewed_since().is_some_and(|since| Instant::now() - since >= self.length);
        let lost = if steady { self.session.declare_lost().await? } else { 0 };
        let begun = Instant::now();
        if lost == 0 && begun < self.look_due {
            return Ok(());
        }
        let given_up = self.give_up_all().await;
        // A look that failed is repeated at once, unless it may have been too much for one statement's time.
        if given_up.as_ref().err().is_none_or(StoreError::is_about_time) {
            self.look_due = begun + LONGEST_PAUSE.min(begun.elapsed() * RARITY);
        }
        let unknown = given_up?;
        if lost > 0 || unknown > 0 {
            warn!(lost, unknown, "gave up what lost dispatchers had in flight");
        }
        Ok(())
    }

    /// Batch by batch, from the smallest id to the largest: what history refuses keeps nobody behind it from their turn.
    async fn give_up_all(&mut self) -> Result<u64, StoreError> {
        let (mut unknown, mut after) = (0, Uuid::nil());
        loop {
            let limit = i64::try_from(BATCH).unwrap_or(i64::MAX);
            let mut batch = self.session.left_behind(after, limit).await?;
            let Some(last) = batch.last() else { return Ok(unknown) };
            after = last.delivery_id();
            batch.retain(|one| !self.refused.contains(&one.delivery_id()));
            unknown += self.mark_in_flight_unknown(batch).await?;
        }
    }

    /// One batch. Where the database refuses it, the row that it refuses is found by halving.
    async fn mark_in_flight_unknown(&mut self, batch: Vec<ClaimToken>) -> Result<u64, StoreError> {
        let mut unknown = 0;
        let mut due = vec![batch];
        while let Some(mut batch) = due.pop() {
            if batch.is_empty() {
                continue;
            }
            match self.session.mark_in_flight_unknown(&batch, Texts::Kept).await {
                Ok(given_up) => unknown += given_up,
                Err(refusal) if refusal.is_about_the_data() => match &batch[..] {
                    [one] => unknown += self.mark_unknown_without_texts(one).await?,
                    _ => {
                        due.push(batch.split_off(batch.len() / 2));
                        due.push(batch);
                    }
                },
                Err(failure) => return Err(failure),
            }
        }
        Ok(unknown)
    }

    /// A row that history refuses even so stays in `sending`, where it is seen.
    async fn mark_unknown_without_texts(&mut self, one: &ClaimToken) -> Result<u64, StoreError> {
        let given_up = self.session.mark_in_flight_unknown(std::slice::from_ref(one), Texts::Refused).await;
        match given_up {
            Err(refusal) if refusal.is_about_the_data() => {
                error!(delivery.id = %one.delivery_id(), error = %refusal, "history refuses a delivery that a lost dispatcher left behind");
                if self.refused.len() < MAX_REFUSED {
                    self.refused.insert(one.delivery_id());
                }
                Ok(0)
            }
            given_up => given_up,
        }
    }
}
