//! Deliveries that are claimed and whose attempts have not started. Nothing of them was sent, and that is known only here:
//! so whatever ends the starting, an error or a panic, those that are left go back to waiting.

use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::finisher::Handed;
use super::place::{Losses, Place};
use crate::domain::claim::{Claimed, Story};
use crate::domain::delivery::Ending;

/// What one claim took, each with its place.
pub(super) struct Unstarted {
    left: std::vec::IntoIter<(Claimed, Place)>,
    settled: mpsc::Sender<Handed>,
}

impl Unstarted {
    /// Gives each delivery one of the permits under which it was claimed; there are as many as it was asked for at most.
    /// Permits that are left over come free.
    pub(super) fn new(
        claimed: Vec<Claimed>,
        mut permits: OwnedSemaphorePermit,
        losses: &Losses,
        settled: mpsc::Sender<Handed>,
    ) -> Unstarted {
        let place = |one| Some((one, Place::take(permits.split(1)?, losses)));
        Unstarted { left: claimed.into_iter().filter_map(place).collect::<Vec<_>>().into_iter(), settled }
    }

    /// Those that are left.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Claimed> {
        self.left.as_slice().iter().map(|(claimed, _)| claimed)
    }

    /// The next one. Who takes it settles it.
    pub(super) fn next(&mut self) -> Option<(Claimed, Place)> {
        self.left.next()
    }
}

impl Drop for Unstarted {
    fn drop(&mut self) {
        for (one, place) in self.left.by_ref() {
            let settled = one.hold.settle(Ending::Unsent, Story::default());
            // The queue has room for every place. Without a finisher nobody can give it back; the place counts that.
            self.settled.try_send(Handed { settled, place }).ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::super::place::Places;
    use super::*;
    use crate::domain::claim::{Hold, Settled, VersionKey};

    fn claimed() -> Claimed {
        Claimed {
            hold: Hold::new(Uuid::now_v7(), Uuid::nil()),
            message_id: Uuid::nil(),
            version: VersionKey { action_id: 1, version: 1 },
            enabled: true,
            payload: crate::domain::claim::Payload::Gone,
        }
    }

    #[tokio::test]
    async fn what_a_panic_keeps_from_starting_goes_back_to_waiting() {
        let Places { permits, losses } = Places::new(3);
        let (settled, mut finisher) = mpsc::channel(3);
        let taken = permits.clone().try_acquire_many_owned(3).unwrap();
        let mut unstarted = Unstarted::new(vec![claimed(), claimed(), claimed()], taken, &losses, settled);
        let starts = tokio::spawn(async move {
            let (_started, place) = unstarted.next().unwrap();
            place.leave();
            panic!("in the middle of starting, as this test wants it");
        });
        assert!(starts.await.unwrap_err().is_panic());
        for _ in 0..2 {
            let handed = finisher.recv().await.unwrap();
            assert!(matches!(handed.settled, Settled::Unsent(_)));
            handed.place.leave();
        }
        assert!(finisher.recv().await.is_none());
        assert_eq!((losses.count(), permits.available_permits()), (0, 3));
    }
}
