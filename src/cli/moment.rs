//! Times as arguments.

use chrono::{DateTime, Utc};

use crate::domain::moment::{EXPECTED, Moment, NOTHING_BETWEEN};
use crate::store::{Store, StoreError};

/// Parses a time as a person says it.
pub(super) fn parse_moment(text: &str) -> Result<Moment, String> {
    Moment::named(text).ok_or_else(|| format!("expected {EXPECTED}"))
}

/// The times that are meant, all from the same now. The database is asked only if one of them is a span.
pub(super) async fn resolved<const N: usize>(
    store: &Store,
    moments: [Option<Moment>; N],
) -> Result<[Option<DateTime<Utc>>; N], StoreError> {
    let needs_now = moments.iter().flatten().any(|moment| moment.is_relative());
    let now = if needs_now { store.now().await? } else { DateTime::UNIX_EPOCH };
    Ok(moments.map(|moment| moment.map(|moment| moment.at(now))))
}

/// Says on stderr that a search finds nothing because it begins where it ends, or later.
pub(super) fn say_nothing_between(since: Option<DateTime<Utc>>, until: Option<DateTime<Utc>>) {
    if since.zip(until).is_some_and(|(since, until)| since >= until) {
        eprintln!("{NOTHING_BETWEEN}");
    }
}
