//! Problems of an action or a call, described so that the author can fix them: a code for programs, a sentence for
//! people, the field, and the position if there is one.

use std::fmt;

use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

/// The stable name of a kind of problem. Programs may match on it; the sentence of a problem may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// A placeholder is empty, malformed or nested.
    BadPlaceholder,
    /// `${` without a closing `}`.
    UnterminatedPlaceholder,
    /// The body is not JSON after its placeholders are filled.
    InvalidJsonBody,
    /// A placeholder stands where it would choose the scheme, host or port.
    PlaceholderInAuthority,
    /// The URL does not begin with `http://` or `https://`.
    BadScheme,
    /// The text is not a valid URL: empty host, backslash, bad port, bad host.
    BadUrl,
    /// The URL carries `user:password@`.
    UrlUserinfo,
    /// The URL contains a control character.
    UrlControlChar,
    /// A path segment that is, or becomes, `.` or `..`.
    DotSegment,
    /// A placeholder in the path has an empty value.
    EmptyPathValue,
    /// A placeholder in the path has an object or an array as its value.
    NonScalarInPath,
    /// The headers are not one JSON object.
    HeadersNotObject,
    /// A header's value is an object or an array.
    HeaderValueType,
    /// A header's name is not an RFC 9110 token.
    HeaderNameInvalid,
    /// The same header is given twice; letter case is ignored.
    HeaderDuplicate,
    /// A header that only the connection, the message's framing or postcall itself may set.
    HeaderForbidden,
    /// A control character in the author's own header text.
    HeaderTemplateControlChar,
    /// A placeholder in a header's name.
    PlaceholderInHeaderName,
    /// The method is not GET, POST or PUT.
    BadMethod,
    /// The timeout is not a whole number of milliseconds within the limits.
    BadTimeout,
    /// Something exceeds a documented limit.
    TooLarge,
    /// The action file itself is invalid: not JSON, not an object, an unknown field, or a field of the wrong type.
    BadAction,
    /// The call is invalid: not JSON, not an object, or nested too deep.
    BadCall,
    /// A secret that a template names has no value, or cannot be opened; or the templates themselves are sealed and cannot be opened.
    NoSecret,
    /// The key that signs the agent's requests cannot be opened.
    NoSigningKey,
}

/// The field of the action (or the call) that a [`Problem`] is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Field {
    /// The action file as a whole.
    Action,
    /// `method`
    Method,
    /// `url`
    Url,
    /// `timeout`
    Timeout,
    /// `headers`
    Headers,
    /// `body`
    Body,
    /// The call object.
    Call,
}

/// A position in a text: line and column, both counted from 1, the column in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
}

impl Position {
    /// The position of the byte `offset` in `text`. An offset past the end, or inside a character, counts as the nearest
    /// one before it.
    pub fn of(text: &str, offset: usize) -> Position {
        Positions::new(text).of(offset)
    }

    /// The byte of `text` at which this position is: the inverse of [`Position::of`]. A position past the end of its line or of the
    /// text counts as that end.
    pub fn offset(self, text: &str) -> usize {
        let line: usize = text.split_inclusive('\n').take(self.line.saturating_sub(1)).map(str::len).sum();
        let rest = text[line..].split('\n').next().unwrap_or_default();
        line + rest.char_indices().nth(self.column.saturating_sub(1)).map_or(rest.len(), |(at, _)| at)
    }
}

/// Finds the positions of offsets in one text. For ascending offsets, all calls together read the text once.
#[derive(Clone, Debug)]
pub struct Positions<'a> {
    text: &'a str,
    offset: usize,
    position: Position,
}

impl<'a> Positions<'a> {
    /// Positions in `text`.
    pub fn new(text: &'a str) -> Positions<'a> {
        Positions { text, offset: 0, position: Position { line: 1, column: 1 } }
    }

    /// The position of the byte `offset`, as [`Position::of`] counts it.
    pub fn of(&mut self, offset: usize) -> Position {
        let mut end = offset.min(self.text.len());
        while !self.text.is_char_boundary(end) {
            end -= 1;
        }
        let passed = match self.text.get(self.offset..end) {
            Some(passed) => passed,
            None => {
                *self = Positions::new(self.text);
                &self.text[..end]
            }
        };
        self.position = match passed.rfind('\n') {
            None => Position { column: self.position.column + passed.chars().count(), ..self.position },
            Some(last) => Position {
                line: self.position.line + passed.matches('\n').count(),
                column: passed[last + 1..].chars().count() + 1,
            },
        };
        self.offset = end;
        self.position
    }
}

/// One problem. The message never repeats a value of the call, so it may be logged and stored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message} ({code})")]
pub struct Problem {
    /// Its stable name.
    pub code: Code,
    /// The field it is in.
    pub field: Field,
    /// A sentence that also says how to fix the problem, if that is possible. It has no final period.
    pub message: String,
    /// The position in the field's own text, if there is a single position. `action`, `method` and `timeout` have no text of
    /// their own: their positions are in the action file.
    pub position: Option<Position>,
}

impl Problem {
    /// A problem without a position.
    pub fn new(code: Code, field: Field, message: impl Into<String>) -> Problem {
        Problem { code, field, message: message.into(), position: None }
    }

    /// The same problem, at the byte `offset` of `text`.
    pub fn at(mut self, text: &str, offset: usize) -> Problem {
        self.position = Some(Position::of(text, offset));
        self
    }
}

/// As programs read it: flat, with line and column of the position or null.
impl Serialize for Problem {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_struct("Problem", 5)?;
        object.serialize_field("code", &self.code)?;
        object.serialize_field("field", &self.field)?;
        object.serialize_field("message", &self.message)?;
        object.serialize_field("line", &self.position.map(|position| position.line))?;
        object.serialize_field("column", &self.position.map(|position| position.column))?;
        object.end()
    }
}

/// Writes a unit variant with the name that serde gives it, so that each name is defined only once.
fn write_name<T: Serialize>(value: &T, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(name)) => f.write_str(&name),
        _ => Err(fmt::Error),
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_name(self, f)
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_name(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_the_same_in_whatever_order_they_are_asked_for() {
        let text = "a\nbé\r\n\n漢c";
        let offsets = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 99, 3, 7, 2];
        let expected = [
            (1, 1),
            (1, 2),
            (2, 1),
            (2, 2),
            (2, 2),
            (2, 3),
            (2, 4),
            (3, 1),
            (4, 1),
            (4, 1),
            (4, 2),
            (4, 3),
            (4, 3),
            (2, 2),
            (3, 1),
            (2, 1),
        ];
        let mut positions = Positions::new(text);
        for (offset, (line, column)) in offsets.into_iter().zip(expected) {
            assert_eq!(positions.of(offset), Position { line, column }, "{offset}");
            assert_eq!(Position::of(text, offset), Position { line, column }, "{offset}");
        }
    }

    #[test]
    fn a_place_leads_back_to_its_offset() {
        let text = "a\nbé\r\n\n漢c";
        for offset in (0..=text.len()).filter(|offset| text.is_char_boundary(*offset)) {
            assert_eq!(Position::of(text, offset).offset(text), offset);
        }
        assert_eq!(Position { line: 1, column: 9 }.offset(text), 1);
        assert_eq!(Position { line: 9, column: 1 }.offset(text), text.len());
    }

    #[test]
    fn people_read_a_problem_with_the_names_that_programs_read() {
        let problem = Problem::new(Code::HeadersNotObject, Field::Url, "shorten it").at("a\nb", 2);
        assert_eq!(problem.to_string(), "url: shorten it (headers_not_object)");
        let read = serde_json::json!(
            {"code": "headers_not_object", "field": "url", "message": "shorten it", "line": 2, "column": 1}
        );
        assert_eq!(serde_json::to_value(&problem).unwrap(), read);
    }
}
