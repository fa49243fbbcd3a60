//! Late evidence: what the holder of a claim learns about a delivery that was given up as `unknown` in the meantime.
//! History is not changed; the evidence stands beside it, and the view shows what it says.

use std::borrow::Cow;

use uuid::Uuid;

use super::StoreError;
use super::result_rows::ResultRows;
use super::session::Session;
use crate::domain::action::Method;
use crate::domain::claim::{ClaimToken, Finished};
use crate::domain::delivery::{BodyEnd, State};
use crate::domain::error_kind::ErrorKind;

/// Whose evidence it is.
const BY: &str = "the dispatcher that sent it";
/// Why it is known that a delivery failed which was never sent.
const NEVER_SENT: &str = "it was given up before a byte of it was sent";
/// Among how many unknown deliveries those of one claim are looked for.
const UNKNOWN_LOOKED_AT: i64 = 10_000;

impl Session {
    /// Records results that came too late for [`Session::finish`], as far as they are certain: an answer, or a failure.
    /// Returns how many were news. May be repeated: each claim gives evidence once.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn record_evidence(&mut self, late: &[Finished]) -> Result<u64, StoreError> {
        let columns = ResultRows::from(late);
        // - The claim is the fence: a delivery that has been replayed or claimed anew has nothing to do with it.
        // - Only what is unknown can be resolved, and only by something more certain.
        // - Each is looked up by the key: LIMIT keeps the planner from a join, for which it may read a whole partition.
        let statement = sqlx::query!(
            r#"
            INSERT INTO postcall.resolution
                (delivery_id, source, resolved_by, reason, state, error_kind, error_detail, method, url, request_bytes,
                 request_sha256, unresolved, response_code, response_bytes, response_sha256, body_end, latency_ms,
                 dns_ms, connected_ms, head_ms)
            SELECT delivery.delivery_id, 'claim', $1, 'its result came after it had been given up', done.state,
                   done.error_kind, done.error_detail, done.method, done.url, done.request_bytes, done.request_sha256,
                   string_to_array(done.unresolved, E'\n'), done.response_code, done.response_bytes,
                   done.response_sha256, done.body_end, done.latency_ms, done.dns_ms, done.connected_ms, done.head_ms
            FROM unnest($2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::int[],
                        $10::bytea[], $11::text[], $12::int2[], $13::int[], $14::bytea[], $15::text[], $16::int[],
                        $17::int[], $18::int[], $19::int[])
                AS done (delivery_id, claim, state, error_kind, error_detail, method, url, request_bytes, request_sha256,
                         unresolved, response_code, response_bytes, response_sha256, body_end, latency_ms, dns_ms,
                         connected_ms, head_ms)
            JOIN LATERAL (SELECT delivery_id, state FROM postcall.delivery
                          WHERE delivery.delivery_id = done.delivery_id AND delivery.claim = done.claim LIMIT 1)
                AS delivery ON delivery.state = 'unknown'
            WHERE done.state IN ('delivered', 'rejected', 'failed')
            ON CONFLICT DO NOTHING
            "#,
            BY,
            &columns.delivery_id,
            &columns.claim,
            &columns.state as &[State],
            &columns.error_kind as &[Option<ErrorKind>],
            &columns.error_detail as &[Option<Cow<'_, str>>],
            &columns.method as &[Option<Method>],
            &columns.url as &[Option<Cow<'_, str>>],
            &columns.request_bytes as &[Option<i32>],
            &columns.request_sha256 as &[Option<&[u8]>],
            &columns.unresolved as &[Option<String>],
            &columns.response_code as &[Option<i16>],
            &columns.response_bytes as &[Option<i32>],
            &columns.response_sha256 as &[Option<&[u8]>],
            &columns.body_end as &[Option<BodyEnd>],
            &columns.latency_ms as &[Option<i32>],
            &columns.dns_ms as &[Option<i32>],
            &columns.connected_ms as &[Option<i32>],
            &columns.head_ms as &[Option<i32>],
        );
        Ok(self.execute(statement).await?.rows_affected())
    }

    /// Records that deliveries which were given up in the meantime were never sent: they failed, certainly. Returns how
    /// many were news.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn record_unsent(&mut self, tokens: &[&ClaimToken]) -> Result<u64, StoreError> {
        let (deliveries, claims): (Vec<Uuid>, Vec<Uuid>) =
            tokens.iter().map(|token| (token.delivery_id(), token.claim())).unzip();
        // Fenced as above.
        let statement = sqlx::query!(
            r#"
            INSERT INTO postcall.resolution (delivery_id, source, resolved_by, reason, state, error_detail)
            SELECT delivery.delivery_id, 'claim', $1, $2, 'failed', $2
            FROM unnest($3::uuid[], $4::uuid[]) AS held (delivery_id, claim)
            JOIN LATERAL (SELECT delivery_id, state FROM postcall.delivery
                          WHERE delivery.delivery_id = held.delivery_id AND delivery.claim = held.claim LIMIT 1)
                AS delivery ON delivery.state = 'unknown'
            ON CONFLICT DO NOTHING
            "#,
            BY,
            NEVER_SENT,
            &deliveries,
            &claims,
        );
        Ok(self.execute(statement).await?.rows_affected())
    }

    /// As [`Session::record_unsent`], for a whole claim whose answer was lost, so that nobody knows which deliveries it
    /// took. Looks at the [`UNKNOWN_LOOKED_AT`] newest unknown deliveries.
    ///
    /// # Errors
    /// Only those of the database.
    pub(super) async fn record_claim_unsent(&mut self, claim: Uuid) -> Result<u64, StoreError> {
        // History has no index by claim, which would cost every delivery. What was given up just now is among the newest
        // of what is unknown, for which there is an index, unless the queue was very long; the look is bounded.
        let statement = sqlx::query!(
            r#"
            INSERT INTO postcall.resolution (delivery_id, source, resolved_by, reason, state, error_detail)
            SELECT delivery_id, 'claim', $1, $2, 'failed', $2
            FROM (SELECT delivery_id, claim, error_kind FROM postcall.delivery
                  WHERE state = 'unknown' ORDER BY delivery_id DESC LIMIT $3) AS newest
            WHERE claim = $4 AND error_kind = 'dispatcher_lost'
            ON CONFLICT DO NOTHING
            "#,
            BY,
            NEVER_SENT,
            UNKNOWN_LOOKED_AT,
            claim,
        );
        Ok(self.execute(statement).await?.rows_affected())
    }
}
