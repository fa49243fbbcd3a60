//! How a [`Store`] comes to its connections: which URL, as whom, for how long.

use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{ConnectOptions, Connection};

use super::{COMMAND_STATEMENT_TIMEOUT, Store, StoreError, settings};

/// Longest wait for a connection, new or from the pool.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a [`Store`] waits.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For a connection, new or from the pool.
    pub connection: Duration,
    /// For a statement.
    pub statement: Duration,
}

/// What the sessions of a [`Store`] may do.
#[derive(Clone, Copy, Debug)]
pub struct Access {
    /// The role with whose rights they work instead of those of the user who logs in.
    pub role: Option<&'static str>,
    /// Whether they may change anything. Otherwise the server refuses it, whatever the role may do.
    pub writes: bool,
}

/// How long a session that nobody uses stays open, in a store that has some for each of several roles. A new one reads the tables' partitions
/// and indexes from the catalogue and plans each statement for the first time, which makes the first page slower; whoever looks now and then
/// does not wait for that each time.
const IDLE: Duration = Duration::from_secs(300);

/// That of a command, which does one thing, however long it takes.
const OF_COMMANDS: Patience = Patience { connection: CONNECT_TIMEOUT, statement: COMMAND_STATEMENT_TIMEOUT };

impl Store {
    /// Connects to the database at `url` with at most `connections` connections. One of them is opened at once, so that
    /// an unreachable server is reported here.
    ///
    /// # Errors
    /// An unreadable URL, no connection, or a database that is not in UTF8. Where nothing listens, and where there is no
    /// such host, is said at once.
    pub async fn connect(url: &str, connections: u32) -> Result<Store, StoreError> {
        let pool = PgPoolOptions::new()
            .max_connections(connections)
            .test_before_acquire(false)
            .after_connect(|connection, _| Box::pin(settings::prepare_session(connection, COMMAND_STATEMENT_TIMEOUT)));
        Store::open(url, pool, OF_COMMANDS, None).await
    }

    /// As [`Store::connect`], for a program that only reads, that goes on while the database is away, and that waits no
    /// longer than `patience` for anything. The server refuses whatever would change something.
    ///
    /// # Errors
    /// As [`Store::connect`].
    pub async fn connect_to_read(url: &str, connections: u32, patience: Patience) -> Result<Store, StoreError> {
        Store::connect_as(url, connections, patience, Access { role: None, writes: false }).await
    }

    /// As [`Store::connect_to_read`], with the rights of `access` in each session and no others.
    ///
    /// # Errors
    /// As [`Store::connect`]; and if the user may not take on the role ([`StoreError::is_forbidden`]), or there is no such role.
    pub async fn connect_as(
        url: &str,
        connections: u32,
        patience: Patience,
        access: Access,
    ) -> Result<Store, StoreError> {
        // A connection that broke while it was idle is found before somebody gets it.
        let pool = PgPoolOptions::new().max_connections(connections).test_before_acquire(true).idle_timeout(IDLE);
        let limit = patience.statement;
        let pool = pool.after_connect(move |connection, _| {
            Box::pin(async move {
                settings::prepare_session(connection, limit).await?;
                if let Some(role) = access.role {
                    settings::take_on(connection, role).await?;
                }
                if !access.writes {
                    settings::only_read(connection).await?;
                }
                Ok(())
            })
        });
        Store::open(url, pool, patience, access.role).await
    }

    /// A store that connects when it is first used. Nothing is known of its database.
    ///
    /// # Errors
    /// An unreadable URL.
    pub fn unconnected(url: &str) -> Result<Store, StoreError> {
        let pool = PgPoolOptions::new().connect_lazy_with(options(url)?);
        Ok(Store { pool, statement_timeout: COMMAND_STATEMENT_TIMEOUT, keys: None })
    }

    async fn open(url: &str, pool: PgPoolOptions, patience: Patience, role: Option<&str>) -> Result<Store, StoreError> {
        let options = options(url)?;
        try_to_connect(&options, role).await?;
        let pool = pool.acquire_timeout(patience.connection).connect_with(options).await?;
        let statement_timeout = patience.statement;
        // The encoding cannot change while the database exists.
        let encoding =
            sqlx::query_scalar!(r#"SELECT current_setting('server_encoding') AS "encoding!""#).fetch_one(&pool).await?;
        if encoding != "UTF8" {
            return Err(StoreError::NotUtf8(encoding));
        }
        Ok(Store { pool, statement_timeout, keys: None })
    }
}

/// Where a URL points, without who logs in and how: `host:port/database`.
///
/// # Errors
/// An unreadable URL.
pub fn place(url: &str) -> Result<String, StoreError> {
    let options = options(url)?;
    let host = options.get_socket().map_or(options.get_host().to_owned(), |socket| socket.display().to_string());
    Ok(format!("{host}:{}/{}", options.get_port(), options.get_database().unwrap_or_default()))
}

fn options(url: &str) -> Result<PgConnectOptions, StoreError> {
    let options: PgConnectOptions = url.parse().map_err(|_| StoreError::BadUrl)?;
    Ok(options.application_name("postcall"))
}

/// Connects once, and takes on the role if there is one, to learn why that fails if it does. A pool does not say it: it tries again until its timeout is over,
/// and then says that it got no connection.
async fn try_to_connect(options: &PgConnectOptions, role: Option<&str>) -> Result<(), StoreError> {
    let unreachable = |source| {
        let host = options.get_socket().map_or(options.get_host().to_owned(), |socket| socket.display().to_string());
        StoreError::Unreachable { host, port: options.get_port(), source }
    };
    let Ok(connected) = tokio::time::timeout(CONNECT_TIMEOUT, options.connect()).await else {
        let words = format!("no answer within {} s", CONNECT_TIMEOUT.as_secs());
        return Err(unreachable(std::io::Error::new(std::io::ErrorKind::TimedOut, words)));
    };
    match connected {
        Ok(mut connection) => {
            if let Some(role) = role {
                settings::take_on(&mut connection, role).await?;
            }
            Ok(connection.close().await?)
        }
        Err(sqlx::Error::Io(source)) => Err(unreachable(source)),
        Err(other) => unless_busy(other.into()),
    }
}

/// The error, unless the pool tries again for a while, as it should: SQLSTATE class 57, the server is starting or stopping, and class 53, it
/// has no connection free.
fn unless_busy(error: StoreError) -> Result<(), StoreError> {
    if error.has_class(&["57", "53"]) { Ok(()) } else { Err(error) }
}

#[cfg(test)]
mod tests {
    use super::super::tests::reported;
    use super::*;

    #[test]
    fn only_a_server_that_is_busy_or_starts_is_tried_again() {
        for code in ["57P03", "53300"] {
            assert!(unless_busy(reported(code)).is_ok(), "{code}");
        }
        for code in ["28P01", "3D000", "42501"] {
            assert!(unless_busy(reported(code)).is_err(), "{code}");
        }
    }
}
