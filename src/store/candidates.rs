//! The deliveries that somebody names by criteria in order to do something with all of them: to replay them, or to say what
//! became of them.

use super::history::{HistoryFilter, HistoryRow, StateCount};
use super::{Store, StoreError};
use crate::domain::delivery::State;

/// The deliveries that match a filter and whose states allow what is to be done.
#[derive(Debug)]
pub enum Candidates {
    /// There are no more than the limit.
    Found {
        /// The deliveries, the oldest first.
        rows: Vec<HistoryRow>,
        /// The number of other matching deliveries, in states that do not allow it.
        left_out: Vec<StateCount>,
    },
    /// There are more than the limit; how many more is not counted.
    TooMany,
}

/// How many deliveries that are open are read at once.
const OPEN_AT_ONCE: usize = 500;

impl Store {
    /// Returns the deliveries that match `filter`, in the states that `allows` accepts; at most `limit`.
    pub async fn candidates(
        &self,
        filter: &HistoryFilter,
        allows: impl Fn(State) -> bool,
        limit: usize,
    ) -> Result<Candidates, StoreError> {
        if filter.open {
            return self.open_candidates(filter, allows, limit).await;
        }
        // The count comes first, so that rows that are left out, or too many, are never read. Between the two
        // statements a delivery may change its state: each is judged again when something is done with it.
        let (chosen, left_out): (Vec<_>, Vec<_>) =
            self.count_history(filter, limit).await?.into_iter().partition(|count| allows(count.state));
        let matching: i64 = chosen.iter().map(|count| count.count).sum();
        if usize::try_from(matching).unwrap_or(usize::MAX) > limit {
            return Ok(Candidates::TooMany);
        }
        let states = chosen.into_iter().map(|count| count.state).collect();
        let filter = HistoryFilter { states: Some(states), ..filter.clone() };
        let mut rows = self.history(&filter, limit).await?;
        rows.reverse();
        Ok(Candidates::Found { rows, left_out })
    }

    /// As [`Store::candidates`], for what is open: in the steps of a search. Where nearly everything was healed, one
    /// statement that counts would read all of history.
    async fn open_candidates(
        &self,
        filter: &HistoryFilter,
        allows: impl Fn(State) -> bool,
        limit: usize,
    ) -> Result<Candidates, StoreError> {
        let most = i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1);
        let (mut rows, mut left_out, mut before) = (Vec::new(), Vec::<StateCount>::new(), None);
        loop {
            let found = self.search(filter, before, OPEN_AT_ONCE).await?;
            before = found.rest_before();
            for row in found.rows {
                if allows(row.state) {
                    rows.push(row);
                } else if let Some(counted) = left_out.iter_mut().find(|counted| counted.state == row.state) {
                    counted.count = (counted.count + 1).min(most);
                } else {
                    left_out.push(StateCount { state: row.state, count: 1 });
                }
            }
            if rows.len() > limit {
                return Ok(Candidates::TooMany);
            }
            if before.is_none() {
                break;
            }
        }
        rows.reverse();
        Ok(Candidates::Found { rows, left_out })
    }
}
