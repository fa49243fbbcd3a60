//! Pruning: it removes old calls and history, one partition or portion of rows after the other.
//!
//! Nobody waits long for pruning. If a partition is in use, pruning tries again after a pause, a bounded number of
//! times, and then leaves it for the next run. If pruning is killed, nothing is half done, and the next run finds what
//! is left.

use std::time::Duration;

use crate::domain::retention::Retention;
use crate::store::StoreError;
use crate::store::retention::{Dropped, Planned, RowCursor, RowsPruned, Verdict, sources_by_row};
use crate::store::session::Session;

/// How long a statement of pruning may take. It reads `waiting`, so it may take longer than other statements.
pub const PRUNING_PATIENCE: Duration = Duration::from_secs(120);
/// How often something that is in use is tried.
const MOST_TRIES: u32 = 12;
/// The pause after the first failed try. Each further pause is twice as long as the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause between tries. With it, others wait behind a try (25 ms) for about 1 % of the time.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// The pause between two portions of rows, which leaves the database time for other work.
pub(super) const BETWEEN_PORTIONS: Duration = Duration::from_millis(20);

/// What pruning did with one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pruned {
    /// The whole partition was removed, or this number of its rows.
    Left(Option<u64>),
    /// It stays, for this reason.
    Stays(Verdict),
    /// It was in use at every try.
    InUse,
}

/// Removes old calls and history, and calls `report` for each partition as soon as its outcome is known.
///
/// # Errors
/// Returns the database's error, also if the owner of the schema does not permit the removal. What was removed before
/// the error stays removed.
pub async fn prune(
    session: &mut Session,
    retention: Retention,
    mut report: impl FnMut(&str, Option<&Planned>, Pruned),
) -> Result<(), StoreError> {
    let plan = session.plan_pruning(retention).await?;
    for planned in &plan {
        let outcome = match planned.verdict {
            Verdict::Due if planned.leaves_whole() => drop_partition(session, &planned.source, retention).await?,
            // These are removed row by row in the loop below.
            Verdict::Due => continue,
            stays => Pruned::Stays(stays),
        };
        report(&planned.source, Some(planned), outcome);
    }
    for source in sources_by_row(retention) {
        let planned = plan.iter().find(|planned| planned.source == source);
        // A source that is not in the plan is pruned, too, but not reported if nothing of it had to be removed.
        if planned.is_some_and(|planned| planned.verdict != Verdict::Due) {
            continue;
        }
        let outcome = delete_rows(session, source, retention).await?;
        if planned.is_some() || outcome != Pruned::Left(Some(0)) {
            report(source, planned, outcome);
        }
    }
    Ok(())
}

async fn drop_partition(session: &mut Session, partition: &str, retention: Retention) -> Result<Pruned, StoreError> {
    for attempt in 0..MOST_TRIES {
        match session.prune_partition(partition, retention).await? {
            Dropped::Left | Dropped::Gone => return Ok(Pruned::Left(None)),
            Dropped::Pending(delivery) => return Ok(Pruned::Stays(Verdict::Pending(delivery))),
            Dropped::Young => return Ok(Pruned::Stays(Verdict::Young)),
            Dropped::InUse => tokio::time::sleep(pause(attempt, fastrand::f64())).await,
        }
    }
    Ok(Pruned::InUse)
}

async fn delete_rows(session: &mut Session, source: &str, retention: Retention) -> Result<Pruned, StoreError> {
    let (mut place, mut removed, mut tries) = (RowCursor::FIRST, 0, 0..MOST_TRIES);
    while let Some(attempt) = tries.next() {
        match session.prune_rows(source, retention, place).await? {
            RowsPruned::More(more, next) => {
                (place, removed, tries) = (next, removed + more, 0..MOST_TRIES);
                tokio::time::sleep(BETWEEN_PORTIONS).await;
            }
            RowsPruned::Last(more) => return Ok(Pruned::Left(Some(removed + more))),
            RowsPruned::NoIndex => return Ok(Pruned::Stays(Verdict::NoIndex)),
            RowsPruned::InUse => tokio::time::sleep(pause(attempt, fastrand::f64())).await,
        }
    }
    Ok(match removed {
        0 => Pruned::InUse,
        removed => Pruned::Left(Some(removed)),
    })
}

/// How long to pause after failed try number `attempt` (counted from 0). `jitter`, from 0 to 1, spreads the end of the
/// pause over its second half.
fn pause(attempt: u32, jitter: f64) -> Duration {
    FIRST_PAUSE.saturating_mul(1 << attempt.min(16)).min(LONGEST_PAUSE).mul_f64(0.5 + jitter / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound() {
        assert_eq!(pause(0, 1.0), FIRST_PAUSE);
        assert_eq!(pause(1, 0.0), FIRST_PAUSE);
        assert_eq!(pause(MOST_TRIES, 1.0), LONGEST_PAUSE);
        assert_eq!(pause(u32::MAX, 1.0), LONGEST_PAUSE);
    }
}
