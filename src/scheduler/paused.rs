//! What people have paused.

use std::collections::HashSet;
use std::sync::Arc;

use super::lane::{LaneId, Owners};

/// Everything that is paused now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Paused {
    /// Agents.
    pub agents: HashSet<Arc<str>>,
    /// Actions.
    pub lanes: HashSet<LaneId>,
    /// Hosts, with a port (`crm.example:443`) or without (`crm.example`, which means all of its ports).
    pub hosts: HashSet<Arc<str>>,
}

impl Paused {
    /// Whether a lane is paused, by whichever of its names.
    pub(super) fn covers(&self, lane: LaneId, owners: &Owners) -> bool {
        let host_is_paused = |host: &Arc<str>| {
            let name = host.rsplit_once(':').map_or(&**host, |(name, _port)| name);
            self.hosts.contains(host) || self.hosts.contains(name)
        };
        self.lanes.contains(&lane)
            || self.agents.contains(&owners.agent)
            || (!self.hosts.is_empty() && owners.host.as_ref().is_some_and(host_is_paused))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_is_paused_by_its_action_its_agent_its_host_or_its_host_and_port() {
        let owners = Owners { agent: "a".into(), host: Some("crm.example:443".into()) };
        let paused = |lanes: &[LaneId], agents: &[&str], hosts: &[&str]| {
            let names = |names: &[&str]| names.iter().map(|name| Arc::from(*name)).collect();
            Paused { agents: names(agents), lanes: lanes.iter().copied().collect(), hosts: names(hosts) }
        };
        for covers in [
            paused(&[1], &[], &[]),
            paused(&[], &["a"], &[]),
            paused(&[], &[], &["crm.example"]),
            paused(&[], &[], &["crm.example:443"]),
        ] {
            assert!(covers.covers(1, &owners), "{covers:?}");
        }
        assert!(!paused(&[2], &["b"], &["crm.example:80", "example", "443"]).covers(1, &owners));
        let nowhere = Owners { host: None, ..owners };
        assert!(!paused(&[], &[], &["crm.example"]).covers(1, &nowhere));
        let v6 = Owners { agent: "a".into(), host: Some("[2001:db8::1]:443".into()) };
        assert!(paused(&[], &[], &["[2001:db8::1]"]).covers(1, &v6));
    }
}
