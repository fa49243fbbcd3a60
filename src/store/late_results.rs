//! Late evidence: what the holder of a claim learns about a delivery that was given up as `unknown` in the meantime.
//! History is not changed; the evidence stands beside it, and the view shows what it says.

use std::borrow::Cow;

use uuid::Uuid;

use super::StoreError;
use super::result_rows::{ResultRows, insert_results};
use super::session::Session;
use crate::domain::action::Method;
use crate::domain::claim::{ClaimToken, Finished};
use crate::domain::delivery::{BodyEnd, State};
use crate::domain::error_kind::ErrorKind;

/// The source of the evidence, as it is recorded.
const BY: &str = "the dispatcher that sent it";
/// The recorded reason for a result that came late.
const LATE: &str = "its result came after it had been given up";
/// The recorded reason for the failure of a delivery that was never sent.
const NEVER_SENT: &str = "it was given up before a byte of it was sent";
/// How many of the newest unknown deliveries are searched for those of one claim.
const UNKNOWN_LOOKED_AT: i64 = 10_000;

impl Session {
    /// Arrow `evidence`. Records results that came too late for [`Session::finish`], if they are certain: an answer, or a failure.
    /// Returns how many were recorded now. The call may be repeated: each claim gives evidence once.
    pub async fn record_evidence(&mut self, late: &[Finished]) -> Result<u64, StoreError> {
        let rows = ResultRows::from(late);
        // - The claim token fences the write: a delivery that was claimed again or replayed does not match.
        // - Only what is unknown can be resolved, and only by something more certain.
        // - Each row is looked up by key. LIMIT keeps the planner from a join, for which it may read a whole partition.
        let statement = insert_results!(
            query,
            rows,
            "
            WITH done AS (",
            ")
            INSERT INTO postcall.resolution (delivery_id, source, resolved_by, reason, ",
            ")
            SELECT delivery_id, 'claim', $1, $2, ",
            "
            FROM done
            JOIN LATERAL (SELECT delivery_id, state AS recorded_state FROM postcall.delivery
                          WHERE delivery.delivery_id = held_delivery AND delivery.claim = held_claim LIMIT 1)
                AS delivery ON recorded_state = 'unknown'
            WHERE state IN ('delivered', 'rejected', 'failed')
            ON CONFLICT DO NOTHING",
            BY,
            LATE,
        );
        Ok(self.execute(statement).await?.rows_affected())
    }

    /// Arrow `unsent`. Records that deliveries which were given up in the meantime were never sent: they certainly failed. Returns how
    /// many were recorded now.
    pub async fn record_unsent(&mut self, tokens: &[&ClaimToken]) -> Result<u64, StoreError> {
        let (deliveries, claims): (Vec<Uuid>, Vec<Uuid>) =
            tokens.iter().map(|token| (token.delivery_id(), token.claim())).unzip();
        // The claim token fences the write, as above.
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

    /// Arrow `unsent_claim`. As [`Session::record_unsent`], for a whole claim whose answer was lost, so that nobody knows which deliveries it
    /// took. Looks at the [`UNKNOWN_LOOKED_AT`] newest unknown deliveries.
    pub(super) async fn record_claim_unsent(&mut self, claim: Uuid) -> Result<u64, StoreError> {
        // History has no index by claim, because every delivery would pay for it. What was given up just now is among
        // the newest unknown deliveries, for which there is an index, unless the queue was very long. The search is
        // bounded.
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
