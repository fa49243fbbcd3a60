//! The versions of an action: when, by whom and why each was published, and what it changed.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use super::actions::{VersionRow, opened_row, read};
use super::sealed_versions::{SealColumns, opened};
use super::{Store, StoreError};
use crate::domain::action::{ActionSpec, Method};
use crate::domain::sealed_version::{Unopened, VersionOwner};

/// The largest number of versions that are read at once.
pub const MOST_VERSIONS: i32 = 1_000;

/// One version of an action, without its templates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionRecord {
    /// Its number; the first is 1.
    pub version: i32,
    /// When it was published.
    pub published_at: DateTime<Utc>,
    /// Who published it, in that person's own words.
    pub published_by: String,
    /// The database user who published it; `None` for a version from before this column existed.
    pub db_user: Option<String>,
    /// Why it was published; `None` if nobody said.
    pub reason: Option<String>,
    /// What it changed; `None` for the first version.
    pub change: Option<Change>,
}

/// What a version changed, compared with the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// The methods before and after, if they differ.
    pub method: Option<(Method, Method)>,
    /// The timeouts before and after in milliseconds, if they differ.
    pub timeout_ms: Option<(i32, i32)>,
    /// Whether the URL differs.
    pub url: bool,
    /// Whether the headers differ.
    pub headers: bool,
    /// Whether the body differs.
    pub body: bool,
    /// Whether the client's certificate is another secret.
    pub client_certificate: bool,
    /// Whether the URL, the headers, the body or the client's certificate differ, if the user may not read which of them.
    pub templates: bool,
    /// Whether one of the two versions is sealed, so that their templates are not compared.
    pub sealed: bool,
}

/// A version beside the one before it.
struct Row {
    version: i32,
    published_at: DateTime<Utc>,
    published_by: String,
    db_user: Option<String>,
    reason: Option<String>,
    method: Method,
    timeout_ms: i32,
    old_method: Option<Method>,
    old_timeout_ms: Option<i32>,
    sealed: bool,
    url: bool,
    headers: bool,
    body: bool,
    client_certificate: bool,
    templates: bool,
}

/// Makes a statement about the versions of a page, each beside the one before it. `$columns` are the columns of a version that are read,
/// and `$compared` what is compared.
macro_rules! page {
    ($columns:literal, $compared:literal, $agent:expr, $name:expr, $before:expr, $limit:expr) => {
        sqlx::query_as!(
            Row,
            // Versions are numbered without gaps, so both ends of a page are known: only its rows are read, by their key, however
            // many versions there are. LATERAL and LIMIT leave the planner no other way.
            r#"
            SELECT newer.version, newer.published_at, newer.published_by, newer.db_user, newer.reason,
                   newer.method AS "method: Method", newer.timeout_ms,
                   older.method AS "old_method?: Method", older.timeout_ms AS "old_timeout_ms?",
                   (newer.key_id IS NOT NULL OR older.key_id IS NOT NULL) AS "sealed!", "#
                + $compared
                + r#"
            FROM (
                SELECT action_id, least(version, $3::integer - 1) AS last FROM postcall.action WHERE agent = $1 AND name = $2
            ) AS page
            CROSS JOIN LATERAL (
                SELECT "#
                + $columns
                + r#" FROM postcall.action_version
                WHERE action_version.action_id = page.action_id
                  AND action_version.version <= page.last AND action_version.version > page.last - $4::integer
                ORDER BY action_version.version DESC LIMIT $4::integer
            ) AS newer
            LEFT JOIN LATERAL (
                SELECT "#
                + $columns
                + r#" FROM postcall.action_version
                WHERE action_version.action_id = newer.action_id AND action_version.version = newer.version - 1
                LIMIT 1
            ) AS older ON true
            ORDER BY newer.version DESC
            "#,
            $agent,
            $name,
            $before,
            $limit
        )
    };
}

/// What versions of an action say, by their numbers, as far as their templates can be seen.
pub type VersionSpecs = BTreeMap<i32, Result<ActionSpec, Unopened>>;

impl Store {
    /// Returns the templates of up to `count` versions of an action: of `newest` and those before it. At most
    /// [`MOST_VERSIONS`] are returned.
    ///
    /// # Errors
    /// Returns the database's error, also if the user may not read templates.
    pub async fn version_specs(
        &self,
        agent: &str,
        name: &str,
        newest: i32,
        count: i32,
    ) -> Result<VersionSpecs, StoreError> {
        // A range of the primary key, however many versions there are.
        let rows = sqlx::query!(
            r#"
            SELECT action_id, action_version.version, agent, method, url, timeout_ms, headers, body, client_certificate,
                   key_id, wrapped_key, sealed_value, digest
            FROM postcall.action
            JOIN postcall.action_version USING (action_id)
            WHERE agent = $1 AND name = $2
              AND action_version.version <= $3::integer AND action_version.version > $3::integer - $4::integer
            "#,
            agent,
            name,
            newest,
            count.clamp(1, MOST_VERSIONS),
        )
        .fetch_all(&self.pool)
        .await?;
        rows.into_iter()
            .map(|row| {
                let owner = VersionOwner { agent: &row.agent, action_id: row.action_id, version: row.version };
                Ok((row.version, opened_row!(row, owner, self.keys.as_deref())))
            })
            .collect()
    }

    /// Returns up to `limit` versions of an action, the newest first; those before the version `before`, or the newest ones. At
    /// most [`MOST_VERSIONS`] are returned. The list is empty if there is no such action.
    pub async fn versions(
        &self,
        agent: &str,
        name: &str,
        before: Option<i32>,
        limit: i32,
    ) -> Result<Vec<VersionRecord>, StoreError> {
        // Templates are compared here, because all of them together are far more than what is told. For those who may not read them,
        // their digests are compared.
        let limit = limit.clamp(1, MOST_VERSIONS);
        let rows = if self.may_read_templates().await? {
            page!(
                "*",
                r#"newer.url IS DISTINCT FROM older.url AS "url!", newer.headers IS DISTINCT FROM older.headers AS "headers!",
                   newer.body IS DISTINCT FROM older.body AS "body!",
                   newer.client_certificate IS DISTINCT FROM older.client_certificate AS "client_certificate!",
                   false AS "templates!""#,
                agent,
                name,
                before,
                limit
            )
            .fetch_all(&self.pool)
            .await?
        } else {
            page!(
                "action_id, version, published_at, published_by, db_user, reason, method, timeout_ms, key_id",
                r#"false AS "url!", false AS "headers!", false AS "body!", false AS "client_certificate!",
                   postcall.version_digest(newer.action_id, newer.version)
                       IS DISTINCT FROM postcall.version_digest(older.action_id, older.version) AS "templates!""#,
                agent,
                name,
                before,
                limit
            )
            .fetch_all(&self.pool)
            .await?
        };
        Ok(rows
            .into_iter()
            .map(|row| VersionRecord {
                version: row.version,
                published_at: row.published_at,
                published_by: row.published_by,
                db_user: row.db_user,
                reason: row.reason,
                change: row.old_method.zip(row.old_timeout_ms).map(|(method, timeout_ms)| Change {
                    method: (method != row.method).then_some((method, row.method)),
                    timeout_ms: (timeout_ms != row.timeout_ms).then_some((timeout_ms, row.timeout_ms)),
                    url: row.url && !row.sealed,
                    headers: row.headers && !row.sealed,
                    body: row.body && !row.sealed,
                    client_certificate: row.client_certificate,
                    templates: row.templates && !row.sealed,
                    sealed: row.sealed,
                }),
            })
            .collect())
    }
}
