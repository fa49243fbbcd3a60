//! What became of the calls of the last hour, minute by minute: read once for all pages that show it within a few seconds.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::time::Instant;

use crate::store::minutes::MinuteCount;
use crate::store::{Store, StoreError};

/// How long what was read is shown.
const KEPT: Duration = Duration::from_secs(10);

/// What was read last, and when.
type Read = (Instant, Arc<[MinuteCount]>);

/// What was read last.
#[derive(Default)]
pub(super) struct Rates {
    last: Mutex<Option<Read>>,
    /// Held by the page that reads.
    reading: tokio::sync::Mutex<()>,
}

impl Rates {
    /// The counts; see [`Store::last_hour_by_minute`]. While one page reads, others show what was read before that, or wait for it
    /// if there is nothing.
    pub(super) async fn of(&self, store: &Store, now: DateTime<Utc>) -> Result<Arc<[MinuteCount]>, StoreError> {
        let last = self.last();
        let is_fresh = |at: &Instant| at.elapsed() < KEPT;
        let _reading = match (&last, self.reading.try_lock()) {
            (Some((at, counts)), _) if is_fresh(at) => return Ok(Arc::clone(counts)),
            (_, Ok(reading)) => reading,
            (Some((_, counts)), Err(_)) => return Ok(Arc::clone(counts)),
            (None, Err(_)) => self.reading.lock().await,
        };
        // Whoever has waited finds what was read meanwhile.
        if let Some((_, counts)) = self.last().filter(|(at, _)| is_fresh(at)) {
            return Ok(counts);
        }
        let counts: Arc<[MinuteCount]> = store.last_hour_by_minute(now).await?.into();
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), Arc::clone(&counts)));
        Ok(counts)
    }

    fn last(&self) -> Option<Read> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
