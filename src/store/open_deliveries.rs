//! What is open: rejected, failed or unknown, and no later delivery of its message was delivered. How many these are, up to a limit, how
//! many of them nobody can send again, and since when the oldest of the others is. An auditor's rights suffice; the search for them is in
//! `search`.

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use super::history::floor;
use super::matching::prepare;
use super::open_rule::with_is_open;
use super::status::{Count, Oldest};
use super::{LOOK_TIMEOUT, Store, StoreError};

/// The largest number of open deliveries that are counted.
pub const MOST_OPEN: i64 = 1_000;
/// How many deliveries that were not delivered are looked at for open ones, from each end of history. Those that were healed count, so
/// that much that was healed does not make the look longer.
const MOST_OPEN_LOOKED_AT: i64 = 2_000;
/// How many are looked at first for the oldest that is open: usually it is among them.
const FIRST_LOOKED_AT: i64 = 100;

/// How many deliveries are open.
#[derive(Clone, Copy, Debug)]
pub struct OpenDeliveries {
    /// How many are open. If there may be more, at least so many are.
    pub count: Count,
    /// How many of the counted ones are unknown, and have neither a late result nor a finding.
    pub unknown: i64,
    /// How many of the counted ones failed or were rejected, and have lost their call: no replay can send them again, and there is nothing
    /// to find out about them, so nobody can do anything about them any more.
    pub beyond_replay: i64,
    /// How many of the counted ones failed within the last hour, by the time at which they were created, and are not beyond replay.
    pub failed_lately: i64,
    /// As `failed_lately`, of those that were rejected.
    pub rejected_lately: i64,
    /// The oldest that is open and not beyond replay; `None` if none is.
    pub oldest: Option<Oldest>,
    /// Whether there may be one that is older than `oldest`, because much that is older was healed, or is beyond replay.
    pub may_be_older: bool,
}

impl OpenDeliveries {
    /// How many of them somebody can do something about: replay them, or find out what became of them.
    pub fn within_reach(&self) -> Count {
        Count { counted: self.count.counted - self.beyond_replay, is_more: self.count.is_more }
    }
}

struct Row {
    looked_at: i64,
    open: i64,
    unknown: i64,
    beyond_replay: i64,
    failed_lately: i64,
    rejected_lately: i64,
    created_at: Option<DateTime<Utc>>,
    age_ms: Option<i64>,
}

/// Makes a statement that looks at the newest deliveries that were not delivered (`" DESC"`), or at the oldest (`""`), at `$looked_at` of
/// them, and counts up to `$limit` that are open: of all, or of those only that are not beyond replay.
macro_rules! looked_at {
    ($direction:literal, $looked_at:expr, $limit:expr, $only_within_reach:literal, $lately:expr) => {
        with_is_open!(looked_at; @ $direction, $looked_at, $limit, $only_within_reach, $lately,)
    };
    (@ $direction:literal, $looked_at:expr, $limit:expr, $only_within_reach:literal, $lately:expr, $is_open:literal) => {
        sqlx::query_as!(
            Row,
            // - An arm for each state: only of one state, the index of what was not delivered has its rows in order. The arms are
            //   merged, so each index is read no further than the limit of all.
            // - Whether a candidate is open is asked by index, in scalar subqueries, as the search for open deliveries does: of a
            //   join, the planner could make one that reads all replays. Whether its call is there is asked in the same way, by the key of
            //   the outbox and in its partition alone, and only of what is open.
            // - Each step is materialized, so that it is made once, and reads no more than it is limited to.
            r#"
            WITH looked_at AS MATERIALIZED (
                SELECT delivery_id, call_id, state
                FROM ((SELECT delivery_id, call_id, state FROM postcall.delivery WHERE state = 'rejected' ORDER BY delivery_id"#
                + $direction
                + r#" LIMIT $1)
                      UNION ALL
                      (SELECT delivery_id, call_id, state FROM postcall.delivery WHERE state = 'failed' ORDER BY delivery_id"#
                + $direction
                + r#" LIMIT $1)
                      UNION ALL
                      (SELECT delivery_id, call_id, state FROM postcall.delivery WHERE state = 'unknown' ORDER BY delivery_id"#
                + $direction
                + r#" LIMIT $1)) AS of_each_state
                ORDER BY delivery_id"#
                + $direction
                + r#" LIMIT $1
            ),
            open AS MATERIALIZED (
                SELECT delivery_id, state, is_beyond_replay
                FROM (SELECT delivery_id, state,
                             state <> 'unknown' AND (SELECT outbox.id FROM postcall.outbox
                                                     WHERE outbox.id = candidate.call_id) IS NULL AS is_beyond_replay
                      FROM (SELECT delivery_id, call_id,
                                   CASE WHEN state <> 'unknown' THEN state
                                        ELSE coalesce((SELECT learnt.state FROM postcall.resolution AS learnt
                                                       WHERE learnt.delivery_id = looked_at.delivery_id
                                                       ORDER BY learnt.source LIMIT 1), state) END AS state
                            FROM looked_at OFFSET 0) AS candidate
                      WHERE state <> 'delivered' AND
            "#
                + $is_open
                + r#"
                      OFFSET 0) AS judged
                WHERE NOT ($3::bool AND is_beyond_replay)
                ORDER BY delivery_id"#
                + $direction
                + r#" LIMIT $2
            ),
            oldest AS MATERIALIZED (
                SELECT delivery.created_at FROM postcall.delivery
                WHERE delivery.delivery_id = (SELECT delivery_id FROM open WHERE NOT is_beyond_replay ORDER BY delivery_id LIMIT 1)
            )
            SELECT (SELECT count(*) FROM looked_at) AS "looked_at!", (SELECT count(*) FROM open) AS "open!",
                   (SELECT count(*) FROM open WHERE state = 'unknown') AS "unknown!",
                   (SELECT count(*) FROM open WHERE is_beyond_replay) AS "beyond_replay!",
                   (SELECT count(*) FROM open WHERE state = 'failed' AND delivery_id >= $4 AND NOT is_beyond_replay) AS "failed_lately!",
                   (SELECT count(*) FROM open WHERE state = 'rejected' AND delivery_id >= $4 AND NOT is_beyond_replay) AS "rejected_lately!",
                   (SELECT created_at FROM oldest) AS created_at,
                   (SELECT greatest(0, extract(epoch FROM clock_timestamp() - created_at) * 1000)::bigint FROM oldest) AS age_ms
            "#,
            $looked_at,
            $limit,
            $only_within_reach,
            $lately
        )
    };
}

impl Store {
    /// Counts what is open, up to [`MOST_OPEN`] among the newest 2,000 deliveries that were not delivered, says how many of these are
    /// beyond replay, and since when the oldest of the others is open.
    ///
    /// # Errors
    /// Returns the database's error, also if the user may not read replays ([`StoreError::is_forbidden`]).
    pub async fn open_deliveries(&self) -> Result<OpenDeliveries, StoreError> {
        let mut snapshot = self.pool.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
        prepare(&mut snapshot, LOOK_TIMEOUT.min(self.statement_timeout)).await?;
        let now = sqlx::query_scalar!(r#"SELECT statement_timestamp() AS "now!""#).fetch_one(&mut *snapshot).await?;
        let lately = floor(now - TimeDelta::hours(1));
        let newest =
            looked_at!(" DESC", MOST_OPEN_LOOKED_AT, MOST_OPEN, false, lately).fetch_one(&mut *snapshot).await?;
        let is_more = newest.open >= MOST_OPEN || newest.looked_at >= MOST_OPEN_LOOKED_AT;
        // If everything was looked at, the oldest is among it.
        let from_the_other_end = if is_more { oldest(&mut snapshot).await? } else { None };
        snapshot.commit().await?;
        Ok(OpenDeliveries {
            count: Count { counted: newest.open, is_more },
            unknown: newest.unknown,
            beyond_replay: newest.beyond_replay,
            failed_lately: newest.failed_lately,
            rejected_lately: newest.rejected_lately,
            oldest: from_the_other_end.or(newest.oldest()),
            may_be_older: is_more && from_the_other_end.is_none(),
        })
    }
}

/// The oldest open delivery that is not beyond replay, if it is among the oldest 2,000 that were not delivered.
async fn oldest(snapshot: &mut PgConnection) -> Result<Option<Oldest>, sqlx::Error> {
    // All that are looked at are judged, before the first of them is taken.
    for most in [FIRST_LOOKED_AT, MOST_OPEN_LOOKED_AT] {
        let found = looked_at!("", most, 1_i64, true, Uuid::max()).fetch_one(&mut *snapshot).await?.oldest();
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

impl Row {
    fn oldest(&self) -> Option<Oldest> {
        self.created_at.zip(self.age_ms).map(|(created_at, age_ms)| Oldest { created_at, age_ms })
    }
}
