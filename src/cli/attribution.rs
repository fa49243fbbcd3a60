//! Who does something by hand, and why: what commands ask for whose trace stays in history.

use clap::Args;
use nix::unistd::{Uid, User};

use super::CliError;

/// Longest name of a person, in characters, as the CHECK constraints have it.
const MAX_PERSON_CHARS: usize = 200;
/// Longest reason, in characters, as the CHECK constraints have it.
const MAX_REASON_CHARS: usize = 1_000;

/// Who does it. The database records its own user beside this name, which a person can choose.
#[derive(Args)]
pub(super) struct Author {
    /// Who says so. By default the environment's USER, or else the user of this process.
    #[arg(long, value_name = "NAME", value_parser = person)]
    by: Option<String>,
}

impl Author {
    /// The name; never empty.
    pub(super) fn name(&self) -> Result<String, CliError> {
        let from_environment = || std::env::var("USER").ok().and_then(|name| person(&name).ok());
        let from_system = || User::from_uid(Uid::current()).ok().flatten().and_then(|user| person(&user.name).ok());
        self.by
            .clone()
            .or_else(from_environment)
            .or_else(from_system)
            .ok_or_else(|| CliError::Problem("who does this cannot be found out; say it by --by NAME".to_owned()))
    }
}

/// Who, and why.
#[derive(Args)]
pub(super) struct Attribution {
    /// Why. It stays in history for good, so keep personal data out of it.
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    pub(super) reason: String,

    #[command(flatten)]
    author: Author,
}

impl Attribution {
    /// Who it is; never empty.
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

/// Text in one line that says something, without space around it.
fn said(text: &str, most: usize) -> Result<String, String> {
    let text = text.trim();
    match text.chars().count() {
        0 => Err("it must not be empty".to_owned()),
        count if count > most => Err(format!("it has {count} characters, at most {most} can be kept: say it shorter")),
        _ if text.chars().any(char::is_control) => {
            Err("it must be one line, without line breaks and other control characters".to_owned())
        }
        _ => Ok(text.to_owned()),
    }
}
