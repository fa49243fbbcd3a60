//! `postcall secret …`: sets, lists and removes the secrets of agents, and changes the key that encrypts them.

use std::io::Read;

use clap::{Args, Subcommand};
use serde_json::json;
use zeroize::Zeroizing;

use super::action::attribution as shown_attribution;
use super::attribution::OptionalAttribution;
use super::key_file::KeyFile;
use super::table::{Table, time};
use super::{CliError, Database, Format, ONE_CONNECTION, print_line, rekey, unknown};
use crate::domain::secret::{self, MAX_CERTIFICATE_BYTES};
use crate::domain::visible::visible;
use crate::service::keys;
use crate::store::sealed_versions::VersionCounts;
use crate::store::secrets::SecretChange;
use crate::vault::{Owner, new_key_line};

/// The largest number of secrets that are listed.
const MOST_LISTED: i64 = 1_000;

/// Set, list and remove the secrets of an agent, which its templates name as `${secret.NAME}`.
///
/// Secrets are encrypted with the key of --key-file, and shown nowhere. A dispatcher needs the same key file. First steps:
/// `postcall secret new-key > key && chmod 600 key`, then `postcall secret set AGENT NAME --key-file key < FILE`.
#[derive(Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Set a secret. The value comes from standard input, never from an argument.
    ///
    /// One line break at the end is removed. Dispatchers use the new value within seconds.
    ///
    /// A key file none of whose keys has encrypted anything in this database is refused if something is encrypted there.
    Set {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        key_file: KeyFile,
        /// Take the key file although others have encrypted what is encrypted in this database, because their keys are lost. What
        /// they have encrypted cannot be opened any more: set it, publish it and rotate it anew.
        #[arg(long)]
        old_keys_are_lost: bool,
        #[command(flatten)]
        attribution: OptionalAttribution,
    },
    /// List the secrets of an agent: names, when and by whom each was set. Never a value.
    List {
        /// The agent.
        agent: String,
        /// How to print them.
        #[arg(long, value_enum, default_value = "table")]
        format: Format,
        #[command(flatten)]
        database: Database,
    },
    /// Remove a secret. Deliveries whose templates name it fail from then on, and nothing is sent.
    Remove {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        attribution: OptionalAttribution,
    },
    /// Encrypt all secrets, keys that sign and sealed templates with the first key of the key file.
    ///
    /// Put the new key on the first line of the key file of every dispatcher, before the old one, and restart them. Then
    /// run this as the owner of the schema, while dispatchers run. If it is interrupted, run it again. When it says that none
    /// is left, the old key can go.
    Rekey {
        #[command(flatten)]
        key_file: KeyFile,
        #[command(flatten)]
        database: Database,
    },
    /// Print a new key, as a line of a key file. Needs no database.
    NewKey,
}

/// One secret.
#[derive(Args)]
struct Which {
    /// The agent whose templates may name it.
    agent: String,
    /// Its name: a letter, then letters, digits, `_` and `-`.
    #[arg(value_parser = name)]
    name: String,
    #[command(flatten)]
    database: Database,
}

fn name(text: &str) -> Result<String, String> {
    match secret::is_name(text) {
        true => Ok(text.to_owned()),
        false => Err("a name is an ASCII letter, and then at most 63 letters, digits, `_` and `-`".to_owned()),
    }
}

impl Arguments {
    /// Whether the command only reads.
    pub(super) fn only_reads(&self) -> bool {
        matches!(self.command, Command::List { .. })
    }

    /// Whether the command needs the owner of the schema.
    pub(super) fn needs_owner(&self) -> bool {
        matches!(self.command, Command::Rekey { .. })
    }

    pub(super) async fn run(self) -> Result<(), CliError> {
        match self.command {
            Command::Set { which, key_file, old_keys_are_lost, attribution } => {
                set(which, &key_file, old_keys_are_lost, &attribution).await
            }
            Command::List { agent, format, database } => list(&agent, format, &database).await,
            Command::Remove { which, attribution } => remove(which, &attribution).await,
            Command::Rekey { key_file, database } => rekey(&key_file, &database).await,
            Command::NewKey => print_line(&new_key_line()?),
        }
    }
}

async fn set(
    which: Which,
    key_file: &KeyFile,
    old_keys_are_lost: bool,
    attribution: &OptionalAttribution,
) -> Result<(), CliError> {
    let (by, keyring) = (attribution.by()?, key_file.required()?);
    let value = value_from_stdin()?;
    let owner = Owner { agent: &which.agent, name: &which.name };
    let sealed = keyring.seal(owner, &value)?;
    drop(value);
    let store = which.database.open(ONE_CONNECTION).await?;
    if !old_keys_are_lost {
        keys::admit(&store, &keyring).await?;
    }
    let reason = attribution.reason.as_deref();
    store.set_secret(&SecretChange { agent: &which.agent, name: &which.name, by: &by, reason }, &sealed).await?;
    unknown::warn_of_agent(&store, &which.agent).await?;
    print_line(&format!("set the secret {} of {}", which.name, visible(&which.agent)))
}

/// The value, without one line break at its end.
fn value_from_stdin() -> Result<Zeroizing<String>, CliError> {
    let refused = |source| CliError::System { what: "read the secret from standard input as UTF-8 text", source };
    // With room for all of it: a text that grows leaves copies behind that are not wiped.
    let most = MAX_CERTIFICATE_BYTES + "\r\n".len();
    let mut value = Zeroizing::new(String::with_capacity(2 * (most + 1)));
    std::io::stdin().lock().take(most as u64 + 1).read_to_string(&mut value).map_err(refused)?;
    let end = value.strip_suffix('\n').map_or(value.len(), |line| line.strip_suffix('\r').unwrap_or(line).len());
    value.truncate(end);
    Ok(value)
}

async fn list(agent: &str, format: Format, database: &Database) -> Result<(), CliError> {
    let store = database.open(ONE_CONNECTION).await?;
    let secrets = store.secrets(agent, MOST_LISTED).await?;
    let mut table = Table::new(&["name", "set", "by", "reason", "key"]);
    let mut objects = Vec::with_capacity(secrets.len());
    for one in &secrets {
        let by = shown_attribution(one.set_by.as_deref(), one.db_user.as_deref());
        let reason = one.reason.clone().unwrap_or_default();
        table.row(vec![one.name.clone(), time(one.set_at), by, reason, one.key_id.clone()]);
        objects.push(json!({
            "name": one.name, "set_at": one.set_at, "set_by": one.set_by, "db_user": one.db_user, "reason": one.reason,
            "key_id": one.key_id,
        }));
    }
    table.print(format, &objects)?;
    if secrets.is_empty() {
        unknown::say(&store, Some(agent), None).await?;
    }
    let VersionCounts { sealed, clear } = store.version_counts(Some(agent)).await?;
    if sealed > 0 {
        eprintln!(
            "of the versions of the agent's actions, {sealed} are sealed with keys of the key file, and {clear} are not"
        );
    }
    Ok(())
}

async fn remove(which: Which, attribution: &OptionalAttribution) -> Result<(), CliError> {
    let by = attribution.by()?;
    let store = which.database.open(ONE_CONNECTION).await?;
    let change =
        SecretChange { agent: &which.agent, name: &which.name, by: &by, reason: attribution.reason.as_deref() };
    match store.remove_secret(&change).await? {
        true => print_line(&format!("removed the secret {} of {}", which.name, visible(&which.agent))),
        false => Err(CliError::Problem(format!(
            "agent {0} has no secret {1}; `postcall secret list {0}` shows what it has",
            visible(&which.agent),
            which.name
        ))),
    }
}

async fn rekey(key_file: &KeyFile, database: &Database) -> Result<(), CliError> {
    let keys = key_file.required()?;
    rekey::run(&keys, &database.open(ONE_CONNECTION).await?).await
}
