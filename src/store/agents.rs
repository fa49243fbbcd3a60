//! Agents and their actions, page by page, for people. The rights of an auditor suffice, except for [`Store::templates`].

use chrono::{DateTime, Utc};

use super::actions::{VersionRow, opened_row, read};
use super::sealed_versions::{SealColumns, opened};
use super::{Store, StoreError};
use crate::domain::action::ActionSpec;
use crate::domain::claim::VersionKey;
use crate::domain::sealed_version::{Unopened, VersionOwner};

/// An agent that has actions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentSummary {
    /// The agent.
    pub agent: String,
    /// How many actions it has.
    pub actions: i64,
    /// How many of them are enabled.
    pub enabled: i64,
}

/// An action as those may see it who may not read templates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActionSummary {
    /// Its id.
    pub action_id: i64,
    /// Its name among the agent's actions.
    pub name: String,
    /// Whether it is sent at all.
    pub enabled: bool,
    /// The newest version, which is the one sent.
    pub version: i32,
    /// The HTTP method.
    pub method: String,
    /// Deadline of the whole request, in milliseconds.
    pub timeout_ms: i32,
    /// When the version was published.
    pub published_at: DateTime<Utc>,
    /// Who published it, in that person's own words.
    pub published_by: String,
    /// Scheme, host and port of its URL as written.
    pub target: Option<String>,
}

/// The templates of a version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Templates {
    /// The action.
    pub action_id: i64,
    /// The content of the version, if its templates can be seen.
    pub spec: Result<ActionSpec, Unopened>,
}

/// From where on a page is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum From {
    /// From the beginning.
    Start,
    /// Behind this name.
    After(String),
    /// The names next before this one.
    Before(String),
}

impl Store {
    /// Whether any agent has an action of this name. Actions are never deleted, so a name that none has is in no delivery.
    pub(super) async fn is_an_action(&self, name: &str) -> Result<bool, StoreError> {
        // Reads the actions until one has the name: without an index, because there are few beside what a search for an action has to
        // read in history.
        let is = sqlx::query_scalar!(r#"SELECT EXISTS (SELECT FROM postcall.action WHERE name = $1) AS "is!""#, name);
        Ok(is.fetch_one(&self.pool).await?)
    }

    /// Agents whose names begin with `prefix`, in the order of their names, at most `limit`.
    pub async fn agents(&self, prefix: &str, from: &From, limit: usize) -> Result<Vec<AgentSummary>, StoreError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let after = match from {
            From::Start => None,
            From::After(agent) => Some(agent),
            From::Before(agent) => {
                let mut page = self.agents_before(prefix, agent, limit).await?;
                page.reverse();
                return Ok(page);
            }
        };
        // Goes along the index on agent and name, and ends at the limit. The beginning of a name is compared, and not
        // looked up: a range of names that begin alike exists only in some collations. So a rare beginning costs as much
        // as there are actions, and nothing else makes it cost more: neither history nor what waits.
        let agents = sqlx::query_as!(
            AgentSummary,
            r#"
            SELECT agent, count(*) AS "actions!", count(*) FILTER (WHERE enabled) AS "enabled!"
            FROM postcall.action
            WHERE starts_with(agent, $1) AND ($2::text IS NULL OR agent > $2)
            GROUP BY agent ORDER BY agent LIMIT $3
            "#,
            prefix,
            after,
            limit,
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(agents)
    }

    async fn agents_before(&self, prefix: &str, agent: &str, limit: i64) -> Result<Vec<AgentSummary>, StoreError> {
        // As above, in the other direction.
        let agents = sqlx::query_as!(
            AgentSummary,
            r#"
            SELECT agent, count(*) AS "actions!", count(*) FILTER (WHERE enabled) AS "enabled!"
            FROM postcall.action
            WHERE starts_with(agent, $1) AND agent < $2
            GROUP BY agent ORDER BY agent DESC LIMIT $3
            "#,
            prefix,
            agent,
            limit,
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(agents)
    }

    /// The actions of an agent in the order of their names, from the one behind `after` on, at most `limit`.
    pub async fn action_summaries(
        &self,
        agent: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<ActionSummary>, StoreError> {
        // The agent's part of the index on agent and name, in its order. Their targets come from the view, because an
        // auditor may not read the URLs.
        let actions = sqlx::query_as!(
            ActionSummary,
            r#"
            SELECT action.action_id, action.name, action.enabled, action.version, action_version.method,
                   action_version.timeout_ms, action_version.published_at, action_version.published_by,
                   (SELECT target FROM postcall.action_target WHERE action_target.action_id = action.action_id) AS target
            FROM postcall.action
            JOIN postcall.action_version
                ON action_version.action_id = action.action_id AND action_version.version = action.version
            WHERE action.agent = $1 AND ($2::text IS NULL OR action.name > $2)
            ORDER BY action.name LIMIT $3
            "#,
            agent,
            after,
            i64::try_from(limit).unwrap_or(i64::MAX),
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(actions)
    }

    /// The templates of these versions, in no particular order.
    ///
    /// # Errors
    /// Returns the database's error, also if the user may not read templates, as an auditor may not.
    pub async fn templates(&self, keys: &[VersionKey]) -> Result<Vec<Templates>, StoreError> {
        let (actions, versions): (Vec<i64>, Vec<i32>) = keys.iter().map(|key| (key.action_id, key.version)).unzip();
        // By primary keys, two look-ups for each.
        let rows = sqlx::query!(
            r#"
            SELECT action_id, action_version.version, agent, method, url, timeout_ms, headers, body, client_certificate,
                   key_id, wrapped_key, sealed_value, digest
            FROM postcall.action_version
            JOIN unnest($1::bigint[], $2::int[]) AS wanted (action_id, version) USING (action_id, version)
            JOIN postcall.action USING (action_id)
            "#,
            &actions,
            &versions,
        )
        .fetch_all(&self.pool)
        .await?;
        rows.into_iter()
            .map(|row| {
                let owner = VersionOwner { agent: &row.agent, action_id: row.action_id, version: row.version };
                let spec = opened_row!(row, owner, self.keys.as_deref());
                Ok(Templates { action_id: row.action_id, spec })
            })
            .collect()
    }
}
