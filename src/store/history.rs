//! Reading history. The matching deliveries are found in the tables; their content comes from the view
//! `postcall.delivery_history`. An auditor's rights suffice.
//!
//! [`Store::history`] and [`Store::count_history`] search everything, however long that takes. [`Store::search`] keeps
//! to a time limit and reports how far it got. `filter` has the criteria.

mod filter;

use std::ops::Range;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::PgConnection;
use uuid::Uuid;

pub use self::filter::HistoryFilter;
pub(super) use self::filter::{LONGEST_INSERT, floor};
use super::{Store, StoreError, matching, texts};
use crate::domain::delivery::{BodyEnd, ResolutionSource, State};
use crate::domain::error_kind::ErrorKind;
use crate::domain::mask;

/// Makes a struct whose fields are public, and the list of their names.
macro_rules! named_columns {
    ($(#[$of_struct:meta])* pub struct $name:ident { $($(#[$of_field:meta])* $field:ident: $type:ty,)+ }) => {
        $(#[$of_struct])*
        pub struct $name {
            $($(#[$of_field])* pub $field: $type,)+
        }

        impl $name {
            /// The names of the fields. They are the names of the view's columns, in the view's order.
            pub const COLUMNS: [&str; [$(stringify!($field)),+].len()] = [$(stringify!($field)),+];
        }
    };
}
pub(super) use named_columns;

named_columns! {
    /// One row of the view `postcall.delivery_history`. docs/auditing.md describes its columns.
    #[derive(Debug, Serialize)]
    #[allow(missing_docs, reason = "docs/auditing.md has the one description")]
    pub struct HistoryRow {
        delivery_id: Uuid,
        call_id: Uuid,
        call_sid: Option<String>,
        agent: String,
        action: String,
        action_version: Option<i32>,
        state: State,
        error_kind: Option<ErrorKind>,
        error_detail: Option<String>,
        /// A text, and no [`Method`](crate::domain::action::Method): no constraint of history keeps other texts out, and a row that
        /// somebody else wrote must not keep anybody from reading the others.
        method: Option<String>,
        url: Option<String>,
        response_code: Option<i16>,
        latency_ms: Option<i32>,
        queue_ms: i64,
        created_at: DateTime<Utc>,
        claimed_at: Option<DateTime<Utc>>,
        finished_at: Option<DateTime<Utc>>,
        dispatcher: Option<String>,
        replay_of: Option<Uuid>,
        replayed_by: Option<String>,
        replay_reason: Option<String>,
        message_id: Uuid,
        dns_ms: Option<i32>,
        connected_ms: Option<i32>,
        head_ms: Option<i32>,
        body_end: Option<BodyEnd>,
        request_bytes: Option<i32>,
        /// Hexadecimal.
        request_sha256: Option<String>,
        response_bytes: Option<i32>,
        /// Hexadecimal.
        response_sha256: Option<String>,
        unresolved: Option<Vec<String>>,
        recorded_state: Option<State>,
        resolved_at: Option<DateTime<Utc>>,
        resolved_by: Option<String>,
        resolution_reason: Option<String>,
        recorded_error_kind: Option<ErrorKind>,
        resolved_from: Option<ResolutionSource>,
        replayed_as: Option<Uuid>,
        /// Hexadecimal.
        request_head_hmac: Option<String>,
        recorded_error_detail: Option<String>,
    }
}

/// A replay of a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplayLink {
    /// The delivery that repeats the other one.
    pub delivery_id: Uuid,
    /// Who asked for it, in that person's own words.
    pub replayed_by: String,
    /// The reason that this person gave.
    pub reason: String,
    /// When it was asked for.
    pub created_at: DateTime<Utc>,
}

/// How many of the matching deliveries are in one state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StateCount {
    /// The state, as the view shows it.
    pub state: State,
    /// How many; if there are more than the limit of the count, the limit plus one.
    pub count: i64,
}

/// How many rows one statement reads. This is bounded because the planner looks at each id of the list.
const ROWS_AT_ONCE: usize = 500;

impl Store {
    /// Returns up to `limit` deliveries that match, the newest first.
    pub async fn history(&self, filter: &HistoryFilter, limit: usize) -> Result<Vec<HistoryRow>, StoreError> {
        self.history_within(filter, &filter.possible_ids(None), limit, self.statement_timeout).await
    }

    /// As [`Store::history`], but only for deliveries with these ids, and within a time limit.
    ///
    /// # Errors
    /// Returns the database's error; see [`StoreError::is_cancelled`].
    pub(super) async fn history_within(
        &self,
        filter: &HistoryFilter,
        ids: &Range<Uuid>,
        limit: usize,
        statement_timeout: Duration,
    ) -> Result<Vec<HistoryRow>, StoreError> {
        // One snapshot, so that a delivery that matches is still in the same state when it is read.
        let mut snapshot = self.pool.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
        matching::prepare(&mut snapshot, statement_timeout).await?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let ids = matching::ids(&mut snapshot, filter, ids, limit).await?;
        let mut rows = Vec::with_capacity(ids.len());
        for ids in ids.chunks(ROWS_AT_ONCE) {
            rows.extend(shown(&mut snapshot, ids).await?);
        }
        snapshot.commit().await?;
        Ok(rows)
    }

    /// Returns up to `limit` deliveries that match and are newer than `before`: those next to it, the newest first.
    pub async fn newer(
        &self,
        filter: &HistoryFilter,
        before: Uuid,
        limit: usize,
    ) -> Result<Vec<HistoryRow>, StoreError> {
        let all = filter.possible_ids(None);
        let behind = Uuid::from_u128(before.as_u128().saturating_add(1));
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let mut snapshot = self.pool.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
        matching::prepare(&mut snapshot, self.statement_timeout).await?;
        let ids = matching::oldest_ids(&mut snapshot, filter, &(all.start.max(behind)..all.end), limit).await?;
        let mut rows = Vec::with_capacity(ids.len());
        for ids in ids.rchunks(ROWS_AT_ONCE) {
            rows.extend(shown(&mut snapshot, ids).await?);
        }
        snapshot.commit().await?;
        Ok(rows)
    }

    /// The ids of up to `limit` deliveries that match and are among `ids`, the newest first.
    pub(super) async fn ids_within(
        &self,
        filter: &HistoryFilter,
        ids: &Range<Uuid>,
        limit: usize,
        statement_timeout: Duration,
    ) -> Result<Vec<Uuid>, StoreError> {
        let mut transaction = self.pool.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
        matching::prepare(&mut transaction, statement_timeout).await?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let found = matching::ids(&mut transaction, filter, ids, limit).await?;
        transaction.commit().await?;
        Ok(found)
    }

    /// Counts the deliveries that match, by state, in the order of a delivery's life. In each state, at most `most`
    /// plus one are counted; the extra one shows that there are more.
    pub async fn count_history(&self, filter: &HistoryFilter, most: usize) -> Result<Vec<StateCount>, StoreError> {
        let limit = i64::try_from(most).unwrap_or(i64::MAX).saturating_add(1);
        let possible = filter.possible_states();
        let mut snapshot = self.pool.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
        matching::prepare(&mut snapshot, self.statement_timeout).await?;
        let mut counts = Vec::new();
        for state in State::ALL {
            if possible.as_ref().is_some_and(|states| !states.contains(&state)) {
                continue;
            }
            let count = matching::count(&mut snapshot, filter, state, limit).await?;
            if count > 0 {
                counts.push(StateCount { state, count });
            }
        }
        snapshot.commit().await?;
        Ok(counts)
    }

    /// Returns one delivery; `None` if there is none with that id.
    pub async fn delivery(&self, delivery_id: Uuid) -> Result<Option<HistoryRow>, StoreError> {
        let filter = HistoryFilter { delivery_ids: Some(vec![delivery_id]), ..HistoryFilter::default() };
        Ok(self.history(&filter, 1).await?.pop())
    }

    /// Returns the payload of a call; `None` if it has been dropped.
    ///
    /// # Errors
    /// Returns the database's error, also if the user may only read history, as an auditor may.
    pub async fn payload(&self, call_id: Uuid) -> Result<Option<String>, StoreError> {
        let call = sqlx::query_scalar!(r#"SELECT call::text AS "call!" FROM postcall.outbox WHERE id = $1"#, call_id)
            .fetch_optional(&self.pool)
            .await?;
        Ok(call)
    }

    /// The size of a call's payload in bytes; `None` if it has been dropped. The rights of an auditor suffice.
    pub async fn payload_bytes(&self, call_id: Uuid) -> Result<Option<i64>, StoreError> {
        // A call from before its size was kept has none: it counts as 0.
        let bytes = sqlx::query_scalar!(
            r#"SELECT coalesce(call_bytes, 0)::bigint AS "bytes!" FROM postcall.outbox WHERE id = $1"#,
            call_id
        )
        .fetch_optional(&self.pool)
        .await?;
        Ok(bytes)
    }

    /// The replay of a delivery, and the replay of that one, and so on: at most `limit`, the earliest first.
    pub async fn replays_of(&self, delivery_id: Uuid, limit: usize) -> Result<Vec<ReplayLink>, StoreError> {
        // A delivery is replayed once, so the replays of a message are a chain. Each step is one look-up in a unique index.
        let rows = sqlx::query_as!(
            ReplayLink,
            r#"
            WITH RECURSIVE chain AS (
                SELECT delivery_id, replay_of, replayed_by, reason, created_at, 1::bigint AS step
                FROM postcall.replay WHERE replay_of = $1
                UNION ALL
                SELECT later.delivery_id, later.replay_of, later.replayed_by, later.reason, later.created_at, chain.step + 1
                FROM chain JOIN postcall.replay AS later ON later.replay_of = chain.delivery_id
                WHERE chain.step < $2
            )
            SELECT delivery_id AS "delivery_id!", replayed_by AS "replayed_by!", reason AS "reason!", created_at AS "created_at!"
            FROM chain ORDER BY step
            "#,
            delivery_id,
            i64::try_from(limit).unwrap_or(i64::MAX),
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(rows)
    }
}

/// Returns the deliveries with these ids as the view shows them, the newest first.
async fn shown(snapshot: &mut PgConnection, ids: &[Uuid]) -> Result<Vec<HistoryRow>, sqlx::Error> {
    // Looks up the primary key in each arm of the view. A row whose action cannot be found is still returned.
    let mut rows = sqlx::query_as!(
        HistoryRow,
        r#"
        SELECT delivery_id AS "delivery_id!", call_id AS "call_id!", call_sid, agent AS "agent!",
               coalesce(action, '?') AS "action!", action_version, state AS "state!: State",
               error_kind AS "error_kind: ErrorKind", error_detail, method, url, response_code, latency_ms,
               queue_ms AS "queue_ms!", created_at AS "created_at!", claimed_at,
               finished_at, dispatcher, replay_of, replayed_by, replay_reason, message_id AS "message_id!", dns_ms,
               connected_ms, head_ms, body_end AS "body_end: BodyEnd", request_bytes, encode(request_sha256, 'hex') AS request_sha256,
               response_bytes, encode(response_sha256, 'hex') AS response_sha256, unresolved,
               recorded_state AS "recorded_state: State", resolved_at, resolved_by, resolution_reason,
               recorded_error_kind AS "recorded_error_kind: ErrorKind", resolved_from AS "resolved_from: ResolutionSource",
               replayed_as, encode(request_head_hmac, 'hex') AS request_head_hmac, recorded_error_detail
        FROM postcall.delivery_history
        WHERE delivery_id = ANY ($1)
        ORDER BY delivery_id DESC
        "#,
        ids,
    )
    .fetch_all(snapshot)
    .await
    .map_err(|error| texts::in_columns(error, &HistoryRow::COLUMNS))?;
    // Releases up to 0.3.0 recorded whole URLs, and history is never changed.
    rows.iter_mut().for_each(|row| row.url = row.url.take().map(|url| mask::recorded_url(&url)));
    Ok(rows)
}
