//! The databases that commands are given: the one that everything is in, and a standby of it from which may be read instead.

use std::collections::HashSet;

use clap::Args;

use super::table::time;
use super::{CliError, migrate};
use crate::store::{Store, place};

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

/// The databases of a platform that has several, for commands that work on all of them.
#[derive(Args)]
pub(crate) struct Databases {
    /// Postgres URL, such as postgres://user@host:5432/database. Give it once for each database if the platform keeps its
    /// calls in several.
    #[arg(
        long = "database-url",
        env = "DATABASE_URL",
        hide_env_values = true,
        value_name = "URL",
        required_unless_present = "databases"
    )]
    urls: Vec<String>,

    /// Take the databases from this file instead of --database-url: on each line a name of your choice, a blank, and the URL.
    /// Lines that begin with # are comments. The names appear in logs, metrics and tables.
    #[arg(long, env = "POSTCALL_DATABASES", value_name = "FILE", default_value = "", hide_default_value = true)]
    databases: String,
}

/// The largest number of databases that one process works on. Each costs about ten connections.
const MOST_DATABASES: usize = 64;
/// The longest name of a database, in bytes.
const LONGEST_NAME: usize = 64;

/// A database, and the name under which people know it.
#[derive(Clone)]
pub(super) struct NamedDatabase {
    /// From the file, or where the URL points, without who logs in.
    pub(super) name: String,
    pub(super) url: String,
}

impl NamedDatabase {
    /// Connects, and checks that the schema is the one of this program.
    pub(super) async fn open(&self, connections: u32) -> Result<Store, CliError> {
        open(&self.url, connections).await
    }
}

impl Databases {
    /// All of them, in the order in which they were given; at least one.
    ///
    /// # Errors
    /// A file or a URL that cannot be read, a name that is given twice, none, or too many.
    pub(super) fn all(&self) -> Result<Vec<NamedDatabase>, CliError> {
        let all = if self.databases.is_empty() {
            self.urls.iter().map(|url| Ok(NamedDatabase { name: place(url)?, url: url.clone() })).collect()
        } else {
            listed_in(&self.databases)
        };
        let all: Vec<NamedDatabase> = all?;
        let mut names = HashSet::new();
        if let Some(twice) = all.iter().find(|database| !names.insert(&database.name)) {
            return Err(CliError::WrongUsage(format!("the database {} is given twice", twice.name)));
        }
        match all.len() {
            0 => Err(CliError::WrongUsage(format!("{} names no database", self.databases))),
            1..=MOST_DATABASES => Ok(all),
            many => Err(CliError::WrongUsage(format!("{many} databases are given, and {MOST_DATABASES} is the most"))),
        }
    }
}

fn listed_in(path: &str) -> Result<Vec<NamedDatabase>, CliError> {
    let text = std::fs::read_to_string(path).map_err(|source| CliError::File { path: path.to_owned(), source })?;
    let is_name = |name: &str| {
        (1..=LONGEST_NAME).contains(&name.len())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
    };
    let lines = text.lines().enumerate().map(|(number, line)| (number + 1, line.trim()));
    lines
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
        .map(|(number, line)| {
            // What stands there may be a password, so the error does not quote it.
            let wrong = |why: &str| Err(CliError::WrongUsage(format!("{path}, line {number}: {why}")));
            let Some((name, url)) = line.split_once(char::is_whitespace) else {
                return wrong("there must be a name, a blank, and a Postgres URL");
            };
            if !is_name(name) {
                return wrong("the name may have 64 letters, digits, dots, hyphens and underscores");
            }
            let url = url.trim();
            match place(url) {
                Ok(_) => Ok(NamedDatabase { name: name.to_owned(), url: url.to_owned() }),
                Err(_) => wrong("the URL cannot be read; it looks like postgres://user@host:port/database"),
            }
        })
        .collect()
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
        say_standby(&store).await?;
        Ok(store)
    }
}

/// The server that is read from. An unset variable in a compose file is empty.
pub(super) fn read_from<'u>(read_url: &'u Option<String>, database_url: &'u Option<String>) -> &'u str {
    let read_url = read_url.as_deref().filter(|url| !url.is_empty());
    read_url.or(database_url.as_deref()).unwrap_or_default()
}

async fn open(url: &str, connections: u32) -> Result<Store, CliError> {
    let store = Store::connect(url, connections).await?;
    migrate::require_current(&store).await?;
    Ok(store)
}

/// Says until when a standby shows what happened; nothing of a server that is none.
async fn say_standby(store: &Store) -> Result<(), CliError> {
    if let Some(standby) = store.standby().await? {
        match standby.shows_until {
            Some(until) => eprintln!(
                "read from a standby: it shows what was committed until {} ({} ms ago)",
                time(until),
                standby.age_ms
            ),
            None => eprintln!("read from a standby, which has received nothing since it was started"),
        }
    }
    Ok(())
}
