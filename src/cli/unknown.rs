//! What is said where an agent or an action does not exist: which one was probably meant, and which command shows those that do.

use super::CliError;
use super::action::Which;
use crate::domain::action::DEFAULT_NAME;
use crate::domain::visible::visible;
use crate::service::pause::{Missing, told_missing, unknown};
use crate::store::{Store, StoreError};

/// What does not exist, what was probably meant, and the command that shows what there is.
pub(super) fn told(missing: &Missing) -> String {
    let cure = match missing {
        Missing::Action { agent, .. } => format!("; `postcall action list {}` shows what it has", visible(agent)),
        Missing::Agent { .. } => "; `postcall action list` shows the agents that have".to_owned(),
        Missing::Host(_) => String::new(),
    };
    format!("{}{cure}", told_missing(missing))
}

/// Says on stderr that the agent of a search that found nothing has no actions, or that the action is none of its actions. Nothing is said
/// where they exist, nor to a database user who may not read actions.
pub(super) async fn say(store: &Store, agent: Option<&str>, action: Option<&str>) -> Result<(), StoreError> {
    if let Some(missing) = look(store, agent, action).await? {
        eprintln!("{}", told(&missing));
    }
    Ok(())
}

/// What of this does not exist, as far as the database user may know it.
pub(super) async fn look(
    store: &Store,
    agent: Option<&str>,
    action: Option<&str>,
) -> Result<Option<Missing>, StoreError> {
    let Some(agent) = agent else { return Ok(None) };
    match unknown(store, agent, action).await {
        Err(error) if error.is_forbidden() => Ok(None),
        found => found,
    }
}

/// Says on stderr, before an agent or an action is made, that its name is like that of another one.
pub(super) async fn warn_of_new(store: &Store, which: &Which) -> Result<(), StoreError> {
    let (agent, name) = (visible(&which.agent), visible(&which.name));
    let (new, meant) = match unknown(store, &which.agent, Some(&which.name)).await? {
        Some(Missing::Agent { meant: Some(meant), .. }) => (format!("agent {agent} is new"), meant),
        Some(Missing::Action { meant: Some(meant), .. }) => {
            (format!("action {name} of agent {agent} is new, and is sent beside the others"), meant)
        }
        _ => return Ok(()),
    };
    let named = named(&which.name);
    eprintln!("warning: {new}: did you mean {}? If so, `postcall action disable {agent}{named}`", visible(&meant));
    Ok(())
}

/// Says on stderr, when something is kept for an agent that has no actions, that its name is like that of one that has.
pub(super) async fn warn_of_agent(store: &Store, agent: &str) -> Result<(), StoreError> {
    if let Some(missing @ Missing::Agent { meant: Some(_), .. }) = look(store, Some(agent), None).await? {
        eprintln!("warning: {}", told_missing(&missing));
    }
    Ok(())
}

/// That the action, or this version of it, does not exist.
pub(super) async fn no_such_action(store: &Store, which: &Which, version: Option<i32>) -> CliError {
    let (agent, name) = (visible(&which.agent), visible(&which.name));
    match (unknown(store, &which.agent, Some(&which.name)).await, version) {
        (Err(error), _) => error.into(),
        (Ok(Some(missing)), _) => CliError::Problem(told(&missing)),
        (Ok(None), Some(version)) => CliError::Problem(format!(
            "agent {agent} has no action {name} version {version}; `postcall action versions {agent}{}` shows what it has",
            named(&which.name)
        )),
        // Since it was looked for, somebody has published it.
        (Ok(None), None) => CliError::Problem(format!("agent {agent} had no action {name}; repeat the command")),
    }
}

/// The argument that names an action, for a command to type.
fn named(name: &str) -> String {
    if name == DEFAULT_NAME { String::new() } else { format!(" --name {}", visible(name)) }
}
