//! What `postcall doctor` asks the database. Each statement reads catalogs, or small tables of ours.

use chrono::{DateTime, Utc};

use super::invariants::{self, Checked, Invariant};
use super::partitions::{self, Headroom};
use super::{Store, StoreError, guards};
use crate::domain::excess::Excess;
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

    /// What the user who is logged in may do that a dispatcher does not need, in the order of [`Excess::ALL`]. Of a superuser only
    /// that it is one, because it may do everything.
    pub async fn excess(&self) -> Result<Vec<Excess>, StoreError> {
        // Catalogs that everybody may read. What a role may do that the user can take on counts as well: MEMBER, not USAGE.
        let names = sqlx::query_scalar!(
            r#"
            WITH mine AS MATERIALIZED (
                SELECT oid, rolname, rolsuper, rolbypassrls, rolcreaterole, rolreplication FROM pg_roles
                WHERE pg_has_role(session_user, oid, 'MEMBER')
            )
            SELECT name AS "name!" FROM (
                VALUES ('superuser', (SELECT bool_or(rolsuper) FROM mine)),
                       ('owner', EXISTS (SELECT FROM pg_namespace JOIN mine ON mine.oid = nspowner WHERE nspname = 'postcall')),
                       ('bypassrls', (SELECT bool_or(rolbypassrls) FROM mine)),
                       ('createrole', (SELECT bool_or(rolcreaterole) FROM mine)),
                       ('replication', (SELECT bool_or(rolreplication) FROM mine)),
                       ('server', EXISTS (SELECT FROM mine WHERE rolname IN ('pg_read_all_data', 'pg_write_all_data',
                            'pg_read_server_files', 'pg_write_server_files', 'pg_execute_server_program'))),
                       ('create', (SELECT bool_or(has_database_privilege(oid, current_database(), 'CREATE')) FROM mine))
            ) AS kind (name, found) WHERE found
            UNION ALL
            SELECT rolname::text FROM mine WHERE rolname ~ '^postcall_'
            "#
        )
        .fetch_all(&self.pool)
        .await?;
        if names.iter().any(|name| name == Excess::Superuser.as_str()) {
            return Ok(vec![Excess::Superuser]);
        }
        Ok(Excess::ALL.into_iter().filter(|excess| names.iter().any(|name| name == excess.as_str())).collect())
    }

    /// For how long the outbox and history have partitions.
    pub async fn headroom(&self) -> Result<Vec<Headroom>, StoreError> {
        let mut connection = self.pool.acquire().await?;
        Ok(partitions::headroom(&mut connection).await?)
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
