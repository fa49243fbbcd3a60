//! The databases that commands are given: the one that everything is in, and a standby of it from which may be read instead.

use clap::Args;

use super::table::time;
use super::{CliError, migrate};
use crate::store::Store;

/// The database URL; all commands that need a database share this argument.
#[derive(Args)]
pub(crate) struct Database {
    /// Postgres URL, such as postgres://user@host:5432/database.
    #[arg(long = "database-url", env = "DATABASE_URL", hide_env_values = true, value_name = "URL")]
    pub(super) url: String,
}

impl Database {
    /// Connects, and checks that the schema is the one of this program.
    pub(super) async fn open(&self, connections: u32) -> Result<Store, CliError> {
        open(&self.url, connections).await
    }

    /// Connects without a check of the schema.
    pub(super) async fn connect(&self, connections: u32) -> Result<Store, CliError> {
        Ok(Store::connect(&self.url, connections).await?)
    }
}

/// The same for commands that only read.
#[derive(Args)]
pub(crate) struct ReadDatabase {
    /// Postgres URL, such as postgres://user@host:5432/database.
    #[arg(
        long,
        env = "DATABASE_URL",
        hide_env_values = true,
        value_name = "URL",
        required_unless_present = "read_url"
    )]
    database_url: Option<String>,

    /// Read from this server instead: a hot standby of the other one, so that nothing is asked of the primary. How far it is
    /// behind is said on stderr.
    #[arg(long, env = "POSTCALL_READ_URL", hide_env_values = true, value_name = "URL")]
    read_url: Option<String>,
}

impl ReadDatabase {
    /// Connects to the server that is read from, checks the schema, and says how far it is behind if it is a standby.
    pub(super) async fn open(&self, connections: u32) -> Result<Store, CliError> {
        let store = open(read_from(&self.read_url, &self.database_url), connections).await?;
        say_standby(&store, None).await?;
        Ok(store)
    }
}

/// The server that is read from. An unset variable in a compose file is empty.
pub(super) fn read_from<'u>(read_url: &'u Option<String>, database_url: &'u Option<String>) -> &'u str {
    let read_url = read_url.as_deref().filter(|url| !url.is_empty());
    read_url.or(database_url.as_deref()).unwrap_or_default()
}

pub(super) async fn open(url: &str, connections: u32) -> Result<Store, CliError> {
    let store = Store::connect(url, connections).await?;
    migrate::require_current(&store).await?;
    Ok(store)
}

/// Says until when a standby shows what happened; nothing of a server that is none. The database is named if several are asked.
pub(super) async fn say_standby(store: &Store, name: Option<&str>) -> Result<(), CliError> {
    if let Some(standby) = store.standby().await? {
        let of = name.map(|name| format!("{name}: ")).unwrap_or_default();
        match standby.shows_until {
            Some(until) => eprintln!(
                "{of}read from a standby: it shows what was committed until {} ({} ms ago)",
                time(until),
                standby.age_ms
            ),
            None => eprintln!("{of}read from a standby, which has received nothing since it was started"),
        }
    }
    Ok(())
}
