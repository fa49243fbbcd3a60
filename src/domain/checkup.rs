//! What `postcall doctor` finds: a list of checks, each with a verdict and, if something is wrong, its cure.

use serde::Serialize;

use super::closed_set::closed_set;

closed_set! {
    /// The verdict of a check.
    pub enum Verdict {
        /// Nothing is wrong.
        Ok = "ok",
        /// It works, and may not go on to.
        Warning = "warning",
        /// Something does not work, or will not for long.
        Problem = "problem",
    }
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was looked at.
    pub what: &'static str,
    /// How it is.
    pub verdict: Verdict,
    /// What was found.
    pub found: String,
    /// What to do; `None` if nothing is wrong.
    pub cure: Option<String>,
}

impl Check {
    /// A check that found nothing wrong.
    pub fn ok(what: &'static str, found: impl Into<String>) -> Check {
        Check { what, verdict: Verdict::Ok, found: found.into(), cure: None }
    }

    /// A check that found what may not go on.
    pub fn warning(what: &'static str, found: impl Into<String>, cure: impl Into<String>) -> Check {
        Check { what, verdict: Verdict::Warning, found: found.into(), cure: Some(cure.into()) }
    }

    /// A check that found what does not work.
    pub fn problem(what: &'static str, found: impl Into<String>, cure: impl Into<String>) -> Check {
        Check { what, verdict: Verdict::Problem, found: found.into(), cure: Some(cure.into()) }
    }
}
