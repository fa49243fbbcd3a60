//! What became of the calls of the last hour, minute by minute.

use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use uuid::Uuid;

use super::history::floor;
use super::matching::prepare;
use super::{Store, StoreError};
use crate::domain::delivery::State;

/// How many deliveries that arrived in one minute are in one state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MinuteCount {
    /// When the minute began.
    pub minute: DateTime<Utc>,
    /// The state in which they ended; `None` if none of that minute has ended.
    pub state: Option<State>,
    /// How many.
    pub count: i64,
}

/// How many deliveries of a minute are counted at most, all states together.
pub const MOST_IN_A_MINUTE: i64 = 1_000;
const MINUTES: i32 = 60;
const MINUTE: TimeDelta = TimeDelta::minutes(1);

impl Store {
    /// Counts the deliveries that have ended, for the 60 minutes up to that of `now`, by the minute in which they were created,
    /// the oldest minute first. Of each minute, the first [`MOST_IN_A_MINUTE`] are counted.
    pub async fn last_hour_by_minute(&self, now: DateTime<Utc>) -> Result<Vec<MinuteCount>, StoreError> {
        let this = now.duration_trunc(MINUTE).unwrap_or(now);
        let minutes: Vec<DateTime<Utc>> = (0..MINUTES).rev().map(|ago| this - MINUTE * ago).collect();
        let from: Vec<Uuid> = minutes.iter().map(|minute| floor(*minute)).collect();
        let until: Vec<Uuid> = minutes.iter().map(|minute| floor(*minute + MINUTE)).collect();
        let mut transaction = self.pool.begin_with("BEGIN READ ONLY").await?;
        prepare(&mut transaction, self.statement_timeout).await?;
        // Ids are ordered by time, so each minute is a range of the primary key, in one partition or two. It is read in
        // the order of the key and no further than the limit: at most 60,000 rows, however many there are. Without the
        // order, the planner could read a partition from its beginning until it has found as many of the range.
        let counts = sqlx::query_as!(
            MinuteCount,
            r#"
            SELECT minutes.minute AS "minute!", counted.state AS "state?: State", coalesce(counted.count, 0) AS "count!"
            FROM unnest($1::timestamptz[], $2::uuid[], $3::uuid[]) AS minutes (minute, since, until)
            LEFT JOIN LATERAL (
                SELECT first.state, count(*) AS count
                FROM (SELECT delivery.state FROM postcall.delivery
                      WHERE delivery_id >= minutes.since AND delivery_id < minutes.until
                      ORDER BY delivery_id LIMIT $4) AS first
                GROUP BY first.state) AS counted ON true
            ORDER BY minutes.minute
            "#,
            &minutes,
            &from,
            &until,
            MOST_IN_A_MINUTE,
        )
        .fetch_all(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(counts)
    }
}
