//! Reading which calls have arrived, without their content. An auditor's rights suffice.

use std::ops::Range;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::PgConnection;
use uuid::Uuid;

use super::history::{LONGEST_INSERT, floor};
use super::matching::prepare;
use super::search::{Budget, Patience};
use super::{LOOK_TIMEOUT, Store, StoreError};
use crate::domain::kept;

/// The largest number of calls that one look reads. The outbox has no index but its primary key: each would cost the
/// platform something at each insert.
pub const MOST_LOOKED_AT: i64 = 50_000;
/// The number of calls that a look reads first if it has to be over soon; what it reads then depends on how long that took.
const FIRST_STEP: i64 = 2_000;

/// How many rows of history are read for each call that is wanted.
const ROWS_FOR_A_CALL: i64 = 5;

/// Which calls to find. Every criterion that is given must hold.
#[derive(Clone, Debug, Default)]
pub struct CallFilter {
    /// The agent, compared exactly.
    pub agent: Option<String>,
    /// The provider's id of the call.
    pub call_sid: Option<String>,
    /// Inserted at this time or later.
    pub since: Option<DateTime<Utc>>,
    /// Inserted before this time.
    pub until: Option<DateTime<Utc>>,
    /// Only calls that got no delivery when they were inserted.
    pub without_deliveries: bool,
}

/// A call in the outbox, without its content.
#[derive(Clone, Debug, Serialize)]
pub struct CallRecord {
    /// Its id.
    pub call_id: Uuid,
    /// When it was inserted.
    pub created_at: DateTime<Utc>,
    /// The agent that held it.
    pub agent: String,
    /// The provider's id of it.
    pub call_sid: Option<String>,
    /// The length of its text.
    pub call_bytes: Option<i32>,
    /// How many deliveries it got when it was inserted: one for each action of the agent that was enabled. Replays are
    /// not counted. `None` for a call from before this was kept.
    pub deliveries: Option<i32>,
}

/// What a look has found.
#[derive(Debug)]
pub struct CallsFound {
    /// The calls, in the falling order of their ids: the newest first, unless the platform gives ids of its own.
    pub calls: Vec<CallRecord>,
    /// The call behind which a look for the rest goes on; `None` if there is no rest.
    pub rest_after: Option<Uuid>,
    /// How many calls were looked at, if it was not enough to find as many as were wanted.
    pub looked_at: i64,
}

/// What is known about the actions of an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentActions {
    /// The agent.
    pub agent: String,
    /// How many actions it has today. Actions are never deleted.
    pub count: i64,
    /// How many of them are enabled today.
    pub enabled: i64,
    /// When the first of them was published.
    pub first_published_at: DateTime<Utc>,
}

impl Store {
    /// Returns up to `limit` calls that match and come after the call `after`, in the falling order of their ids. Looks
    /// at no more than [`MOST_LOOKED_AT`] calls.
    pub async fn calls(
        &self,
        filter: &CallFilter,
        after: Option<Uuid>,
        limit: usize,
    ) -> Result<CallsFound, StoreError> {
        self.look_at_calls(filter, after, limit, None).await
    }

    /// As [`Store::calls`], with this patience: it may look at fewer calls.
    pub async fn calls_within(
        &self,
        filter: &CallFilter,
        after: Option<Uuid>,
        limit: usize,
        patience: Patience,
    ) -> Result<CallsFound, StoreError> {
        self.look_at_calls(filter, after, limit, Some(Budget::of(patience))).await
    }

    async fn look_at_calls(
        &self,
        filter: &CallFilter,
        after: Option<Uuid>,
        limit: usize,
        budget: Option<Budget>,
    ) -> Result<CallsFound, StoreError> {
        let since = filter.since.and_then(|since| since.checked_sub_signed(LONGEST_INSERT));
        let until = filter.until.and_then(|until| until.checked_add_signed(LONGEST_INSERT));
        let (first, end) = (since.map_or(Uuid::nil(), floor), until.map_or(Uuid::max(), floor));
        let mut end = after.map_or(end, |after| end.min(after));
        // One snapshot, so that what was looked at is what was counted.
        let mut snapshot = self.pool.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
        prepare(&mut snapshot, LOOK_TIMEOUT.min(self.statement_timeout)).await?;
        let (mut calls, mut looked_at) = (Vec::new(), 0);
        let mut step = if budget.is_some() { FIRST_STEP } else { MOST_LOOKED_AT };
        let rest_after = loop {
            let begun = Instant::now();
            calls.extend(matching(&mut snapshot, filter, first..end, step, limit - calls.len()).await?);
            if let Some(last) = calls.last().filter(|_| calls.len() >= limit) {
                break Some(last.call_id);
            }
            let Some(last) = last_looked_at(&mut snapshot, first..end, step).await? else { break None };
            (looked_at, end) = (looked_at + step, last);
            step = budget.map_or(0, |budget| next_step(step, looked_at, begun.elapsed(), budget.left()));
            if step == 0 {
                break Some(last);
            }
        };
        snapshot.commit().await?;
        Ok(CallsFound { calls, rest_after, looked_at })
    }

    /// Returns one call; `None` if there is none with that id.
    pub async fn call(&self, call_id: Uuid) -> Result<Option<CallRecord>, StoreError> {
        // By the primary key.
        let call = sqlx::query_as!(
            CallRecord,
            r#"
            SELECT id AS call_id, created_at, agent, call_sid, call_bytes, cardinality(action_ids) AS deliveries
            FROM postcall.outbox WHERE id = $1
            "#,
            call_id
        )
        .fetch_optional(&self.pool)
        .await?;
        Ok(call)
    }

    /// The calls of an agent's latest deliveries, each once, at most `limit`.
    pub async fn latest_calls(&self, agent: &str, limit: usize) -> Result<Vec<Uuid>, StoreError> {
        // By the index of history on agent and id, backwards, and no further than a few rows for each call that is wanted: one
        // call can have several deliveries.
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let calls = sqlx::query_scalar!(
            r#"
            SELECT call_id AS "call_id!"
            FROM (SELECT call_id, delivery_id FROM postcall.delivery WHERE agent = $1
                  ORDER BY delivery_id DESC LIMIT $2) AS latest
            GROUP BY call_id ORDER BY max(delivery_id::text) DESC LIMIT $3
            "#,
            agent,
            limit.saturating_mul(ROWS_FOR_A_CALL),
            limit,
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(calls)
    }

    /// The payload of a call; `None` if it is no longer there, or has more than `most_bytes`.
    ///
    /// # Errors
    /// Returns the database's error, also if the user may not read calls.
    pub async fn payload_within(&self, call_id: Uuid, most_bytes: i64) -> Result<Option<String>, StoreError> {
        // By the primary key; a payload that is too large is not read. A call from before its size was kept has none, and is left
        // out.
        let call = sqlx::query_scalar!(
            r#"SELECT call::text AS "call!" FROM postcall.outbox WHERE id = $1 AND call_bytes <= $2"#,
            call_id,
            i32::try_from(most_bytes).unwrap_or(i32::MAX),
        )
        .fetch_optional(&self.pool)
        .await?;
        Ok(call)
    }

    /// What is known about the actions of these agents; those that have none are left out.
    pub async fn agents_actions(&self, agents: &[String]) -> Result<Vec<AgentActions>, StoreError> {
        // By the index on agent and name; an insert of a call of the agent reads the same actions.
        let agents = sqlx::query_as!(
            AgentActions,
            r#"
            SELECT agent, count(*) AS "count!", count(*) FILTER (WHERE enabled) AS "enabled!",
                   min(created_at) AS "first_published_at!"
            FROM postcall.action WHERE agent = ANY ($1) GROUP BY agent
            "#,
            agents
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(agents)
    }
}

/// How many calls are looked at next if `step` calls took `took` and the time `left` remains: eight times as many if ten times `took`
/// fits into it, as many if one and a half times `took` fits, otherwise none; and with the `looked_at` calls never more than
/// [`MOST_LOOKED_AT`].
fn next_step(step: i64, looked_at: i64, took: Duration, left: Duration) -> i64 {
    let next = match took {
        took if took * 10 <= left => step * 8,
        took if took * 3 / 2 <= left => step,
        _ => 0,
    };
    next.min(MOST_LOOKED_AT - looked_at)
}

async fn matching(
    snapshot: &mut PgConnection,
    filter: &CallFilter,
    ids: Range<Uuid>,
    step: i64,
    limit: usize,
) -> Result<Vec<CallRecord>, sqlx::Error> {
    // Reads the primary key backwards, and stops when it has found enough or looked at enough: the cost does not grow
    // with the outbox. The content is not read.
    let most = usize::try_from(kept::MAX_CALL_SID_CHARS).unwrap_or(usize::MAX);
    let call_sid: Option<String> = filter.call_sid.as_ref().map(|sid| sid.chars().take(most).collect());
    sqlx::query_as!(
        CallRecord,
        r#"
        SELECT id AS call_id, created_at, agent, call_sid, call_bytes, cardinality(action_ids) AS deliveries
        FROM (SELECT id, created_at, agent, call_sid, call_bytes, action_ids FROM postcall.outbox
              WHERE id >= $1 AND id < $2 ORDER BY id DESC LIMIT $3) AS newest
        WHERE ($4::text IS NULL OR agent = $4)
          AND ($5::text IS NULL OR call_sid = $5)
          AND ($6::timestamptz IS NULL OR created_at >= $6)
          AND ($7::timestamptz IS NULL OR created_at < $7)
          AND (NOT $8::bool OR cardinality(action_ids) = 0)
        ORDER BY id DESC LIMIT $9
        "#,
        ids.start,
        ids.end,
        step,
        filter.agent,
        call_sid,
        filter.since,
        filter.until,
        filter.without_deliveries,
        i64::try_from(limit).unwrap_or(i64::MAX),
    )
    .fetch_all(snapshot)
    .await
}

/// The last call that such a look reads, if it does not read all.
async fn last_looked_at(snapshot: &mut PgConnection, ids: Range<Uuid>, step: i64) -> Result<Option<Uuid>, sqlx::Error> {
    // An index-only scan of as many entries as the look has read.
    sqlx::query_scalar!(
        "SELECT id FROM postcall.outbox WHERE id >= $1 AND id < $2 ORDER BY id DESC OFFSET $3 LIMIT 1",
        ids.start,
        ids.end,
        step - 1,
    )
    .fetch_optional(snapshot)
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_that_has_to_be_over_soon_reads_more_only_if_there_is_time_for_it() {
        let next = |took, left| next_step(FIRST_STEP, 0, Duration::from_millis(took), Duration::from_millis(left));
        assert_eq!(next(4, 40), FIRST_STEP * 8);
        assert_eq!(next(5, 40), FIRST_STEP);
        assert_eq!(next(26, 40), FIRST_STEP);
        assert_eq!(next(30, 40), 0);
        assert_eq!(next(1, 0), 0);
    }

    #[test]
    fn however_much_time_there_is_no_look_reads_more_than_the_most() {
        let next = |looked_at| next_step(FIRST_STEP, looked_at, Duration::ZERO, Duration::from_secs(1));
        assert_eq!(next(MOST_LOOKED_AT - 1), 1);
        assert_eq!(next(MOST_LOOKED_AT), 0);
    }
}
