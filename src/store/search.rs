//! Searching history within a time limit. Most searches find their rows by an index, however old these are. The others
//! (an action by name, a status code among the delivered) have to read rows, the newest first, until enough of them
//! match. They do so in time windows that grow as long as there is time, so that the result says what was searched and
//! what was not.

mod budget;

use std::ops::{ControlFlow, Range};
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, TimeZone, Utc};
use uuid::Uuid;

pub(super) use self::budget::Budget;
pub use self::budget::Patience;
use self::budget::SEARCH_TIME;
use super::history::{HistoryFilter, HistoryRow, floor};
use super::matching::prepare;
use super::{Store, StoreError};
use crate::domain::delivery::State;

/// The width of the first window.
const FIRST_WINDOW: TimeDelta = TimeDelta::hours(1);
/// The narrowest window that is tried if wider ones take too long.
const LEAST_WINDOW: TimeDelta = TimeDelta::seconds(1);
/// How long the statement for the narrowest window may take.
const LEAST_STATEMENT_TIMEOUT: Duration = Duration::from_secs(10);
/// How many deliveries that were not delivered a search for what is open looks at first, and how many at most in one
/// step.
const CANDIDATES: Range<usize> = 100..1_600;

/// Where a search ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reached {
    /// It found as many rows as the limit; there may be more.
    Limit,
    /// It has searched everything.
    End,
    /// The time was over; deliveries older than this were not searched.
    Time(DateTime<Utc>),
    /// The time was over; deliveries before this one were not searched.
    Before(Uuid),
}

/// The result of a search.
#[derive(Debug)]
pub struct Found {
    /// The deliveries, the newest first.
    pub rows: Vec<HistoryRow>,
    /// How far the search got.
    pub reached: Reached,
}

impl Found {
    /// The id before which a search for the rest goes on; `None` if there is no rest.
    ///
    /// It is an id also where the time was over: a limit by the time of creation would not cut exactly where the search
    /// ended, because a delivery's id is made a moment before or after it.
    pub fn rest_before(&self) -> Option<Uuid> {
        match self.reached {
            Reached::Limit => self.rows.last().map(|last| last.delivery_id),
            Reached::Time(until) => Some(floor(until)),
            Reached::Before(id) => Some(id),
            Reached::End => None,
        }
    }
}

impl Store {
    /// Returns up to `limit` deliveries that match and are older than `after`, the newest first. Usually takes at most
    /// about a second, and says how far it got in that time.
    pub async fn search(&self, filter: &HistoryFilter, after: Option<Uuid>, limit: usize) -> Result<Found, StoreError> {
        self.search_within(filter, after, limit, Patience::Search).await
    }

    /// As [`Store::search`], with this patience.
    pub async fn search_within(
        &self,
        filter: &HistoryFilter,
        after: Option<Uuid>,
        limit: usize,
        patience: Patience,
    ) -> Result<Found, StoreError> {
        let budget = Budget::of(patience);
        if let Some(name) = &filter.action
            && !self.is_an_action(name).await?
        {
            return Ok(Found { rows: Vec::new(), reached: Reached::End });
        }
        let ids = filter.possible_ids(after);
        if filter.open {
            return self.search_open(filter, ids, limit, budget).await;
        }
        if has_an_index(filter) {
            let time = time_of_an_index(filter, budget);
            if let Some(rows) = in_time(self.history_within(filter, &ids, limit, time).await)? {
                let reached = if rows.len() < limit { Reached::End } else { Reached::Limit };
                return Ok(Found { rows, reached });
            }
        }
        self.search_windows(filter, ids, limit, budget).await
    }

    /// Searches for what is open, in steps: some of what was not delivered, and what of it is open. If nearly all of it
    /// was healed, one statement for both would read all of history before it found enough for a page.
    async fn search_open(
        &self,
        filter: &HistoryFilter,
        ids: Range<Uuid>,
        limit: usize,
        budget: Budget,
    ) -> Result<Found, StoreError> {
        let (mut rows, mut missing, mut before, mut step) = (Vec::new(), limit, ids.end, CANDIDATES.start);
        loop {
            let range = ids.start..before;
            let candidates = self.ids_within(&filter.candidates(), &range, step, LEAST_STATEMENT_TIMEOUT).await?;
            if let Some(last) = candidates.last() {
                before = *last;
            }
            let looked_at = candidates.len();
            let among = HistoryFilter { delivery_ids: Some(candidates), ..filter.clone() };
            let found = self.history_within(&among, &range, missing, LEAST_STATEMENT_TIMEOUT).await?;
            missing = missing.saturating_sub(found.len());
            rows.extend(found);
            match next_candidates(step, looked_at, missing, before, budget.left()) {
                ControlFlow::Continue(wider) => step = wider,
                ControlFlow::Break(reached) => return Ok(Found { rows, reached }),
            }
        }
    }

    async fn search_windows(
        &self,
        filter: &HistoryFilter,
        ids: Range<Uuid>,
        limit: usize,
        budget: Budget,
    ) -> Result<Found, StoreError> {
        let (mut rows, mut missing) = (Vec::new(), limit);
        let Some(extent) = self.extent(&ids).await? else { return Ok(Found { rows, reached: Reached::End }) };
        let mut window = Window::newest_of(extent);
        loop {
            let begun = Instant::now();
            let statement_timeout = if window.is_narrowest() {
                LEAST_STATEMENT_TIMEOUT.min(self.statement_timeout)
            } else {
                budget.statement()
            };
            let range = window.ids(&ids);
            let found = self.history_within(filter, &range, missing, statement_timeout).await;
            let next = match found {
                Ok(more) => {
                    missing = missing.saturating_sub(more.len());
                    rows.extend(more);
                    if missing == 0 {
                        return Ok(Found { rows, reached: Reached::Limit });
                    }
                    window.next(begun.elapsed(), budget.left())
                }
                Err(error) => window.after(error)?,
            };
            match next {
                Next::Window(next) => window = next,
                Next::End => return Ok(Found { rows, reached: Reached::End }),
                Next::TimeIsUp(until) => return Ok(Found { rows, reached: Reached::Time(until) }),
            }
        }
    }

    /// The times of the oldest and the newest delivery in this range of ids; `None` if there are none.
    async fn extent(&self, ids: &Range<Uuid>) -> Result<Option<Range<DateTime<Utc>>>, StoreError> {
        // Reads the ends of the tables' primary keys, one index look-up each. The view would not do that.
        let mut transaction = self.pool.begin_with("BEGIN READ ONLY").await?;
        prepare(&mut transaction, self.statement_timeout).await?;
        let row = sqlx::query!(
            r#"
            WITH oldest (id) AS (
                (SELECT delivery_id FROM postcall.delivery
                 WHERE delivery_id >= $1 AND delivery_id < $2 ORDER BY delivery_id LIMIT 1)
                UNION ALL
                (SELECT delivery_id FROM postcall.sending
                 WHERE delivery_id >= $1 AND delivery_id < $2 ORDER BY delivery_id LIMIT 1)
                UNION ALL
                (SELECT delivery_id FROM postcall.waiting
                 WHERE delivery_id >= $1 AND delivery_id < $2 ORDER BY delivery_id LIMIT 1)
            ),
            newest (id) AS (
                (SELECT delivery_id FROM postcall.delivery
                 WHERE delivery_id >= $1 AND delivery_id < $2 ORDER BY delivery_id DESC LIMIT 1)
                UNION ALL
                (SELECT delivery_id FROM postcall.sending
                 WHERE delivery_id >= $1 AND delivery_id < $2 ORDER BY delivery_id DESC LIMIT 1)
                UNION ALL
                (SELECT delivery_id FROM postcall.waiting
                 WHERE delivery_id >= $1 AND delivery_id < $2 ORDER BY delivery_id DESC LIMIT 1)
            )
            SELECT (SELECT id FROM oldest ORDER BY id LIMIT 1) AS oldest,
                   (SELECT id FROM newest ORDER BY id DESC LIMIT 1) AS newest
            "#,
            ids.start,
            ids.end,
        )
        .fetch_one(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(row.oldest.zip(row.newest).map(|(oldest, newest)| time_of(oldest)..time_of(newest)))
    }
}

/// What was found, or nothing if that took too long.
fn in_time<T>(found: Result<T, StoreError>) -> Result<Option<T>, StoreError> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.is_cancelled() => Ok(None),
        Err(error) => Err(error),
    }
}

/// What follows a step of a search for what is open: how many candidates the next one looks at, or where the search ended. The step
/// was for `step` candidates and looked at `looked_at`, the last of them `before`. After it, `missing` rows are missing for the page,
/// and the time `left` remains.
fn next_candidates(
    step: usize,
    looked_at: usize,
    missing: usize,
    before: Uuid,
    left: Duration,
) -> ControlFlow<Reached, usize> {
    match () {
        () if missing == 0 => ControlFlow::Break(Reached::Limit),
        () if looked_at < step => ControlFlow::Break(Reached::End),
        () if left.is_zero() => ControlFlow::Break(Reached::Before(before)),
        () => ControlFlow::Continue((step * 4).min(CANDIDATES.end)),
    }
}

/// Whether an index finds the rows, however rare they are, or nearly every row matches, so that the newest rows
/// suffice.
fn has_an_index(filter: &HistoryFilter) -> bool {
    let is_narrow =
        is_named(filter) || filter.possible_states().is_some_and(|states| !states.contains(&State::Delivered));
    is_narrow || (filter.action.is_none() && filter.response_code.is_none())
}

/// How long a search by an index may take. What is found in the order of a page gets the whole answer. Of an action, a code or a kind
/// alone, the index finds the state only.
fn time_of_an_index(filter: &HistoryFilter, budget: Budget) -> Duration {
    if is_named(filter) || !is_picky(filter) { SEARCH_TIME } else { budget.time() }
}

/// Whether there is a criterion that has no index.
fn is_picky(filter: &HistoryFilter) -> bool {
    filter.action.is_some() || filter.response_code.is_some() || filter.error_kind.is_some()
}

/// Whether deliveries, a call or an agent are named.
fn is_named(filter: &HistoryFilter) -> bool {
    filter.delivery_ids.is_some() || filter.agent.is_some() || filter.call_sid.is_some() || filter.call_id.is_some()
}

/// The time in a time-ordered id, rounded down to the second.
fn time_of(id: Uuid) -> DateTime<Utc> {
    let seconds = i64::try_from((id.as_u128() >> 80) / 1_000).unwrap_or(0);
    Utc.timestamp_opt(seconds, 0).single().unwrap_or(DateTime::UNIX_EPOCH)
}

/// A period of time whose deliveries one statement searches.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Window {
    /// The time of the oldest delivery that can be searched.
    oldest: DateTime<Utc>,
    /// The end of the window. For the first window that is the time of the newest delivery, and everything newer
    /// belongs to it, too.
    until: DateTime<Utc>,
    width: TimeDelta,
    is_first: bool,
}

/// What to do after a window was searched.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    Window(Window),
    End,
    TimeIsUp(DateTime<Utc>),
}

impl Window {
    fn newest_of(extent: Range<DateTime<Utc>>) -> Window {
        Window { oldest: extent.start, until: extent.end, width: FIRST_WINDOW, is_first: true }
    }

    fn since(&self) -> DateTime<Utc> {
        self.until.checked_sub_signed(self.width).unwrap_or(self.oldest)
    }

    fn is_narrowest(&self) -> bool {
        self.width <= LEAST_WINDOW
    }

    /// The window's part of the range of ids that is searched.
    fn ids(&self, all: &Range<Uuid>) -> Range<Uuid> {
        let end = if self.is_first { all.end } else { all.end.min(floor(self.until)) };
        all.start.max(floor(self.since()))..end
    }

    /// What follows if searching this window failed. If it took too long, the first one is followed by a narrower one with the same end,
    /// and a later one by nothing.
    fn after(&self, failure: StoreError) -> Result<Next, StoreError> {
        if !failure.is_cancelled() || (self.is_first && self.is_narrowest()) {
            return Err(failure);
        }
        Ok(match self.is_first {
            true => Next::Window(Window { width: (self.width / 16).max(LEAST_WINDOW), ..self.clone() }),
            false => Next::TimeIsUp(self.until),
        })
    }

    /// What follows if this window took `took` and the time `left` remains. The next window is eight times as wide if
    /// ten times `took` fits into the remaining time, or as wide as this one if one and a half times `took` fits.
    fn next(&self, took: Duration, left: Duration) -> Next {
        if self.since() <= self.oldest {
            return Next::End;
        }
        let width = match took {
            took if took * 10 <= left => self.width * 8,
            took if took * 3 / 2 <= left => self.width,
            _ => return Next::TimeIsUp(self.since()),
        };
        Next::Window(Window { until: self.since(), width, is_first: false, ..self.clone() })
    }
}

#[cfg(test)]
mod tests;
