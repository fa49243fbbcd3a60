//! A connection of one's own, for work that must not wait for anybody else's and must know what a failure leaves behind.
//!
//! Each statement is one transaction. A statement that takes too long is ended from this side, whatever the server or
//! the network do; after such an end, or any other that leaves the conversation in doubt, the connection is dropped and
//! the next statement opens a new one. A caller that stops waiting in the middle of a statement drops it, too.

use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, PgConnection};

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
    /// Takes the connection, opening one if there is none. It comes back by [`Session::keep`] or not at all.
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
