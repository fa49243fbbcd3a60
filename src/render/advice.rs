//! Warnings of a template: what is allowed, but is probably not what its author meant.
//!
//! A template is read as far as its tokens can be told apart, so that an author is also warned if the template has a problem
//! that keeps it from being compiled.

use std::ops::Range;

use super::limits;
use super::path::{Path, Step};
use super::placeholder::{self, OPEN, Part, Placeholder};
use super::source::{Source, shown};
use super::tokens::{self, Kind, Token};
use super::url_text;
use crate::domain::documented::{self, Known, look_up};
use crate::domain::problem::Field;
use crate::domain::warning::{Warning, WarningCode};

/// The largest number of warnings of one template that are told one by one; the others are counted.
const MAX_TOLD: usize = 10;
/// The longest text between `{{` and `}}` that can be a placeholder of another system, in bytes.
const MAX_BRACES_BYTES: usize = 200;
/// The longest path that is suggested, in bytes.
const MAX_SUGGESTED_BYTES: usize = 100;

/// Warnings of the template `text` of `field`, in their order in the text. There are none for a field that has no template.
pub fn warnings(field: Field, text: &str) -> Vec<Warning> {
    let source = Source { field, text };
    if limits::check_template(source).is_err() {
        return Vec::new();
    }
    let mut adviser = Adviser { source, warnings: Vec::new(), untold: 0 };
    match field {
        Field::Url => adviser.url(),
        Field::Headers | Field::Body => adviser.json(),
        Field::Action | Field::Method | Field::Timeout | Field::Call => {}
    }
    adviser.finish()
}

struct Adviser<'a> {
    source: Source<'a>,
    warnings: Vec<Warning>,
    untold: usize,
}

impl Adviser<'_> {
    fn warn(&mut self, code: WarningCode, range: Range<usize>, message: String, hint: String) {
        if self.warnings.len() == MAX_TOLD {
            self.untold += 1;
        } else {
            self.warnings.push(Warning::new(code, self.source.field, message, hint).at(range));
        }
    }

    fn finish(mut self) -> Vec<Warning> {
        if self.untold > 0 {
            let (message, hint) =
                (format!("and {} more warnings of this field", self.untold), "begin with the first ones");
            self.warnings.push(Warning::new(WarningCode::MoreWarnings, self.source.field, message, hint));
        }
        self.warnings
    }

    fn url(&mut self) {
        for part in url_text::split(self.source, 0).unwrap_or_default() {
            match part {
                Part::Text(start, end) => self.literal(start, end, true),
                Part::Placeholder(placeholder) => self.path(&placeholder),
                Part::Dropped(_) => {}
            }
        }
    }

    fn json(&mut self) {
        let mut current = tokens::next(self.source, 0).ok().flatten();
        while let Some(token) = current {
            let next = tokens::next(self.source, token.end).ok().flatten();
            let is_key = next.as_ref().is_some_and(|next| next.kind == Kind::Punct(':'));
            self.token(&token, is_key);
            current = next;
        }
    }

    fn token(&mut self, token: &Token, is_key: bool) {
        for part in &token.parts {
            match part {
                // Names such as `$ref` and `$set` are common in JSON.
                Part::Text(start, end) if token.kind == Kind::Text => self.literal(*start, *end, !is_key),
                Part::Placeholder(placeholder) => self.path(placeholder),
                Part::Text(..) | Part::Dropped(_) => {}
            }
        }
        if self.source.field == Field::Body && token.kind == Kind::Text && !is_key {
            self.quoted(token);
        }
    }

    fn path(&mut self, placeholder: &Placeholder) {
        if placeholder.path.is_secret() {
            return;
        }
        let names = names(&placeholder.path);
        let Known::Unknown { meant } = look_up(&names) else { return };
        let root_is_known = names.first().is_some_and(|name| documented::roots().any(|root| root == *name));
        let hint = match meant {
            Some(meant) if meant.len() <= MAX_SUGGESTED_BYTES => format!("did you mean `${{{meant}}}`?"),
            _ if root_is_known => "if your calls have it, nothing is wrong".to_owned(),
            _ => format!(
                "the documented ones have {}; what you name yourself is below `context` or `analysis.results`",
                documented::roots().collect::<Vec<_>>().join(", ")
            ),
        };
        let message = format!("no documented call has `{}`", shown(&placeholder.path.text));
        self.warn(WarningCode::UnknownPath, placeholder.start..placeholder.end, message, hint);
    }

    /// A string that is one placeholder, whose documented value is a number.
    fn quoted(&mut self, token: &Token) {
        let [Part::Placeholder(placeholder)] = token.parts.as_slice() else { return };
        if look_up(&names(&placeholder.path)) == Known::Documented(documented::Kind::Number) {
            let path = shown(&placeholder.path.text);
            let message = format!("`{path}` is a number in the documented call, and the quotes make text of it");
            let hint = format!("write `${{{path}}}` without quotes to send a number");
            self.warn(WarningCode::QuotedNumber, token.start..token.end, message, hint);
        }
    }

    /// Literal text, from one byte to another: are there placeholders of other systems in it?
    fn literal(&mut self, start: usize, end: usize, may_have_dollars: bool) {
        let text = self.source.between(start, end);
        let mut at = 0;
        while let Some(found) = text.get(at..).and_then(|rest| rest.find(['{', '$'])) {
            let from = at + found;
            let braces = in_braces(text, from);
            let name = if may_have_dollars && braces.is_none() { after_dollar(text, from) } else { None };
            let (code, path, length) = match (braces, name) {
                (Some(path), _) => (WarningCode::LiteralBraces, path, path.len() + 4),
                (None, Some(path)) => (WarningCode::LiteralDollar, path, path.len() + 1),
                (None, None) => {
                    at = from + 1;
                    continue;
                }
            };
            at = from + length;
            let message = format!("`{}` is sent as it is: it is no placeholder here", shown(&text[from..at]));
            let hint = match self.suggestion(path) {
                Some(path) => format!("if a value of the call is meant, write `${{{path}}}`"),
                None => "a placeholder is written `${path}`, without calculations".to_owned(),
            };
            self.warn(code, start + from..start + at, message, hint);
        }
    }

    /// The path of a placeholder that may be meant by `text`.
    fn suggestion(&self, text: &str) -> Option<String> {
        let template = format!("{OPEN}{}}}", text.trim());
        let source = Source { field: self.source.field, text: &template };
        let placeholder = placeholder::read(source, 0, true).ok().filter(|read| read.end == template.len())?;
        let path = match look_up(&names(&placeholder.path)) {
            Known::Unknown { meant: Some(meant) } => meant,
            Known::Unknown { meant: None } | Known::Documented(_) | Known::Chosen => placeholder.path.text.into(),
        };
        (path.len() <= MAX_SUGGESTED_BYTES).then_some(path)
    }
}

fn names(path: &Path) -> Vec<&str> {
    path.steps.iter().map(Step::key).collect()
}

/// What stands in the `{{…}}` that begins at byte `from`.
fn in_braces(text: &str, from: usize) -> Option<&str> {
    let rest = text.get(from..)?.strip_prefix("{{")?;
    // The end is looked for nearby only: otherwise each `{{` of a long text would cost the length of the text.
    let (inner, _) = rest[..rest.floor_char_boundary(MAX_BRACES_BYTES + "}}".len())].split_once("}}")?;
    let is_one = !inner.trim().is_empty() && !inner.contains(['{', '\n']);
    is_one.then_some(inner)
}

/// The name behind the `$` at byte `from`: not in `US$x`, `pa$$word` or `?$filter=`.
fn after_dollar(text: &str, from: usize) -> Option<&str> {
    let rest = text.get(from..)?.strip_prefix('$')?;
    let before = text.get(..from)?;
    let in_a_word = before.ends_with(|c: char| c.is_alphanumeric() || "$_?&".contains(c));
    let behind_an_escape = ["\\n", "\\t", "\\r"].iter().any(|escape| before.ends_with(escape));
    if (in_a_word && !behind_an_escape) || !rest.starts_with(|c: char| c.is_alphabetic() || c == '_') {
        return None;
    }
    let end = rest.find(|c: char| !(c.is_alphanumeric() || "_.".contains(c))).unwrap_or(rest.len());
    rest.get(..end).map(|name| name.trim_end_matches('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is marked in the template, with the code and the hint.
    fn told(field: Field, text: &str) -> Vec<(&str, WarningCode, String)> {
        let told = |warning: Warning| (&text[warning.range.unwrap()], warning.code, warning.hint.unwrap());
        warnings(field, text).into_iter().map(told).collect()
    }

    /// What is marked in the body, for one kind of warning.
    fn marked(code: WarningCode, text: &str) -> Vec<&str> {
        told(Field::Body, text).into_iter().filter(|one| one.1 == code).map(|one| one.0).collect()
    }

    #[test]
    fn a_path_that_no_documented_call_has_is_marked_with_the_one_that_was_probably_meant() {
        let expected = |marked| (marked, WarningCode::UnknownPath, "did you mean `${callInfo.from}`?".to_owned());
        let body = "{\"ü\": \"x ${callinfo.from}\", \"b\": ${ from }, \"${callInfo.form}\": 1}";
        let found = told(Field::Body, body);
        assert_eq!(found, ["${callinfo.from}", "${ from }", "${callInfo.form}"].map(expected));
        assert_eq!(told(Field::Headers, "{\"x\": \"${callinfo.from}\"}"), [expected("${callinfo.from}")]);
        assert_eq!(told(Field::Url, "https://h/é/${callinfo.from}?"), [expected("${callinfo.from}")]);
        let hint = &told(Field::Body, "[${lead}, ${callInfo.leadNumber}]");
        assert!(hint[0].2.contains("analysis, callInfo") && hint[0].2.contains("below `context`"), "{hint:?}");
        assert_eq!(hint[1].2, "if your calls have it, nothing is wrong");
    }

    #[test]
    fn a_documented_template_draws_no_warning() {
        let body = include_str!("../../tests/it/data/documented_body.txt");
        assert_eq!(told(Field::Body, body), []);
        let chosen = "{\"a\": \"${context.leadId}\", \"b\": ${analysis.results.budget}, \"c\": ${context['any.key']}}";
        assert_eq!(told(Field::Body, chosen), []);
        let url = "https://h/${callInfo.callSid}?$filter=a&$top=${transcript[0].content}&p=US$5&${transcript.0.role}";
        assert_eq!(told(Field::Url, url), []);
        let headers = "{\"authorization\": \"Bearer pa$$word-US$x $5 \\\\${callInfo.from}\", \"x\": ${duration}}";
        assert_eq!(told(Field::Headers, headers), []);
    }

    #[test]
    fn a_placeholder_of_another_system_is_marked_where_it_would_be_sent_as_it_is() {
        let body = "{\"a\": \"{{callInfo.from}} é {{ from }}\", \"b\": \"${outcome} $outcome, $callInfo.from.\", \
                    \"$set\": \"\\n$x\", \"{{k}}\": \"{{#if a}} {{}} {a} $5 \\\\${outcome} ${{\"}";
        let body = body.replace(" ${{", "");
        assert_eq!(
            marked(WarningCode::LiteralBraces, &body),
            ["{{callInfo.from}}", "{{ from }}", "{{k}}", "{{#if a}}"]
        );
        assert_eq!(marked(WarningCode::LiteralDollar, &body), ["$outcome", "$callInfo.from", "$x"]);
        let hints: Vec<String> = told(Field::Body, &body).into_iter().map(|one| one.2).collect();
        assert_eq!(hints[0], "if a value of the call is meant, write `${callInfo.from}`");
        assert_eq!(hints[1], hints[0]);
        assert!(
            hints.iter().any(|hint| hint == "a placeholder is written `${path}`, without calculations"),
            "{hints:?}"
        );
        let url = told(Field::Url, "https://h/{{outcome}}/$outcome?x={{outcome}}&y=$agent");
        assert_eq!(
            url.iter().map(|one| one.0).collect::<Vec<_>>(),
            ["{{outcome}}", "$outcome", "{{outcome}}", "$agent"]
        );
    }

    #[test]
    fn quotes_are_marked_that_make_text_of_a_documented_number() {
        let body = "{\"a\": \"${duration}\", \"b\": \"${transcript[0].timestamp}\", \"c\": \"${duration} s\", \
                    \"d\": \"${outcome}\", \"${price}\": ${price}, \"e\": \"${context.amount}\"}";
        assert_eq!(marked(WarningCode::QuotedNumber, body), ["\"${duration}\"", "\"${transcript[0].timestamp}\""]);
        assert_eq!(told(Field::Headers, "{\"x\": \"${duration}\"}"), []);
    }

    #[test]
    fn a_template_that_cannot_be_compiled_is_warned_of_up_to_what_cannot_be_read() {
        let body = "{\"a\": \"${duration}\"\n \"b\": \"{{x}}\", \"c\": \"${lead}\", \"d\": ${}, \"e\": \"${price}\"}";
        let marked: Vec<&str> = told(Field::Body, body).iter().map(|one| one.0).collect();
        assert_eq!(marked, ["\"${duration}\"", "{{x}}", "${lead}"]);
    }

    #[test]
    fn a_template_with_very_many_slips_is_warned_of_with_few_words() {
        let many = format!("[{}1]", "\"$x {{y}}\",".repeat(4_000));
        let told = warnings(Field::Body, &many);
        assert_eq!(told.len(), MAX_TOLD + 1);
        assert_eq!(told[MAX_TOLD].message, "and 7990 more warnings of this field");
        let long = format!("[${{{}}}, \"{{{{context.{}}}}}\"]", "x".repeat(30_000), "x".repeat(150));
        assert!(warnings(Field::Body, &long).iter().all(|warning| warning.message.len() < 200), "{long}");
    }

    #[test]
    fn a_word_outside_quotes_is_not_sent_and_so_draws_no_warning() {
        assert_eq!(told(Field::Body, "[$outcome, $callInfo.from]"), []);
    }

    #[test]
    fn what_is_long_is_neither_suggested_nor_taken_for_a_placeholder_of_another_system() {
        let chosen = |bytes: usize| "x".repeat(bytes - "context.".len());
        let hint = |bytes: usize| told(Field::Body, &format!("[${{Context.{}}}]", chosen(bytes))).remove(0).2;
        let suggestion = format!("did you mean `${{context.{}}}`?", chosen(MAX_SUGGESTED_BYTES));
        assert_eq!(hint(MAX_SUGGESTED_BYTES), suggestion);
        assert!(!hint(MAX_SUGGESTED_BYTES + 1).contains("did you mean"));
        let braces = |bytes: usize| format!("\"{{{{{}}}}}\"", "x".repeat(bytes));
        assert_eq!(marked(WarningCode::LiteralBraces, &braces(MAX_BRACES_BYTES)).len(), 1);
        assert_eq!(marked(WarningCode::LiteralBraces, &braces(MAX_BRACES_BYTES + 1)).len(), 0);
    }
}
