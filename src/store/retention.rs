//! Removes old data: whole partitions, and row by row what is in tables that are never dropped.
//!
//! Functions of the schema do the work, because dispatchers own none of the tables; each call is one transaction. The
//! owner limits what they may remove (`postcall.retention`).

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::StoreError;
use super::session::Session;
use crate::domain::retention::Retention;

/// The table of tests, for which a function of its own is there.
const TESTS: &str = "action_test";

/// The tables that are pruned row by row, in this order: calls, then history, then replays and resolutions, then tests.
const BY_ROW: [(&str, What); 7] = [
    ("outbox_default", What::Calls),
    ("outbox_past", What::Calls),
    ("outbox_foreign", What::Calls),
    ("delivery_default", What::History),
    ("replay", What::History),
    ("resolution", What::History),
    (TESTS, What::History),
];

/// SQLSTATEs: lock not available, deadlock, and undefined table (somebody dropped it meanwhile).
const IN_USE: [&str; 3] = ["55P03", "40P01", "42P01"];

/// What kind of data is pruned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Calls in the outbox.
    Calls,
    /// Deliveries that have ended, with their replays and resolutions.
    History,
}

impl What {
    /// Its name, for programs.
    pub fn as_str(self) -> &'static str {
        match self {
            What::Calls => "calls",
            What::History => "history",
        }
    }
}

/// Whether a partition, or rows of it, can be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is old enough to be removed.
    Due,
    /// For a whole partition: not all of it is old enough. For rows: no row is old enough.
    Young,
    /// This delivery of one of its calls waits or is in flight.
    Pending(Option<Uuid>),
    /// It lacks the index that finds its old rows; all of it would have to be read.
    NoIndex,
    /// It was a partition, but somebody has detached it.
    Detached,
}

/// A partition or table, and whether it can be removed.
#[derive(Clone, Debug)]
pub struct Planned {
    /// What kind of data it holds.
    pub what: What,
    /// Its name.
    pub source: String,
    /// The time of the first id that it can hold; `None` if it is pruned row by row.
    pub begins: Option<DateTime<Utc>>,
    /// The time at which its ids end; `None` if it is pruned row by row.
    pub ends: Option<DateTime<Utc>>,
    /// Its size on disk.
    pub bytes: i64,
    /// Whether it can be removed.
    pub verdict: Verdict,
}

impl Planned {
    /// Whether it is dropped as a whole, not row by row.
    pub fn leaves_whole(&self) -> bool {
        self.ends.is_some()
    }
}

/// The result of dropping a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dropped {
    /// The partition was dropped.
    Left,
    /// The partition had been dropped before.
    Gone,
    /// This delivery of one of its calls waits or is in flight.
    Pending(Option<Uuid>),
    /// The partition is not old enough.
    Young,
    /// Another transaction uses it; the call can be repeated.
    InUse,
}

/// The row after which a portion begins.
#[derive(Clone, Copy, Debug)]
pub struct RowCursor {
    at: DateTime<Utc>,
    id: Uuid,
}

impl RowCursor {
    /// Before all rows.
    pub const FIRST: RowCursor = RowCursor { at: DateTime::<Utc>::UNIX_EPOCH, id: Uuid::nil() };
}

/// The result of pruning a portion of rows.
#[derive(Clone, Copy, Debug)]
pub enum RowsPruned {
    /// This many rows were deleted, and there may be more after this place.
    More(u64, RowCursor),
    /// This many rows were deleted, and there are no more.
    Last(u64),
    /// The index that finds old rows is missing; the whole partition would have to be read.
    NoIndex,
    /// Another transaction uses it; the call can be repeated.
    InUse,
}

/// The tables that are pruned row by row, in order, without those whose rows are kept forever.
pub fn sources_by_row(retention: Retention) -> impl Iterator<Item = &'static str> {
    BY_ROW
        .into_iter()
        .filter(move |(_, what)| match what {
            What::Calls => retention.calls_days().is_some(),
            What::History => retention.history_days().is_some(),
        })
        .map(|(source, _)| source)
}

/// The days of `retention` as the database's type.
fn days(retention: Retention) -> (Option<i32>, Option<i32>) {
    let days = |days: Option<u32>| days.map(|days| i32::try_from(days).unwrap_or(i32::MAX));
    (days(retention.calls_days()), days(retention.history_days()))
}

impl Session {
    /// Fails if the schema's owner does not permit this user to remove data that is only this old.
    ///
    /// # Errors
    /// [`StoreError::is_forbidden`] if it is not permitted, or another error of the database.
    pub async fn require_permitted(&mut self, retention: Retention) -> Result<(), StoreError> {
        let (calls, history) = days(retention);
        // Reads one row. The CASE skips the check for data that is kept forever.
        let statement = sqlx::query!(
            r#"
            SELECT CASE WHEN $1::int IS NOT NULL THEN postcall.kept_since('calls', $1) END AS calls,
                   CASE WHEN $2::int IS NOT NULL THEN postcall.kept_since('history', $2) END AS history
            "#,
            calls,
            history,
        );
        self.fetch_one(statement).await?;
        Ok(())
    }

    /// Returns what pruning would remove, and why the rest stays. Changes nothing.
    ///
    /// # Errors
    /// As [`Session::require_permitted`].
    pub async fn plan_pruning(&mut self, retention: Retention) -> Result<Vec<Planned>, StoreError> {
        let (calls, history) = days(retention);
        // A function of the schema, because callers cannot read partitions by name. It reads the queue once for each
        // partition that is due. A partition has no size if it was dropped while the plan was made.
        let statement = sqlx::query!(
            r#"
            SELECT what AS "what!", source AS "source!", begins, ends, bytes AS "bytes!", outcome AS "outcome!", pending
            FROM postcall.prune_plan($1, $2)
            WHERE bytes IS NOT NULL
            "#,
            calls,
            history,
        );
        let rows = self.fetch_all(statement).await?;
        let planned = rows.into_iter().map(|row| Planned {
            what: if row.what == "calls" { What::Calls } else { What::History },
            source: row.source,
            begins: row.begins,
            ends: row.ends,
            bytes: row.bytes,
            verdict: match row.outcome.as_str() {
                "due" => Verdict::Due,
                "pending" => Verdict::Pending(row.pending),
                "no_index" => Verdict::NoIndex,
                "detached" => Verdict::Detached,
                _ => Verdict::Young,
            },
        });
        Ok(planned.collect())
    }

    /// Drops a partition if all of it is old and no delivery of its calls waits or is in flight. Its wait for locks
    /// delays the platform by at most 25 ms.
    ///
    /// # Errors
    /// As [`Session::require_permitted`]. After an error the partition may have been dropped; the call can be repeated.
    pub async fn prune_partition(&mut self, partition: &str, retention: Retention) -> Result<Dropped, StoreError> {
        let (calls, history) = days(retention);
        // One transaction: after any crash, the partition exists completely or not at all.
        let statement = sqlx::query!(
            r#"SELECT outcome AS "outcome!", pending FROM postcall.prune_partition($1, $2, $3)"#,
            partition,
            calls,
            history,
        );
        match self.fetch_one(statement).await {
            Ok(row) => Ok(match row.outcome.as_str() {
                "left" => Dropped::Left,
                "gone" => Dropped::Gone,
                "pending" => Dropped::Pending(row.pending),
                _ => Dropped::Young,
            }),
            Err(error) if error.has_class(&IN_USE) => Ok(Dropped::InUse),
            Err(error) => Err(error),
        }
    }

    /// Deletes a bounded number of old rows of `source` after a place.
    ///
    /// # Errors
    /// As [`Session::prune_partition`].
    pub async fn prune_rows(
        &mut self,
        source: &str,
        retention: Retention,
        after: RowCursor,
    ) -> Result<RowsPruned, StoreError> {
        let (calls, history) = days(retention);
        if source == TESTS {
            return self.prune_tests(history, after).await;
        }
        // One portion is one transaction. Each begins after the last one, so that rows that stay because they are
        // pending are read only once.
        let statement = sqlx::query!(
            r#"
            SELECT outcome AS "outcome!", removed AS "removed!", last_at, last_id
            FROM postcall.prune_rows($1, $2, $3, $4, $5)
            "#,
            source,
            calls,
            history,
            after.at,
            after.id,
        );
        match self.fetch_one(statement).await {
            Ok(row) => {
                let removed = u64::try_from(row.removed).unwrap_or(0);
                Ok(match (row.outcome.as_str(), row.last_id) {
                    ("no_index", _) => RowsPruned::NoIndex,
                    ("more", Some(id)) => {
                        RowsPruned::More(removed, RowCursor { at: row.last_at.unwrap_or(after.at), id })
                    }
                    _ => RowsPruned::Last(removed),
                })
            }
            Err(error) if error.has_class(&IN_USE) => Ok(RowsPruned::InUse),
            Err(error) => Err(error),
        }
    }

    /// Deletes a bounded number of old tests with their results.
    async fn prune_tests(&mut self, history: Option<i32>, after: RowCursor) -> Result<RowsPruned, StoreError> {
        // Nothing stays, so each portion begins with the oldest test that is there.
        let statement = sqlx::query!(
            r#"SELECT outcome AS "outcome!", removed AS "removed!" FROM postcall.prune_tests($1)"#,
            history,
        );
        match self.fetch_one(statement).await {
            Ok(row) => {
                let removed = u64::try_from(row.removed).unwrap_or(0);
                Ok(if row.outcome == "more" { RowsPruned::More(removed, after) } else { RowsPruned::Last(removed) })
            }
            Err(error) if error.has_class(&IN_USE) => Ok(RowsPruned::InUse),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_names_what_it_holds() {
        assert_eq!([What::Calls, What::History].map(What::as_str), ["calls", "history"]);
    }
}
