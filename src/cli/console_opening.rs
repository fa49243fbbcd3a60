//! Opens the databases of `postcall console`: the only one at its start, and each of several as soon as it can be opened.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::time::timeout;

use super::console::RunArguments;
use super::databases::NamedDatabase;
use super::{CliError, migrate};
use crate::console::{Auth, CONNECTIONS, Database, PATIENCE, Role, Stores};
use crate::domain::chain::chain;
use crate::store::{Access, Store};
use crate::vault::Keyring;

/// Between two tries to open one of several databases.
const AGAIN: Duration = Duration::from_secs(5);
/// How long a try may take. One that hangs is said, as one that fails.
const OPENING_TIME: Duration = Duration::from_secs(30);

/// How the console opens a database.
pub(super) struct Opening {
    /// Whether people are told apart, so that each role has sessions of its own.
    has_roles: bool,
    writes: bool,
    keys: Option<Arc<Keyring>>,
}

/// Where a database is.
pub(super) struct Source {
    pub(super) primary: String,
    /// A standby from which is read instead.
    pub(super) read_url: Option<String>,
}

impl Opening {
    /// As these arguments say.
    ///
    /// # Errors
    /// A file of keys that cannot be read.
    pub(super) fn of(arguments: &RunArguments, auth: &Auth) -> Result<Opening, CliError> {
        let keys = arguments.key_file.keyring()?.map(Arc::new);
        Ok(Opening { has_roles: !matches!(auth, Auth::Nobody(_)), writes: arguments.write, keys })
    }

    /// The database by sessions for each role, and the time by its clock. Where nobody is told apart, all have the rights of the user
    /// who logs in.
    ///
    /// # Errors
    /// A database that does not answer, has another schema, or whose user lacks a role.
    pub(super) async fn stores(
        &self,
        Source { primary, read_url }: &Source,
    ) -> Result<(Stores, DateTime<Utc>), CliError> {
        let url = read_url.as_deref().unwrap_or(primary);
        let health = Store::connect_to_read(url, 1, PATIENCE).await?;
        let stores = if self.has_roles {
            self.of_roles(url, primary, health).await?
        } else {
            self.of_nobody(url, primary, health).await?
        };
        let now = stores.now().await?;
        Ok((stores, now))
    }

    async fn of_nobody(&self, url: &str, primary: &str, health: Store) -> Result<Stores, CliError> {
        let all = async |url: &str, writes: bool| {
            let store = Store::connect_as(url, CONNECTIONS, PATIENCE, Access { role: None, writes }).await;
            store.map(|store| store.with_keys(self.keys.clone()))
        };
        let reading = all(url, false).await?;
        migrate::require_current(&reading).await?;
        let writing = if self.writes { Some(all(primary, true).await?) } else { None };
        let writing = writing.map(|store| [store.clone(), store]);
        let tail = Store::connect_to_read(url, 1, PATIENCE).await?;
        Ok(Stores::new(std::array::from_fn(|_| reading.clone()), writing, health, tail))
    }

    async fn of_roles(&self, url: &str, primary: &str, health: Store) -> Result<Stores, CliError> {
        let reading = [
            as_role(url, Role::Viewer, false).await?,
            as_role(url, Role::Auditor, false).await?,
            as_role(url, Role::Operator, false).await?,
            as_role(url, Role::Publisher, false).await?.with_keys(self.keys.clone()),
        ];
        migrate::require_current(&reading[0]).await?;
        let writing = if self.writes {
            let publisher = as_role(primary, Role::Publisher, true).await?;
            Some([as_role(primary, Role::Operator, true).await?, publisher.with_keys(self.keys.clone())])
        } else {
            None
        };
        let tail = connected(url, Role::Auditor, 1, false).await?;
        Ok(Stores::new(reading, writing, health, tail))
    }
}

async fn as_role(url: &str, role: Role, writes: bool) -> Result<Store, CliError> {
    connected(url, role, CONNECTIONS, writes).await
}

async fn connected(url: &str, role: Role, connections: u32, writes: bool) -> Result<Store, CliError> {
    let access = Access { role: Some(role.of_database()), writes };
    Store::connect_as(url, connections, PATIENCE, access).await.map_err(|error| {
        if error.is_forbidden() || error.is_about_the_data() {
            let role = role.of_database();
            return CliError::Problem(format!(
                "{}. The console's database user has to be a member of the roles of its visitors: GRANT {role} TO …",
                chain(&error)
            ));
        }
        error.into()
    })
}

/// The names of several databases, as they stand in the addresses of their pages.
///
/// # Errors
/// A name that would be a step in an address.
pub(super) fn names_in_addresses(databases: &[NamedDatabase]) -> Result<Vec<String>, CliError> {
    if databases.iter().any(|database| matches!(database.name.as_str(), "." | "..")) {
        return Err(CliError::Usage("the names . and .. cannot stand in an address of the console"));
    }
    Ok(databases.iter().map(|database| database.name.clone()).collect())
}

/// Tries to open one of several databases until it is served. What keeps it from that is said once, until it is something else.
pub(super) async fn keep_opening(database: NamedDatabase, opening: Arc<Opening>, served: Arc<Database>) {
    let source = Source { primary: database.url, read_url: None };
    let mut said = String::new();
    loop {
        let why = match timeout(OPENING_TIME, opening.stores(&source)).await {
            Ok(Ok((stores, now))) => {
                served.opens(stores, now);
                if !said.is_empty() {
                    eprintln!("postcall: {}: it is served now", database.name);
                }
                return;
            }
            Ok(Err(error)) => error.for_people().to_string(),
            Err(_) => format!("it was not opened within {} s", OPENING_TIME.as_secs()),
        };
        if why != said {
            let seconds = AGAIN.as_secs();
            eprintln!("postcall: {}: {why}; it is not served, and is tried again every {seconds} s", database.name);
            said = why;
        }
        tokio::time::sleep(AGAIN).await;
    }
}
