//! Examining an action before it is published: everything that is wrong with it, each problem with the text it is in, and
//! what is allowed but is probably not what its author meant.

use std::borrow::Cow;
use std::ops::Range;

use crate::domain::action::{ActionSpec, naming_problems};
use crate::domain::action_file::{self, ActionFile};
use crate::domain::problem::{Field, Problem};
use crate::render::{CompiledAction, diagnostic};
use crate::webhook::{TargetRefusal, refused_by_default};

/// A problem with the text to which its position refers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocatedProblem<'t> {
    /// What is wrong, with line and column.
    pub problem: Problem,
    /// The text of the file, or that of a template.
    pub text: Cow<'t, str>,
}

impl LocatedProblem<'_> {
    /// The bytes of the character at the problem's position in [`Self::text`]; empty where the position is the text's end. `None`
    /// if the problem has no position.
    pub fn range(&self) -> Option<Range<usize>> {
        let start = self.problem.position?.offset(&self.text);
        let marked = self.text.get(start..).and_then(|rest| rest.chars().next());
        Some(start..start + marked.map_or(0, char::len_utf8))
    }
}

/// Why an action may not be published. At least one of the lists is not empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotPublishable<'t> {
    /// What is wrong with the names of the agent and of the action: sentences for people.
    pub naming: Vec<String>,
    /// What is wrong with the file.
    pub problems: Vec<LocatedProblem<'t>>,
}

/// Reads and compiles an action file.
///
/// # Errors
/// All problems of the file or, if it can be read, of its templates; never an empty list.
pub fn examine(text: &str) -> Result<ActionFile, Vec<LocatedProblem<'_>>> {
    let in_file = |problem| LocatedProblem { problem, text: Cow::Borrowed(text) };
    let file = ActionFile::parse(text).map_err(|problems| problems.into_iter().map(in_file).collect::<Vec<_>>())?;
    let in_template = |problem: Problem| {
        let template = template(&file.spec, problem.field).to_owned();
        LocatedProblem { problem, text: Cow::Owned(template) }
    };
    match CompiledAction::compile(&file.spec) {
        Ok(_) => Ok(file),
        Err(problems) => Err(problems.into_iter().map(in_template).collect()),
    }
}

/// As [`examine`], for an action that is to be published for `agent` under `name`.
///
/// # Errors
/// All problems of the names and of the file.
pub fn examine_to_publish<'t>(agent: &str, name: &str, text: &'t str) -> Result<ActionFile, NotPublishable<'t>> {
    let naming = naming_problems(agent, name);
    match examine(text) {
        Ok(file) if naming.is_empty() => Ok(file),
        Ok(_) => Err(NotPublishable { naming, problems: Vec::new() }),
        Err(problems) => Err(NotPublishable { naming, problems }),
    }
}

/// Formats problems as compilers do, each with the line that it is in.
pub fn shown(problems: &[LocatedProblem<'_>]) -> String {
    let parts: Vec<String> = problems.iter().map(|located| diagnostic::show(&located.problem, &located.text)).collect();
    parts.join("\n")
}

fn template(spec: &ActionSpec, field: Field) -> &str {
    match field {
        Field::Url => &spec.url,
        Field::Headers => spec.headers.as_deref().unwrap_or_default(),
        Field::Body => spec.body.as_deref().unwrap_or_default(),
        Field::Action | Field::Method | Field::Timeout | Field::Call => "",
    }
}

/// Warnings of what is allowed but is probably not what the author meant, and of targets that dispatchers refuse by
/// default: sentences for people.
pub fn warnings(spec: &ActionSpec) -> Vec<String> {
    action_file::warnings(spec).into_iter().chain(target_warnings(&spec.url)).collect()
}

/// Warnings for a target that dispatchers refuse unless their operators permit it. Scheme and host are literal, so the
/// template contains them. A name is not resolved here.
fn target_warnings(template: &str) -> Vec<String> {
    let Ok(url) = url::Url::parse(template) else { return Vec::new() };
    let host = url.host_str().unwrap_or_default();
    let warning = |refusal| match refusal {
        TargetRefusal::Scheme => {
            "url: plain http is refused as `blocked` unless the dispatchers run with --allow-http: use https".to_owned()
        }
        TargetRefusal::Address => format!(
            "url: {host} is not a public address and is refused as `blocked` unless the dispatchers run with --allow-target"
        ),
    };
    refused_by_default(&url).into_iter().map(warning).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// What the range of each problem marks, with the problem's field.
    fn marked(file: &str) -> Vec<(Field, Option<String>)> {
        let problems = examine(file).unwrap_err();
        problems.iter().map(|one| (one.problem.field, one.range().map(|range| one.text[range].to_owned()))).collect()
    }

    #[test]
    fn each_problem_is_marked_in_the_text_that_it_is_in() {
        let file =
            json!({ "method": "POST", "url": "https://a.test/é/${}", "body": "{\"ü\": 1\n\"b\": 2}" }).to_string();
        assert_eq!(marked(&file), [(Field::Url, Some("$".to_owned())), (Field::Body, Some("\n".to_owned()))]);
        assert_eq!(marked("{\n\"méthod\": \"POST\""), [(Field::Action, Some(String::new()))]);
        let too_long = " ".repeat(action_file::MAX_ACTION_FILE_BYTES + 1);
        assert_eq!(marked(&too_long), [(Field::Action, None)]);
    }

    #[test]
    fn an_action_is_published_only_if_its_names_and_its_file_are_right_and_all_that_is_wrong_is_said_at_once() {
        let good = json!({ "method": "POST", "url": "https://a.test/" }).to_string();
        assert!(examine_to_publish("agent", "name", &good).is_ok());
        let counted = |agent, text| {
            examine_to_publish(agent, "name", text).map_err(|refused| (refused.naming.len(), refused.problems.len()))
        };
        assert_eq!(counted("", &good), Err((1, 0)));
        assert_eq!(counted("agent", "{"), Err((0, 1)));
        assert_eq!(counted("", "{"), Err((1, 1)));
    }
}
