//! The agents, actions and hosts that people have paused.

use std::collections::HashSet;
use std::sync::Arc;

use super::lane::Owners;
use crate::domain::host::HostPattern;
use crate::domain::pause::PauseTarget;

/// Everything that is paused now in one outbox. Looking up a lane costs the same, whatever the number of pauses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Paused {
    agents: HashSet<Arc<str>>,
    actions: HashSet<i64>,
    hosts: HashSet<HostPattern>,
}

impl FromIterator<PauseTarget> for Paused {
    fn from_iter<T: IntoIterator<Item = PauseTarget>>(targets: T) -> Paused {
        let mut paused = Paused::default();
        for target in targets {
            match target {
                PauseTarget::Agent(agent) => drop(paused.agents.insert(agent)),
                PauseTarget::Action(action) => drop(paused.actions.insert(action)),
                PauseTarget::Host(host) => drop(paused.hosts.insert(host)),
            }
        }
        paused
    }
}

impl Paused {
    /// Whether a lane is paused, by its action, its agent or its host.
    pub(super) fn covers(&self, action_id: i64, owners: &Owners) -> bool {
        self.actions.contains(&action_id)
            || self.agents.contains(&owners.agent)
            || (!self.hosts.is_empty()
                && owners.host.as_ref().is_some_and(|origin| {
                    HostPattern::of(&origin.host).iter().any(|pattern| self.hosts.contains(pattern))
                }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::host::Origin;

    #[test]
    fn it_covers_exactly_what_one_of_its_targets_covers() {
        let host = |text: &str| PauseTarget::Host(text.parse().unwrap());
        let targets = [
            PauseTarget::Agent("a".into()),
            PauseTarget::Action(2),
            host("crm.example"),
            host("other.example:8443"),
            host("[2001:db8::1]"),
        ];
        let urls =
            ["https://crm.example/", "http://other.example/", "https://other.example:8443/", "http://[2001:db8::1]:1/"];
        for target in &targets {
            let paused: Paused = [target.clone()].into_iter().collect();
            for (agent, lane) in [("a", 1), ("b", 2), ("b", 1)] {
                for origin in urls.map(Origin::of_url).into_iter().chain([None]) {
                    let covers = target.covers(agent, lane, origin.as_ref().map(|origin| &origin.host));
                    let owners = Owners { agent: agent.into(), host: origin };
                    assert_eq!(paused.covers(lane, &owners), covers, "{target:?} {owners:?}");
                }
            }
        }
    }
}
