//! Claiming, and giving back what was claimed and never sent.

use uuid::Uuid;

use super::StoreError;
use super::session::Session;
use crate::domain::claim::{Claimed, Hold, VersionKey};

/// In whose name a claim is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claimant {
    /// The dispatcher.
    pub dispatcher_id: i32,
    /// Its current epoch; raised by every claim that it had to disown.
    pub epoch: i32,
}

impl Session {
    /// Moves up to `limit` deliveries from waiting to sending for the claimant, the oldest behind `after` first, and
    /// returns them; none if the claimant was declared lost. When this returns, the claim is committed and durable, and
    /// no lock is held.
    ///
    /// `claim` is a new token chosen by the caller, so that it can tell, even if the answer is lost, what this very
    /// statement took.
    ///
    /// # Errors
    /// After an error it is not known whether the claim was committed, nor whether it still will be; see
    /// [`Session::disown_claim`].
    pub async fn claim(
        &mut self,
        claimant: Claimant,
        claim: Uuid,
        after: Uuid,
        limit: usize,
    ) -> Result<Vec<Claimed>, StoreError> {
        // One statement, and so one transaction and one round trip.
        // - FOR UPDATE SKIP LOCKED: dispatchers pass over each other's rows instead of queueing for them.
        // - Ids below `after` are skipped, and with them the remains of earlier claims; the caller has to come back for
        //   those that commit late.
        // - ARRAY(…) is evaluated once, before the DELETE, and hands it physical row addresses: no second look-up, and
        //   no plan in which the planner could read the whole queue. A locked row keeps its address.
        // - The payload is fetched by a scalar subquery for the same reason: it can only be an index look-up per row.
        // - action.version decides here, at the last moment, which version is sent.
        // - FOR SHARE on the claimant's own row: a claim that was disowned or whose claimant was declared lost takes
        //   nothing, however late it arrives; and whoever wants to disown it waits until it is through.
        let mut connection = self.take().await?;
        let rows = sqlx::query!(
            r#"
            WITH claimant AS MATERIALIZED (
                SELECT FROM postcall.dispatcher
                WHERE dispatcher_id = $2 AND claim_epoch = $4 AND lost_at IS NULL
                FOR SHARE
            ),
            taken AS (
                DELETE FROM postcall.waiting
                WHERE ctid = ANY (ARRAY(
                    SELECT ctid FROM postcall.waiting
                    WHERE EXISTS (SELECT FROM claimant) AND delivery_id > $5
                    ORDER BY delivery_id LIMIT $1 FOR UPDATE SKIP LOCKED
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
            claimant.dispatcher_id,
            claim,
            claimant.epoch,
            after,
        )
        .fetch_all(&mut connection);
        let rows = self.within(rows).await;
        Ok(self
            .keep(connection, rows)?
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

    /// Settles a claim whose answer was lost, for a caller that never learnt what it took and so cannot have sent any of
    /// it: everything that it took goes back to waiting. If it has not arrived yet, it will take nothing when it does.
    /// Returns the claimant's new epoch and how many deliveries went back.
    ///
    /// # Errors
    /// Only those of the database. The call may be repeated.
    pub async fn disown_claim(&mut self, claimant: Claimant, claim: Uuid) -> Result<(Claimant, u64), StoreError> {
        // Two statements, because the second must see what the claim has committed while the first waited for it.
        let mut connection = self.take().await?;
        let epoch = sqlx::query_scalar!(
            "UPDATE postcall.dispatcher SET claim_epoch = claim_epoch + 1 WHERE dispatcher_id = $1 RETURNING claim_epoch",
            claimant.dispatcher_id
        )
        .fetch_one(&mut connection);
        let epoch = self.within(epoch).await;
        let epoch = self.keep(connection, epoch)?;

        // The mirror image of the claim, fenced by its token: rows that anybody else holds cannot match.
        let mut connection = self.take().await?;
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
        .execute(&mut connection);
        let released = self.within(released).await;
        let released = self.keep(connection, released)?;
        Ok((Claimant { epoch, ..claimant }, released.rows_affected()))
    }

    /// Puts single deliveries back to waiting, known not to have been sent. Returns those that went back; a hold that
    /// is no longer valid is left out.
    ///
    /// # Errors
    /// Only those of the database; nothing has moved then, and the call may be repeated.
    pub async fn release(&mut self, holds: &[Hold]) -> Result<Vec<Uuid>, StoreError> {
        let (deliveries, claims): (Vec<Uuid>, Vec<Uuid>) =
            holds.iter().map(|hold| (hold.delivery_id(), hold.claim())).unzip();
        // As above, but by delivery, because the rest of the claim may be on its way.
        let mut connection = self.take().await?;
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
        .fetch_all(&mut connection);
        let rows = self.within(rows).await;
        self.keep(connection, rows)
    }
}
