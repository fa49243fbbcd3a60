//! Recording outcomes: moves rows from `sending` to `delivery` in batches. Each row is fenced by its claim.

use std::borrow::Cow;
use std::collections::HashSet;

use uuid::Uuid;

use super::StoreError;
use super::result_rows::{ResultRows, insert_results};
use super::session::Session;
use crate::domain::action::Method;
use crate::domain::claim::Finished;
use crate::domain::delivery::{BodyEnd, State};
use crate::domain::error_kind::ErrorKind;
use crate::domain::kept;

/// The result of recording one outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recording {
    /// The outcome is in history.
    Recorded,
    /// The outcome was already recorded under the same claim: the answer to an earlier call was lost.
    AlreadyRecorded,
    /// The claim was no longer valid: another dispatcher gave the delivery up in between.
    NotHeld,
}

impl Session {
    /// Moves deliveries from sending into history with their outcomes, all in one durable commit. Returns the result
    /// for each, in the same order. The call may be repeated after an error: nothing is recorded twice.
    ///
    /// # Errors
    /// Returns the database's error; nothing is recorded then. An error that is [`StoreError::is_about_the_data`] may
    /// be about a single row of the batch.
    pub async fn finish(&mut self, batch: &[Finished]) -> Result<Vec<Recording>, StoreError> {
        let moved = self.move_into_history(batch).await?;
        let missing: Vec<&Finished> = batch.iter().filter(|done| !moved.contains(&done.token.delivery_id())).collect();
        let earlier = if missing.is_empty() { HashSet::new() } else { self.recorded_earlier(&missing).await? };
        Ok(batch
            .iter()
            .map(|done| match done.token.delivery_id() {
                id if moved.contains(&id) => Recording::Recorded,
                id if earlier.contains(&id) => Recording::AlreadyRecorded,
                _ => Recording::NotHeld,
            })
            .collect())
    }

    /// Arrow `finish`. Returns the deliveries that were moved.
    async fn move_into_history(&mut self, batch: &[Finished]) -> Result<HashSet<Uuid>, StoreError> {
        let rows = ResultRows::from(batch);
        // - unnest: one statement of one shape, whatever the size of the batch.
        // - DELETE … RETURNING fences the write by the claim token: only a row that this claim still holds leaves sending, and only a row that
        //   left sending enters history. A repetition finds nothing to delete and so inserts nothing.
        // - Each row is looked up by key, and then deleted at the physical address that was found. LIMIT keeps the
        //   planner from turning both steps into one join, for which it would read the whole index of sending, with all
        //   the dead entries that an old snapshot keeps in it. A row of sending never changes, so it keeps its address.
        // - The DELETE returns each row together with its outcome: a join afterwards would cost quadratic time.
        // - finished_at is never before claimed_at, even if the server's clock was set back in between.
        // - Texts about the call that are already in the database are cut here, to the limits of domain::kept. Old rows
        //   can hold a time of insertion that is out of range, which is now refused at insertion; it is replaced by the
        //   time of the claim.
        let statement = insert_results!(
            query_scalar,
            rows,
            "
            WITH done AS (",
            "),
            ended AS (
                DELETE FROM postcall.sending
                USING (
                    SELECT done.*, held.address
                    FROM done,
                        LATERAL (SELECT ctid AS address FROM postcall.sending
                                 WHERE sending.delivery_id = held_delivery AND sending.claim = held_claim LIMIT 1) AS held
                ) AS done
                WHERE sending.ctid = done.address
                RETURNING sending.*, done.*
            )
            INSERT INTO postcall.delivery
                (delivery_id, call_id, claim, action_id, created_at, claimed_at, finished_at, action_version,
                 dispatcher_id, agent, call_sid, ",
            ")
            SELECT delivery_id, call_id, claim, action_id,
                   CASE WHEN created_at >= '2000-01-01Z' AND created_at < '10000-01-01Z' THEN created_at ELSE claimed_at END,
                   claimed_at, greatest(clock_timestamp(), claimed_at), action_version, dispatcher_id, left(agent, $1),
                   CASE WHEN keep_sid THEN left(sid, $2) END, ",
            "
            FROM ended
            RETURNING delivery_id",
            kept::MAX_AGENT_CHARS,
            kept::MAX_CALL_SID_CHARS,
        );
        Ok(self.fetch_all(statement).await?.into_iter().collect())
    }

    async fn recorded_earlier(&mut self, missing: &[&Finished]) -> Result<HashSet<Uuid>, StoreError> {
        let (deliveries, claims): (Vec<Uuid>, Vec<Uuid>) =
            missing.iter().map(|done| (done.token.delivery_id(), done.token.claim())).unzip();
        // Looked up by primary key and claim, so that another claim's outcome is not mistaken for ours. A row that
        // others wrote when they gave the delivery up under this claim does not count either. LIMIT as above: a join
        // may read a whole partition.
        let statement = sqlx::query_scalar!(
            r#"
            SELECT delivery.delivery_id
            FROM unnest($1::uuid[], $2::uuid[]) AS held (delivery_id, claim)
            JOIN LATERAL (SELECT delivery_id, error_kind FROM postcall.delivery
                          WHERE delivery.delivery_id = held.delivery_id AND delivery.claim = held.claim LIMIT 1)
                AS delivery ON delivery.error_kind IS DISTINCT FROM 'dispatcher_lost'
            "#,
            &deliveries,
            &claims,
        );
        Ok(self.fetch_all(statement).await?.into_iter().collect())
    }
}
