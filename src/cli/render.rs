//! `postcall render`: shows what would be sent, without a database and without sending it.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::table::print_json;
use super::{CliError, read_file};
use crate::domain::action_file::{ActionFile, MAX_ACTION_FILE_BYTES};
use crate::domain::call::{Call, MAX_CALL_BYTES};
use crate::domain::problem::Problem;
use crate::domain::request::Request;
use crate::render::CompiledAction;

/// Show what an action would send for a call.
///
/// Prints one JSON object: method, url, headers, body and the placeholders that found no value. On an error it prints
/// {"error": {code, field, message, line, column}} and exits with status 1. Needs no database and sends nothing.
#[derive(Args)]
pub struct Arguments {
    /// The action file; `-` for standard input.
    #[arg(long, value_name = "FILE")]
    action: PathBuf,

    /// The call: a file with one JSON object; `-` for standard input.
    #[arg(long, value_name = "FILE")]
    call: PathBuf,
}

impl Arguments {
    pub(super) fn run(self) -> Result<(), CliError> {
        let action = read_file(&self.action, MAX_ACTION_FILE_BYTES)?;
        let call = read_file(&self.call, MAX_CALL_BYTES)?;
        match render(&action, &call) {
            Ok((request, unresolved)) => print_json(&sent(request, unresolved)),
            Err(problem) => {
                print_json(&json!({ "error": described(&problem) }))?;
                Err(CliError::Said)
            }
        }
    }
}

/// The request, and all placeholders that found no value: a request names only the first of them.
fn render(action: &str, call: &str) -> Result<(Request, Vec<String>), Problem> {
    let file = ActionFile::parse(action).map_err(first)?;
    let compiled = CompiledAction::compile(&file.spec).map_err(first)?;
    let call = Call::new(call)?;
    Ok((compiled.render(call)?, compiled.unresolved(call)?))
}

/// The first problem; `action check` shows all of them.
fn first(mut problems: Vec<Problem>) -> Problem {
    problems.swap_remove(0)
}

fn sent(request: Request, unresolved: Vec<String>) -> serde_json::Value {
    json!({
        "method": request.method,
        "url": request.url,
        "headers": request.headers,
        "body": request.body,
        "unresolved": unresolved,
    })
}

/// A problem as JSON.
pub(super) fn described(problem: &Problem) -> serde_json::Value {
    json!({
        "code": problem.code,
        "field": problem.field,
        "message": problem.message,
        "line": problem.place.map(|place| place.line),
        "column": problem.place.map(|place| place.column),
    })
}
