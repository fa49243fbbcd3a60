//! Checks whether a JSON template gives JSON for all values of its placeholders, and if not, tells the author why.
//!
//! The grammar of RFC 8259 is checked on the template itself, with each placeholder in its role, so that every reported
//! position is in the text as written. The rendered text need not be checked again, with one exception: if a placeholder
//! is part of a number (`1${x}`), the call decides whether the result is a number.
//!
//! If a comma is missing, the reported position is the end of the value before it, where the comma belongs. An ordinary
//! parser would report the next key, often a line further down.

use super::json::MAX_DEPTH;
use super::json::number::is_number;
use super::placeholder::Part;
use super::source::{Source, shown};
use super::tokens::{self, Kind, Token};
use crate::domain::problem::{Position, Problem};

/// The role of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// A key of an object.
    Key,
    /// A string or word as a value, or the bracket that opens one.
    Value,
    /// A closing bracket, comma or colon.
    Between,
}

/// A token with its role and depth.
#[derive(Debug)]
pub(super) struct Node {
    pub role: Role,
    /// How many objects and arrays are open around the token.
    pub depth: usize,
    pub token: Token,
}

/// What the grammar allows next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expect {
    Value,
    ValueOrEnd,
    Key,
    KeyOrEnd,
    Colon,
    CommaOrEnd,
    Nothing,
}

/// Reads the JSON template `source`, which must contain more than white space.
///
/// # Errors
/// The first problem of syntax or of a placeholder.
pub(super) fn read(source: Source<'_>) -> Result<Vec<Node>, Problem> {
    let mut reader = Reader { source, open: Vec::new(), expect: Expect::Value, last: (0, 0) };
    let mut nodes = Vec::new();
    let mut at = 0;
    while let Some(token) = tokens::next(source, at)? {
        at = token.end;
        let span = (token.start, token.end);
        nodes.push(reader.accept(token)?);
        reader.last = span;
    }
    match (reader.open.last(), reader.expect) {
        (Some((bracket, start)), _) => Err(source.syntax(*start, format!("this `{bracket}` is never closed"))),
        (None, Expect::Nothing) => Ok(nodes),
        (None, _) => Err(source.syntax(at, "a JSON value is missing")),
    }
}

struct Reader<'a> {
    source: Source<'a>,
    /// The opening brackets of all open objects and arrays, with their byte offsets.
    open: Vec<(char, usize)>,
    expect: Expect,
    /// Start and end of the previous token.
    last: (usize, usize),
}

impl Reader<'_> {
    fn accept(&mut self, token: Token) -> Result<Node, Problem> {
        use Expect::*;
        let depth = self.open.len();
        let role = match (self.expect, token.kind) {
            (Value | ValueOrEnd, Kind::Punct(bracket @ ('{' | '['))) => {
                self.open(bracket, token.start)?;
                Role::Value
            }
            (Value | ValueOrEnd, Kind::Text) => {
                self.expect = self.after_value();
                Role::Value
            }
            (Value | ValueOrEnd, Kind::Word) => {
                check_word(self.source, &token)?;
                self.expect = self.after_value();
                Role::Value
            }
            (Key | KeyOrEnd, Kind::Text) => {
                self.expect = Colon;
                Role::Key
            }
            (Colon, Kind::Punct(':')) => {
                self.expect = Value;
                Role::Between
            }
            (CommaOrEnd, Kind::Punct(',')) => {
                self.expect = if self.in_object() { Key } else { Value };
                Role::Between
            }
            (CommaOrEnd | KeyOrEnd, Kind::Punct('}')) if self.in_object() => self.close(),
            (CommaOrEnd | ValueOrEnd, Kind::Punct(']')) if !self.in_object() => self.close(),
            _ => return Err(self.unexpected(&token)),
        };
        Ok(Node { role, depth, token })
    }

    fn in_object(&self) -> bool {
        matches!(self.open.last(), Some(('{', _)))
    }

    fn open(&mut self, bracket: char, start: usize) -> Result<(), Problem> {
        if self.open.len() == MAX_DEPTH {
            return Err(self.source.syntax(start, format!("nested deeper than {MAX_DEPTH} levels")));
        }
        self.open.push((bracket, start));
        self.expect = if bracket == '{' { Expect::KeyOrEnd } else { Expect::ValueOrEnd };
        Ok(())
    }

    fn close(&mut self) -> Role {
        self.open.pop();
        self.expect = self.after_value();
        Role::Between
    }

    fn after_value(&self) -> Expect {
        if self.open.is_empty() { Expect::Nothing } else { Expect::CommaOrEnd }
    }

    fn unexpected(&self, token: &Token) -> Problem {
        let (offset, message) = match self.expect {
            Expect::CommaOrEnd => self.no_comma(token),
            Expect::Key | Expect::KeyOrEnd => self.no_key(token),
            Expect::Value | Expect::ValueOrEnd => self.no_value(token),
            Expect::Colon => (self.last.1, "expected `:` and a value after this key".to_owned()),
            Expect::Nothing => (token.start, "the JSON is complete before this: remove what follows".to_owned()),
        };
        self.source.syntax(offset, message)
    }

    fn no_comma(&self, token: &Token) -> (usize, String) {
        let close = if self.in_object() { '}' } else { ']' };
        match token.kind {
            Kind::Punct('}' | ']') => self.wrong_bracket(token),
            Kind::Punct(':') => (token.start, format!("expected `,` or `{close}` here, not `:`")),
            // If text follows a string without a space, an unescaped quote inside the string is far more likely than a
            // missing comma.
            Kind::Word if self.last.1 == token.start => {
                let message = format!(
                    "expected `,` or `{close}` after this value: inside a string a `\"` is written `\\\"`, and all text \
                     stands inside strings"
                );
                (self.last.1, message)
            }
            _ => {
                let at = if Position::of(self.source.text, self.last.1).line
                    == Position::of(self.source.text, token.start).line
                {
                    "here"
                } else {
                    "at the end of this line"
                };
                (self.last.1, format!("expected `,` or `{close}` after this value: is a comma missing {at}?"))
            }
        }
    }

    fn no_key(&self, token: &Token) -> (usize, String) {
        let message = match token.kind {
            // Without a comma before it, it would close the object.
            Kind::Punct('}') => return self.trailing_comma('}'),
            Kind::Punct(']') => return self.wrong_bracket(token),
            Kind::Punct(',') => "expected a key before this comma: is it one comma too many?",
            Kind::Word if token.parts.iter().any(|part| part.placeholder().is_some()) => {
                "a placeholder stands where a key is needed: put it in double quotes"
            }
            _ => "expected a key in double quotes here",
        };
        (token.start, message.to_owned())
    }

    fn no_value(&self, token: &Token) -> (usize, String) {
        match token.kind {
            Kind::Punct(']') if !self.in_object() && !self.open.is_empty() => self.trailing_comma(']'),
            Kind::Punct(found) => (token.start, format!("expected a value here, not `{found}`")),
            Kind::Text | Kind::Word => (token.start, "expected a value here".to_owned()),
        }
    }

    fn trailing_comma(&self, close: char) -> (usize, String) {
        (self.last.0, format!("no comma may stand before `{close}`: remove it"))
    }

    fn wrong_bracket(&self, token: &Token) -> (usize, String) {
        let found = self.source.between(token.start, token.end);
        match self.open.last() {
            Some((bracket, start)) => {
                let line = Position::of(self.source.text, *start).line;
                (token.start, format!("`{found}` cannot close the `{bracket}` of line {line}"))
            }
            None => (token.start, format!("nothing is open that `{found}` could close")),
        }
    }
}

/// Checks a value outside quotes. If placeholders are part of a number, they are tried with the value 1: if any value
/// makes a valid number, 1 does, too.
fn check_word(source: Source<'_>, token: &Token) -> Result<(), Problem> {
    if let [Part::Placeholder(_)] = token.parts.as_slice() {
        return Ok(());
    }
    let probe: String = token
        .parts
        .iter()
        .map(|part| match part {
            Part::Text(start, end) => source.between(*start, *end),
            Part::Dropped(_) => "",
            Part::Placeholder(_) => "1",
        })
        .collect();
    let has_placeholder = token.parts.iter().any(|part| part.placeholder().is_some());
    if is_number(&probe) || (!has_placeholder && matches!(probe.as_str(), "true" | "false" | "null")) {
        return Ok(());
    }
    let message = match has_placeholder {
        true => {
            "a placeholder outside quotes must be a whole value: put the text around it in double quotes".to_owned()
        }
        false => bad_word(&probe),
    };
    Err(source.syntax(token.start, message))
}

fn bad_word(word: &str) -> String {
    let lower = word.to_ascii_lowercase();
    let advice = match lower.as_str() {
        "true" | "false" | "null" => return format!("write `{lower}` in lower case"),
        "none" | "nil" | "undefined" | "nan" => "write `null`",
        _ if word.starts_with('\u{feff}') => "remove the byte order mark",
        _ if word.starts_with("//") || word.starts_with("/*") || word.starts_with('#') => "JSON has no comments",
        _ if word.starts_with(['\'', '`', '“', '”']) => "strings need straight double quotes",
        _ if word.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c)) => {
            "numbers have no leading zero, no `+`, and digits on both sides of the point; other text stands in double \
             quotes"
        }
        _ => "text stands in double quotes",
    };
    format!("`{}` is not a JSON value: {advice}", shown(word))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::problem::{Code, Field};

    fn read_text(text: &str) -> Result<Vec<Node>, Problem> {
        read(Source { field: Field::Body, text })
    }

    /// Line, column and message of the problem in `text`.
    fn wrong(text: &str) -> (usize, usize, String) {
        let problem = read_text(text).unwrap_err();
        assert_eq!(problem.code, Code::InvalidJsonBody, "{text}");
        let position = problem.position.unwrap();
        (position.line, position.column, problem.message)
    }

    #[test]
    fn the_comma_missing_in_the_platform_s_example_is_placed_where_it_belongs() {
        let example = "{\n  \"caller\": \"${callInfo.from}\",\n  \"callee\": \"${callInfo.to}\",\n  \
                       \"callType\": \"${callInfo.type}\",\n  \"summary\": \"${analysis.results.summary}\",\n  \
                       \"duration\": ${duration},\n  \"price\": ${price},\n  \
                       \"recordingUrl\": \"${callInfo.recording}\",\n  \"leadId\": \"${context.leadId}\"\n  \
                       \"disposition\": \"${outcome}\"\n}";
        let message = "expected `,` or `}` after this value: is a comma missing at the end of this line?";
        assert_eq!(wrong(example), (9, 32, message.to_owned()));
        assert!(read_text(&example.replace("leadId}\"", "leadId}\",")).is_ok());
    }

    #[test]
    fn each_slip_is_named_at_its_place() {
        let cases = [
            ("{\"a\": 1 \"b\": 2}", 8, "is a comma missing here?"),
            ("[${a} ${b}]", 6, "is a comma missing here?"),
            ("[1 {}]", 3, "expected `,` or `]`"),
            ("{\"a\":\"say \"hi\" now\"}", 12, "a `\"` is written `\\\"`"),
            ("{\"a\": 1,}", 8, "no comma may stand before `}`"),
            ("[1, ]", 3, "no comma may stand before `]`"),
            ("{\"a\"}", 5, "expected `:`"),
            ("{\"a\": }", 7, "expected a value here, not `}`"),
            ("{\"a\": ,}", 7, "expected a value here, not `,`"),
            ("{,}", 2, "one comma too many"),
            ("{${a}: 1}", 2, "put it in double quotes"),
            ("{a: 1}", 2, "expected a key in double quotes"),
            ("{1: 1}", 2, "expected a key in double quotes"),
            ("{\"a\": [1}", 9, "`}` cannot close the `[` of line 1"),
            ("[\"a\": 1]", 5, "not `:`"),
            ("{\"a\": 1]", 8, "`]` cannot close the `{` of line 1"),
            ("{]", 2, "`]` cannot close the `{` of line 1"),
            ("{\"a\": 1, ]", 10, "`]` cannot close the `{` of line 1"),
            ("{\"a\": 1", 1, "this `{` is never closed"),
            ("[[1]", 1, "this `[` is never closed"),
            ("{} {}", 4, "complete before this"),
            ("]", 1, "expected a value here, not `]`"),
            ("[True]", 2, "write `true` in lower case"),
            ("[None]", 2, "write `null`"),
            ("[012]", 2, "numbers have no leading zero"),
            ("['a']", 2, "straight double quotes"),
            ("[1] // all", 5, "complete before this"),
            ("// all\n1", 1, "JSON has no comments"),
            ("/* all */ 1", 1, "JSON has no comments"),
            ("#all\n1", 1, "JSON has no comments"),
            ("\u{feff}{}", 1, "remove the byte order mark"),
            ("[word]", 2, "value: text stands in double quotes"),
            ("[\\${a}]", 2, "only stand inside a string"),
            ("[a${a}]", 2, "must be a whole value"),
            ("[0${a}]", 2, "must be a whole value"),
            ("[tru${a}]", 2, "must be a whole value"),
            ("[\"a]", 2, "never closed"),
            ("[\"a\\x\"]", 4, "no JSON escape"),
            ("[\"\\u00g0\"]", 3, "four hexadecimal digits"),
            ("[\"\\ud83d\\u0041\"]", 3, "four hexadecimal digits"),
            ("[\"\\ude00\\ud83d\"]", 3, "four hexadecimal digits"),
            ("[\"\\ud83d${a}\\ude00\"]", 3, "four hexadecimal digits"),
            ("[\"a\tb\"]", 4, "\\u0009"),
            ("[\"a\n\"]", 4, "the line ends inside a string"),
        ];
        for (text, column, part) in cases {
            let (line, found, message) = wrong(text);
            assert_eq!((line, found), (1, column), "{text}: {message}");
            assert!(message.contains(part), "{text}: {message}");
        }
    }

    #[test]
    fn a_number_may_have_placeholders_for_digits_where_some_value_makes_it_one() {
        for text in ["1${a}", "-${a}", "${a}${b}", "${a}.5", "1.${a}", "${a}e3", "1e${a}", "1e-${a}"] {
            assert!(read_text(text).is_ok(), "{text}");
        }
        for text in ["0${a}", "${a}-1", "+${a}", "${a}.", ".${a}", "${a}x"] {
            assert!(read_text(text).is_err(), "{text}");
        }
    }

    #[test]
    fn nesting_is_as_deep_as_a_call_may_be_and_no_deeper() {
        let nested = |depth| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
        assert!(read_text(&nested(MAX_DEPTH)).is_ok());
        assert!(serde_json::from_str::<serde_json::Value>(&nested(MAX_DEPTH)).is_ok());
        assert_eq!(wrong(&nested(MAX_DEPTH + 1)).1, MAX_DEPTH + 1);
    }
}
