//! Whole results of several databases as one, step by step, the newest first. All are read side by side, and each has a time of its own
//! in which it answers a step. One that fails, or does not answer, is left out from there on: it delays the others once, and whoever
//! reads is told behind which delivery it is missing. What was read before that is complete.

use std::collections::VecDeque;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::timeout;
use uuid::Uuid;

use super::history::{STEP, Whole};
use super::merged::Placed;
use crate::store::history::HistoryRow;
use crate::store::{Store, StoreError};

/// A whole result of one database, which is read in steps.
pub trait Steps: Send {
    /// What it consists of.
    type Row: Placed + Send;

    /// The next rows, the newest first: possibly none; `None` after the last ones.
    fn step(&mut self) -> impl Future<Output = Result<Option<Vec<Self::Row>>, StoreError>> + Send;

    /// The delivery behind which the next step goes on; `None` if that is the beginning.
    fn reached(&self) -> Option<Uuid>;
}

/// The deliveries of one database.
pub struct OfOne {
    /// From where they are read.
    pub store: Store,
    /// Which they are.
    pub whole: Whole,
}

impl Steps for OfOne {
    type Row = HistoryRow;

    async fn step(&mut self) -> Result<Option<Vec<HistoryRow>>, StoreError> {
        self.whole.step(&self.store).await
    }

    fn reached(&self) -> Option<Uuid> {
        self.whole.reached()
    }
}

/// A database whose rest is missing.
#[derive(Debug)]
pub struct Lost<D> {
    /// Which one.
    pub database: D,
    /// Why.
    pub error: StoreError,
    /// The delivery behind which its own are missing; `None` if all are.
    pub behind: Option<Uuid>,
}

/// One database, with the rows of it that are next.
struct Source<D, S: Steps> {
    database: D,
    steps: S,
    next: VecDeque<S::Row>,
    is_over: bool,
}

/// The whole result of several databases.
pub struct WholeOfAll<D, S: Steps = OfOne> {
    sources: Vec<Source<D, S>>,
    /// How long one of them may take for a step.
    time: Duration,
    /// Those of which it was not said yet that they are lost.
    lost: VecDeque<Lost<D>>,
}

impl<D: Clone, S: Steps> WholeOfAll<D, S> {
    /// Of these databases, each of which has `time` to answer a step.
    pub fn new(databases: impl IntoIterator<Item = (D, S)>, time: Duration) -> WholeOfAll<D, S> {
        let source = |(database, steps)| Source { database, steps, next: VecDeque::new(), is_over: false };
        WholeOfAll { sources: databases.into_iter().map(source).collect(), time, lost: VecDeque::new() }
    }

    /// The next rows, at most [`STEP`]: possibly none, if none was found in time; `None` after the last ones. Of each database, at most
    /// [`STEP`] are held in memory.
    ///
    /// # Errors
    /// One of the databases is lost, and everything before that is complete. The steps after that go on without it.
    pub async fn step(&mut self) -> Result<Option<Vec<(D, S::Row)>>, Lost<D>> {
        let time = self.time;
        let unread = self.sources.iter_mut().filter(|source| source.next.is_empty() && !source.is_over);
        let lost = join_all(unread.map(|source| source.read(time))).await;
        self.lost.extend(lost.into_iter().flatten());
        if let Some(lost) = self.lost.pop_front() {
            return Err(lost);
        }
        let mut rows = Vec::new();
        while rows.len() < STEP
            && let Some(row) = self.newest()
        {
            rows.push(row);
        }
        let is_over = rows.is_empty() && self.sources.iter().all(|source| source.is_over);
        Ok((!is_over).then_some(rows))
    }

    /// Takes the newest row of all; `None` if there is none, or if it is not known of one of them what comes next.
    fn newest(&mut self) -> Option<(D, S::Row)> {
        if self.sources.iter().any(|source| source.next.is_empty() && !source.is_over) {
            return None;
        }
        let newest = self.sources.iter_mut().max_by_key(|source| source.next.front().map(Placed::id))?;
        Some((newest.database.clone(), newest.next.pop_front()?))
    }
}

impl<D: Clone, S: Steps> Source<D, S> {
    /// Makes one step. What it returns is lost.
    async fn read(&mut self, time: Duration) -> Option<Lost<D>> {
        let step = timeout(time, self.steps.step()).await.unwrap_or(Err(StoreError::Unanswered(time)));
        match step {
            Ok(Some(rows)) => self.next.extend(rows),
            Ok(None) => self.is_over = true,
            Err(error) => {
                self.is_over = true;
                return Some(Lost { database: self.database.clone(), error, behind: self.steps.reached() });
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, Utc};
    use tokio::time::Instant;

    use super::*;
    use crate::store::obstacles::Obstacle;

    const TIME: Duration = Duration::from_secs(20);

    /// A row with this number; greater ones are newer.
    #[derive(Debug, PartialEq)]
    struct Numbered(u128);

    impl Placed for Numbered {
        fn id(&self) -> Uuid {
            Uuid::from_u128(self.0)
        }

        fn created_at(&self) -> DateTime<Utc> {
            DateTime::UNIX_EPOCH
        }
    }

    /// What a step gives.
    #[derive(Clone, Debug)]
    enum Given {
        Rows(Vec<u128>),
        Failure,
        Silence,
    }
    use Given::{Failure, Rows, Silence};

    struct Script {
        steps: VecDeque<Given>,
        reached: Option<Uuid>,
    }

    impl Steps for Script {
        type Row = Numbered;

        async fn step(&mut self) -> Result<Option<Vec<Numbered>>, StoreError> {
            match self.steps.front() {
                None => return Ok(None),
                Some(Failure) => return Err(StoreError::from(Obstacle::Standby)),
                Some(Silence) => std::future::pending().await,
                Some(Rows(_)) => {}
            }
            let Some(Rows(rows)) = self.steps.pop_front() else { return Ok(None) };
            self.reached = rows.last().map(|last| Uuid::from_u128(*last)).or(self.reached);
            Ok(Some(rows.into_iter().map(Numbered).collect()))
        }

        fn reached(&self) -> Option<Uuid> {
            self.reached
        }
    }

    fn of(databases: &[&[Given]]) -> WholeOfAll<usize, Script> {
        let script = |steps: &&[Given]| Script { steps: steps.iter().cloned().collect(), reached: None };
        WholeOfAll::new(databases.iter().map(script).enumerate(), TIME)
    }

    /// What comes, to the end: a row as its database and number, or a loss as its database and behind what.
    async fn all(mut whole: WholeOfAll<usize, Script>) -> Vec<Result<(usize, u128), (usize, Option<u128>)>> {
        let mut all = Vec::new();
        loop {
            match whole.step().await {
                Ok(None) => return all,
                Ok(Some(rows)) => all.extend(rows.into_iter().map(|(database, row)| Ok((database, row.0)))),
                Err(lost) => all.push(Err((lost.database, lost.behind.map(|id| id.as_u128())))),
            }
        }
    }

    #[tokio::test]
    async fn rows_of_all_come_once_in_one_order_however_they_are_spread_over_steps() {
        let whole = of(&[&[Rows(vec![9, 6]), Rows(vec![]), Rows(vec![5, 1])], &[Rows(vec![8, 7, 4])], &[]]);
        let expected = [(0, 9), (1, 8), (1, 7), (0, 6), (0, 5), (1, 4), (0, 1)];
        assert_eq!(all(whole).await, expected.map(Ok));
        assert_eq!(all(of(&[])).await, []);
        let many: Vec<u128> = (0..1_200).rev().collect();
        let odd = |rest| many.iter().copied().filter(|number| number % 2 == rest).collect::<Vec<_>>();
        let mut whole = of(&[&[Rows(odd(0))], &[Rows(odd(1))]]);
        let mut found = Vec::new();
        while let Some(rows) = whole.step().await.unwrap() {
            assert!(rows.len() <= STEP);
            found.extend(rows.into_iter().map(|(_, row)| row.0));
        }
        assert_eq!(found, many);
    }

    #[tokio::test]
    async fn what_stands_before_a_loss_is_complete_and_the_others_go_on_behind_it() {
        let failing: &[Given] = &[Rows(vec![8, 5]), Failure];
        let whole = of(&[failing, &[Rows(vec![9, 7, 6, 4]), Rows(vec![3])], &[Failure]]);
        let expected = [
            // Of the last one nothing is known, so nothing stands before that.
            Err((2, None)),
            Ok((1, 9)),
            Ok((0, 8)),
            Ok((1, 7)),
            Ok((1, 6)),
            Ok((0, 5)),
            Err((0, Some(5))),
            Ok((1, 4)),
            Ok((1, 3)),
        ];
        assert_eq!(all(whole).await, expected);
        assert_eq!(all(of(&[&[Failure], &[Failure]])).await, [Err((0, None)), Err((1, None))]);
    }

    #[tokio::test(start_paused = true)]
    async fn databases_that_do_not_answer_delay_the_others_once_and_not_at_each_step() {
        let steps: Vec<Given> = (0..50).rev().map(|number| Rows(vec![number])).collect();
        let silent: &[Given] = &[Silence];
        let begun = Instant::now();
        let found = all(of(&[silent, &steps, silent, silent])).await;
        assert_eq!(begun.elapsed(), TIME);
        assert_eq!(found.iter().filter(|one| one.is_err()).count(), 3);
        assert_eq!(found.iter().filter(|one| one.is_ok()).count(), 50);
    }
}
