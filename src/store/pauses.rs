//! Pauses: what is paused, since when, by whom, and what was paused before. Each is a row that stays; that of what is paused now
//! stands beside it in a small table, which triggers keep (`postcall.admit_pause`, `postcall.admit_pause_end`).

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::session::Session;
use super::{Store, StoreError};
use crate::domain::pause::{MOST_PAUSES, NamedTarget, Pause, PauseTarget};

/// Active pauses that are read at most. Publishers at the same moment may pass the bound of [`MOST_PAUSES`] by a few.
const MOST_READ: i64 = 2 * MOST_PAUSES as i64;

/// What pausing came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pausing {
    /// It is paused from now on, by the pause of this id.
    Paused {
        /// The pause.
        pause_id: i64,
    },
    /// It was paused before, as this says; nothing was recorded.
    AlreadyPaused(Deed),
    /// Too many pauses are active.
    TooMany,
    /// There is no such agent or action.
    NoSuchTarget,
    /// It was paused by somebody else at this moment, and resumed again.
    JustResumed,
}

/// What resuming came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resuming {
    /// It is no longer paused; this is how it had been paused.
    Resumed(Deed),
    /// It was not paused, or somebody else was first to resume it.
    NotPaused,
}

/// A pause with its whole story.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PauseRecord {
    /// Its identity; counts up.
    pub pause_id: i64,
    /// What was paused, as a person names it.
    pub target: NamedTarget,
    /// The action, where it is one.
    pub action_id: Option<i64>,
    /// When, by whom and why it was paused.
    pub begun: Deed,
    /// When, by whom and why it was resumed; `None` while it is paused.
    pub ended: Option<Deed>,
}

/// Something that a person did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Deed {
    /// When.
    pub at: DateTime<Utc>,
    /// Who, in that person's own words.
    pub by: String,
    /// The database user who did it.
    pub db_user: String,
    /// Why.
    pub reason: String,
}

/// A target as three parameters of a statement, of which one kind is given.
#[derive(Default)]
struct Parameters<'a> {
    agent: Option<&'a str>,
    agent_of_action: Option<&'a str>,
    action: Option<&'a str>,
    host: Option<&'a str>,
}

impl<'a> From<&'a NamedTarget> for Parameters<'a> {
    fn from(target: &'a NamedTarget) -> Parameters<'a> {
        match target {
            NamedTarget::Agent(agent) => Parameters { agent: Some(agent), ..Parameters::default() },
            NamedTarget::Action { agent, name } => {
                Parameters { agent_of_action: Some(agent), action: Some(name), ..Parameters::default() }
            }
            NamedTarget::Host(host) => Parameters { host: Some(host), ..Parameters::default() },
        }
    }
}

impl Store {
    /// Pauses what is not paused. `by` is who does so, in that person's own words. An agent is known by its actions; a host needs
    /// not be known at all.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn pause(&self, target: &NamedTarget, reason: &str, by: &str) -> Result<Pausing, StoreError> {
        let wanted = Parameters::from(target);
        // One statement, in which the target becomes what is kept. The trigger admit_pause lets nothing through that is paused.
        let paused = sqlx::query_scalar!(
            r#"
            INSERT INTO postcall.pause (agent, action_id, host, reason, paused_by)
            SELECT target.agent, target.action_id, target.host, $5, $6
            FROM (
                SELECT $1::text AS agent, NULL::bigint AS action_id, NULL::text AS host
                WHERE EXISTS (SELECT FROM postcall.action WHERE action.agent = $1)
                UNION ALL
                SELECT NULL, action.action_id, NULL FROM postcall.action WHERE action.agent = $2 AND action.name = $3
                UNION ALL
                SELECT NULL, NULL, $4 WHERE $4::text IS NOT NULL
            ) AS target
            RETURNING pause_id
            "#,
            wanted.agent,
            wanted.agent_of_action,
            wanted.action,
            wanted.host,
            reason,
            by,
        )
        .fetch_optional(&self.pool)
        .await;
        match paused {
            Ok(Some(pause_id)) => Ok(Pausing::Paused { pause_id }),
            Ok(None) => self.why_not_paused(&wanted).await,
            Err(error) if is_one_too_many(&error) => Ok(Pausing::TooMany),
            Err(error) => Err(error.into()),
        }
    }

    async fn why_not_paused(&self, wanted: &Parameters<'_>) -> Result<Pausing, StoreError> {
        // A statement of its own, because the first one's snapshot is older than what it may have waited for.
        let row = sqlx::query!(
            r#"
            SELECT (SELECT pause_id FROM postcall.active_pause
                    WHERE active_pause.agent = $1 OR active_pause.host = $4
                       OR active_pause.action_id = (SELECT action_id FROM postcall.action WHERE agent = $2 AND name = $3)
                   ) AS pause_id,
                   $4::text IS NOT NULL
                   OR EXISTS (SELECT FROM postcall.action
                              WHERE agent = coalesce($1, $2) AND name = coalesce($3, name)) AS "exists!"
            "#,
            wanted.agent,
            wanted.agent_of_action,
            wanted.action,
            wanted.host,
        )
        .fetch_one(&self.pool)
        .await?;
        let record = match row.pause_id {
            Some(pause_id) => self.describe_pauses(&[pause_id]).await?.pop(),
            None => None,
        };
        Ok(match (record, row.exists) {
            (Some(record), _) => Pausing::AlreadyPaused(record.begun),
            (None, true) => Pausing::JustResumed,
            (None, false) => Pausing::NoSuchTarget,
        })
    }

    /// Resumes what is paused. `by` is who does so, in that person's own words.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn resume(&self, target: &NamedTarget, reason: &str, by: &str) -> Result<Resuming, StoreError> {
        let wanted = Parameters::from(target);
        // The trigger admit_pause_end has the last word: of two who resume the same, it lets one through.
        let resumed = sqlx::query_scalar!(
            r#"
            INSERT INTO postcall.pause_end (pause_id, reason, resumed_by)
            SELECT active_pause.pause_id, $5, $6
            FROM postcall.active_pause
            WHERE active_pause.agent = $1 OR active_pause.host = $4
               OR active_pause.action_id = (SELECT action_id FROM postcall.action WHERE agent = $2 AND name = $3)
            RETURNING pause_id
            "#,
            wanted.agent,
            wanted.agent_of_action,
            wanted.action,
            wanted.host,
            reason,
            by,
        )
        .fetch_optional(&self.pool)
        .await?;
        let Some(pause_id) = resumed else { return Ok(Resuming::NotPaused) };
        let record = self.describe_pauses(&[pause_id]).await?.pop();
        Ok(record.map_or(Resuming::NotPaused, |record| Resuming::Resumed(record.begun)))
    }

    /// What is paused, the newest first, no more than `limit`.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn active_pauses(&self, limit: i64) -> Result<Vec<PauseRecord>, StoreError> {
        let ids =
            sqlx::query_scalar!("SELECT pause_id FROM postcall.active_pause ORDER BY pause_id DESC LIMIT $1", limit)
                .fetch_all(&self.pool)
                .await?;
        self.describe_pauses(&ids).await
    }

    /// What is paused and what was, the newest first, no more than `limit`.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn all_pauses(&self, limit: i64) -> Result<Vec<PauseRecord>, StoreError> {
        let ids = sqlx::query_scalar!("SELECT pause_id FROM postcall.pause ORDER BY pause_id DESC LIMIT $1", limit)
            .fetch_all(&self.pool)
            .await?;
        self.describe_pauses(&ids).await
    }

    /// The pauses of these ids, the newest first.
    pub(super) async fn describe_pauses(&self, ids: &[i64]) -> Result<Vec<PauseRecord>, StoreError> {
        // By id alone, so that it costs what it shows, however long the history of pauses is.
        let rows = sqlx::query!(
            r#"
            SELECT pause.pause_id, pause.agent, pause.action_id, action.agent AS "agent_of_action?", action.name AS "action?",
                   pause.host, pause.reason, pause.paused_by, pause.paused_at, pause.db_user,
                   pause_end.reason AS "end_reason?", pause_end.resumed_by AS "resumed_by?",
                   pause_end.resumed_at AS "resumed_at?", pause_end.db_user AS "end_db_user?"
            FROM postcall.pause
            LEFT JOIN postcall.action ON action.action_id = pause.action_id
            LEFT JOIN postcall.pause_end ON pause_end.pause_id = pause.pause_id
            WHERE pause.pause_id = ANY ($1)
            ORDER BY pause.pause_id DESC
            "#,
            ids,
        )
        .fetch_all(&self.pool)
        .await?;
        let records = rows.into_iter().filter_map(|row| {
            let ended = || {
                let (at, by) = (row.resumed_at?, row.resumed_by?);
                Some(Deed { at, by, db_user: row.end_db_user?, reason: row.end_reason? })
            };
            Some(PauseRecord {
                pause_id: row.pause_id,
                target: named(row.agent, row.agent_of_action.zip(row.action), row.host)?,
                action_id: row.action_id,
                begun: Deed { at: row.paused_at, by: row.paused_by, db_user: row.db_user, reason: row.reason },
                ended: ended(),
            })
        });
        Ok(records.collect())
    }
}

/// A row's target. The CHECK constraints allow no row without one.
fn named(agent: Option<String>, action: Option<(String, String)>, host: Option<String>) -> Option<NamedTarget> {
    let agent = agent.map(NamedTarget::Agent);
    let action = action.map(|(agent, name)| NamedTarget::Action { agent, name });
    agent.or(action).or(host.map(NamedTarget::Host))
}

/// Whether the trigger admit_pause refuses it because as many are active as there can be.
fn is_one_too_many(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|reported| reported.constraint() == Some("active_pauses_are_bounded"))
}

impl Session {
    /// What is paused, in no particular order. Costs what is paused, whatever was paused before. A host that cannot be read, which
    /// no command of ours writes, is none that anything could be sent to, and is left out.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn active_pauses(&mut self) -> Result<Vec<Pause>, StoreError> {
        // Ordered by the key, so that it is read by its index, as all that a dispatcher reads.
        let statement = sqlx::query!(
            "SELECT pause_id, agent, action_id, host FROM postcall.active_pause ORDER BY pause_id DESC LIMIT $1",
            MOST_READ,
        );
        let pauses = self.fetch_all(statement).await?.into_iter().filter_map(|row| {
            let agent = row.agent.map(|agent| PauseTarget::Agent(agent.into()));
            let action = row.action_id.map(PauseTarget::Action);
            let host = row.host.and_then(|host| host.parse().ok()).map(PauseTarget::Host);
            Some(Pause { pause_id: row.pause_id, target: agent.or(action).or(host)? })
        });
        Ok(pauses.collect())
    }
}

/// Names of agents that are compared with one that does not exist, at most.
const MOST_NAMES: i64 = 10_000;

impl Store {
    /// Agents that have actions, and the names of those: at most 10,000 actions, for saying what was probably meant.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn names(&self) -> Result<BTreeMap<String, Vec<String>>, StoreError> {
        // In the order of the index on agent and name.
        let rows = sqlx::query!("SELECT agent, name FROM postcall.action ORDER BY agent, name LIMIT $1", MOST_NAMES)
            .fetch_all(&self.pool)
            .await?;
        let mut names: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for row in rows {
            names.entry(row.agent).or_default().push(row.name);
        }
        Ok(names)
    }
}
