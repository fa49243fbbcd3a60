//! `postcall doctor`: looks at what an installation needs in order to work.

use chrono::{DateTime, Utc};
use clap::Args;

use super::databases::{Databases, Heads, NamedDatabase, print_json_of};
use super::key_file::KeyFile;
use super::migrate::require_current;
use super::{CliError, ONE_CONNECTION, print_line};
use crate::domain::checkup::{Check, Verdict};
use crate::domain::sealed_version::OperatorKeys;
use crate::domain::visible::visible;
use crate::service::doctor::{of_keys, of_login, of_rights, of_roots, of_schema};
use crate::store::Store;

/// Look at what an installation needs in order to work, and say what to do about what is wrong.
///
///   database      it can be reached
///   server        its version is one that is tested
///   user          has one of postcall's roles, and does not own the schema
///   rights        may do no more than its role is for
///   clocks        this machine's and the database's agree
///   schema        is the one of this program
///   guards        the triggers and constraints that keep rows as they were are on
///   partitions    there are partitions for the time to come
///   dispatchers   some run, and they may send to the same targets; that none runs is a problem
///                 if deliveries wait
///   seals         history is sealed, and not long behind (`run --seal-key-file`); checkpoints
///                 are exported (`--checkpoint-url`)
///   templates     of actions are sealed, or none is
///   keys          the key file (`--key-file`) has each that has encrypted something
///   tls roots     this machine, if a dispatcher is to run on it, has root certificates
///
/// Each is ok, a warning or a problem; the exit status is 1 if there is a problem. Changes nothing.
/// Run it as the user and on the machine that a dispatcher has. Whether every call is accounted for
/// is checked by `postcall check-invariants`.
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub struct Arguments {
    /// Print a JSON array of the checks.
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    key_file: KeyFile,

    #[command(flatten)]
    databases: Databases,
}

impl Arguments {
    pub(super) async fn run(self) -> Result<(), CliError> {
        let heads = if self.json { Heads::Hidden } else { Heads::Shown };
        self.databases.each(heads, async |database, name| self.look_at(database, name).await).await
    }

    async fn look_at(&self, database: &NamedDatabase, name: Option<&str>) -> Result<(), CliError> {
        let mut checks = match database.connect(ONE_CONNECTION).await {
            Ok(store) => of_database(&store, &self.key_file).await?,
            Err(error) => {
                let cure = "see that the server runs, that --database-url (or DATABASE_URL) names it, and that nothing \
                            between here and there keeps connections away";
                vec![Check::problem("database", error.for_people(), cure)]
            }
        };
        checks.push(of_roots());
        if self.json {
            print_json_of(name, serde_json::to_value(&checks).unwrap_or_default())?;
        } else {
            checks.iter().flat_map(lines).try_for_each(|line| print_line(&line))?;
        }
        let problems = checks.iter().filter(|check| check.verdict == Verdict::Problem).count();
        if problems == 0 {
            Ok(())
        } else {
            Err(CliError::Problem(format!("{problems} of {} checks found a problem", checks.len())))
        }
    }
}

async fn of_database(store: &Store, key_file: &KeyFile) -> Result<Vec<Check>, CliError> {
    let login = store.login().await?;
    let mut checks = vec![Check::ok("database", "it can be reached")];
    let is_schema_there = !store.schema_version().await.is_ok_and(|version| version.is_none());
    checks.extend(of_login(&login, this_machine_s_time(), is_schema_there));
    if is_schema_there {
        checks.extend(of_rights(&login, &store.excess().await?));
    }
    match require_current(store).await {
        Ok(()) => {
            checks.push(Check::ok("schema", "it is the one of this program"));
            match of_schema(store).await {
                Ok(found) => checks.extend(found),
                Err(error) => checks.push(unreadable(&CliError::from(error))),
            }
            checks.push(of_key_file(store, key_file).await);
        }
        Err(CliError::Problem(problem)) => {
            checks.push(Check::problem(
                "schema",
                problem,
                "let the owner run `postcall migrate`, or install the release of the schema",
            ));
        }
        Err(error) => checks.push(unreadable(&error)),
    }
    Ok(checks)
}

async fn of_key_file(store: &Store, key_file: &KeyFile) -> Check {
    let ids = match key_file.keyring() {
        Ok(keyring) => keyring.map(|keyring| keyring.ids()),
        Err(error) => return Check::problem("keys", error.for_people(), "name a key file that this user can read"),
    };
    match store.keys_in_use().await {
        Ok(in_use) => of_keys(&in_use, ids.as_deref()),
        Err(error) => unreadable(&CliError::from(error)),
    }
}

fn unreadable(error: &CliError) -> Check {
    Check::problem("schema", error.for_people(), "the role postcall_auditor suffices to read what is checked")
}

#[expect(clippy::disallowed_methods, reason = "it is this clock that is compared with the database's")]
fn this_machine_s_time() -> DateTime<Utc> {
    Utc::now()
}

fn lines(check: &Check) -> Vec<String> {
    let mut lines = vec![format!("{:<8} {:<12} {}", check.verdict, check.what, visible(&check.found))];
    lines.extend(check.cure.as_ref().map(|cure| format!("{:<21} {}", "", visible(cure))));
    lines
}
