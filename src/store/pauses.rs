//! Pauses: what is paused, since when, by whom, and what was paused before. Each pause is a row that is never deleted.
//! The active pauses are also in a small table, which triggers maintain (`postcall.admit_pause`,
//! `postcall.admit_pause_end`).

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::session::Session;
use super::{Store, StoreError};
use crate::domain::pause::{MOST_PAUSES, NamedTarget, Pause, PauseTarget};

/// The largest number of active pauses that are read. Pauses that are made at the same moment can exceed
/// [`MOST_PAUSES`] by a few.
const MOST_READ: i64 = 2 * MOST_PAUSES as i64;

/// The result of pausing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pausing {
    /// The target is paused from now on.
    Paused {
        /// The id of the new pause.
        pause_id: i64,
    },
    /// The target was already paused, as described here. Nothing was recorded.
    AlreadyPaused(Deed),
    /// The largest number of active pauses is reached.
    TooMany,
    /// There is no such agent or action.
    NoSuchTarget,
    /// Somebody else paused the target at the same moment and resumed it again.
    JustResumed,
}

/// The result of resuming.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resuming {
    /// The target is no longer paused; this is when, by whom and why it had been paused.
    Resumed(Deed),
    /// The target was not paused, or somebody else resumed it first.
    NotPaused,
}

/// A pause, with its end if it has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PauseRecord {
    /// The pause's id. Later pauses have larger ids.
    pub pause_id: i64,
    /// What was paused, as a person names it.
    pub target: NamedTarget,
    /// The action's id, if the target is an action.
    pub action_id: Option<i64>,
    /// When, by whom and why it was paused.
    pub begun: Deed,
    /// When, by whom and why it was resumed; `None` while it is paused.
    pub ended: Option<Deed>,
}

/// Something that a person did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Deed {
    /// The time at which it was recorded.
    pub at: DateTime<Utc>,
    /// Who did it, in that person's own words.
    pub by: String,
    /// The database user who did it.
    pub db_user: String,
    /// The reason that this person gave.
    pub reason: String,
}

/// A target as the parameters of a statement. Only those of the target's kind are set.
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
    /// Pauses a target. `by` is who does so, in that person's own words. An agent must have at least one action; a host
    /// need not be used by any action.
    pub async fn pause(&self, target: &NamedTarget, reason: &str, by: &str) -> Result<Pausing, StoreError> {
        let wanted = Parameters::from(target);
        // One statement, which also looks the target up. The trigger admit_pause inserts nothing if the target is
        // already paused.
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
        // A separate statement, because the snapshot of the first one is older than the transaction for which it may
        // have waited.
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

    /// Resumes a target. `by` is who does so, in that person's own words.
    pub async fn resume(&self, target: &NamedTarget, reason: &str, by: &str) -> Result<Resuming, StoreError> {
        let wanted = Parameters::from(target);
        // The trigger admit_pause_end decides: if two people resume the same target, it accepts one.
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

    /// Returns the active pauses, the newest first, at most `limit`.
    pub async fn active_pauses(&self, limit: i64) -> Result<Vec<PauseRecord>, StoreError> {
        let ids =
            sqlx::query_scalar!("SELECT pause_id FROM postcall.active_pause ORDER BY pause_id DESC LIMIT $1", limit)
                .fetch_all(&self.pool)
                .await?;
        self.describe_pauses(&ids).await
    }

    /// Returns active and ended pauses, the newest first, at most `limit`.
    pub async fn all_pauses(&self, limit: i64) -> Result<Vec<PauseRecord>, StoreError> {
        let ids = sqlx::query_scalar!("SELECT pause_id FROM postcall.pause ORDER BY pause_id DESC LIMIT $1", limit)
            .fetch_all(&self.pool)
            .await?;
        self.describe_pauses(&ids).await
    }

    /// Returns the pauses with these ids, the newest first.
    pub(super) async fn describe_pauses(&self, ids: &[i64]) -> Result<Vec<PauseRecord>, StoreError> {
        // Looked up by id only, so that the cost depends on the number of ids, not on how many pauses there ever were.
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

/// The target in a row. The CHECK constraints allow no row without one.
fn named(agent: Option<String>, action: Option<(String, String)>, host: Option<String>) -> Option<NamedTarget> {
    let agent = agent.map(NamedTarget::Agent);
    let action = action.map(|(agent, name)| NamedTarget::Action { agent, name });
    agent.or(action).or(host.map(NamedTarget::Host))
}

/// Whether the trigger admit_pause refused the pause because the largest number of active pauses is reached.
fn is_one_too_many(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|reported| reported.constraint() == Some("active_pauses_are_bounded"))
}

impl Session {
    /// Returns the active pauses. The cost does not depend on how many pauses there were before. A host that cannot be
    /// parsed is left out: no command writes one, and nothing could be sent to it.
    pub async fn active_pauses(&mut self) -> Result<Vec<Pause>, StoreError> {
        // Ordered by the key, so that the statement uses its index, as all statements of a dispatcher do.
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

/// The largest number of actions whose names are compared with a name that does not exist.
const MOST_NAMES: i64 = 10_000;

impl Store {
    /// Returns agents and the names of their actions, at most 10,000 actions. Callers use them to suggest the name that
    /// was probably meant.
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
