//! Who has a connection. If all places are taken, whoever has asked for nothing for the longest loses theirs: somebody who only holds
//! connections, and opens new ones whenever they end, keeps nobody waiting.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// All connections.
pub(super) struct Crowd {
    places: Arc<Semaphore>,
    guests: Mutex<Vec<Arc<Guest>>>,
}

/// One connection.
pub(super) struct Guest {
    /// Its streamed answers.
    pub(super) streams: TaskTracker,
    /// Cancelled when its place is needed for somebody else.
    pub(super) out: CancellationToken,
    /// How many answers are being made for it. A request that is still arriving does not count.
    served: AtomicUsize,
    /// When it came, or was last served.
    idle_since: Mutex<Instant>,
}

/// A place, as long as it is held.
pub(super) struct Place {
    guest: Arc<Guest>,
    crowd: Arc<Crowd>,
    _permit: OwnedSemaphorePermit,
}

/// Keeps a connection from losing its place while an answer is made.
pub(super) struct Served(Arc<Guest>);

impl Crowd {
    /// With so many places.
    pub(super) fn new(places: usize) -> Arc<Crowd> {
        Arc::new(Crowd { places: Arc::new(Semaphore::new(places)), guests: Mutex::default() })
    }

    /// A place for a new connection. `None` if there will never be one, which does not happen: the semaphore is never closed.
    pub(super) async fn place(self: &Arc<Crowd>) -> Option<Place> {
        let permit = match Arc::clone(&self.places).try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => {
                self.make_room();
                Arc::clone(&self.places).acquire_owned().await.ok()?
            }
        };
        let guest = Arc::new(Guest {
            streams: TaskTracker::new(),
            out: CancellationToken::new(),
            served: AtomicUsize::new(0),
            idle_since: Mutex::new(Instant::now()),
        });
        held(&self.guests).push(Arc::clone(&guest));
        Some(Place { guest, crowd: Arc::clone(self), _permit: permit })
    }

    /// Sends away who has been idle for the longest, if anybody is.
    fn make_room(&self) {
        let guests = held(&self.guests);
        let idle = guests.iter().filter(|guest| guest.is_idle());
        if let Some(longest) = idle.min_by_key(|guest| *held(&guest.idle_since)) {
            longest.out.cancel();
        }
    }
}

impl Place {
    /// Who holds it.
    pub(super) fn guest(&self) -> Arc<Guest> {
        Arc::clone(&self.guest)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        held(&self.crowd.guests).retain(|guest| !Arc::ptr_eq(guest, &self.guest));
    }
}

impl Guest {
    /// Counts as served until what is returned is dropped.
    pub(super) fn served(self: &Arc<Guest>) -> Served {
        self.served.fetch_add(1, Ordering::Relaxed);
        Served(Arc::clone(self))
    }

    /// Counts as served for as long as it lives, which is bounded.
    pub(super) fn follows(&self) {
        self.served.fetch_add(1, Ordering::Relaxed);
    }

    fn is_idle(&self) -> bool {
        self.served.load(Ordering::Relaxed) == 0 && self.streams.is_empty() && !self.out.is_cancelled()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        *held(&self.0.idle_since) = Instant::now();
        self.0.served.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The lock. Nobody panics while they hold it; and what is in it would be whole.
fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_util::poll;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn whoever_has_been_idle_for_the_longest_makes_room_and_nobody_who_is_served_does() {
        let crowd = Crowd::new(3);
        let moment = std::time::Duration::from_millis(1);
        let first = crowd.place().await.unwrap();
        let served = first.guest().served();
        tokio::time::advance(moment).await;
        let second = crowd.place().await.unwrap();
        tokio::time::advance(moment).await;
        let third = crowd.place().await.unwrap();
        tokio::time::advance(moment).await;
        drop(second.guest().served());

        let mut fourth = pin!(crowd.place());
        assert!(poll!(fourth.as_mut()).is_pending(), "its connection has to end first");
        let out = [&first, &second, &third].map(|place| place.guest().out.is_cancelled());
        assert_eq!(out, [false, false, true], "the second one was served after the third one had come");
        drop(third);
        let fourth = fourth.await.unwrap();
        fourth.guest().follows();
        second.guest().follows();
        let mut fifth = pin!(crowd.place());
        assert!(poll!(fifth.as_mut()).is_pending());
        assert!(![&first, &second, &fourth].iter().any(|place| place.guest().out.is_cancelled()), "all are served");
        drop((served, first));
        assert!(fifth.await.is_some());
        assert_eq!(held(&crowd.guests).len(), 2, "who has left is forgotten");
    }
}
