//! Actions and their immutable versions.

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::sealed_versions::{SealColumns, opened};
use super::session::Session;
use super::{Store, StoreError};
use crate::domain::action::ActionSpec;
use crate::domain::claim::VersionKey;
use crate::domain::sealed_version::{OperatorKeys, Unopened, VersionOwner};

/// An action with its current settings and one of its versions.
#[derive(Debug)]
pub struct ActionRecord {
    /// The agent whose calls it is sent for.
    pub agent: String,
    /// Its name among the agent's actions.
    pub name: String,
    /// Whether it is sent at all.
    pub enabled: bool,
    /// The newest version, which is the one sent.
    pub newest_version: i32,
    /// The version that `spec` describes.
    pub version: i32,
    /// The content of that version, if its templates can be seen.
    pub spec: Result<ActionSpec, Unopened>,
    /// Who published that version, and who switched the action last.
    pub changes: Changes,
}

/// Who published a version of an action, and who enabled or disabled the action last.
#[derive(Clone, Debug, Serialize)]
pub struct Changes {
    /// When the version was published.
    pub published_at: DateTime<Utc>,
    /// Who published it, in that person's own words.
    pub published_by: String,
    /// The database user who published it; `None` for a version from before this column existed.
    pub published_db_user: Option<String>,
    /// Why it was published; `None` if nobody said.
    pub published_reason: Option<String>,
    /// When the action was enabled or disabled last.
    pub switched_at: Option<DateTime<Utc>>,
    /// Who enabled or disabled it, in that person's own words; `None` if no name was given.
    pub switched_by: Option<String>,
    /// The database user who enabled or disabled it; `None` for a change from before this column existed.
    pub switched_db_user: Option<String>,
    /// Why it was enabled or disabled; `None` if nobody said.
    pub switched_reason: Option<String>,
}

/// The columns of a version that say what is sent.
pub(super) struct VersionRow {
    pub(super) method: String,
    pub(super) url: String,
    pub(super) timeout_ms: i32,
    pub(super) headers: Option<String>,
    pub(super) body: Option<String>,
    pub(super) client_certificate: Option<String>,
}

/// Converts a version's columns into a spec. The CHECK constraints allow only valid values; any other value is reported
/// as an error.
pub(super) fn read(row: VersionRow) -> Result<ActionSpec, StoreError> {
    let undecodable = |column: &str| StoreError::from(sqlx::Error::Decode(column.into()));
    Ok(ActionSpec {
        method: row.method.parse().map_err(|_| undecodable("action_version.method"))?,
        url: row.url,
        timeout_ms: u32::try_from(row.timeout_ms).map_err(|_| undecodable("action_version.timeout_ms"))?,
        headers: row.headers,
        body: row.body,
        client_certificate: row.client_certificate,
    })
}

/// Converts a row with the columns of a version, and of what encrypts it, into a spec, and opens it.
macro_rules! opened_row {
    ($row:expr, $owner:expr, $keys:expr) => {{
        let seals = SealColumns {
            key_id: $row.key_id,
            wrapped_key: $row.wrapped_key,
            sealed_value: $row.sealed_value,
            digest: $row.digest,
        };
        let stored = read(VersionRow {
            method: $row.method,
            url: $row.url,
            timeout_ms: $row.timeout_ms,
            headers: $row.headers,
            body: $row.body,
            client_certificate: $row.client_certificate,
        })?;
        opened($owner, stored, seals.sealed(), $keys)
    }};
}

/// The changes of a row that has their columns.
macro_rules! changes {
    ($row:expr) => {
        Changes {
            published_at: $row.published_at,
            published_by: $row.published_by,
            published_db_user: $row.published_db_user,
            published_reason: $row.published_reason,
            switched_at: $row.switched_at,
            switched_by: $row.switched_by,
            switched_db_user: $row.switched_db_user,
            switched_reason: $row.switched_reason,
        }
    };
}

impl Store {
    /// Returns actions, ordered by agent and name, each with the requested version or else its newest one. `None` for
    /// `agent` or `name` means any.
    pub async fn actions(
        &self,
        agent: Option<&str>,
        name: Option<&str>,
        version: Option<i32>,
    ) -> Result<Vec<ActionRecord>, StoreError> {
        // The last change of `enabled` is looked up by index, once for each requested action.
        let rows = sqlx::query!(
            r#"
            SELECT action_id, agent, name, action.enabled, action.version AS newest_version, action_version.version, method, url,
                   timeout_ms, headers, body, client_certificate, key_id, wrapped_key, sealed_value, digest, published_at, published_by,
                   action_version.db_user AS published_db_user, action_version.reason AS published_reason,
                   switch.switched_at AS "switched_at?", switch.switched_by, switch.db_user AS switched_db_user,
                   switch.reason AS switched_reason
            FROM postcall.action
            JOIN postcall.action_version USING (action_id)
            LEFT JOIN LATERAL (
                SELECT switched_at, switched_by, db_user, reason FROM postcall.action_switch
                WHERE action_switch.action_id = action.action_id ORDER BY switch_id DESC LIMIT 1
            ) AS switch ON true
            WHERE ($1::text IS NULL OR agent = $1)
              AND ($2::text IS NULL OR name = $2)
              AND action_version.version = coalesce($3, action.version)
            ORDER BY agent, name
            "#,
            agent,
            name,
            version,
        )
        .fetch_all(&self.pool)
        .await?;
        rows.into_iter()
            .map(|row| {
                let owner = VersionOwner { agent: &row.agent, action_id: row.action_id, version: row.version };
                let spec = opened_row!(row, owner, self.keys.as_deref());
                Ok(ActionRecord {
                    agent: row.agent,
                    name: row.name,
                    enabled: row.enabled,
                    newest_version: row.newest_version,
                    version: row.version,
                    spec,
                    changes: changes!(row),
                })
            })
            .collect()
    }
}

/// A version as a dispatcher gets it.
pub type LoadedVersion = (VersionKey, Result<ActionSpec, Unopened>);

impl Session {
    /// Returns the specs of the versions `keys`, in no particular order, and opens the sealed ones with `opener`. Versions are
    /// immutable, so the caller may cache what was opened without a limit in time.
    pub async fn load_versions(
        &mut self,
        keys: &[VersionKey],
        opener: Option<&dyn OperatorKeys>,
    ) -> Result<Vec<LoadedVersion>, StoreError> {
        let (actions, versions): (Vec<i64>, Vec<i32>) = keys.iter().map(|key| (key.action_id, key.version)).unzip();
        // One round trip for all the versions that a claim needs. The agent, to which a sealed version is bound, is looked up by key.
        let statement = sqlx::query!(
            r#"
            SELECT action_id, action_version.version, agent, method, url, timeout_ms, headers, body, client_certificate,
                   key_id, wrapped_key, sealed_value, digest
            FROM postcall.action_version
            JOIN unnest($1::bigint[], $2::int[]) AS wanted (action_id, version) USING (action_id, version)
            JOIN postcall.action USING (action_id)
            "#,
            &actions,
            &versions,
        );
        self.fetch_all(statement)
            .await?
            .into_iter()
            .map(|row| {
                let key = VersionKey { action_id: row.action_id, version: row.version };
                let owner = VersionOwner { agent: &row.agent, action_id: row.action_id, version: row.version };
                Ok((key, opened_row!(row, owner, opener)))
            })
            .collect()
    }
}

pub(super) use {changes, opened_row};
