//! Arguments for who does something by hand, and why. Commands whose effects stay on record need them.

use clap::Args;
use nix::unistd::{Uid, User};

use super::CliError;
use crate::service::attribution::{person, reason};

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

/// A name that is recorded.
pub(super) fn named(text: &str) -> Result<String, String> {
    person(text)
}
