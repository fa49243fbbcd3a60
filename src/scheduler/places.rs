//! Takes places and gives them back, and keeps the queues in which lanes wait for a place.
//!
//! A lane waits at the queue of its agent or at the queue of its host. If the limit that the host shares with all hosts
//! of its [`Manner`] is reached, the lanes still wait at the host's queue, and the host waits at the shared queue. So all
//! lanes of a host are in one queue when its manner changes.

use std::sync::Arc;
use std::time::Instant;

use super::host::{Heard, Manner};
use super::lane::{LaneState, Ticket};
use super::place_queue::PlaceQueue;
use super::{Block, Caller, LaneId, Outbox, Owners, Scheduler};
use crate::domain::host::Origin;

impl Scheduler {
    /// How many places a lane may take now, by all limits except that of the whole dispatcher. A lane that was not called
    /// leaves the places for which lanes of other outboxes were called.
    pub(super) fn free_for(&self, lane: LaneId, owners: &Owners, called: bool) -> Result<usize, Block> {
        if self.ring(lane.outbox).paused.covers(lane.action_id, owners) {
            return Err(Block::Paused);
        }
        let of_agent =
            self.agents.get(&owners.agent).map_or(0, |agent| agent.queue.free_for_one(self.limits.per_agent, called));
        if of_agent == 0 {
            return Err(Block::Agent);
        }
        let Some(host) = owners.host.as_ref().and_then(|name| self.hosts.get(name)) else { return Ok(of_agent) };
        let of_host = host.queue.free_for_one(host.limit(), called).min(self.free_of(host.manner));
        if of_host == 0 { Err(Block::Host) } else { Ok(of_agent.min(of_host)) }
    }

    /// The next lane of an outbox to look at: first the lanes that were called, then the ring.
    pub(super) fn next_lane(&mut self, outbox: Outbox) -> Option<(LaneId, Owners, Option<Caller>)> {
        loop {
            let ring = self.ring_mut(outbox);
            let (ticket, caller) = match ring.called.pop_front() {
                Some((ticket, caller)) => (ticket, Some(caller)),
                None => (ring.ready.pop_front()?, None),
            };
            #[cfg(test)]
            {
                self.looks += 1;
            }
            if let Some(caller) = &caller {
                self.looked_at(caller);
            }
            match self.lanes.get(&ticket.lane).filter(|lane| lane.number == ticket.number) {
                Some(lane) => return Some((ticket.lane, lane.owners.clone(), caller)),
                None => caller.iter().for_each(|caller| self.call_again(caller)),
            }
        }
    }

    /// Takes places for requests that are about to begin.
    pub(super) fn take(&mut self, outbox: Outbox, owners: &Owners, places: usize, now: Instant) {
        self.in_flight += places;
        self.ring_mut(outbox).in_flight += places;
        self.take_of_owners(owners, places, now);
    }

    /// Takes places of an agent and a host.
    pub(super) fn take_of_owners(&mut self, owners: &Owners, places: usize, now: Instant) {
        if places == 0 {
            return;
        }
        if let Some(agent) = self.agents.get_mut(&owners.agent) {
            agent.queue.in_flight += places;
        }
        let Some(name) = &owners.host else { return };
        let Some(host) = self.hosts.get_mut(name) else { return };
        host.take(places, now);
        let manner = host.manner;
        self.count(manner, |in_flight| in_flight + places);
        self.watch(name, now);
    }

    /// Gives places back, and calls those that waited for them.
    pub(super) fn release(&mut self, outbox: Outbox, owners: &Owners, places: usize) {
        self.release_of_all(outbox, places);
        self.release_of_owners(owners, places);
    }

    /// Gives back what counts for the outbox and in all.
    pub(super) fn release_of_all(&mut self, outbox: Outbox, places: usize) {
        self.in_flight -= places;
        self.ring_mut(outbox).in_flight -= places;
    }

    /// Gives back places of an agent and a host, and calls those that waited for them.
    pub(super) fn release_of_owners(&mut self, owners: &Owners, places: usize) {
        if places == 0 {
            return;
        }
        if let Some(name) = &owners.host
            && let Some(host) = self.hosts.get_mut(name)
        {
            host.queue.in_flight -= places;
            let manner = host.manner;
            self.count(manner, |in_flight| in_flight - places);
            self.call_host(name);
            self.call_shared(manner);
            self.forget_host_if_unused(name);
        }
        if let Some(agent) = self.agents.get_mut(&owners.agent) {
            agent.queue.in_flight -= places;
            self.call_agent(&owners.agent);
            self.forget_agent_if_unused(&owners.agent);
        }
    }

    /// Puts a lane that may not run into the queue where it is held up.
    pub(super) fn hold(&mut self, lane: LaneId, owners: &Owners, block: Block) {
        let Some(ticket) = self.set(lane, LaneState::Held) else { return };
        match (block, &owners.host) {
            (Block::Paused, _) => self.ring_mut(lane.outbox).held_back.push(ticket),
            (Block::Agent, _) => {
                if let Some(agent) = self.agents.get_mut(&owners.agent) {
                    agent.queue.wait(ticket);
                }
            }
            (Block::Host, Some(name)) => {
                if let Some(host) = self.hosts.get_mut(name) {
                    host.queue.wait(ticket);
                }
                self.call_host(name);
            }
            // A lane without a host is never held up by one.
            (Block::Host, None) => {}
        }
    }

    /// Notes that a lane that a queue has called was looked at.
    pub(super) fn looked_at(&mut self, caller: &Caller) {
        match caller {
            Caller::Agent(name) => {
                if let Some(agent) = self.agents.get_mut(name) {
                    agent.queue.looked_at();
                }
            }
            Caller::Host(name, manner) => {
                if let Some(host) = self.hosts.get_mut(name) {
                    host.queue.looked_at();
                }
                if let Some(shared) = self.shared(*manner) {
                    shared.looked_at();
                }
            }
        }
    }

    /// Calls the next lanes, because a lane that was called may not have taken its place.
    pub(super) fn call_again(&mut self, caller: &Caller) {
        match caller {
            Caller::Agent(name) => self.call_agent(name),
            Caller::Host(name, manner) => {
                self.call_host(name);
                self.call_shared(*manner);
                self.forget_host_if_unused(name);
            }
        }
    }

    /// Calls as many lanes of an agent as it has free places.
    fn call_agent(&mut self, name: &Arc<str>) {
        let Some(agent) = self.agents.get_mut(name) else { return };
        while agent.queue.can_call(self.limits.per_agent)
            && let Some(ticket) = agent.queue.next()
        {
            let ring = &mut self.rings[ticket.lane.outbox.index()];
            if ring.rests {
                ring.set_aside.push(ticket);
                continue;
            }
            agent.queue.call();
            ring.called.push_back((ticket, Caller::Agent(name.clone())));
        }
    }

    /// Calls as many lanes of a host as it has free places.
    pub(super) fn call_host(&mut self, name: &Origin) {
        while self.call_one(name) {}
    }

    /// Calls a lane of a host, if the host has a free place. If only the shared limit is reached, the host waits there.
    fn call_one(&mut self, name: &Origin) -> bool {
        let Some(host) = self.hosts.get_mut(name) else { return false };
        if host.queue.waiting() == 0 || !host.queue.can_call(host.limit()) {
            return false;
        }
        let manner = host.manner;
        let limit = self.limits.of_those_waiting(manner, self.silent.in_flight);
        if let Some(shared) = manner_queue(&mut self.untried, &mut self.silent, manner)
            && !shared.can_call(limit)
        {
            if host.waits_as != Some(manner) {
                host.waits_as = Some(manner);
                shared.wait(name.clone());
            }
            return false;
        }
        loop {
            let Some(ticket) = host.queue.next() else { return false };
            let ring = &mut self.rings[ticket.lane.outbox.index()];
            if !ring.rests {
                ring.called.push_back((ticket, Caller::Host(name.clone(), manner)));
                break;
            }
            ring.set_aside.push(ticket);
        }
        host.queue.call();
        if let Some(shared) = manner_queue(&mut self.untried, &mut self.silent, manner) {
            shared.call();
        }
        true
    }

    /// Calls the hosts that wait at a shared limit, one lane of each in turn, while places are free there. Of new hosts
    /// it calls the newest and the oldest alternately. Hosts that have waited long are likely to hang, so the newest
    /// must not wait behind them; but each has its turn, however many new ones come.
    fn call_manner(&mut self, manner: Manner) {
        let limit = self.limits.of_those_waiting(manner, self.silent.in_flight);
        let mut newest = manner == Manner::Untried && !self.oldest_is_next;
        while let Some(shared) = self.shared(manner).filter(|shared| shared.can_call(limit))
            && let Some(name) = if newest { shared.newest() } else { shared.next() }
        {
            newest = manner == Manner::Untried && !newest;
            let Some(host) = self.hosts.get_mut(&name).filter(|host| host.waits_as == Some(manner)) else { continue };
            host.waits_as = None;
            if self.call_one(&name)
                && let Some(host) = self.hosts.get_mut(&name)
                && host.queue.waiting() > 0
                && host.waits_as.is_none()
            {
                host.waits_as = Some(manner);
                if let Some(shared) = self.shared(manner) {
                    shared.wait(name);
                }
            }
        }
        if manner == Manner::Untried {
            self.oldest_is_next = !newest;
        }
    }

    /// Notes that a host answers, or has fallen silent.
    pub(super) fn change_manner(&mut self, name: &Origin, manner: Manner) {
        let Some(host) = self.hosts.get_mut(name) else { return };
        let former = std::mem::replace(&mut host.manner, manner);
        if former == manner {
            return;
        }
        host.waits_as = None;
        let in_flight = host.queue.in_flight;
        self.count(former, |all| all - in_flight);
        self.count(manner, |all| all + in_flight);
        self.call_host(name);
        self.call_shared(former);
    }

    /// Calls hosts of this manner, because places of theirs may have come free.
    fn call_shared(&mut self, manner: Manner) {
        self.call_manner(manner);
        if manner == Manner::Silent {
            // The places that silent hosts leave go to new hosts.
            self.call_manner(Manner::Untried);
        }
    }

    /// Notes when to check a host for silence, unless that is noted already. A silent host is not checked: its manner
    /// changes when it answers.
    pub(super) fn watch(&mut self, name: &Origin, now: Instant) {
        let Some(host) = self.hosts.get_mut(name) else { return };
        if self.limits.adapt
            && !host.watched
            && host.manner != Manner::Silent
            && let Heard::AskAgain(due) = host.listen(now)
        {
            host.watched = true;
            self.listening.insert((due, name.clone()));
        }
    }

    /// How many places are free for all hosts of this manner together.
    fn free_of(&self, manner: Manner) -> usize {
        match manner {
            Manner::Untried => self.untried.free(self.limits.of_manner(manner, self.silent.in_flight)),
            Manner::Silent => self.silent.free(self.limits.of_manner(manner, self.silent.in_flight)),
            Manner::Answering => usize::MAX,
        }
    }

    fn shared(&mut self, manner: Manner) -> Option<&mut PlaceQueue<Origin>> {
        manner_queue(&mut self.untried, &mut self.silent, manner)
    }

    fn count(&mut self, manner: Manner, change: impl FnOnce(usize) -> usize) {
        if let Some(queue) = self.shared(manner) {
            queue.in_flight = change(queue.in_flight);
        }
    }

    /// Gives a lane a new state and a new ticket.
    pub(super) fn set(&mut self, lane: LaneId, state: LaneState) -> Option<Ticket> {
        self.last_number += 1;
        let number = self.last_number;
        let known = self.lanes.get_mut(&lane)?;
        (known.state, known.number) = (state, number);
        Some(Ticket { lane, number })
    }

    pub(super) fn make_ready(&mut self, lane: LaneId) {
        let ticket = self.set(lane, LaneState::Ready);
        self.ring_mut(lane.outbox).ready.extend(ticket);
    }

    pub(super) fn is_current(&self, ticket: Ticket) -> bool {
        self.lanes.get(&ticket.lane).is_some_and(|lane| lane.number == ticket.number)
    }
}

fn manner_queue<'a>(
    untried: &'a mut PlaceQueue<Origin>,
    silent: &'a mut PlaceQueue<Origin>,
    manner: Manner,
) -> Option<&'a mut PlaceQueue<Origin>> {
    match manner {
        Manner::Untried => Some(untried),
        Manner::Silent => Some(silent),
        Manner::Answering => None,
    }
}
