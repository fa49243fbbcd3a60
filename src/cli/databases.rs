//! Several databases of one platform, for commands that work on all of them.

use std::collections::HashSet;
use std::path::Path;

use clap::Args;
use serde_json::{Value, json};

use super::database::{self, say_standby};
use super::table::{print_json, print_json_line};
use super::{CliError, print_line, read_file};
use crate::store::{Store, place};

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
/// The largest file that lists databases, in bytes.
const MAX_LIST_BYTES: usize = 256 * 1024;
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
        database::open(&self.url, connections).await
    }

    /// Connects without a check of the schema.
    pub(super) async fn connect(&self, connections: u32) -> Result<Store, CliError> {
        Ok(Store::connect(&self.url, connections).await?)
    }
}

impl Databases {
    /// All of them, in the order in which they were given; at least one.
    ///
    /// # Errors
    /// A file or a URL that cannot be read, a name that is given twice, none, or too many.
    pub(super) fn all(&self) -> Result<Vec<NamedDatabase>, CliError> {
        named(&self.urls, &self.databases)
    }

    /// The one with this name. Without a name, there must be one only.
    ///
    /// # Errors
    /// As [`Databases::all`]; and if there is none of that name, or none was named of several.
    pub(super) fn one_of_all(&self, name: Option<&str>) -> Result<NamedDatabase, CliError> {
        let mut all = self.all()?;
        match name {
            Some(name) => match all.iter().position(|database| database.name == name) {
                Some(at) => Ok(all.swap_remove(at)),
                None => {
                    let names: Vec<_> = all.iter().map(|database| database.name.as_str()).collect();
                    Err(CliError::WrongUsage(format!("--in: expected one of {}", names.join(", "))))
                }
            },
            None if all.len() == 1 => Ok(all.swap_remove(0)),
            None => Err(CliError::Usage("several databases are given: name one of them with --in")),
        }
    }

    /// Does `work` on each of them, as [`each`] says.
    pub(super) async fn each(&self, heads: Heads, work: impl Work) -> Result<(), CliError> {
        each(&self.all()?, heads, work).await
    }
}

fn named(urls: &[String], list: &str) -> Result<Vec<NamedDatabase>, CliError> {
    let all = if list.is_empty() {
        urls.iter().map(|url| Ok(NamedDatabase { name: place(url)?, url: url.clone() })).collect()
    } else {
        listed_in(list)
    };
    let all: Vec<NamedDatabase> = all?;
    let mut names = HashSet::new();
    if let Some(twice) = all.iter().find(|database| !names.insert(&database.name)) {
        return Err(CliError::WrongUsage(format!("the database {} is given twice", twice.name)));
    }
    match all.len() {
        0 => Err(CliError::WrongUsage(format!("{list} names no database"))),
        1..=MOST_DATABASES => Ok(all),
        many => Err(CliError::WrongUsage(format!("{many} databases are given, and {MOST_DATABASES} is the most"))),
    }
}

fn listed_in(path: &str) -> Result<Vec<NamedDatabase>, CliError> {
    let text = read_file(Path::new(path), MAX_LIST_BYTES)?;
    if text.len() > MAX_LIST_BYTES {
        return Err(CliError::WrongUsage(format!("{path} has more than {MAX_LIST_BYTES} bytes")));
    }
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
pub(crate) struct ReadDatabases {
    /// Postgres URL, such as postgres://user@host:5432/database. Give it once for each database if the platform keeps its
    /// calls in several.
    #[arg(
        long = "database-url",
        env = "DATABASE_URL",
        hide_env_values = true,
        value_name = "URL",
        required_unless_present_any = ["databases", "read_url"]
    )]
    urls: Vec<String>,

    /// Take the databases from this file instead of --database-url: on each line a name of your choice, a blank, and the URL,
    /// which may be that of a standby.
    #[arg(long, env = "POSTCALL_DATABASES", value_name = "FILE", default_value = "", hide_default_value = true)]
    databases: String,

    /// Read from this server instead: a hot standby of the other one, so that nothing is asked of the primary. How far it is
    /// behind is said on stderr.
    #[arg(long, env = "POSTCALL_READ_URL", hide_env_values = true, value_name = "URL")]
    read_url: Option<String>,
}

impl ReadDatabases {
    /// All of them; at least one.
    ///
    /// # Errors
    /// As [`Databases::all`]; and if one standby is to stand for several databases.
    pub(super) fn all(&self) -> Result<Vec<NamedDatabase>, CliError> {
        match self.read_url.as_ref().filter(|url| !url.is_empty()) {
            None => named(&self.urls, &self.databases),
            Some(url) if self.databases.is_empty() && self.urls.len() <= 1 => named(std::slice::from_ref(url), ""),
            Some(_) => Err(CliError::Usage(
                "--read-url is one server: for several databases, list their standbys in a file (--databases)",
            )),
        }
    }
}

impl NamedDatabase {
    /// Connects to read: as [`NamedDatabase::open`], and says how far the server is behind if it is a standby.
    pub(super) async fn open_to_read(&self, connections: u32) -> Result<Store, CliError> {
        let store = self.open(connections).await?;
        say_standby(&store, None).await?;
        Ok(store)
    }
}

/// Whether each database's part of the output has its name above it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Heads {
    /// For people.
    Shown,
    /// What is printed says by itself where it is from ([`print_json_of`]).
    Hidden,
}

/// What is done on a database. Its name is given if there are several.
pub(super) trait Work: AsyncFnMut(&NamedDatabase, Option<&str>) -> Result<(), CliError> {}
impl<W: AsyncFnMut(&NamedDatabase, Option<&str>) -> Result<(), CliError>> Work for W {}

/// Does `work` on each of these databases, one after the other. If it fails on one of several, that is said, and it is done on
/// the others all the same.
///
/// # Errors
/// That of the only database; or how many of several have failed.
pub(super) async fn each(databases: &[NamedDatabase], heads: Heads, mut work: impl Work) -> Result<(), CliError> {
    if let [only] = databases {
        return work(only, None).await;
    }
    let mut failed = 0;
    for database in databases {
        if heads == Heads::Shown {
            print_line(&format!("== {}", database.name))?;
        }
        if let Err(error) = work(database, Some(&database.name)).await {
            // A pipe that is closed concerns them all.
            if error.is_silent() && !matches!(error, CliError::Said) {
                return Err(error);
            }
            eprintln!("postcall: {}: {}", database.name, error.for_people());
            failed += 1;
        }
    }
    match failed {
        0 => Ok(()),
        _ => Err(CliError::Problem(format!("{failed} of {} databases failed", databases.len()))),
    }
}

/// Prints an object or an array: alone and indented, or, if there are several databases, on one line with the name of its own.
pub(super) fn print_json_of(database: Option<&str>, value: Value) -> Result<(), CliError> {
    match (database, value) {
        (None, value) => print_json(&value),
        (Some(name), Value::Object(mut object)) => {
            object.insert("database".to_owned(), name.into());
            print_json_line(&object)
        }
        (Some(name), list) => print_json_line(&json!({ "database": name, "list": list })),
    }
}
