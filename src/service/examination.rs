//! Examining an action before it is published: everything that is wrong with it, each problem with the text it is in, and
//! what is allowed but is probably not what its author meant.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use crate::domain::action::{ActionSpec, naming_problems};
use crate::domain::action_file::{ActionFile, ActionText, Draft};
use crate::domain::host::why_unlikely;
use crate::domain::problem::{Field, Position, Problem};
use crate::domain::warning::{Warning, WarningCode};
use crate::render::{CompiledAction, advice, certificate_without_tls, diagnostic, typed};
use crate::webhook::{TargetRefusal, refused_by_default};

/// How much of a host a warning tells, in characters.
const MOST_OF_A_HOST: usize = 80;

/// A problem with the text to which its position refers.
#[derive(Clone, PartialEq, Eq)]
pub struct LocatedProblem<'t> {
    /// What is wrong, with line and column.
    pub problem: Problem,
    /// The text of the file, or that of a template.
    pub text: Cow<'t, str>,
}

/// Without the text: tokens are typed into templates.
impl fmt::Debug for LocatedProblem<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocatedProblem").field("problem", &self.problem).finish_non_exhaustive()
    }
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

/// A warning with the text to which its range refers.
#[derive(Clone, PartialEq, Eq)]
pub struct LocatedWarning {
    /// What is probably a slip.
    pub warning: Warning,
    /// The text of the field; empty for a field that is no template.
    pub text: String,
}

/// Without the text, as that of a problem.
impl fmt::Debug for LocatedWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocatedWarning").field("warning", &self.warning).finish_non_exhaustive()
    }
}

impl LocatedWarning {
    /// The warning in one line for people: field, message, hint, and where it is.
    pub fn shown(&self) -> String {
        let Warning { field, message, hint, range, .. } = &self.warning;
        let hint = hint.as_ref().map(|hint| format!(": {hint}")).unwrap_or_default();
        let place = range.as_ref().map(|range| {
            let Position { line, column } = Position::of(&self.text, range.start);
            format!(" (line {line}, column {column})")
        });
        format!("{field}: {message}{hint}{}", place.unwrap_or_default())
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

impl NotPublishable<'_> {
    /// The same without the text of the file.
    pub fn into_owned(self) -> NotPublishable<'static> {
        let owned = |LocatedProblem { problem, text }: LocatedProblem<'_>| LocatedProblem {
            problem,
            text: Cow::Owned(text.into_owned()),
        };
        NotPublishable { naming: self.naming, problems: self.problems.into_iter().map(owned).collect() }
    }
}

/// All that can be said of an action file at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Examination<'t> {
    /// The action, if nothing is wrong with it.
    pub file: Option<ActionFile>,
    /// What is wrong; empty if and only if there is a file.
    pub problems: Vec<LocatedProblem<'t>>,
    /// What is allowed, but is probably not what the author meant: of all fields that could be read.
    pub warnings: Vec<LocatedWarning>,
}

/// How the templates of a version will be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storage {
    /// As they are: there is no key file.
    InClear,
    /// Encrypted, with the key file.
    Sealed,
}

impl Storage {
    /// That of what is published through a store, or by a command, that has the key file or has it not.
    pub fn with_key_file(has_it: bool) -> Storage {
        if has_it { Storage::Sealed } else { Storage::InClear }
    }
}

/// Reads and compiles an action file, and tells all problems and warnings.
pub fn look_at<'t>(text: impl Into<ActionText<'t>>, storage: Storage) -> Examination<'t> {
    let text = text.into();
    let (draft, problems) = Draft::read(text);
    let in_file = |problem| LocatedProblem { problem, text: Cow::Borrowed(text.text) };
    let in_template = |problem: Problem| {
        let template = template(&draft, problem.field).to_owned();
        LocatedProblem { problem, text: Cow::Owned(template) }
    };
    let of_templates =
        CompiledAction::problems(draft.url.as_deref(), text_of(draft.headers.as_ref()), text_of(draft.body.as_ref()));
    let certificate = certificate_without_tls(draft.url.as_deref(), text_of(draft.client_certificate.as_ref()));
    let of_file = problems.into_iter().chain(certificate).map(in_file);
    let mut problems: Vec<_> = of_file.chain(of_templates.into_iter().map(in_template)).collect();
    let warnings = located(warnings_of(&draft, storage), &draft);
    let file = if problems.is_empty() { draft.file() } else { None };
    // What concerns none of the templates alone: a dispatcher compiles the action as a whole, too.
    let of_action = file.as_ref().and_then(|file| CompiledAction::compile(&file.spec).err()).unwrap_or_default();
    problems.extend(of_action.into_iter().map(in_file));
    let file = file.filter(|_| problems.is_empty());
    Examination { file, problems, warnings }
}

/// Reads and compiles an action file.
///
/// # Errors
/// All problems of the file and of its templates; never an empty list.
pub fn examine<'t>(text: impl Into<ActionText<'t>>) -> Result<ActionFile, Vec<LocatedProblem<'t>>> {
    let Examination { file, problems, warnings: _ } = look_at(text, Storage::Sealed);
    file.ok_or(problems)
}

/// As [`examine`], for an action that is to be published for `agent` under `name`.
///
/// # Errors
/// All problems of the names and of the file.
pub fn examine_to_publish<'t>(
    agent: &str,
    name: &str,
    text: impl Into<ActionText<'t>>,
) -> Result<ActionFile, NotPublishable<'t>> {
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

/// The text of a field that may be left out.
fn text_of(field: Option<&Option<String>>) -> Option<&str> {
    field.and_then(|text| text.as_deref())
}

/// The text to which a field's positions and ranges refer, if it is a template.
fn template(draft: &Draft, field: Field) -> &str {
    let text = match field {
        Field::Url => draft.url.as_deref(),
        Field::Headers => text_of(draft.headers.as_ref()),
        Field::Body => text_of(draft.body.as_ref()),
        Field::Action | Field::Method | Field::Timeout | Field::Call => None,
    };
    text.unwrap_or_default()
}

/// Warnings of what is allowed but is probably not what the author meant, and of targets that dispatchers refuse by
/// default, each with its place; and of secrets that would be stored in clear.
pub fn warnings(spec: &ActionSpec, storage: Storage) -> Vec<LocatedWarning> {
    let draft = Draft::from(spec);
    located(warnings_of(&draft, storage), &draft)
}

fn located(warnings: Vec<Warning>, draft: &Draft) -> Vec<LocatedWarning> {
    let located = |warning: Warning| LocatedWarning { text: template(draft, warning.field).to_owned(), warning };
    warnings.into_iter().map(located).collect()
}

fn warnings_of(draft: &Draft, storage: Storage) -> Vec<Warning> {
    // A body that is not sent draws one warning, and none of what is in it.
    let body = text_of(draft.body.as_ref()).filter(|_| draft.sends_body());
    let templates =
        [(Field::Url, draft.url.as_deref()), (Field::Headers, text_of(draft.headers.as_ref())), (Field::Body, body)];
    let advice = templates.into_iter().flat_map(|(field, text)| advice::warnings(field, text.unwrap_or_default()));
    let typed = templates.into_iter().filter(|_| storage == Storage::InClear);
    let typed = typed.flat_map(|(field, text)| typed::warnings(field, text.unwrap_or_default()));
    let target = target_warnings(template(draft, Field::Url));
    draft.warnings().into_iter().chain(target).chain(advice).chain(typed).collect()
}

/// Warnings for a target that dispatchers refuse unless their operators permit it. Scheme and host are literal, so the
/// template contains them. A name is not resolved here.
fn target_warnings(template: &str) -> Vec<Warning> {
    let Ok(url) = url::Url::parse(template) else { return Vec::new() };
    // Of another scheme, the error says what is wrong with it.
    if !matches!(url.scheme(), "http" | "https") {
        return Vec::new();
    }
    let host = url.host_str().unwrap_or_default();
    let start = template.len() - template.trim_start().len();
    let scheme = start..start + url.scheme().len();
    let authority = scheme.end + "://".len();
    let length = template.get(authority..).and_then(|rest| rest.find(['/', '?', '#']));
    let authority = authority..length.map_or(template.trim_end().len(), |length| authority + length);
    let warning = |refusal| {
        match refusal {
        TargetRefusal::Scheme => Warning::new(
            WarningCode::PlainHttp,
            Field::Url,
            "plain http is refused as `blocked` unless the dispatchers run with --allow-http",
            "use https",
        )
        .at(scheme.clone()),
        TargetRefusal::Port(port) => Warning::new(
            WarningCode::ForbiddenPort,
            Field::Url,
            format!("port {port} is not for web servers and is refused as `blocked` unless the dispatchers run with --allow-port"),
            "use the port of a web server, such as 443, or ask the operator",
        )
        .at(authority.clone()),
        // Only an operator's own rules refuse another port, or a host by name.
        TargetRefusal::OtherPort(_) | TargetRefusal::Denied | TargetRefusal::Address => Warning::new(
            WarningCode::PrivateAddress,
            Field::Url,
            format!("{host} is not a public address and is refused as `blocked` unless the dispatchers run with --allow-target"),
            "use a public address, or ask the operator",
        )
        .at(authority.clone()),
    }
    };
    let mut warnings: Vec<Warning> = refused_by_default(&url).into_iter().map(warning).collect();
    let unlikely = match url.host() {
        // That a host is no place for a placeholder is told as an error.
        Some(url::Host::Domain(name)) if name.contains('$') => None,
        // What means this machine was told above.
        Some(url::Host::Domain(name)) if warnings.iter().all(|told| told.code != WarningCode::PrivateAddress) => {
            why_unlikely(name)
        }
        _ => None,
    };
    warnings.extend(unlikely.map(|why| {
        let start: String = host.chars().take(MOST_OF_A_HOST).collect();
        let more = if start.len() < host.len() { "…" } else { "" };
        let (message, hint) = (format!("the host {start}{more} {why}"), "write the whole name, as in crm.example.com");
        Warning::new(WarningCode::UnlikelyHost, Field::Url, message, hint).at(authority.clone())
    }));
    warnings
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::domain::action_file;

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
    fn whatever_a_dispatcher_does_not_compile_is_not_well_formed() {
        let named = |from: usize, to: usize| (from..to).map(|n| format!("${{secret.S{n}}}")).collect::<String>();
        let file = |method: &str, [url, header, body]: [usize; 3], certificate: &str| {
            let headers = json!({ "x-mine": named(url, url + header) }).to_string();
            let body = format!("\"{}\"", named(url + header, url + header + body));
            let mut file = json!({ "method": method, "url": format!("https://a.test/?t={}", named(0, url)), "headers": headers,
                                   "body": body });
            if !certificate.is_empty() {
                file["client_certificate"] = json!(certificate);
            }
            file.to_string()
        };
        for (method, names, certificate, is_well_formed) in [
            ("POST", [5, 5, 6], "", true),
            ("POST", [5, 5, 6], "S15", true),
            ("POST", [5, 5, 7], "", false),
            ("POST", [0, 17, 0], "", false),
            ("POST", [16, 0, 0], "tls", false),
            // GET sends no body, so it needs none of its secrets.
            ("GET", [5, 5, 7], "", true),
        ] {
            let text = file(method, names, certificate);
            match examine(&text) {
                Ok(file) => assert!(is_well_formed && CompiledAction::compile(&file.spec).is_ok(), "{text}"),
                Err(problems) => {
                    assert!(!is_well_formed, "{text}: {problems:?}");
                    let told: Vec<_> = problems.iter().map(|one| one.problem.to_string()).collect();
                    assert_eq!(told, ["action: the action names more than 16 secrets (too_large)"]);
                }
            }
        }
    }

    #[test]
    fn only_http_is_warned_of_as_plain_http() {
        for (url, warned) in
            [("http://a.test/", true), ("HTTP://a.test/", true), ("https://a.test/", false), ("ftp://a.test/", false)]
        {
            let spec = json!({ "method": "POST", "url": url }).to_string();
            let warnings = look_at(&spec, Storage::Sealed).warnings;
            assert_eq!(warnings.iter().any(|one| one.warning.code == WarningCode::PlainHttp), warned, "{url}");
        }
    }

    #[test]
    fn an_action_is_published_only_if_its_names_and_its_file_are_right_and_all_that_is_wrong_is_said_at_once() {
        let good = json!({ "method": "POST", "url": "https://a.test/" }).to_string();
        assert!(examine_to_publish("agent", "name", &good).is_ok());
        let counted = |agent, text: &str| {
            examine_to_publish(agent, "name", text).map_err(|refused| (refused.naming.len(), refused.problems.len()))
        };
        assert_eq!(counted("", &good), Err((1, 0)));
        assert_eq!(counted("agent", "{"), Err((0, 1)));
        assert_eq!(counted("", "{"), Err((1, 1)));
    }
}
