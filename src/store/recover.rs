//! Giving up what lost dispatchers had in flight: sending → delivery, as `unknown`. Never back to waiting: whether the
//! request went out is exactly what nobody knows.

use super::StoreError;
use super::session::Session;

impl Session {
    /// Declares dispatchers lost whose lease is over. Returns how many. Any number may do this at the same time.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn declare_lost(&mut self) -> Result<u64, StoreError> {
        // By the database's clock, which also set the lease. SKIP LOCKED: a row that is locked is being renewed, used
        // for a claim, or declared lost by somebody else.
        let mut connection = self.take().await?;
        let lost = sqlx::query!(
            r#"
            UPDATE postcall.dispatcher SET lost_at = clock_timestamp()
            WHERE dispatcher_id IN (
                SELECT dispatcher_id FROM postcall.dispatcher
                WHERE stopped_at IS NULL AND lost_at IS NULL AND lease_until < clock_timestamp()
                FOR UPDATE SKIP LOCKED
            )
            "#
        )
        .execute(&mut connection);
        let lost = self.within(lost).await;
        Ok(self.keep(connection, lost)?.rows_affected())
    }

    /// Turns what lost or stopped dispatchers have left in `sending` into `unknown`. Returns how many deliveries.
    ///
    /// # Errors
    /// Only those of the database; nothing has moved then, and the call may be repeated.
    pub async fn give_up(&mut self) -> Result<u64, StoreError> {
        // - All that have ended, not only those declared lost just now: a claim may have been committed late, and an
        //   earlier attempt to give up may have failed.
        // - DELETE … RETURNING fences it against the holder's own result: whoever deletes the row writes its end.
        let mut connection = self.take().await?;
        let given_up = sqlx::query!(
            r#"
            WITH given_up AS (
                DELETE FROM postcall.sending USING postcall.dispatcher
                WHERE dispatcher.dispatcher_id = sending.dispatcher_id
                  AND (dispatcher.lost_at IS NOT NULL OR dispatcher.stopped_at IS NOT NULL)
                RETURNING sending.*
            )
            INSERT INTO postcall.delivery
                (delivery_id, call_id, claim, action_id, created_at, claimed_at, finished_at, action_version,
                 dispatcher_id, agent, state, error_kind, error_detail, call_sid)
            SELECT delivery_id, call_id, claim, action_id, created_at, claimed_at,
                   greatest(clock_timestamp(), claimed_at), action_version, dispatcher_id, agent, 'unknown',
                   'dispatcher_lost', 'the dispatcher went away and left no result',
                   (SELECT postcall.call_sid(outbox.call) FROM postcall.outbox WHERE outbox.id = given_up.call_id)
            FROM given_up
            "#
        )
        .execute(&mut connection);
        let given_up = self.within(given_up).await;
        Ok(self.keep(connection, given_up)?.rows_affected())
    }
}
