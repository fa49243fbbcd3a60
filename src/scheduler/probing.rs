//! When which unreachable host is probed, and what that shows.

use std::collections::BTreeSet;
use std::time::Instant;

use hashbrown::HashMap;

use super::Scheduler;
use super::host::Host;
use crate::domain::host::Origin;

/// What a probe has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// The host can be reached.
    Connected,
    /// It said no, or its name cannot be resolved.
    Refused,
    /// There was no answer in time.
    NoAnswer,
}

/// Takes hosts whose probes are due, and notes that these are under way. One for which nobody waits any more is not probed.
fn take_due(
    probes: &mut BTreeSet<(Instant, Origin)>,
    hosts: &mut HashMap<Origin, Host>,
    most: usize,
    now: Instant,
) -> Vec<Origin> {
    let mut due_now = Vec::new();
    while due_now.len() < most
        && let Some((due, name)) = probes.first().filter(|(due, _)| *due <= now).cloned()
    {
        probes.pop_first();
        let Some(host) = hosts.get_mut(&name) else { continue };
        if host.gate.waiting() == 0 {
            host.reach.suspect();
        } else if host.reach.begin_probe(due) {
            due_now.push(name);
        }
    }
    due_now
}

impl Scheduler {
    /// Hosts that are to be probed now: `most` of them, and apart from them `most_black_holes` of those whose last probe had
    /// no answer of any kind, so that these keep no other host waiting. Each is under way until [`Scheduler::probed`].
    pub fn probes_due(&mut self, most: usize, most_black_holes: usize, now: Instant) -> (Vec<Origin>, Vec<Origin>) {
        let hosts = take_due(&mut self.probes, &mut self.hosts, most, now);
        (hosts, take_due(&mut self.probes_of_black_holes, &mut self.hosts, most_black_holes, now))
    }

    /// When the next probe is due.
    pub fn next_probe(&self) -> Option<Instant> {
        [self.probes.first(), self.probes_of_black_holes.first()].into_iter().flatten().map(|(due, _)| *due).min()
    }

    /// What a probe has shown.
    pub fn probed(&mut self, name: &Origin, probe: Probe, now: Instant) {
        let Some(host) = self.hosts.get_mut(name) else { return };
        if probe == Probe::Connected {
            host.reach.probe_connected();
            host.limit.begin_small();
            self.call_host(name);
        } else if let Some(due) = host.reach.probe_failed(probe == Probe::NoAnswer, now) {
            let probes = if host.reach.is_black_hole() { &mut self.probes_of_black_holes } else { &mut self.probes };
            probes.insert((due, name.clone()));
        }
    }
}
