//! What an action would send for a call. Nothing is sent, and no database is asked.

use crate::domain::action_file::{ActionFile, ActionText};
use crate::domain::call::Call;
use crate::domain::problem::Problem;
use crate::domain::request::Request;
use crate::render::CompiledAction;

/// What would be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preview {
    /// The request.
    pub request: Request,
    /// All placeholders that found no value: the request names only the first of them.
    pub unresolved: Vec<String>,
}

/// Renders the action file `action` for `call`.
///
/// # Errors
/// The first problem; [`examine`](super::examination::examine) returns all problems of an action.
pub fn render<'t>(action: impl Into<ActionText<'t>>, call: &str) -> Result<Preview, Problem> {
    let file = ActionFile::parse(action).map_err(first)?;
    let compiled = CompiledAction::compile(&file.spec).map_err(first)?;
    let call = Call::new(call)?;
    Ok(Preview { request: compiled.render(call)?, unresolved: compiled.unresolved(call)? })
}

/// The first problem.
pub(super) fn first(mut problems: Vec<Problem>) -> Problem {
    problems.swap_remove(0)
}
