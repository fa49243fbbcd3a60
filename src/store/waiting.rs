//! What stands around one action's waiting deliveries: what can be known of why one of them waits.

use uuid::Uuid;

use super::status::{Count, DispatcherStatus, dispatchers};
use super::{Store, StoreError};

/// The largest number of deliveries that are counted before another one.
const MOST_AHEAD: i64 = 10_000;

/// What stands around a waiting delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Surroundings {
    /// The action.
    pub action_id: i64,
    /// Whether the action is enabled.
    pub enabled: bool,
    /// Scheme, host and port of the action's newest URL; `None` if it names none.
    pub target: Option<String>,
    /// How many requests of its agent are in flight.
    pub agent_in_flight: i64,
    /// How many deliveries of the same action wait before it.
    pub ahead: Count,
}

impl Store {
    /// Returns what stands around the waiting delivery `id` of an action; `None` if there is no such action.
    pub async fn surroundings(&self, agent: &str, action: &str, id: Uuid) -> Result<Option<Surroundings>, StoreError> {
        // One row of the action by its names. What is in flight is always little; what waits before the delivery is
        // counted in the index of the action's lane, up to a limit.
        let row = sqlx::query!(
            r#"
            SELECT action.action_id, action.enabled,
                   (SELECT target FROM postcall.action_target WHERE action_target.action_id = action.action_id) AS target,
                   (SELECT count(*) FROM postcall.sending
                    JOIN postcall.action AS own ON own.action_id = sending.action_id
                    WHERE own.agent = $1) AS "agent_in_flight!",
                   (SELECT count(*) FROM (SELECT FROM postcall.waiting
                                          WHERE waiting.action_id = action.action_id AND waiting.delivery_id < $3
                                          ORDER BY waiting.action_id, waiting.delivery_id LIMIT $4) AS before) AS "ahead!"
            FROM postcall.action WHERE action.agent = $1 AND action.name = $2
            "#,
            agent,
            action,
            id,
            MOST_AHEAD + 1,
        )
        .fetch_optional(&self.pool)
        .await?;
        Ok(row.map(|row| Surroundings {
            action_id: row.action_id,
            enabled: row.enabled,
            target: row.target,
            agent_in_flight: row.agent_in_flight,
            ahead: Count::up_to(MOST_AHEAD, row.ahead),
        }))
    }

    /// Returns the dispatchers that run, and those that ended within the last 60 minutes, as [`Store::status`] does.
    pub async fn dispatchers(&self) -> Result<Vec<DispatcherStatus>, StoreError> {
        let mut connection = self.pool.acquire().await?;
        Ok(dispatchers(&mut connection).await?)
    }
}
