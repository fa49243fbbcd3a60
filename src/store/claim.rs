//! Claiming, and giving back what was claimed and never sent.

use uuid::Uuid;

use super::{Store, StoreError};
use crate::domain::claim::{Claimed, Hold, VersionKey};

impl Store {
    /// Moves up to `limit` deliveries from waiting to sending for `dispatcher_id`, the oldest first, and returns them.
    /// When this returns, the claim is committed and durable, and no lock is held.
    ///
    /// `claim` is a new token chosen by the caller, so that it can tell, even if the answer is lost, what this very
    /// statement took.
    ///
    /// # Errors
    /// After an error it is not known whether the claim was committed; see [`Store::release_claim`].
    pub async fn claim(&self, dispatcher_id: i32, claim: Uuid, limit: usize) -> Result<Vec<Claimed>, StoreError> {
        // One statement, and so one transaction and one round trip.
        // - FOR UPDATE SKIP LOCKED: dispatchers pass over each other's rows instead of queueing for them.
        // - Always from the smallest id: a remembered position would pass over an older id that commits late.
        // - ARRAY(…) is evaluated once, before the DELETE, and hands it physical row addresses: no second look-up, and
        //   no plan in which the planner could read the whole queue. A locked row keeps its address.
        // - The payload is fetched by a scalar subquery for the same reason: it can only be an index look-up per row.
        // - action.version decides here, at the last moment, which version is sent.
        let rows = sqlx::query!(
            r#"
            WITH taken AS (
                DELETE FROM postcall.waiting
                WHERE ctid = ANY (ARRAY(
                    SELECT ctid FROM postcall.waiting ORDER BY delivery_id LIMIT $1 FOR UPDATE SKIP LOCKED
                ))
                RETURNING delivery_id, call_id, agent, action_id, created_at
            ),
            claimed AS (
                INSERT INTO postcall.sending (delivery_id, call_id, agent, action_id, action_version, created_at,
                                              dispatcher_id, claim, claimed_at)
                SELECT delivery_id, call_id, agent, action_id,
                       (SELECT version FROM postcall.action WHERE action.action_id = taken.action_id),
                       created_at, $2, $3, clock_timestamp()
                FROM taken
                RETURNING delivery_id, call_id, action_id, action_version
            )
            SELECT delivery_id, action_id, action_version,
                   (SELECT enabled FROM postcall.action WHERE action.action_id = claimed.action_id) AS "enabled!",
                   (SELECT message_id FROM postcall.replay WHERE replay.delivery_id = claimed.delivery_id)
                       AS message_id,
                   (SELECT call::text FROM postcall.outbox WHERE outbox.id = claimed.call_id) AS call
            FROM claimed
            "#,
            i64::try_from(limit).unwrap_or(i64::MAX),
            dispatcher_id,
            claim,
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(rows
            .into_iter()
            .map(|row| Claimed {
                message_id: row.message_id.unwrap_or(row.delivery_id),
                hold: Hold::new(row.delivery_id, claim),
                version: VersionKey { action_id: row.action_id, version: row.action_version },
                enabled: row.enabled,
                call: row.call,
            })
            .collect())
    }

    /// Puts everything that the claim `claim` took back to waiting, for a caller that never learnt what it took and so
    /// cannot have sent any of it. Returns how many there were.
    ///
    /// # Errors
    /// Only those of the database; nothing has moved then.
    pub async fn release_claim(&self, claim: Uuid) -> Result<u64, StoreError> {
        // The mirror image of the claim, fenced by its token: rows that anybody else holds cannot match.
        let released = sqlx::query!(
            r#"
            WITH released AS (
                DELETE FROM postcall.sending WHERE claim = $1
                RETURNING delivery_id, call_id, agent, action_id, created_at
            )
            INSERT INTO postcall.waiting (delivery_id, call_id, agent, action_id, created_at)
            SELECT delivery_id, call_id, agent, action_id, created_at FROM released
            "#,
            claim,
        )
        .execute(&self.pool)
        .await?;
        Ok(released.rows_affected())
    }

    /// Puts single deliveries back to waiting, known not to have been sent. Returns those that went back; a hold that
    /// is no longer valid is left out.
    ///
    /// # Errors
    /// Only those of the database; nothing has moved then, and the call may be repeated.
    pub async fn release(&self, holds: &[Hold]) -> Result<Vec<Uuid>, StoreError> {
        let (deliveries, claims): (Vec<Uuid>, Vec<Uuid>) =
            holds.iter().map(|hold| (hold.delivery_id(), hold.claim())).unzip();
        // As above, but by delivery, because the rest of the claim may be on its way.
        let rows = sqlx::query_scalar!(
            r#"
            WITH released AS (
                DELETE FROM postcall.sending
                USING unnest($1::uuid[], $2::uuid[]) AS held (delivery_id, claim)
                WHERE sending.delivery_id = held.delivery_id AND sending.claim = held.claim
                RETURNING sending.delivery_id, call_id, agent, action_id, created_at
            )
            INSERT INTO postcall.waiting (delivery_id, call_id, agent, action_id, created_at)
            SELECT delivery_id, call_id, agent, action_id, created_at FROM released
            RETURNING delivery_id
            "#,
            &deliveries,
            &claims,
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(rows)
    }
}
