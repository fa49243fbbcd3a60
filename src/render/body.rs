//! The body: a JSON template, or the whole call where there is none.

use super::hole::Part;
use super::limits::{self, MAX_BODY_BYTES};
use super::output::{Full, JsonString, Output, Sink};
use super::path::{Lookup, Path};
use super::source::Source;
use super::syntax::{self, Role};
use super::tokens::{Kind, Token};
use super::value::{is_json_number, write_bare, write_json, write_text};
use crate::domain::problem::{Code, Field, Place, Problem};

/// A body, ready to be filled.
#[derive(Debug)]
pub(super) enum Body {
    /// None was defined: the call itself, compact.
    WholeCall,
    /// The template's text, cut at its placeholders.
    Template(Vec<Piece>),
}

/// A stretch of a body. Template text and values that are whole values or inside strings cannot break the JSON, so they
/// are not looked at again.
#[derive(Debug)]
pub(super) enum Piece {
    Text(Box<str>),
    InString(Path),
    Bare(Path),
    Number(GluedNumber),
}

/// A number with placeholders for some of its digits. Whether it is one is only known once they are filled.
#[derive(Debug)]
pub(super) struct GluedNumber {
    place: Place,
    pieces: Vec<Piece>,
}

/// Compiles the template `text`; white space alone counts as no template.
pub(super) fn compile(text: Option<&str>) -> Result<Body, Problem> {
    let source = Source { field: Field::Body, text: text.unwrap_or_default() };
    if source.text.trim().is_empty() {
        return Ok(Body::WholeCall);
    }
    limits::check_template(source)?;
    let nodes = syntax::read(source)?;
    limits::check_placeholders(source, nodes.iter().flat_map(|node| &node.token.parts).filter_map(Part::hole))?;
    let mut cutter = Cutter { source, copied: 0, pieces: Vec::new() };
    for node in nodes {
        match (node.token.kind, node.role) {
            (Kind::Text, _) => cutter.cut(node.token.parts, Piece::InString),
            (Kind::Word, Role::Value) => cutter.word(node.token),
            _ => {}
        }
    }
    Ok(Body::Template(cutter.finish()))
}

/// Cuts a template into pieces; what lies between the placeholders is copied byte for byte.
struct Cutter<'a> {
    source: Source<'a>,
    copied: usize,
    pieces: Vec<Piece>,
}

impl Cutter<'_> {
    fn cut(&mut self, parts: Vec<Part>, piece: fn(Path) -> Piece) {
        for part in parts {
            match part {
                Part::Text(..) => {}
                Part::Dropped(at) => self.copy_up_to(at, at + 1),
                Part::Hole(hole) => {
                    self.copy_up_to(hole.start, hole.end);
                    self.pieces.push(piece(hole.path));
                }
            }
        }
    }

    fn word(&mut self, token: Token) {
        let holes = token.parts.iter().filter_map(Part::hole).count();
        if holes == 0 || token.parts.len() == 1 {
            return self.cut(token.parts, Piece::Bare);
        }
        self.copy_up_to(token.start, token.start);
        let mut digits = Cutter { source: self.source, copied: token.start, pieces: Vec::new() };
        digits.cut(token.parts, Piece::Bare);
        digits.copy_up_to(token.end, token.end);
        let place = Place::of(self.source.text, token.start);
        self.pieces.push(Piece::Number(GluedNumber { place, pieces: digits.pieces }));
        self.copied = token.end;
    }

    /// Copies the text up to byte `end` and goes on at `next`.
    fn copy_up_to(&mut self, end: usize, next: usize) {
        let text = self.source.between(self.copied, end);
        if !text.is_empty() {
            self.pieces.push(Piece::Text(text.into()));
        }
        self.copied = next;
    }

    fn finish(mut self) -> Vec<Piece> {
        let end = self.source.text.len();
        self.copy_up_to(end, end);
        self.pieces
    }
}

/// Why a body could not be rendered.
enum Stop {
    Full,
    NotANumber(Place),
}

impl From<Full> for Stop {
    fn from(_: Full) -> Stop {
        Stop::Full
    }
}

impl Body {
    /// The body of one call.
    ///
    /// # Errors
    /// [`Code::TooLarge`], or [`Code::InvalidJsonBody`] if a placeholder glued into a number made none.
    pub fn render(&self, lookup: &mut Lookup<'_>) -> Result<String, Problem> {
        let written = match self {
            Body::WholeCall => {
                let mut output = Output::new(MAX_BODY_BYTES, 4096);
                write_json(lookup.call(), &mut output).map(|()| output).map_err(Stop::from)
            }
            Body::Template(pieces) => {
                let mut output = Output::new(MAX_BODY_BYTES, expected_len(pieces));
                write_pieces(pieces, lookup, &mut output).map(|()| output)
            }
        };
        written.map(Output::into_text).map_err(|stop| match stop {
            Stop::Full => limits::rendered_too_large(Field::Body, MAX_BODY_BYTES),
            Stop::NotANumber(place) => {
                let message = "what was put into this number makes it none: put it in double quotes to send any value";
                let mut problem = Problem::new(Code::InvalidJsonBody, Field::Body, message);
                problem.place = Some(place);
                problem
            }
        })
    }
}

/// A guess at the rendered size, so that the output seldom has to grow.
fn expected_len(pieces: &[Piece]) -> usize {
    const VALUE: usize = 64;
    pieces.iter().map(|piece| if let Piece::Text(text) = piece { text.len() } else { VALUE }).sum()
}

fn write_pieces(pieces: &[Piece], lookup: &mut Lookup<'_>, output: &mut Output) -> Result<(), Stop> {
    for piece in pieces {
        match piece {
            Piece::Text(text) => output.write(text)?,
            Piece::InString(path) => write_text(lookup.find(path), &mut JsonString(output))?,
            Piece::Bare(path) => write_bare(lookup.find(path), output)?,
            Piece::Number(number) => {
                let start = output.mark();
                write_pieces(&number.pieces, lookup, output)?;
                if !is_json_number(output.since(start)) {
                    return Err(Stop::NotANumber(number.place));
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn render(template: &str, call: &Value) -> Result<String, Problem> {
        compile(Some(template)).unwrap().render(&mut Lookup::new(call))
    }

    #[test]
    fn a_backslash_before_a_placeholder_escapes_it_only_if_it_is_not_escaped_itself() {
        let call = json!({"x": "v"});
        let cases = [
            (r#""\${x}""#, r#""${x}""#),
            (r#""\\${x}""#, r#""\\v""#),
            (r#""\\\${x}""#, r#""\\${x}""#),
            (r#""\"${x}""#, r#""\"v""#),
            (r#""$${x}$""#, r#""$v$""#),
        ];
        for (template, expected) in cases {
            assert_eq!(render(template, &call).unwrap(), expected, "{template}");
        }
        assert_eq!(compile(Some(r#""\$${x}""#)).unwrap_err().code, Code::InvalidJsonBody);
    }

    #[test]
    fn a_value_is_never_expanded_again() {
        let call = json!({"x": "${y}", "y": "secret"});
        assert_eq!(render("[\"${x}\", ${x}]", &call).unwrap(), "[\"${y}\", \"${y}\"]");
    }

    #[test]
    fn a_number_that_a_value_breaks_is_refused_at_its_place() {
        for value in [json!(2), json!("2"), json!(25)] {
            let digits = value.as_str().map_or(value.to_string(), str::to_owned);
            assert_eq!(render("[-${x}]", &json!({"x": value})).unwrap(), format!("[-{digits}]"));
        }
        for value in [json!("a"), json!(-1), json!(null), json!([1]), json!(true), json!("")] {
            let problem = render("{\n \"n\": -${x}}", &json!({"x": value})).unwrap_err();
            let place = Some(Place { line: 2, column: 7 });
            assert_eq!((problem.code, problem.place), (Code::InvalidJsonBody, place), "{value}");
        }
    }

    #[test]
    fn a_body_past_its_limit_is_refused_and_one_at_it_is_not() {
        let text = |bytes| json!({"x": "a".repeat(bytes)});
        assert_eq!(render("\"${x}\"", &text(MAX_BODY_BYTES - 2)).unwrap().len(), MAX_BODY_BYTES);
        assert_eq!(render("\"${x}\"", &text(MAX_BODY_BYTES - 1)).unwrap_err().code, Code::TooLarge);
        let whole = Body::WholeCall.render(&mut Lookup::new(&text(MAX_BODY_BYTES)));
        assert_eq!(whole.unwrap_err().code, Code::TooLarge);
        let bomb = format!("[{}1]", "${x},".repeat(limits::MAX_PLACEHOLDERS));
        assert_eq!(render(&bomb, &text(MAX_BODY_BYTES - 100)).unwrap_err().code, Code::TooLarge);
    }

    #[test]
    fn a_template_past_a_limit_is_refused_and_one_at_it_is_not() {
        let padded = |bytes: usize| format!("1{}", " ".repeat(bytes - 1));
        assert!(compile(Some(&padded(limits::MAX_TEMPLATE_BYTES))).is_ok());
        let problem = compile(Some(&padded(limits::MAX_TEMPLATE_BYTES + 1))).unwrap_err();
        assert_eq!(problem.code, Code::TooLarge);
        let holes = |count: usize| format!("[1{}]", "\n,\"${x}\"".repeat(count));
        assert!(compile(Some(&holes(limits::MAX_PLACEHOLDERS))).is_ok());
        let problem = compile(Some(&holes(limits::MAX_PLACEHOLDERS + 1))).unwrap_err();
        assert_eq!((problem.code, problem.place), (Code::TooLarge, Some(Place { line: 502, column: 3 })));
    }
}
