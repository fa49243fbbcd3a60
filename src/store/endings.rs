//! What has come to an end lately, in the order of its ends.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use super::matching::prepare;
use super::{COMMAND_STATEMENT_TIMEOUT, LOOK_TIMEOUT, Store, StoreError};

/// The end of a delivery. Endings are ordered by time, and those of one moment by id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ending {
    /// When the outcome was recorded.
    pub finished_at: DateTime<Utc>,
    /// The delivery.
    pub delivery_id: Uuid,
}

/// What one look has read.
#[derive(Debug)]
pub struct Endings {
    /// The endings, the oldest first.
    pub ended: Vec<Ending>,
    /// When the look began, by the database's clock.
    pub began_at: DateTime<Utc>,
}

impl Store {
    /// Whether anything ended from `from` on and before `until`.
    pub async fn has_endings_between(&self, from: DateTime<Utc>, until: DateTime<Utc>) -> Result<bool, StoreError> {
        let mut transaction = self.pool.begin_with("BEGIN READ ONLY").await?;
        prepare(&mut transaction, LOOK_TIMEOUT.min(self.statement_timeout)).await?;
        // The index by end (BRIN) skips what ended at other times, and the first row that is found ends the search. The
        // planner, which expects to find one everywhere, would read the tables from their beginnings.
        without_reading_whole_tables(&mut transaction).await?;
        let found = sqlx::query_scalar!(
            r#"SELECT EXISTS (SELECT FROM postcall.delivery WHERE finished_at >= $1 AND finished_at < $2) AS "found!""#,
            from,
            until,
        )
        .fetch_one(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(found)
    }

    /// Returns the endings after `after` and before `until`, the oldest first, at most `limit`.
    pub async fn endings_between(
        &self,
        after: Ending,
        until: DateTime<Utc>,
        limit: usize,
    ) -> Result<Endings, StoreError> {
        let mut transaction = self.pool.begin_with("BEGIN READ ONLY").await?;
        prepare(&mut transaction, COMMAND_STATEMENT_TIMEOUT).await?;
        // The transaction's time is before the snapshot of the statement below.
        let began_at =
            sqlx::query_scalar!(r#"SELECT transaction_timestamp() AS "now!""#).fetch_one(&mut *transaction).await?;
        // The index by end (BRIN) finds the pages of that time, which lie together, because history is only inserted
        // into. So the cost depends on what has ended in that time, however long history is; without statistics of
        // that time, the planner would read all of it. The index cannot use a comparison of rows, so the time is compared once more
        // by itself.
        without_reading_whole_tables(&mut transaction).await?;
        let ended = sqlx::query_as!(
            Ending,
            "SELECT finished_at, delivery_id FROM postcall.delivery
             WHERE finished_at >= $1 AND finished_at < $4 AND (finished_at, delivery_id) > ($1, $2)
             ORDER BY finished_at, delivery_id LIMIT $3",
            after.finished_at,
            after.delivery_id,
            i64::try_from(limit).unwrap_or(i64::MAX),
            until,
        )
        .fetch_all(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(Endings { ended, began_at })
    }

    /// Returns the newest endings of the last so many seconds, the newest first, at most `limit`.
    pub async fn latest_endings(&self, seconds: f64, limit: usize) -> Result<Vec<Ending>, StoreError> {
        let mut transaction = self.pool.begin_with("BEGIN READ ONLY").await?;
        prepare(&mut transaction, self.statement_timeout).await?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        // The last entries of the index by transaction, from its end: as many rows as are returned, however many end in a second. They
        // are the newest but for what transactions that overlap have recorded, and whoever looks again finds those.
        let mut ended = sqlx::query_as!(
            Ending,
            r#"
            SELECT finished_at AS "finished_at!", delivery_id AS "delivery_id!"
            FROM (SELECT finished_at, delivery_id FROM postcall.delivery WHERE xact IS NOT NULL
                  ORDER BY xact DESC, delivery_id DESC LIMIT $2) AS newest
            WHERE finished_at >= now() - make_interval(secs => $1)
            ORDER BY finished_at DESC, delivery_id DESC
            "#,
            seconds,
            limit,
        )
        .fetch_all(&mut *transaction)
        .await?;
        if ended.is_empty() {
            // A server that counts its transactions anew, as after a dump was restored, has numbered the newest rows below older ones. So
            // nothing counts as the answer only if the index by end (BRIN) has nothing, either. The planner, which does not know how
            // little that is, would read all of history.
            without_reading_whole_tables(&mut transaction).await?;
            ended = sqlx::query_as!(
                Ending,
                "SELECT finished_at, delivery_id FROM postcall.delivery
                 WHERE finished_at >= now() - make_interval(secs => $1)
                 ORDER BY finished_at DESC, delivery_id DESC LIMIT $2",
                seconds,
                limit,
            )
            .fetch_all(&mut *transaction)
            .await?;
        }
        transaction.commit().await?;
        Ok(ended)
    }
}

/// Until the transaction ends, an index is used wherever there is one.
async fn without_reading_whole_tables(connection: &mut PgConnection) -> Result<(), StoreError> {
    sqlx::query!(r#"SELECT set_config('enable_seqscan', 'off', true) AS "off""#).fetch_one(connection).await?;
    Ok(())
}
