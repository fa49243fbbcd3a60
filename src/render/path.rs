//! A path into the call, such as `transcript[0].content`, as a placeholder writes it.

use std::str::FromStr;

/// A parsed path. It remembers its own text, by which people are told about it.
#[derive(Debug)]
pub(super) struct Path {
    /// As its author wrote it, without the blanks around it.
    pub text: Box<str>,
    /// From the root of the call; never empty.
    pub steps: Vec<Step>,
}

/// One step down into a value.
#[derive(Clone, Debug, PartialEq, Eq)]
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

    /// The key of an object to which it leads.
    pub fn key(&self) -> &str {
        match self {
            Step::Name(name, _) | Step::Key(name) => name,
        }
    }

    /// The index of an array to which it leads, if it is one.
    pub fn index(&self) -> Option<usize> {
        match self {
            Step::Name(_, index) => *index,
            Step::Key(_) => None,
        }
    }
}

/// `name` as an index: ASCII digits without leading zeros, so that each element has one name.
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
