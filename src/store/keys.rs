//! With which keys of operators something is encrypted: secrets, keys that sign, and sealed versions. This room knows their ids only.

use super::{Store, StoreError};

/// The largest number of rows of each kind that are counted.
const MOST_COUNTED: i64 = 100_000;
/// The largest number of keys that are told.
const MOST_KEYS: i64 = 32;

/// A key of operators, and what is encrypted with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyInUse {
    /// Its id.
    pub key_id: String,
    /// How many secrets.
    pub secrets: i64,
    /// How many keys that sign.
    pub signing_keys: i64,
    /// How many sealed versions of actions.
    pub versions: i64,
}

impl Store {
    /// Whether something is encrypted with one of these keys; `None` if nothing is encrypted.
    pub async fn is_encrypted_with(&self, key_ids: &[String]) -> Result<Option<bool>, StoreError> {
        // Each EXISTS ends at the first row that it finds. Only if the keys are others, all that is encrypted is looked at; people set
        // secrets and publish versions, so there are few, and sealed versions have an index.
        let found = sqlx::query!(
            r#"
            SELECT EXISTS (SELECT FROM postcall.secret)
                OR EXISTS (SELECT FROM postcall.signing_key)
                OR EXISTS (SELECT FROM postcall.action_version WHERE key_id IS NOT NULL) AS "anything!",
                EXISTS (SELECT FROM postcall.secret WHERE key_id = ANY ($1))
                OR EXISTS (SELECT FROM postcall.signing_key WHERE key_id = ANY ($1))
                OR EXISTS (SELECT FROM postcall.action_version WHERE key_id = ANY ($1)) AS "with_these!"
            "#,
            key_ids,
        )
        .fetch_one(&self.pool)
        .await?;
        Ok(found.anything.then_some(found.with_these))
    }

    /// The keys with which something is encrypted, at most 32, those with the most first. Of each kind, at most 100,000 rows are counted.
    pub async fn keys_in_use(&self) -> Result<Vec<KeyInUse>, StoreError> {
        // The limits bound what is read of tables that are small.
        let keys = sqlx::query_as!(
            KeyInUse,
            r#"
            SELECT key_id AS "key_id!", count(*) FILTER (WHERE kind = 1) AS "secrets!",
                   count(*) FILTER (WHERE kind = 2) AS "signing_keys!", count(*) FILTER (WHERE kind = 3) AS "versions!"
            FROM ((SELECT 1 AS kind, key_id FROM postcall.secret LIMIT $1)
                  UNION ALL (SELECT 2, key_id FROM postcall.signing_key LIMIT $1)
                  UNION ALL (SELECT 3, key_id FROM postcall.action_version WHERE key_id IS NOT NULL LIMIT $1)) AS encrypted
            GROUP BY key_id ORDER BY count(*) DESC, key_id LIMIT $2
            "#,
            MOST_COUNTED,
            MOST_KEYS,
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(keys)
    }
}
