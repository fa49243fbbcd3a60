//! A host: how many requests to it may be in flight, whether it answers, and whether it can be reached.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::lane::Ticket;
use super::limit::AdaptiveLimit;
use super::place_queue::PlaceQueue;
use super::reach::Reach;
use super::ring::Outbox;

/// A host counts as silent if a request has been in flight for this long without any answer from the host.
pub(super) const QUIET: Duration = Duration::from_secs(1);

/// Whether a host answers. Hosts that are not known to answer share a part of the places, so that any number of them
/// leaves the rest to hosts that answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Manner {
    /// The host has not answered yet, and has had no time to answer.
    Untried,
    /// The host answers.
    Answering,
    /// The host was silent for a second while a request was in flight, and has not answered since.
    Silent,
}

/// What the scheduler knows of a host.
#[derive(Debug)]
pub(super) struct KnownHost {
    /// Its places, and the lanes that wait for a place.
    pub(super) queue: PlaceQueue<Ticket>,
    pub(super) limit: AdaptiveLimit,
    pub(super) reach: Reach,
    pub(super) manner: Manner,
    /// The manner under whose shared limit it waits for a place, if it waits there.
    pub(super) waits_as: Option<Manner>,
    /// How many known lanes send to it.
    pub(super) lanes: LaneCounts,
    /// When the last answer arrived, or when the first request after a pause began.
    heard_at: Instant,
    /// Since when it is silent.
    pub(super) silent_since: Option<Instant>,
    /// Whether the scheduler has noted when to check whether it is silent.
    pub(super) watched: bool,
}

/// How many known lanes send to a host, for each outbox.
#[derive(Debug, Default)]
pub(super) struct LaneCounts(BTreeMap<Outbox, usize>);

impl LaneCounts {
    pub(super) fn add(&mut self, outbox: Outbox) {
        *self.0.entry(outbox).or_default() += 1;
    }

    pub(super) fn remove(&mut self, outbox: Outbox) {
        if let Some(count) = self.0.get_mut(&outbox) {
            *count -= 1;
            if *count == 0 {
                self.0.remove(&outbox);
            }
        }
    }

    /// How many are of this outbox.
    pub(super) fn of(&self, outbox: Outbox) -> usize {
        self.0.get(&outbox).copied().unwrap_or_default()
    }

    pub(super) fn is_none(&self) -> bool {
        self.0.is_empty()
    }
}

impl KnownHost {
    /// A host of which only the manner is known.
    pub(super) fn new(limit: AdaptiveLimit, manner: Manner, now: Instant) -> KnownHost {
        KnownHost {
            queue: PlaceQueue::default(),
            limit,
            reach: Reach::unknown(),
            manner,
            waits_as: None,
            lanes: LaneCounts::default(),
            heard_at: now,
            silent_since: (manner == Manner::Silent).then_some(now),
            watched: false,
        }
    }

    /// How many requests may be in flight to it now.
    pub(super) fn limit(&self) -> usize {
        match (self.reach.is_unreachable(), self.manner) {
            (true, _) => 0,
            // One request shows whether the host answers as well as several do, and leaves places to other new hosts.
            (false, Manner::Untried) => self.limit.get().min(1),
            (false, _) => self.limit.get(),
        }
    }

    /// Takes places for requests that are about to begin.
    pub(super) fn take(&mut self, places: usize, now: Instant) {
        if self.queue.in_flight == 0 {
            self.heard_at = now;
        }
        self.limit.used(now);
        self.queue.in_flight += places;
    }

    /// Notes that a lane has used all the places that it was given.
    pub(super) fn filled(&mut self) {
        self.limit.filled(self.queue.in_flight);
    }

    /// Notes that it answered.
    pub(super) fn answered(&mut self, now: Instant) {
        self.heard_at = now;
        self.silent_since = None;
    }

    /// Whether an answer has arrived after `moment`.
    pub(super) fn was_heard_since(&self, moment: Instant) -> bool {
        self.heard_at > moment
    }

    /// Checks whether it is silent, and says when to check again.
    pub(super) fn listen(&mut self, now: Instant) -> Heard {
        if self.queue.in_flight == 0 {
            return Heard::NothingToHear;
        }
        let due = self.heard_at + QUIET;
        if now < due {
            return Heard::AskAgain(due);
        }
        self.silent_since.get_or_insert(self.heard_at);
        Heard::Silence
    }
}

/// The result of [`KnownHost::listen`].
pub(super) enum Heard {
    /// Nothing is in flight, so no answer is due.
    NothingToHear,
    /// The host is not silent yet. Check again at this time.
    AskAgain(Instant),
    /// The host is silent.
    Silence,
}
