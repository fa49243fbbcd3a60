//! A separate connection, for work that must not wait for other work and must know what a failure leaves behind.
//!
//! Each statement is one transaction. If a statement takes too long, the session stops waiting for it, whatever the
//! server or the network do. After that, or after any other error that leaves the connection's state uncertain, the
//! session drops the connection, and the next statement opens a new one. A caller that stops waiting in the middle of a
//! statement also drops the connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sqlx::postgres::{PgArguments, PgConnectOptions, PgQueryResult, PgRow};
use sqlx::query::QueryScalar;
use sqlx::query::{Map, Query};
use sqlx::{ConnectOptions, FromRow, PgConnection, Postgres};

use super::{Store, StoreError, settings};

/// A dispatcher's own connection. It is not shared: its owner runs one statement after the other.
pub struct Session {
    options: PgConnectOptions,
    /// How long a statement, or opening the connection, may take.
    statement_timeout: Duration,
    connection: Option<PgConnection>,
    /// Counts what fails, if somebody wants to know.
    errors: Option<Arc<AtomicU64>>,
}

impl Store {
    /// Returns a session whose statements may take as long as `statement_timeout`. It connects when it is first used.
    pub fn session(&self, statement_timeout: Duration) -> Session {
        let options = (*self.pool.connect_options()).clone();
        Session { options, statement_timeout, connection: None, errors: None }
    }
}

impl Session {
    /// Counts in `errors` from now on how often a statement of this session failed, or a connection could not be opened.
    /// Refusals by the database and answers that did not come in time count, too.
    pub fn counting(self, errors: &Arc<AtomicU64>) -> Session {
        Session { errors: Some(errors.clone()), ..self }
    }

    /// Returns when the database has answered. It asks for nothing: not even for a column.
    pub async fn ping(&mut self) -> Result<(), StoreError> {
        self.execute(sqlx::query!("SELECT")).await.map(drop)
    }

    /// Runs a statement and returns all its rows.
    pub(super) async fn fetch_all<S: Statement>(&mut self, statement: S) -> Result<Vec<S::Row>, StoreError> {
        let mut connection = self.take().await?;
        let rows = self.within(statement.rows(&mut connection)).await;
        self.keep(connection, rows)
    }

    /// Runs a statement that returns one row at most.
    pub(super) async fn fetch_optional<S: Statement>(&mut self, statement: S) -> Result<Option<S::Row>, StoreError> {
        Ok(self.fetch_all(statement).await?.into_iter().next())
    }

    /// Runs a statement that returns one row.
    pub(super) async fn fetch_one<S: Statement>(&mut self, statement: S) -> Result<S::Row, StoreError> {
        Ok(self.fetch_optional(statement).await?.ok_or(sqlx::Error::RowNotFound)?)
    }

    /// Runs a statement that returns no rows.
    pub(super) async fn execute(
        &mut self,
        query: Query<'_, Postgres, PgArguments>,
    ) -> Result<PgQueryResult, StoreError> {
        let mut connection = self.take().await?;
        let done = self.within(query.execute(&mut connection)).await;
        self.keep(connection, done)
    }

    /// Takes the connection, and opens one if there is none. The methods above use it for one statement; a transaction
    /// of several statements uses it directly. [`Session::keep`] puts the connection back; otherwise it is dropped.
    pub(super) async fn take(&mut self) -> Result<PgConnection, StoreError> {
        if let Some(connection) = self.connection.take() {
            return Ok(connection);
        }
        let open = async {
            let mut connection = self.options.connect().await?;
            settings::prepare_dispatcher_session(&mut connection, self.statement_timeout).await?;
            Ok(connection)
        };
        self.within(open).await
    }

    /// Waits for a statement's result no longer than this session's statement timeout.
    pub(super) async fn within<T>(
        &self,
        statement: impl Future<Output = Result<T, sqlx::Error>>,
    ) -> Result<T, StoreError> {
        let result = match tokio::time::timeout(self.statement_timeout, statement).await {
            Ok(result) => result.map_err(StoreError::from),
            Err(_elapsed) => Err(StoreError::Unanswered(self.statement_timeout)),
        };
        if let (Err(_), Some(errors)) = (&result, &self.errors) {
            errors.fetch_add(1, Ordering::Relaxed);
        }
        result
    }

    /// Puts the connection back if it can still be used: after an answer, or after an error that the server itself
    /// reported about the statement.
    pub(super) fn keep<T>(&mut self, connection: PgConnection, result: Result<T, StoreError>) -> Result<T, StoreError> {
        if result.as_ref().err().is_none_or(StoreError::is_answer) {
            self.connection = Some(connection);
        }
        result
    }
}

/// A statement that returns rows, as sqlx's macros build it.
pub(super) trait Statement {
    /// The type into which a row is read.
    type Row;

    /// Runs the statement and returns all rows.
    fn rows(self, connection: &mut PgConnection) -> impl Future<Output = Result<Vec<Self::Row>, sqlx::Error>> + Send;
}

impl<F, O> Statement for Map<'_, Postgres, F, PgArguments>
where
    F: FnMut(PgRow) -> Result<O, sqlx::Error> + Send,
    O: Send + Unpin,
{
    type Row = O;

    async fn rows(self, connection: &mut PgConnection) -> Result<Vec<O>, sqlx::Error> {
        self.fetch_all(connection).await
    }
}

impl<O> Statement for QueryScalar<'_, Postgres, O, PgArguments>
where
    O: Send + Unpin,
    (O,): Send + Unpin + for<'r> FromRow<'r, PgRow>,
{
    type Row = O;

    async fn rows(self, connection: &mut PgConnection) -> Result<Vec<O>, sqlx::Error> {
        self.fetch_all(connection).await
    }
}
