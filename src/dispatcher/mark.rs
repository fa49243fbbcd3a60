//! Where claiming goes on while there is a backlog: behind what was claimed last.
//!
//! Rows that were claimed stay in the queue's index until vacuum clears them away, and while somebody holds a snapshot it
//! cannot. A claim from the smallest id wades through all of them; a claim from the mark does not.
//!
//! Ids below the mark may still appear: of a transaction that commits late, or of a delivery that was given back. So a
//! claim from the mark is never the last word: as soon as one is not filled, and every now and then anyway, claiming
//! begins at the smallest id again. Such a delivery waits a moment longer, and is never passed over for good.
//!
//! A delivery whose call does not come over the link to the database in all the time there is would be claimed again and
//! again, and nobody else would have a turn. It is passed over for a while, and what lies before it with it.

use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::store::claim::Taken;

/// At least so often claiming begins at the smallest id.
const WHOLE_LOOK_EVERY: Duration = Duration::from_millis(250);
/// And so many times as long as such a claim takes passes in between, so that they do not become all there is.
const RARITY: u32 = 10;
/// How long a delivery is passed over that took too long.
const PASSED_OVER_FOR: Duration = Duration::from_secs(60);

pub(super) struct Mark {
    after: Uuid,
    asked: Instant,
    whole_look_due: Instant,
    /// Behind what even a whole look begins, and until when.
    passed_over: Option<(Uuid, Instant)>,
}

impl Mark {
    /// Before all ids.
    pub(super) fn start() -> Mark {
        let now = Instant::now();
        Mark { after: Uuid::nil(), asked: now, whole_look_due: now, passed_over: None }
    }

    /// The id behind which the next claim looks.
    pub(super) fn next(&mut self) -> Uuid {
        self.asked = Instant::now();
        self.passed_over = self.passed_over.filter(|(_, until)| self.asked < *until);
        if self.asked >= self.whole_look_due {
            self.after = Uuid::nil();
        }
        self.after = self.after.max(self.beginning());
        self.after
    }

    /// The id behind which the last claim looked.
    pub(super) fn after(&self) -> Uuid {
        self.after
    }

    /// Moves behind what that claim took. Whether it must be made again, because it found nothing and saw only a part.
    pub(super) fn note(&mut self, taken: &Taken) -> bool {
        let partial = self.after > self.beginning();
        if !partial {
            let now = Instant::now();
            self.whole_look_due = now + WHOLE_LOOK_EVERY.max((now - self.asked) * RARITY);
        }
        let last = taken.claimed.iter().map(|one| one.hold.delivery_id()).max();
        self.after = last.filter(|_| taken.filled).unwrap_or_default();
        partial && taken.claimed.is_empty()
    }

    /// Passes over these deliveries for a while.
    pub(super) fn pass_over(&mut self, deliveries: &[Uuid]) {
        if let Some(last) = deliveries.iter().max() {
            self.passed_over = Some((*last, Instant::now() + PASSED_OVER_FOR));
        }
    }

    /// Where a whole look begins.
    fn beginning(&self) -> Uuid {
        self.passed_over.map_or(Uuid::nil(), |(id, _)| id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::claim::{Claimed, Hold, Payload, VersionKey};

    /// A claim that took these, and whether it was filled.
    fn taken(ids: &[u128], filled: bool) -> Taken {
        let version = VersionKey { action_id: 1, version: 1 };
        let claimed = |id: &u128| {
            let id = Uuid::from_u128(*id);
            let (hold, payload) = (Hold::new(id, Uuid::nil()), Payload::Gone);
            Claimed { hold, message_id: id, version, enabled: true, payload }
        };
        Taken { claimed: ids.iter().map(claimed).collect(), filled }
    }

    #[test]
    fn a_claim_that_is_not_filled_or_has_not_been_whole_for_long_is_followed_by_a_whole_one() {
        let mut mark = Mark::start();
        assert!(mark.next().is_nil());
        assert!(!mark.note(&taken(&[7, 9, 8], true)));
        assert_eq!(mark.next(), Uuid::from_u128(9));
        assert!(!mark.note(&taken(&[10], false)));
        assert!(mark.next().is_nil());
        mark.note(&taken(&[11], true));
        mark.whole_look_due = Instant::now();
        assert!(mark.next().is_nil());
    }

    #[test]
    fn only_a_whole_look_may_find_that_there_is_nothing() {
        let mut mark = Mark::start();
        mark.next();
        mark.note(&taken(&[1], true));
        mark.next();
        assert!(mark.note(&taken(&[], false)));
        assert!(mark.next().is_nil());
        assert!(!mark.note(&taken(&[], false)));
    }

    #[test]
    fn what_is_passed_over_is_looked_at_again_after_a_while() {
        let mut mark = Mark::start();
        mark.pass_over(&[Uuid::from_u128(5), Uuid::from_u128(4)]);
        assert_eq!(mark.next(), Uuid::from_u128(5));
        assert!(!mark.note(&taken(&[], false)), "that was all there is to be seen for now");
        assert_eq!(mark.next(), Uuid::from_u128(5));
        mark.passed_over = mark.passed_over.map(|(id, _)| (id, Instant::now()));
        mark.whole_look_due = Instant::now();
        assert!(mark.next().is_nil());
    }
}
