//! Decides when which unreachable host is probed, and takes the results of probes.

use std::collections::BTreeSet;
use std::time::Instant;

use hashbrown::HashMap;

use super::Scheduler;
use super::host::KnownHost;
use crate::domain::host::Origin;

/// The result of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// The host can be reached.
    Connected,
    /// The probe failed before its time was over: the host refused the connection, or its name cannot be resolved.
    Refused,
    /// There was no answer in time.
    NoAnswer,
}

/// Takes the hosts whose probes are due, and notes that these probes are under way. A host for which no lane waits is
/// not probed.
fn take_due(
    probes: &mut BTreeSet<(Instant, Origin)>,
    hosts: &mut HashMap<Origin, KnownHost>,
    most: usize,
    now: Instant,
) -> Vec<Origin> {
    let mut due_now = Vec::new();
    while due_now.len() < most
        && let Some((due, name)) = probes.first().filter(|(due, _)| *due <= now).cloned()
    {
        probes.pop_first();
        let Some(host) = hosts.get_mut(&name) else { continue };
        if host.queue.waiting() == 0 {
            host.reach.suspect();
        } else if host.reach.begin_probe(due) {
            due_now.push(name);
        }
    }
    due_now
}

impl Scheduler {
    /// The hosts that must be probed now: first `most` at most, and then `most_black_holes` at most of the hosts whose
    /// last probe had no answer of any kind. The two numbers are separate, so that the latter keep no other host
    /// waiting. Each probe is under way until [`Scheduler::probed`] is called.
    pub fn probes_due(&mut self, most: usize, most_black_holes: usize, now: Instant) -> (Vec<Origin>, Vec<Origin>) {
        let hosts = take_due(&mut self.probes, &mut self.hosts, most, now);
        (hosts, take_due(&mut self.probes_of_black_holes, &mut self.hosts, most_black_holes, now))
    }

    /// When the next probe is due.
    pub fn next_probe(&self) -> Option<Instant> {
        [self.probes.first(), self.probes_of_black_holes.first()].into_iter().flatten().map(|(due, _)| *due).min()
    }

    /// Notes the result of a probe.
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
