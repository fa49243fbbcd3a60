//! The template of one field while it is compiled: the text to which every position in a problem refers.

use unicode_properties::{GeneralCategoryGroup, UnicodeGeneralCategory};

use crate::domain::problem::{Code, Field, Problem};

/// A template text and the field it belongs to.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    pub field: Field,
    pub text: &'a str,
}

impl<'a> Source<'a> {
    /// The text from the byte `offset`; empty if the offset is past the end.
    pub fn after(self, offset: usize) -> &'a str {
        self.text.get(offset..).unwrap_or_default()
    }

    /// The text from byte `start` up to `end`; empty if they are not in the text.
    pub fn between(self, start: usize, end: usize) -> &'a str {
        self.text.get(start..end).unwrap_or_default()
    }

    /// A problem at the byte `offset`.
    pub fn problem(self, code: Code, offset: usize, message: impl Into<String>) -> Problem {
        Problem::new(code, self.field, message).at(self.text, offset)
    }

    /// A problem of JSON syntax at the byte `offset`, with the code that this field has for it.
    pub fn syntax(self, offset: usize, message: impl Into<String>) -> Problem {
        let code = if self.field == Field::Headers { Code::HeadersNotObject } else { Code::InvalidJsonBody };
        self.problem(code, offset, message)
    }
}

/// A word of a template as messages quote it: cut to a maximum length, and with escapes for invisible characters.
pub(super) fn shown(word: &str) -> String {
    const MAX_CHARS: usize = 40;
    let mut shown = String::new();
    for c in word.chars().take(MAX_CHARS) {
        match c {
            '"' | '\'' | '\\' => shown.push(c),
            // The vowel signs of many scripts are marks, and `escape_debug` would escape them.
            _ if c.general_category_group() == GeneralCategoryGroup::Mark => shown.push(c),
            _ => shown.extend(c.escape_debug()),
        }
    }
    if word.chars().nth(MAX_CHARS).is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quoted_word_is_short_and_can_be_seen() {
        assert_eq!(shown("callInfo['नाम']"), "callInfo['नाम']");
        assert_eq!(shown("हिन्दी e\u{301}"), "हिन्दी e\u{301}");
        assert_eq!(shown("\u{1b}[2J\u{202e}\0"), "\\u{1b}[2J\\u{202e}\\0");
        assert_eq!(shown(&"é".repeat(40)), "é".repeat(40));
        assert_eq!(shown(&"é".repeat(65_536)), "é".repeat(40) + "…");
    }
}
