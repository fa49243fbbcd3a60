//! Giving up what lost dispatchers had in flight: sending → delivery, as `unknown`. Never back to waiting: whether the
//! request went out is exactly what nobody knows.

use uuid::Uuid;

use super::StoreError;
use super::session::Session;
use crate::domain::claim::{ClaimToken, Texts};
use crate::domain::kept;

impl Session {
    /// Declares dispatchers lost whose lease is over. Returns how many. Any number may do this at the same time.
    pub async fn declare_lost(&mut self) -> Result<u64, StoreError> {
        // By the database's clock, which also set the lease. SKIP LOCKED: a row that is locked is being renewed, or declared
        // lost by somebody else. NO KEY: a claim's lock (FOR KEY SHARE) does not count, since a claim whose dispatcher was
        // stopped in the middle of its answer can hold it without end; what it takes late is found by `left_behind`.
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

    /// Deliveries in flight of dispatchers that are lost, stopped, or not known, behind `after` and in the order of their
    /// ids: `limit` at most.
    pub async fn left_behind(&mut self, after: Uuid, limit: i64) -> Result<Vec<ClaimToken>, StoreError> {
        // - All dispatchers that have ended, not only those declared lost just now: a claim may have been committed late,
        //   and an earlier attempt to give up may have failed.
        // - MATERIALIZED, and no order within: so it is read page by page. By the key, each dead row that somebody's old
        //   snapshot keeps would be looked up one by one, which takes some ten times as long.
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

    /// Turns deliveries that [`Session::left_behind`] has found into `unknown`. Returns how many; what somebody else is
    /// writing to at this moment is left out. Reads no payload, so it costs the same however large the calls were.
    ///
    /// # Errors
    /// Only those of the database; nothing has moved then, and the call may be repeated. One that is
    /// [`StoreError::is_about_the_data`] may be about a single row.
    pub async fn mark_in_flight_unknown(
        &mut self,
        left_behind: &[ClaimToken],
        texts: Texts,
    ) -> Result<u64, StoreError> {
        let (deliveries, claims): (Vec<Uuid>, Vec<Uuid>) =
            left_behind.iter().map(|token| (token.delivery_id(), token.claim())).unzip();
        // - By claim, so that a delivery which went back to waiting and was claimed by somebody who lives is not touched.
        // - DELETE … RETURNING fences it against the holder's own result: whoever deletes the row writes its end.
        // - SKIP LOCKED: a row that somebody holds on to does not hold up the others.
        // - Each is looked up by the key, as in finish.rs.
        // - Cut as in finish.rs. A row that a dispatcher of the previous release moved has no provider id of its own; the
        //   outbox keeps it beside the payload.
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
