//! Which calls have arrived, and why some of them have no delivery.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;
use uuid::Uuid;

use crate::domain::nearest::nearest_name;
use crate::domain::visible::visible;
use crate::store::calls::{AgentActions, CallFilter, CallRecord, CallsFound};
use crate::store::search::Patience;
use crate::store::{Store, StoreError};

/// A call, and why it has no delivery if it has none.
#[derive(Clone, Debug, Serialize)]
pub struct Arrived {
    /// The call.
    #[serde(flatten)]
    pub call: CallRecord,
    /// Why it has no delivery; `None` if it has one.
    pub without: Option<Without>,
}

/// Why a call has no delivery. That no action of its agent was enabled when it was inserted is certain: that was
/// recorded then. The rest is what is known about the agent's actions today.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum Without {
    /// No action was ever published for the agent.
    AgentUnknown {
        /// The nearest agent that has actions.
        meant: Option<String>,
    },
    /// The agent's first action was published after the call was inserted.
    PublishedLater {
        /// When.
        first_published_at: DateTime<Utc>,
    },
    /// The agent had actions, and none of them was enabled.
    NoneEnabled {
        /// How many of its actions are enabled today.
        enabled_today: i64,
        /// How many actions it has today.
        actions_today: i64,
    },
    /// The call is from before it was recorded which actions were enabled.
    NotRecorded,
}

/// Calls, and where the rest begins.
#[derive(Debug)]
pub struct Arrivals {
    /// The calls.
    pub calls: Vec<Arrived>,
    /// The call behind which a look for the rest goes on; `None` if there is no rest.
    pub rest_after: Option<Uuid>,
    /// How many calls were looked at, if it was not enough to find as many as were wanted.
    pub looked_at: i64,
}

/// Up to `limit` calls that match and come after the call `after`, the newest first.
///
/// # Errors
/// Only those of the database.
pub async fn arrivals(
    store: &Store,
    filter: &CallFilter,
    after: Option<Uuid>,
    limit: usize,
) -> Result<Arrivals, StoreError> {
    arrived(store, store.calls(filter, after, limit).await?).await
}

/// As [`arrivals`], with this patience.
///
/// # Errors
/// Only those of the database.
pub async fn arrivals_within(
    store: &Store,
    filter: &CallFilter,
    after: Option<Uuid>,
    limit: usize,
    patience: Patience,
) -> Result<Arrivals, StoreError> {
    arrived(store, store.calls_within(filter, after, limit, patience).await?).await
}

async fn arrived(store: &Store, found: CallsFound) -> Result<Arrivals, StoreError> {
    let CallsFound { calls, rest_after, looked_at } = found;
    Ok(Arrivals { calls: explained(store, calls).await?, rest_after, looked_at })
}

/// The calls with the reasons why they have no delivery.
///
/// # Errors
/// Only those of the database.
pub async fn explained(store: &Store, calls: Vec<CallRecord>) -> Result<Vec<Arrived>, StoreError> {
    let without: BTreeSet<&String> =
        calls.iter().filter(|call| call.deliveries == Some(0)).map(|call| &call.agent).collect();
    let agents: Vec<String> = without.into_iter().cloned().collect();
    let known: BTreeMap<String, AgentActions> = if agents.is_empty() {
        BTreeMap::new()
    } else {
        let known = store.agents_actions(&agents).await?;
        known.into_iter().map(|actions| (actions.agent.clone(), actions)).collect()
    };
    let is_any_unknown = agents.iter().any(|agent| !known.contains_key(agent));
    let names = if is_any_unknown { store.names().await? } else { BTreeMap::new() };
    let meant = |agent: &str| nearest_name(agent, names.keys().map(String::as_str)).map(str::to_owned);
    Ok(calls
        .into_iter()
        .map(|call| {
            let without = match call.deliveries {
                None => Some(Without::NotRecorded),
                Some(0) => Some(Without::of(&call, known.get(&call.agent), meant)),
                Some(_) => None,
            };
            Arrived { call, without }
        })
        .collect())
}

impl Without {
    /// Why a call has no delivery: words that go on after the call.
    pub fn in_words(&self) -> String {
        match self {
            Without::AgentUnknown { meant } => {
                let meant = meant.as_ref().map(|name| format!(": did you mean {}?", visible(name))).unwrap_or_default();
                format!("agent unknown: it has no action{meant}")
            }
            Without::PublishedLater { first_published_at } => {
                let first = first_published_at.to_rfc3339_opts(SecondsFormat::Secs, true);
                format!("published later: the agent's first action is from {first}")
            }
            Without::NoneEnabled { enabled_today, actions_today } => {
                format!("none enabled at that moment (today {enabled_today} of {actions_today})")
            }
            Without::NotRecorded => "not recorded: the call is from before that was kept".to_owned(),
        }
    }

    fn of(call: &CallRecord, actions: Option<&AgentActions>, meant: impl Fn(&str) -> Option<String>) -> Without {
        match actions {
            None => Without::AgentUnknown { meant: meant(&call.agent) },
            Some(actions) if actions.first_published_at > call.created_at => {
                Without::PublishedLater { first_published_at: actions.first_published_at }
            }
            Some(actions) => Without::NoneEnabled { enabled_today: actions.enabled, actions_today: actions.count },
        }
    }
}
