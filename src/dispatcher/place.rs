//! A delivery's place among what is in flight: its permit, and the knowledge that its result has not been written yet.
//! However a result is lost (a task that panics, a finisher that is gone), its place counts it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How many results were lost on their way to the database.
#[derive(Clone, Debug, Default)]
pub(super) struct Losses(Arc<AtomicUsize>);

impl Losses {
    /// How many so far.
    pub(super) fn count(&self) -> usize {
        self.0.load(Ordering::Acquire)
    }
}

/// All places of a dispatcher.
#[derive(Clone, Debug)]
pub(super) struct Places {
    /// One permit for each that is free.
    pub(super) permits: Arc<Semaphore>,
    /// Where a place counts that was not left in good order.
    pub(super) losses: Losses,
}

impl Places {
    /// So many, all free.
    pub(super) fn new(count: usize) -> Places {
        Places { permits: Arc::new(Semaphore::new(count)), losses: Losses::default() }
    }
}

/// One place. Dropped without [`Place::leave`], it counts as lost. Either way its permit comes free.
#[derive(Debug)]
pub(super) struct Place {
    _permit: OwnedSemaphorePermit,
    /// Where to count; `None` once it has been left in good order.
    losses: Option<Losses>,
}

impl Place {
    /// A place for a delivery that has been claimed.
    pub(super) fn take(permit: OwnedSemaphorePermit, losses: &Losses) -> Place {
        Place { _permit: permit, losses: Some(losses.clone()) }
    }

    /// The result is in the database, or it has been counted by other means.
    pub(super) fn leave(mut self) {
        self.losses = None;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(losses) = &self.losses {
            losses.0.fetch_add(1, Ordering::AcqRel);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_that_nobody_wrote_is_counted_however_it_was_lost_and_its_permit_comes_free() {
        let Places { permits, losses } = Places::new(3);
        let place = || Place::take(permits.clone().try_acquire_owned().unwrap(), &losses);
        place().leave();
        assert_eq!(losses.count(), 0);
        drop(place());
        let held = place();
        let panicked = std::thread::spawn(move || {
            let _held = held;
            panic!("as this test wants it");
        });
        assert!(panicked.join().is_err());
        assert_eq!((losses.count(), permits.available_permits()), (2, 3));
    }
}
