//! What became of the calls of the last hour, in all and minute by minute.

use std::ops::Range;

use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use uuid::Uuid;

use super::history::{StateCount, floor};
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
    /// Counts the deliveries that were created within the hour before `now` and have ended, by the state that history shows, in the
    /// order of a delivery's life. Of each state, at most `most` plus one are counted; the extra one shows that there are more.
    pub async fn last_hour(&self, now: DateTime<Utc>, most: usize) -> Result<Vec<StateCount>, StoreError> {
        let limit = i64::try_from(most).unwrap_or(i64::MAX).saturating_add(1);
        let mut transaction = self.pool.begin_with("BEGIN READ ONLY").await?;
        prepare(&mut transaction, self.statement_timeout).await?;
        // Ids are ordered by time, so the hour is the end of each index. An arm for each state, because only of one state the index
        // of what was not delivered has its rows in order, so that a count ends at its limit. Of what is unknown, the finding
        // is looked up by key, in a scalar subquery, as the view does.
        let mut counts = sqlx::query_as!(
            StateCount,
            r#"
            SELECT state AS "state!: State", count(*) AS "count!"
            FROM ((SELECT state FROM postcall.delivery
                   WHERE state = 'delivered' AND delivery_id >= $1 ORDER BY delivery_id LIMIT $2)
                  UNION ALL
                  (SELECT state FROM postcall.delivery
                   WHERE state = 'rejected' AND delivery_id >= $1 ORDER BY delivery_id LIMIT $2)
                  UNION ALL
                  (SELECT state FROM postcall.delivery
                   WHERE state = 'failed' AND delivery_id >= $1 ORDER BY delivery_id LIMIT $2)
                  UNION ALL
                  (SELECT state FROM postcall.delivery
                   WHERE state = 'skipped' AND delivery_id >= $1 ORDER BY delivery_id LIMIT $2)
                  UNION ALL
                  (SELECT coalesce((SELECT learnt.state FROM postcall.resolution AS learnt
                                    WHERE learnt.delivery_id = doubtful.delivery_id ORDER BY learnt.source LIMIT 1), state)
                   FROM postcall.delivery AS doubtful
                   WHERE state = 'unknown' AND delivery_id >= $1 ORDER BY delivery_id LIMIT $2)) AS ended (state)
            GROUP BY state
            "#,
            floor(now - TimeDelta::hours(1)),
            limit,
        )
        .fetch_all(&mut *transaction)
        .await?;
        transaction.commit().await?;
        sort(&mut counts);
        Ok(counts)
    }

    /// Counts the deliveries that have ended, for the 60 minutes up to that of `now`, by the minute in which they were created,
    /// the oldest minute first. Of each minute, the first [`MOST_IN_A_MINUTE`] are counted.
    pub async fn last_hour_by_minute(&self, now: DateTime<Utc>) -> Result<Vec<MinuteCount>, StoreError> {
        let ranges = minutes_up_to(now);
        let minutes: Vec<DateTime<Utc>> = ranges.iter().map(|minute| minute.start).collect();
        let from: Vec<Uuid> = ranges.iter().map(|minute| floor(minute.start)).collect();
        let until: Vec<Uuid> = ranges.iter().map(|minute| floor(minute.end)).collect();
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

/// Puts the states in the order of a delivery's life.
fn sort(counts: &mut [StateCount]) {
    counts.sort_by_key(|counted| State::ALL.iter().position(|state| *state == counted.state));
}

/// The 60 minutes up to that of `now`, the oldest first.
fn minutes_up_to(now: DateTime<Utc>) -> Vec<Range<DateTime<Utc>>> {
    let this = now.duration_trunc(MINUTE).unwrap_or(now);
    (0..MINUTES).rev().map(|ago| this - MINUTE * ago).map(|minute| minute..minute + MINUTE).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_states_of_the_last_hour_come_in_the_order_of_a_delivery_s_life() {
        let mut counts: Vec<StateCount> =
            State::ALL.into_iter().rev().map(|state| StateCount { state, count: 1 }).collect();
        sort(&mut counts);
        assert_eq!(counts.iter().map(|counted| counted.state).collect::<Vec<_>>(), State::ALL);
    }

    #[test]
    fn the_minutes_of_the_last_hour_follow_each_other_without_a_gap_and_the_last_one_is_that_of_now() {
        let at = |time: &str| format!("2026-11-24T{time}Z").parse::<DateTime<Utc>>().unwrap();
        let minutes = minutes_up_to(at("09:30:17.5"));
        assert_eq!(minutes.len(), 60);
        assert_eq!(minutes.first(), Some(&(at("08:31:00")..at("08:32:00"))));
        assert_eq!(minutes.last(), Some(&(at("09:30:00")..at("09:31:00"))));
        assert!(minutes.windows(2).all(|pair| pair[0].end == pair[1].start), "{minutes:?}");
    }
}
