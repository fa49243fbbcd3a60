//! History in pages, the newest first; a whole result, page by page; and what newly comes to an end.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::store::endings::{Ending, Endings};
use crate::store::history::{HistoryFilter, HistoryRow};
use crate::store::search::{Found, Patience, Reached};
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
    page_within(store, filter, after, limit, Patience::Search).await
}

/// As [`page`], with this patience.
///
/// # Errors
/// Only those of the database.
pub async fn page_within(
    store: &Store,
    filter: &HistoryFilter,
    after: Option<Uuid>,
    limit: usize,
    patience: Patience,
) -> Result<Page, StoreError> {
    // One row more than a page shows whether there is another page.
    Ok(Page::of(store.search_within(filter, after, limit + 1, patience).await?, limit))
}

impl Page {
    fn of(Found { mut rows, reached }: Found, limit: usize) -> Page {
        rows.truncate(limit);
        let next = match (reached, rows.last()) {
            (Reached::Limit, Some(last)) => Next::After(last.delivery_id),
            (Reached::Time(until), _) => Next::Until(until),
            (Reached::Before(id), _) => Next::After(id),
            (Reached::Limit | Reached::End, _) => Next::Nothing,
        };
        Page { rows, next }
    }
}

/// The largest number of deliveries that a step through a whole result reads, and holds in memory.
pub const STEP: usize = 500;

/// A whole result, step by step, the newest first.
///
/// Each step goes on before the last id of the one before. An id never changes, so nothing comes twice, and what was
/// there at the beginning and still matches when its step is made comes once, whatever is inserted, claimed or recorded
/// meanwhile. What is inserted after the beginning does not come.
#[derive(Debug)]
pub struct Whole {
    filter: HistoryFilter,
    before: Option<Uuid>,
    is_over: bool,
}

impl Whole {
    /// The whole result, from the delivery behind `after` on.
    pub fn new(filter: HistoryFilter, after: Option<Uuid>) -> Whole {
        Whole { filter, before: after, is_over: false }
    }

    /// The next deliveries, at most [`STEP`]: possibly none, if the time of a search was not enough to find any; `None`
    /// after the last ones.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn step(&mut self, store: &Store) -> Result<Option<Vec<HistoryRow>>, StoreError> {
        if self.is_over {
            return Ok(None);
        }
        let found = store.search(&self.filter, self.before, STEP).await?;
        self.before = found.rest_before();
        self.is_over = self.before.is_none();
        Ok(Some(found.rows))
    }

    /// The delivery behind which the next step goes on; `None` if no step was made from the newest one.
    pub fn reached(&self) -> Option<Uuid> {
        self.before
    }
}

/// The largest number of endings that one look reads.
pub const MOST_ENDINGS: usize = 20_000;

/// Follows what comes to an end, whenever it was created.
///
/// A look reads what has ended since the last one, and again what ended shortly before that, because a recording is
/// visible only when it is committed, a moment after its time. Of more than `MOST_ENDINGS` endings in that time, a
/// look reads the oldest ones, and the next one goes on behind them: what is committed late among these is not seen. A
/// look reads no more than the endings of `WINDOW`, and time in which nothing ended is skipped. So following from a time
/// long ago costs many small statements, and none that reads all that has ended since.
#[derive(Clone, Debug)]
pub struct Following {
    filter: HistoryFilter,
    /// The next look reads what ended after this.
    after: Ending,
    /// What was seen among that.
    seen: BTreeSet<Ending>,
}

/// What a look has found.
#[derive(Debug)]
pub struct Look {
    /// The deliveries that match, in the order of their ends.
    pub rows: Vec<HistoryRow>,
    /// Whether there may be more already, so that the next look should not wait.
    pub is_more: bool,
}

impl Following {
    /// How late a recording may be committed after the time that it says, in seconds, to be seen for certain. It is
    /// longer than a dispatcher lets a statement take.
    pub const MARGIN_SECONDS: i64 = 15;

    /// Follows what ends after `since`. The filter's times of creation are not looked at.
    pub fn since(since: DateTime<Utc>, filter: HistoryFilter) -> Following {
        let filter = HistoryFilter { since: None, until: None, ..filter };
        let after = Ending { finished_at: since, delivery_id: Uuid::nil() };
        Following { filter, after, seen: BTreeSet::new() }
    }

    /// Looks at what has ended since the last look. What a look that failed, or that nobody waited for to its end, had read is read
    /// again by the next one.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn look(&mut self, store: &Store) -> Result<Look, StoreError> {
        let mut ahead = self.clone();
        let look = ahead.advance(store).await?;
        *self = ahead;
        Ok(look)
    }

    async fn advance(&mut self, store: &Store) -> Result<Look, StoreError> {
        let until = self.after.finished_at + WINDOW;
        let endings = store.endings_between(self.after, until, MOST_ENDINGS).await?;
        let is_more = endings.ended.len() >= MOST_ENDINGS || until < endings.began_at;
        let (is_empty, latest) = (endings.ended.is_empty(), endings.began_at - MARGIN);
        let news = self.take(endings, until, MOST_ENDINGS);
        let mut rows = Vec::new();
        for some in news.chunks(STEP) {
            let ids = some.iter().map(|ending| ending.delivery_id).collect();
            let filter = HistoryFilter { delivery_ids: Some(ids), ..self.filter.clone() };
            rows.extend(store.history(&filter, STEP).await?);
        }
        if is_empty && is_more {
            self.skip_to_the_next(store, latest).await?;
        }
        rows.sort_by_key(|row| (row.finished_at, row.delivery_id));
        Ok(Look { rows, is_more })
    }

    /// Goes on to the window before which nothing has ended, and not beyond `latest`. The time that is asked about is
    /// doubled as long as nothing has ended in it; so a year takes some dozens of questions and not 50,000 looks.
    async fn skip_to_the_next(&mut self, store: &Store, latest: DateTime<Utc>) -> Result<(), StoreError> {
        let mut width = WINDOW;
        while self.after.finished_at < latest {
            let from = self.after.finished_at;
            let until = from.checked_add_signed(width).map_or(latest, |until| until.min(latest));
            match store.has_endings_between(from, until).await? {
                true if width <= WINDOW => return Ok(()),
                true => width = WINDOW,
                false => {
                    self.after = Ending { finished_at: until, delivery_id: Uuid::nil() };
                    width = width.checked_mul(2).unwrap_or(width);
                }
            }
        }
        Ok(())
    }

    /// Takes what a look has read of the time before `until`, and returns what was not seen before. `most` is what a
    /// look reads at most.
    fn take(&mut self, Endings { ended, began_at }: Endings, until: DateTime<Utc>, most: usize) -> Vec<Ending> {
        let end = match ended.last() {
            Some(&last) if ended.len() >= most => last,
            _ => Ending { finished_at: until.min(began_at - MARGIN), delivery_id: Uuid::nil() },
        };
        let news: Vec<Ending> = ended.into_iter().filter(|ending| self.seen.insert(*ending)).collect();
        self.after = self.after.max(end);
        self.seen = self.seen.split_off(&self.after);
        news
    }
}

/// How much time one look covers. It is longer than the margin, so that each look comes further than the last one.
const WINDOW: chrono::TimeDelta = chrono::TimeDelta::minutes(10);
const MARGIN: chrono::TimeDelta = chrono::TimeDelta::seconds(Following::MARGIN_SECONDS);

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(second: i64, number: u128) -> Ending {
        let finished_at = DateTime::UNIX_EPOCH + chrono::TimeDelta::seconds(second);
        Ending { finished_at, delivery_id: Uuid::from_u128(number) }
    }

    fn following() -> Following {
        Following::since(DateTime::UNIX_EPOCH, HistoryFilter::default())
    }

    fn look(following: &mut Following, second: i64, ended: &[Ending], most: usize) -> Vec<Ending> {
        let until = following.after.finished_at + WINDOW;
        let unread = |ending: &Ending| *ending > following.after && ending.finished_at < until;
        let read = ended.iter().copied().filter(unread).take(most).collect();
        let began_at = DateTime::UNIX_EPOCH + chrono::TimeDelta::seconds(second);
        following.take(Endings { ended: read, began_at }, until, most)
    }

    #[test]
    fn what_is_committed_late_is_seen_within_the_margin_and_nothing_is_seen_twice() {
        let mut following = following();
        let (first, late, second) = (ended(100, 1), ended(99, 2), ended(110, 3));
        assert_eq!(look(&mut following, 101, &[first], 10), [first]);
        assert_eq!(look(&mut following, 111, &[late, first, second], 10), [late, second]);
        assert_eq!(look(&mut following, 111, &[late, first, second], 10), []);
        assert!(look(&mut following, 200, &[late, first, second], 10).is_empty() && following.seen.is_empty());
        assert_eq!(look(&mut following, 201, &[ended(150, 4)], 10), [], "it was committed too late");
    }

    #[test]
    fn a_look_that_cannot_read_everything_goes_on_where_it_ended_and_remembers_no_more_than_it_read() {
        let mut following = following();
        let many: Vec<Ending> = (0..100).map(|number| ended(100, number + 1)).collect();
        let mut seen = Vec::new();
        for _ in 0..11 {
            seen.extend(look(&mut following, 101, &many, 10));
            assert!(following.seen.len() <= 10, "{}", following.seen.len());
        }
        assert_eq!(seen, many);
    }

    #[test]
    fn following_from_long_ago_goes_on_window_by_window_and_misses_nothing_between_them() {
        let mut following = following();
        let (now, often) = (WINDOW.num_seconds() * 3, 7);
        let many: Vec<Ending> = (0..now / often).map(|number| ended(number * often, number as u128 + 1)).collect();
        let seen: Vec<Ending> = (0..4).flat_map(|_| look(&mut following, now, &many, 1_000)).collect();
        assert_eq!(seen, many);
    }
}
