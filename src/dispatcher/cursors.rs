//! The cursors: up to which id each lane has been claimed, so that the next claim begins there.
//!
//! Rows that were claimed stay in the index of `waiting` until vacuum removes them, and vacuum cannot remove them while
//! somebody holds a snapshot. A claim from a lane's smallest id reads all of them; a claim from its cursor does not.
//!
//! Ids below a cursor may still appear, when a transaction commits late or when a delivery is given back. So a cursor
//! stays behind everything that was inserted a moment ago. A delivery that appears even later is found when the scout
//! looks behind the cursors ([`super::scout`]): it waits a moment longer, and is never passed over for good.

use std::time::{Duration, Instant};

use hashbrown::HashMap;
use uuid::Uuid;

use crate::store::lanes::LaneCursor;

/// How many cursors are kept at most, 40 bytes each. A lane without a cursor is claimed from its smallest id.
const MAX_CURSORS: usize = 20_000;
/// A cursor is dropped when nothing was claimed from its lane for this long.
const KEPT_FOR: Duration = Duration::from_secs(600);
/// How long a delivery that cannot be claimed is passed over.
const PASSED_OVER_FOR: Duration = Duration::from_secs(60);
/// In how many lanes deliveries are passed over at most.
const MAX_PASSED_OVER: usize = 1_000;

/// The cursors of one outbox, by the ids of actions. They have no clock of their own: the caller passes the time in.
#[derive(Debug, Default)]
pub(super) struct Cursors {
    cursors: HashMap<i64, (Uuid, Instant)>,
    /// No cursor goes past this id: transactions that inserted ids near a later one may not have committed yet.
    floor: Uuid,
    /// For each lane, the id up to which deliveries are passed over, and until when.
    passed_over: HashMap<i64, (Uuid, Instant)>,
}

impl Cursors {
    /// The next claim of a lane looks for ids greater than this one.
    pub(super) fn after(&mut self, lane: i64, now: Instant) -> Uuid {
        let cursor = self.cursors.get(&lane).map_or(Uuid::nil(), |(id, _)| *id);
        match self.passed_over.get(&lane) {
            Some((id, until)) if now < *until => cursor.max(*id),
            Some(_) => {
                self.passed_over.remove(&lane);
                cursor
            }
            None => cursor,
        }
    }

    /// Notes that ids up to this one were made some time ago, by the database's clock.
    pub(super) fn raise_floor(&mut self, floor: Uuid) {
        self.floor = self.floor.max(floor);
    }

    /// Notes that `last` is the greatest id that a claim took from a lane.
    pub(super) fn advance(&mut self, lane: i64, last: Uuid, now: Instant) {
        if self.cursors.len() >= MAX_CURSORS && !self.cursors.contains_key(&lane) {
            return;
        }
        let cursor = self.cursors.entry(lane).or_insert((Uuid::nil(), now));
        *cursor = (cursor.0.max(last.min(self.floor)), now);
    }

    /// Notes that the delivery `id` of this lane waits, perhaps at or below its cursor.
    pub(super) fn go_back(&mut self, lane: i64, id: Uuid) {
        if let Some((cursor, _)) = self.cursors.get_mut(&lane) {
            *cursor = (*cursor).min(Uuid::from_u128(id.as_u128().saturating_sub(1)));
        }
    }

    /// Passes over the deliveries of a lane up to this id, for [`PASSED_OVER_FOR`].
    pub(super) fn pass_over(&mut self, lane: i64, last: Uuid, now: Instant) {
        if self.passed_over.len() >= MAX_PASSED_OVER {
            self.passed_over.retain(|_, (_, until)| now < *until);
        }
        if self.passed_over.len() >= MAX_PASSED_OVER
            && let Some(lane) = self.passed_over.iter().min_by_key(|(_, (_, until))| *until).map(|(lane, _)| *lane)
        {
            self.passed_over.remove(&lane);
        }
        self.passed_over.insert(lane, (last, now + PASSED_OVER_FOR));
    }

    /// Drops the cursors that were not used for [`KEPT_FOR`], and returns all others in the order of their lanes.
    pub(super) fn all(&mut self, now: Instant) -> Vec<LaneCursor> {
        self.cursors.retain(|_, (_, used)| now.saturating_duration_since(*used) < KEPT_FOR);
        let mut all: Vec<LaneCursor> =
            self.cursors.iter().map(|(lane, (after, _))| LaneCursor { action_id: *lane, after: *after }).collect();
        all.sort_unstable_by_key(|cursor| cursor.action_id);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u128) -> Uuid {
        Uuid::from_u128(number)
    }

    #[test]
    fn a_cursor_never_goes_past_what_was_inserted_just_now() {
        let (mut cursors, now) = (Cursors::default(), Instant::now());
        cursors.advance(1, id(50), now);
        assert_eq!(cursors.after(1, now), id(0), "nothing is known of the database's time yet");
        cursors.raise_floor(id(100));
        cursors.advance(1, id(50), now);
        assert_eq!(cursors.after(1, now), id(50));
        cursors.advance(1, id(150), now);
        assert_eq!(cursors.after(1, now), id(100));
        cursors.raise_floor(id(90));
        cursors.advance(1, id(120), now);
        assert_eq!((cursors.after(1, now), cursors.after(2, now)), (id(100), id(0)));
    }

    #[test]
    fn what_waits_behind_a_cursor_is_reached_again() {
        let (mut cursors, now) = (Cursors::default(), Instant::now());
        cursors.raise_floor(id(100));
        cursors.advance(1, id(50), now);
        cursors.go_back(1, id(30));
        assert_eq!(cursors.after(1, now), id(29));
        cursors.go_back(1, id(40));
        assert_eq!(cursors.after(1, now), id(29));
    }

    #[test]
    fn what_is_passed_over_is_looked_at_again_after_a_while() {
        let (mut cursors, now) = (Cursors::default(), Instant::now());
        cursors.pass_over(1, id(5), now);
        assert_eq!((cursors.after(1, now), cursors.after(2, now)), (id(5), id(0)));
        assert_eq!(cursors.after(1, now + PASSED_OVER_FOR), id(0));
    }

    #[test]
    fn lanes_that_are_passed_over_are_bounded_and_those_whose_time_is_over_go_first() {
        let (mut cursors, now) = (Cursors::default(), Instant::now());
        let later = now + Duration::from_secs(1);
        cursors.pass_over(0, id(5), now);
        (1..MAX_PASSED_OVER as i64).for_each(|lane| cursors.pass_over(lane, id(5), later));
        assert_eq!(cursors.passed_over.len(), MAX_PASSED_OVER);
        // None is over: the one that would be over first goes.
        cursors.pass_over(-1, id(5), now + PASSED_OVER_FOR / 2);
        assert_eq!(cursors.passed_over.len(), MAX_PASSED_OVER);
        let first = [0, 1].map(|lane| cursors.passed_over.contains_key(&lane));
        assert_eq!(first, [false, true]);
        // All those of `later` are over at the moment at which they end.
        cursors.pass_over(-2, id(5), later + PASSED_OVER_FOR);
        let mut left: Vec<i64> = cursors.passed_over.keys().copied().collect();
        left.sort_unstable();
        assert_eq!(left, [-2, -1]);
    }

    #[test]
    fn cursors_are_bounded_and_those_that_are_not_used_are_dropped() {
        let (mut cursors, now) = (Cursors::default(), Instant::now());
        cursors.raise_floor(id(100));
        (0..2 * MAX_CURSORS as i64).for_each(|lane| cursors.advance(lane, id(50), now));
        assert_eq!(cursors.cursors.len(), MAX_CURSORS);
        cursors.advance(7, id(60), now + KEPT_FOR / 2);
        assert_eq!(cursors.all(now + KEPT_FOR), [LaneCursor { action_id: 7, after: id(60) }]);
    }
}
