//! The place of a delivery among the deliveries in flight, from its claim until its result is recorded. A place holds a
//! permit, which the limits count. If a result is lost, because a task panics or the finisher has ended, its place
//! counts the loss.
//!
//! The words: a *place* is one of `--concurrency`. While an attempt runs, its delivery sits in a *seat* of the scheduler, which
//! its *permit* gives back; afterwards it has one of `--max-unrecorded` *slots* until its result is recorded.
//!
//! The permit comes free when the attempt ends, so that the next request need not wait for the database. A delivery
//! whose result is not recorded yet would be in doubt if this process died, so their number is bounded
//! ([`Places::unrecorded`]). When the bound is reached, places keep their permits until their results are recorded. So
//! a dispatcher that dies leaves no more deliveries in doubt than its permits and that bound.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use uuid::Uuid;

use super::schedule::{Permit, Schedule};
use crate::domain::host::Origin;
use crate::metrics::Counters;
use crate::scheduler::{LaneId, Seat, Signal};

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
    /// Decides who gets the permits.
    pub(super) schedule: Arc<Schedule>,
    /// Holds one slot for each result that may wait to be recorded without a permit.
    unrecorded: Arc<Semaphore>,
    /// Counts the places that were dropped without [`Place::leave`].
    pub(super) losses: Losses,
    /// What has been done: for the log's line of each minute, and for the metrics.
    pub(super) counts: Arc<Counters>,
}

impl Places {
    /// Places of this schedule. `unrecorded` is how many results may wait to be recorded without a permit.
    pub(super) fn new(schedule: Arc<Schedule>, unrecorded: usize, counts: Arc<Counters>) -> Places {
        let unrecorded = Arc::new(Semaphore::new(unrecorded.min(Semaphore::MAX_PERMITS)));
        Places { schedule, unrecorded, losses: Losses::default(), counts }
    }

    /// Takes a place for a delivery that has been claimed.
    pub(super) fn take(&self, seat: Seat) -> Place {
        let lane = seat.lane;
        self.counts.claimed();
        Place {
            permit: Some(Permit::new(seat, &self.schedule)),
            unrecorded: None,
            lane,
            places: self.clone(),
            left: false,
        }
    }

    /// How many results wait to be recorded without a permit. `of` is how many may wait.
    pub(super) fn waiting_to_be_recorded(&self, of: usize) -> usize {
        of.saturating_sub(self.unrecorded.available_permits())
    }
}

/// One place. If it is dropped without [`Place::leave`], its result counts as lost. Its permit comes free in both
/// cases.
#[derive(Debug)]
pub(super) struct Place {
    permit: Option<Permit>,
    /// The slot that it holds instead of the permit once its attempt has ended.
    unrecorded: Option<OwnedSemaphorePermit>,
    lane: LaneId,
    places: Places,
    left: bool,
}

impl Place {
    /// Notes that its attempt at `host`, which began at `started`, has ended. The permit comes free if one more result
    /// may wait without a permit.
    pub(super) fn ended(&mut self, host: Option<&Origin>, started: Instant, signal: Signal) {
        if let Some(host) = host {
            self.places.schedule.learn(host, started, signal);
        }
        if let Ok(slot) = self.places.unrecorded.clone().try_acquire_owned() {
            self.unrecorded = Some(slot);
            self.permit = None;
        }
    }

    /// What has been done at all places.
    pub(super) fn counts(&self) -> &Counters {
        &self.places.counts
    }

    /// Notes that its delivery went back to `waiting`.
    pub(super) fn returned(&self, delivery_id: Uuid) {
        self.places.schedule.returned(self.lane, delivery_id);
    }

    /// Leaves the place in good order: its result is in the database, or is counted elsewhere.
    pub(super) fn leave(mut self) {
        self.left = true;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.left {
            self.places.losses.0.fetch_add(1, Ordering::AcqRel);
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::scheduler::{Edition, Limits, Manner, Owners};

    /// The lane of [`places`].
    pub(in crate::dispatcher) const LANE: LaneId = 1;

    /// Makes `count` places, and a seat for each of them.
    pub(in crate::dispatcher) fn places(count: usize, unrecorded: usize) -> (Places, Vec<Seat>) {
        let limits =
            Limits { in_flight: count, per_agent: count, per_host: count, adapt: false, hold_unreachable: false };
        let schedule = Arc::new(Schedule::new(limits.clone()));
        let mut scheduler = crate::scheduler::Scheduler::new(limits);
        let owners = Owners { agent: "a".into(), host: None };
        scheduler.admit(LANE, owners, Edition::default(), Manner::Untried, Instant::now());
        scheduler.found(LANE);
        let turn = scheduler.plan(count, Instant::now()).pop().unwrap();
        let seats = scheduler.claimed(turn, count, false);
        schedule.take_over(scheduler);
        (Places::new(schedule, unrecorded, Arc::default()), seats)
    }

    /// How many of `of` permits are free.
    pub(in crate::dispatcher) fn free(places: &Places, of: usize) -> usize {
        of - places.schedule.report().0
    }

    #[test]
    fn a_result_that_nobody_wrote_is_counted_however_it_was_lost_and_its_permit_comes_free() {
        let (places, mut seats) = places(3, 0);
        places.take(seats.pop().unwrap()).leave();
        assert_eq!(places.losses.count(), 0);
        drop(places.take(seats.pop().unwrap()));
        let held = places.take(seats.pop().unwrap());
        let panicked = std::thread::spawn(move || {
            let _held = held;
            panic!("as this test wants it");
        });
        assert!(panicked.join().is_err());
        assert_eq!((places.losses.count(), free(&places, 3)), (2, 3));
    }

    #[test]
    fn permits_come_free_with_the_answers_as_long_as_few_results_wait_to_be_recorded() {
        let (places, seats) = places(3, 2);
        let mut all: Vec<Place> = seats.into_iter().map(|seat| places.take(seat)).collect();
        all.iter_mut().for_each(|place| place.ended(None, Instant::now(), Signal::Answered));
        assert_eq!((free(&places, 3), places.waiting_to_be_recorded(2)), (2, 2), "the third keeps its permit");
        all.into_iter().for_each(Place::leave);
        assert_eq!((free(&places, 3), places.waiting_to_be_recorded(2), places.losses.count()), (3, 0, 0));
    }
}
