//! Actions without their templates, for those who may read what an auditor reads: who published what when and why, and where it goes.

use serde::Serialize;

use super::actions::{Changes, changes};
use super::{Store, StoreError};
use crate::domain::action::Method;

/// The newest version of an action without its templates.
#[derive(Clone, Debug, Serialize)]
pub struct ActionOutline {
    /// The agent whose calls it is sent for.
    pub agent: String,
    /// Its name among the agent's actions.
    pub name: String,
    /// Whether it is sent at all.
    pub enabled: bool,
    /// The newest version, which is the one sent.
    pub version: i32,
    /// The HTTP method.
    pub method: Method,
    /// Scheme, host and port of its URL as they are written; `None` if it has no such.
    pub origin: Option<String>,
    /// Deadline of the whole request, in milliseconds.
    pub timeout: i32,
    /// What history knows the version's templates by, in hexadecimal digits.
    pub digest: Option<String>,
    /// Who published that version, and who switched the action last.
    #[serde(flatten)]
    pub changes: Changes,
}

impl Store {
    /// Whether the user may read templates.
    pub async fn may_read_templates(&self) -> Result<bool, StoreError> {
        // Asks the catalog only.
        let may = sqlx::query_scalar!(
            r#"SELECT has_column_privilege('postcall.action_version', 'body', 'SELECT') AS "may!""#
        );
        Ok(may.fetch_one(&self.pool).await?)
    }

    /// Returns actions without their templates, ordered by agent and name. `None` means those of any agent.
    pub async fn action_outlines(&self, agent: Option<&str>) -> Result<Vec<ActionOutline>, StoreError> {
        // The version, its origin and the last change of `enabled` are looked up by key, once for each requested action. The columns are
        // those that an auditor may read.
        let rows = sqlx::query!(
            r#"
            SELECT action.agent, action.name, action.enabled, action.version, newest.method AS "method: Method",
                   (SELECT target FROM postcall.action_target WHERE action_target.action_id = action.action_id) AS origin,
                   newest.timeout_ms AS timeout,
                   encode(postcall.version_digest(action.action_id, action.version), 'hex') AS digest,
                   newest.published_at, newest.published_by, newest.db_user AS published_db_user,
                   newest.reason AS published_reason, switch.switched_at AS "switched_at?", switch.switched_by,
                   switch.db_user AS switched_db_user, switch.reason AS switched_reason
            FROM postcall.action
            JOIN postcall.action_version AS newest
                ON newest.action_id = action.action_id AND newest.version = action.version
            LEFT JOIN LATERAL (
                SELECT switched_at, switched_by, db_user, reason FROM postcall.action_switch
                WHERE action_switch.action_id = action.action_id ORDER BY switch_id DESC LIMIT 1
            ) AS switch ON true
            WHERE $1::text IS NULL OR action.agent = $1
            ORDER BY action.agent, action.name
            "#,
            agent,
        )
        .fetch_all(&self.pool)
        .await?;
        let outlines = rows.into_iter().map(|row| ActionOutline {
            agent: row.agent,
            name: row.name,
            enabled: row.enabled,
            version: row.version,
            method: row.method,
            origin: row.origin,
            timeout: row.timeout,
            digest: row.digest,
            changes: changes!(row),
        });
        Ok(outlines.collect())
    }
}
