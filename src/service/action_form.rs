//! An action as a form has it: each field a text as it was typed. It is examined as an action file with the same fields is, so
//! that nothing is right in one and wrong in the other.

use std::fmt;

use serde_json::{Map, Value};

use super::examination::{NotPublishable, examine_to_publish};
use crate::domain::action::{ActionSpec, DEFAULT_TIMEOUT_MS};
use crate::domain::action_file::ActionFile;

/// The fields of the form.
#[derive(Clone, PartialEq, Eq)]
pub struct ActionForm {
    /// The method's name.
    pub method: String,
    /// The URL template.
    pub url: String,
    /// Milliseconds; if it is empty, the default.
    pub timeout: String,
    /// The template of the headers; if it is empty, there are none.
    pub headers: String,
    /// The template of the body; if it is empty, the whole call is sent.
    pub body: String,
    /// The name of the secret that holds the client's certificate; if it is empty, none is shown.
    pub client_certificate: String,
    /// Whether the action is enabled.
    pub enabled: bool,
}

/// Without the templates: tokens are typed into them.
impl fmt::Debug for ActionForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ActionForm").field("enabled", &self.enabled).finish_non_exhaustive()
    }
}

impl ActionForm {
    /// The form of a new action.
    pub fn new() -> ActionForm {
        let (method, timeout) = ("POST".to_owned(), DEFAULT_TIMEOUT_MS.to_string());
        let [url, headers, body, client_certificate] = [const { String::new() }; 4];
        ActionForm { method, url, timeout, headers, body, client_certificate, enabled: true }
    }

    /// The form of an action as it is.
    pub fn of(spec: &ActionSpec, enabled: bool) -> ActionForm {
        ActionForm {
            method: spec.method.to_string(),
            url: spec.url.clone(),
            timeout: spec.timeout_ms.to_string(),
            headers: spec.headers.clone().unwrap_or_default(),
            body: spec.body.clone().unwrap_or_default(),
            client_certificate: spec.client_certificate.clone().unwrap_or_default(),
            enabled,
        }
    }

    /// The text of the action file with these fields.
    pub fn text(&self) -> String {
        let mut file = Map::new();
        file.insert("method".to_owned(), self.method.as_str().into());
        file.insert("url".to_owned(), self.url.as_str().into());
        if let Some(timeout) = filled(&self.timeout) {
            // What is no number is told as it is in a file.
            let number = timeout.trim().parse::<u64>().map(Value::from);
            file.insert("timeout".to_owned(), number.unwrap_or_else(|_| timeout.into()));
        }
        let certificate = &self.client_certificate;
        for (field, text) in [("headers", &self.headers), ("body", &self.body), ("client_certificate", certificate)] {
            if let Some(text) = filled(text) {
                file.insert(field.to_owned(), text.into());
            }
        }
        file.insert("enabled".to_owned(), self.enabled.into());
        Value::Object(file).to_string()
    }

    /// The action, if it may be published for `agent` under `name`.
    ///
    /// # Errors
    /// All problems of the names and of the fields, as those of an action file.
    pub fn examine(&self, agent: &str, name: &str) -> Result<ActionFile, NotPublishable<'static>> {
        let text = self.text();
        examine_to_publish(agent, name, &text).map_err(NotPublishable::into_owned)
    }
}

impl Default for ActionForm {
    fn default() -> ActionForm {
        ActionForm::new()
    }
}

fn filled(text: &str) -> Option<&str> {
    (!text.trim().is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::problem::Field;

    fn wrong(form: &ActionForm) -> Vec<Field> {
        form.examine("a", "default").unwrap_err().problems.iter().map(|located| located.problem.field).collect()
    }

    #[test]
    fn an_action_is_the_same_again_after_it_was_a_form_and_what_is_empty_is_absent() {
        let form = ActionForm { url: "https://a.test/${callInfo.from}".to_owned(), ..ActionForm::new() };
        let file = form.examine("a", "default").unwrap();
        assert_eq!((&file.spec.headers, &file.spec.body, file.enabled), (&None, &None, true));
        assert_eq!(ActionForm::of(&file.spec, true), form);
        let (headers, body, client_certificate) =
            ("{\"a\": \"b\"}".to_owned(), "{\n\"c\": 1}".to_owned(), "crm-tls".to_owned());
        let full = ActionForm { headers, body, client_certificate, ..form };
        assert_eq!(ActionForm::of(&full.examine("a", "default").unwrap().spec, true), full);
    }

    #[test]
    fn all_that_is_wrong_is_told_at_once_by_field() {
        let form = ActionForm {
            method: "PATCH".to_owned(),
            url: "https://a.test/${".to_owned(),
            timeout: "soon".to_owned(),
            headers: "[".to_owned(),
            body: "{".to_owned(),
            client_certificate: String::new(),
            enabled: true,
        };
        let fields = wrong(&form);
        for field in [Field::Method, Field::Url, Field::Timeout, Field::Headers, Field::Body] {
            assert!(fields.contains(&field), "{field}: {fields:?}");
        }
        assert_eq!(form.examine("", "").unwrap_err().naming.len(), 2);
    }
}
