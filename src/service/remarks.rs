//! What is said of an action, errors and warnings alike, in one form for programs.

use std::ops::Range;

use serde::Serialize;

use super::examination::{Examination, LocatedProblem, LocatedWarning};
use crate::domain::problem::{Field, Position};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The action cannot be published.
    Error,
    /// The action can be published, but is probably not what its author meant.
    Warning,
}

/// An error or a warning.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Remark {
    /// How bad it is.
    pub severity: Severity,
    /// Its stable name.
    pub code: String,
    /// The field it is in.
    pub field: Field,
    /// What is wrong: a sentence for people. That of an error also says what to do.
    pub message: String,
    /// What to do about a warning.
    pub hint: Option<String>,
    /// What is meant in the field's text.
    pub range: Option<Characters>,
    /// The line of the field's text in which the range begins, from 1.
    pub line: Option<usize>,
    /// The column at which the range begins, in characters, from 1.
    pub column: Option<usize>,
}

/// A part of a text, counted in characters (Unicode code points) from 0. The end is not a part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Characters {
    /// The first character.
    pub start: usize,
    /// The character behind the last one.
    pub end: usize,
}

/// What was found out about an action: the errors, and then the warnings.
pub fn remarks(examination: &Examination<'_>) -> Vec<Remark> {
    let errors = examination.problems.iter().map(error);
    errors.chain(examination.warnings.iter().map(warning)).collect()
}

fn error(located: &LocatedProblem<'_>) -> Remark {
    let problem = &located.problem;
    Remark {
        severity: Severity::Error,
        code: problem.code.to_string(),
        field: problem.field,
        message: problem.message.clone(),
        hint: None,
        range: located.range().map(|range| characters(&located.text, &range)),
        line: problem.position.map(|position| position.line),
        column: problem.position.map(|position| position.column),
    }
}

fn warning(LocatedWarning { warning, text }: &LocatedWarning) -> Remark {
    let position = warning.range.as_ref().map(|range| Position::of(text, range.start));
    Remark {
        severity: Severity::Warning,
        code: warning.code.to_string(),
        field: warning.field,
        message: warning.message.clone(),
        hint: warning.hint.clone(),
        range: warning.range.as_ref().map(|range| characters(text, range)),
        line: position.map(|position| position.line),
        column: position.map(|position| position.column),
    }
}

/// The bytes `range` of `text` in characters.
pub(super) fn characters(text: &str, range: &Range<usize>) -> Characters {
    let count = |offset| text.get(..offset).unwrap_or(text).chars().count();
    Characters { start: count(range.start), end: count(range.end) }
}
