//! Which dispatchers run, and which ran.

use super::{Store, StoreError};

impl Store {
    /// Registers a dispatcher that starts now and returns its id, new at every start.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn register_dispatcher(&self, name: &str, version: &str) -> Result<i32, StoreError> {
        let id = sqlx::query_scalar!(
            "INSERT INTO postcall.dispatcher (name, version) VALUES ($1, $2) RETURNING dispatcher_id",
            name,
            version
        )
        .fetch_one(&self.pool)
        .await?;
        Ok(id)
    }

    /// Notes that a dispatcher stopped in good order.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn retire_dispatcher(&self, dispatcher_id: i32) -> Result<(), StoreError> {
        sqlx::query!("UPDATE postcall.dispatcher SET stopped_at = now() WHERE dispatcher_id = $1", dispatcher_id)
            .execute(&self.pool)
            .await?;
        Ok(())
    }
}
