//! The only SQL. Each file holds the statements of one subject, each with the reason for its shape.
//!
//! No transaction stays open between two calls of this room: whatever a caller does between them (a request above all)
//! happens outside of any transaction. This room knows the domain and nothing of templates or HTTP.
//!
//! Commands use the [`Store`] and its pool; the rooms of a dispatcher have a [`session::Session`] each.

use std::time::Duration;

use sqlx::PgPool;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

pub mod actions;
pub mod claim;
mod columns;
pub mod dispatchers;
pub mod evidence;
pub mod finish;
pub mod guards;
pub mod history;
pub mod invariants;
mod matching;
pub mod partitions;
pub mod platform;
pub mod recover;
pub mod replay;
pub mod resolve;
pub mod schema;
pub mod search;
pub mod session;
pub mod wake;

/// Longest wait for a connection, new or from the pool.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a statement of a command may take: reading a long history does.
const COMMAND_PATIENCE: Duration = Duration::from_secs(300);

/// What went wrong with the database. The text is the driver's and holds no row's content.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database URL cannot be read.
    #[error("DATABASE_URL is not a usable Postgres URL (postgres://user@host:port/database)")]
    BadUrl,
    /// A statement or the connection failed.
    #[error("database: {}", describe(.0))]
    Database(#[from] sqlx::Error),
    /// No answer in time; it is not known what became of the statement.
    #[error("database: no answer within {} ms", .0.as_millis())]
    Unanswered(Duration),
    /// Applying or reverting migrations failed.
    #[error("migration: {0}")]
    Migrate(#[from] sqlx::migrate::MigrateError),
}

impl StoreError {
    /// Whether the server itself answered, and so the connection is as good as before. Not so where the server says
    /// that it is about to end it (SQLSTATE class 57).
    fn is_answer(&self) -> bool {
        match self {
            StoreError::Database(sqlx::Error::Database(reported)) => {
                !reported.code().is_some_and(|code| code.starts_with("57"))
            }
            StoreError::Database(sqlx::Error::RowNotFound) => true,
            _ => false,
        }
    }

    /// Whether the server ended the statement because it took too long, or because somebody asked it to (SQLSTATE 57014).
    fn is_cancelled(&self) -> bool {
        match self {
            StoreError::Database(sqlx::Error::Database(reported)) => reported.code().as_deref() == Some("57014"),
            _ => false,
        }
    }

    /// Whether the database refuses what it was given (SQLSTATE classes 22 and 23), so that trying again is no use.
    pub fn is_about_the_data(&self) -> bool {
        match self {
            StoreError::Database(sqlx::Error::Database(reported)) => {
                reported.code().is_some_and(|code| code.starts_with("22") || code.starts_with("23"))
            }
            _ => false,
        }
    }
}

/// The driver's message without what may quote a row: Postgres puts that into the detail, not into the message.
fn describe(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(reported) => reported.message().to_owned(),
        sqlx::Error::PoolTimedOut => format!("no connection within {} s", CONNECT_TIMEOUT.as_secs()),
        other => other.to_string(),
    }
}

/// The database, as the other rooms see it. Cheap to clone: all clones share one pool.
#[derive(Clone, Debug)]
pub struct Store {
    pool: PgPool,
}

impl Store {
    /// Connects to the database at `url` with at most `connections` connections, of which one is opened at once, so
    /// that an unreachable server is reported here.
    ///
    /// # Errors
    /// An unreadable URL, or no connection.
    pub async fn connect(url: &str, connections: u32) -> Result<Store, StoreError> {
        let options: PgConnectOptions = url.parse().map_err(|_| StoreError::BadUrl)?;
        let pool = PgPoolOptions::new()
            .max_connections(connections)
            .acquire_timeout(CONNECT_TIMEOUT)
            .test_before_acquire(false)
            .after_connect(|connection, _| Box::pin(schema::prepare_session(connection, COMMAND_PATIENCE)))
            .connect_with(options.application_name("postcall"))
            .await?;
        Ok(Store { pool })
    }

    /// Closes all connections in good order.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}
