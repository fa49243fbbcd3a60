//! The headers: a JSON template that is one object.
//!
//! Its keys are literal, and its values follow the rules of the body. So the object is split into names and values
//! once, when it is compiled. The result is the same as if the text were filled and then parsed.

use std::collections::HashSet;

use super::header_name;
use super::json::number::is_number;
use super::limits::{self, MAX_HEADERS_BYTES};
use super::output::{Full, HeaderText, Output, Sink};
use super::paths::{Found, Paths, Slot};
use super::placeholder::Part;
use super::source::{Source, shown};
use super::syntax::{self, Node, Role};
use super::tokens::{Kind, Token};
use super::value::write_text;
use crate::domain::problem::{Code, Field, Position, Positions, Problem};

/// Compiled headers, in the author's order.
#[derive(Debug, Default)]
pub(super) struct Headers(Vec<Header>);

#[derive(Debug)]
struct Header {
    /// In lower case.
    name: String,
    value: HeaderValue,
}

#[derive(Debug)]
enum HeaderValue {
    /// `null`: the header is not sent.
    Dropped,
    /// A string: literal text, with its JSON escapes already decoded, and values.
    Text(Vec<Piece>),
    /// A placeholder without quotes. Its value can have any type but object and array; with `null`, the header is not
    /// sent.
    Bare(Slot, Position),
    /// A number with placeholders for some of its digits.
    Number(Vec<Piece>, Position),
}

#[derive(Debug)]
enum Piece {
    Text(String),
    Value(Slot),
}

/// The largest number of problems of the headers that are told at once.
pub(super) const MAX_TOLD: usize = 5;

/// Compiles the template `text`, and adds its paths to `paths`. A text of only white space counts as no headers.
pub(super) fn compile(text: Option<&str>, paths: &mut Paths) -> Result<Headers, Problem> {
    compile_all(text, paths).map_err(|mut problems| problems.swap_remove(0))
}

/// As [`compile`], but tells the first [`MAX_TOLD`] problems of names and values; never none.
pub(super) fn compile_all(text: Option<&str>, paths: &mut Paths) -> Result<Headers, Vec<Problem>> {
    let source = Source { field: Field::Headers, text: text.unwrap_or_default() };
    if source.text.trim().is_empty() {
        return Ok(Headers::default());
    }
    let nodes = read(source).map_err(|problem| vec![problem])?;
    let mut entries = nodes.into_iter().filter(|node| node.depth == 1 && node.role != Role::Between);
    let mut compiler = Compiler { source, positions: Positions::new(source.text), paths };
    let mut seen = HashSet::new();
    let (mut headers, mut problems) = (Vec::new(), Vec::new());
    while let (Some(Node { token: key, .. }), Some(Node { token: value, .. })) = (entries.next(), entries.next()) {
        match (compile_new_name(source, &key, &mut seen), compiler.value(value)) {
            (Ok(name), Ok(value)) => headers.push(Header { name, value }),
            (name, value) => problems.extend([name.err(), value.err()].into_iter().flatten()),
        }
        if problems.len() >= MAX_TOLD {
            break;
        }
    }
    problems.truncate(MAX_TOLD);
    if problems.is_empty() { Ok(Headers(headers)) } else { Err(problems) }
}

/// The tokens of the one JSON object that the headers must be.
fn read(source: Source<'_>) -> Result<Vec<Node>, Problem> {
    limits::check_template(source)?;
    let nodes = syntax::read(source)?;
    limits::check_placeholders(source, nodes.iter().flat_map(|node| &node.token.parts).filter_map(Part::placeholder))?;
    match nodes.first().filter(|node| node.token.kind != Kind::Punct('{')) {
        Some(first) => {
            let message = "the headers must be one JSON object, with their names as keys";
            Err(source.problem(Code::HeadersNotObject, first.token.start, message))
        }
        None => Ok(nodes),
    }
}

/// A name that was not given before.
fn compile_new_name(source: Source<'_>, key: &Token, seen: &mut HashSet<String>) -> Result<String, Problem> {
    let name = compile_name(source, key)?;
    if !seen.insert(name.clone()) {
        let message = format!("`{}` is given twice (letter case does not count): remove one", shown(&name));
        return Err(source.problem(Code::HeaderDuplicate, key.start, message));
    }
    Ok(name)
}

fn compile_name(source: Source<'_>, key: &Token) -> Result<String, Problem> {
    if let Some(placeholder) = key.parts.iter().find_map(Part::placeholder) {
        let message = "a header's name must be literal: it cannot contain a placeholder";
        return Err(source.problem(Code::PlaceholderInHeaderName, placeholder.start, message));
    }
    let name: String = key.parts.iter().map(|part| literal(source, part)).collect();
    header_name::check(&name).map_err(|(code, message)| source.problem(code, key.start, message))
}

/// Compiles values, in their order in the text.
struct Compiler<'a> {
    source: Source<'a>,
    positions: Positions<'a>,
    paths: &'a mut Paths,
}

impl Compiler<'_> {
    fn value(&mut self, token: Token) -> Result<HeaderValue, Problem> {
        match token.kind {
            Kind::Punct(_) => {
                let message =
                    "a header's value is a string, number or boolean: put an object or array in double quotes";
                Err(self.source.problem(Code::HeaderValueType, token.start, message))
            }
            Kind::Text => Ok(HeaderValue::Text(self.pieces(token.parts))),
            Kind::Word => Ok(self.word(token)),
        }
    }

    fn word(&mut self, token: Token) -> HeaderValue {
        if self.source.between(token.start, token.end) == "null" {
            return HeaderValue::Dropped;
        }
        let position = self.positions.of(token.start);
        let glued = token.parts.len() > 1;
        let mut pieces = self.pieces(token.parts);
        match pieces.pop() {
            Some(Piece::Value(slot)) if !glued => HeaderValue::Bare(slot, position),
            last => {
                pieces.extend(last);
                if glued { HeaderValue::Number(pieces, position) } else { HeaderValue::Text(pieces) }
            }
        }
    }

    fn pieces(&mut self, parts: Vec<Part>) -> Vec<Piece> {
        let piece = |part| match part {
            Part::Placeholder(placeholder) => Piece::Value(self.paths.add(placeholder.path)),
            text => Piece::Text(literal(self.source, &text)),
        };
        parts.into_iter().map(piece).collect()
    }
}

/// The decoded text of a literal part of a string. Its escapes were checked when it was read.
fn literal(source: Source<'_>, part: &Part) -> String {
    match part {
        Part::Text(start, end) => {
            let raw = source.between(*start, *end);
            serde_json::from_str(&format!("\"{raw}\"")).unwrap_or_else(|_| raw.to_owned())
        }
        Part::Dropped(_) | Part::Placeholder(_) => String::new(),
    }
}

impl Headers {
    /// The headers of one call: names in lower case, values trimmed and without control characters.
    ///
    /// # Errors
    /// [`Code::HeaderValueType`], [`Code::HeadersNotObject`] if a placeholder that is part of a number did not give a
    /// valid number, or [`Code::TooLarge`].
    pub fn render(&self, found: &Found<'_>) -> Result<Vec<(String, String)>, Problem> {
        let mut rendered = Vec::with_capacity(self.0.len() + 1);
        let mut room = MAX_HEADERS_BYTES;
        for header in &self.0 {
            let mut output = Output::new(room, 64);
            if !header.write(found, &mut output)? {
                continue;
            }
            // The bytes of name and value are counted, because receivers count them for their own limits.
            let spent = header.name.len() + output.mark();
            room = room.checked_sub(spent).ok_or_else(too_large)?;
            let text = output.into_text();
            found.end_text(&text);
            rendered.push((header.name.clone(), trimmed(text)));
        }
        Ok(rendered)
    }
}

impl Header {
    /// Writes the value; false if the header is not to be sent.
    fn write(&self, found: &Found<'_>, output: &mut Output) -> Result<bool, Problem> {
        match &self.value {
            HeaderValue::Dropped => return Ok(false),
            HeaderValue::Text(pieces) => write_pieces(pieces, found, output)?,
            HeaderValue::Number(pieces, position) => {
                write_pieces(pieces, found, output)?;
                if !is_number(output.since(0)) {
                    let message = "the value does not form a valid number here: put the placeholder in double quotes";
                    return Err(problem_at(Code::HeadersNotObject, *position, message));
                }
            }
            HeaderValue::Bare(slot, position) => match found.value(*slot) {
                value if value.is_null() => return Ok(false),
                value if value.is_object_or_array() => {
                    let message = format!(
                        "`{}` is an object or array, which a header cannot hold: put the placeholder in double quotes",
                        shown(found.name(*slot))
                    );
                    return Err(problem_at(Code::HeaderValueType, *position, message));
                }
                value => write_text(value, &mut HeaderText(output)).map_err(|Full| too_large())?,
            },
        }
        Ok(true)
    }
}

fn write_pieces(pieces: &[Piece], found: &Found<'_>, output: &mut Output) -> Result<(), Problem> {
    pieces
        .iter()
        .try_for_each(|piece| match piece {
            Piece::Text(text) => output.write(text),
            Piece::Value(slot) => {
                found.note(*slot, output.mark(), 0);
                write_text(found.value(*slot), &mut HeaderText(output))
            }
        })
        .map_err(|Full| too_large())
}

/// `value` without the blanks around it, which do not belong to a field's value (RFC 9110, section 5.5). Tabs were
/// already replaced by spaces.
fn trimmed(value: String) -> String {
    match value.trim_matches(' ') {
        trimmed if trimmed.len() == value.len() => value,
        trimmed => trimmed.to_owned(),
    }
}

fn too_large() -> Problem {
    limits::rendered_too_large(Field::Headers, MAX_HEADERS_BYTES)
}

fn problem_at(code: Code, position: Position, message: impl Into<String>) -> Problem {
    let mut problem = Problem::new(code, Field::Headers, message);
    problem.position = Some(position);
    problem
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn compile(template: &str) -> Result<(Headers, Paths), Problem> {
        let mut paths = Paths::default();
        super::compile(Some(template), &mut paths).map(|headers| (headers, paths))
    }

    fn render(template: &str, call: &Value) -> Result<Vec<(String, String)>, Problem> {
        let (headers, paths) = compile(template)?;
        headers.render(&paths.find(&call.to_string()).unwrap())
    }

    fn value(template: &str, call: &Value) -> Option<String> {
        let headers = render(&format!("{{\"x\":{template}}}"), call).unwrap();
        headers.into_iter().map(|(_, value)| value).next()
    }

    fn code(template: &str) -> Code {
        let problem = compile(template).unwrap_err();
        assert!(problem.field == Field::Headers && problem.position.is_some(), "{problem:?}");
        problem.code
    }

    #[test]
    fn a_value_is_text_a_number_or_a_boolean_and_null_drops_it() {
        let call = json!({"s": "t", "n": 1.50, "b": true, "z": null});
        let cases = [
            ("\"a\\u00e9\\\"\\/\"", Some("aé\"/")),
            ("1.50", Some("1.50")),
            ("false", Some("false")),
            ("null", None),
            ("${s}", Some("t")),
            ("${b}", Some("true")),
            ("${z}", None),
            ("${missing}", None),
            ("\"${z}${missing}\"", Some("")),
            ("\"\"", Some("")),
            ("1${n}", Some("11.5")),
            ("\"  ${s} \"", Some("t")),
            ("\"\\${s}\"", Some("${s}")),
        ];
        for (template, expected) in cases {
            assert_eq!(value(template, &call).as_deref(), expected, "{template}");
        }
    }

    #[test]
    fn an_object_or_array_without_quotes_is_refused_at_its_place() {
        for template in ["{\"a\": {}}", "{\"a\": [1]}"] {
            let problem = compile(template).unwrap_err();
            assert_eq!(
                (problem.code, problem.position),
                (Code::HeaderValueType, Some(Position { line: 1, column: 7 }))
            );
        }
        let problem = render("{\"a\": ${x}}", &json!({"x": []})).unwrap_err();
        assert_eq!((problem.code, problem.position), (Code::HeaderValueType, Some(Position { line: 1, column: 7 })));
    }

    #[test]
    fn what_is_not_one_object_is_no_headers() {
        for template in ["[]", "\"a\"", "null", "${x}", "{\"a\":1", "{\"a\" 1}", "{}{}", "{\"a\": 1,}"] {
            assert_eq!(code(template), Code::HeadersNotObject, "{template}");
        }
        for template in ["", " \n", "{}"] {
            assert_eq!(render(template, &json!({})).unwrap(), [], "{template:?}");
        }
        let problem = render("{\"a\": 1${x}}", &json!({"x": "a"})).unwrap_err();
        assert_eq!(problem.code, Code::HeadersNotObject);
    }

    #[test]
    fn names_are_literal_valid_and_given_once() {
        assert_eq!(code("{\"a${x}\": 1}"), Code::PlaceholderInHeaderName);
        assert_eq!(code("{\"\": 1}"), Code::HeaderNameInvalid);
        assert_eq!(code("{\"\\${a}\": 1}"), Code::HeaderNameInvalid);
        assert_eq!(code("{\"Expect\": null}"), Code::HeaderForbidden);
        assert_eq!(code("{\"a\": 1, \"b\": 2, \"A\": null}"), Code::HeaderDuplicate);
        assert_eq!(code("{\"a\": 1, \"\\u0061\": 2}"), Code::HeaderDuplicate);
    }

    #[test]
    fn several_problems_of_headers_are_told_at_once_and_not_very_many() {
        let told = |template: &str| {
            let problems = compile_all(Some(template), &mut Paths::default()).unwrap_err();
            problems.iter().map(|problem| (problem.code, problem.position.unwrap().column)).collect::<Vec<_>>()
        };
        let template = "{\"Host\": {}, \"a\": ${x}, \"A\": 1, \"b\": []}";
        let expected = [
            (Code::HeaderForbidden, 2),
            (Code::HeaderValueType, 10),
            (Code::HeaderDuplicate, 25),
            (Code::HeaderValueType, 38),
        ];
        assert_eq!(told(template), expected);
        assert_eq!(compile(template).unwrap_err().code, Code::HeaderForbidden);
        assert_eq!(told(&format!("{{{}\"z\": 1}}", "\"Host\": {}, ".repeat(1_000))).len(), MAX_TOLD);
    }

    #[test]
    fn a_control_character_is_the_author_s_mistake_or_becomes_a_space() {
        for control in ["\\n", "\\r", "\\t", "\\u0000", "\\u007F", "\\u0085", "\n", "\t", "\u{7f}"] {
            assert_eq!(code(&format!("{{\"a\": \"b{control}\"}}")), Code::HeaderTemplateControlChar, "{control:?}");
        }
        assert_eq!(value("\"${x}\"", &json!({"x": "\ta\r\nb\u{85}c\n"})).unwrap(), "a  b c");
    }

    #[test]
    fn headers_past_their_common_limit_are_refused_and_those_at_it_are_not() {
        let text = |bytes| json!({"x": "a".repeat(bytes)});
        let fits = (MAX_HEADERS_BYTES - 2) / 2;
        assert!(render("{\"a\": \"${x}\", \"b\": ${x}}", &text(fits)).is_ok());
        assert_eq!(render("{\"a\": \"${x}\", \"b\": ${x}}", &text(fits + 1)).unwrap_err().code, Code::TooLarge);
        assert_eq!(render("{\"a\": \"${x}\"}", &text(MAX_HEADERS_BYTES + 1)).unwrap_err().code, Code::TooLarge);
    }
}
