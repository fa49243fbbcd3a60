//! The tokens of a JSON template: those of RFC 8259, with placeholders inside strings and words.

use super::placeholder::{self, ESCAPED_OPEN, OPEN, Part};
use super::source::Source;
use crate::domain::problem::{Code, Field, Problem};

/// The kind of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// One of `{}[],:`.
    Punct(char),
    /// A string, with its quotes.
    Text,
    /// A sequence of other characters: a number, `true`, a placeholder, or several of them without a separator.
    Word,
}

/// One token, with its start and end in the template, in bytes.
#[derive(Debug)]
pub(super) struct Token {
    pub kind: Kind,
    pub start: usize,
    pub end: usize,
    /// The parts of a word, or of the text between the quotes of a string.
    pub parts: Vec<Part>,
}

/// Reads the token after byte `at`, if there is one.
///
/// # Errors
/// An invalid placeholder, or a string that is not closed.
pub(super) fn next(source: Source<'_>, at: usize) -> Result<Option<Token>, Problem> {
    let rest = source.after(at);
    let start = at + (rest.len() - rest.trim_start_matches([' ', '\t', '\n', '\r']).len());
    let Some(first) = source.after(start).chars().next() else { return Ok(None) };
    let mut reader = Reader { source, start, at: start, clean_from: start, parts: Vec::new() };
    let kind = match first {
        '{' | '}' | '[' | ']' | ',' | ':' => {
            reader.at += 1;
            Kind::Punct(first)
        }
        '"' => {
            reader.string()?;
            Kind::Text
        }
        _ => {
            reader.word()?;
            Kind::Word
        }
    };
    Ok(Some(Token { kind, start, end: reader.at, parts: reader.parts }))
}

struct Reader<'a> {
    source: Source<'a>,
    start: usize,
    at: usize,
    clean_from: usize,
    parts: Vec<Part>,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a str {
        self.source.after(self.at)
    }

    /// Ends the current part of literal text here.
    fn flush(&mut self) {
        if self.clean_from < self.at {
            self.parts.push(Part::Text(self.clean_from, self.at));
        }
        self.clean_from = self.at;
    }

    fn placeholder(&mut self, in_string: bool) -> Result<(), Problem> {
        self.flush();
        let placeholder = placeholder::read(self.source, self.at, in_string)?;
        self.at = placeholder.end;
        self.clean_from = placeholder.end;
        self.parts.push(Part::Placeholder(placeholder));
        Ok(())
    }

    fn string(&mut self) -> Result<(), Problem> {
        self.at += 1;
        self.clean_from = self.at;
        loop {
            let rest = self.rest();
            let Some(next) = rest.chars().next() else {
                return Err(self.source.syntax(self.start, "this string is never closed: a `\"` is missing"));
            };
            if rest.starts_with(OPEN) {
                self.placeholder(true)?;
            } else if rest.starts_with(ESCAPED_OPEN) {
                // Escapes are read in pairs from the left, so this backslash is not itself escaped.
                self.flush();
                self.parts.push(Part::Dropped(self.at));
                self.clean_from = self.at + 1;
                self.at += ESCAPED_OPEN.len();
            } else if next == '"' {
                self.flush();
                self.at += 1;
                return Ok(());
            } else if next == '\\' {
                self.at += self.escape()?;
            } else {
                self.check_raw(next)?;
                self.at += next.len_utf8();
            }
        }
    }

    /// Refuses a character that must not occur unescaped in a string.
    fn check_raw(&self, c: char) -> Result<(), Problem> {
        if c == '\n' || c == '\r' {
            let message = "the line ends inside a string: close the string with `\"`, or write the line break as `\\n`";
            return Err(match self.source.field {
                Field::Headers => self.control_in_header(c),
                _ => self.source.syntax(self.at, message),
            });
        }
        self.check_header_char(c)?;
        if c < ' ' {
            let message = format!("a control character inside a string: write it as `\\u{:04x}`", u32::from(c));
            return Err(self.source.syntax(self.at, message));
        }
        Ok(())
    }

    fn check_header_char(&self, c: char) -> Result<(), Problem> {
        match self.source.field == Field::Headers && c.is_control() {
            true => Err(self.control_in_header(c)),
            false => Ok(()),
        }
    }

    fn control_in_header(&self, c: char) -> Problem {
        let message = format!("a header cannot hold the control character U+{:04X}: remove it", u32::from(c));
        self.source.problem(Code::HeaderTemplateControlChar, self.at, message)
    }

    /// Checks the escape that begins here and returns its length.
    fn escape(&self) -> Result<usize, Problem> {
        let rest = self.rest();
        let (c, length) = match rest.as_bytes().get(1) {
            Some(b'"' | b'\\' | b'/') => return Ok(2),
            Some(b'b') => ('\u{8}', 2),
            Some(b'f') => ('\u{c}', 2),
            Some(b'n') => ('\n', 2),
            Some(b'r') => ('\r', 2),
            Some(b't') => ('\t', 2),
            Some(b'u') => match unicode_escape(rest) {
                Some(read) => read,
                None => {
                    let message = "`\\u` needs four hexadecimal digits here, and a character beyond U+FFFF needs two such escapes";
                    return Err(self.source.syntax(self.at, message));
                }
            },
            _ => {
                let message = "this backslash begins no JSON escape: write `\\\\` for a backslash";
                return Err(self.source.syntax(self.at, message));
            }
        };
        self.check_header_char(c)?;
        Ok(length)
    }

    fn word(&mut self) -> Result<(), Problem> {
        loop {
            let rest = self.rest();
            if rest.starts_with(OPEN) {
                self.placeholder(false)?;
            } else if rest.starts_with(ESCAPED_OPEN) {
                let message = "a literal `${` can only stand inside a string";
                return Err(self.source.syntax(self.at, message));
            } else {
                match rest.chars().next() {
                    Some(' ' | '\t' | '\n' | '\r' | '{' | '}' | '[' | ']' | ',' | ':' | '"') | None => break,
                    Some(c) => self.at += c.len_utf8(),
                }
            }
        }
        self.flush();
        Ok(())
    }
}

/// The character of the `\uXXXX`, or of the pair of them, at the start of `text`, and the length of the escape.
fn unicode_escape(text: &str) -> Option<(char, usize)> {
    let first = code_unit(text)?;
    if let Some(c) = char::from_u32(u32::from(first)) {
        return Some((c, 6));
    }
    let second = code_unit(text.get(6..)?)?;
    let c = char::decode_utf16([first, second]).next()?.ok()?;
    Some((c, 12))
}

fn code_unit(text: &str) -> Option<u16> {
    let digits = text.strip_prefix("\\u")?.get(..4)?;
    // The standard library would also accept a sign.
    digits.bytes().all(|digit| digit.is_ascii_hexdigit()).then(|| u16::from_str_radix(digits, 16).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_string_may_have_each_escape_of_json_and_in_a_header_none_of_a_control_character() {
        for escape in ["\\b", "\\f", "\\n", "\\r", "\\t", "\\u001F", "\\u007f"] {
            let text = format!("\"a{escape}\"");
            let body = next(Source { field: Field::Body, text: &text }, 0).unwrap().unwrap();
            assert_eq!((body.kind, body.end), (Kind::Text, text.len()), "{escape}");
            let problem = next(Source { field: Field::Headers, text: &text }, 0).unwrap_err();
            assert_eq!(problem.code, Code::HeaderTemplateControlChar, "{escape}");
        }
        for escape in ["\\\"", "\\\\", "\\/", "\\u00e9", "\\ud83d\\ude00"] {
            let text = format!("\"a{escape}\"");
            let header = next(Source { field: Field::Headers, text: &text }, 0).unwrap().unwrap();
            assert_eq!((header.kind, header.end), (Kind::Text, text.len()), "{escape}");
        }
    }
}
