//! Placeholders: reads `${path}` in a template, and reports the problem if it is malformed.
//!
//! ```text
//! placeholder = "${" blank* path blank* "}"
//! path        = name ( "." name | "[" digits "]" | "['" key "']" | "[\"" key "\"]" )*
//! name        = Unicode letters, marks, digits, "_", "-", and spaces inside
//! ```
//!
//! A placeholder must not contain a line break. Inside a JSON string, the quotes around a key may also be written `\"`,
//! because the template itself is JSON. A key is used unchanged: it has no escapes.

use unicode_properties::{GeneralCategory, GeneralCategoryGroup, UnicodeGeneralCategory};

use super::path::{Path, Step};
use super::source::{Source, shown};
use crate::domain::problem::{Code, Problem};

/// A placeholder, with its start and end in the template, in bytes.
#[derive(Debug)]
pub(super) struct Placeholder {
    pub path: Path,
    pub start: usize,
    pub end: usize,
}

/// A part of a template.
#[derive(Debug)]
pub(super) enum Part {
    /// Literal text: the bytes from the first offset up to the second.
    Text(usize, usize),
    /// A backslash that makes the `${` after it literal. It is not part of the output.
    Dropped(usize),
    /// A placeholder.
    Placeholder(Placeholder),
}

impl Part {
    /// The placeholder, if this part is one.
    pub fn placeholder(&self) -> Option<&Placeholder> {
        match self {
            Part::Placeholder(placeholder) => Some(placeholder),
            Part::Text(..) | Part::Dropped(_) => None,
        }
    }
}

/// The beginning of every placeholder.
pub(super) const OPEN: &str = "${";
/// How a template writes a literal `${`.
pub(super) const ESCAPED_OPEN: &str = "\\${";

/// Reads the placeholder that begins at byte `start`. `in_string` says whether it is inside a JSON string.
///
/// # Errors
/// [`Code::BadPlaceholder`] or [`Code::UnterminatedPlaceholder`].
pub(super) fn read(source: Source<'_>, start: usize, in_string: bool) -> Result<Placeholder, Problem> {
    let mut reader = Reader { source, start, at: start + OPEN.len(), in_string };
    reader.skip_blanks();
    let text_start = reader.at;
    let steps = reader.steps()?;
    let text = source.between(text_start, reader.at).trim_end_matches(BLANKS);
    let path = Path { text: text.into(), steps };
    reader.skip_blanks();
    match reader.take("}") {
        true if path.is_secret() && path.secret().is_none() => {
            let message = "`secret` is reserved: a secret is named `${secret.NAME}`, with one name of ASCII letters, digits, \
                           `_` and `-`. A value of the call can be neither named nor hidden by it";
            Err(source.problem(Code::BadPlaceholder, start, message))
        }
        true => Ok(Placeholder { path, start, end: reader.at }),
        false => Err(reader.malformed()),
    }
}

const BLANKS: [char; 2] = [' ', '\t'];

struct Reader<'a> {
    source: Source<'a>,
    start: usize,
    at: usize,
    in_string: bool,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a str {
        self.source.after(self.at)
    }

    fn take(&mut self, token: &str) -> bool {
        let found = self.rest().starts_with(token);
        if found {
            self.at += token.len();
        }
        found
    }

    fn skip_blanks(&mut self) {
        self.at += self.rest().len() - self.rest().trim_start_matches(BLANKS).len();
    }

    fn steps(&mut self) -> Result<Vec<Step>, Problem> {
        let mut steps = vec![self.name()?];
        loop {
            if self.take(".") {
                steps.push(self.name()?);
            } else if self.take("[") {
                steps.push(self.bracket()?);
            } else {
                return Ok(steps);
            }
        }
    }

    fn name(&mut self) -> Result<Step, Problem> {
        let rest = self.rest();
        let run = rest.find(|c| !is_name_char(c) && c != ' ').unwrap_or(rest.len());
        let name = rest.get(..run).unwrap_or_default().trim_end_matches(' ');
        if name.is_empty() || name.starts_with(' ') {
            return Err(self.malformed());
        }
        self.at += name.len();
        Ok(Step::name(name))
    }

    fn bracket(&mut self) -> Result<Step, Problem> {
        for quote in ["'", "\"", "\\\""] {
            let escaped = quote.len() > 1;
            if (!escaped || self.in_string) && self.take(quote) {
                return self.key(quote);
            }
        }
        let rest = self.rest();
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let number = rest.get(..digits).unwrap_or_default();
        self.at += digits;
        if number.is_empty() || !self.take("]") {
            return Err(self.malformed());
        }
        Ok(Step::name(number))
    }

    fn key(&mut self, quote: &str) -> Result<Step, Problem> {
        // Looks for the quote first and for the line break only before it. If each key searched for the end of a long
        // line, each would cost the length of the line.
        let Some((key, _)) = self.rest().split_once(quote).filter(|(key, _)| !key.contains(['\n', '\r'])) else {
            return Err(self.unterminated());
        };
        self.at += key.len() + quote.len();
        match self.take("]") {
            true => Ok(Step::Key(key.into())),
            false => Err(self.malformed()),
        }
    }

    /// The problem at this position. If the `}` is missing, the message says so, instead of complaining about a later
    /// character.
    fn malformed(&self) -> Problem {
        let rest = line(self.rest());
        let first = rest.chars().next();
        if rest.starts_with(OPEN) {
            let message = "a placeholder cannot contain another one: name the path with `.` or `['…']`";
            return self.source.problem(Code::BadPlaceholder, self.at, message);
        }
        match first {
            Some('}') if self.source.between(self.start + OPEN.len(), self.at).trim_matches(BLANKS).is_empty() => {
                let message = "the placeholder is empty: write a path in it, or `\\${` for a literal `${`";
                self.source.problem(Code::BadPlaceholder, self.start, message)
            }
            Some('"') if self.in_string => self.unterminated(),
            Some('.' | '[') if rest.contains('}') && self.after_inner_blank() => {
                let message = "a blank is not allowed here: write it inside a name, or inside `['…']`";
                self.source.problem(Code::BadPlaceholder, self.at - 1, message)
            }
            Some(found) if rest.contains('}') => {
                let message = format!(
                    "`{}` is not allowed here in a placeholder: a path is names joined by `.`, `[0]` or `['any key']`, \
                     without calculations",
                    shown(found.encode_utf8(&mut [0; 4]))
                );
                self.source.problem(Code::BadPlaceholder, self.at, message)
            }
            _ => self.unterminated(),
        }
    }

    /// Whether there is a blank directly before this position, and a part of the path before that.
    fn after_inner_blank(&self) -> bool {
        let before = self.source.between(self.start + OPEN.len(), self.at);
        before.ends_with(BLANKS) && !before.trim_matches(BLANKS).is_empty()
    }

    fn unterminated(&self) -> Problem {
        let message = "this placeholder is not closed by `}` on its line; for a literal `${` write `\\${`";
        self.source.problem(Code::UnterminatedPlaceholder, self.start, message)
    }
}

/// `text` up to its first line break.
fn line(text: &str) -> &str {
    text.split(['\n', '\r']).next().unwrap_or_default()
}

fn is_name_char(c: char) -> bool {
    matches!(c, '_' | '-')
        || c.is_ascii_alphanumeric()
        || matches!(c.general_category_group(), GeneralCategoryGroup::Letter | GeneralCategoryGroup::Mark)
        || c.general_category() == GeneralCategory::DecimalNumber
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::problem::{Field, Position};

    fn read_text(text: &str, in_string: bool) -> Result<Placeholder, Problem> {
        read(Source { field: Field::Body, text }, 0, in_string)
    }

    fn steps(text: &str) -> Vec<Step> {
        read_text(text, false).unwrap().path.steps
    }

    fn name(text: &str) -> Step {
        Step::name(text)
    }

    fn key(text: &str) -> Step {
        Step::Key(text.into())
    }

    #[test]
    fn a_path_is_names_indexes_and_quoted_keys() {
        assert_eq!(steps("${a}"), [name("a")]);
        assert_eq!(steps("${a.b-c.0[12]}"), [name("a"), name("b-c"), name("0"), name("12")]);
        assert_eq!(steps("${a['x.y}']['']}"), [name("a"), key("x.y}"), key("")]);
        assert_eq!(steps("${a[\"it's\"].b}"), [name("a"), key("it's"), name("b")]);
        assert_eq!(steps("${context.Order ID}"), [name("context"), name("Order ID")]);
        assert_eq!(steps("${context.नाम.é}"), [name("context"), name("नाम"), name("é")]);
    }

    #[test]
    fn secret_is_reserved_for_one_name_below_it() {
        for (text, name) in [("${secret.API-key_2}", "API-key_2"), ("${secret['T']}", "T"), ("${ secret.T }", "T")] {
            assert_eq!(read_text(text, false).unwrap().path.secret(), Some(name), "{text}");
        }
        for text in ["${secret}", "${secret.a.b}", "${secret[0]}", "${secret.é}", "${secret['']}", "${secret.a b}"] {
            assert_eq!(read_text(text, false).unwrap_err().code, Code::BadPlaceholder, "{text}");
        }
        assert_eq!(read_text("${secrets.a}", false).unwrap().path.secret(), None);
        assert_eq!(read_text("${context.secret}", false).unwrap().path.secret(), None);
    }

    #[test]
    fn outer_blanks_are_no_part_of_the_path() {
        let placeholder = read_text("${ \t a.b \t}rest", false).unwrap();
        assert_eq!((placeholder.path.text.as_ref(), placeholder.end), ("a.b", 11));
        assert_eq!(read_text("${ a[0] }", false).unwrap().path.text.as_ref(), "a[0]");
    }

    #[test]
    fn inside_a_json_string_the_quotes_of_a_key_may_be_escaped() {
        let expected = [name("a"), key("b c")];
        assert_eq!(read_text("${a[\\\"b c\\\"]}", true).unwrap().path.steps, expected);
        assert_eq!(read_text("${a[\"b c\"]}", true).unwrap().path.steps, expected);
        assert_eq!(read_text("${a[\\\"b c\\\"]}", false).unwrap_err().code, Code::BadPlaceholder);
    }

    #[test]
    fn what_is_no_path_is_a_bad_placeholder_at_the_first_wrong_character() {
        let cases = [
            ("${}", 1),
            ("${  }", 1),
            ("${a..b}", 5),
            ("${.a}", 3),
            ("${a.}", 5),
            ("${a .b}", 4),
            ("${ .a}", 4),
            ("${a\"}", 4),
            ("${a. b}", 5),
            ("${a*2}", 4),
            ("${a * 2}", 5),
            ("${a[]}", 5),
            ("${a[-1]}", 5),
            ("${a[0}", 6),
            ("${a['b'}", 8),
            ("${['a']}", 3),
            ("${a${b}}", 4),
            ("${a.${b}}", 5),
            ("${f()}", 4),
            ("${a\u{200d}b}", 4),
        ];
        for (text, column) in cases {
            let problem = read_text(text, false).unwrap_err();
            assert_eq!(
                (problem.code, problem.position),
                (Code::BadPlaceholder, Some(Position { line: 1, column })),
                "{text}"
            );
        }
    }

    #[test]
    fn a_placeholder_that_does_not_end_on_its_line_is_unterminated_at_its_start() {
        for text in ["${", "${a", "${ a ", "${a\n}", "${\n}", "${a['b", "${a['b\n']}", "${a[0", "${a.", "${a b c, d"] {
            let problem = read_text(text, false).unwrap_err();
            let start = Some(Position { line: 1, column: 1 });
            assert_eq!((problem.code, problem.position), (Code::UnterminatedPlaceholder, start), "{text:?}");
        }
        assert_eq!(read_text("${a\"}", true).unwrap_err().code, Code::UnterminatedPlaceholder);
    }
}
