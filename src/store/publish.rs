//! Publishing actions, and switching them on and off. Each is recorded with who did it and why.

use sqlx::PgConnection;

use super::actions::{VersionRow, opened_row, read};
use super::sealed_versions::{SealColumns, Written, opened, refused};
use super::{Store, StoreError};
use crate::domain::action::ActionSpec;
use crate::domain::sealed_version::{OperatorKeys, VersionOwner};

/// A version that is to be published.
#[derive(Clone, Copy, Debug)]
pub struct Publication<'a> {
    /// The agent whose calls it is sent for.
    pub agent: &'a str,
    /// The action's name among the agent's actions.
    pub name: &'a str,
    /// The content of the version.
    pub spec: &'a ActionSpec,
    /// Whether the action is enabled from now on.
    pub enabled: bool,
    /// Who publishes it, in that person's own words.
    pub by: &'a str,
    /// Why, if the person says so.
    pub reason: Option<&'a str>,
}

/// The result of publishing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Published {
    /// A new version was made.
    New {
        /// Its number.
        version: i32,
    },
    /// The newest version is the same, so none was made.
    Same {
        /// The number of the newest version.
        version: i32,
        /// Whether the action was enabled or disabled by this.
        switched: bool,
    },
}

/// An action that is to be enabled or disabled.
#[derive(Clone, Copy, Debug)]
pub struct Switching<'a> {
    /// The agent whose action it is.
    pub agent: &'a str,
    /// Its name among the agent's actions.
    pub name: &'a str,
    /// Whether it is enabled from now on.
    pub enabled: bool,
    /// Who does so, in that person's own words.
    pub by: &'a str,
    /// Why, if the person says so.
    pub reason: Option<&'a str>,
}

/// The result of enabling or disabling an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Switched {
    /// The action was changed.
    Changed,
    /// The action already was as requested.
    Already,
    /// The agent has no action of that name.
    NoSuchAction,
}

/// Whether a version that is the same as the newest one is made all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Repeated {
    IsMade,
    IsNot,
}

/// Over which newest version a new one is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Over {
    /// Whichever there is.
    Any,
    /// The one with this number; `None` stands for an action that does not exist yet.
    Shown(Option<i32>),
}

/// Tells the trigger that records when an action is enabled or disabled who does it and why, because an UPDATE has no
/// place for either. The settings hold until the transaction ends.
pub(super) async fn name_person(
    transaction: &mut PgConnection,
    by: &str,
    reason: Option<&str>,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "SELECT set_config('postcall.person', $1, true) AS person, set_config('postcall.reason', $2, true) AS reason",
        by,
        reason.unwrap_or_default()
    )
    .fetch_one(transaction)
    .await?;
    Ok(())
}

/// The action with its newest version, locked until the transaction ends.
struct Held {
    action_id: i64,
    version: i32,
    enabled: bool,
    /// Whether that version is the same as the published one; `None` if the action was just made, and has no version yet.
    same: Option<bool>,
}

impl Store {
    /// Publishes a version as the newest one, unless the newest one is the same. The first version creates the action. Calls
    /// that already wait are sent with the new version.
    ///
    /// People who publish the same action at the same moment do so one after the other. If they publish the same content, the
    /// second finds the version of the first.
    pub async fn publish(&self, publication: &Publication<'_>) -> Result<Published, StoreError> {
        // Over any version there is always a result.
        let published = self.publish_version(publication, Repeated::IsNot, Over::Any).await?;
        published.ok_or_else(|| sqlx::Error::RowNotFound.into())
    }

    /// As [`Store::publish`], but only over the version that its author has seen: `shown` is its number, or `None` if there was
    /// no such action. `None` if somebody has published in the meantime; then nothing is changed.
    pub async fn publish_over(
        &self,
        publication: &Publication<'_>,
        shown: Option<i32>,
    ) -> Result<Option<Published>, StoreError> {
        self.publish_version(publication, Repeated::IsNot, Over::Shown(shown)).await
    }

    /// As [`Store::publish`], but without a reason, and each time with a new version, the number of which it returns.
    pub async fn publish_action(
        &self,
        agent: &str,
        name: &str,
        spec: &ActionSpec,
        enabled: bool,
        by: &str,
    ) -> Result<i32, StoreError> {
        let publication = Publication { agent, name, spec, enabled, by, reason: None };
        match self.publish_version(&publication, Repeated::IsMade, Over::Any).await? {
            Some(Published::New { version } | Published::Same { version, .. }) => Ok(version),
            None => Err(sqlx::Error::RowNotFound.into()),
        }
    }

    async fn publish_version(
        &self,
        new: &Publication<'_>,
        repeated: Repeated,
        over: Over,
    ) -> Result<Option<Published>, StoreError> {
        let mut transaction = self.pool.begin().await?;
        name_person(&mut transaction, new.by, new.reason).await?;
        let keys = self.keys.as_deref();
        let held = hold(&mut transaction, new, keys).await?;
        if over != Over::Any && over != Over::Shown(held.same.map(|_| held.version)) {
            transaction.rollback().await?;
            return Ok(None);
        }
        let is_same = held.same == Some(true) && repeated == Repeated::IsNot;
        let published = match held.same {
            _ if is_same => Published::Same { version: held.version, switched: held.enabled != new.enabled },
            None => Published::New { version: held.version },
            Some(_) => Published::New { version: held.version.saturating_add(1) },
        };
        match published {
            Published::Same { switched: false, .. } => {}
            Published::New { version } | Published::Same { version, switched: true } => {
                // By its key, one row. The trigger records a switch only if `enabled` changes.
                sqlx::query!(
                    "UPDATE postcall.action SET version = $2, enabled = $3 WHERE action_id = $1",
                    held.action_id,
                    version,
                    new.enabled,
                )
                .execute(&mut *transaction)
                .await?;
            }
        }
        if let Published::New { version } = published {
            let owner = VersionOwner { agent: new.agent, action_id: held.action_id, version };
            insert_version(&mut transaction, owner, new, Written::new(owner, new.spec, keys)?).await?;
        }
        transaction.commit().await?;
        Ok(Some(published))
    }

    /// As [`Store::switch`], without a reason.
    pub async fn switch_action(
        &self,
        agent: &str,
        name: &str,
        enabled: bool,
        by: &str,
    ) -> Result<Switched, StoreError> {
        self.switch(&Switching { agent, name, enabled, by, reason: None }).await
    }

    /// Enables or disables an action.
    pub async fn switch(&self, switching: &Switching<'_>) -> Result<Switched, StoreError> {
        let Switching { agent, name, enabled, by, reason } = *switching;
        let mut transaction = self.pool.begin().await?;
        name_person(&mut transaction, by, reason).await?;
        // Writes only if something changes, and tells the three cases apart in one statement.
        let row = sqlx::query!(
            r#"
            WITH changed AS (
                UPDATE postcall.action SET enabled = $3 WHERE agent = $1 AND name = $2 AND enabled <> $3
                RETURNING action_id
            )
            SELECT EXISTS (SELECT FROM changed) AS "changed!",
                   EXISTS (SELECT FROM postcall.action WHERE agent = $1 AND name = $2) AS "exists!"
            "#,
            agent,
            name,
            enabled,
        )
        .fetch_one(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(match (row.changed, row.exists) {
            (true, _) => Switched::Changed,
            (false, true) => Switched::Already,
            (false, false) => Switched::NoSuchAction,
        })
    }
}

/// Makes the action if there is none, locks it, and compares its newest version.
async fn hold(
    transaction: &mut PgConnection,
    new: &Publication<'_>,
    keys: Option<&dyn OperatorKeys>,
) -> Result<Held, StoreError> {
    // ON CONFLICT waits for whoever publishes the same action at this moment, and then locks the row: the update changes
    // nothing else. Claims and the outbox's trigger only read the row, so they do not wait for this lock.
    let action = sqlx::query!(
        "INSERT INTO postcall.action (agent, name, enabled, version) VALUES ($1, $2, $3, 1)
         ON CONFLICT (agent, name) DO UPDATE SET version = action.version
         RETURNING action_id, version, enabled",
        new.agent,
        new.name,
        new.enabled,
    )
    .fetch_one(&mut *transaction)
    .await?;
    // A statement of its own: what the statement above sees of other tables is older than the end of its wait, and would not
    // have the version that was waited for. One row by its key.
    let newest = sqlx::query!(
        "SELECT version, method, url, timeout_ms, headers, body, client_certificate, key_id, wrapped_key, sealed_value, digest
         FROM postcall.action_version WHERE action_id = $1 AND version = $2",
        action.action_id,
        action.version,
    )
    .fetch_optional(&mut *transaction)
    .await?;
    let same = newest.map(|newest| {
        let owner = VersionOwner { agent: new.agent, action_id: action.action_id, version: newest.version };
        // What cannot be opened may be anything else.
        Ok::<_, StoreError>(opened_row!(newest, owner, keys).is_ok_and(|spec| spec == *new.spec))
    });
    let same = same.transpose()?;
    Ok(Held { action_id: action.action_id, version: action.version, enabled: action.enabled, same })
}

/// One row; who and when are the database's own to fill in.
async fn insert_version(
    transaction: &mut PgConnection,
    owner: VersionOwner<'_>,
    new: &Publication<'_>,
    written: Written,
) -> Result<(), StoreError> {
    let (sealed, digest) = written.sealed.map(|sealed| (sealed.sealed, sealed.digest)).unzip();
    sqlx::query!(
        "INSERT INTO postcall.action_version
             (action_id, version, method, url, timeout_ms, headers, body, published_by, reason, client_certificate, key_id,
              wrapped_key, sealed_value, digest)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
        owner.action_id,
        owner.version,
        new.spec.method.as_str(),
        written.url,
        milliseconds(new.spec),
        written.headers,
        written.body,
        new.by,
        new.reason,
        new.spec.client_certificate,
        sealed.as_ref().map(|sealed| sealed.key_id.as_str()),
        sealed.as_ref().map(|sealed| sealed.wrapped_key.as_slice()),
        sealed.as_ref().map(|sealed| sealed.sealed_value.as_slice()),
        digest,
    )
    .execute(transaction)
    .await
    .map_err(refused)?;
    Ok(())
}

/// The timeout as the column has it.
fn milliseconds(spec: &ActionSpec) -> i32 {
    i32::try_from(spec.timeout_ms).unwrap_or(i32::MAX)
}
