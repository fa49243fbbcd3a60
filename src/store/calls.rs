//! Reading which calls have arrived, without their content. An auditor's rights suffice.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::PgConnection;
use uuid::Uuid;

use super::history::{LONGEST_INSERT, floor};
use super::matching::prepare;
use super::{LOOK_TIMEOUT, Store, StoreError};
use crate::domain::kept;

/// The largest number of calls that one look reads. The outbox has no index but its primary key: each would cost the
/// platform something at each insert.
pub const MOST_LOOKED_AT: i64 = 50_000;

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
        let since = filter.since.and_then(|since| since.checked_sub_signed(LONGEST_INSERT));
        let until = filter.until.and_then(|until| until.checked_add_signed(LONGEST_INSERT));
        let (first, end) = (since.map_or(Uuid::nil(), floor), until.map_or(Uuid::max(), floor));
        let end = after.map_or(end, |after| end.min(after));
        // One snapshot, so that what was looked at is what was counted.
        let mut snapshot = self.pool.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
        prepare(&mut snapshot, LOOK_TIMEOUT.min(self.statement_timeout)).await?;
        let calls = matching(&mut snapshot, filter, first, end, limit).await?;
        let rest_after = match calls.last() {
            Some(last) if calls.len() >= limit => Some(last.call_id),
            _ => last_looked_at(&mut snapshot, first, end).await?,
        };
        snapshot.commit().await?;
        Ok(CallsFound { calls, rest_after })
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

async fn matching(
    snapshot: &mut PgConnection,
    filter: &CallFilter,
    first: Uuid,
    end: Uuid,
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
        first,
        end,
        MOST_LOOKED_AT,
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
async fn last_looked_at(snapshot: &mut PgConnection, first: Uuid, end: Uuid) -> Result<Option<Uuid>, sqlx::Error> {
    // An index-only scan of as many entries as the look has read.
    sqlx::query_scalar!(
        "SELECT id FROM postcall.outbox WHERE id >= $1 AND id < $2 ORDER BY id DESC OFFSET $3 LIMIT 1",
        first,
        end,
        MOST_LOOKED_AT - 1,
    )
    .fetch_optional(snapshot)
    .await
}
