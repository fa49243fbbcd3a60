//! Makes lanes, agents and hosts known to the scheduler, and forgets them.

use std::sync::Arc;
use std::time::Instant;

use super::host::{KnownHost, Manner};
use super::lane::{Lane, LaneState};
use super::limit::AdaptiveLimit;
use super::{Edition, LaneId, MAX_LANES, Outbox, Owners, Scheduler};
use crate::domain::host::Origin;

impl Scheduler {
    /// Makes a lane known, or notes that its owners have changed. `manner` is used if its host is new. Returns `false`
    /// if there are too many lanes in which something waits; then the caller has to try again later.
    pub fn admit(&mut self, lane: LaneId, owners: Owners, edition: Edition, manner: Manner, now: Instant) -> bool {
        match self.lanes.get(&lane).map(|known| known.owners == owners) {
            Some(true) => {}
            Some(false) => self.change_owners(lane, owners, manner, now),
            None if self.ring(lane.outbox).lanes >= MAX_LANES && !self.forget_one(lane.outbox) => return false,
            None => {
                self.join(lane.outbox, &owners, manner, now);
                self.ring_mut(lane.outbox).lanes += 1;
                self.lanes.insert(lane, Lane { owners, edition, state: LaneState::Idle, number: 0 });
                self.make_idle(lane);
            }
        }
        if let Some(known) = self.lanes.get_mut(&lane) {
            known.edition = edition;
        }
        true
    }

    /// The edition from which a lane's owners were read. `None` if the lane is not known.
    pub fn edition(&self, lane: LaneId) -> Option<Edition> {
        self.lanes.get(&lane).map(|lane| lane.edition)
    }

    /// Notes that nothing is known to wait in this lane.
    pub(super) fn make_idle(&mut self, lane: LaneId) {
        let ticket = self.set(lane, LaneState::Idle);
        let ring = self.ring_mut(lane.outbox);
        ring.idle.extend(ticket);
        // Each time a lane becomes idle, it leaves a ticket. Old tickets are removed when the queue has grown to twice
        // the number of lanes.
        if ring.idle.len() > 2 * ring.lanes + 64 {
            let mut idle = std::mem::take(&mut ring.idle);
            idle.retain(|ticket| self.is_current(*ticket));
            self.ring_mut(lane.outbox).idle = idle;
        }
    }

    /// Forgets the lane of an outbox that has been idle longest. Returns `false` if none is idle.
    fn forget_one(&mut self, outbox: Outbox) -> bool {
        while let Some(ticket) = self.ring_mut(outbox).idle.pop_front() {
            if self.is_current(ticket)
                && let Some(lane) = self.lanes.remove(&ticket.lane)
            {
                self.ring_mut(outbox).lanes -= 1;
                self.leave(outbox, &lane.owners);
                return true;
            }
        }
        false
    }

    /// Notes that the owners of a lane have changed, because a new version of its action was published, or the action
    /// was enabled or disabled. What waits counts for the new owners; what is in flight keeps its place.
    fn change_owners(&mut self, lane: LaneId, owners: Owners, manner: Manner, now: Instant) {
        self.join(lane.outbox, &owners, manner, now);
        let Some(known) = self.lanes.get_mut(&lane) else { return };
        let former = std::mem::replace(&mut known.owners, owners);
        // A turn that is under way ends with the owners it began with. A lane in a queue may now be in the wrong one,
        // so it goes back to the ring.
        match known.state {
            LaneState::Held | LaneState::Ready => self.make_ready(lane),
            LaneState::Idle | LaneState::Claiming { .. } => {}
        }
        self.leave(lane.outbox, &former);
    }

    fn join(&mut self, outbox: Outbox, owners: &Owners, manner: Manner, now: Instant) {
        self.agents.entry(owners.agent.clone()).or_default().lanes += 1;
        if let Some(name) = &owners.host {
            let (most, adapt) = (self.limits.per_host, self.limits.adapt);
            let new = || match adapt {
                true => KnownHost::new(AdaptiveLimit::new(most, now), manner, now),
                false => KnownHost::new(AdaptiveLimit::fixed(most, now), Manner::Answering, now),
            };
            self.hosts.entry(name.clone()).or_insert_with(new).lanes.add(outbox);
        }
    }

    pub(super) fn leave(&mut self, outbox: Outbox, owners: &Owners) {
        if let Some(agent) = self.agents.get_mut(&owners.agent) {
            agent.lanes -= 1;
            self.forget_agent_if_unused(&owners.agent);
        }
        if let Some(name) = &owners.host
            && let Some(host) = self.hosts.get_mut(name)
        {
            host.lanes.remove(outbox);
            if host.lanes.is_none() {
                // No lane sends to this host any more, so the tickets in its queue are old.
                host.queue.forget_waiting();
            }
            self.forget_host_if_unused(name);
        }
    }

    pub(super) fn forget_agent_if_unused(&mut self, name: &Arc<str>) {
        if self.agents.get(name).is_some_and(|agent| agent.lanes == 0 && agent.queue.is_unused()) {
            self.agents.remove(name);
        }
    }

    pub(super) fn forget_host_if_unused(&mut self, name: &Origin) {
        if self.hosts.get(name).is_some_and(|host| host.lanes.is_none() && host.queue.is_unused()) {
            self.hosts.remove(name);
        }
    }
}
