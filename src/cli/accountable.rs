//! Who does something by hand, and why: what commands ask for whose trace stays in history.

use clap::Args;
use nix::unistd::{Uid, User};

use super::CliError;

/// Who, and why.
#[derive(Args)]
pub(super) struct Accountable {
    /// Why. It stays in history for good, so keep personal data out of it.
    #[arg(long, value_name = "TEXT", value_parser = said)]
    pub(super) reason: String,

    /// Who says so. By default the environment's USER, or else the user of this process.
    #[arg(long, value_name = "NAME", value_parser = said)]
    by: Option<String>,
}

impl Accountable {
    /// Who it is; never empty.
    pub(super) fn by(&self) -> Result<String, CliError> {
        let from_environment = || std::env::var("USER").ok().and_then(|name| said(&name).ok());
        let from_system = || User::from_uid(Uid::current()).ok().flatten().and_then(|user| said(&user.name).ok());
        self.by
            .clone()
            .or_else(from_environment)
            .or_else(from_system)
            .ok_or_else(|| CliError::Problem("who does this cannot be found out; say it by --by NAME".to_owned()))
    }
}

/// Text that says something, without space around it.
fn said(text: &str) -> Result<String, String> {
    match text.trim() {
        "" => Err("it must not be empty".to_owned()),
        text => Ok(text.to_owned()),
    }
}
