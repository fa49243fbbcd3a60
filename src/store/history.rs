//! Reading history: always through the view `postcall.delivery_history`, so that an auditor's rights suffice.

use chrono::{DateTime, Utc};
use serde::Serialize;
use uuid::Uuid;

use super::{Store, StoreError};

/// Which deliveries are asked for. Every criterion that is given must hold.
#[derive(Clone, Debug, Default)]
pub struct HistoryFilter {
    /// This one delivery.
    pub delivery_id: Option<Uuid>,
    /// The call's agent.
    pub agent: Option<String>,
    /// The action's name.
    pub action: Option<String>,
    /// One of the states.
    pub states: Option<Vec<String>>,
    /// The provider's id of the call.
    pub call_sid: Option<String>,
    /// The call's id in the outbox.
    pub call_id: Option<Uuid>,
    /// The error kind.
    pub error_kind: Option<String>,
    /// The HTTP status code.
    pub response_code: Option<i16>,
    /// Created at this time or later.
    pub since: Option<DateTime<Utc>>,
    /// Created before this time.
    pub until: Option<DateTime<Utc>>,
}

/// One row of the view. Its columns are described there.
#[derive(Debug, Serialize)]
#[allow(missing_docs, reason = "the view's column comments are the one description")]
pub struct HistoryRow {
    pub delivery_id: Uuid,
    pub call_id: Uuid,
    pub call_sid: Option<String>,
    pub agent: String,
    pub action: String,
    pub action_version: Option<i32>,
    pub state: String,
    pub error_kind: Option<String>,
    pub error_detail: Option<String>,
    pub method: Option<String>,
    pub url: Option<String>,
    pub response_code: Option<i16>,
    pub latency_ms: Option<i32>,
    pub queue_ms: i64,
    pub created_at: DateTime<Utc>,
    pub claimed_at: Option<DateTime<Utc>>,
    pub finished_at: Option<DateTime<Utc>>,
    pub dispatcher: Option<String>,
    pub replay_of: Option<Uuid>,
    pub replayed_by: Option<String>,
    pub replay_reason: Option<String>,
    pub message_id: Uuid,
    pub dns_ms: Option<i32>,
    pub connected_ms: Option<i32>,
    pub head_ms: Option<i32>,
    pub body_end: Option<String>,
    pub request_bytes: Option<i32>,
    /// Hexadecimal.
    pub request_sha256: Option<String>,
    pub response_bytes: Option<i32>,
    /// Hexadecimal.
    pub response_sha256: Option<String>,
    pub unresolved: Option<Vec<String>>,
    pub recorded_state: Option<String>,
    pub resolved_at: Option<DateTime<Utc>>,
    pub resolved_by: Option<String>,
    pub resolution_reason: Option<String>,
}

impl Store {
    /// Up to `limit` deliveries that match, the newest first, beginning after (that is, older than) `after`.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn history(
        &self,
        filter: &HistoryFilter,
        after: Option<Uuid>,
        limit: usize,
    ) -> Result<Vec<HistoryRow>, StoreError> {
        // - Pages are cut by id, not by OFFSET: a page costs the same however far down it is, and rows that arrive
        //   meanwhile do not shift it.
        // - An absent criterion is `NULL IS NULL`, which the planner folds away, as it plans with the values at hand.
        // - Time is asked of created_at, and, an hour wider, of the time-ordered id too, which lets whole partitions
        //   and most of the index be skipped. The two are taken from one clock within one statement.
        let rows = sqlx::query_as!(
            HistoryRow,
            r#"
            SELECT delivery_id AS "delivery_id!", call_id AS "call_id!", call_sid, agent AS "agent!",
                   action AS "action!", action_version, state AS "state!", error_kind, error_detail, method, url,
                   response_code, latency_ms, queue_ms AS "queue_ms!", created_at AS "created_at!", claimed_at,
                   finished_at, dispatcher, replay_of, replayed_by, replay_reason, message_id AS "message_id!",
                   dns_ms, connected_ms, head_ms, body_end, request_bytes,
                   encode(request_sha256, 'hex') AS request_sha256, response_bytes,
                   encode(response_sha256, 'hex') AS response_sha256, unresolved, recorded_state, resolved_at,
                   resolved_by, resolution_reason
            FROM postcall.delivery_history
            WHERE ($1::text IS NULL OR agent = $1)
              AND ($2::text IS NULL OR action = $2)
              AND ($3::text[] IS NULL OR state = ANY ($3))
              AND ($4::text IS NULL OR call_sid = $4)
              AND ($5::uuid IS NULL OR call_id = $5)
              AND ($6::text IS NULL OR error_kind = $6)
              AND ($7::int2 IS NULL OR response_code = $7)
              AND ($8::timestamptz IS NULL
                   OR (created_at >= $8 AND delivery_id >= postcall.uuid_v7_floor($8 - interval '1 hour')))
              AND ($9::timestamptz IS NULL
                   OR (created_at < $9 AND delivery_id < postcall.uuid_v7_floor($9 + interval '1 hour')))
              AND ($10::uuid IS NULL OR delivery_id = $10)
              AND ($11::uuid IS NULL OR delivery_id < $11)
            ORDER BY delivery_id DESC
            LIMIT $12
            "#,
            filter.agent,
            filter.action,
            filter.states.as_deref(),
            filter.call_sid,
            filter.call_id,
            filter.error_kind,
            filter.response_code,
            filter.since,
            filter.until,
            filter.delivery_id,
            after,
            i64::try_from(limit).unwrap_or(i64::MAX),
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(rows)
    }

    /// One delivery; `None` if there is none of that id.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn delivery(&self, delivery_id: Uuid) -> Result<Option<HistoryRow>, StoreError> {
        let filter = HistoryFilter { delivery_id: Some(delivery_id), ..HistoryFilter::default() };
        Ok(self.history(&filter, None, 1).await?.pop())
    }

    /// The payload of a call; `None` once it was dropped.
    ///
    /// # Errors
    /// Those of the database; also where the user may read history only, as auditors do.
    pub async fn payload(&self, call_id: Uuid) -> Result<Option<String>, StoreError> {
        let call = sqlx::query_scalar!(r#"SELECT call::text AS "call!" FROM postcall.outbox WHERE id = $1"#, call_id)
            .fetch_optional(&self.pool)
            .await?;
        Ok(call)
    }
}
