//! Deliveries that are claimed and whose attempts have not started, so nothing of them was sent. If an error or a panic
//! stops the starting, the deliveries that are left go back to `waiting`. So do those whose places were lent while their
//! claim was not answered.

use hashbrown::HashMap;
use tokio::sync::mpsc;

use super::finisher::PendingResult;
use super::in_flight::{InFlight, Places};
use crate::domain::claim::{AttemptRecord, Claimed};
use crate::domain::delivery::Ending;
use crate::scheduler::Place;

/// The deliveries that one claim took, each in flight at its place.
pub(super) struct Unstarted {
    left: std::vec::IntoIter<(Claimed, InFlight)>,
    results: mpsc::Sender<PendingResult>,
}

impl Unstarted {
    /// Gives each delivery one of the places of its lane. There is one place for each claimed delivery.
    pub(super) fn new(
        claimed: Vec<Claimed>,
        mut untaken: HashMap<i64, Vec<Place>>,
        places: &Places,
        results: mpsc::Sender<PendingResult>,
    ) -> Unstarted {
        let begin = |one: Claimed| {
            let place = untaken.get_mut(&one.version.action_id)?.pop()?;
            Some((one, places.take(place)))
        };
        let (left, without_place): (Vec<_>, Vec<_>) =
            claimed.into_iter().filter_map(begin).partition(|(_, in_flight)| in_flight.may_begin());
        drop(Unstarted { left: without_place.into_iter(), results: results.clone() });
        Unstarted { left: left.into_iter(), results }
    }

    /// The deliveries that are left.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Claimed> {
        self.left.as_slice().iter().map(|(claimed, _)| claimed)
    }

    /// Takes the next delivery. The caller must settle it.
    pub(super) fn next(&mut self) -> Option<(Claimed, InFlight)> {
        self.left.next()
    }
}

impl Drop for Unstarted {
    fn drop(&mut self) {
        for (one, in_flight) in self.left.by_ref() {
            let completion = one.token.complete(Ending::Unsent, AttemptRecord::default());
            // The queue has room for every place. Without a finisher the delivery cannot go back, and the loss is
            // counted.
            self.results.try_send(PendingResult { completion, in_flight }).ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::super::in_flight::tests::{LANE, free, places};
    use super::*;
    use crate::domain::claim::{ClaimToken, Completion, VersionKey};

    fn claimed() -> Claimed {
        Claimed {
            token: ClaimToken::new(Uuid::now_v7(), Uuid::nil()),
            message_id: Uuid::nil(),
            version: VersionKey { action_id: LANE.action_id, version: 1 },
            enabled: true,
            waited: std::time::Duration::ZERO,
            payload: crate::domain::claim::Payload::Gone,
            signing: None,
        }
    }

    #[tokio::test]
    async fn what_may_not_begin_at_its_place_goes_back_to_waiting_at_once() {
        let (places, mut untaken) = places(2, 0);
        untaken[0].may_begin = false;
        let (results, mut finisher) = mpsc::channel(2);
        let untaken = HashMap::from_iter([(LANE.action_id, untaken)]);
        let mut unstarted = Unstarted::new(vec![claimed(), claimed()], untaken, &places, results);
        let back = finisher.try_recv().unwrap();
        assert!(matches!(back.completion, Completion::Unsent(_)) && finisher.try_recv().is_err());
        assert_eq!(unstarted.iter().count(), 1);
        let (_started, in_flight) = unstarted.next().unwrap();
        assert!(in_flight.may_begin() && in_flight.agent().as_deref() == Some("a"));
        in_flight.leave();
        back.in_flight.leave();
    }

    #[tokio::test]
    async fn what_a_panic_keeps_from_starting_goes_back_to_waiting() {
        let (places, untaken) = places(3, 0);
        let (results, mut finisher) = mpsc::channel(3);
        let untaken = HashMap::from_iter([(LANE.action_id, untaken)]);
        let mut unstarted = Unstarted::new(vec![claimed(), claimed(), claimed()], untaken, &places, results);
        let starts = tokio::spawn(async move {
            let (_started, in_flight) = unstarted.next().unwrap();
            in_flight.leave();
            panic!("in the middle of starting, as this test wants it");
        });
        assert!(starts.await.unwrap_err().is_panic());
        for _ in 0..2 {
            let pending = finisher.recv().await.unwrap();
            assert!(matches!(pending.completion, Completion::Unsent(_)));
            pending.in_flight.leave();
        }
        assert!(finisher.recv().await.is_none());
        assert_eq!((places.losses.count(), free(&places, 3)), (0, 3));
    }
}
