//! The dispatchers' reports about themselves: one row each, rewritten every few seconds.

use sqlx::types::Json;

use super::StoreError;
use super::session::Session;
use crate::domain::report::Report;

/// Days after which the last report of a dispatcher that has ended is deleted.
const KEPT_DAYS: i32 = 7;
/// The largest number of reports that one statement deletes.
const MOST_CLEARED: i64 = 1_000;

impl Session {
    /// Stores a dispatcher's report about itself; it replaces the dispatcher's earlier report.
    ///
    /// # Errors
    /// Returns the database's error. Nothing depends on a report: the caller may ignore an error and send a newer
    /// report later.
    pub async fn report(&mut self, dispatcher_id: i32, report: &Report) -> Result<(), StoreError> {
        // xmax is 0 in a row that was inserted, and not 0 in a row that was updated.
        let statement = sqlx::query_scalar!(
            r#"
            INSERT INTO postcall.dispatcher_report
                (dispatcher_id, concurrency, in_flight, unrecorded, hosts, hosts_left_out)
            VALUES ($1, $2, $3, $4, $5, $6)
            ON CONFLICT (dispatcher_id) DO UPDATE
                SET (reported_at, concurrency, in_flight, unrecorded, hosts, hosts_left_out)
                  = (clock_timestamp(), excluded.concurrency, excluded.in_flight, excluded.unrecorded, excluded.hosts,
                     excluded.hosts_left_out)
            RETURNING xmax = 0 AS "is_first!"
            "#,
            dispatcher_id,
            number(report.concurrency),
            number(report.in_flight),
            number(report.unrecorded),
            Json(&report.hosts) as _,
            number(report.hosts_left_out),
        );
        if self.fetch_one(statement).await? { self.clear_old_reports().await } else { Ok(()) }
    }

    /// Deletes old reports. Without this, every start of a dispatcher would leave a row forever.
    async fn clear_old_reports(&mut self) -> Result<(), StoreError> {
        // SKIP LOCKED: dispatchers that start at the same time do not wait for each other. Each start deletes old
        // reports, so the table is small.
        let statement = sqlx::query!(
            r#"
            DELETE FROM postcall.dispatcher_report WHERE dispatcher_id IN (
                SELECT dispatcher_id FROM postcall.dispatcher_report
                WHERE reported_at < clock_timestamp() - $1 * interval '1 day'
                ORDER BY dispatcher_id LIMIT $2 FOR UPDATE SKIP LOCKED)
            "#,
            f64::from(KEPT_DAYS),
            MOST_CLEARED,
        );
        self.execute(statement).await?;
        Ok(())
    }
}

fn number(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}
