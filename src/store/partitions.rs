//! Partitions of the outbox and of history, made ahead of time.

use super::StoreError;
use super::session::Session;

impl Session {
    /// Makes what is missing of the partitions for the current and the two coming periods, and returns the names of
    /// those it made. What cannot be made without keeping the platform waiting is left for the next call.
    pub async fn make_partitions(&mut self) -> Result<Vec<String>, StoreError> {
        // The work is a function of the schema, because dispatchers may not own the tables they make partitions of.
        let statement = sqlx::query_scalar!(r#"SELECT postcall.make_partitions() AS "name!""#);
        self.fetch_all(statement).await
    }
}
