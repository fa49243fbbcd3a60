//! Gives up what lost dispatchers had in flight. This worker has a session of its own, so that neither a long list nor a
//! row that the database refuses keeps this dispatcher from renewing its lease.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};
use uuid::Uuid;

use super::backoff::Outage;
use super::lease::Lease;
use super::{STATEMENT_TIMEOUT, until};
use crate::domain::chain::chain;
use crate::domain::claim::{ClaimToken, Texts};
use crate::metrics::{Counters, Operation};
use crate::store::session::Session;
use crate::store::{Store, StoreError};

/// How often within a lease this worker checks for lost dispatchers.
const LOOKS: u32 = 5;
/// A look for deliveries that were left behind takes no more than one part in so many of the time, unless
/// [`LONGEST_PAUSE`] is over first. A look reads all of `sending`, dead rows included, and while somebody holds a
/// snapshot the number of dead rows grows.
const RARITY: u32 = 20;
/// The next look comes after this time at the latest, however long the last look took.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// How many deliveries one statement gives up at most.
const BATCH: usize = 100;
/// How many deliveries that history refused are remembered, and not tried again. Further ones are tried again at every
/// look.
const MAX_REFUSED: usize = 10_000;

/// The recovery worker of one dispatcher.
pub(super) struct Recovery {
    session: Session,
    lease: Arc<Lease>,
    /// The length of a lease.
    length: Duration,
    outage: Outage,
    /// When the next look for deliveries that were left behind is due.
    look_due: Instant,
    refused: HashSet<Uuid>,
}

impl Recovery {
    pub(super) fn new(store: &Store, lease: Arc<Lease>, length: Duration, counts: &Counters) -> Recovery {
        let session = store.session(STATEMENT_TIMEOUT).counting(counts.errors(Operation::Recovery));
        let outage = Outage::none("recovery");
        Recovery { session, lease, length, outage, look_due: Instant::now(), refused: HashSet::new() }
    }

    /// Checks the other dispatchers, at once and then [`LOOKS`] times within a lease, until `stop`.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut looks = tokio::time::interval(between_looks(self.length));
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while stop.run_until_cancelled(looks.tick()).await.is_some() {
            // If `stop` interrupts a statement, the session drops its connection, and other dispatchers find what is
            // left.
            let Some(looked) = stop.run_until_cancelled(self.look_after_others()).await else { return };
            match looked {
                Ok(true) => self.outage.over(),
                Ok(false) => {}
                Err(error) => until(&stop, self.outage.wait(&error)).await,
            }
        }
    }

    /// Declares dispatchers lost, and gives up what dispatchers that have ended left behind.
    ///
    /// During an outage of the database, nobody can renew a lease. After it, the others have the length of a full lease
    /// to renew before they are declared lost. So have dispatchers that ran before this one started. This dispatcher's
    /// own renewals show when that time is over: while they have succeeded, the others could renew, too.
    ///
    /// Returns whether the database was asked anything.
    async fn look_after_others(&mut self) -> Result<bool, StoreError> {
        let steady = is_steady(self.lease.renewed_since(), Instant::now(), self.length);
        let lost = if steady { self.session.declare_lost().await? } else { 0 };
        let begun = Instant::now();
        if !is_due(lost, begun, self.look_due) {
            return Ok(steady);
        }
        let given_up = self.give_up_all().await;
        // A failed look is repeated at the next check, unless it failed because the statement took too long.
        if given_up.as_ref().err().is_none_or(StoreError::is_about_time) {
            self.look_due = next_look(begun, begun.elapsed());
        }
        let unknown = given_up?;
        if is_worth_telling(lost, unknown) {
            warn!(lost, unknown, "gave up what lost dispatchers had in flight");
        }
        Ok(true)
    }

    /// Gives up all that was left behind, in batches from the smallest id to the largest, so that a delivery that
    /// history refuses does not hold up those behind it.
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

    /// Gives up one batch. If the database refuses it, halving finds the row that it refuses.
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

    /// Gives up a delivery without its texts. If history refuses even that, the row stays in `sending`, where it is
    /// seen.
    async fn mark_unknown_without_texts(&mut self, one: &ClaimToken) -> Result<u64, StoreError> {
        let given_up = self.session.mark_in_flight_unknown(std::slice::from_ref(one), Texts::Refused).await;
        match given_up {
            Err(refusal) if refusal.is_about_the_data() => {
                error!(delivery.id = %one.delivery_id(), error = %chain(&refusal), "history refuses a delivery that a lost dispatcher left behind");
                if self.refused.len() < MAX_REFUSED {
                    self.refused.insert(one.delivery_id());
                }
                Ok(0)
            }
            given_up => given_up,
        }
    }
}

/// The time between two checks of the other dispatchers, for a lease of this length.
fn between_looks(length: Duration) -> Duration {
    length / LOOKS
}

/// Whether all renewals have succeeded for a whole lease.
fn is_steady(renewed_since: Option<Instant>, now: Instant, length: Duration) -> bool {
    renewed_since.is_some_and(|since| now.duration_since(since) >= length)
}

/// Whether a look has found dispatchers that were lost, or given up what any left behind.
fn is_worth_telling(lost: u64, unknown: u64) -> bool {
    lost > 0 || unknown > 0
}

/// Whether to look for deliveries that were left behind: at once if dispatchers were just declared lost, and otherwise when it is time.
fn is_due(lost: u64, now: Instant, due: Instant) -> bool {
    lost > 0 || now >= due
}

/// When the look after one that began at `begun` and took `took` is due.
fn next_look(begun: Instant, took: Duration) -> Instant {
    begun + LONGEST_PAUSE.min(took * RARITY)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use sqlx::AssertSqlSafe;

    use super::super::lease::Registration;
    use super::super::tests::Database;
    use super::*;
    use crate::webhook::SendGate;

    #[test]
    fn others_are_checked_five_times_in_a_lease_and_are_lost_only_after_a_whole_lease_of_own_renewals() {
        let (length, now) = (Duration::from_secs(10), Instant::now());
        assert_eq!(between_looks(length), Duration::from_secs(2));
        let just_before = length - Duration::from_nanos(1);
        assert_eq!([just_before, length].map(|after| is_steady(Some(now), now + after, length)), [false, true]);
        assert!(!is_steady(None, now, length));
    }

    #[test]
    fn a_look_is_told_of_if_it_has_found_anything() {
        assert!(is_worth_telling(1, 0) && is_worth_telling(0, 1) && !is_worth_telling(0, 0));
    }

    /// What nobody holds any more: so many deliveries, of which the first `bad` have that agent and that provider id.
    async fn leave_behind(database: &mut Database, deliveries: i64, bad: i64) {
        let left = format!(
            "INSERT INTO postcall.sending (delivery_id, call_id, agent, action_id, action_version, created_at,
                                           dispatcher_id, claim, claimed_at, call_bytes, sid)
             SELECT postcall.uuid_v7(), postcall.uuid_v7(), CASE WHEN n <= {bad} THEN 'bad' ELSE 'a' END, 1, 1, now(),
                    424242, gen_random_uuid(), now(), 2, CASE WHEN n <= {bad} THEN 'bad' END
             FROM generate_series(1, {deliveries}) AS n"
        );
        sqlx::raw_sql(AssertSqlSafe(left)).execute(&mut database.connection).await.unwrap();
    }

    async fn execute(database: &mut Database, sql: &'static str) {
        sqlx::raw_sql(sql).execute(&mut database.connection).await.unwrap();
    }

    fn recovery(database: &Database, counts: &Counters) -> Recovery {
        let registration = Registration { dispatcher_id: 1, send_gate: SendGate::open() };
        Recovery::new(&database.store, Arc::new(Lease::of(registration)), Duration::from_secs(60), counts)
    }

    #[tokio::test]
    async fn what_history_refuses_is_tried_no_more_and_all_else_is_given_up_and_counted() {
        let mut database = Database::new().await;
        execute(&mut database, "ALTER TABLE postcall.delivery ADD CONSTRAINT an_operator_s CHECK (agent <> 'bad')")
            .await;
        leave_behind(&mut database, 250, 3).await;
        let counts = Counters::default();
        let mut recovery = recovery(&database, &counts);
        assert_eq!(recovery.give_up_all().await.unwrap(), 247);
        assert_eq!((database.states().await.as_str(), recovery.refused.len()), ("sending 3, unknown 247", 3));
        let errors = || counts.errors(Operation::Recovery).load(Ordering::Relaxed);
        let before = errors();
        assert_eq!(recovery.give_up_all().await.unwrap(), 0);
        assert_eq!(errors(), before, "none is tried again");

        // No more of them are remembered than the bound says.
        recovery.refused = (0..MAX_REFUSED).map(|_| Uuid::now_v7()).collect();
        assert_eq!(recovery.give_up_all().await.unwrap(), 0);
        assert_eq!(recovery.refused.len(), MAX_REFUSED);
    }

    #[tokio::test]
    async fn what_history_takes_without_its_texts_is_given_up_and_counted() {
        let mut database = Database::new().await;
        execute(&mut database, "ALTER TABLE postcall.delivery ADD CONSTRAINT an_operator_s CHECK (call_sid <> 'bad')")
            .await;
        leave_behind(&mut database, 5, 2).await;
        let mut recovery = recovery(&database, &Counters::default());
        assert_eq!((recovery.give_up_all().await.unwrap(), recovery.refused.len()), (5, 0));
        assert_eq!(database.states().await, "unknown 5");
    }

    #[tokio::test]
    async fn a_failure_that_is_not_about_the_rows_is_no_reason_to_try_them_one_by_one() {
        let mut database = Database::new().await;
        leave_behind(&mut database, 2, 0).await;
        let counts = Counters::default();
        let mut recovery = recovery(&database, &counts);
        let left = recovery.session.left_behind(Uuid::nil(), 2).await.unwrap();
        execute(&mut database, "ALTER TABLE postcall.delivery RENAME TO elsewhere").await;
        assert!(recovery.mark_unknown_without_texts(&left[0]).await.is_err() && recovery.refused.is_empty());
        assert!(recovery.mark_in_flight_unknown(left).await.is_err());
        assert_eq!(counts.errors(Operation::Recovery).load(Ordering::Relaxed), 2, "one for each call");
    }

    #[test]
    fn deliveries_are_looked_for_when_it_is_time_and_at_once_if_somebody_was_lost() {
        let now = Instant::now();
        let later = now + Duration::from_millis(1);
        assert!(is_due(0, now, now) && is_due(0, later, now) && is_due(1, now, later));
        assert!(!is_due(0, now, later));
    }

    #[test]
    fn looks_take_a_twentieth_of_the_time_and_come_each_minute_at_the_latest() {
        let begun = Instant::now();
        assert_eq!(next_look(begun, Duration::from_millis(10)) - begun, Duration::from_millis(200));
        assert_eq!(next_look(begun, Duration::from_secs(5)) - begun, Duration::from_secs(60));
    }
}
