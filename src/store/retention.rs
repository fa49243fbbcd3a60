//! What is old leaves: partitions as a whole, and row by row what lies in none that leaves.
//!
//! The work is done by functions of the schema, because dispatchers own none of the tables; each call is one transaction.
//! What they may remove is bounded by the owner (`postcall.retention`).

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::StoreError;
use super::session::Session;
use crate::domain::retention::Retention;

/// What of it is old by row, in the order in which it leaves: calls, then history, then what was said about history.
const BY_ROW: [(&str, What); 6] = [
    ("outbox_default", What::Calls),
    ("outbox_past", What::Calls),
    ("outbox_foreign", What::Calls),
    ("delivery_default", What::History),
    ("replay", What::History),
    ("resolution", What::History),
];

/// SQLSTATE of a lock that was not to be had, of a deadlock, and of a table that somebody dropped meanwhile.
const IN_USE: [&str; 3] = ["55P03", "40P01", "42P01"];

/// What is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Calls.
    Calls,
    /// Deliveries that came to an end, and what was said about them.
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

/// Whether something leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is old.
    Due,
    /// Not all of it is old enough; of rows: none is.
    Young,
    /// This delivery of a call in it waits or is in flight.
    Pending(Option<Uuid>),
    /// Its old rows could only be found by reading all of it.
    NoIndex,
    /// It was a partition, and somebody has detached it.
    Detached,
}

/// A partition, and whether it leaves.
#[derive(Clone, Debug)]
pub struct Planned {
    /// What is in it.
    pub what: What,
    /// Its name.
    pub source: String,
    /// From when on ids lie in it; `None` where it leaves row by row.
    pub begins: Option<DateTime<Utc>>,
    /// Up to when.
    pub ends: Option<DateTime<Utc>>,
    /// What it takes on disk.
    pub bytes: i64,
    /// Whether it leaves.
    pub verdict: Verdict,
}

impl Planned {
    /// Whether it leaves as a whole.
    pub fn leaves_whole(&self) -> bool {
        self.ends.is_some()
    }
}

/// What became of a partition that was to leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dropped {
    /// It has left.
    Left,
    /// It had left before.
    Gone,
    /// This delivery of a call in it waits or is in flight.
    Pending(Option<Uuid>),
    /// It is younger than what is kept.
    Young,
    /// Somebody uses it; it can be tried again.
    InUse,
}

/// Behind which row a portion begins.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    at: DateTime<Utc>,
    id: Uuid,
}

impl Place {
    /// Before all rows.
    pub const FIRST: Place = Place { at: DateTime::<Utc>::UNIX_EPOCH, id: Uuid::nil() };
}

/// What became of a portion of rows.
#[derive(Clone, Copy, Debug)]
pub enum Portion {
    /// So many were deleted, and there may be more behind this place.
    More(u64, Place),
    /// So many were deleted, and there are no more.
    Last(u64),
    /// They could only be found by reading all of the partition.
    NoIndex,
    /// Somebody uses it; it can be tried again.
    InUse,
}

/// What leaves row by row, in order, as far as it is not kept for ever.
pub fn sources_by_row(retention: Retention) -> impl Iterator<Item = &'static str> {
    BY_ROW
        .into_iter()
        .filter(move |(_, what)| match what {
            What::Calls => retention.calls_days().is_some(),
            What::History => retention.history_days().is_some(),
        })
        .map(|(source, _)| source)
}

/// Days as the database takes them.
fn days(retention: Retention) -> (Option<i32>, Option<i32>) {
    let days = |days: Option<u32>| days.map(|days| i32::try_from(days).unwrap_or(i32::MAX));
    (days(retention.calls_days()), days(retention.history_days()))
}

impl Session {
    /// Fails where the owner of the schema does not permit this user to remove anything so young.
    ///
    /// # Errors
    /// [`StoreError::is_forbidden`], or those of the database.
    pub async fn require_permitted(&mut self, retention: Retention) -> Result<(), StoreError> {
        let (calls, history) = days(retention);
        // Reads one row. The CASE keeps it from being asked about what is kept for ever.
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

    /// What would leave and what stays, why. Changes nothing.
    ///
    /// # Errors
    /// As [`Session::require_permitted`].
    pub async fn plan_pruning(&mut self, retention: Retention) -> Result<Vec<Planned>, StoreError> {
        let (calls, history) = days(retention);
        // A function, because callers cannot look into partitions by name. It reads the queue once for each that is due.
        // A partition has no size if somebody else has let it go while the plan was made.
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

    /// Drops a partition if all of it is old and nothing in it is still to be sent. What it waits for keeps the platform
    /// waiting for 25 ms at most.
    ///
    /// # Errors
    /// As [`Session::require_permitted`]. After an error it may have left; it can be tried again.
    pub async fn prune_partition(&mut self, partition: &str, retention: Retention) -> Result<Dropped, StoreError> {
        let (calls, history) = days(retention);
        // One transaction: whatever dies, the partition is there as a whole or not at all.
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

    /// Deletes the next old rows of `source` behind a place, a bounded number of them.
    ///
    /// # Errors
    /// As [`Session::prune_partition`].
    pub async fn prune_rows(
        &mut self,
        source: &str,
        retention: Retention,
        after: Place,
    ) -> Result<Portion, StoreError> {
        let (calls, history) = days(retention);
        // One portion is one transaction. Each begins behind the last, so that what stays (because it is pending) is
        // looked at once.
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
                    ("no_index", _) => Portion::NoIndex,
                    ("more", Some(id)) => Portion::More(removed, Place { at: row.last_at.unwrap_or(after.at), id }),
                    _ => Portion::Last(removed),
                })
            }
            Err(error) if error.has_class(&IN_USE) => Ok(Portion::InUse),
            Err(error) => Err(error),
        }
    }
}
