//! What a person found out about an `unknown` delivery. It stands beside history, as late evidence does, and the claim's
//! own evidence outranks it.

use uuid::Uuid;

use super::{Store, StoreError};
use crate::domain::delivery::Finding;

/// What recording a finding came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// It is recorded.
    Resolved,
    /// The delivery is not in doubt.
    NotUnknown {
        /// Its state.
        state: String,
    },
    /// It was unknown, and somebody was first to say what it had been: the claim itself or another person.
    AlreadyResolved,
    /// There is none of that id.
    NoSuchDelivery,
}

impl Store {
    /// Records what a person found out about a delivery that history holds as `unknown` and nobody has resolved.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn resolve(
        &self,
        delivery_id: Uuid,
        finding: Finding,
        by: &str,
        reason: &str,
    ) -> Result<Resolution, StoreError> {
        // - One statement: why nothing was recorded is answered by the snapshot in which nothing could be.
        // - Of two people at the same time the primary key lets one through; to the other the delivery still looks
        //   unknown in this snapshot, which is why recorded_state tells the case.
        let row = sqlx::query!(
            r#"
            WITH resolved AS (
                INSERT INTO postcall.resolution (delivery_id, source, state, resolved_by, reason)
                SELECT delivery_id, 'person', $2, $3, $4
                FROM postcall.delivery
                WHERE delivery_id = $1 AND state = 'unknown'
                  AND NOT EXISTS (SELECT FROM postcall.resolution WHERE resolution.delivery_id = $1)
                ON CONFLICT DO NOTHING
                RETURNING delivery_id
            )
            SELECT EXISTS (SELECT FROM resolved) AS "resolved!", history.state, history.recorded_state
            FROM (SELECT) AS always
            LEFT JOIN (SELECT state, recorded_state FROM postcall.delivery_history WHERE delivery_id = $1) AS history
                   ON true
            "#,
            delivery_id,
            finding.state().as_str(),
            by,
            reason,
        )
        .fetch_one(&self.pool)
        .await?;
        Ok(match (row.resolved, row.state, row.recorded_state.as_deref()) {
            (true, ..) => Resolution::Resolved,
            (false, Some(_), Some("unknown")) => Resolution::AlreadyResolved,
            (false, Some(state), _) => Resolution::NotUnknown { state },
            (false, None, _) => Resolution::NoSuchDelivery,
        })
    }
}
