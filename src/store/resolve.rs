//! What a person found out about an `unknown` delivery. It stands beside history, as late evidence does, and the claim's
//! own evidence outranks it.

use uuid::Uuid;

use super::{Store, StoreError, texts};
use crate::domain::delivery::{Finding, State};

/// What recording a finding came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// It is recorded.
    Resolved,
    /// The delivery is not in doubt.
    NotUnknown {
        /// Its state.
        state: State,
    },
    /// It was unknown, and somebody was first to say what it had been: the claim itself or another person.
    AlreadyResolved,
    /// It is unknown, and somebody was first to send its message again: of that, the replay tells more.
    Replayed {
        /// The new delivery.
        replay: Uuid,
    },
    /// Nothing stands against it any more: it became unknown while it was looked at.
    JustEnded,
    /// There is none of that id.
    NoSuchDelivery,
}

impl Store {
    /// Records what a person found out about a delivery that history holds as `unknown` and nobody has resolved or
    /// replayed.
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
        // - The trigger admit_finding has the last word: it waits for whoever resolves or replays the same delivery at the
        //   same time, and then looks at what they have committed. Of two findings the primary key lets one through.
        // - What this statement looks at itself spares history a lock where the answer is clear.
        let resolved = sqlx::query!(
            r#"
            INSERT INTO postcall.resolution (delivery_id, state, resolved_by, reason)
            SELECT delivery_id, $2, $3, $4
            FROM postcall.delivery
            WHERE delivery_id = $1 AND state = 'unknown'
              AND NOT EXISTS (SELECT FROM postcall.resolution WHERE resolution.delivery_id = $1)
            ON CONFLICT DO NOTHING
            "#,
            delivery_id,
            finding.state() as State,
            by,
            reason,
        )
        .execute(&self.pool)
        .await?;
        if resolved.rows_affected() == 1 { Ok(Resolution::Resolved) } else { self.why_not_resolved(delivery_id).await }
    }

    async fn why_not_resolved(&self, delivery_id: Uuid) -> Result<Resolution, StoreError> {
        // A statement of its own, because the first one's snapshot is older than what it may have waited for. What stands
        // against a finding stays: ends, replays and resolutions are never taken back.
        let row = sqlx::query!(
            r#"
            SELECT state AS "state!: State", recorded_state AS "recorded_state: State", replay.delivery_id AS "replay?",
                   EXISTS (SELECT FROM postcall.resolution WHERE resolution.delivery_id = $1) AS "resolved!"
            FROM postcall.delivery_history AS history
            LEFT JOIN postcall.replay ON replay.replay_of = history.delivery_id
            WHERE history.delivery_id = $1
            "#,
            delivery_id,
        )
        .fetch_optional(&self.pool)
        .await
        .map_err(|error| texts::in_columns(error, &["state", "recorded_state"]))?;
        let Some(row) = row else { return Ok(Resolution::NoSuchDelivery) };
        Ok(match (row.recorded_state, row.resolved, row.replay) {
            (Some(State::Unknown), true, _) => Resolution::AlreadyResolved,
            (Some(State::Unknown), false, Some(replay)) => Resolution::Replayed { replay },
            (Some(State::Unknown), false, None) => Resolution::JustEnded,
            _ => Resolution::NotUnknown { state: row.state },
        })
    }
}
