//! What `postcall doctor` asks the database. Each statement reads catalogs, or small tables of ours.

use chrono::{DateTime, Utc};

use super::invariants::{self, Checked, Invariant};
use super::{Store, StoreError, guards};
use crate::domain::policy::Policy;

/// The largest number of living dispatchers whose policies are compared.
const MOST_COMPARED: i64 = 100;

/// The server and the user who is logged in.
#[derive(Clone, Debug)]
pub struct Login {
    /// The server's version, such as 15.4, for people.
    pub server_version: String,
    /// The server's version as a number, such as 150004.
    pub server_version_num: i32,
    /// The time by the database's clock.
    pub now: DateTime<Utc>,
    /// The user.
    pub user: String,
    /// Whether the user is a superuser, or owns the schema.
    pub is_owner: bool,
    /// The roles of ours that the user has.
    pub roles: Vec<String>,
}

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

/// A living dispatcher and its policy.
#[derive(Clone, Debug)]
pub struct Living {
    /// Its id.
    pub dispatcher_id: i32,
    /// Host name and process id.
    pub name: String,
    /// Its policy; `None` if it recorded none, or none that this release can read.
    pub policy: Option<Policy>,
}

impl Store {
    /// Who is logged in, and where.
    pub async fn login(&self) -> Result<Login, StoreError> {
        // Catalogs that everybody may read, also where the schema does not exist. A superuser has every role; only those
        // that were granted are named.
        let login = sqlx::query_as!(
            Login,
            r#"
            SELECT current_setting('server_version') AS "server_version!",
                   current_setting('server_version_num')::int AS "server_version_num!",
                   clock_timestamp() AS "now!", session_user::text AS "user!",
                   rolsuper OR EXISTS (
                       SELECT FROM pg_namespace
                       WHERE nspname = 'postcall' AND pg_has_role(session_user, nspowner, 'MEMBER')) AS "is_owner!",
                   ARRAY(SELECT ours.rolname::text FROM pg_roles AS ours
                         WHERE ours.rolname ~ '^postcall_' AND NOT me.rolsuper
                           AND pg_has_role(session_user, ours.oid, 'MEMBER')
                         ORDER BY 1) AS "roles!"
            FROM pg_roles AS me WHERE me.rolname = session_user
            "#
        )
        .fetch_one(&self.pool)
        .await?;
        Ok(login)
    }

    /// For how long the outbox and history have partitions.
    pub async fn headroom(&self) -> Result<Vec<Headroom>, StoreError> {
        // Looks for the partitions that `postcall.make_partitions` makes, by their names. The headroom ends where the
        // first one is missing. A detached one counts as missing. It reads the catalog only, so no lock of a partition
        // keeps it waiting.
        let tables = sqlx::query_as!(
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
            "#
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(tables)
    }

    /// The size of a table's default partition, in bytes. It takes what has no other partition.
    pub async fn default_partition_bytes(&self, table: &str) -> Result<i64, StoreError> {
        // Reads the size of the file. It waits for whoever has the partition locked.
        let bytes = sqlx::query_scalar!(
            r#"SELECT coalesce(pg_relation_size(to_regclass('postcall.' || $1::text || '_default')), 0) AS "bytes!""#,
            table
        )
        .fetch_one(&self.pool)
        .await?;
        Ok(bytes)
    }

    /// How many deliveries are in flight for too long, as the invariant `none_stuck` judges it.
    pub async fn stuck(&self) -> Result<i64, StoreError> {
        let mut connection = self.pool.acquire().await?;
        Ok(Checked::from(Invariant::NoneStuck, invariants::stuck(&mut connection).await?).violations)
    }

    /// One sentence for each guard that is off, missing or not the one that was shipped.
    pub async fn guard_faults(&self) -> Result<Vec<String>, StoreError> {
        let mut connection = self.pool.acquire().await?;
        let mut faults = guards::faults(&guards::present(&mut connection).await?);
        faults.sort();
        Ok(faults)
    }

    /// The dispatchers that live, with their policies; at most 100, the newest.
    pub async fn living_dispatchers(&self) -> Result<Vec<Living>, StoreError> {
        // The table has one row for every start there ever was, as the status reads it.
        let rows = sqlx::query!(
            r#"
            SELECT dispatcher_id, name, policy::text AS policy FROM postcall.dispatcher
            WHERE stopped_at IS NULL AND lost_at IS NULL AND lease_until > clock_timestamp()
            ORDER BY dispatcher_id DESC LIMIT $1
            "#,
            MOST_COMPARED
        )
        .fetch_all(&self.pool)
        .await?;
        let living = rows.into_iter().map(|row| Living {
            dispatcher_id: row.dispatcher_id,
            name: row.name,
            policy: row.policy.and_then(|policy| serde_json::from_str(&policy).ok()),
        });
        Ok(living.collect())
    }
}
