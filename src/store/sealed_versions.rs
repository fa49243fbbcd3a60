//! Sealed versions: the rows of `action_version` whose templates are encrypted, and how others become such rows.

use std::sync::Arc;

use super::actions::{VersionRow, read};
use super::{Store, StoreError};
use crate::domain::action::ActionSpec;
use crate::domain::sealed_version::{NotSealed, OperatorKeys, SealedTemplates, Unopened, VersionOwner, outline_url};
use crate::domain::secret::{Absence, Sealed};

/// The largest number of versions that are counted.
const MOST_COUNTED: i64 = 100_000;

/// What encrypts a version, as its columns have it; all of them null for a version in clear.
#[derive(Debug, Default)]
pub(super) struct SealColumns {
    pub(super) key_id: Option<String>,
    pub(super) wrapped_key: Option<Vec<u8>>,
    pub(super) sealed_value: Option<Vec<u8>>,
    pub(super) digest: Option<Vec<u8>>,
}

impl SealColumns {
    /// What is sealed; `None` for a version in clear.
    pub(super) fn sealed(self) -> Option<SealedTemplates> {
        let sealed = Sealed {
            key_id: self.key_id?,
            wrapped_key: self.wrapped_key.unwrap_or_default(),
            sealed_value: self.sealed_value.unwrap_or_default(),
        };
        Some(SealedTemplates { sealed, digest: self.digest.unwrap_or_default() })
    }
}

/// Opens what is stored of a version, if it is sealed.
pub(super) fn opened(
    owner: VersionOwner<'_>,
    stored: ActionSpec,
    sealed: Option<SealedTemplates>,
    keys: Option<&dyn OperatorKeys>,
) -> Result<ActionSpec, Unopened> {
    let Some(sealed) = sealed else { return Ok(stored) };
    let opened = keys.ok_or(Absence::NoKey).and_then(|keys| keys.open_templates(owner, &sealed, stored.clone()));
    opened.map_err(|absence| Unopened::new(stored, absence))
}

/// What is written of a version.
pub(super) struct Written {
    pub(super) url: String,
    pub(super) headers: Option<String>,
    pub(super) body: Option<String>,
    pub(super) sealed: Option<SealedTemplates>,
}

impl Written {
    /// Of a version that is published: sealed, if there is a key.
    pub(super) fn new(
        owner: VersionOwner<'_>,
        spec: &ActionSpec,
        keys: Option<&dyn OperatorKeys>,
    ) -> Result<Written, StoreError> {
        let (url, headers, body) = (spec.url.clone(), spec.headers.clone(), spec.body.clone());
        let Some(keys) = keys else { return Ok(Written { url, headers, body, sealed: None }) };
        let sealed = Some(keys.seal_templates(owner, spec).map_err(NotPublished::from)?);
        Ok(Written { url: outline_url(&url), headers: None, body: None, sealed })
    }
}

/// A version whose templates are to be sealed, or whose key is to be encrypted anew.
#[derive(Clone, Debug)]
pub struct StoredVersion<Content> {
    /// The agent whose action it is.
    pub agent: String,
    /// The action.
    pub action_id: i64,
    /// The action's name among the agent's actions.
    pub name: String,
    /// The version.
    pub version: i32,
    /// The templates, or what encrypts them.
    pub content: Content,
}

impl<Content> StoredVersion<Content> {
    /// Whose version it is, and which.
    pub fn owner(&self) -> VersionOwner<'_> {
        VersionOwner { agent: &self.agent, action_id: self.action_id, version: self.version }
    }
}

/// How many versions are sealed, and how many are not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VersionCounts {
    /// Sealed.
    pub sealed: i64,
    /// In clear.
    pub clear: i64,
}

impl Store {
    /// The same database, by a handle that seals and opens the templates of versions with these keys. Without keys it opens none, and
    /// what it publishes is not sealed.
    #[must_use]
    pub fn with_keys<Keys: OperatorKeys + 'static>(self, keys: Option<Arc<Keys>>) -> Store {
        let keys = keys.map(|keys| keys as Arc<dyn OperatorKeys>);
        Store { keys, ..self }
    }

    /// The keys with which it seals and opens.
    pub fn keys(&self) -> Option<&dyn OperatorKeys> {
        self.keys.as_deref()
    }

    /// How many versions are sealed, and how many are not: of one agent, or of all. At most 100,000 are counted.
    pub async fn version_counts(&self, agent: Option<&str>) -> Result<VersionCounts, StoreError> {
        // Versions are published by people, so there are few; the limit bounds what is read all the same.
        let counts = sqlx::query_as!(
            VersionCounts,
            r#"
            SELECT count(key_id) AS "sealed!", count(*) - count(key_id) AS "clear!"
            FROM (SELECT action_version.key_id FROM postcall.action_version JOIN postcall.action USING (action_id)
                  WHERE $1::text IS NULL OR action.agent = $1 LIMIT $2) AS counted
            "#,
            agent,
            MOST_COUNTED,
        )
        .fetch_one(&self.pool)
        .await?;
        Ok(counts)
    }

    /// Returns up to `limit` versions in clear behind `after` (action and version): of one agent, or of all.
    pub async fn clear_versions(
        &self,
        agent: Option<&str>,
        after: (i64, i32),
        limit: i64,
    ) -> Result<Vec<StoredVersion<ActionSpec>>, StoreError> {
        // In the order of the primary key, so that each batch goes on where the last one ended.
        let rows = sqlx::query!(
            "SELECT agent, action_id, name, action_version.version, method, url, timeout_ms, headers, body, client_certificate
             FROM postcall.action_version JOIN postcall.action USING (action_id)
             WHERE (action_id, action_version.version) > ($2, $3) AND key_id IS NULL AND ($1::text IS NULL OR agent = $1)
             ORDER BY action_id, action_version.version LIMIT $4",
            agent,
            after.0,
            after.1,
            limit,
        )
        .fetch_all(&self.pool)
        .await?;
        let version = |row: VersionRow, agent, (action_id, name), version| {
            Ok(StoredVersion { agent, action_id, name, version, content: read(row)? })
        };
        rows.into_iter()
            .map(|row| {
                let found = VersionRow {
                    method: row.method,
                    url: row.url,
                    timeout_ms: row.timeout_ms,
                    headers: row.headers,
                    body: row.body,
                    client_certificate: row.client_certificate,
                };
                version(found, row.agent, (row.action_id, row.name), row.version)
            })
            .collect()
    }

    /// Seals a version that is in clear. Returns whether it was.
    pub async fn seal_version(
        &self,
        clear: &StoredVersion<ActionSpec>,
        sealed: &SealedTemplates,
    ) -> Result<bool, StoreError> {
        // By its key, one row. Somebody else may have sealed it in the meantime; a version never changes otherwise.
        let done = sqlx::query!(
            "UPDATE postcall.action_version
             SET url = $3, headers = NULL, body = NULL, key_id = $4, wrapped_key = $5, sealed_value = $6, digest = $7
             WHERE action_id = $1 AND version = $2 AND key_id IS NULL",
            clear.action_id,
            clear.version,
            outline_url(&clear.content.url),
            sealed.sealed.key_id,
            sealed.sealed.wrapped_key,
            sealed.sealed.sealed_value,
            sealed.digest,
        )
        .execute(&self.pool)
        .await
        .map_err(refused)?;
        Ok(done.rows_affected() > 0)
    }

    /// Returns up to `limit` sealed versions behind `after` (action and version) whose key is not encrypted with `key_id`.
    pub async fn versions_to_rewrap(
        &self,
        key_id: &str,
        after: (i64, i32),
        limit: i64,
    ) -> Result<Vec<StoredVersion<Sealed>>, StoreError> {
        // By the index of sealed versions, in its order, so that each batch goes on where the last one ended. What is sealed need not
        // be read.
        let rows = sqlx::query!(
            r#"
            SELECT agent, action_id, name, action_version.version, key_id AS "key_id!", wrapped_key AS "wrapped_key!"
            FROM postcall.action_version JOIN postcall.action USING (action_id)
            WHERE (action_id, action_version.version) > ($2, $3) AND key_id IS NOT NULL AND key_id <> $1
            ORDER BY action_id, action_version.version LIMIT $4
            "#,
            key_id,
            after.0,
            after.1,
            limit,
        )
        .fetch_all(&self.pool)
        .await?;
        let versions = rows.into_iter().map(|row| StoredVersion {
            agent: row.agent,
            action_id: row.action_id,
            name: row.name,
            version: row.version,
            content: Sealed { key_id: row.key_id, wrapped_key: row.wrapped_key, sealed_value: Vec::new() },
        });
        Ok(versions.collect())
    }

    /// Replaces the encrypted key of a sealed version, unless it has changed since it was read. Returns whether it was replaced.
    pub async fn rewrap_version(&self, old: &StoredVersion<Sealed>, new: &Sealed) -> Result<bool, StoreError> {
        // By its key, one row.
        let replaced = sqlx::query!(
            "UPDATE postcall.action_version SET key_id = $3, wrapped_key = $4
             WHERE action_id = $1 AND version = $2 AND wrapped_key = $5",
            old.action_id,
            old.version,
            new.key_id,
            new.wrapped_key,
            old.content.wrapped_key,
        )
        .execute(&self.pool)
        .await?
        .rows_affected();
        Ok(replaced > 0)
    }
}

/// Why a version is not published, because of what is sealed or would be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotPublished {
    /// It names a secret, and there is no key file.
    #[error(
        "it names the secret `{0}`, and what names a secret is published only with the key file that the dispatchers have: name it \
         with --key-file or POSTCALL_KEY_FILE (`postcall secret new-key` makes a key)"
    )]
    NamesASecret(String),
    /// Versions of actions are sealed, and this one would not be.
    #[error(
        "the templates of actions are sealed in this database, and there is no key to seal these: name the key file with --key-file or \
         POSTCALL_KEY_FILE"
    )]
    VersionsAreSealed,
    /// The version would be sealed, and a dispatcher runs that cannot open it.
    #[error(
        "with the key file its templates are sealed, and a dispatcher of release 0.3.0 or earlier is running, which cannot open them. \
         Upgrade all dispatchers first (`postcall status` shows them)"
    )]
    EarlierDispatcher,
    /// It cannot be sealed.
    #[error(transparent)]
    NotSealed(#[from] NotSealed),
}

/// Why the database refuses a version.
pub(super) fn refused(error: sqlx::Error) -> StoreError {
    match error.as_database_error().and_then(|reported| reported.constraint()) {
        Some("dispatchers_know_secrets") => StoreError::EarlierDispatcher,
        Some("versions_are_sealed") => NotPublished::VersionsAreSealed.into(),
        Some("dispatchers_know_sealed_versions") => NotPublished::EarlierDispatcher.into(),
        _ => error.into(),
    }
}
