//! Makes text from others safe to print. Customers, platforms and receivers write agents, ids of calls, reasons and
//! URLs. Printed unchanged, these could forge rows, move the cursor, or reverse the direction of the text beside them.

use std::borrow::Cow;

use unicode_properties::{GeneralCategory, UnicodeGeneralCategory};

/// `text` in one line, without characters that act on a terminal or are invisible. Control characters, line and paragraph
/// separators, format characters (direction marks, overrides and isolates, zero-width characters, tags) and letters that
/// are drawn as blanks are replaced by escapes such as `\n` or `\u{202e}`. Everything else is unchanged, even a
/// backslash: the result is for people and cannot be parsed back.
pub fn visible(text: &str) -> Cow<'_, str> {
    match text.find(acts) {
        None => Cow::Borrowed(text),
        Some(first) => {
            let mut shown = text[..first].to_owned();
            text[first..].chars().for_each(|c| push(&mut shown, c));
            Cow::Owned(shown)
        }
    }
}

/// As [`visible`], for a text of our own with several lines: its line breaks are kept.
pub fn visible_lines(text: &str) -> Cow<'_, str> {
    if text.find(|c| c != '\n' && acts(c)).is_none() {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.split('\n').map(visible).collect::<Vec<_>>().join("\n"))
}

fn push(shown: &mut String, c: char) {
    if acts(c) { shown.extend(c.escape_default()) } else { shown.push(c) }
}

/// Whether a character acts on a terminal or is invisible.
pub fn acts(c: char) -> bool {
    use GeneralCategory::{Control, Format, LineSeparator, ParagraphSeparator};
    matches!(c.general_category(), Control | Format | LineSeparator | ParagraphSeparator) || is_blank_letter(c)
}

/// Letters and marks that are drawn as nothing: the Hangul fillers, the grapheme joiner, the Khmer inherent vowels, and
/// the Mongolian variation selectors.
fn is_blank_letter(c: char) -> bool {
    matches!(
        c,
        '\u{115F}' | '\u{1160}' | '\u{3164}' | '\u{FFA0}' | '\u{034F}' | '\u{17B4}' | '\u{17B5}' | '\u{180B}'
            ..='\u{180F}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_acts_on_a_terminal_or_hides_stands_as_an_escape() {
        for (text, shown) in [
            ("a\u{1b}[2Jb", r"a\u{1b}[2Jb"),
            ("\u{9b}31m", r"\u{9b}31m"),
            ("CA1\r\n2026 delivered", r"CA1\r\n2026 delivered"),
            ("\u{7}\u{0}\u{7f}\t", r"\u{7}\u{0}\u{7f}\t"),
            ("\u{202e}cod\u{2066}x\u{200f}\u{61c}", r"\u{202e}cod\u{2066}x\u{200f}\u{61c}"),
            ("ad\u{200b}min\u{feff}\u{2060}\u{ad}", r"ad\u{200b}min\u{feff}\u{2060}\u{ad}"),
            ("a\u{2028}b\u{2029}c\u{85}", r"a\u{2028}b\u{2029}c\u{85}"),
            ("\u{e0041}\u{3164}", r"\u{e0041}\u{3164}"),
        ] {
            assert_eq!(visible(text), shown);
            assert_eq!(visible(shown), shown, "twice is once");
        }
    }

    #[test]
    fn what_can_be_read_stays_as_it_is() {
        for text in
            ["", "agent_7f3k2", r"C:\dir", "Zürich, 東京, Ελλάδα, שלום, مرحبا", "e\u{301} 😀 ❤\u{fe0f}", "'\"<>&;|`$"]
        {
            assert!(matches!(visible(text), Cow::Borrowed(same) if same == text), "{text}");
        }
    }

    #[test]
    fn lines_of_our_own_stay_lines() {
        for text in ["", "a", "a\nb"] {
            assert!(matches!(visible_lines(text), Cow::Borrowed(same) if same == text), "{text}");
        }
        assert_eq!(visible_lines("a\u{1b}b"), "a\\u{1b}b");
        assert_eq!(visible_lines("a\nb\r\u{1b}c\n"), "a\nb\\r\\u{1b}c\n");
    }
}
