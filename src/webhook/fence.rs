//! Until when requests may begin. Whoever holds deliveries for a limited time moves the fence ahead as long as it may.
//!
//! The fence is asked at the last possible moment, when the connection is about to write: a process that was stopped
//! just before that and goes on too late writes nothing. What has begun is not affected.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// A time that can be moved and that all clones share. By a monotonic clock, so that nobody's changes of the wall clock
/// matter.
#[derive(Clone, Debug)]
pub struct Fence {
    /// What `until` counts from.
    base: Instant,
    /// Milliseconds after `base`.
    until: Arc<AtomicU64>,
}

impl Fence {
    /// A fence that is closed until it is moved.
    pub fn closed() -> Fence {
        Fence { base: Instant::now(), until: Arc::default() }
    }

    /// A fence that never closes: for requests that nobody else could believe given up.
    pub fn open() -> Fence {
        Fence { base: Instant::now(), until: Arc::new(AtomicU64::new(u64::from(u32::MAX))) }
    }

    /// Moves the fence, ahead or back.
    pub fn move_to(&self, until: Instant) {
        let after = until.saturating_duration_since(self.base).as_millis();
        self.until.store(u64::try_from(after).unwrap_or(u64::MAX), Ordering::Release);
    }

    /// Closes the fence now.
    pub fn close(&self) {
        self.until.store(0, Ordering::Release);
    }

    /// Whether nothing may begin any more.
    pub fn is_closed(&self) -> bool {
        Instant::now() >= self.until()
    }

    /// Waits until nothing may begin any more.
    pub async fn closes(&self) {
        while !self.is_closed() {
            sleep_until(self.until()).await;
        }
    }

    fn until(&self) -> Instant {
        self.base + Duration::from_millis(self.until.load(Ordering::Acquire))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_closes_when_it_is_no_longer_moved_ahead() {
        let fence = Fence::closed();
        assert!(fence.is_closed());
        fence.move_to(Instant::now() + Duration::from_secs(60));
        assert!(!fence.is_closed());
        // Moving it back by another clone closes it for all.
        fence.clone().move_to(Instant::now());
        fence.closes().await;
        assert!(!Fence::open().is_closed());
    }
}
