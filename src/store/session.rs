//! A connection of one's own, for work that must not wait for anybody else's and must know what a failure leaves behind.
//!
//! Each statement is one transaction. A statement that takes too long is ended from this side, whatever the server or
//! the network do; after such an end, or any other that leaves the conversation in doubt, the connection is dropped and
//! the next statement opens a new one. A caller that stops waiting in the middle of a statement drops it, too.

use std::time::Duration;

use sqlx::postgres::{PgArguments, PgConnectOptions, PgQueryResult, PgRow};
use sqlx::query::QueryScalar;
use sqlx::query::{Map, Query};
use sqlx::{ConnectOptions, FromRow, PgConnection, Postgres};

use super::{Store, StoreError, settings};

/// A dispatcher's own connection. Not shared: its owner does one thing after the other.
pub struct Session {
    options: PgConnectOptions,
    /// How long a statement, or opening the connection, may take.
    statement_timeout: Duration,
    connection: Option<PgConnection>,
}

impl Store {
    /// A session whose statements may take as long as `statement_timeout`. It connects when it is first used.
    pub fn session(&self, statement_timeout: Duration) -> Session {
        Session { options: (*self.pool.connect_options()).clone(), statement_timeout, connection: None }
    }
}

impl Session {
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

    /// Takes the connection, opening one if there is none: what the methods above do for one statement, for a transaction of
    /// several. It comes back by [`Session::keep`] or not at all.
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
        match tokio::time::timeout(self.statement_timeout, statement).await {
            Ok(result) => Ok(result?),
            Err(_elapsed) => Err(StoreError::Unanswered(self.statement_timeout)),
        }
    }

    /// Puts the connection back if the result leaves it fit for use: an answer, or an error that the server itself
    /// reported about the statement.
    pub(super) fn keep<T>(&mut self, connection: PgConnection, result: Result<T, StoreError>) -> Result<T, StoreError> {
        if result.as_ref().err().is_none_or(StoreError::is_answer) {
            self.connection = Some(connection);
        }
        result
    }
}

/// What sqlx's macros make of a statement that returns rows.
pub(super) trait Statement {
    /// What a row is read into.
    type Row;

    /// Runs it.
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
