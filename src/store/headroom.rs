//! For how long there are partitions for new rows.

use chrono::{DateTime, Utc};

use super::{Store, StoreError};

/// Until when there are partitions of one table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Headroom {
    /// `outbox` or `delivery`.
    pub table: String,
    /// From then on new rows have no partition of their own, and go into the default one.
    pub until: DateTime<Utc>,
    /// Days until then, rounded down; 0 if there is no partition already.
    pub days: i64,
}

impl Store {
    /// Until when there are partitions. The rights of an auditor suffice.
    pub async fn headroom(&self) -> Result<Vec<Headroom>, StoreError> {
        // Reads only the catalog. It looks for the partitions that `postcall.make_partitions` makes, by their names; a
        // detached one counts as missing. The headroom ends where the first one is missing.
        let rows = sqlx::query_as!(
            Headroom,
            r#"
            SELECT parent AS "table!", ends_at AS "until!",
                   greatest(0, floor(extract(epoch FROM ends_at - statement_timestamp()) / 86400))::bigint AS "days!"
            FROM (VALUES ('outbox', 'week'), ('delivery', 'month')) AS family (parent, period),
                 LATERAL (
                     SELECT coalesce(min(starts_at) FILTER (WHERE NOT coalesce(relispartition, false)),
                                     max(starts_at + ('1 ' || period)::interval)) AS ends_at
                     FROM generate_series(0, 3) AS n,
                          LATERAL (SELECT date_trunc(period, statement_timestamp()) + n * ('1 ' || period)::interval)
                              AS s (starts_at)
                     LEFT JOIN pg_class ON pg_class.oid = to_regclass('postcall.' || parent || to_char(starts_at, '_YYYYMMDD'))
                 ) AS made
            ORDER BY parent DESC
            "#
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(rows)
    }
}
