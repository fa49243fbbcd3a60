//! The body: a JSON template, or the whole call if there is no template.

use super::json::Unreadable;
use super::json::canonical::canonical;
use super::json::compact::{self, Copied};
use super::json::number::is_number;
use super::limits::{self, MAX_BODY_BYTES};
use super::output::{Full, JsonString, Output, Sink};
use super::paths::{Found, Paths, Slot};
use super::placeholder::Part;
use super::source::Source;
use super::syntax::{self, Role};
use super::tokens::{Kind, Token};
use super::value::{write_bare, write_text};
use crate::domain::problem::{Code, Field, Position, Positions, Problem};
use crate::domain::secret::MAX_JSON_BYTES;

/// A body, ready to be filled.
#[derive(Debug)]
pub(super) enum Body {
    /// No template was given: the body is the call itself, compact.
    WholeCall,
    /// The body is rendered from a template.
    Template(Template),
}

/// A template's text, split at its placeholders.
#[derive(Debug)]
pub(super) struct Template {
    pieces: Vec<Piece>,
    /// Bytes of the template's text.
    literal_bytes: usize,
    /// How many placeholders there are.
    placeholders: usize,
    /// How many of them are secrets.
    secrets: usize,
}

/// A part of a body. Template text, whole values and values inside strings cannot make the JSON invalid, so they are
/// not checked again.
#[derive(Debug)]
enum Piece {
    Text(Box<str>),
    InString(Slot),
    Bare(Slot),
    Number(GluedNumber),
}

/// A number with placeholders for some of its digits. Only after they are filled is it known whether it is a valid
/// number.
#[derive(Debug)]
struct GluedNumber {
    position: Position,
    pieces: Vec<Piece>,
}

/// Compiles the template `text`, and adds its paths to `paths`. A text of only white space counts as no template.
pub(super) fn compile(text: Option<&str>, paths: &mut Paths) -> Result<Body, Problem> {
    let source = Source { field: Field::Body, text: text.unwrap_or_default() };
    if source.text.trim().is_empty() {
        return Ok(Body::WholeCall);
    }
    limits::check_template(source)?;
    let nodes = syntax::read(source)?;
    let placeholders = || nodes.iter().flat_map(|node| &node.token.parts).filter_map(Part::placeholder);
    limits::check_placeholders(source, placeholders())?;
    let secrets = placeholders().filter(|placeholder| placeholder.path.is_secret()).count();
    let placeholders = placeholders().count();
    let mut positions = Positions::new(source.text);
    let mut cutter = Cutter { source, copied: 0, pieces: Vec::new(), paths };
    for node in nodes {
        match (node.token.kind, node.role) {
            (Kind::Text, _) => cutter.cut(node.token.parts, Piece::InString),
            (Kind::Word, Role::Value) => cutter.word(node.token, &mut positions),
            _ => {}
        }
    }
    Ok(Body::Template(Template { pieces: cutter.finish(), literal_bytes: source.text.len(), placeholders, secrets }))
}

/// Splits a template into pieces. The text between the placeholders is copied unchanged.
struct Cutter<'a> {
    source: Source<'a>,
    copied: usize,
    pieces: Vec<Piece>,
    paths: &'a mut Paths,
}

impl Cutter<'_> {
    fn cut(&mut self, parts: Vec<Part>, piece: fn(Slot) -> Piece) {
        for part in parts {
            match part {
                Part::Text(..) => {}
                Part::Dropped(at) => self.copy_up_to(at, at + 1),
                Part::Placeholder(placeholder) => {
                    self.copy_up_to(placeholder.start, placeholder.end);
                    self.pieces.push(piece(self.paths.add(placeholder.path)));
                }
            }
        }
    }

    fn word(&mut self, token: Token, positions: &mut Positions<'_>) {
        let placeholders = token.parts.iter().filter_map(Part::placeholder).count();
        if placeholders == 0 || token.parts.len() == 1 {
            return self.cut(token.parts, Piece::Bare);
        }
        self.copy_up_to(token.start, token.start);
        let before = std::mem::take(&mut self.pieces);
        self.cut(token.parts, Piece::Bare);
        self.copy_up_to(token.end, token.end);
        let digits = std::mem::replace(&mut self.pieces, before);
        self.pieces.push(Piece::Number(GluedNumber { position: positions.of(token.start), pieces: digits }));
    }

    /// Copies the text up to byte `end` and continues at `next`.
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
enum BodyError {
    Full,
    NotANumber(Position),
}

impl From<Full> for BodyError {
    fn from(_: Full) -> BodyError {
        BodyError::Full
    }
}

/// The whole call `text` as a body, compact. The same pass checks the text.
///
/// # Errors
/// The outer error says that the text is not a call; the inner one is [`Code::TooLarge`].
pub(super) fn whole_call(text: &str) -> Result<Result<String, Problem>, Unreadable> {
    // Most platforms write compact text, so the body is usually as long as the call.
    let mut output = Output::new(MAX_BODY_BYTES, text.len());
    let mut copied = compact::copy_document(text, &mut output)?;
    if copied == Copied::NameTwice {
        output.cut_back(0);
        copied = match compact::copy(&canonical(text), &mut output) {
            Ok(()) => Copied::Whole,
            Err(Full) => Copied::Full,
        };
    }
    Ok(match copied {
        Copied::Whole => Ok(output.into_text()),
        Copied::Full | Copied::NameTwice => Err(limits::rendered_too_large(Field::Body, MAX_BODY_BYTES)),
    })
}

impl Body {
    /// Whether a secret is part of it.
    pub fn has_secrets(&self) -> bool {
        matches!(self, Body::Template(template) if template.secrets > 0)
    }

    /// The largest number of bytes that the body for a call of `call_bytes` bytes can have, as far as the template
    /// tells.
    pub fn bound(&self, call_bytes: usize) -> usize {
        match self {
            // Only an exponent can become longer: `1e5` becomes `1e+5`, one byte more for three.
            Body::WholeCall => call_bytes.saturating_add(call_bytes / 3),
            // Inside a string, each byte of a value becomes at most two bytes. A missing value can be written as
            // `null`.
            Body::Template(template) => {
                let value = call_bytes.saturating_mul(2).max("null".len());
                let secrets = template.secrets.saturating_mul(MAX_JSON_BYTES);
                template
                    .placeholders
                    .saturating_mul(value)
                    .saturating_add(template.literal_bytes)
                    .saturating_add(secrets)
            }
        }
        .min(MAX_BODY_BYTES)
    }
}

impl Template {
    /// The body of one call.
    ///
    /// # Errors
    /// [`Code::TooLarge`], or [`Code::InvalidJsonBody`] if a placeholder that is part of a number did not give a valid
    /// number.
    pub fn render(&self, found: &Found<'_>) -> Result<String, Problem> {
        /// An estimate of the size of a value, so that the output seldom has to grow.
        const VALUE_BYTES: usize = 64;
        let mut output = Output::new(MAX_BODY_BYTES, self.literal_bytes + self.placeholders * VALUE_BYTES);
        match write_pieces(&self.pieces, found, &mut output) {
            Ok(()) => Ok(output.into_text()),
            Err(BodyError::Full) => Err(limits::rendered_too_large(Field::Body, MAX_BODY_BYTES)),
            Err(BodyError::NotANumber(position)) => {
                let message = "the value does not form a valid number here: put the placeholder in double quotes to send any value";
                let mut problem = Problem::new(Code::InvalidJsonBody, Field::Body, message);
                problem.position = Some(position);
                Err(problem)
            }
        }
    }
}

fn write_pieces(pieces: &[Piece], found: &Found<'_>, output: &mut Output) -> Result<(), BodyError> {
    for piece in pieces {
        match piece {
            Piece::Text(text) => output.write(text)?,
            Piece::InString(slot) => {
                found.note(*slot, output.mark(), 0);
                write_text(found.value(*slot), &mut JsonString(output))?;
            }
            Piece::Bare(slot) => {
                found.note(*slot, output.mark(), "null".len());
                write_bare(found.value(*slot), output)?;
            }
            Piece::Number(number) => {
                let start = output.mark();
                write_pieces(&number.pieces, found, output)?;
                if !is_number(output.since(start)) {
                    return Err(BodyError::NotANumber(number.position));
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

    fn compile(template: &str) -> Result<(Body, Paths), Problem> {
        let mut paths = Paths::default();
        super::compile(Some(template), &mut paths).map(|body| (body, paths))
    }

    fn render_text(template: &str, call: &str) -> Result<String, Problem> {
        let (body, paths) = compile(template).unwrap();
        let Body::Template(template) = &body else { panic!("no template") };
        let rendered = template.render(&paths.find(call).unwrap());
        if let Ok(text) = &rendered {
            assert!(text.len() <= body.bound(call.len()), "{text} is longer than foretold");
        }
        rendered
    }

    fn render(template: &str, call: &Value) -> Result<String, Problem> {
        render_text(template, &call.to_string())
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
        assert_eq!(compile(r#""\$${x}""#).unwrap_err().code, Code::InvalidJsonBody);
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
            let position = Some(Position { line: 2, column: 7 });
            assert_eq!((problem.code, problem.position), (Code::InvalidJsonBody, position), "{value}");
        }
    }

    #[test]
    fn a_body_past_its_limit_is_refused_and_one_at_it_is_not() {
        let text = |bytes| json!({"x": "a".repeat(bytes)});
        assert_eq!(render("\"${x}\"", &text(MAX_BODY_BYTES - 2)).unwrap().len(), MAX_BODY_BYTES);
        assert_eq!(render("\"${x}\"", &text(MAX_BODY_BYTES - 1)).unwrap_err().code, Code::TooLarge);
        let whole = |bytes| whole_call(&text(bytes).to_string()).unwrap();
        assert_eq!(whole(MAX_BODY_BYTES - r#"{"x":""}"#.len()).unwrap().len(), MAX_BODY_BYTES);
        assert_eq!(whole(MAX_BODY_BYTES).unwrap_err().code, Code::TooLarge);
        let bomb = format!("[{}1]", "${x},".repeat(limits::MAX_PLACEHOLDERS));
        assert_eq!(render(&bomb, &text(MAX_BODY_BYTES - 100)).unwrap_err().code, Code::TooLarge);
    }

    #[test]
    fn a_template_past_a_limit_is_refused_and_one_at_it_is_not() {
        let padded = |bytes: usize| format!("1{}", " ".repeat(bytes - 1));
        assert!(compile(&padded(limits::MAX_TEMPLATE_BYTES)).is_ok());
        let problem = compile(&padded(limits::MAX_TEMPLATE_BYTES + 1)).unwrap_err();
        assert_eq!(problem.code, Code::TooLarge);
        let placeholders = |count: usize| format!("[1{}]", "\n,\"${x}\"".repeat(count));
        assert!(compile(&placeholders(limits::MAX_PLACEHOLDERS)).is_ok());
        let problem = compile(&placeholders(limits::MAX_PLACEHOLDERS + 1)).unwrap_err();
        assert_eq!((problem.code, problem.position), (Code::TooLarge, Some(Position { line: 502, column: 3 })));
    }

    #[test]
    fn a_large_body_holds_no_more_memory_than_it_has_bytes() {
        let bomb = format!("[{}1]", "\"${x}\",".repeat(limits::MAX_PLACEHOLDERS));
        for bytes in [10, 1000, 9_000, 10_000] {
            let body = render(&bomb, &json!({"x": "a".repeat(bytes)})).unwrap();
            assert!(body.capacity() <= body.len() + 1024, "{} bytes in {}", body.len(), body.capacity());
        }
        let spaced = format!("{{\"x\":1{}}}", " ".repeat(1 << 20));
        let whole = whole_call(&spaced).unwrap().unwrap();
        assert!(whole.capacity() <= 2048, "{}", whole.capacity());
    }

    #[test]
    fn a_body_is_never_longer_than_foretold() {
        let hard = ["\"\"\"", "\\", "\u{1}\u{1}", "é", "1E5"];
        for text in hard.map(|text| text.repeat(1000)) {
            let call = json!({"x": text, "o": {&text: [text, {}]}});
            render("[\"${x}\", ${x}, \"${o}\", ${o}, ${nothing}]", &call).unwrap();
            render("\"${o}\"", &call).unwrap();
        }
        render_text("${o}", r#"{"o":[1e5,1e5,1e5,1e5]}"#).unwrap();
        render_text("[${a},${a}]", "{}").unwrap();
        let whole = r#"{"":[1e5,1e5,1e5,1e5,1e5,1e5,1e5,1e5,1e5]}"#;
        assert!(whole_call(whole).unwrap().unwrap().len() <= Body::WholeCall.bound(whole.len()));
        assert_eq!(Body::WholeCall.bound(900), 1_200, "and no more is kept free than a call can need");
        assert_eq!(Body::WholeCall.bound(usize::MAX), MAX_BODY_BYTES);
    }

    #[test]
    fn a_name_that_stands_twice_costs_the_whole_call_nothing_but_its_earlier_values() {
        let text = format!("{{\"a\":\"{}\",\"b\":1,\"a\":2}}", "x".repeat(MAX_BODY_BYTES));
        assert_eq!(whole_call(&text).unwrap().unwrap(), r#"{"a":2,"b":1}"#);
    }
}
