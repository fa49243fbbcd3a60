//! The platform's side of the outbox, as the demo plays it: a business transaction that also completes a call.

use uuid::Uuid;

use super::{Store, StoreError, texts};
use crate::domain::delivery::State;

/// How a pretend business transaction ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Close {
    /// Its books and its call become visible together.
    Commit,
    /// Neither ever existed.
    RollBack,
}

impl Store {
    /// Makes the demo's own business table beside postcall's schema.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn open_demo_books(&self) -> Result<(), StoreError> {
        // Not part of the checked schema: it belongs to the pretend platform, hence no macro (here and below).
        sqlx::query(
            "CREATE TABLE IF NOT EXISTS public.call_ledger (call_sid text PRIMARY KEY, minutes numeric NOT NULL)",
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// One business transaction: the platform books the call's minutes and inserts the completed call.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn complete_call(
        &self,
        agent: &str,
        call: &str,
        call_sid: &str,
        seconds: i32,
        close: Close,
    ) -> Result<Uuid, StoreError> {
        let mut transaction = self.pool.begin().await?;
        sqlx::query("INSERT INTO public.call_ledger (call_sid, minutes) VALUES ($1, $2 / 60.0)")
            .bind(call_sid)
            .bind(seconds)
            .execute(&mut *transaction)
            .await?;
        // The statement that platform engineers write. The text is cast by the server, so that it is kept to the letter.
        let id = sqlx::query_scalar!(
            "INSERT INTO postcall.outbox (agent, call) VALUES ($1, $2::text::json) RETURNING id",
            agent,
            call
        )
        .fetch_one(&mut *transaction)
        .await?;
        match close {
            Close::Commit => transaction.commit().await?,
            Close::RollBack => transaction.rollback().await?,
        }
        Ok(id)
    }

    /// How many deliveries are in each state.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn count_by_state(&self) -> Result<Vec<(State, i64)>, StoreError> {
        // Each table is counted by itself: state is not a column of the two small ones.
        let rows = sqlx::query!(
            r#"
            SELECT state AS "state!: State", count(*) AS "count!" FROM postcall.delivery GROUP BY state
            UNION ALL SELECT $1, count(*) FROM postcall.sending
            UNION ALL SELECT $2, count(*) FROM postcall.waiting
            "#,
            State::Sending.as_str(),
            State::Waiting.as_str(),
        )
        .fetch_all(&self.pool)
        .await
        .map_err(|error| texts::in_columns(error, &["state", "count"]))?;
        Ok(rows.into_iter().map(|row| (row.state, row.count)).collect())
    }
}
