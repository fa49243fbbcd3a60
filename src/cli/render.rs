//! `postcall render`: shows what would be sent, without a database and without sending it.

use std::borrow::Cow;
use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::action_source::ActionSource;
use super::table::print_json;
use super::{CliError, read_file};
use crate::domain::call::MAX_CALL_BYTES;
use crate::domain::documented::SAMPLE;
use crate::service::preview::{self, Preview};

/// Show what an action would send for a call.
///
/// Prints one JSON object: method, url, headers, body and the placeholders that found no value. On an error it prints
/// {"error": {code, field, message, line, column}} and exits with status 1. Needs no database and sends nothing.
#[derive(Args)]
pub struct Arguments {
    /// The action file, JSON or TOML; `-` for standard input.
    #[arg(long, value_name = "FILE")]
    action: PathBuf,

    /// The call: a file with one JSON object; `-` for standard input. By default the documented sample (docs/actions.md shows
    /// it).
    #[arg(long, value_name = "FILE")]
    call: Option<PathBuf>,
}

impl Arguments {
    pub(super) fn run(self) -> Result<(), CliError> {
        let action = ActionSource::read(&self.action)?;
        let call = match &self.call {
            Some(file) => Cow::Owned(read_file(file, MAX_CALL_BYTES)?),
            None => Cow::Borrowed(SAMPLE),
        };
        match preview::render(action.text(), &call) {
            Ok(preview) => print_json(&sent(preview)),
            Err(problem) => {
                print_json(&json!({ "error": problem }))?;
                Err(CliError::Said)
            }
        }
    }
}

fn sent(Preview { request, unresolved }: Preview) -> serde_json::Value {
    json!({
        "method": request.method,
        "url": request.url,
        "headers": request.headers,
        "body": request.body,
        "unresolved": unresolved,
    })
}
