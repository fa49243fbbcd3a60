//! Pages of history, the newest first.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::store::history::{HistoryFilter, HistoryRow};
use crate::store::search::{Found, Reached};
use crate::store::{Store, StoreError};

/// A page.
#[derive(Debug)]
pub struct Page {
    /// Its deliveries.
    pub rows: Vec<HistoryRow>,
    /// What comes after it.
    pub next: Next,
}

/// What comes after a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing.
    Nothing,
    /// Another page, which begins after this delivery.
    After(Uuid),
    /// What is older than this was not searched: there was no time.
    Until(DateTime<Utc>),
}

/// The page of at most `limit` deliveries that match, which begins after the delivery `after`.
///
/// # Errors
/// Only those of the database.
pub async fn page(
    store: &Store,
    filter: &HistoryFilter,
    after: Option<Uuid>,
    limit: usize,
) -> Result<Page, StoreError> {
    // One row more than a page shows whether there is another page.
    Ok(Page::of(store.search(filter, after, limit + 1).await?, limit))
}

impl Page {
    fn of(Found { mut rows, reached }: Found, limit: usize) -> Page {
        rows.truncate(limit);
        let next = match (reached, rows.last()) {
            (Reached::Limit, Some(last)) => Next::After(last.delivery_id),
            (Reached::Time(until), _) => Next::Until(until),
            (Reached::Limit | Reached::End, _) => Next::Nothing,
        };
        Page { rows, next }
    }
}
