//! A path into the call, such as `transcript[0].content`, and how it finds its value.

use std::str::FromStr;

use serde_json::Value;

use crate::domain::problem::Place;

/// A parsed path. It remembers its own text and place, by which people are told about it.
#[derive(Debug)]
pub(super) struct Path {
    /// As its author wrote it, without the blanks around it.
    pub text: Box<str>,
    /// Where its placeholder begins in the template.
    pub place: Place,
    /// From the root of the call; never empty.
    pub steps: Vec<Step>,
}

/// One step down into a value.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// `.name` or `[0]`: a key of an object; if it is a whole number, an index of an array as well.
    Name(Box<str>, Option<usize>),
    /// `['name']`: a key of an object, whatever it looks like.
    Key(Box<str>),
}

impl Step {
    /// The step that a bare `name` stands for.
    pub fn name(name: &str) -> Step {
        Step::Name(name.into(), index(name))
    }

    fn from<'v>(&self, value: &'v Value) -> Option<&'v Value> {
        match (self, value) {
            (Step::Name(name, _) | Step::Key(name), Value::Object(object)) => object.get(name.as_ref()),
            (Step::Name(_, Some(index)), Value::Array(array)) => array.get(*index),
            _ => None,
        }
    }
}

/// `name` as an index: ASCII digits without leading zeros, so that each element has one name.
fn index(name: &str) -> Option<usize> {
    let canonical = name == "0" || !name.starts_with('0');
    (canonical && name.bytes().all(|byte| byte.is_ascii_digit())).then(|| usize::from_str(name).ok()).flatten()
}

/// A call that is being rendered, with the names of the placeholders that found nothing in it.
pub(super) struct Lookup<'c> {
    call: &'c Value,
    unresolved: Vec<String>,
}

impl<'c> Lookup<'c> {
    /// Looks into `call`, with nothing unresolved yet.
    pub fn new(call: &'c Value) -> Lookup<'c> {
        Lookup { call, unresolved: Vec::new() }
    }

    /// The whole call.
    pub fn call(&self) -> &'c Value {
        self.call
    }

    /// The value at `path`; what is missing counts as `null` and is noted. A `null` that is there is not noted: it was
    /// found.
    pub fn find(&mut self, path: &Path) -> &'c Value {
        const MISSING: &Value = &Value::Null;
        let found = path.steps.iter().try_fold(self.call, |value, step| step.from(value));
        found.unwrap_or_else(|| {
            if !self.unresolved.iter().any(|noted| **noted == *path.text) {
                self.unresolved.push(path.text.to_string());
            }
            MISSING
        })
    }

    /// The paths that found nothing, each once, in the order in which they were looked for.
    pub fn into_unresolved(self) -> Vec<String> {
        self.unresolved
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn find<'v>(value: &'v Value, steps: &[Step]) -> Option<&'v Value> {
        steps.iter().try_fold(value, |value, step| step.from(value))
    }

    #[test]
    fn a_number_indexes_an_array_and_names_a_key() {
        let call = json!({"list": ["x", "y"], "map": {"1": "z"}});
        assert_eq!(find(&call, &[Step::name("list"), Step::name("1")]), Some(&json!("y")));
        assert_eq!(find(&call, &[Step::name("map"), Step::name("1")]), Some(&json!("z")));
        assert_eq!(find(&call, &[Step::name("list"), Step::Key("1".into())]), None);
    }

    #[test]
    fn only_one_spelling_of_a_number_is_an_index() {
        for name in ["01", "00", "-1", "+1", "1 ", "१", "99999999999999999999999", ""] {
            assert_eq!(index(name), None, "{name:?}");
        }
        assert_eq!(index("0"), Some(0));
        assert_eq!(index("10"), Some(10));
    }

    #[test]
    fn nothing_is_found_inside_a_string_a_number_or_null() {
        let call = json!({"s": "text", "n": 1, "z": null});
        for name in ["s", "n", "z"] {
            assert_eq!(find(&call, &[Step::name(name), Step::name("length")]), None);
            assert_eq!(find(&call, &[Step::name(name), Step::name("0")]), None);
        }
    }
}
