//! Which lanes, agents and hosts are known, and which are forgotten.

use std::sync::Arc;
use std::time::Instant;

use super::host::{Host, Manner};
use super::lane::{Lane, State};
use super::limit::AdaptiveLimit;
use super::{Edition, LaneId, MAX_LANES, Owners, Scheduler};
use crate::domain::host::Origin;

impl Scheduler {
    /// Makes a lane known, or notes that its owners have changed. `manner` is what is said of its host, in case that is new.
    /// `false` if there are too many lanes in which something waits; it has to be said again later.
    pub fn admit(&mut self, lane: LaneId, owners: Owners, edition: Edition, manner: Manner, now: Instant) -> bool {
        match self.lanes.get(&lane).map(|known| known.owners == owners) {
            Some(true) => {}
            Some(false) => self.change_owners(lane, owners, manner, now),
            None if self.lanes.len() >= MAX_LANES && !self.forget_one() => return false,
            None => {
                self.join(&owners, manner, now);
                self.lanes.insert(lane, Lane { owners, edition, state: State::Idle, number: 0 });
                self.make_idle(lane);
            }
        }
        if let Some(known) = self.lanes.get_mut(&lane) {
            known.edition = edition;
        }
        true
    }

    /// From what a lane's owners were read; `None` if it is not known.
    pub fn edition(&self, lane: LaneId) -> Option<Edition> {
        self.lanes.get(&lane).map(|lane| lane.edition)
    }

    /// Nothing is known to wait in this lane.
    pub(super) fn make_idle(&mut self, lane: LaneId) {
        let ticket = self.set(lane, State::Idle);
        self.idle.extend(ticket);
        // A lane that is idle now and then leaves a ticket each time. They are swept as often as they have doubled.
        if self.idle.len() > 2 * self.lanes.len() + 64 {
            let mut idle = std::mem::take(&mut self.idle);
            idle.retain(|ticket| self.is_current(*ticket));
            self.idle = idle;
        }
    }

    /// Forgets the lane that has been idle longest. `false` if none is.
    fn forget_one(&mut self) -> bool {
        while let Some(ticket) = self.idle.pop_front() {
            if self.is_current(ticket)
                && let Some(lane) = self.lanes.remove(&ticket.lane)
            {
                self.leave(&lane.owners);
                return true;
            }
        }
        false
    }

    /// Its action was published anew, or switched: what waits goes to another host. What is in flight keeps its seat.
    fn change_owners(&mut self, lane: LaneId, owners: Owners, manner: Manner, now: Instant) {
        self.join(&owners, manner, now);
        let Some(known) = self.lanes.get_mut(&lane) else { return };
        let former = std::mem::replace(&mut known.owners, owners);
        // A turn that is under way ends as it began; in whatever queue the lane stands otherwise, it may be the wrong one.
        match known.state {
            State::Held | State::Ready => self.make_ready(lane),
            State::Idle | State::Claiming { .. } => {}
        }
        self.leave(&former);
    }

    fn join(&mut self, owners: &Owners, manner: Manner, now: Instant) {
        self.agents.entry(owners.agent.clone()).or_default().lanes += 1;
        if let Some(name) = &owners.host {
            let (most, adapt) = (self.limits.per_host, self.limits.adapt);
            let new = || match adapt {
                true => Host::new(AdaptiveLimit::new(most, now), manner, now),
                false => Host::new(AdaptiveLimit::fixed(most, now), Manner::Answering, now),
            };
            self.hosts.entry(name.clone()).or_insert_with(new).lanes += 1;
        }
    }

    fn leave(&mut self, owners: &Owners) {
        if let Some(agent) = self.agents.get_mut(&owners.agent) {
            agent.lanes -= 1;
            self.forget_agent_if_unused(&owners.agent);
        }
        if let Some(name) = &owners.host
            && let Some(host) = self.hosts.get_mut(name)
        {
            host.lanes -= 1;
            if host.lanes == 0 {
                // Whoever stood in this queue has gone.
                host.gate.forget_waiting();
            }
            self.forget_host_if_unused(name);
        }
    }

    pub(super) fn forget_agent_if_unused(&mut self, name: &Arc<str>) {
        if self.agents.get(name).is_some_and(|agent| agent.lanes == 0 && agent.gate.is_unused()) {
            self.agents.remove(name);
        }
    }

    pub(super) fn forget_host_if_unused(&mut self, name: &Origin) {
        if self.hosts.get(name).is_some_and(|host| host.lanes == 0 && host.gate.is_unused()) {
            self.hosts.remove(name);
        }
    }
}
