//! Agents, actions and hosts by name: what was probably meant where a name leads nowhere.

use crate::domain::nearest::nearest_name;
use crate::domain::pause::NamedTarget;
use crate::domain::visible::visible;
use crate::store::{Store, StoreError};

/// What does not exist of a target, and the name that was probably meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Missing {
    /// The agent has no actions at all.
    Agent {
        /// The agent.
        agent: String,
        /// The nearest agent that has actions.
        meant: Option<String>,
    },
    /// The agent has actions, and this is none of them.
    Action {
        /// The agent.
        agent: String,
        /// The action's name.
        name: String,
        /// The nearest of the agent's actions.
        meant: Option<String>,
    },
    /// The host.
    Host(String),
}

/// What does not exist of `target`, which could not be paused for that reason.
///
/// # Errors
/// Only those of the database.
pub async fn missing(store: &Store, target: &NamedTarget) -> Result<Missing, StoreError> {
    let names = store.names().await?;
    Ok(match target {
        NamedTarget::Action { agent, name } if names.contains_key(agent) => {
            let of_agent = names.get(agent).into_iter().flatten().map(String::as_str);
            let meant = nearest_name(name, of_agent).map(str::to_owned);
            Missing::Action { agent: agent.clone(), name: name.clone(), meant }
        }
        NamedTarget::Agent(agent) | NamedTarget::Action { agent, .. } => {
            let meant = nearest_name(agent, names.keys().map(String::as_str)).map(str::to_owned);
            Missing::Agent { agent: agent.clone(), meant }
        }
        NamedTarget::Host(host) => Missing::Host(host.clone()),
    })
}

/// The most actions of an agent that are looked at for the one of a name.
const MOST_LOOKED_AT: usize = 10_000;

/// What does not exist of this agent, or of its action if one is named; `None` if all of it does.
///
/// # Errors
/// Only those of the database.
pub async fn unknown(store: &Store, agent: &str, action: Option<&str>) -> Result<Option<Missing>, StoreError> {
    let actions = store.action_summaries(agent, None, MOST_LOOKED_AT).await?;
    if actions.is_empty() {
        return Ok(Some(missing(store, &NamedTarget::Agent(agent.to_owned())).await?));
    }
    let Some(name) = action.filter(|name| actions.iter().all(|other| other.name != *name)) else { return Ok(None) };
    let meant = nearest_name(name, actions.iter().map(|other| other.name.as_str())).map(str::to_owned);
    Ok(Some(Missing::Action { agent: agent.to_owned(), name: name.to_owned(), meant }))
}

/// What does not exist, in words, and what was probably meant.
pub fn told_missing(missing: &Missing) -> String {
    let meant = |name: &Option<String>| match name {
        Some(name) => format!(": did you mean {}?", visible(name)),
        None => String::new(),
    };
    match missing {
        Missing::Action { agent, name, meant: nearest } => {
            format!("agent {} has no action {}{}", visible(agent), visible(name), meant(nearest))
        }
        Missing::Agent { agent, meant: nearest } => {
            format!("agent {} has no actions{}", visible(agent), meant(nearest))
        }
        Missing::Host(host) => format!("host {host}"),
    }
}

/// Whether `target` is a host that no action goes to at present. A host need not be known, and is probably a slip if it is
/// not.
///
/// # Errors
/// Only those of the database.
pub async fn is_unused_host(store: &Store, target: &NamedTarget) -> Result<bool, StoreError> {
    let NamedTarget::Host(host) = target else { return Ok(false) };
    let Ok(pattern) = host.parse() else { return Ok(false) };
    Ok(!store.is_host_used(&pattern).await?)
}
