//! The only SQL. Each file holds the statements of one subject, each with the reason for its shape.
//!
//! No transaction stays open between two calls of this room: whatever a caller does between them, above all a request,
//! happens outside of any transaction. This room knows the domain, but neither templates nor HTTP.
//!
//! Commands use the [`Store`] and its pool; the workers of a dispatcher have a [`session::Session`] each.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::PgPool;
use sqlx::postgres::PgDatabaseError;

pub mod action_tests;
pub mod actions;
pub mod acts;
pub mod agents;
pub mod calls;
pub mod candidates;
pub mod checkup;
pub mod claim;
mod connect;
pub mod definitions;
pub mod dispatchers;
pub mod endings;
pub mod excerpts;
pub mod figures;
pub mod finish;
pub mod guards;
mod held_back;
pub mod history;
pub mod invariants;
pub mod keys;
pub mod lanes;
pub mod last_hour;
pub mod late_results;
mod matching;
pub mod obstacles;
pub mod open_deliveries;
mod open_rule;
pub mod outlines;
pub mod partitions;
pub mod pauses;
pub mod platform;
pub mod publish;
pub mod recover;
pub mod replay;
pub mod reports;
pub mod resolve;
mod result_rows;
pub mod retention;
pub mod schema;
pub mod seal_log;
pub mod sealed_rows;
pub mod sealed_versions;
pub mod seals;
pub mod search;
pub mod secrets;
pub mod session;
mod settings;
pub mod signing;
pub mod standby;
pub mod status;
pub mod switches;
#[cfg(test)]
mod tests;
mod texts;
pub mod versions;
pub mod waiting;
pub mod wake;

pub use connect::{Access, Patience, place};
use obstacles::Obstacle;

use crate::domain::sealed_version::OperatorKeys;

/// How long a statement of a command may take. It is long because reading a long history takes time.
const COMMAND_STATEMENT_TIMEOUT: Duration = Duration::from_secs(300);

/// How long a statement may take that reads a bounded number of rows.
const LOOK_TIMEOUT: Duration = Duration::from_secs(20);

/// An error of the database. Its text comes from the driver and contains no row's content.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database URL cannot be read.
    #[error("DATABASE_URL is not a usable Postgres URL (postgres://user@host:port/database)")]
    BadUrl,
    /// There is no server at this address, or no way to it.
    #[error("cannot connect to the database at {host}:{port}")]
    Unreachable {
        /// The host, or the directory of a socket, as the URL names it.
        host: String,
        /// The port.
        port: u16,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// A statement or the connection failed.
    #[error("database")]
    Database(#[source] DriverError),
    /// There was no answer in time. It is not known whether the statement took effect.
    #[error("database: no answer within {} ms", .0.as_millis())]
    Unanswered(Duration),
    /// The database keeps text in another encoding than UTF8.
    #[error(
        "the database's encoding is {0}, and postcall needs UTF8: with another encoding, one byte of a call that is not \
         text would hold up every other call. Make a new database with CREATE DATABASE … ENCODING 'UTF8' TEMPLATE \
         template0 and move the data there (pg_dump, pg_restore)"
    )]
    NotUtf8(String),
    /// An action names a secret, and a dispatcher runs that does not know secrets; nothing was changed.
    #[error(
        "it names a secret, and a dispatcher of release 0.3.0 or earlier is running, which would send nothing in its place. \
         Upgrade all dispatchers first (`postcall status` shows them)"
    )]
    EarlierDispatcher,
    /// A version is not published, because of what is sealed or would be; nothing was changed.
    #[error(transparent)]
    Sealing(#[from] sealed_versions::NotPublished),
    /// Something was to be encrypted with keys that have encrypted nothing here, although something is encrypted. These are their ids.
    /// Nothing was changed.
    #[error(
        "none of the keys of the key file ({}) has encrypted anything in this database, and others have (`postcall doctor` shows \
         which): it is probably the key file of another database, and no dispatcher could open what is encrypted with it. Name the \
         one that the dispatchers have. A new key is begun as the first line above the old one, in one file, which first the \
         dispatchers get. If every old key is lost, begin by `postcall secret set` with --old-keys-are-lost",
        .0.join(", ")
    )]
    OtherKeys(Vec<String>),
    /// Something keeps migrations from being applied; nothing was changed.
    #[error("{0}")]
    Obstacle(Obstacle),
    /// A migration did not get a lock on a table in time. It was rolled back.
    #[error(
        "migration {0} was not applied: it needs a moment at which no transaction uses its tables, and one has used them for \
         longer than it waits (3 s, so that whoever comes behind it waits no longer either). Nothing is lost. End the \
         transaction, or wait for its end, and migrate again. To find it:\n  SELECT pid, usename, application_name, xact_start, state \
         FROM pg_stat_activity WHERE xact_start < now() - interval '3 s' ORDER BY xact_start;"
    )]
    TableInUse(i64),
    /// Applying or reverting migrations failed.
    #[error("migration")]
    Migrate(#[source] DriverError<sqlx::migrate::MigrateError>),
}

/// What the driver says, without what may quote a row. It ends the chain of causes: the driver's texts tell their own causes.
#[derive(Debug)]
pub struct DriverError<E = sqlx::Error>(E);

impl fmt::Display for DriverError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&describe(&self.0))
    }
}

impl fmt::Display for DriverError<sqlx::migrate::MigrateError> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Error for DriverError {}
impl Error for DriverError<sqlx::migrate::MigrateError> {}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> StoreError {
        StoreError::Database(DriverError(error))
    }
}

impl From<sqlx::migrate::MigrateError> for StoreError {
    fn from(error: sqlx::migrate::MigrateError) -> StoreError {
        StoreError::Migrate(DriverError(error))
    }
}

impl From<Obstacle> for StoreError {
    fn from(obstacle: Obstacle) -> StoreError {
        StoreError::Obstacle(obstacle)
    }
}

impl StoreError {
    /// Whether the server itself answered, so that the connection can still be used. This is false if the server
    /// reports that it is about to end the connection (SQLSTATE class 57).
    pub fn is_answer(&self) -> bool {
        match self {
            StoreError::Database(DriverError(sqlx::Error::Database(reported))) => {
                !reported.code().is_some_and(|code| code.starts_with("57"))
            }
            StoreError::Database(DriverError(sqlx::Error::RowNotFound)) => true,
            _ => false,
        }
    }

    /// Whether the database user lacks the right to do this (SQLSTATE 42501, insufficient_privilege).
    pub fn is_forbidden(&self) -> bool {
        let error = match self {
            StoreError::Database(DriverError(error))
            | StoreError::Migrate(DriverError(sqlx::migrate::MigrateError::Execute(error))) => error,
            _ => return false,
        };
        error.as_database_error().is_some_and(|reported| reported.code().as_deref() == Some("42501"))
            && !is_about_hidden_rows(error)
    }

    /// Whether row-level security would hide rows from the database user, so that the server refuses to read (`row_security` is off).
    /// It has the SQLSTATE of a right that is lacking.
    pub fn hides_rows(&self) -> bool {
        matches!(self, StoreError::Database(DriverError(error)) if is_about_hidden_rows(error))
    }

    /// Whether the server takes no changes (SQLSTATE 25006, read_only_sql_transaction, or what this program itself finds): it is a
    /// standby, or was set to read only. A session that only reads is refused by the same code.
    pub fn is_read_only(&self) -> bool {
        matches!(self, StoreError::Obstacle(Obstacle::Standby)) || self.has_class(&["25006"])
    }

    /// Whether a serializable transaction lost against another one (SQLSTATE 40001), so that trying again may succeed.
    fn is_serialization_failure(&self) -> bool {
        self.sqlstate().as_deref() == Some("40001")
    }

    fn sqlstate(&self) -> Option<Cow<'_, str>> {
        match self {
            StoreError::Database(DriverError(sqlx::Error::Database(reported))) => reported.code(),
            _ => None,
        }
    }

    /// Whether the server ended the statement because it took too long, or because somebody asked it to (SQLSTATE 57014).
    fn is_cancelled(&self) -> bool {
        self.has_class(&["57014"])
    }

    /// Whether the database refuses the data it was given, so that trying again cannot help: SQLSTATE classes 21
    /// (cardinality violation), 22 (data exception), 23 (integrity constraint violation), 38 and 39 (external routine),
    /// 44 (check option), 54 (program limit exceeded), and P0 (an error raised by a trigger that somebody added).
    pub fn is_about_the_data(&self) -> bool {
        self.has_class(&["21", "22", "23", "38", "39", "44", "54", "P0"])
    }

    /// Whether the database could not read what it holds: as [`StoreError::is_about_the_data`], or because the data is
    /// damaged (class XX), or because a value is not valid for its column.
    pub fn is_about_what_is_stored(&self) -> bool {
        self.is_about_the_data()
            || self.has_class(&["XX"])
            || matches!(
                self,
                StoreError::Database(DriverError(sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_)))
            )
    }

    /// Whether there was no answer in time, or the server ended the statement because it took too long (SQLSTATE 57014).
    pub fn is_about_time(&self) -> bool {
        matches!(self, StoreError::Unanswered(_)) || self.has_class(&["57014"])
    }

    /// Whether the server reported an error whose SQLSTATE begins with one of these.
    fn has_class(&self, classes: &[&str]) -> bool {
        match self {
            StoreError::Database(DriverError(sqlx::Error::Database(reported))) => {
                reported.code().is_some_and(|code| classes.iter().any(|class| code.starts_with(class)))
            }
            _ => false,
        }
    }
}

/// Whether the server refuses because of row-level security: by the name of its function, since its message may be in any language.
fn is_about_hidden_rows(error: &sqlx::Error) -> bool {
    let reported = error.as_database_error().and_then(|reported| reported.try_downcast_ref::<PgDatabaseError>());
    reported.is_some_and(|reported| reported.routine() == Some("check_enable_rls"))
}

/// The driver's message without text that may quote a row: Postgres puts such text into the detail, not into the
/// message.
fn describe(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(reported) => reported.message().to_owned(),
        sqlx::Error::PoolTimedOut => "no connection in time".to_owned(),
        other => other.to_string(),
    }
}

/// The database, as the other rooms see it. It is cheap to clone: all clones share one pool.
#[derive(Clone, Debug)]
pub struct Store {
    pool: PgPool,
    /// How long a statement may take, if it has no shorter limit of its own.
    statement_timeout: Duration,
    /// The operator's keys, if it has them.
    keys: Option<Arc<dyn OperatorKeys>>,
}

impl Store {
    /// The time by the database's clock.
    pub async fn now(&self) -> Result<DateTime<Utc>, StoreError> {
        // The time of the statement: no clock but the database's says when a delivery was created or ended.
        let now = sqlx::query_scalar!(r#"SELECT statement_timestamp() AS "now!""#).fetch_one(&self.pool).await?;
        Ok(now)
    }

    /// Closes all connections in an orderly way.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}
