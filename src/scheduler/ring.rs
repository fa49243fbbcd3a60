//! What the scheduler keeps for each outbox: the ring of its lanes that may run, and how many places it has.
//!
//! Places, agents and hosts are shared by all outboxes that a dispatcher serves. An outbox gets what others leave; but
//! when several want more than there is, each gets an equal part. An outbox whose database does not answer *rests*: it
//! keeps no place from the others, and no queue waits for it.

use std::collections::VecDeque;

use super::lane::Ticket;
use super::{Caller, Paused, Scheduler, Turn};

/// One of the outboxes that a dispatcher serves. Each is in a database of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Outbox(u16);

impl Outbox {
    /// The first one. Most dispatchers serve no other.
    pub const FIRST: Outbox = Outbox(0);

    /// The first `count` ones.
    pub fn all(count: u16) -> impl Iterator<Item = Outbox> {
        (0..count).map(Outbox)
    }

    /// Its place among all outboxes of the dispatcher, counted from 0.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// What belongs to one outbox.
#[derive(Debug, Default)]
pub(super) struct Ring {
    pub(super) paused: Paused,
    /// Lanes that wait because they are paused.
    pub(super) held_back: Vec<Ticket>,
    /// Lanes that a queue has called. They go before those that are ready.
    pub(super) called: VecDeque<(Ticket, Caller)>,
    /// The ring of lanes that may run.
    pub(super) ready: VecDeque<Ticket>,
    /// Lanes in which nothing waits, the longest idle first. When there are too many lanes, these are forgotten.
    pub(super) idle: VecDeque<Ticket>,
    /// How many of its lanes are known.
    pub(super) lanes: usize,
    /// How many places its requests hold.
    pub(super) in_flight: usize,
    /// If it wanted places at its last plan and got none: a number that grows with the time at which it began to wait.
    pub(super) waits_since: Option<u64>,
    /// Whether it rests.
    pub(super) rests: bool,
    /// Lanes that were called while it rests.
    pub(super) set_aside: Vec<Ticket>,
}

impl Ring {
    /// How many lanes may want a place.
    pub(super) fn queued(&self) -> usize {
        self.called.len() + self.ready.len()
    }
}

impl Scheduler {
    pub(super) fn ring(&self, outbox: Outbox) -> &Ring {
        &self.rings[outbox.index()]
    }

    pub(super) fn ring_mut(&mut self, outbox: Outbox) -> &mut Ring {
        &mut self.rings[outbox.index()]
    }

    /// The part of all places that is each outbox's if it wants it.
    pub(super) fn part(&self) -> usize {
        (self.limits.in_flight / self.rings.len()).max(1)
    }

    /// How many places an outbox may take at once: all that are free if there is no other, and else no more than its equal
    /// part of all places, and none that others wait for which have less than their part, and have fewer than this one or
    /// have waited longer.
    pub(super) fn free_to(&self, outbox: Outbox) -> usize {
        let free = self.free();
        if self.rings.len() == 1 {
            return free;
        }
        let part = self.part();
        let missing = |ring: &Ring| part.saturating_sub(ring.in_flight);
        let rank = |ring: &Ring| (ring.in_flight, ring.waits_since.unwrap_or(u64::MAX));
        let own = rank(self.ring(outbox));
        let goes_before = |ring: &&Ring| ring.waits_since.is_some() && !ring.rests && rank(ring) < own;
        let waited_for: usize =
            self.rings.iter().filter(goes_before).map(|ring| missing(ring).min(ring.queued())).sum();
        free.saturating_sub(waited_for).min(part)
    }

    /// Whether an outbox waits for places that others have.
    pub fn waits(&self, outbox: Outbox) -> bool {
        self.ring(outbox).waits_since.is_some()
    }

    /// How many lanes of other outboxes were called for a place and not looked at since.
    pub fn called_elsewhere(&self, outbox: Outbox) -> usize {
        let all: usize = self.rings.iter().map(|ring| ring.called.len()).sum();
        all - self.ring(outbox).called.len()
    }

    /// Notes whether an outbox waits, after a plan.
    pub(super) fn note_waiting(&mut self, outbox: Outbox, has_turns: bool) {
        self.last_number += 1;
        let number = self.last_number;
        let ring = self.ring_mut(outbox);
        ring.waits_since = if has_turns || ring.queued() == 0 { None } else { ring.waits_since.or(Some(number)) };
    }

    /// Lets an outbox rest, because its database does not answer. Lanes that were called for a place are set aside, and
    /// the place goes to the next one.
    pub fn rest(&mut self, outbox: Outbox) {
        if self.rings.len() == 1 {
            return;
        }
        let ring = self.ring_mut(outbox);
        ring.rests = true;
        for (ticket, caller) in std::mem::take(&mut ring.called) {
            self.ring_mut(outbox).set_aside.push(ticket);
            self.looked_at(&caller);
            self.call_again(&caller);
        }
    }

    /// Lends the places of a turn at its agent and its host to others, because its claim is not answered for long. The turn
    /// keeps its part of all places. If the claim is answered after all, what has no place by then goes back.
    pub fn lend(&mut self, turn: &mut Turn) {
        if self.rings.len() > 1 && !std::mem::replace(&mut turn.lent, true) {
            self.release_of_owners(&turn.owners, turn.quota);
        }
    }

    /// Ends the rest of an outbox.
    pub fn resume(&mut self, outbox: Outbox) {
        let ring = self.ring_mut(outbox);
        ring.rests = false;
        for ticket in std::mem::take(&mut ring.set_aside) {
            if self.is_current(ticket) {
                self.make_ready(ticket.lane);
            }
        }
    }

    /// Forgets all lanes and pauses of an outbox, because its dispatcher has ended. Places that it still holds are given back
    /// one by one, as always. It rests until [`Scheduler::resume`].
    pub fn forget_outbox(&mut self, outbox: Outbox) {
        self.rest(outbox);
        let lanes: Vec<_> = self.lanes.keys().copied().filter(|lane| lane.outbox == outbox).collect();
        for lane in lanes {
            if let Some(known) = self.lanes.remove(&lane) {
                self.leave(outbox, &known.owners);
            }
        }
        let in_flight = self.ring(outbox).in_flight;
        // It goes on resting: its old tickets still stand in the queues of hosts and agents, and nobody would look at them.
        *self.ring_mut(outbox) = Ring { in_flight, rests: true, ..Ring::default() };
    }
}
