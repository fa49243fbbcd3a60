//! Where claiming goes on while there is a backlog: behind what was claimed last.
//!
//! Rows that were claimed stay in the queue's index until vacuum clears them away, and while somebody holds a snapshot it
//! cannot. A claim from the smallest id wades through all of them; a claim from the mark does not.
//!
//! Ids below the mark may still appear: of a transaction that commits late, or of a delivery that was given back. So a
//! claim from the mark is never the last word: as soon as one is not filled, and every now and then anyway, claiming
//! begins at the smallest id again. Such a delivery waits a moment longer, and is never passed over for good.

use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::domain::claim::Claimed;

/// At least so often claiming begins at the smallest id.
const WHOLE_LOOK_EVERY: Duration = Duration::from_millis(250);
/// And so many times as long as such a claim takes passes in between, so that they do not become all there is.
const RARITY: u32 = 10;

pub(super) struct Mark {
    after: Uuid,
    asked: Instant,
    whole_look_due: Instant,
}

impl Mark {
    /// Before all ids.
    pub(super) fn start() -> Mark {
        let now = Instant::now();
        Mark { after: Uuid::nil(), asked: now, whole_look_due: now }
    }

    /// The id behind which the next claim looks.
    pub(super) fn next(&mut self) -> Uuid {
        self.asked = Instant::now();
        if self.asked >= self.whole_look_due {
            self.after = Uuid::nil();
        }
        self.after
    }

    /// Moves behind what that claim took. Whether it must be made again, because it found nothing and saw only a part.
    pub(super) fn note(&mut self, claimed: &[Claimed], limit: usize) -> bool {
        let partial = !self.after.is_nil();
        if !partial {
            let now = Instant::now();
            self.whole_look_due = now + WHOLE_LOOK_EVERY.max((now - self.asked) * RARITY);
        }
        let last = claimed.iter().map(|one| one.hold.delivery_id()).max();
        self.after = last.filter(|_| claimed.len() >= limit).unwrap_or_default();
        partial && claimed.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::claim::{Hold, VersionKey};

    fn claimed(id: u128) -> Claimed {
        let version = VersionKey { action_id: 1, version: 1 };
        let id = Uuid::from_u128(id);
        Claimed { hold: Hold::new(id, Uuid::nil()), message_id: id, version, enabled: true, call: None }
    }

    #[test]
    fn a_claim_that_is_not_filled_or_has_not_been_whole_for_long_is_followed_by_a_whole_one() {
        let mut mark = Mark::start();
        assert!(mark.next().is_nil());
        assert!(!mark.note(&[claimed(7), claimed(9), claimed(8)], 3));
        assert_eq!(mark.next(), Uuid::from_u128(9));
        assert!(!mark.note(&[claimed(10)], 3));
        assert!(mark.next().is_nil());
        mark.note(&[claimed(11)], 1);
        mark.whole_look_due = Instant::now();
        assert!(mark.next().is_nil());
    }

    #[test]
    fn only_a_whole_look_may_find_that_there_is_nothing() {
        let mut mark = Mark::start();
        mark.next();
        mark.note(&[claimed(1)], 1);
        mark.next();
        assert!(mark.note(&[], 1));
        assert!(mark.next().is_nil());
        assert!(!mark.note(&[], 1));
    }
}
