//! The newest endings, as they come, for people who look on: a sample if more end than anybody could read. Whoever needs all of
//! them follows history ([`Following`](super::history::Following)).

use std::collections::BTreeSet;
use std::time::Instant;

use uuid::Uuid;

use crate::store::endings::Ending;
use crate::store::history::{HistoryFilter, HistoryRow};
use crate::store::{Store, StoreError};

/// The most endings that one look shows.
pub const MOST: usize = 20;
/// How far back a look reads behind the last one that did not fail, in seconds, because a recording is visible only when it is
/// committed, a moment after its time.
const MARGIN_SECONDS: f64 = 3.0;
/// How far back the first look reads, and how far one reads at most: after a database did not answer for longer, what ended before
/// that is not shown.
const SECONDS: std::ops::RangeInclusive<f64> = 4.0..=60.0;

/// Who looks on.
#[derive(Clone, Debug, Default)]
pub struct Tail {
    /// The endings of the last look, which the next one reads again.
    seen: BTreeSet<Ending>,
    /// When the last look began.
    looked_at: Option<Instant>,
}

/// What a look has found.
#[derive(Debug)]
pub struct Look {
    /// What has ended, the oldest first.
    pub rows: Vec<HistoryRow>,
    /// Whether more has ended than is shown.
    pub is_sample: bool,
}

impl Tail {
    /// Looks at what has ended since the last look. What a look that failed, or that nobody waited for to its end, had read is read
    /// again by the next one, if that is made within a minute.
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
        let began_at = Instant::now();
        let (seconds, has_gap) = self.reaches(began_at);
        let (news, is_many) = self.take(store.latest_endings(seconds, MOST).await?);
        let is_sample = is_many || has_gap;
        self.looked_at = Some(began_at);
        if news.is_empty() {
            return Ok(Look { rows: Vec::new(), is_sample });
        }
        let filter = HistoryFilter { delivery_ids: Some(news), ..HistoryFilter::default() };
        let mut rows = store.history(&filter, MOST).await?;
        rows.sort_by_key(|row| (row.finished_at, row.delivery_id));
        Ok(Look { rows, is_sample })
    }

    /// How far back a look that begins now has to read, in seconds, and whether something before that is left out.
    fn reaches(&self, now: Instant) -> (f64, bool) {
        let passed = self.looked_at.map_or(0.0, |last| now.saturating_duration_since(last).as_secs_f64());
        let seconds = passed + MARGIN_SECONDS;
        (seconds.clamp(*SECONDS.start(), *SECONDS.end()), seconds > *SECONDS.end())
    }

    /// What of this was not seen before. If all that could be read is new, there was probably more.
    fn take(&mut self, ended: Vec<Ending>) -> (Vec<Uuid>, bool) {
        let ended = BTreeSet::from_iter(ended);
        let news: Vec<Uuid> = ended.difference(&self.seen).map(|ending| ending.delivery_id).collect();
        self.seen = ended;
        let is_sample = news.len() >= MOST;
        (news, is_sample)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use chrono::{DateTime, TimeDelta};

    use super::*;

    fn ended(number: u32) -> Ending {
        let finished_at = DateTime::UNIX_EPOCH + TimeDelta::seconds(number.into());
        Ending { finished_at, delivery_id: Uuid::from_u128(number.into()) }
    }

    #[test]
    fn nothing_is_seen_twice_and_it_is_known_when_more_ends_than_is_seen() {
        let mut tail = Tail::default();
        let ids = |numbers: &[u32]| numbers.iter().map(|number| Uuid::from_u128((*number).into())).collect::<Vec<_>>();
        assert_eq!(tail.take(vec![ended(2), ended(1)]), (ids(&[1, 2]), false));
        assert_eq!(tail.take(vec![ended(4), ended(2)]), (ids(&[4]), false));
        assert_eq!(tail.take(vec![ended(4)]), (vec![], false));
        let (news, is_sample) = tail.take((100..).take(MOST).map(ended).collect());
        assert!(news.len() == MOST && is_sample && tail.seen.len() == MOST);
    }

    #[test]
    fn a_look_reaches_back_to_the_last_one_that_did_not_fail_or_it_is_known_that_something_is_left_out() {
        let now = Instant::now();
        let after =
            |seconds| Tail { looked_at: now.checked_sub(Duration::from_secs(seconds)), ..Tail::default() }.reaches(now);
        assert_eq!(Tail::default().reaches(now), (4.0, false));
        assert_eq!(
            (after(0), after(1), after(20), after(57)),
            ((4.0, false), (4.0, false), (23.0, false), (60.0, false))
        );
        assert_eq!(after(58), (60.0, true));
    }
}
