//! Records what a person found out about an `unknown` delivery. The finding is stored beside history, as late evidence
//! is. The claim's own evidence has priority over it.

use uuid::Uuid;

use super::{Store, StoreError, texts};
use crate::domain::delivery::{Finding, State};

/// The result of recording a finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// The finding is recorded.
    Resolved,
    /// The delivery is not `unknown`.
    NotUnknown {
        /// Its state.
        state: State,
    },
    /// The delivery was unknown, and has already been resolved, by the claim's own evidence or by another person.
    AlreadyResolved,
    /// The delivery is unknown, but has already been replayed. The replay tells more about the message.
    Replayed {
        /// The replay's delivery.
        replay: Uuid,
    },
    /// The delivery became unknown during this call. The finding can be recorded by a second call.
    JustEnded,
    /// There is no delivery with this id.
    NoSuchDelivery,
}

impl Store {
    /// Arrow `resolve`. Records what a person found out about a delivery that history holds as `unknown` and nobody has resolved or
    /// replayed.
    pub async fn resolve(
        &self,
        delivery_id: Uuid,
        finding: Finding,
        by: &str,
        reason: &str,
    ) -> Result<Resolution, StoreError> {
        // - The trigger admit_finding decides: it waits for transactions that resolve or replay the same delivery at
        //   the same time, and then looks at what they have committed. If there are two findings, the primary key
        //   accepts one.
        // - The conditions in this statement avoid a lock on history where the answer is already clear.
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
        // A separate statement, because the snapshot of the first one is older than the transaction for which it may
        // have waited. What prevents a finding does not go away: outcomes, replays and resolutions are never taken
        // back.
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
        Ok(not_resolved(row.state, row.recorded_state, row.resolved, row.replay))
    }
}

/// Why a delivery with this state, and this one in history, could not be resolved.
fn not_resolved(state: State, recorded: Option<State>, is_resolved: bool, replay: Option<Uuid>) -> Resolution {
    match (recorded, is_resolved, replay) {
        (Some(State::Unknown), true, _) => Resolution::AlreadyResolved,
        (Some(State::Unknown), false, Some(replay)) => Resolution::Replayed { replay },
        (Some(State::Unknown), false, None) => Resolution::JustEnded,
        _ => Resolution::NotUnknown { state },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn why_nothing_was_resolved_is_said_of_what_has_happened_to_the_delivery() {
        let (unknown, replay) = (Some(State::Unknown), Uuid::from_u128(7));
        let of = |recorded, is_resolved, replay| not_resolved(State::Rejected, recorded, is_resolved, replay);
        let not_unknown = Resolution::NotUnknown { state: State::Rejected };
        assert_eq!(of(unknown, true, None), Resolution::AlreadyResolved);
        assert_eq!(of(unknown, true, Some(replay)), Resolution::AlreadyResolved);
        assert_eq!(of(unknown, false, Some(replay)), Resolution::Replayed { replay });
        // It has become unknown since the first statement looked.
        assert_eq!(of(unknown, false, None), Resolution::JustEnded);
        assert_eq!(of(Some(State::Rejected), false, None), not_unknown);
        assert_eq!(of(None, false, None), not_unknown);
    }
}
