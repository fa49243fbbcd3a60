//! The deliveries in flight, each from its claim until its result is recorded. If a result is lost, because a task panics
//! or the finisher has ended, its delivery counts as a loss.
//!
//! A delivery in flight holds a *place* of the scheduler, one of `--concurrency`, until its attempt ends. Afterwards it holds a
//! *slot*, one of `--max-unrecorded`, until its result is recorded. So the next request need not wait for the database.
//!
//! A delivery whose result is not recorded yet would be in doubt if this process died, so their number is bounded
//! ([`Places::unrecorded`]). When all slots are taken, deliveries keep their places until their results are recorded. So
//! a dispatcher that dies leaves no more deliveries in doubt than it has places and slots.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use uuid::Uuid;

use super::held::HeldPlace;
use super::schedule::Schedule;
use crate::domain::host::Origin;
use crate::metrics::Counters;
use crate::scheduler::{LaneId, Place, Signal};

/// How many results were lost on their way to the database.
#[derive(Clone, Debug, Default)]
pub(super) struct Losses(Arc<AtomicUsize>);

impl Losses {
    /// How many results were lost so far.
    pub(super) fn count(&self) -> usize {
        self.0.load(Ordering::Acquire)
    }
}

/// All places of a dispatcher.
#[derive(Clone, Debug)]
pub(super) struct Places {
    /// Decides who gets them.
    pub(super) schedule: Schedule,
    /// Holds one slot for each result that may wait to be recorded without a place.
    unrecorded: Arc<Semaphore>,
    /// Counts the deliveries that were dropped without [`InFlight::leave`].
    pub(super) losses: Losses,
    /// What has been done: for the log's line of each minute, and for the metrics.
    pub(super) counts: Arc<Counters>,
}

impl Places {
    /// Places of this schedule. `unrecorded` is how many results may wait to be recorded without a place.
    pub(super) fn new(schedule: Schedule, unrecorded: usize, counts: Arc<Counters>) -> Places {
        let unrecorded = Arc::new(Semaphore::new(unrecorded.min(Semaphore::MAX_PERMITS)));
        Places { schedule, unrecorded, losses: Losses::default(), counts }
    }

    /// Notes that a delivery has been claimed, which takes this place.
    pub(super) fn take(&self, place: Place) -> InFlight {
        let lane = place.lane;
        self.counts.claimed();
        InFlight {
            place: Some(HeldPlace::new(place, &self.schedule)),
            slot: None,
            lane,
            places: self.clone(),
            left: false,
        }
    }

    /// How many results wait to be recorded without a place. `of` is how many may wait.
    pub(super) fn waiting_to_be_recorded(&self, of: usize) -> usize {
        of.saturating_sub(self.unrecorded.available_permits())
    }
}

/// One delivery in flight. If this is dropped without [`InFlight::leave`], its result counts as lost. Its place comes free
/// in both cases.
#[derive(Debug)]
pub(super) struct InFlight {
    place: Option<HeldPlace>,
    /// The slot that it holds instead of the place once its attempt has ended.
    slot: Option<OwnedSemaphorePermit>,
    lane: LaneId,
    places: Places,
    left: bool,
}

impl InFlight {
    /// Notes that its attempt at `host`, which began at `started`, has ended. The place comes free if one more result
    /// may wait without a place.
    pub(super) fn ended(&mut self, host: Option<&Origin>, started: Instant, signal: Signal) {
        if let Some(host) = host {
            self.places.schedule.learn(host, started, signal);
        }
        if let Ok(slot) = self.places.unrecorded.clone().try_acquire_owned() {
            self.slot = Some(slot);
            self.place = None;
        }
    }

    /// Whether its request may begin. If not, it has to go back.
    pub(super) fn may_begin(&self) -> bool {
        self.place.as_ref().is_some_and(HeldPlace::may_begin)
    }

    /// The agent of its action, as long as it has its place.
    pub(super) fn agent(&self) -> Option<Arc<str>> {
        self.place.as_ref().map(|place| place.agent().clone())
    }

    /// What has been done at all places.
    pub(super) fn counts(&self) -> &Counters {
        &self.places.counts
    }

    /// Notes that its delivery went back to `waiting`.
    pub(super) fn returned(&self, delivery_id: Uuid) {
        self.places.schedule.returned(self.lane, delivery_id);
    }

    /// Ends in good order: its result is in the database, or is counted elsewhere.
    pub(super) fn leave(mut self) {
        self.left = true;
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if !self.left {
            self.places.losses.0.fetch_add(1, Ordering::AcqRel);
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::scheduler::{Edition, Limits, Manner, Outbox, Owners};

    /// The lane of [`places`].
    pub(in crate::dispatcher) const LANE: LaneId = LaneId { outbox: Outbox::FIRST, action_id: 1 };

    /// All places of a dispatcher with `count` of them, and each of them by itself.
    pub(in crate::dispatcher) fn places(count: usize, unrecorded: usize) -> (Places, Vec<Place>) {
        let limits =
            Limits { in_flight: count, per_agent: count, per_host: count, adapt: false, hold_unreachable: false };
        let schedule = Schedule::all(limits.clone(), 1).remove(0);
        let mut scheduler = crate::scheduler::Scheduler::new(limits, 1);
        let owners = Owners { agent: "a".into(), host: None };
        scheduler.admit(LANE, owners, Edition::default(), Manner::Untried, Instant::now());
        scheduler.found(LANE);
        let turn = scheduler.plan(Outbox::FIRST, count, Instant::now()).pop().unwrap();
        let free = scheduler.claimed(turn, count, false, Instant::now());
        schedule.take_over(scheduler);
        (Places::new(schedule, unrecorded, Arc::default()), free)
    }

    /// How many of `of` places are free.
    pub(in crate::dispatcher) fn free(places: &Places, of: usize) -> usize {
        of - places.schedule.report().0
    }

    #[test]
    fn a_result_that_nobody_wrote_is_counted_however_it_was_lost_and_its_place_comes_free() {
        let (places, mut untaken) = places(3, 0);
        places.take(untaken.pop().unwrap()).leave();
        assert_eq!(places.losses.count(), 0);
        drop(places.take(untaken.pop().unwrap()));
        let held = places.take(untaken.pop().unwrap());
        let panicked = std::thread::spawn(move || {
            let _held = held;
            panic!("as this test wants it");
        });
        assert!(panicked.join().is_err());
        assert_eq!((places.losses.count(), free(&places, 3)), (2, 3));
    }

    #[test]
    fn places_come_free_with_the_answers_as_long_as_few_results_wait_to_be_recorded() {
        let (places, untaken) = places(3, 2);
        let mut all: Vec<InFlight> = untaken.into_iter().map(|place| places.take(place)).collect();
        all.iter_mut().for_each(|one| one.ended(None, Instant::now(), Signal::Answered));
        assert_eq!((free(&places, 3), places.waiting_to_be_recorded(2)), (2, 2), "the third keeps its place");
        all.into_iter().for_each(InFlight::leave);
        assert_eq!((free(&places, 3), places.waiting_to_be_recorded(2), places.losses.count()), (3, 0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_delivery_that_went_back_to_waiting_is_claimed_again_at_once() {
        let (places, mut untaken) = places(1, 0);
        let in_flight = places.take(untaken.pop().unwrap());
        in_flight.returned(Uuid::now_v7());
        in_flight.leave();
        let turns = tokio::time::timeout(std::time::Duration::from_secs(100), places.schedule.turns(1));
        assert_eq!(turns.await.expect("its lane has work").len(), 1);
    }
}
