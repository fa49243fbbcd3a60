//! Who switched actions on and off last.

use chrono::{DateTime, Utc};

use super::{Store, StoreError};

/// How an action came to be enabled or disabled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastSwitch {
    /// The action's name among those of its agent.
    pub name: String,
    /// Whether it is enabled since then.
    pub enabled: bool,
    /// Since when.
    pub at: DateTime<Utc>,
    /// Who did it, in that person's own words; or the database user, if nobody said.
    pub by: Option<String>,
    /// Why.
    pub reason: Option<String>,
}

impl Store {
    /// The last switch of each of these actions of an agent, in no particular order.
    ///
    /// # Errors
    /// Returns the database's error, also if the user may not read switches, as viewers may not.
    pub async fn last_switches(&self, agent: &str, names: &[String]) -> Result<Vec<LastSwitch>, StoreError> {
        // For each name one row of the index on agent and name, and the end of the action's part of the index on action and switch:
        // however often it was switched.
        let switches = sqlx::query_as!(
            LastSwitch,
            r#"
            SELECT action.name, latest.enabled, latest.switched_at AS at, coalesce(latest.switched_by, latest.db_user) AS by,
                   latest.reason
            FROM unnest($2::text[]) AS wanted (name)
            JOIN postcall.action ON action.agent = $1 AND action.name = wanted.name
            CROSS JOIN LATERAL (
                SELECT enabled, switched_at, switched_by, db_user, reason
                FROM postcall.action_switch WHERE action_switch.action_id = action.action_id
                ORDER BY switch_id DESC LIMIT 1) AS latest
            "#,
            agent,
            names,
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(switches)
    }
}
