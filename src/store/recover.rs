//! Gives up what lost dispatchers had in flight: moves the rows from `sending` to `delivery`, as `unknown`. They never
//! go back to waiting, because nobody knows whether the request was sent.

use uuid::Uuid;

use super::StoreError;
use super::session::Session;
use crate::domain::claim::{ClaimToken, Texts};
use crate::domain::kept;

impl Session {
    /// Declares the dispatchers lost whose lease is over. Returns how many. Any number of dispatchers may do this at
    /// the same time.
    pub async fn declare_lost(&mut self) -> Result<u64, StoreError> {
        // Uses the database's clock, which also set the lease. SKIP LOCKED: a locked row is being renewed, or declared
        // lost by another dispatcher. NO KEY: this lock does not conflict with a claim's lock (FOR KEY SHARE). A claim
        // whose dispatcher was stopped in the middle of its answer can hold that lock without end; `left_behind` finds
        // what such a claim takes late.
        let statement = sqlx::query!(
            r#"
            UPDATE postcall.dispatcher SET lost_at = clock_timestamp()
            WHERE dispatcher_id IN (
                SELECT dispatcher_id FROM postcall.dispatcher
                WHERE stopped_at IS NULL AND lost_at IS NULL AND lease_until < clock_timestamp()
                FOR NO KEY UPDATE SKIP LOCKED
            )
            "#
        );
        Ok(self.execute(statement).await?.rows_affected())
    }

    /// Returns deliveries in flight whose dispatcher is lost, stopped or unknown, with ids after `after`, in the order
    /// of their ids, at most `limit`.
    pub async fn left_behind(&mut self, after: Uuid, limit: i64) -> Result<Vec<ClaimToken>, StoreError> {
        // - This includes all dispatchers that have ended, not only those declared lost just now: a claim may have been
        //   committed late, and an earlier try to give a delivery up may have failed.
        // - MATERIALIZED, and no order inside it: so the table is read page by page. In the order of the key, each dead
        //   row that an old snapshot keeps would be looked up one by one, which takes about ten times as long.
        let statement = sqlx::query!(
            r#"
            WITH orphan AS MATERIALIZED (
                SELECT delivery_id, claim FROM postcall.sending
                WHERE NOT EXISTS (SELECT FROM postcall.dispatcher
                                  WHERE dispatcher.dispatcher_id = sending.dispatcher_id
                                    AND lost_at IS NULL AND stopped_at IS NULL)
            )
            SELECT delivery_id, claim FROM orphan WHERE delivery_id > $1 ORDER BY delivery_id LIMIT $2
            "#,
            after,
            limit,
        );
        Ok(self
            .fetch_all(statement)
            .await?
            .into_iter()
            .map(|row| ClaimToken::new(row.delivery_id, row.claim))
            .collect())
    }

    /// Arrow `give_up`. Turns deliveries that [`Session::left_behind`] has found into `unknown`. Returns how many. Rows that another
    /// transaction has locked are left out. Reads no payload, so it costs the same however large the calls were.
    ///
    /// # Errors
    /// Returns the database's error. Nothing has moved then, and the call may be repeated. An error that is
    /// [`StoreError::is_about_the_data`] may be about a single row.
    pub async fn mark_in_flight_unknown(
        &mut self,
        left_behind: &[ClaimToken],
        texts: Texts,
    ) -> Result<u64, StoreError> {
        let (deliveries, claims): (Vec<Uuid>, Vec<Uuid>) =
            left_behind.iter().map(|token| (token.delivery_id(), token.claim())).unzip();
        // - Matched by claim, so that a delivery which went back to waiting and was claimed again by a living
        //   dispatcher is not touched.
        // - DELETE … RETURNING fences the write against the holder's own result: only the transaction that deletes the row
        //   writes its outcome.
        // - SKIP LOCKED: a locked row does not delay the others.
        // - Each row is looked up by key, as in finish.rs.
        // - Texts are cut as in finish.rs. A row that a dispatcher of the previous release moved has no provider id;
        //   the outbox has it beside the payload.
        let statement = sqlx::query!(
            r#"
            WITH given_up AS (
                DELETE FROM postcall.sending
                WHERE ctid = ANY (ARRAY(
                    SELECT found.address
                    FROM unnest($1::uuid[], $2::uuid[]) AS held (delivery_id, claim),
                         LATERAL (SELECT ctid AS address FROM postcall.sending
                                  WHERE sending.delivery_id = held.delivery_id AND sending.claim = held.claim
                                  LIMIT 1 FOR UPDATE SKIP LOCKED) AS found
                ))
                RETURNING sending.*
            )
            INSERT INTO postcall.delivery
                (delivery_id, call_id, claim, action_id, created_at, claimed_at, finished_at, action_version,
                 dispatcher_id, agent, state, error_kind, error_detail, call_sid)
            SELECT delivery_id, call_id, claim, action_id,
                   CASE WHEN created_at >= '2000-01-01Z' AND created_at < '10000-01-01Z' THEN created_at ELSE claimed_at END, claimed_at,
                   greatest(clock_timestamp(), claimed_at), action_version, dispatcher_id, left(agent, $4), 'unknown',
                   'dispatcher_lost', 'the dispatcher went away and left no result',
                   CASE WHEN $3 THEN left(
                       CASE WHEN call_bytes IS NULL
                            THEN (SELECT call_sid FROM postcall.outbox WHERE outbox.id = given_up.call_id)
                            ELSE sid END, $5) END
            FROM given_up
            "#,
            &deliveries,
            &claims,
            texts == Texts::Kept,
            kept::MAX_AGENT_CHARS,
            kept::MAX_CALL_SID_CHARS,
        );
        Ok(self.execute(statement).await?.rows_affected())
    }
}
