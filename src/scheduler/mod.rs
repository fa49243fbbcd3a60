//! Who is next: which lanes a claim asks for deliveries, and how many of each.
//!
//! A value without I/O and without a clock of its own. It is told what was found, what was claimed and how attempts
//! ended, and answers with turns ([`Scheduler::plan`]). It keeps these limits, for one dispatcher:
//!
//! - **In all**: requests in flight, whoever they are for.
//! - **Per agent**: a fixed limit.
//! - **Per host**: a limit that adapts (`limit`); nothing while the host is unreachable (`reach`).
//! - **Hosts that are not known to answer** hold half of all places at most, all together, whatever their number: new ones,
//!   each with one request until it answers, by turns the newest and the oldest, and those that are silent.
//!
//! Lanes that may run take turns, in a ring; each gets an equal part of the free places, and one at least. A lane that
//! finds a limit reached waits at that limit's `gate`, and is called, in order, when a place comes free there; lanes
//! that were called go before the ring. Nothing here looks at all lanes: each step costs the same with ten lanes and with
//! ten thousand.
//!
//! A lane has one claim under way at most, so its deliveries start in the order of their insertion.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use hashbrown::HashMap;

use crate::domain::delivery::Failure;
use crate::domain::host::Origin;
use gate::Gate;
pub use host::Manner;
use host::{Heard, Host};
pub use lane::{Edition, LaneId, Owners};
use lane::{Lane, State, Ticket};
pub use limit::FIRST_LIMIT;
pub use paused::Paused;
pub use probing::Probe;
pub use reach::FAILURES_IN_A_ROW;

mod gate;
mod host;
mod known;
mod lane;
mod limit;
mod paused;
mod places;
mod probing;
mod reach;
mod report;

#[cfg(test)]
mod tests;

/// Lanes that are known at the same time; those in which nothing waits are forgotten first. About 300 bytes each.
pub const MAX_LANES: usize = 50_000;
/// Lanes that one claim asks at most.
pub const MAX_TURNS: usize = 256;

/// The limits of one dispatcher.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Requests in flight, at least 1.
    pub in_flight: usize,
    /// Of one agent, at least 1.
    pub per_agent: usize,
    /// To one host and port, at least 1. The limit that adapts never exceeds it.
    pub per_host: usize,
    /// Whether the limits of hosts adapt, and those that do not answer share a part of the places.
    pub adapt: bool,
    /// Whether hosts that cannot be reached are left alone until a probe connects.
    pub hold_unreachable: bool,
}

/// A lane's turn: a claim may take so many of its deliveries. The places for them are taken already.
#[derive(Debug, PartialEq, Eq)]
pub struct Turn {
    /// The lane.
    pub lane: LaneId,
    /// Deliveries that may be claimed, at least 1.
    pub quota: usize,
    owners: Owners,
}

/// The place of one delivery that was claimed. Given back by [`Scheduler::leave_seat`].
#[derive(Debug, PartialEq, Eq)]
pub struct Seat {
    /// The lane.
    pub lane: LaneId,
    owners: Owners,
}

/// What the end of an attempt says about its host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// A response arrived.
    Answered,
    /// The request was sent, and the time was over before a response arrived.
    TimedOut,
    /// It provably reached nobody: `dns`, `connect` or `tls`.
    Unreached(Failure),
    /// Something reached the host, and it did not answer as it should.
    Reached,
    /// Nothing: no request was about to be sent.
    Nothing,
}

/// Which gate called a lane.
#[derive(Clone, Debug)]
enum Caller {
    Agent(Arc<str>),
    /// A host, and the manner whose shared limit it counts under.
    Host(Origin, Manner),
}

/// Why a lane does not run.
enum Block {
    /// It is paused.
    Paused,
    /// Its agent has no place left.
    Agent,
    /// Its host has none, or all hosts of the same manner together.
    Host,
}

/// The scheduler.
#[derive(Debug)]
pub struct Scheduler {
    limits: Limits,
    in_flight: usize,
    lanes: HashMap<LaneId, Lane>,
    agents: HashMap<Arc<str>, Agent>,
    hosts: HashMap<Origin, Host>,
    /// Hosts that were never tried, all together.
    untried: Gate<Origin>,
    /// Hosts that do not answer, all together.
    silent: Gate<Origin>,
    paused: Paused,
    /// Lanes that wait because they are paused.
    held_back: Vec<Ticket>,
    /// Lanes that a gate has called; they go first.
    called: VecDeque<(Ticket, Caller)>,
    /// The ring.
    ready: VecDeque<Ticket>,
    /// Lanes in which nothing waits, the longest idle first, for when there are too many.
    idle: VecDeque<Ticket>,
    /// When to listen to which host.
    listening: BTreeSet<(Instant, Origin)>,
    /// When to probe which host.
    probes: BTreeSet<(Instant, Origin)>,
    /// The same for hosts whose last probe had no answer of any kind: each such probe takes all the time it has.
    probes_of_black_holes: BTreeSet<(Instant, Origin)>,
    /// Whether of new hosts that wait the longest waiting is next, and not the newest.
    oldest_is_next: bool,
    last_number: u64,
    /// Lanes that were looked at, ever: what planning costs.
    #[cfg(test)]
    looks: u64,
}

/// An agent's places.
#[derive(Debug, Default)]
struct Agent {
    gate: Gate<Ticket>,
    /// Lanes that are known and belong to it.
    lanes: usize,
}

impl Limits {
    /// Places that hosts which are not known to answer may have, all together.
    fn of_doubtful_hosts(&self) -> usize {
        (self.in_flight / 2).max(1)
    }

    /// Places that all hosts of a manner have together, while silent ones have so many in flight.
    ///
    /// New hosts get a quarter of what silent ones leave. They show within [`host::QUIET`] what they are, and then either
    /// take no part in this any more, or count as silent: so, however many new hosts hang, there is a place for the next
    /// one at almost any time.
    fn of_manner(&self, manner: Manner, silent: usize) -> usize {
        match manner {
            Manner::Untried => self.of_doubtful_hosts().saturating_sub(silent).div_ceil(4),
            Manner::Silent => (self.of_doubtful_hosts() / 2).max(1),
            Manner::Answering => usize::MAX,
        }
    }

    /// How far hosts that wait for a shared place are called. New ones that wait do so because others like them hang, or
    /// hang themselves; they leave half to hosts that come now.
    fn of_those_waiting(&self, manner: Manner, silent: usize) -> usize {
        let limit = self.of_manner(manner, silent);
        match manner {
            Manner::Untried if silent < self.of_doubtful_hosts().div_ceil(2) => limit.div_ceil(2),
            Manner::Untried => limit / 2,
            Manner::Silent | Manner::Answering => limit,
        }
    }
}

impl Scheduler {
    /// A scheduler that knows no lanes.
    pub fn new(limits: Limits) -> Scheduler {
        Scheduler {
            limits,
            in_flight: 0,
            lanes: HashMap::new(),
            agents: HashMap::new(),
            hosts: HashMap::new(),
            untried: Gate::default(),
            silent: Gate::default(),
            paused: Paused::default(),
            held_back: Vec::new(),
            called: VecDeque::new(),
            ready: VecDeque::new(),
            idle: VecDeque::new(),
            listening: BTreeSet::new(),
            probes: BTreeSet::new(),
            probes_of_black_holes: BTreeSet::new(),
            oldest_is_next: false,
            last_number: 0,
            #[cfg(test)]
            looks: 0,
        }
    }

    /// Places that are free.
    pub fn free(&self) -> usize {
        self.limits.in_flight.saturating_sub(self.in_flight)
    }

    /// Places that are free or likely to come free soon: all of them but those that hosts hold which are not known to answer.
    pub fn places_in_reach(&self) -> usize {
        (self.free() + self.in_flight).saturating_sub(self.untried.in_flight + self.silent.in_flight)
    }

    /// Requests that are in flight or about to be.
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Something waits in a lane. `false` if the lane is not known.
    pub fn found(&mut self, lane: LaneId) -> bool {
        match self.lanes.get_mut(&lane).map(|lane| &mut lane.state) {
            None => return false,
            Some(State::Claiming { found_again }) => *found_again = true,
            Some(State::Ready | State::Held) => {}
            Some(State::Idle) => self.make_ready(lane),
        }
        true
    }

    /// The next claim: which lanes it asks, and for how many deliveries, `most` in all. Takes the places for them.
    pub fn plan(&mut self, most: usize, now: Instant) -> Vec<Turn> {
        self.listen(now);
        let mut left = self.free().min(most);
        let queued = self.called.len() + self.ready.len();
        let share = left.div_ceil(queued.max(1)).max(1);
        let mut turns: Vec<Turn> = Vec::with_capacity(queued.min(left).min(MAX_TURNS));
        while left > 0 && turns.len() < MAX_TURNS {
            let Some((lane, owners, caller)) = self.next_lane() else { break };
            match self.room(lane, &owners) {
                Ok(room) => {
                    let quota = room.min(share).min(left);
                    left -= quota;
                    self.take(&owners, quota, now);
                    self.set(lane, State::Claiming { found_again: false });
                    turns.push(Turn { lane, quota, owners });
                }
                Err(block) => self.hold(lane, &owners, block),
            }
            caller.iter().for_each(|caller| self.call_again(caller));
        }
        // Where fewer lanes may run than stood in the queue, those that do share what is left.
        for turn in &mut turns {
            let more = self.room(turn.lane, &turn.owners).map_or(0, |room| room.min(left));
            self.take(&turn.owners, more, now);
            turn.quota += more;
            left -= more;
        }
        turns
    }

    /// What a turn's claim brought: `taken` deliveries, each with a seat from now on. `more` says that the lane may hold
    /// more. Places that were not needed come free.
    pub fn claimed(&mut self, turn: Turn, taken: usize, more: bool) -> Vec<Seat> {
        let Turn { lane, quota, owners } = turn;
        self.release(&owners, quota.saturating_sub(taken));
        // Where a lane needed fewer places than it was given, nobody knows whether the host could take more.
        if taken >= quota
            && let Some(host) = owners.host.as_ref().and_then(|name| self.hosts.get_mut(name))
        {
            host.filled();
        }
        if let Some(Lane { state: State::Claiming { found_again }, .. }) = self.lanes.get(&lane) {
            match more || *found_again {
                true => self.make_ready(lane),
                false => self.make_idle(lane),
            }
        }
        std::iter::repeat_with(|| Seat { lane, owners: owners.clone() }).take(taken.min(quota)).collect()
    }

    /// How an attempt at this host that began at `started` has ended. Its place is still taken. The place may be another
    /// host's, if a new version of the action was published between the turn and the claim: that one learns nothing.
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

    /// A place comes free.
    pub fn leave_seat(&mut self, seat: &Seat) {
        self.release(&seat.owners, 1);
    }

    /// A turn asks for less than was planned; `quota` is at least 1. The other places come free.
    pub fn shrink(&mut self, turn: &mut Turn, quota: usize) {
        let rest = turn.quota.saturating_sub(quota.max(1));
        turn.quota -= rest;
        self.release(&turn.owners, rest);
    }

    /// Replaces what is paused.
    pub fn pause(&mut self, paused: Paused) {
        if self.paused == paused {
            return;
        }
        self.paused = paused;
        for ticket in std::mem::take(&mut self.held_back) {
            if self.is_current(ticket) {
                self.make_ready(ticket.lane);
            }
        }
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
