//! Checks what the fields of an action file hold.

use super::{Draft, Notation, in_seconds};
use crate::domain::action::{DEFAULT_TIMEOUT_MS, MAX_TIMEOUT_MS, MIN_TIMEOUT_MS, Method};
use crate::domain::problem::{Code, Field, Positions, Problem};
use crate::domain::secret;

/// The largest number of fields that are unknown or given twice and are reported one by one.
pub(super) const MAX_NAMES_TOLD: usize = 20;
pub(super) const FIELDS: [&str; 7] = ["method", "url", "timeout", "headers", "body", "client_certificate", "enabled"];

/// A field as a file gives it.
#[derive(Debug)]
pub(super) struct Given {
    pub(super) name: String,
    pub(super) value: Value,
    /// The byte of the file at which the value begins.
    pub(super) at: usize,
}

/// The value of a field, as far as this module tells values apart.
#[derive(Debug)]
pub(super) enum Value {
    Text(String),
    /// An object, as the text of a JSON object.
    Object(String),
    /// What stands without quotes and brackets: a number, `true`, `false`, `null`. As it is spelt.
    Word(String),
    Other,
}

/// Reads the fields of a file, and gathers what is wrong with them.
pub(super) struct FieldReader<'a> {
    pub(super) notation: Notation,
    pub(super) positions: Positions<'a>,
    pub(super) given: Vec<Given>,
    pub(super) problems: Vec<Problem>,
}

impl FieldReader<'_> {
    fn report(&mut self, mut problem: Problem, at: Option<usize>) {
        problem.position = at.map(|at| self.positions.of(at));
        self.problems.push(problem);
    }

    fn check_names(&mut self) {
        let mut has = [false; FIELDS.len()];
        let (mut untold, most) = (0, self.problems.len() + MAX_NAMES_TOLD);
        for given in std::mem::take(&mut self.given) {
            let field = FIELDS.iter().position(|field| *field == given.name);
            let is_twice =
                field.and_then(|field| has.get_mut(field)).is_some_and(|given| std::mem::replace(given, true));
            match field {
                Some(_) if !is_twice => self.given.push(given),
                _ if self.problems.len() == most => untold += 1,
                Some(_) => {
                    self.report(bad_action(format!("`{}` is given twice: remove one", given.name)), Some(given.at))
                }
                None => self.report(bad_action(unknown_field(&given.name)), Some(given.at)),
            }
        }
        if untold > 0 {
            self.report(bad_action(format!("and {untold} more fields that are unknown or given twice")), None);
        }
    }

    /// The value of the field `name`, and where it begins. If the field is given twice, only the first value was kept.
    fn take(&mut self, name: &str) -> Option<(Value, usize)> {
        let found = self.given.iter().position(|given| given.name == name)?;
        let given = self.given.swap_remove(found);
        Some((given.value, given.at))
    }

    /// Always reads all fields, so that all problems are found.
    pub(super) fn read(mut self) -> (Draft, Vec<Problem>) {
        self.check_names();
        let draft = Draft {
            method: self.method(),
            url: self.url(),
            timeout_ms: self.timeout(),
            headers: self.headers(),
            body: self.body(),
            client_certificate: self.client_certificate(),
            enabled: self.enabled(),
        };
        (draft, self.problems)
    }

    fn method(&mut self) -> Option<Method> {
        let (text, at) = match self.take("method") {
            Some((Value::Text(text), at)) => (Some(text), Some(at)),
            Some((_, at)) => (None, Some(at)),
            None => (None, None),
        };
        let method = text.as_deref().and_then(|text| text.parse().ok());
        if method.is_none() {
            let message = match text.map(|text| text.to_ascii_uppercase()) {
                Some(upper) if upper.parse::<Method>().is_ok() => format!("the method is written `{upper}`"),
                _ => "`method` must be \"GET\", \"POST\" or \"PUT\"".to_owned(),
            };
            self.report(Problem::new(Code::BadMethod, Field::Method, message), at);
        }
        method
    }

    fn url(&mut self) -> Option<String> {
        let at = match self.take("url") {
            Some((Value::Text(url), _)) => return Some(url),
            other => other.map(|(_, at)| at),
        };
        self.report(bad_action("`url` must be given, as a string"), at);
        None
    }

    fn timeout(&mut self) -> Option<u32> {
        let Some((value, at)) = self.take("timeout") else { return Some(DEFAULT_TIMEOUT_MS) };
        let (text, is_number) = match value {
            Value::Word(text) => (text, true),
            Value::Text(text) => (text, false),
            Value::Object(_) | Value::Other => (String::new(), false),
        };
        // The text of the number decides: 1.5e4 is a whole number, but nobody who means 15000 writes it so.
        let number = text.parse().ok();
        let timeout = number.filter(|ms| is_number && (MIN_TIMEOUT_MS..=MAX_TIMEOUT_MS).contains(ms));
        if timeout.is_none() {
            let seconds = number.filter(|number| *number < MIN_TIMEOUT_MS);
            let advice = seconds
                .and_then(|number| Some((number, in_seconds(number)?)))
                .map_or(String::new(), |(number, ms)| format!("; were seconds meant? {number} seconds are {ms}"));
            let message = format!(
                "`timeout` must be whole milliseconds from {MIN_TIMEOUT_MS} to {MAX_TIMEOUT_MS}, as a number without \
                 quotes{advice}"
            );
            self.report(Problem::new(Code::BadTimeout, Field::Timeout, message), Some(at));
        }
        timeout
    }

    fn headers(&mut self) -> Option<Option<String>> {
        match self.take("headers") {
            None => Some(None),
            Some((Value::Object(text) | Value::Text(text), _)) => Some(Some(text)),
            Some((Value::Word(_) | Value::Other, _)) => {
                let message = match self.notation {
                    Notation::Json => {
                        "`headers` must be a JSON object, or its text in a string: leave it out to send none"
                    }
                    Notation::Toml => {
                        "`headers` must be a table, or the text of a JSON object in a string: leave it out to send none"
                    }
                };
                // No position: a position in this field refers to the text of the headers, and there is none.
                self.report(Problem::new(Code::HeadersNotObject, Field::Headers, message), None);
                None
            }
        }
    }

    fn body(&mut self) -> Option<Option<String>> {
        let (value, at) = match self.take("body") {
            None => return Some(None),
            Some((Value::Text(body), _)) => return Some(Some(body)),
            Some(other) => other,
        };
        let message = match (self.notation, value) {
            (Notation::Toml, _) => "`body` must be template text in a string: put the JSON between `'''` and `'''`",
            (Notation::Json, Value::Word(word)) if word == "null" => {
                "`body` must be a string: leave it out to send the whole call, or write \"null\" for a JSON null"
            }
            (Notation::Json, _) => {
                "`body` must be template text in a string: put the JSON in double quotes, with each `\"` in it \
                 written `\\\"`"
            }
        };
        self.report(bad_action(message), Some(at));
        None
    }

    fn client_certificate(&mut self) -> Option<Option<String>> {
        let at = match self.take("client_certificate") {
            None => return Some(None),
            Some((Value::Text(name), _)) if secret::is_name(&name) => return Some(Some(name)),
            Some((_, at)) => at,
        };
        let message =
            "`client_certificate` must be the name of a secret, in a string: leave it out to show no certificate";
        self.report(bad_action(message), Some(at));
        None
    }

    fn enabled(&mut self) -> Option<bool> {
        let (value, at) = match self.take("enabled") {
            None => return Some(true),
            Some(given) => given,
        };
        let enabled = if let Value::Word(word) = value { word.parse().ok() } else { None };
        if enabled.is_none() {
            self.report(bad_action("`enabled` must be true or false, without quotes"), Some(at));
        }
        enabled
    }
}

pub(super) fn bad_action(message: impl Into<String>) -> Problem {
    Problem::new(Code::BadAction, Field::Action, message)
}

fn unknown_field(name: &str) -> String {
    /// From this likeness on, a field is suggested: for `heders` and `timout` there is one, for `retries` there is
    /// none.
    const ALIKE: f64 = 0.8;
    /// Only this many characters of a longer name are shown and compared.
    const MAX_CHARS: usize = 40;
    let name: String = name.chars().take(MAX_CHARS).collect();
    let lower = name.to_lowercase();
    let likeness = FIELDS.map(|field| (field, strsim::jaro_winkler(&lower, field)));
    let nearest = likeness.into_iter().max_by(|a, b| a.1.total_cmp(&b.1));
    let shown = name.escape_debug();
    match nearest.filter(|(_, likeness)| *likeness >= ALIKE) {
        Some((field, _)) => format!("there is no field `{shown}`: did you mean `{field}`?"),
        None => format!("there is no field `{shown}`: an action has {}", FIELDS.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{ActionFile, warnings};
    use super::*;

    fn with(field: &str) -> Result<ActionFile, Vec<Problem>> {
        ActionFile::parse(&format!(r#"{{"method":"POST","url":"https://h/",{field}}}"#))
    }

    /// The message of the only problem.
    fn message(file: Result<ActionFile, Vec<Problem>>) -> String {
        let problems = file.unwrap_err();
        let [problem] = problems.as_slice() else { panic!("{problems:?}") };
        problem.message.clone()
    }

    #[test]
    fn seconds_are_suggested_where_they_would_be_a_timeout_and_nowhere_else() {
        for (timeout, advice) in [
            ("1", "; were seconds meant? 1 seconds are 1000"),
            ("99", "; were seconds meant? 99 seconds are 99000"),
            ("\"30\"", "; were seconds meant? 30 seconds are 30000"),
            ("\"100\"", ""),
            ("0", ""),
            ("-1", ""),
            ("1.5", ""),
            ("120001", ""),
        ] {
            let message = message(with(&format!("\"timeout\": {timeout}")));
            let (_, told) = message.split_once("without quotes").unwrap();
            assert_eq!(told, advice, "{timeout}");
        }
        for (timeout, hint) in [
            (100, "were seconds meant? 100 seconds are 100000"),
            (120, "were seconds meant? 120 seconds are 120000"),
            (121, "were seconds meant?"),
        ] {
            let found = warnings(&with(&format!("\"timeout\": {timeout}")).unwrap().spec);
            let hints: Vec<_> = found.iter().map(|warning| warning.hint.as_deref()).collect();
            assert_eq!(hints, [Some(hint)], "{timeout}");
        }
    }

    #[test]
    fn a_method_in_lower_case_is_told_as_it_is_written_and_any_other_text_what_there_is() {
        for (method, told) in [
            ("post", "the method is written `POST`"),
            ("Get", "the method is written `GET`"),
            ("delete", "`method` must be \"GET\", \"POST\" or \"PUT\""),
        ] {
            let file = ActionFile::parse(&format!(r#"{{"method":"{method}","url":"https://h/"}}"#));
            assert_eq!(message(file), told);
        }
    }

    #[test]
    fn a_body_of_null_is_asked_whether_the_whole_call_or_a_null_was_meant() {
        for (body, part) in [
            ("null", "leave it out to send the whole call, or write \"null\" for a JSON null"),
            ("true", "put the JSON in double quotes"),
            ("{}", "put the JSON in double quotes"),
        ] {
            let message = message(with(&format!("\"body\": {body}")));
            assert!(message.contains(part), "{body}: {message}");
        }
    }
}
