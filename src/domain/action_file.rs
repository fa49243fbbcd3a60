//! The file in which an author keeps an action: one object with the fields of the platform's form, as JSON or as TOML.
//!
//! ```json
//! {"method": "POST", "url": "https://…", "timeout": 15000, "headers": {"x-call": "${callInfo.callSid}"}, "body": "{…}"}
//! ```
//!
//! Nothing in it is guessed. A field that is unknown, given twice or `null` is refused: if a body were ignored by
//! mistake, the whole call would be sent instead.
//!
//! ```text
//! json     reads the fields of a JSON file
//! toml     reads the fields of a TOML file
//! fields   checks what each field holds, for all notations alike
//! ```

mod fields;
mod json;
mod toml;

use std::fmt;

use self::fields::FieldReader;
use super::action::{ActionSpec, MAX_TIMEOUT_MS, MIN_TIMEOUT_MS, Method, SUSPICIOUS_TIMEOUT_MS};
use super::problem::{Code, Field, Positions, Problem};
use super::warning::{Warning, WarningCode};

/// Longest action file, in bytes: three templates of 64 KiB fit into it, most of their characters escaped.
pub const MAX_ACTION_FILE_BYTES: usize = 512 * 1024;

/// How an action file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notation {
    /// One JSON object.
    Json,
    /// A TOML table.
    Toml,
}

impl Notation {
    /// The notation of a text that has no file name: a text that begins with `{` is JSON, and so is an empty one, and any value
    /// that JSON has: `[]` is no action, but it is JSON.
    pub fn of(text: &str) -> Notation {
        let text = text.trim_start_matches('\u{feff}').trim_start();
        let is_json = || serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok();
        match text.chars().next() {
            Some('{') | None => Notation::Json,
            Some(_) if is_json() => Notation::Json,
            Some(_) => Notation::Toml,
        }
    }
}

/// The text of an action file. A text alone is JSON.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ActionText<'t> {
    /// The text.
    pub text: &'t str,
    /// How it is written.
    pub notation: Notation,
}

/// Without the text: tokens are typed into templates.
impl fmt::Debug for ActionText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ActionText").field("bytes", &self.text.len()).field("notation", &self.notation).finish()
    }
}

impl<'t> From<&'t str> for ActionText<'t> {
    fn from(text: &'t str) -> ActionText<'t> {
        ActionText { text, notation: Notation::Json }
    }
}

impl<'t> From<&'t String> for ActionText<'t> {
    fn from(text: &'t String) -> ActionText<'t> {
        text.as_str().into()
    }
}

/// An action as its file describes it. Its templates are as written and not yet compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActionFile {
    /// The content of the action.
    pub spec: ActionSpec,
    /// Whether anything is sent at all; true unless the file says otherwise.
    pub enabled: bool,
}

impl ActionFile {
    /// Reads the text of an action file. `timeout` is in milliseconds, and 15000 if it is left out. `headers` is a
    /// template in a string, or an object whose text is used as the template, with its spelling, order and duplicates.
    /// `body` is a template.
    ///
    /// # Errors
    /// All problems at once, as [`Draft::read`] tells them. The list is never empty.
    pub fn parse<'t>(text: impl Into<ActionText<'t>>) -> Result<ActionFile, Vec<Problem>> {
        let (draft, problems) = Draft::read(text);
        match draft.file() {
            Some(file) if problems.is_empty() => Ok(file),
            _ => Err(problems),
        }
    }
}

/// What could be read of an action file; `None` stands for a field that is wrong, or missing although it is needed.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Draft {
    /// `method`
    pub method: Option<Method>,
    /// `url`, as written.
    pub url: Option<String>,
    /// `timeout`, or its default.
    pub timeout_ms: Option<u32>,
    /// `headers`, as written; the inner `None` stands for a file without them.
    pub headers: Option<Option<String>>,
    /// `body`, as written; the inner `None` stands for a file without it.
    pub body: Option<Option<String>>,
    /// `client_certificate`; the inner `None` stands for a file without it.
    pub client_certificate: Option<Option<String>>,
    /// `enabled`, or its default.
    pub enabled: Option<bool>,
}

/// Without the templates, as [`ActionSpec`].
impl fmt::Debug for Draft {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Draft").field("method", &self.method).field("enabled", &self.enabled).finish_non_exhaustive()
    }
}

impl Draft {
    /// Reads what can be read of an action file, and all problems, with their positions in the file if they have one:
    /// [`Code::BadMethod`], [`Code::BadTimeout`], [`Code::HeadersNotObject`], [`Code::TooLarge`] for more than
    /// [`MAX_ACTION_FILE_BYTES`], and [`Code::BadAction`] for everything else. The list is never long: if very many fields
    /// are unknown or given twice, the last of them are only counted.
    pub fn read<'t>(text: impl Into<ActionText<'t>>) -> (Draft, Vec<Problem>) {
        let ActionText { text, notation } = text.into();
        if text.len() > MAX_ACTION_FILE_BYTES {
            let message = format!("the file is larger than {} KiB: shorten it", MAX_ACTION_FILE_BYTES / 1024);
            return (Draft::default(), vec![Problem::new(Code::TooLarge, Field::Action, message)]);
        }
        let read = match notation {
            Notation::Json => json::read(text).map(|given| (given, Vec::new())),
            Notation::Toml => toml::read(text),
        };
        match read {
            Ok((given, problems)) => FieldReader { notation, positions: Positions::new(text), given, problems }.read(),
            Err(problem) => (Draft::default(), vec![problem]),
        }
    }

    /// The file, if every field could be read.
    pub fn file(self) -> Option<ActionFile> {
        let Draft { method, url, timeout_ms, headers, body, client_certificate, enabled } = self;
        Some(ActionFile {
            spec: ActionSpec {
                method: method?,
                url: url?,
                timeout_ms: timeout_ms?,
                headers: headers?,
                body: body?,
                client_certificate: client_certificate?,
            },
            enabled: enabled?,
        })
    }

    /// Warnings of what is allowed, but is probably not what the author meant, beside those of the templates.
    pub fn warnings(&self) -> Vec<Warning> {
        let short = self.timeout_ms.filter(|timeout| *timeout < SUSPICIOUS_TIMEOUT_MS).map(short_timeout);
        let body = self.body.as_ref().and_then(Option::as_deref).filter(|body| !body.trim().is_empty());
        let unused = body.filter(|_| !self.sends_body()).map(|body| {
            let hint = "use POST or PUT, or remove it";
            let warning =
                Warning::new(WarningCode::UnusedBody, Field::Body, "GET sends none, so this one is never sent", hint);
            warning.at(0..body.len())
        });
        short.into_iter().chain(unused).collect()
    }

    /// Whether the method has a body; true if the method could not be read.
    pub fn sends_body(&self) -> bool {
        self.method.is_none_or(Method::has_body)
    }
}

fn short_timeout(timeout: u32) -> Warning {
    let message = format!("{timeout} is in milliseconds and very short");
    let hint = match in_seconds(timeout) {
        Some(ms) => format!("were seconds meant? {timeout} seconds are {ms}"),
        None => "were seconds meant?".to_owned(),
    };
    Warning::new(WarningCode::ShortTimeout, Field::Timeout, message, hint)
}

/// So many seconds, in milliseconds, if that is a timeout.
fn in_seconds(number: u32) -> Option<u32> {
    number.checked_mul(1000).filter(|ms| (MIN_TIMEOUT_MS..=MAX_TIMEOUT_MS).contains(ms))
}

/// Returns a warning for each part of `spec` that is allowed but is probably not what the author meant, beside those of the
/// templates.
pub fn warnings(spec: &ActionSpec) -> Vec<Warning> {
    Draft::from(spec).warnings()
}

impl From<&ActionSpec> for Draft {
    fn from(spec: &ActionSpec) -> Draft {
        Draft {
            method: Some(spec.method),
            url: Some(spec.url.clone()),
            timeout_ms: Some(spec.timeout_ms),
            headers: Some(spec.headers.clone()),
            body: Some(spec.body.clone()),
            client_certificate: Some(spec.client_certificate.clone()),
            enabled: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::problem::Position;
    use super::fields::MAX_NAMES_TOLD;
    use super::*;
    use crate::domain::action::DEFAULT_TIMEOUT_MS;

    fn codes(text: &str) -> Vec<(Code, Field)> {
        ActionFile::parse(text).unwrap_err().into_iter().map(|problem| (problem.code, problem.field)).collect()
    }

    #[test]
    fn what_has_no_name_is_json_if_it_is_any_json_at_all() {
        for text in
            ["", " {", "\u{feff}{\"method\": 1}", "{ broken", "[]", "[{\"method\": \"GET\"}]", "\"x\"", "null", " 1 "]
        {
            assert_eq!(Notation::of(text), Notation::Json, "{text}");
        }
        for text in ["method = \"GET\"", "[headers]\nx-a = \"b\"", "# a comment", "[", "null = 1"] {
            assert_eq!(Notation::of(text), Notation::Toml, "{text}");
        }
    }

    fn with(field: &str) -> String {
        format!(r#"{{"method":"POST","url":"https://h/",{field}}}"#)
    }

    #[test]
    fn what_is_left_out_has_its_default() {
        let file = ActionFile::parse(r#"{"method":"PUT","url":"https://h/"}"#).unwrap();
        let spec = ActionSpec {
            method: Method::Put,
            url: "https://h/".into(),
            timeout_ms: DEFAULT_TIMEOUT_MS,
            headers: None,
            body: None,
            client_certificate: None,
        };
        assert_eq!(file, ActionFile { spec, enabled: true });
    }

    #[test]
    fn headers_as_an_object_keep_their_spelling_order_and_duplicates() {
        let object = r#"{ "B": "1", "a":2 ,"B": "${x['é']}" }"#;
        let file = ActionFile::parse(&with(&format!(r#""headers": {object}"#))).unwrap();
        assert_eq!(file.spec.headers.as_deref(), Some(object));
        let file = ActionFile::parse(&with(r#""headers": "{\"a\": 1}""#)).unwrap();
        assert_eq!(file.spec.headers.as_deref(), Some("{\"a\": 1}"));
    }

    #[test]
    fn headers_that_are_neither_object_nor_text_are_refused() {
        for bad in ["null", "[]", "1", "true"] {
            assert_eq!(
                codes(&with(&format!("\"headers\": {bad}"))),
                [(Code::HeadersNotObject, Field::Headers)],
                "{bad}"
            );
        }
    }

    #[test]
    fn a_timeout_is_whole_milliseconds_within_the_bounds() {
        for bad in ["0", "-1", "99", "120001", "1500.5", "15000.0", "1.5e4", "1e99", "\"15000\"", "null", "true", "[]"]
        {
            assert_eq!(codes(&with(&format!("\"timeout\": {bad}"))), [(Code::BadTimeout, Field::Timeout)], "{bad}");
        }
        for good in [100, 15_000, 120_000] {
            let file = ActionFile::parse(&with(&format!("\"timeout\": {good}"))).unwrap();
            assert_eq!(file.spec.timeout_ms, good);
        }
    }

    #[test]
    fn a_client_certificate_is_the_name_of_a_secret() {
        let named = |value: &str| ActionFile::parse(&with(&format!("\"client_certificate\": {value}")));
        assert_eq!(named("\"crm-tls\"").unwrap().spec.client_certificate.as_deref(), Some("crm-tls"));
        for bad in ["\"\"", "\"a b\"", "\"${secret.a}\"", "null", "1", "{}", "[]"] {
            let problems = named(bad).unwrap_err();
            assert!(problems[0].message.contains("must be the name of a secret"), "{bad}: {problems:?}");
        }
    }

    #[test]
    fn a_method_is_one_of_three_in_upper_case() {
        for bad in [r#""post""#, r#""DELETE""#, "1", "null"] {
            let text = format!(r#"{{"method":{bad},"url":"https://h/"}}"#);
            assert_eq!(codes(&text), [(Code::BadMethod, Field::Method)], "{bad}");
        }
        assert_eq!(codes(r#"{"url":"https://h/"}"#), [(Code::BadMethod, Field::Method)]);
    }

    #[test]
    fn a_body_that_is_no_string_is_never_taken_for_no_body() {
        for bad in ["null", "{}", "[1]", "1", "true"] {
            assert_eq!(codes(&with(&format!("\"body\": {bad}"))), [(Code::BadAction, Field::Action)], "{bad}");
        }
    }

    #[test]
    fn an_unknown_field_is_named_with_the_one_that_was_probably_meant() {
        let message = |field: &str| {
            let problems = ActionFile::parse(&with(&format!("\"{field}\": 1"))).unwrap_err();
            assert_eq!(problems[0].code, Code::BadAction);
            problems[0].message.clone()
        };
        assert_eq!(message("heders"), "there is no field `heders`: did you mean `headers`?");
        assert_eq!(message("Timeout"), "there is no field `Timeout`: did you mean `timeout`?");
        assert!(message("retries").contains("an action has method, url"), "{}", message("retries"));
    }

    #[test]
    fn all_problems_are_told_at_once_each_at_its_place() {
        let text = "{\n \"method\": \"post\",\n \"timeout\": 0,\n \"timeout\": 1,\n \"retries\": 3\n}";
        let problems = ActionFile::parse(text).unwrap_err();
        let found: Vec<_> =
            problems.iter().map(|p| (p.code, p.position.map(|position| (position.line, position.column)))).collect();
        let expected = [
            (Code::BadAction, Some((4, 13))),
            (Code::BadAction, Some((5, 13))),
            (Code::BadMethod, Some((2, 12))),
            (Code::BadAction, None),
            (Code::BadTimeout, Some((3, 13))),
        ];
        assert_eq!(found, expected, "{problems:?}");
    }

    #[test]
    fn a_file_with_very_many_wrong_fields_is_refused_with_few_words() {
        let count = 40_000;
        let unknown = (0..count).map(|number| format!("\"x{number}\":1")).collect::<Vec<_>>().join(",\n");
        for wrong in
            [unknown, "\"body\":\"1\",".repeat(count / 2) + "\"body\":\"2\"", format!("\"{}\":1", "x".repeat(400_000))]
        {
            let problems = ActionFile::parse(&with(&wrong)).unwrap_err();
            assert!(problems.len() <= MAX_NAMES_TOLD + 1);
            assert!(problems.iter().all(|problem| problem.message.len() < 200), "{problems:?}");
        }
        let problems = ActionFile::parse(&format!("{{{}\"x\":1}}", "\"x\":1,".repeat(count))).unwrap_err();
        let told: Vec<_> = problems.iter().map(|problem| problem.message.as_str()).skip(MAX_NAMES_TOLD).collect();
        assert_eq!(told[0], "and 39981 more fields that are unknown or given twice");
        assert_eq!(told.len(), 3, "what else is wrong is told all the same: {told:?}");
    }

    #[test]
    fn a_file_past_its_limit_is_refused_and_the_largest_templates_fit() {
        let padded = |bytes: usize| with("\"timeout\": 1000") + &" ".repeat(bytes);
        let room = MAX_ACTION_FILE_BYTES - padded(0).len();
        assert!(ActionFile::parse(&padded(room)).is_ok());
        assert_eq!(codes(&padded(room + 1)), [(Code::TooLarge, Field::Action)]);
        let template = serde_json::Value::from("\"".repeat(64 * 1024)).to_string();
        let largest = format!(r#"{{"method":"PUT","url":{template},"headers":{template},"body":{template}}}"#);
        assert!(ActionFile::parse(&largest).is_ok());
    }

    #[test]
    fn what_is_no_json_object_is_refused_with_line_and_column() {
        let problems = ActionFile::parse("{\n  \"method\": \"POST\"\n  \"url\": \"\"\n}").unwrap_err();
        assert_eq!(problems[0].code, Code::BadAction);
        assert_eq!(problems[0].position, Some(Position { line: 3, column: 3 }));
        assert!(!problems[0].message.contains("at line"), "{}", problems[0].message);
        let (not_json, no_object) = ("the file is not JSON: ", "the file must hold one JSON object");
        for (text, told) in [("", not_json), ("{} x", not_json), ("{", not_json), ("[]", no_object), ("1", no_object)] {
            assert_eq!(codes(text), [(Code::BadAction, Field::Action)], "{text}");
            let message = &ActionFile::parse(text).unwrap_err()[0].message;
            assert!(message.starts_with(told), "{text}: {message}");
        }
    }

    #[test]
    fn what_is_probably_a_slip_is_warned_of() {
        let spec = |field: &str| ActionFile::parse(&with(field)).unwrap().spec;
        assert!(warnings(&spec("\"timeout\": 1000, \"body\": \"{}\"")).is_empty());
        assert_eq!(warnings(&spec("\"timeout\": 999")).len(), 1);
        let get = |body: &str| ActionSpec { method: Method::Get, body: Some(body.into()), ..spec("\"timeout\": 1000") };
        assert!(warnings(&get(" \n")).is_empty());
        assert_eq!(warnings(&get("{}")).len(), 1);
    }
}
