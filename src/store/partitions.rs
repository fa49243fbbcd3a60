//! Creates partitions of the outbox and of history ahead of time.

use super::StoreError;
use super::session::Session;

impl Session {
    /// Creates the missing partitions for the current and the two coming periods, and returns their names. A partition
    /// that cannot be created without making the platform wait is left for the next call.
    pub async fn make_partitions(&mut self) -> Result<Vec<String>, StoreError> {
        // A function of the schema does the work, because dispatchers may not own the tables whose partitions they
        // create.
        let statement = sqlx::query_scalar!(r#"SELECT postcall.make_partitions() AS "name!""#);
        self.fetch_all(statement).await
    }
}
