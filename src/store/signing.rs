//! The keys that sign agents' requests. This room sees them encrypted only.

use std::time::Duration;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::publish::name_person;
use super::session::Session;
use super::{Store, StoreError};
use crate::domain::secret::Sealed;
use crate::domain::signature::Scheme;

/// What `secret_opening` calls the keys that are read for a test; no secret can have this name.
const OPENED_AS: &str = "signing key";

/// Whose signing is changed, and by whom.
#[derive(Clone, Copy, Debug)]
pub struct SigningChange<'a> {
    /// The agent.
    pub agent: &'a str,
    /// Who does it, in that person's own words.
    pub by: &'a str,
    /// Why, if the person says so.
    pub reason: Option<&'a str>,
}

/// A key that is to sign an agent's requests from now on.
#[derive(Clone, Debug)]
pub struct NewKey<'a> {
    /// Its id.
    pub id: Uuid,
    /// How it signs.
    pub scheme: Scheme,
    /// The key that verifies, of an asymmetric one.
    pub public_key: Option<&'a str>,
    /// The key as it is stored.
    pub sealed: &'a Sealed,
    /// The current key, which it replaces; `None` if the agent's requests are not signed.
    pub replaces: Option<Uuid>,
    /// For how many seconds the keys before it go on signing.
    pub keep_older_seconds: u32,
}

/// Why no key was added.
#[derive(Debug, thiserror::Error)]
pub enum NotAdded {
    /// A dispatcher runs that signs nothing.
    #[error(
        "nothing was changed: a dispatcher of release 0.3.0 or earlier is running, which would send these requests unsigned. Upgrade \
         all dispatchers first (`postcall status` shows them)"
    )]
    EarlierDispatcher,
    /// The agent's current key is another one than was expected.
    #[error("nothing was changed: somebody else changed the signing of this agent at the same moment. Look again")]
    ChangedMeanwhile,
    /// As many keys sign as may.
    #[error(
        "nothing was changed: four keys of this agent sign already. Wait until an older one has ended (`postcall action signing \
         show-public` shows when), or rotate with a shorter --keep-old"
    )]
    TooManyKeys,
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What may be told about a key that signs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRecord {
    /// Its id.
    pub id: Uuid,
    /// How it signs.
    pub scheme: String,
    /// The key that verifies, of an asymmetric one.
    pub public_key: Option<String>,
    /// When it began to sign.
    pub made_at: DateTime<Utc>,
    /// Until when it signs beside a newer one; `None` of the current one.
    pub signs_until: Option<DateTime<Utc>>,
    /// The operator's key that encrypts it.
    pub key_id: String,
}

/// A key as it is stored.
#[derive(Clone, Debug)]
pub struct StoredKey {
    /// Its id.
    pub id: Uuid,
    /// The agent whose requests it signs.
    pub agent: String,
    /// How it signs.
    pub scheme: String,
    /// The key, encrypted.
    pub sealed: Sealed,
}

/// The keys of an agent that sign now, the current one first, and the time.
#[derive(Clone, Debug)]
pub struct KeysForTest {
    /// The keys.
    pub keys: Vec<StoredKey>,
    /// What time it is, by the database's clock.
    pub now: DateTime<Utc>,
}

impl Store {
    /// Adds a key that signs an agent's requests from now on, in place of the current one, if there is one.
    ///
    /// # Errors
    /// Nothing was changed.
    pub async fn add_signing_key(&self, change: &SigningChange<'_>, new: &NewKey<'_>) -> Result<(), NotAdded> {
        let mut transaction = self.pool.begin().await.map_err(StoreError::from)?;
        name_person(&mut transaction, change.by, change.reason).await.map_err(StoreError::from)?;
        // One row. A trigger ends the keys before it and writes the record, within the few keys of this agent.
        sqlx::query!(
            "INSERT INTO postcall.signing_key
                 (signing_key_id, agent, scheme, public_key, key_id, wrapped_key, sealed_value, replaces, keep_older_seconds)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
            new.id,
            change.agent,
            new.scheme.as_str(),
            new.public_key,
            new.sealed.key_id,
            new.sealed.wrapped_key,
            new.sealed.sealed_value,
            new.replaces,
            i32::try_from(new.keep_older_seconds).unwrap_or(i32::MAX),
        )
        .execute(&mut *transaction)
        .await
        .map_err(not_added)?;
        transaction.commit().await.map_err(StoreError::from)?;
        Ok(())
    }

    /// Deletes all keys that sign an agent's requests. Returns whether they were signed.
    pub async fn disable_signing(&self, change: &SigningChange<'_>) -> Result<bool, StoreError> {
        let mut transaction = self.pool.begin().await?;
        name_person(&mut transaction, change.by, change.reason).await?;
        // The few keys of the agent, by an index.
        let deleted = sqlx::query!("DELETE FROM postcall.signing_key WHERE agent = $1", change.agent)
            .execute(&mut *transaction)
            .await?
            .rows_affected();
        transaction.commit().await?;
        Ok(deleted > 0)
    }

    /// The keys that sign an agent's requests now, the current one first; none if they are not signed.
    pub async fn signing_keys(&self, agent: &str) -> Result<Vec<KeyRecord>, StoreError> {
        // The few keys of the agent, by an index. Without a current key, nothing is signed.
        let keys = sqlx::query_as!(
            KeyRecord,
            r#"
            SELECT signing_key_id AS id, scheme, public_key, made_at, signs_until, key_id FROM postcall.signing_key
            WHERE agent = $1 AND (signs_until IS NULL OR signs_until > clock_timestamp())
              AND EXISTS (SELECT FROM postcall.signing_key AS newest WHERE newest.agent = $1 AND newest.signs_until IS NULL)
            ORDER BY signs_until IS NOT NULL, made_at DESC
            "#,
            agent,
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(keys)
    }

    /// Whether an agent's requests were signed at that time; `None` means now.
    pub async fn was_signed(&self, agent: &str, at: Option<DateTime<Utc>>) -> Result<bool, StoreError> {
        // The last change before that time, by an index.
        let last = sqlx::query_scalar!(
            r#"
            SELECT change FROM postcall.signing_change
            WHERE agent = $1 AND changed_at <= coalesce($2, clock_timestamp())
            ORDER BY changed_at DESC, change_id DESC LIMIT 1
            "#,
            agent,
            at,
        )
        .fetch_optional(&self.pool)
        .await?;
        Ok(last.is_some_and(|change| change != "disabled"))
    }

    /// Records that the keys that sign an agent's requests are read for a test, and then reads them, as they are stored.
    pub async fn signing_keys_for_test(&self, agent: &str, by: &str, reason: &str) -> Result<KeysForTest, StoreError> {
        // One row. It has to be committed, on its own, before the database gives what it records.
        let opening = sqlx::query!(
            "INSERT INTO postcall.secret_opening (agent, names, opened_by, reason) VALUES ($1, ARRAY[$2], $3, $4)
             RETURNING opening_id, opened_at",
            agent,
            OPENED_AS,
            by,
            reason,
        )
        .fetch_one(&self.pool)
        .await?;
        // By keys: one row of the record, and the few keys of the agent. A function, because publishers may not read the table.
        let rows = sqlx::query!(
            r#"
            SELECT signing_key_id AS "id!", scheme AS "scheme!", key_id AS "key_id!", wrapped_key AS "wrapped_key!",
                   sealed_value AS "sealed_value!", signs_at AS "signs_at!"
            FROM postcall.signing_keys_for_test($1)
            "#,
            opening.opening_id,
        )
        .fetch_all(&self.pool)
        .await?;
        let now = rows.first().map_or(opening.opened_at, |row| row.signs_at);
        let keys = rows.into_iter().map(|row| StoredKey {
            id: row.id,
            agent: agent.to_owned(),
            scheme: row.scheme,
            sealed: Sealed { key_id: row.key_id, wrapped_key: row.wrapped_key, sealed_value: row.sealed_value },
        });
        Ok(KeysForTest { keys: keys.collect(), now })
    }

    /// Returns up to `limit` keys behind the id `after` that are not encrypted with `key_id`.
    pub async fn signing_keys_to_rewrap(
        &self,
        key_id: &str,
        after: Uuid,
        limit: i64,
    ) -> Result<Vec<StoredKey>, StoreError> {
        // In the order of the primary key, so that each batch goes on where the last one ended.
        let rows = sqlx::query!(
            "SELECT signing_key_id AS id, agent, scheme, key_id, wrapped_key, sealed_value FROM postcall.signing_key
             WHERE signing_key_id > $2 AND key_id <> $1 ORDER BY signing_key_id LIMIT $3",
            key_id,
            after,
            limit,
        )
        .fetch_all(&self.pool)
        .await?;
        let keys = rows.into_iter().map(|row| StoredKey {
            id: row.id,
            agent: row.agent,
            scheme: row.scheme,
            sealed: Sealed { key_id: row.key_id, wrapped_key: row.wrapped_key, sealed_value: row.sealed_value },
        });
        Ok(keys.collect())
    }

    /// Replaces what encrypts a key. Returns whether the key is still there.
    pub async fn rewrap_signing_key(&self, id: Uuid, new: &Sealed) -> Result<bool, StoreError> {
        // By its key. The key itself never changes.
        let replaced = sqlx::query!(
            "UPDATE postcall.signing_key SET key_id = $2, wrapped_key = $3 WHERE signing_key_id = $1",
            id,
            new.key_id,
            new.wrapped_key,
        )
        .execute(&self.pool)
        .await?
        .rows_affected();
        Ok(replaced > 0)
    }
}

fn not_added(error: sqlx::Error) -> NotAdded {
    match error.as_database_error().and_then(|reported| reported.constraint()) {
        Some("dispatchers_know_signing") => NotAdded::EarlierDispatcher,
        Some("signing_key_replaces_the_current_one" | "signing_key_is_current_once") => NotAdded::ChangedMeanwhile,
        Some("signing_keys_are_few") => NotAdded::TooManyKeys,
        _ => NotAdded::Store(error.into()),
    }
}

/// One of the keys that sign the requests of the agent whose current key a claim has found.
#[derive(Clone, Debug)]
pub struct LoadedKey {
    /// The key that the claim has found.
    pub current: Uuid,
    /// The key as it is stored.
    pub key: StoredKey,
    /// How long it goes on signing; `None` of the current one.
    pub left: Option<Duration>,
}

impl Session {
    /// Returns all keys that sign the requests of the agents whose current keys are these: of each the current one first. Nothing
    /// comes for a key that is no longer there.
    pub async fn load_signing_keys(&mut self, current: &[Uuid]) -> Result<Vec<LoadedKey>, StoreError> {
        // Two look-ups for each of them: by the primary key, and of the few keys of its agent by an index.
        let statement = sqlx::query!(
            r#"
            SELECT wanted.id AS "current!", found.signing_key_id AS id, found.agent, found.scheme, found.key_id, found.wrapped_key,
                   found.sealed_value, date_part('epoch', found.signs_until - clock_timestamp()) AS "seconds_left?"
            FROM unnest($1::uuid[]) AS wanted (id)
            JOIN postcall.signing_key AS known ON known.signing_key_id = wanted.id
            JOIN postcall.signing_key AS found ON found.agent = known.agent
            WHERE found.signs_until IS NULL OR found.signs_until > clock_timestamp()
            ORDER BY wanted.id, found.signs_until IS NOT NULL, found.made_at DESC
            "#,
            current,
        );
        let loaded = self.fetch_all(statement).await?.into_iter().map(|row| LoadedKey {
            current: row.current,
            key: StoredKey {
                id: row.id,
                agent: row.agent,
                scheme: row.scheme,
                sealed: Sealed { key_id: row.key_id, wrapped_key: row.wrapped_key, sealed_value: row.sealed_value },
            },
            left: row.seconds_left.map(|left| Duration::try_from_secs_f64(left.max(0.0)).unwrap_or_default()),
        });
        Ok(loaded.collect())
    }
}
