//! The path in a placeholder, such as `transcript[0].content`, which leads to a value in the call.

use std::str::FromStr;

use crate::domain::secret;

/// A parsed path. It keeps its text for messages.
#[derive(Debug)]
pub(super) struct Path {
    /// The path as its author wrote it, without the blanks around it.
    pub text: Box<str>,
    /// The steps from the root of the call; never empty.
    pub steps: Vec<Step>,
}

impl Path {
    /// Whether the path begins where secrets are, and so never leads into a call.
    pub fn is_secret(&self) -> bool {
        self.steps.first().is_some_and(|step| step.key() == secret::ROOT)
    }

    /// The name of the secret that this path means.
    pub fn secret(&self) -> Option<&str> {
        match self.steps.as_slice() {
            [_, name] if self.is_secret() && secret::is_name(name.key()) => Some(name.key()),
            _ => None,
        }
    }
}

/// One step down into a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// `.name` or `[0]`: a key of an object. If the name is a whole number, it is also an index of an array.
    Name(Box<str>, Option<usize>),
    /// `['name']`: a key of an object, even if it looks like a number.
    Key(Box<str>),
}

impl Step {
    /// The step for a `name` without brackets and quotes.
    pub fn name(name: &str) -> Step {
        Step::Name(name.into(), index(name))
    }

    /// The key to follow in an object.
    pub fn key(&self) -> &str {
        match self {
            Step::Name(name, _) | Step::Key(name) => name,
        }
    }

    /// The index to follow in an array, if the step can be an index.
    pub fn index(&self) -> Option<usize> {
        match self {
            Step::Name(_, index) => *index,
            Step::Key(_) => None,
        }
    }
}

/// `name` as an index: ASCII digits without leading zeros, so that each element has exactly one name.
fn index(name: &str) -> Option<usize> {
    let canonical = name == "0" || !name.starts_with('0');
    (canonical && name.bytes().all(|byte| byte.is_ascii_digit())).then(|| usize::from_str(name).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_spelling_of_a_number_is_an_index() {
        for name in ["01", "00", "-1", "+1", "1 ", "१", "99999999999999999999999", ""] {
            assert_eq!(index(name), None, "{name:?}");
        }
        assert_eq!(index("0"), Some(0));
        assert_eq!(index("10"), Some(10));
    }
}
