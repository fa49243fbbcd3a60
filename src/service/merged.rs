//! Pages of several databases as one. The ids of deliveries grow with time in all of them, so the newest come first, whichever they are
//! in. Nothing is shown that is older than what was not searched in one of them: so none is missed between two pages.

use std::cmp::Reverse;

use chrono::{DateTime, Utc};
use serde::Serialize;
use uuid::Uuid;

use super::export::Record;
use super::history::Next;
use crate::store::history::HistoryRow;

/// A delivery of one of several databases, as it is printed and exported.
#[derive(Serialize)]
pub struct Located {
    /// The name of the database.
    pub database: String,
    /// The delivery.
    #[serde(flatten)]
    pub row: HistoryRow,
}

impl Record for Located {
    const COLUMNS: &'static [&'static str] = &COLUMNS;
}

const COLUMNS: [&str; HistoryRow::COLUMNS.len() + 1] = after_first("database", HistoryRow::COLUMNS);

const fn after_first<const N: usize, const M: usize>(
    first: &'static str,
    rest: [&'static str; N],
) -> [&'static str; M] {
    let mut all = [first; M];
    let mut at = 0;
    while at < N {
        all[at + 1] = rest[at];
        at += 1;
    }
    all
}

/// What a delivery's place in a list depends on.
pub trait Placed {
    /// Its id, which grows with time.
    fn id(&self) -> Uuid;
    /// When it was created.
    fn created_at(&self) -> DateTime<Utc>;
}

impl Placed for HistoryRow {
    fn id(&self) -> Uuid {
        self.delivery_id
    }

    fn created_at(&self) -> DateTime<Utc> {
        self.created_at
    }
}

/// The first `limit` deliveries of pages of several databases, which all begin at the same place, and what comes after them.
pub fn merged<D: Copy, R: Placed>(pages: Vec<(D, Vec<R>, Next)>, limit: usize) -> (Vec<(D, R)>, Next) {
    let (mut rows, mut behind, mut until) = (Vec::new(), None::<Uuid>, None::<DateTime<Utc>>);
    for (database, of_page, next) in pages {
        rows.extend(of_page.into_iter().map(|row| (database, row)));
        match next {
            Next::Nothing => {}
            Next::After(last) => behind = behind.max(Some(last)),
            Next::Until(time) => until = until.max(Some(time)),
        }
    }
    rows.sort_by_key(|(_, row)| Reverse(row.id()));
    // What is older than the end of one database's part is not complete.
    rows.retain(|(_, row)| until.is_none_or(|until| row.created_at() >= until));
    rows.retain(|(_, row)| behind.is_none_or(|behind| row.id() >= behind));
    let is_more = rows.len() > limit;
    rows.truncate(limit);
    let last = rows.last().map(|(_, row)| Next::After(row.id())).filter(|_| is_more);
    let next = last.unwrap_or(match (behind, until) {
        (None, None) => Next::Nothing,
        (None, Some(until)) => Next::Until(until),
        // Whichever ends first: behind it, the other is searched again.
        (Some(behind), Some(until)) if time_of(behind) < until => Next::Until(until),
        (Some(behind), _) => Next::After(behind),
    });
    (rows, next)
}

/// When an id was made, to the millisecond: its first 48 bits say so (RFC 9562, version 7).
fn time_of(id: Uuid) -> DateTime<Utc> {
    let ms = i64::try_from(id.as_u128() >> 80).unwrap_or(i64::MAX);
    DateTime::from_timestamp_millis(ms).unwrap_or(DateTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Created at this second; its id says so, too.
    struct Created(u128);

    fn id(second: u128) -> Uuid {
        Uuid::from_u128((second * 1_000) << 80)
    }

    fn at(second: u128) -> DateTime<Utc> {
        time_of(id(second))
    }

    impl Placed for Created {
        fn id(&self) -> Uuid {
            id(self.0)
        }

        fn created_at(&self) -> DateTime<Utc> {
            at(self.0)
        }
    }

    fn list(pages: &[(&[u128], Next)], limit: usize) -> (Vec<(usize, u128)>, Next) {
        let pages = pages.iter().enumerate();
        let pages = pages.map(|(of, (rows, next))| (of, rows.iter().copied().map(Created).collect(), *next)).collect();
        let (rows, next) = merged(pages, limit);
        (rows.into_iter().map(|(of, row)| (of, row.0)).collect(), next)
    }

    #[test]
    fn a_page_of_all_has_the_newest_of_all_and_goes_on_behind_its_last_one() {
        let both: &[(&[u128], Next)] = &[(&[9, 6], Next::After(id(6))), (&[8, 7], Next::After(id(7)))];
        assert_eq!(list(both, 2), (vec![(0, 9), (1, 8)], Next::After(id(8))));
        let ended: &[(&[u128], Next)] = &[(&[9], Next::Nothing), (&[8], Next::Nothing)];
        assert_eq!(list(ended, 2), (vec![(0, 9), (1, 8)], Next::Nothing));
        assert_eq!(list(&[], 2), (vec![], Next::Nothing));
    }

    #[test]
    fn nothing_is_shown_that_is_older_than_what_one_of_the_databases_was_not_searched_for() {
        // The first has found nothing down to 5, and goes on there.
        let pages: &[(&[u128], Next)] = &[(&[], Next::After(id(5))), (&[8, 4, 3], Next::Nothing)];
        assert_eq!(list(pages, 50), (vec![(1, 8)], Next::After(id(5))));
        // There was no time for what is older than 6 in one, and for what is before 4 in the other.
        let pages: &[(&[u128], Next)] = &[(&[9], Next::Until(at(6))), (&[8, 5, 4], Next::After(id(4)))];
        assert_eq!(list(pages, 50), (vec![(0, 9), (1, 8)], Next::Until(at(6))));
        let pages: &[(&[u128], Next)] = &[(&[9, 5], Next::Until(at(3))), (&[8, 6], Next::After(id(6)))];
        assert_eq!(list(pages, 50), (vec![(0, 9), (1, 8), (1, 6)], Next::After(id(6))));
    }
}
