//! A pause: paused deliveries wait, they do not fail. Deliveries that are in flight when the pause begins are finished
//! normally.

use std::fmt;
use std::sync::Arc;

use super::host::{Host, HostPattern};

/// How many pauses can be active at the same time; the schema refuses more (`postcall.admit_pause`).
pub const MOST_PAUSES: usize = 1_000;

/// An active pause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pause {
    /// The pause's id; each new pause has a new one.
    pub pause_id: i64,
    /// What is paused.
    pub target: PauseTarget,
}

/// What a pause keeps from being sent, in the form that dispatchers use.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PauseTarget {
    /// All actions of an agent, including those that are published later.
    Agent(Arc<str>),
    /// One action, by its id.
    Action(i64),
    /// All deliveries to a host, of any agent.
    Host(HostPattern),
}

impl PauseTarget {
    /// Whether the pause keeps this action of this agent, which sends to this host, from being sent.
    pub fn covers(&self, agent: &str, action_id: i64, host: Option<&Host>) -> bool {
        match self {
            PauseTarget::Agent(paused) => **paused == *agent,
            PauseTarget::Action(paused) => *paused == action_id,
            PauseTarget::Host(pattern) => host.is_some_and(|host| pattern.matches(host)),
        }
    }
}

/// What a person pauses or resumes. Actions are given by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NamedTarget {
    /// All actions of an agent.
    Agent(String),
    /// One action.
    Action {
        /// Its agent.
        agent: String,
        /// Its name among the agent's actions.
        name: String,
    },
    /// All deliveries to a host. It is text and not a [`HostPattern`], because the database may hold a text that cannot
    /// be parsed.
    Host(String),
}

impl fmt::Display for NamedTarget {
    /// Writes the target with the words of the commands `pause` and `resume`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NamedTarget::Agent(agent) => write!(formatter, "agent {agent}"),
            NamedTarget::Action { agent, name } => write!(formatter, "action {agent} {name}"),
            NamedTarget::Host(host) => write!(formatter, "host {host}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_covers_what_it_names_and_nothing_beside_it() {
        let (crm, other) =
            (Host::of_url("https://crm.example/").unwrap(), Host::of_url("https://other.example/").unwrap());
        let lanes = [("a", 1, Some(&crm)), ("a", 2, Some(&other)), ("b", 3, Some(&crm)), ("b", 4, None)];
        for (target, covered) in [
            (PauseTarget::Agent("a".into()), vec![1, 2]),
            (PauseTarget::Action(3), vec![3]),
            (PauseTarget::Host("crm.example".parse().unwrap()), vec![1, 3]),
            (PauseTarget::Host("crm.example:8443".parse().unwrap()), vec![]),
        ] {
            let found: Vec<i64> = lanes
                .iter()
                .filter(|(agent, action_id, host)| target.covers(agent, *action_id, *host))
                .map(|(_, action_id, _)| *action_id)
                .collect();
            assert_eq!(found, covered, "{target:?}");
        }
    }

    #[test]
    fn a_target_is_written_with_the_words_of_the_commands() {
        let (agent, name) = ("a 1".to_owned(), "crm".to_owned());
        for (target, written) in [
            (NamedTarget::Agent(agent.clone()), "agent a 1"),
            (NamedTarget::Action { agent, name }, "action a 1 crm"),
            (NamedTarget::Host("crm.example:8443".to_owned()), "host crm.example:8443"),
        ] {
            assert_eq!(target.to_string(), written);
        }
    }
}
