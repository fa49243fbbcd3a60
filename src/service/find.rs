//! What somebody means by an id: a delivery, a call, or the provider's id of a call.

use uuid::Uuid;

use super::calls::{Arrived, explained};
use crate::store::calls::CallFilter;
use crate::store::history::{HistoryFilter, HistoryRow};
use crate::store::{Store, StoreError};

/// The largest number of deliveries, and of calls without one, that are returned.
pub const MOST_FOUND: usize = 100;

/// What an id stands for.
#[derive(Debug)]
pub enum Found {
    /// One delivery.
    Delivery(Box<HistoryRow>),
    /// The deliveries of one call or of several, the newest first; at most [`MOST_FOUND`].
    Deliveries(Vec<HistoryRow>),
    /// Calls that have no delivery, the newest first; at most [`MOST_FOUND`].
    Calls(Vec<Arrived>),
    /// Nothing.
    Nothing {
        /// Whether not all calls were looked at, but only the newest ones.
        is_older_left: bool,
    },
}

/// Finds what `id` stands for.
///
/// # Errors
/// Only those of the database.
pub async fn find(store: &Store, id: &str) -> Result<Found, StoreError> {
    // Blanks come along when it is pasted.
    let id = id.trim();
    if let Ok(uuid) = Uuid::try_parse(id) {
        if let Some(row) = store.delivery(uuid).await? {
            return Ok(Found::Delivery(Box::new(row)));
        }
        let of_call = HistoryFilter { call_id: Some(uuid), ..HistoryFilter::default() };
        let rows = store.search(&of_call, None, MOST_FOUND).await?.rows;
        if let Some(found) = deliveries(rows) {
            return Ok(found);
        }
        if let Some(call) = store.call(uuid).await? {
            return Ok(Found::Calls(explained(store, vec![call]).await?));
        }
    }
    let of_sid = HistoryFilter { call_sid: Some(id.to_owned()), ..HistoryFilter::default() };
    if let Some(found) = deliveries(store.search(&of_sid, None, MOST_FOUND).await?.rows) {
        return Ok(found);
    }
    let filter = CallFilter { call_sid: Some(id.to_owned()), ..CallFilter::default() };
    let calls = store.calls(&filter, None, MOST_FOUND).await?;
    if calls.calls.is_empty() {
        return Ok(Found::Nothing { is_older_left: calls.rest_after.is_some() });
    }
    Ok(Found::Calls(explained(store, calls.calls).await?))
}

fn deliveries(mut rows: Vec<HistoryRow>) -> Option<Found> {
    match rows.len() {
        0 => None,
        1 => rows.pop().map(|row| Found::Delivery(Box::new(row))),
        _ => Some(Found::Deliveries(rows)),
    }
}
