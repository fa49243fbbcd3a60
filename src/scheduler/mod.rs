//! Decides which lanes the next claim asks for deliveries, and for how many of each.
//!
//! The scheduler does no I/O and has no clock of its own. It is told what was found, what was claimed and how attempts
//! ended, and answers with turns ([`Scheduler::plan`]). It keeps these limits, for one dispatcher:
//!
//! - **In all**: the number of requests in flight.
//! - **Per agent**: a fixed limit.
//! - **Per host**: a limit that adapts (`limit`). While the host is unreachable (`reach`), it gets no place.
//! - **Hosts that are not known to answer**: all of them together hold half of all places at most, whatever their
//!   number. These are new hosts and silent hosts. Each new host has one request until it answers; the newest and the
//!   oldest waiting one are tried alternately.
//!
//! A dispatcher may serve several outboxes. They share these limits, and each has an equal part of the places if it wants
//! one (`ring`).
//!
//! Lanes that may run take turns, in a ring for each outbox. Each gets an equal part of the free places, and one at least. A lane for
//! which a limit is reached waits at the `queue` of that limit. When a place comes free there, the lanes that wait are
//! called in order, and they go before the ring. No step looks at all lanes: each step costs the same with ten lanes
//! and with ten thousand.
//!
//! A lane has one claim under way at most, so its deliveries start in the order of their insertion.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use hashbrown::HashMap;

use crate::domain::delivery::Failure;
use crate::domain::host::Origin;
pub use host::Manner;
use host::{Heard, KnownHost};
pub use lane::{Edition, LaneId, Owners};
use lane::{Lane, LaneState, Ticket};
pub use limit::FIRST_LIMIT;
pub use limits::Limits;
pub use paused::Paused;
use place_queue::PlaceQueue;
pub use probing::Probe;
pub use reach::FAILURES_IN_A_ROW;
pub use report::Ailing;
pub use ring::Outbox;
use ring::Ring;

mod host;
mod known;
mod lane;
mod limit;
mod limits;
mod paused;
mod place_queue;
mod places;
mod probing;
mod reach;
mod report;
mod ring;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_of_outboxes;
#[cfg(test)]
mod tests_of_steps;

/// How many lanes of an outbox are known at the same time, about 300 bytes each. Beyond that, lanes in which nothing waits are
/// forgotten.
pub const MAX_LANES: usize = 50_000;
/// How many lanes one claim asks at most.
pub const MAX_TURNS: usize = 256;

/// A lane's turn: a claim may take `quota` of its deliveries. The places for them are already taken.
#[derive(Debug, PartialEq, Eq)]
pub struct Turn {
    /// The lane that the claim asks.
    pub lane: LaneId,
    /// How many deliveries may be claimed, at least 1.
    pub quota: usize,
    owners: Owners,
    /// Whether its places at its agent and its host are lent.
    lent: bool,
}

/// The place of one claimed delivery. [`Scheduler::leave_place`] gives it back.
#[derive(Debug, PartialEq, Eq)]
pub struct Place {
    /// The lane of the delivery.
    pub lane: LaneId,
    owners: Owners,
    /// Whether the request may begin. It may not if the places of its turn were lent and are not free now; then the
    /// delivery has to go back.
    pub may_begin: bool,
}

impl Place {
    /// The agent of the lane's action.
    pub fn agent(&self) -> &Arc<str> {
        &self.owners.agent
    }
}

/// What the end of an attempt says about its host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// A response arrived.
    Answered,
    /// The request was sent, and the timeout was over before a response arrived.
    TimedOut,
    /// The request provably reached nobody: `dns`, `connect` or `tls`.
    Unreached(Failure),
    /// The host was reached, but did not answer as it should.
    Reached,
    /// The attempt says nothing about the host, because no request was about to be sent.
    Nothing,
}

/// Which queue called a lane.
#[derive(Clone, Debug)]
enum Caller {
    Agent(Arc<str>),
    /// A host, and the manner under whose shared limit it counts.
    Host(Origin, Manner),
}

/// Why a lane does not run.
enum Block {
    /// The lane is paused.
    Paused,
    /// Its agent has no place left.
    Agent,
    /// Its host has no place left, or all hosts of the same manner together have none.
    Host,
}

/// The scheduler of one dispatcher.
#[derive(Debug)]
pub struct Scheduler {
    limits: Limits,
    in_flight: usize,
    lanes: HashMap<LaneId, Lane>,
    agents: HashMap<Arc<str>, Agent>,
    hosts: HashMap<Origin, KnownHost>,
    /// The queue that all untried hosts share.
    untried: PlaceQueue<Origin>,
    /// The queue that all silent hosts share.
    silent: PlaceQueue<Origin>,
    /// What belongs to each outbox.
    rings: Vec<Ring>,
    /// When to check which host for silence.
    listening: BTreeSet<(Instant, Origin)>,
    /// When to probe which host.
    probes: BTreeSet<(Instant, Origin)>,
    /// When to probe hosts whose last probe had no answer of any kind. Each such probe takes all the time it has.
    probes_of_black_holes: BTreeSet<(Instant, Origin)>,
    /// Whether the next new host to be called is the one that has waited longest, and not the newest.
    oldest_is_next: bool,
    last_number: u64,
    /// How many lanes were ever looked at. Tests measure with it what planning costs.
    #[cfg(test)]
    looks: u64,
}

/// What the scheduler knows of an agent.
#[derive(Debug, Default)]
struct Agent {
    queue: PlaceQueue<Ticket>,
    /// How many known lanes belong to it.
    lanes: usize,
}

impl Scheduler {
    /// A scheduler for so many outboxes (at least one) that knows no lanes.
    pub fn new(limits: Limits, outboxes: u16) -> Scheduler {
        Scheduler {
            limits,
            in_flight: 0,
            lanes: HashMap::new(),
            agents: HashMap::new(),
            hosts: HashMap::new(),
            untried: PlaceQueue::default(),
            silent: PlaceQueue::default(),
            rings: Outbox::all(outboxes.max(1)).map(|_| Ring::default()).collect(),
            listening: BTreeSet::new(),
            probes: BTreeSet::new(),
            probes_of_black_holes: BTreeSet::new(),
            oldest_is_next: false,
            last_number: 0,
            #[cfg(test)]
            looks: 0,
        }
    }

    /// How many places are free.
    pub fn free(&self) -> usize {
        self.limits.in_flight.saturating_sub(self.in_flight)
    }

    /// How many places are free or likely to come free soon. Places do not count that are held by hosts which are not known
    /// to answer.
    pub fn places_in_reach(&self) -> usize {
        (self.free() + self.in_flight).saturating_sub(self.untried.in_flight + self.silent.in_flight)
    }

    /// How many requests of an outbox are in flight or about to begin.
    pub fn in_flight(&self, outbox: Outbox) -> usize {
        self.ring(outbox).in_flight
    }

    /// Notes that something waits in a lane. Returns `false` if the lane is not known.
    pub fn found(&mut self, lane: LaneId) -> bool {
        match self.lanes.get_mut(&lane).map(|lane| &mut lane.state) {
            None => return false,
            Some(LaneState::Claiming { found_again }) => *found_again = true,
            Some(LaneState::Ready | LaneState::Held) => {}
            Some(LaneState::Idle) => self.make_ready(lane),
        }
        true
    }

    /// Plans the next claim in an outbox: which lanes it asks, and for how many deliveries, `most` in all. Takes the places
    /// for them.
    pub fn plan(&mut self, outbox: Outbox, most: usize, now: Instant) -> Vec<Turn> {
        self.listen(now);
        let mut left = self.free_to(outbox).min(most);
        let queued = self.ring(outbox).queued();
        let share = left.div_ceil(queued.max(1)).max(1);
        let mut turns: Vec<Turn> = Vec::with_capacity(queued.min(left).min(MAX_TURNS));
        while left > 0 && turns.len() < MAX_TURNS {
            let Some((lane, owners, caller)) = self.next_lane(outbox) else { break };
            match self.free_for(lane, &owners, caller.is_some()) {
                Ok(free) => {
                    let quota = free.min(share).min(left);
                    left -= quota;
                    self.take(outbox, &owners, quota, now);
                    self.set(lane, LaneState::Claiming { found_again: false });
                    turns.push(Turn { lane, quota, owners, lent: false });
                }
                Err(block) => self.hold(lane, &owners, block),
            }
            caller.iter().for_each(|caller| self.call_again(caller));
        }
        // If fewer lanes may run than stood in the queue, these lanes share the places that are left.
        for turn in &mut turns {
            let more = self.free_for(turn.lane, &turn.owners, false).map_or(0, |free| free.min(left));
            self.take(outbox, &turn.owners, more, now);
            turn.quota += more;
            left -= more;
        }
        self.note_waiting(outbox, !turns.is_empty());
        turns
    }

    /// Notes that a turn's claim took `taken` deliveries, and returns a place for each. `more` says that more deliveries
    /// may wait in the lane. Places that were not needed come free.
    pub fn claimed(&mut self, turn: Turn, taken: usize, more: bool, now: Instant) -> Vec<Place> {
        let Turn { lane, quota, owners, lent } = turn;
        let taken = taken.min(quota);
        let may_begin = if lent {
            self.release_of_all(lane.outbox, quota - taken);
            let free = self.free_for(lane, &owners, false).unwrap_or(0).min(taken);
            self.take_of_owners(&owners, free, now);
            free
        } else {
            self.release(lane.outbox, &owners, quota - taken);
            taken
        };
        // If a lane needed fewer places than it was given, it is not known whether the host could take more.
        if taken >= quota
            && let Some(host) = owners.host.as_ref().and_then(|name| self.hosts.get_mut(name))
        {
            host.filled();
        }
        if let Some(Lane { state: LaneState::Claiming { found_again }, .. }) = self.lanes.get(&lane) {
            match more || *found_again {
                true => self.make_ready(lane),
                false => self.make_idle(lane),
            }
        }
        (0..taken).map(|number| Place { lane, owners: owners.clone(), may_begin: number < may_begin }).collect()
    }

    /// Notes how an attempt at this host that began at `started` has ended. Its place is still taken. If a new version
    /// of the action was published between the turn and the claim, the place may belong to another host. That host
    /// learns nothing.
    pub fn learn(&mut self, name: &Origin, started: Instant, signal: Signal, now: Instant) {
        let Some(host) = self.hosts.get_mut(name) else { return };
        match signal {
            Signal::Answered => {
                host.answered(now);
                host.reach.reached();
                if self.limits.adapt {
                    host.limit.answered();
                }
                self.change_manner(name, Manner::Answering);
                self.watch(name, now);
            }
            Signal::TimedOut => {
                host.reach.reached();
                if self.limits.adapt {
                    host.limit.timed_out(started, now);
                    if !host.was_heard_since(started) {
                        host.silent_since.get_or_insert(started);
                        self.change_manner(name, Manner::Silent);
                    }
                }
            }
            Signal::Reached => host.reach.reached(),
            Signal::Unreached(kind) if self.limits.hold_unreachable => {
                if let Some(due) = host.reach.failed(kind, now) {
                    self.probes.insert((due, name.clone()));
                }
            }
            Signal::Unreached(_) | Signal::Nothing => {}
        }
        self.call_host(name);
    }

    /// Gives a place back.
    pub fn leave_place(&mut self, place: &Place) {
        if place.may_begin {
            self.release(place.lane.outbox, &place.owners, 1);
        } else {
            self.release_of_all(place.lane.outbox, 1);
        }
    }

    /// Reduces a turn to `quota` deliveries, at least 1. The other places come free.
    pub fn shrink(&mut self, turn: &mut Turn, quota: usize) {
        let rest = turn.quota.saturating_sub(quota.max(1));
        turn.quota -= rest;
        if turn.lent {
            self.release_of_all(turn.lane.outbox, rest);
        } else {
            self.release(turn.lane.outbox, &turn.owners, rest);
        }
    }

    /// Replaces what is paused in an outbox. Returns whether that changed anything.
    pub fn pause(&mut self, outbox: Outbox, paused: Paused) -> bool {
        let ring = self.ring_mut(outbox);
        if ring.paused == paused {
            return false;
        }
        ring.paused = paused;
        for ticket in std::mem::take(&mut ring.held_back) {
            if self.is_current(ticket) {
                self.make_ready(ticket.lane);
            }
        }
        true
    }

    /// Notes which hosts have fallen silent.
    fn listen(&mut self, now: Instant) {
        while let Some((_, name)) = self.listening.first().filter(|(due, _)| *due <= now).cloned() {
            self.listening.pop_first();
            let Some(host) = self.hosts.get_mut(&name) else { continue };
            host.watched = false;
            match host.listen(now) {
                Heard::NothingToHear => {}
                Heard::AskAgain(due) => {
                    host.watched = true;
                    self.listening.insert((due, name));
                }
                Heard::Silence => self.change_manner(&name, Manner::Silent),
            }
        }
    }
}
