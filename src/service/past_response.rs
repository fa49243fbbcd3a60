//! What came back for a past delivery, beside what history has of it.

use crate::domain::delivery::State;
use crate::domain::excerpt::Excerpt;
use crate::store::history::HistoryRow;
use crate::store::{Store, StoreError};

/// The excerpt of a response that was not 2xx; `None` if none is kept, or if these rights do not allow to read it.
///
/// # Errors
/// Any other error of the database.
pub async fn excerpt(store: &Store, row: &HistoryRow) -> Result<Option<Excerpt>, StoreError> {
    // History may say later that a delivery was rejected; only what the dispatcher recorded has an excerpt.
    if row.recorded_state != Some(State::Rejected) {
        return Ok(None);
    }
    match store.excerpt(row.delivery_id).await {
        Err(error) if error.is_forbidden() => Ok(None),
        read => read,
    }
}
