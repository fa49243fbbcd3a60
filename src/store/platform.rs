//! The platform's side of the outbox, for the demo: a business transaction that also inserts a completed call.

use uuid::Uuid;

use super::{Store, StoreError};
use crate::domain::delivery::State;

/// How a simulated business transaction ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Close {
    /// The row in the business table and the call become visible together.
    Commit,
    /// Neither the row in the business table nor the call ever existed.
    RollBack,
}

impl Store {
    /// Creates the demo's own business table, outside of postcall's schema.
    pub async fn open_demo_books(&self) -> Result<(), StoreError> {
        // The table belongs to the simulated platform. It is not part of the schema that sqlx checks, so the macro
        // cannot be used, here and below.
        sqlx::query(
            "CREATE TABLE IF NOT EXISTS public.call_ledger (call_sid text PRIMARY KEY, minutes numeric NOT NULL)",
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// One business transaction: the platform books the call's minutes and inserts the completed call.
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
        // The statement that platform engineers write. The server casts the text to json, which keeps it unchanged.
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
    pub async fn count_by_state(&self) -> Result<Vec<(String, i64)>, StoreError> {
        // Each table is counted separately: the two small ones have no column for the state.
        let rows = sqlx::query!(
            r#"
            SELECT state AS "state!", count(*) AS "count!" FROM postcall.delivery GROUP BY state
            UNION ALL SELECT $1, count(*) FROM postcall.sending
            UNION ALL SELECT $2, count(*) FROM postcall.waiting
            "#,
            State::Sending.as_str(),
            State::Waiting.as_str(),
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(rows.into_iter().map(|row| (row.state, row.count)).collect())
    }
}
