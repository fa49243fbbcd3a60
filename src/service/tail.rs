//! The newest endings, as they come, for people who look on: a sample if more end than anybody could read. Whoever needs all of
//! them follows history ([`Following`](super::history::Following)).

use std::collections::BTreeSet;

use uuid::Uuid;

use crate::store::endings::Ending;
use crate::store::history::{HistoryFilter, HistoryRow};
use crate::store::{Store, StoreError};

/// The most endings that one look shows.
pub const MOST: usize = 20;
/// How far back a look reads, in seconds. It is longer than the time between two looks, because a recording is visible only
/// when it is committed, a moment after its time.
const SECONDS: f64 = 4.0;

/// Who looks on.
#[derive(Clone, Debug, Default)]
pub struct Tail {
    /// The endings of the last look, which the next one reads again.
    seen: BTreeSet<Ending>,
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
    /// again by the next one, if that is made within some seconds.
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
        let (news, is_sample) = self.take(store.latest_endings(SECONDS, MOST).await?);
        if news.is_empty() {
            return Ok(Look { rows: Vec::new(), is_sample });
        }
        let filter = HistoryFilter { delivery_ids: Some(news), ..HistoryFilter::default() };
        let mut rows = store.history(&filter, MOST).await?;
        rows.sort_by_key(|row| (row.finished_at, row.delivery_id));
        Ok(Look { rows, is_sample })
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
}
