//! Creates partitions of the outbox and of history ahead of time, and tells for how long there are any.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use super::StoreError;
use super::session::Session;

/// For how long a table has partitions.
#[derive(Clone, Debug)]
pub struct Headroom {
    /// The table.
    pub table: String,
    /// Until when partitions follow each other without a gap; `None` if there is none for the present.
    pub until: Option<DateTime<Utc>>,
    /// How many seconds that is from now.
    pub seconds: f64,
}

impl Headroom {
    /// The same in whole days, rounded down.
    pub fn days(&self) -> i64 {
        const SECONDS_OF_A_DAY: f64 = 86_400.0;
        (self.seconds / SECONDS_OF_A_DAY) as i64
    }
}

/// For how long the outbox and history have partitions, in this order.
pub(super) async fn headroom(connection: &mut PgConnection) -> Result<Vec<Headroom>, sqlx::Error> {
    // Looks for the partitions that `postcall.make_partitions` makes, by their names. The headroom ends where the first one
    // is missing. A detached one counts as missing. It reads the catalog only, so no lock of a partition keeps it waiting.
    sqlx::query_as!(
        Headroom,
        r#"
        SELECT parent AS "table!", nullif(ends_at, date_trunc(period, now())) AS until,
               greatest(0, date_part('epoch', ends_at - now())) AS "seconds!"
        FROM (VALUES ('outbox', 'week'), ('delivery', 'month')) AS family (parent, period),
             LATERAL (
                 SELECT coalesce(min(starts_at) FILTER (WHERE NOT coalesce(relispartition, false)),
                                 max(starts_at + ('1 ' || period)::interval)) AS ends_at
                 FROM generate_series(0, 3) AS n,
                      LATERAL (SELECT date_trunc(period, now()) + n * ('1 ' || period)::interval) AS s (starts_at)
                 LEFT JOIN pg_class ON pg_class.oid = to_regclass('postcall.' || parent || to_char(starts_at, '_YYYYMMDD'))
             ) AS made
        ORDER BY parent DESC
        "#
    )
    .fetch_all(connection)
    .await
}

impl Session {
    /// Creates the missing partitions for the current and the two coming periods, and returns their names. A partition
    /// that cannot be created without making the platform wait is left for the next call.
    pub async fn make_partitions(&mut self) -> Result<Vec<String>, StoreError> {
        // A function of the schema does the work, because dispatchers may not own the tables whose partitions they
        // create.
        let statement = sqlx::query_scalar!(r#"SELECT postcall.make_partitions() AS "name!""#);
        self.fetch_all(statement).await
    }
}
