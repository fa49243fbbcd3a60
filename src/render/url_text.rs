//! Splits the text of a URL template at its delimiters, and refuses it where a URL parser would guess what the author
//! meant.
//!
//! The WHATWG parser of the `url` crate drops line breaks, reads `\` as `/`, and skips slashes and a missing host. Here
//! each of these is reported to the author.

use std::ops::Range;

use url::Url;

use super::limits;
use super::placeholder::{self, OPEN, Part, Placeholder};
use super::source::Source;
use crate::domain::problem::{Code, Problem};

/// Represents a placeholder in the text. Control characters are refused in literal text, so it can have no other
/// meaning.
pub(super) const MARK: char = '\0';

/// A URL template whose scheme and authority are valid.
pub(super) struct UrlText<'a> {
    source: Source<'a>,
    /// The trimmed template, with a [`MARK`] for each placeholder and `${` for each `\${`.
    text: String,
    /// For each part of `text`: its start in `text` and its start in the template.
    origins: Vec<(usize, usize)>,
    /// The placeholders of the marks, in order.
    placeholders: Vec<Placeholder>,
    authority: Range<usize>,
}

impl<'a> UrlText<'a> {
    /// Reads `source` and checks all of it up to the path.
    ///
    /// # Errors
    /// A placeholder's problem, [`Code::UrlControlChar`], [`Code::BadUrl`], [`Code::BadScheme`],
    /// [`Code::PlaceholderInAuthority`] or [`Code::UrlUserinfo`].
    pub fn read(source: Source<'a>) -> Result<UrlText<'a>, Problem> {
        let trimmed = source.text.trim();
        let start = source.text.len() - source.text.trim_start().len();
        let source = Source { text: source.between(0, start + trimmed.len()), ..source };
        let parts = split(source, start)?;
        limits::check_placeholders(source, parts.iter().filter_map(Part::placeholder))?;
        let mut url =
            UrlText { source, text: String::new(), origins: Vec::new(), placeholders: Vec::new(), authority: 0..0 };
        for part in parts {
            url.push(part)?;
        }
        url.authority = url.find_authority()?;
        url.check_userinfo()?;
        Ok(url)
    }

    fn push(&mut self, part: Part) -> Result<(), Problem> {
        match part {
            Part::Text(start, end) => {
                let text = self.source.between(start, end);
                check_characters(self.source, start, text)?;
                self.origins.push((self.text.len(), start));
                self.text.push_str(text);
            }
            Part::Dropped(_) => {}
            Part::Placeholder(placeholder) => {
                self.origins.push((self.text.len(), placeholder.start));
                self.text.push(MARK);
                self.placeholders.push(placeholder);
            }
        }
        Ok(())
    }

    /// The scheme, `://` and all up to the first `/`, `?` or `#` after it must be literal.
    fn find_authority(&self) -> Result<Range<usize>, Problem> {
        const SCHEMES: [&str; 2] = ["https://", "http://"];
        let first_mark = self.text.find(MARK);
        let literal = self.text.get(..first_mark.unwrap_or(self.text.len())).unwrap_or_default().to_ascii_lowercase();
        let Some(scheme) = SCHEMES.iter().find(|scheme| literal.starts_with(**scheme)) else {
            return Err(match first_mark {
                Some(mark) if SCHEMES.iter().any(|scheme| scheme.starts_with(&literal)) => self.in_authority(mark),
                _ => self.problem(Code::BadScheme, 0, "a URL begins with `https://` or `http://`"),
            });
        };
        let start = scheme.len();
        let end = self.text.find_from(start, ['/', '?', '#']);
        match first_mark {
            Some(mark) if (start..end).contains(&mark) => Err(self.in_authority(mark)),
            _ => Ok(start..end),
        }
    }

    fn in_authority(&self, mark: usize) -> Problem {
        let message = "a placeholder cannot choose where the request goes: write scheme, host and port as literal text, \
                       and a `/` before the first placeholder";
        self.problem(Code::PlaceholderInAuthority, mark, message)
    }

    fn check_userinfo(&self) -> Result<(), Problem> {
        let Some(at) = self.slice(self.authority.clone()).find('@') else { return Ok(()) };
        let message = "a URL cannot carry `user:password@`: send an `authorization` header instead";
        Err(self.problem(Code::UrlUserinfo, self.authority.start + at, message))
    }

    /// Scheme, host and port in WHATWG form: IDN as punycode, without the default port, IPv4 normalised, without a
    /// slash at the end.
    pub fn origin(&self) -> Result<String, Problem> {
        let url = Url::parse(&format!("{}/", self.slice(0..self.authority.end))).map_err(|error| {
            self.problem(Code::BadUrl, self.authority.start, format!("host and port are not valid: {error}"))
        })?;
        Ok(url.as_str().trim_end_matches('/').to_owned())
    }

    /// The range of the path; it is empty or begins with a slash.
    pub fn path(&self) -> Range<usize> {
        let start = self.authority.end;
        start..self.text.find_from(start, ['?', '#'])
    }

    /// The range of the query without its `?`, if there is a query.
    pub fn query(&self) -> Option<Range<usize>> {
        let start = self.path().end;
        self.slice(start..self.text.len()).starts_with('?').then(|| start + 1..self.text.find_from(start, ['#']))
    }

    /// A part of the text, with [`MARK`]s for placeholders.
    pub fn slice(&self, range: Range<usize>) -> &str {
        self.text.get(range).unwrap_or_default()
    }

    /// A problem at the byte `at` of the text.
    pub fn problem(&self, code: Code, at: usize, message: impl Into<String>) -> Problem {
        self.source.problem(code, self.offset(at), message)
    }

    /// The offset in the template of the byte `at` of the text.
    pub fn offset(&self, at: usize) -> usize {
        let after = self.origins.partition_point(|(start, _)| *start <= at);
        let stretch = after.checked_sub(1).and_then(|before| self.origins.get(before));
        stretch.map_or(at, |(start, offset)| offset + (at - start))
    }

    /// Takes the placeholders of the marks, in order. A second call returns none.
    pub fn take_placeholders(&mut self) -> Vec<Placeholder> {
        std::mem::take(&mut self.placeholders)
    }
}

trait FindFrom {
    /// The offset of the first of `delimiters` at or after byte `start`; the length of the text if there is none.
    fn find_from<const N: usize>(&self, start: usize, delimiters: [char; N]) -> usize;
}

impl FindFrom for String {
    fn find_from<const N: usize>(&self, start: usize, delimiters: [char; N]) -> usize {
        let rest = self.get(start..).unwrap_or_default();
        rest.find(delimiters).map_or(self.len(), |at| start + at)
    }
}

fn check_characters(source: Source<'_>, start: usize, text: &str) -> Result<(), Problem> {
    let Some((at, found)) = text.char_indices().find(|(_, c)| c.is_control() || *c == '\\') else { return Ok(()) };
    Err(match found {
        '\\' => source.problem(Code::BadUrl, start + at, "a URL cannot contain a backslash: write `/`, or `%5C`"),
        _ => {
            let message = "a URL cannot contain a line break, tab or other control character: remove it";
            source.problem(Code::UrlControlChar, start + at, message)
        }
    })
}

/// Splits a URL template at its placeholders.
pub(super) fn split(source: Source<'_>, start: usize) -> Result<Vec<Part>, Problem> {
    let mut parts = Vec::new();
    let mut at = start;
    while let Some(found) = source.after(at).find(OPEN) {
        let open = at + found;
        // One backslash before `${` escapes it. A second one would remain in the text, and is then refused.
        if source.between(at, open).ends_with('\\') {
            parts.extend([Part::Text(at, open - 1), Part::Dropped(open - 1), Part::Text(open, open + OPEN.len())]);
            at = open + OPEN.len();
        } else {
            let placeholder = placeholder::read(source, open, false)?;
            parts.push(Part::Text(at, open));
            at = placeholder.end;
            parts.push(Part::Placeholder(placeholder));
        }
    }
    parts.push(Part::Text(at, source.text.len()));
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::problem::Field;

    #[test]
    fn the_parts_of_a_template_follow_one_another_without_a_gap() {
        let text = "  https://h/é\\${x}?${ y }${z}&\\${\\${é#";
        let mut at = 2;
        for part in split(Source { field: Field::Url, text }, at).unwrap() {
            let (start, end) = match part {
                Part::Text(start, end) => (start, end),
                Part::Dropped(start) => (start, start + 1),
                Part::Placeholder(placeholder) => (placeholder.start, placeholder.end),
            };
            assert_eq!(start, at);
            at = end;
        }
        assert_eq!(at, text.len());
    }
}
