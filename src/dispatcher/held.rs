//! Turns and places that are given back when whoever holds them is dropped, by an error or a panic, too.

use std::sync::Arc;

use super::schedule::Schedule;
use crate::scheduler::{Place, Turn};

/// Turns whose places come free when this is dropped, whatever happens to the claim.
#[derive(Debug)]
pub(super) struct HeldTurns {
    turns: Vec<Turn>,
    schedule: Schedule,
}

impl HeldTurns {
    pub(super) fn new(turns: Vec<Turn>, schedule: &Schedule) -> HeldTurns {
        HeldTurns { turns, schedule: schedule.clone() }
    }

    /// How many they are.
    pub(super) fn len(&self) -> usize {
        self.turns.len()
    }

    /// All of them.
    pub(super) fn as_slice(&self) -> &[Turn] {
        &self.turns
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Turn> {
        self.turns.iter_mut()
    }

    /// The first one.
    pub(super) fn first_mut(&mut self) -> Option<&mut Turn> {
        self.turns.first_mut()
    }

    /// Splits them: the second half is returned.
    pub(super) fn halve(&mut self) -> HeldTurns {
        HeldTurns { turns: self.turns.split_off(self.turns.len() / 2), schedule: self.schedule.clone() }
    }

    /// The turns, for whoever gives their places back.
    pub(super) fn take(mut self) -> Vec<Turn> {
        std::mem::take(&mut self.turns)
    }
}

impl Drop for HeldTurns {
    fn drop(&mut self) {
        if !self.turns.is_empty() {
            self.schedule.give_back(std::mem::take(&mut self.turns));
        }
    }
}

/// A place that is given back when this is dropped, whatever happens to the attempt.
#[derive(Debug)]
pub(super) struct HeldPlace {
    place: Place,
    schedule: Schedule,
}

impl HeldPlace {
    pub(super) fn new(place: Place, schedule: &Schedule) -> HeldPlace {
        HeldPlace { place, schedule: schedule.clone() }
    }

    /// Whether the request may begin at this place.
    pub(super) fn may_begin(&self) -> bool {
        self.place.may_begin
    }

    /// The agent whose place it is.
    pub(super) fn agent(&self) -> &Arc<str> {
        self.place.agent()
    }
}

impl Drop for HeldPlace {
    fn drop(&mut self) {
        self.schedule.leave(&self.place);
    }
}
