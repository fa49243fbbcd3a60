//! What the overview shows of the last hour, of what is open, and of the partitions: read once for all who look within a few seconds, so that many
//! viewers cost the database no more than one.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::people::Role;
use crate::store::StoreError;
use crate::store::history::StateCount;
use crate::store::last_hour::MinuteCount;
use crate::store::open_deliveries::OpenDeliveries;
use crate::store::partitions::Headroom;

/// For how many seconds what was read is shown.
pub(super) const KEPT_SECONDS: u64 = 10;

/// What was read last by each role: none is shown what only another one may read.
#[derive(Default)]
pub(super) struct Glances([Glance; Role::ALL.len()]);

impl Glances {
    pub(super) fn of(&self, role: Role) -> &Glance {
        let [viewer, auditor, operator, publisher] = &self.0;
        match role {
            Role::Viewer => viewer,
            Role::Auditor => auditor,
            Role::Operator => operator,
            Role::Publisher => publisher,
        }
    }
}

/// What was read last of each.
#[derive(Default)]
pub(super) struct Glance {
    /// What became of the calls of the last hour, minute by minute.
    pub(super) minutes: Kept<MinuteCount>,
    /// How the deliveries of the last hour ended.
    pub(super) last_hour: Kept<StateCount>,
    /// How many failed lately, and are open.
    pub(super) failed: Kept<StateCount>,
    /// How many are open, and since when.
    pub(super) open: Kept<OpenDeliveries>,
    /// For how long there are partitions.
    pub(super) headroom: Kept<Headroom>,
}

/// What was read, and when.
type Read<T> = (Instant, Arc<[T]>);

/// What was read last.
pub(super) struct Kept<T> {
    last: Mutex<Option<Read<T>>>,
    /// Held by the page that reads.
    reading: tokio::sync::Mutex<()>,
}

impl<T> Default for Kept<T> {
    fn default() -> Kept<T> {
        Kept { last: Mutex::default(), reading: tokio::sync::Mutex::default() }
    }
}

impl<T> Kept<T> {
    /// What `read` tells, or told within the last [`KEPT_SECONDS`]. While one page reads, others show what was read before that. If
    /// there is nothing, they read as well: behind a page whose read takes long, they would wait one after the other.
    ///
    /// # Errors
    /// That of `read`, which is not kept: the next page reads again.
    pub(super) async fn or<R>(&self, read: R) -> Result<Arc<[T]>, StoreError>
    where
        R: Future<Output = Result<Vec<T>, StoreError>>,
    {
        let last = self.last();
        let is_fresh = |at: &Instant| at.elapsed() < Duration::from_secs(KEPT_SECONDS);
        let _reading = match (&last, self.reading.try_lock()) {
            (Some((at, kept)), _) if is_fresh(at) => return Ok(Arc::clone(kept)),
            (Some((_, kept)), Err(_)) => return Ok(Arc::clone(kept)),
            (_, reading) => reading.ok(),
        };
        let read: Arc<[T]> = read.await?.into();
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), Arc::clone(&read)));
        Ok(read)
    }

    /// As [`Kept::or`], of what is one thing.
    pub(super) async fn or_one<R>(&self, read: R) -> Result<Option<T>, StoreError>
    where
        T: Copy,
        R: Future<Output = Result<T, StoreError>>,
    {
        Ok(self.or(async { Ok(vec![read.await?]) }).await?.first().copied())
    }

    fn last(&self) -> Option<Read<T>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    fn read(value: i32) -> impl Future<Output = Result<Vec<i32>, StoreError>> {
        ready(Ok(vec![value]))
    }

    fn fails() -> impl Future<Output = Result<Vec<i32>, StoreError>> {
        ready(Err(StoreError::from(crate::store::obstacles::Obstacle::Standby)))
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_read_is_shown_for_some_seconds_and_then_read_again() {
        let kept = Kept::default();
        assert_eq!(*kept.or(read(1)).await.unwrap(), [1]);
        tokio::time::advance(Duration::from_secs(KEPT_SECONDS - 1)).await;
        assert_eq!(*kept.or(read(2)).await.unwrap(), [1]);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(*kept.or(read(3)).await.unwrap(), [3]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_error_is_not_kept() {
        let kept = Kept::default();
        assert!(kept.or(fails()).await.is_err());
        assert_eq!(*kept.or(read(1)).await.unwrap(), [1]);
    }

    #[tokio::test(start_paused = true)]
    async fn while_one_reads_nobody_else_waits_who_can_be_shown_what_was_read_before() {
        let kept = Kept::default();
        kept.or(read(1)).await.unwrap();
        tokio::time::advance(Duration::from_secs(KEPT_SECONDS)).await;
        let mut slow = std::pin::pin!(kept.or(pending()));
        assert!(futures_util::poll!(slow.as_mut()).is_pending());
        assert_eq!(*kept.or(read(2)).await.unwrap(), [1]);
    }
}
