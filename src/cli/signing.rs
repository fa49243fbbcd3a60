//! `postcall action signing …`: signs the requests of an agent's actions (Standard Webhooks 1.0.0).

use chrono::TimeDelta;
use clap::{Args, Subcommand};
use serde_json::json;

use super::attribution::OptionalAttribution;
use super::key_file::KeyFile;
use super::table::{Table, time};
use super::{CliError, Database, Format, ONE_CONNECTION, print_line};
use crate::domain::chain::chain;
use crate::domain::moment::span;
use crate::domain::signature::{MAX_KEEP_SECONDS, Scheme};
use crate::domain::visible::visible;
use crate::service::signing::{Begun, NotChanged, enable, rotate};
use crate::store::signing::{NotAdded, SigningChange};

/// Sign the requests of all actions of an agent, so that receivers can tell that postcall sent them.
///
/// Signed requests have the headers webhook-id, webhook-timestamp and webhook-signature, as Standard Webhooks 1.0.0 describes them.
/// A receiver verifies them with a library of that standard, or with a few lines: docs/receivers.md shows how.
///
/// The key is encrypted with the key of --key-file, which each dispatcher needs, too: one that cannot open the key sends nothing
/// for this agent, and its deliveries fail. First steps: `postcall secret new-key > key && chmod 600 key`, then
/// `postcall action signing enable AGENT --key-file key`.
#[derive(Args)]
pub(super) struct SigningArguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Sign the agent's requests from now on. Prints what the receivers need, on stdout.
    ///
    /// By default this is a secret (whsec_…) that postcall and the receivers have. It is shown this one time, and never again.
    /// Everything that is claimed from now on is signed, also for calls that already wait.
    Enable {
        #[command(flatten)]
        whose: Whose,
        /// Sign with a pair of keys (v1a, ed25519) instead: receivers get a public key (whpk_…), with which they can verify and
        /// not sign.
        #[arg(long)]
        asymmetric: bool,
        #[command(flatten)]
        key_file: KeyFile,
    },
    /// Give the agent a new key of the same kind. Prints what the receivers need, on stdout.
    ///
    /// The keys before it go on signing beside the new one for --keep-old: each request has several signatures then, and a receiver
    /// takes it if one of them is right. So receivers can change to the new key at any time meanwhile. At most 4 keys sign at a time.
    Rotate {
        #[command(flatten)]
        whose: Whose,
        /// How long older keys go on signing: 90s, 30m, 24h, 7d; at most 30d. 0s ends them at once, as after a key became known.
        #[arg(long, value_name = "SPAN", default_value = "24h", value_parser = keep_old)]
        keep_old: u32,
        #[command(flatten)]
        key_file: KeyFile,
    },
    /// Show the keys that sign an agent's requests now: their kinds and times, and public keys. Never a secret.
    ShowPublic {
        /// The agent.
        agent: String,
        /// How to print them.
        #[arg(long, value_enum, default_value = "table")]
        format: Format,
        #[command(flatten)]
        database: Database,
    },
    /// Send the agent's requests unsigned from now on, and delete its keys.
    Disable {
        #[command(flatten)]
        whose: Whose,
    },
}

/// Whose signing is changed, and by whom.
#[derive(Args)]
struct Whose {
    /// The agent whose requests are meant.
    agent: String,
    #[command(flatten)]
    database: Database,
    #[command(flatten)]
    attribution: OptionalAttribution,
}

/// A span of time in seconds.
fn keep_old(text: &str) -> Result<u32, String> {
    let seconds = span(text).map(|span: TimeDelta| span.num_seconds()).and_then(|seconds| u32::try_from(seconds).ok());
    seconds
        .filter(|seconds| *seconds <= MAX_KEEP_SECONDS)
        .ok_or_else(|| "expected a span of at most 30 days, such as 30m, 24h or 7d".to_owned())
}

impl SigningArguments {
    /// Whether the command only reads.
    pub(super) fn only_reads(&self) -> bool {
        matches!(self.command, Command::ShowPublic { .. })
    }

    pub(super) async fn run(self) -> Result<(), CliError> {
        match self.command {
            Command::Enable { whose, asymmetric, key_file } => {
                let (by, keys) = (whose.attribution.by()?, key_file.required()?);
                let store = whose.database.open(ONE_CONNECTION).await?;
                let scheme = if asymmetric { Scheme::Asymmetric } else { Scheme::Symmetric };
                let begun = enable(&store, &keys, &whose.change(&by), scheme).await.map_err(in_cli_words)?;
                tell(&whose.agent, &begun, "is signed from now on")
            }
            Command::Rotate { whose, keep_old, key_file } => {
                let (by, keys) = (whose.attribution.by()?, key_file.required()?);
                let store = whose.database.open(ONE_CONNECTION).await?;
                let begun = rotate(&store, &keys, &whose.change(&by), keep_old).await.map_err(in_cli_words)?;
                let older = match begun.older {
                    0 => "is signed with the new key alone from now on".to_owned(),
                    older => format!(
                        "is signed with the new key from now on, and for {keep_old} s at most with {older} older"
                    ),
                };
                tell(&whose.agent, &begun, &older)
            }
            Command::ShowPublic { agent, format, database } => show_public(&agent, format, &database).await,
            Command::Disable { whose } => disable(&whose).await,
        }
    }
}

impl Whose {
    fn change<'a>(&'a self, by: &'a str) -> SigningChange<'a> {
        SigningChange { agent: &self.agent, by, reason: self.attribution.reason.as_deref() }
    }
}

fn in_cli_words(refused: NotChanged) -> CliError {
    match refused {
        NotChanged::NotAdded(NotAdded::Store(error)) => error.into(),
        other => CliError::Problem(chain(&other).to_string()),
    }
}

/// Says on stderr what was done, and prints on stdout nothing but what the receivers need.
fn tell(agent: &str, begun: &Begun, done: &str) -> Result<(), CliError> {
    eprintln!("what is sent for {} {done} ({})", visible(agent), begun.scheme);
    match begun.scheme {
        Scheme::Symmetric => eprintln!(
            "The secret below is shown this one time. Give it to the receivers on a safe way; whoever has it can sign as postcall does."
        ),
        Scheme::Asymmetric => {
            eprintln!(
                "The public key below is for the receivers. `postcall action signing show-public` shows it again."
            );
        }
    }
    print_line(&begun.for_receiver)
}

async fn show_public(agent: &str, format: Format, database: &Database) -> Result<(), CliError> {
    let keys = database.open(ONE_CONNECTION).await?.signing_keys(agent).await?;
    if keys.is_empty() {
        return Err(CliError::Problem(format!(
            "the requests of {0} are not signed: `postcall action signing enable {0}` begins it",
            visible(agent)
        )));
    }
    let mut table = Table::new(&["scheme", "public key", "signs since", "signs until", "key"]);
    let mut objects = Vec::with_capacity(keys.len());
    for one in &keys {
        table.row(vec![
            one.scheme.clone(),
            one.public_key.clone().unwrap_or_else(|| "none: a shared secret".to_owned()),
            time(one.made_at),
            one.signs_until.map(time).unwrap_or_default(),
            one.key_id.clone(),
        ]);
        objects.push(json!({
            "scheme": one.scheme, "public_key": one.public_key, "signs_since": one.made_at, "signs_until": one.signs_until,
            "key_id": one.key_id,
        }));
    }
    table.print(format, &objects)
}

async fn disable(whose: &Whose) -> Result<(), CliError> {
    let by = whose.attribution.by()?;
    let store = whose.database.open(ONE_CONNECTION).await?;
    match store.disable_signing(&whose.change(&by)).await? {
        true => print_line(&format!("what is sent for {} is not signed from now on", visible(&whose.agent))),
        false => Err(in_cli_words(NotChanged::NotEnabled)),
    }
}
