//! Tests of actions: recorded before their request begins, and with what became of it. They stand in tables of their own, which
//! nothing of a dispatcher reads.

use std::borrow::Cow;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;
use uuid::Uuid;

use super::pauses::PauseRecord;
use super::{Store, StoreError};
use crate::domain::action::Method;
use crate::domain::action_test::{CallSource, TestErrorKind, TestResult, TestState};
use crate::domain::body_digest::BodyDigest;
use crate::domain::claim::SentRequest;
use crate::domain::delivery::{Answer, BodyEnd, Ending, Outcome};
use crate::domain::host::{Host, HostPattern};
use crate::domain::kept;

/// How many tests of one agent may be in flight; the schema refuses more (`postcall.admit_action_test`).
pub const MOST_IN_FLIGHT: u32 = 2;
/// How many tests of one agent may begin within a minute; the schema refuses more.
pub const MOST_A_MINUTE: u32 = 10;
/// How long after it was recorded a test's request may still begin. The schema gives a test up later than that, by the test's
/// timeout and ten seconds more.
pub const LONGEST_START: Duration = Duration::from_secs(10);
/// The largest number of tests that one list has.
pub const MOST_TESTS: i64 = 1_000;

/// What is tested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tested {
    /// A published version.
    Version(i32),
    /// A file with this digest, which need not be published.
    File(BodyDigest),
}

/// A test that is about to begin.
#[derive(Clone, Copy, Debug)]
pub struct TestOrder<'a> {
    /// The agent whose action it is.
    pub agent: &'a str,
    /// The action's name, or the one that the file would have.
    pub action: &'a str,
    /// What is tested.
    pub tested: Tested,
    /// Where the call comes from.
    pub source: CallSource,
    /// The past call, if it is one.
    pub call_id: Option<Uuid>,
    /// The deadline of the request.
    pub timeout_ms: u32,
    /// The request; `None` if none could be rendered.
    pub sent: Option<&'a SentRequest>,
    /// Who tests, in that person's own words.
    pub by: &'a str,
    /// Why.
    pub reason: &'a str,
}

/// Whether a test may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begun {
    /// It is recorded. Its request may be sent once, with this id as `webhook-id`.
    Test(Uuid),
    /// As many tests of the agent as may be are in flight.
    TooManyInFlight,
    /// As many tests of the agent as may be began within the last minute.
    TooManyAMinute,
}

/// One row of the view `postcall.action_test_history`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[allow(missing_docs, reason = "docs/auditing.md has the one description")]
pub struct TestRecord {
    pub test_id: Uuid,
    pub agent: String,
    pub action: String,
    pub action_version: Option<i32>,
    /// Hexadecimal.
    pub file_sha256: Option<String>,
    pub call_source: CallSource,
    pub call_id: Option<Uuid>,
    pub state: TestState,
    pub error_kind: Option<TestErrorKind>,
    pub error_detail: Option<String>,
    pub method: Option<String>,
    pub url: Option<String>,
    pub timeout_ms: i32,
    pub request_bytes: Option<i32>,
    /// Hexadecimal.
    pub request_sha256: Option<String>,
    pub unresolved: Option<Vec<String>>,
    pub response_code: Option<i16>,
    pub response_bytes: Option<i32>,
    /// Hexadecimal.
    pub response_sha256: Option<String>,
    pub body_end: Option<BodyEnd>,
    pub latency_ms: Option<i32>,
    pub dns_ms: Option<i32>,
    pub connected_ms: Option<i32>,
    pub head_ms: Option<i32>,
    pub started_at: DateTime<Utc>,
    pub given_up_at: DateTime<Utc>,
    pub recorded_at: Option<DateTime<Utc>>,
    pub tested_by: String,
    pub reason: String,
    pub db_user: String,
    /// Hexadecimal.
    pub request_head_hmac: Option<String>,
}

/// A statement that returns tests: their columns stand here only.
macro_rules! tests_from {
    ($from:literal, $($value:expr),+ $(,)?) => {
        sqlx::query_as!(
            TestRecord,
            r#"
            SELECT test_id AS "test_id!", agent AS "agent!", action AS "action!", action_version,
                   encode(file_sha256, 'hex') AS file_sha256, call_source AS "call_source!: CallSource", call_id,
                   state AS "state!: TestState", error_kind AS "error_kind: TestErrorKind", error_detail, method, url,
                   timeout_ms AS "timeout_ms!", request_bytes, encode(request_sha256, 'hex') AS request_sha256, unresolved,
                   response_code, response_bytes, encode(response_sha256, 'hex') AS response_sha256,
                   body_end AS "body_end: BodyEnd", latency_ms, dns_ms, connected_ms, head_ms, started_at AS "started_at!",
                   given_up_at AS "given_up_at!", recorded_at, tested_by AS "tested_by!", reason AS "reason!",
                   db_user AS "db_user!", encode(request_head_hmac, 'hex') AS request_head_hmac
            "# + $from,
            $($value),+
        )
    };
}

impl Store {
    /// Records that a test begins, durably. Nothing was sent before, and the request may be sent once afterwards: within
    /// [`LONGEST_START`] of the moment at which this was called.
    ///
    /// # Errors
    /// The database's. The test may have been recorded all the same; it is then shown as unknown, and must not be sent.
    pub async fn begin_test(&self, order: &TestOrder<'_>) -> Result<Begun, StoreError> {
        let (version, file) = match &order.tested {
            Tested::Version(version) => (Some(*version), None),
            Tested::File(digest) => (None, Some(digest.as_slice())),
        };
        let sent = order.sent;
        let unresolved = sent.and_then(|sent| kept::unresolved(&sent.unresolved));
        // One row; the trigger admit_action_test gives it id, times and user, and counts what there is already. The texts are cut
        // to the limits of history before.
        let begun = sqlx::query_scalar!(
            r#"
            INSERT INTO postcall.action_test
                (agent, action, action_version, file_sha256, call_source, call_id, timeout_ms, method, url, request_bytes,
                 request_sha256, unresolved, tested_by, reason, request_head_hmac)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, string_to_array($12, E'\n'), $13, $14, $15)
            RETURNING test_id
            "#,
            order.agent,
            order.action,
            version,
            file,
            order.source as CallSource,
            order.call_id,
            i32::try_from(order.timeout_ms).unwrap_or(i32::MAX),
            sent.map(|sent| sent.method) as Option<Method>,
            sent.map(|sent| kept::url(&sent.url)) as Option<Cow<'_, str>>,
            sent.and_then(|sent| sent.body_bytes).map(|bytes| i32::try_from(bytes).unwrap_or(i32::MAX)),
            sent.and_then(|sent| sent.body_digest.as_ref()).map(|digest| digest.as_slice()),
            unresolved,
            order.by,
            order.reason,
            sent.and_then(|sent| sent.head_digest.as_ref()).map(|digest| digest.as_slice()),
        )
        .fetch_one(&self.pool)
        .await;
        match begun {
            Ok(test_id) => Ok(Begun::Test(test_id)),
            Err(error) => match error.as_database_error().and_then(|reported| reported.constraint()) {
                Some("tests_in_flight_are_bounded") => Ok(Begun::TooManyInFlight),
                Some("tests_a_minute_are_bounded") => Ok(Begun::TooManyAMinute),
                _ => Err(error.into()),
            },
        }
    }

    /// Records what became of a test, durably. The call may be repeated after an error: a result that is there stays.
    pub async fn record_test(&self, test_id: Uuid, result: &TestResult) -> Result<(), StoreError> {
        let answer: Option<&Answer> = match &result.ending {
            Ending::Final(Outcome::Answered(answer)) => Some(answer),
            _ => None,
        };
        // What was not sent has no times.
        let timing = result.record.timing.filter(|_| result.state() != TestState::Unsent);
        // One row, by its key. ON CONFLICT: the first result counts, and a repetition changes nothing.
        sqlx::query!(
            r#"
            INSERT INTO postcall.action_test_result
                (test_id, state, error_kind, error_detail, response_code, response_bytes, response_sha256, body_end,
                 latency_ms, dns_ms, connected_ms, head_ms)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
            ON CONFLICT DO NOTHING
            "#,
            test_id,
            result.state() as TestState,
            result.error_kind() as Option<TestErrorKind>,
            result.error_detail().map(kept::detail) as Option<Cow<'_, str>>,
            answer.map(|answer| i16::try_from(answer.response_code).unwrap_or(i16::MAX)),
            answer.map(|answer| i32::try_from(answer.response_bytes).unwrap_or(i32::MAX)),
            answer.map(|answer| answer.response_digest.as_slice()),
            answer.map(|answer| answer.body_end) as Option<BodyEnd>,
            timing.map(|timing| millis(timing.latency)),
            timing.and_then(|timing| timing.dns).map(millis),
            timing.and_then(|timing| timing.connected).map(millis),
            timing.and_then(|timing| timing.head).map(millis),
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Returns up to `limit` tests of an agent, of one action or of all, the newest first; those before the test `before`, or the
    /// newest ones. At most [`MOST_TESTS`] are returned.
    pub async fn tests(
        &self,
        agent: &str,
        action: Option<&str>,
        before: Option<Uuid>,
        limit: i64,
    ) -> Result<Vec<TestRecord>, StoreError> {
        // By the index on agent and id, backwards, with one look-up by key for each result. Of one action among others, no more
        // rows of the agent are read than a list has at most, so the cost has a bound.
        let tests = tests_from!(
            r#"
            FROM (SELECT * FROM postcall.action_test_history
                  WHERE agent = $1 AND test_id < coalesce($3, 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid)
                  ORDER BY test_id DESC LIMIT $5) AS newest
            WHERE $2::text IS NULL OR action = $2
            ORDER BY test_id DESC LIMIT $4
            "#,
            agent,
            action,
            before,
            limit.clamp(1, MOST_TESTS),
            MOST_TESTS,
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(tests)
    }

    /// Returns one test; `None` if there is none with that id.
    pub async fn test(&self, test_id: Uuid) -> Result<Option<TestRecord>, StoreError> {
        // By the primary key.
        let test = tests_from!(
            r#"
            FROM postcall.action_test_history WHERE test_id = $1
            "#,
            test_id,
        )
        .fetch_optional(&self.pool)
        .await?;
        Ok(test)
    }

    /// Whether something that a person paused keeps this action of this agent, which sends to this host, from being sent: the
    /// pauses, the newest first.
    pub async fn pauses_of(
        &self,
        agent: &str,
        action: &str,
        host: Option<&Host>,
    ) -> Result<Vec<PauseRecord>, StoreError> {
        // All that is paused at this moment: at most a thousand rows, whatever was paused before.
        let rows = sqlx::query!(
            r#"
            SELECT pause_id, agent, host,
                   action_id IS NOT NULL AND action_id = (SELECT action_id FROM postcall.action WHERE agent = $1 AND name = $2)
                       AS "is_action!"
            FROM postcall.active_pause ORDER BY pause_id DESC
            "#,
            agent,
            action,
        )
        .fetch_all(&self.pool)
        .await?;
        let covers_host = |paused: Option<&str>| {
            let pattern: Option<HostPattern> = paused.and_then(|paused| paused.parse().ok());
            pattern.zip(host).is_some_and(|(pattern, host)| pattern.matches(host))
        };
        let ids: Vec<i64> = rows
            .into_iter()
            .filter(|row| row.is_action || row.agent.as_deref() == Some(agent) || covers_host(row.host.as_deref()))
            .map(|row| row.pause_id)
            .collect();
        if ids.is_empty() { Ok(Vec::new()) } else { self.describe_pauses(&ids).await }
    }
}

fn millis(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_recorded_in_whole_milliseconds_however_long_it_was() {
        assert_eq!(millis(Duration::from_micros(1_999_999)), 1_999);
        assert_eq!(millis(Duration::MAX), i32::MAX);
    }
}
