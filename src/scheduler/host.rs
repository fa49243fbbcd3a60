//! A host: how many requests it may have in flight, whether it answers, and whether it can be reached.

use std::time::{Duration, Instant};

use super::gate::Gate;
use super::lane::Ticket;
use super::limit::AdaptiveLimit;
use super::reach::Reach;

/// A host that has had something in flight for so long without any answer counts as silent.
pub(super) const QUIET: Duration = Duration::from_secs(1);

/// Whether a host answers. All hosts that do not share a part of the places, so that any number of them leaves the rest
/// to those that do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Manner {
    /// It has not answered yet, and has had no time to.
    Untried,
    /// It answers.
    Answering,
    /// It was silent for a second while something was in flight, and has not answered since.
    Silent,
}

/// What the scheduler knows of a host.
#[derive(Debug)]
pub(super) struct Host {
    /// Its places, and the lanes that wait for one.
    pub(super) gate: Gate<Ticket>,
    pub(super) limit: AdaptiveLimit,
    pub(super) reach: Reach,
    pub(super) manner: Manner,
    /// The manner as which it waits for a place that it shares with others, if it does.
    pub(super) waits_as: Option<Manner>,
    /// Lanes that are known and send to it.
    pub(super) lanes: usize,
    /// The last answer, or the beginning of the first request after a pause.
    heard_at: Instant,
    /// Since when it is silent.
    pub(super) silent_since: Option<Instant>,
    /// Whether the scheduler will listen to it in time.
    pub(super) watched: bool,
}

impl Host {
    /// A host of which nothing else is known than its manner.
    pub(super) fn new(limit: AdaptiveLimit, manner: Manner, now: Instant) -> Host {
        Host {
            gate: Gate::default(),
            limit,
            reach: Reach::unknown(),
            manner,
            waits_as: None,
            lanes: 0,
            heard_at: now,
            silent_since: (manner == Manner::Silent).then_some(now),
            watched: false,
        }
    }

    /// Requests that may be in flight to it now.
    pub(super) fn limit(&self) -> usize {
        match (self.reach.is_unreachable(), self.manner) {
            (true, _) => 0,
            // One shows whether it answers as well as several, and leaves the other places to other hosts that are new.
            (false, Manner::Untried) => self.limit.get().min(1),
            (false, _) => self.limit.get(),
        }
    }

    /// Places are taken for requests that are about to begin.
    pub(super) fn take(&mut self, places: usize, now: Instant) {
        if self.gate.in_flight == 0 {
            self.heard_at = now;
        }
        self.limit.used(now);
        self.gate.in_flight += places;
    }

    /// A lane has used all the places that it was given.
    pub(super) fn filled(&mut self) {
        self.limit.filled(self.gate.in_flight);
    }

    /// It answered.
    pub(super) fn answered(&mut self, now: Instant) {
        self.heard_at = now;
        self.silent_since = None;
    }

    /// Whether an answer has arrived after `moment`.
    pub(super) fn was_heard_since(&self, moment: Instant) -> bool {
        self.heard_at > moment
    }

    /// When to look at its silence (again), or that it is silent now.
    pub(super) fn listen(&mut self, now: Instant) -> Heard {
        if self.gate.in_flight == 0 {
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

/// What listening to a host shows.
pub(super) enum Heard {
    /// Nothing is in flight, so no answer is due.
    NothingToHear,
    /// It was heard of; ask again then.
    AskAgain(Instant),
    /// It is silent.
    Silence,
}
