//! Arguments for who does something by hand, and why. Commands whose effects stay on record need them.

use clap::Args;
use nix::unistd::{Uid, User};

use super::CliError;

/// Longest name of a person, in characters. The CHECK constraints have the same limit.
const MAX_PERSON_CHARS: usize = 200;
/// Longest reason, in characters. The CHECK constraints have the same limit.
const MAX_REASON_CHARS: usize = 1_000;

/// Who runs the command. The person chooses this name; the database also records its own user.
#[derive(Args)]
pub(super) struct Author {
    /// Who does this. By default the environment variable USER, or else the user of this process.
    #[arg(long, value_name = "NAME", value_parser = person)]
    by: Option<String>,
}

impl Author {
    /// The name; never empty.
    pub(super) fn name(&self) -> Result<String, CliError> {
        let from_environment = || std::env::var("USER").ok().and_then(|name| person(&name).ok());
        let from_system = || User::from_uid(Uid::current()).ok().flatten().and_then(|user| person(&user.name).ok());
        self.by.clone().or_else(from_environment).or_else(from_system).ok_or_else(|| {
            CliError::Problem("cannot find out who runs this command: give a name with --by NAME".to_owned())
        })
    }
}

/// Who runs the command, and why.
#[derive(Args)]
pub(super) struct Attribution {
    /// Why you do this. It stays on record, so keep personal data out of it.
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    pub(super) reason: String,

    #[command(flatten)]
    author: Author,
}

impl Attribution {
    /// The person's name; never empty.
    pub(super) fn by(&self) -> Result<String, CliError> {
        self.author.name()
    }
}

/// Who runs the command, and why if that person says so.
#[derive(Args)]
pub(super) struct OptionalAttribution {
    /// Why you do this. It stays on record, so keep personal data out of it.
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    pub(super) reason: Option<String>,

    #[command(flatten)]
    author: Author,
}

impl OptionalAttribution {
    /// The person's name; never empty.
    pub(super) fn by(&self) -> Result<String, CliError> {
        self.author.name()
    }
}

fn person(text: &str) -> Result<String, String> {
    said(text, MAX_PERSON_CHARS)
}

fn reason(text: &str) -> Result<String, String> {
    said(text, MAX_REASON_CHARS)
}

/// Checks that a text is one line, not empty and not too long. Returns it without the space around it.
fn said(text: &str, most: usize) -> Result<String, String> {
    let text = text.trim();
    match text.chars().count() {
        0 => Err("it must not be empty".to_owned()),
        count if count > most => Err(format!("it has {count} characters, at most {most} can be kept: shorten it")),
        _ if text.chars().any(char::is_control) => {
            Err("it must be one line, without line breaks and other control characters".to_owned())
        }
        _ => Ok(text.to_owned()),
    }
}
