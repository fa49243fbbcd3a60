//! `postcall console hash-password` and `postcall console link`: who may visit the console.

use std::io::Read;
use std::path::PathBuf;

use clap::Args;

use super::attribution::named;
use super::console::{read_key, told};
use super::databases::Databases;
use super::{CliError, ONE_CONNECTION, print_line};
use crate::console::{LONGEST_LINK, PublicUrl, hash, line};
use crate::domain::moment;
use crate::domain::visible::visible;

/// The most of standard input that is read: the longest password, and a line break.
const MOST_INPUT: u64 = 2_048;

/// Read a password from standard input, and write a line for the file of users.
///
/// Append the line to the file that `postcall console --users` names. The password is read up to
/// the first line break, and is not kept anywhere: the line has a hash of it (Argon2id).
///
///   postcall console hash-password ada --roles publisher < password >> users
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(super) struct HashArguments {
    /// The name with which the person logs in, and which is recorded with what they change.
    #[arg(value_parser = named)]
    name: String,

    /// The roles, separated by commas: viewer, auditor, operator, publisher. Each may also do what those before it may.
    #[arg(long, default_value = "viewer", value_name = "ROLE,…")]
    roles: String,
}

/// Make a link that shows one agent and its deliveries for a while, and changes nothing.
///
/// Whoever has the link needs no password. It cannot be taken back before its time is over, except by another key, which
/// ends all links. The agent must have an action.
#[derive(Args)]
pub(super) struct LinkArguments {
    /// The agent.
    agent: String,

    /// For how long, from now on: 30m, 24h, 7d; at most 30d.
    #[arg(long = "for", value_name = "SPAN", value_parser = span)]
    seconds: i64,

    /// The file with the key: the same as for the console.
    #[arg(long, env = "POSTCALL_CONSOLE_LINK_KEY_FILE", value_name = "FILE")]
    link_key_file: PathBuf,

    /// The address by which browsers reach the console.
    #[arg(long, env = "POSTCALL_CONSOLE_PUBLIC_URL", default_value = "http://127.0.0.1:8088", value_name = "URL")]
    public_url: PublicUrl,

    /// The database of the agent, if the console serves several: its name, as the console has it. The link shows nothing of the
    /// others.
    #[arg(long = "in", value_name = "NAME")]
    database: Option<String>,

    #[command(flatten)]
    databases: Databases,
}

fn span(text: &str) -> Result<i64, String> {
    let span = moment::span(text).ok_or_else(|| "expected how long, such as 30m, 24h or 7d".to_owned())?;
    match span.num_seconds() {
        0 => Err("expected a time that is longer than nothing".to_owned()),
        most if most > LONGEST_LINK => Err("a link counts for 30 days at most".to_owned()),
        seconds => Ok(seconds),
    }
}

impl HashArguments {
    pub(super) fn run(self) -> Result<(), CliError> {
        let mut input = String::new();
        let read = std::io::stdin().take(MOST_INPUT).read_to_string(&mut input);
        read.map_err(|source| CliError::System { what: "read the password from standard input", source })?;
        let password = input.lines().next().unwrap_or_default();
        let hash = hash(password).map_err(told)?;
        let line = line(&self.name, &self.roles, &hash);
        print_line(&line.map_err(|what| CliError::Problem(format!("this is no line for the file of users: {what}")))?)
    }
}

impl LinkArguments {
    pub(super) async fn run(self) -> Result<(), CliError> {
        let key = read_key(&self.link_key_file)?;
        let database = self.databases.one_of_all(self.database.as_deref())?;
        let store = database.open(ONE_CONNECTION).await?;
        if store.action_summaries(&self.agent, None, 1).await?.is_empty() {
            let agent = visible(&self.agent);
            return Err(CliError::Problem(format!(
                "agent {agent} has no action; `postcall action list` shows the agents that have"
            )));
        }
        // The console, too, goes by the database's clock.
        let until = store.now().await?.timestamp().saturating_add(self.seconds);
        print_line(&self.public_url.of(&format!("/link/{}", key.token(self.database.as_deref(), &self.agent, until))))
    }
}
