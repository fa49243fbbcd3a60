//! Reading from a hot standby: how far it is behind.

use chrono::{DateTime, Utc};

use super::{Store, StoreError};

/// What a standby shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standby {
    /// When the last transaction that it shows was committed, by the primary's clock; `None` if it has received none since it was
    /// started. While a dispatcher runs, the primary commits one each second at least, so what is older than that is what lags.
    pub shows_until: Option<DateTime<Utc>>,
    /// How long ago that is by the standby's clock, in milliseconds.
    pub age_ms: i64,
}

impl Store {
    /// Says what the server shows if it is a standby; `None` if it takes writes itself.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn standby(&self) -> Result<Option<Standby>, StoreError> {
        // Reads the state of the server's recovery; no table is used. Not by positions in the WAL: a standby that has lost its
        // primary has replayed all that it has received, and would not seem to lag.
        let row = sqlx::query!(
            r#"
            SELECT pg_is_in_recovery() AS "is_standby!", pg_last_xact_replay_timestamp() AS shows_until,
                   coalesce(greatest(0, extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp()) * 1000), 0)::bigint
                       AS "age_ms!"
            "#
        )
        .fetch_one(&self.pool)
        .await?;
        Ok(row.is_standby.then_some(Standby { shows_until: row.shows_until, age_ms: row.age_ms }))
    }
}
