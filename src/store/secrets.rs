//! The secrets of agents. This room sees them encrypted only.

use chrono::{DateTime, Utc};

use super::publish::name_person;
use super::session::Session;
use super::{Store, StoreError};
use crate::domain::secret::Sealed;

/// A secret that is to be set or removed, and who does so.
#[derive(Clone, Copy, Debug)]
pub struct SecretChange<'a> {
    /// The agent.
    pub agent: &'a str,
    /// The secret's name.
    pub name: &'a str,
    /// Who does it, in that person's own words.
    pub by: &'a str,
    /// Why, if the person says so.
    pub reason: Option<&'a str>,
}

/// What may be told about a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretRecord {
    /// Its name.
    pub name: String,
    /// When it got its value.
    pub set_at: DateTime<Utc>,
    /// Who set it, in that person's own words; `None` if nobody said.
    pub set_by: Option<String>,
    /// The database user who set it.
    pub db_user: Option<String>,
    /// Why; `None` if nobody said.
    pub reason: Option<String>,
    /// The operator's key that encrypts it.
    pub key_id: String,
}

/// A secret that is to be wrapped anew.
#[derive(Clone, Debug)]
pub struct Wrapped {
    /// The agent.
    pub agent: String,
    /// The secret's name.
    pub name: String,
    /// The secret as it is stored.
    pub sealed: Sealed,
}

impl Store {
    /// Sets a secret, whether or not there was one of that name.
    pub async fn set_secret(&self, change: &SecretChange<'_>, sealed: &Sealed) -> Result<(), StoreError> {
        let mut transaction = self.pool.begin().await?;
        name_person(&mut transaction, change.by, change.reason).await?;
        // The values are bound again in DO UPDATE: to take them from EXCLUDED needs the right to read them.
        sqlx::query!(
            "INSERT INTO postcall.secret (agent, name, key_id, wrapped_key, sealed_value) VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (agent, name) DO UPDATE SET key_id = $3, wrapped_key = $4, sealed_value = $5",
            change.agent,
            change.name,
            sealed.key_id,
            sealed.wrapped_key,
            sealed.sealed_value,
        )
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Removes a secret. Returns whether there was one of that name.
    pub async fn remove_secret(&self, change: &SecretChange<'_>) -> Result<bool, StoreError> {
        let mut transaction = self.pool.begin().await?;
        name_person(&mut transaction, change.by, change.reason).await?;
        // By its key, one row.
        let removed =
            sqlx::query!("DELETE FROM postcall.secret WHERE agent = $1 AND name = $2", change.agent, change.name)
                .execute(&mut *transaction)
                .await?
                .rows_affected();
        transaction.commit().await?;
        Ok(removed > 0)
    }

    /// Lists up to `limit` secrets of an agent by name, without their values.
    pub async fn secrets(&self, agent: &str, limit: i64) -> Result<Vec<SecretRecord>, StoreError> {
        // LATERAL reads one row of the record for each secret, by its index, however often it was set.
        let rows = sqlx::query_as!(
            SecretRecord,
            r#"
            SELECT secret.name, secret.set_at, last.changed_by AS "set_by?", last.db_user AS "db_user?",
                   last.reason AS "reason?", secret.key_id
            FROM postcall.secret
            LEFT JOIN LATERAL (
                SELECT changed_by, db_user, reason FROM postcall.secret_change
                WHERE secret_change.agent = secret.agent AND secret_change.name = secret.name
                ORDER BY change_id DESC LIMIT 1
            ) AS last ON true
            WHERE secret.agent = $1 ORDER BY secret.name LIMIT $2
            "#,
            agent,
            limit,
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(rows)
    }

    /// Which of these names are no secrets of the agent.
    pub async fn unset_secrets(&self, agent: &str, names: &[String]) -> Result<Vec<String>, StoreError> {
        // One look-up by key for each of the names, of which an action has few.
        let unset = sqlx::query_scalar!(
            r#"
            SELECT wanted.name AS "name!" FROM unnest($2::text[]) AS wanted (name)
            WHERE NOT EXISTS (SELECT FROM postcall.secret WHERE secret.agent = $1 AND secret.name = wanted.name)
            "#,
            agent,
            names,
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(unset)
    }

    /// Returns up to `limit` secrets behind `after` (agent and name) whose key is not encrypted with `key_id`.
    pub async fn secrets_to_rewrap(
        &self,
        key_id: &str,
        after: (&str, &str),
        limit: i64,
    ) -> Result<Vec<Wrapped>, StoreError> {
        // In the order of the primary key, so that each batch goes on where the last one ended.
        let rows = sqlx::query!(
            "SELECT agent, name, key_id, wrapped_key, sealed_value FROM postcall.secret
             WHERE (agent, name) > ($2, $3) AND key_id <> $1 ORDER BY agent, name LIMIT $4",
            key_id,
            after.0,
            after.1,
            limit,
        )
        .fetch_all(&self.pool)
        .await?;
        let wrapped = rows.into_iter().map(|row| {
            let sealed = Sealed { key_id: row.key_id, wrapped_key: row.wrapped_key, sealed_value: row.sealed_value };
            Wrapped { agent: row.agent, name: row.name, sealed }
        });
        Ok(wrapped.collect())
    }

    /// Replaces the encrypted key of a secret, unless it has changed since it was read. Returns whether it was replaced.
    pub async fn rewrap_secret(&self, old: &Wrapped, new: &Sealed) -> Result<bool, StoreError> {
        // By its key. A secret that somebody has set in the meantime has another key of its own.
        let replaced = sqlx::query!(
            "UPDATE postcall.secret SET key_id = $3, wrapped_key = $4 WHERE agent = $1 AND name = $2 AND wrapped_key = $5",
            old.agent,
            old.name,
            new.key_id,
            new.wrapped_key,
            old.sealed.wrapped_key,
        )
        .execute(&self.pool)
        .await?
        .rows_affected();
        Ok(replaced > 0)
    }
}

/// Secrets that are to be read, to test an action with them, and who does so.
#[derive(Clone, Copy, Debug)]
pub struct Opening<'a> {
    /// The agent.
    pub agent: &'a str,
    /// The names that the action's templates need.
    pub names: &'a [String],
    /// Who tests, in that person's own words.
    pub by: &'a str,
    /// Why.
    pub reason: &'a str,
}

impl Store {
    /// Records that these secrets are read for a test, and then reads them, as they are stored. Names that the agent has no
    /// secret for are left out.
    pub async fn secrets_for_test(&self, opening: &Opening<'_>) -> Result<Vec<(String, Sealed)>, StoreError> {
        // One row. It has to be committed, on its own, before the database gives what it records.
        let opening_id = sqlx::query_scalar!(
            "INSERT INTO postcall.secret_opening (agent, names, opened_by, reason) VALUES ($1, $2, $3, $4)
             RETURNING opening_id",
            opening.agent,
            opening.names,
            opening.by,
            opening.reason,
        )
        .fetch_one(&self.pool)
        .await?;
        // By keys: one row of the record, and one for each name. A function, because publishers may not read the table.
        let rows = sqlx::query!(
            r#"
            SELECT name AS "name!", key_id AS "key_id!", wrapped_key AS "wrapped_key!", sealed_value AS "sealed_value!"
            FROM postcall.secrets_for_test($1)
            "#,
            opening_id,
        )
        .fetch_all(&self.pool)
        .await?;
        let sealed = rows.into_iter().map(|row| {
            let sealed = Sealed { key_id: row.key_id, wrapped_key: row.wrapped_key, sealed_value: row.sealed_value };
            (row.name, sealed)
        });
        Ok(sealed.collect())
    }
}

/// A secret that an action's templates name.
#[derive(Clone, Debug)]
pub struct NamedSecret {
    /// The action.
    pub action_id: i64,
    /// The action's agent, whose secret it is.
    pub agent: String,
    /// The secret's name.
    pub name: String,
    /// The secret as it is stored.
    pub sealed: Sealed,
}

impl Session {
    /// Returns the secrets with these names of the actions' own agents. Names that an agent has no secret for are left out.
    pub async fn load_secrets(&mut self, wanted: &[(i64, &str)]) -> Result<Vec<NamedSecret>, StoreError> {
        let actions: Vec<i64> = wanted.iter().map(|(action_id, _)| *action_id).collect();
        let names: Vec<String> = wanted.iter().map(|(_, name)| (*name).to_owned()).collect();
        // Two look-ups by key for each name. The agent is that of the action's row, and nobody else can name one.
        let statement = sqlx::query!(
            r#"
            SELECT action.action_id, secret.agent, secret.name, key_id, wrapped_key, sealed_value
            FROM unnest($1::bigint[], $2::text[]) AS wanted (action_id, name)
            JOIN postcall.action ON action.action_id = wanted.action_id
            JOIN postcall.secret ON secret.agent = action.agent AND secret.name = wanted.name
            "#,
            &actions,
            &names,
        );
        let named = self.fetch_all(statement).await?.into_iter().map(|row| NamedSecret {
            action_id: row.action_id,
            agent: row.agent,
            name: row.name,
            sealed: Sealed { key_id: row.key_id, wrapped_key: row.wrapped_key, sealed_value: row.sealed_value },
        });
        Ok(named.collect())
    }
}
