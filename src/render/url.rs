//! The URL. The template alone determines scheme and host; values can only fill a path segment or a part of the query.
//!
//! The literal parts of the template go through the `url` crate once, when the template is compiled. Rendering then
//! only puts percent-encoded values between pieces that are already in WHATWG form. An encoded value contains only
//! characters that this form does not change, so the result is the same as if the crate had processed the whole URL.
//!
//! The fragment is never sent. Placeholders in it must be valid, but are not looked up.

use std::ops::Range;

use url::Url;

use super::limits::{self, MAX_URL_BYTES};
use super::output::{Full, Output, Percent, Sink};
use super::paths::{Found, Paths, Slot};
use super::placeholder::Placeholder;
use super::source::{Source, shown};
use super::url_text::{MARK, UrlText};
use super::value::write_text;
use crate::domain::problem::{Code, Field, Position, Positions, Problem};
use crate::domain::{kept, mask};

/// A compiled URL template.
#[derive(Debug)]
pub(super) struct UrlTemplate {
    pieces: Vec<Piece>,
    recorded: Box<str>,
}

#[derive(Debug)]
enum Piece {
    /// Literal text in WHATWG form.
    Text(String),
    /// A path segment with a placeholder in it.
    Segment(Vec<Piece>, Position),
    /// A value in a path segment.
    InPath(Slot, Position),
    /// A value in the query.
    InQuery(Slot),
}

/// Compiles the template `text`, and adds its paths to `paths`.
pub(super) fn compile(text: &str, paths: &mut Paths) -> Result<UrlTemplate, Problem> {
    let source = Source { field: Field::Url, text };
    limits::check_template(source)?;
    let mut url = UrlText::read(source)?;
    let mut values =
        Values { placeholders: url.take_placeholders().into_iter(), positions: Positions::new(text), paths };
    let mut pieces = vec![Piece::Text(url.origin()?)];
    push_path(&url, &mut values, &mut pieces)?;
    if let Some(query) = url.query() {
        push_text(&mut pieces, "?");
        push_all(&mut pieces, Spot::Query.fill(&url, query, &mut values)?);
    }
    // Percent-encoding can make literal text longer than its template.
    let literal: usize = pieces.iter().map(|piece| if let Piece::Text(text) = piece { text.len() } else { 0 }).sum();
    if literal > MAX_URL_BYTES { Err(too_large(Full)) } else { Ok(UrlTemplate { recorded: recorded(&pieces), pieces }) }
}

/// What history keeps of every URL of this template. A value of the call is hidden, even if it looks like a plain word.
fn recorded(pieces: &[Piece]) -> Box<str> {
    fn push(piece: &Piece, text: &mut String) {
        match piece {
            Piece::Text(literal) => text.push_str(literal),
            Piece::Segment(pieces, _) => pieces.iter().for_each(|piece| push(piece, text)),
            Piece::InPath(..) | Piece::InQuery(_) => text.push_str(mask::HIDDEN),
        }
    }
    let mut text = String::new();
    pieces.iter().for_each(|piece| push(piece, &mut text));
    kept::url(&mask::recorded_url(&text)).into()
}

/// The placeholders of a URL that are not compiled yet.
struct Values<'a> {
    placeholders: std::vec::IntoIter<Placeholder>,
    positions: Positions<'a>,
    paths: &'a mut Paths,
}

impl Values<'_> {
    /// The next placeholder, with its position.
    fn next(&mut self) -> Option<(Slot, Position)> {
        let placeholder = self.placeholders.next()?;
        Some((self.paths.add(placeholder.path), self.positions.of(placeholder.start)))
    }
}

fn push_path(url: &UrlText<'_>, values: &mut Values<'_>, pieces: &mut Vec<Piece>) -> Result<(), Problem> {
    push_text(pieces, "/");
    let path = url.path();
    let mut start = path.start + 1;
    while start < path.end {
        let length = url.slice(start..path.end).find('/');
        let end = length.map_or(path.end, |length| start + length);
        let position = values.positions.of(url.offset(start));
        let segment = Spot::Segment.fill(url, start..end, values)?;
        match segment.as_slice() {
            [Piece::Text(text)] if is_dot_segment(text) => return Err(dot_segment(position)),
            [] | [Piece::Text(_)] => push_all(pieces, segment),
            _ => pieces.push(Piece::Segment(segment, position)),
        }
        push_text(pieces, if length.is_some() { "/" } else { "" });
        start = end + 1;
    }
    Ok(())
}

/// The places where values are allowed.
#[derive(Clone, Copy)]
enum Spot {
    Segment,
    Query,
}

impl Spot {
    /// The pieces of a part of the URL. Its placeholders are the next ones of `values`.
    fn fill(self, url: &UrlText<'_>, range: Range<usize>, values: &mut Values<'_>) -> Result<Vec<Piece>, Problem> {
        let mut pieces = Vec::new();
        for (index, literal) in url.slice(range.clone()).split(MARK).enumerate() {
            if index > 0 {
                pieces.extend(values.next().map(|(slot, position)| match self {
                    Spot::Segment => Piece::InPath(slot, position),
                    Spot::Query => Piece::InQuery(slot),
                }));
            }
            let text = self.whatwg(literal);
            let text = text.ok_or_else(|| url.problem(Code::BadUrl, range.start, "this is not valid in a URL"))?;
            push_text(&mut pieces, &text);
        }
        Ok(pieces)
    }

    /// `literal` as the `url` crate writes it in this place. The text around it has no influence, except for a segment
    /// of dots: the `x` on both sides prevents the parser from resolving it.
    fn whatwg(self, literal: &str) -> Option<String> {
        // These characters are never changed, so no parser is needed: a template can have tens of thousands of
        // segments.
        if literal.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)) {
            return Some(literal.to_owned());
        }
        let probe = match self {
            Spot::Segment => format!("http://h/x{literal}x"),
            Spot::Query => format!("http://h/?x{literal}x"),
        };
        let url = Url::parse(&probe).ok()?;
        let written = match self {
            Spot::Segment => url.path().strip_prefix("/x"),
            Spot::Query => url.query()?.strip_prefix('x'),
        };
        Some(written?.strip_suffix('x')?.to_owned())
    }
}

fn push_text(pieces: &mut Vec<Piece>, text: &str) {
    match pieces.last_mut() {
        Some(Piece::Text(last)) => last.push_str(text),
        _ if text.is_empty() => {}
        _ => pieces.push(Piece::Text(text.to_owned())),
    }
}

fn push_all(pieces: &mut Vec<Piece>, more: Vec<Piece>) {
    for piece in more {
        match piece {
            Piece::Text(text) => push_text(pieces, &text),
            other => pieces.push(other),
        }
    }
}

impl UrlTemplate {
    /// The URL of one call.
    ///
    /// # Errors
    /// [`Code::EmptyPathValue`], [`Code::NonScalarInPath`], [`Code::DotSegment`] or [`Code::TooLarge`].
    pub fn render(&self, found: &Found<'_>) -> Result<String, Problem> {
        let mut output = Output::new(MAX_URL_BYTES, 256);
        self.pieces.iter().try_for_each(|piece| write_piece(piece, found, &mut output))?;
        Ok(output.into_text())
    }

    /// What history keeps of the URL, whatever the call holds.
    pub fn recorded(&self) -> &str {
        &self.recorded
    }
}

fn write_piece(piece: &Piece, found: &Found<'_>, output: &mut Output) -> Result<(), Problem> {
    match piece {
        Piece::Text(text) => output.write(text).map_err(too_large),
        Piece::InPath(slot, _) | Piece::InQuery(slot) if found.mask(*slot).is_some() => {
            output.write(found.mask(*slot).unwrap_or_default()).map_err(too_large)
        }
        Piece::InQuery(slot) => {
            found.note(*slot, output.mark(), 0);
            write_text(found.value(*slot), &mut Percent(output)).map_err(too_large)
        }
        Piece::InPath(slot, position) => write_path_value(*slot, *position, found, output),
        Piece::Segment(pieces, position) => {
            let start = output.mark();
            pieces.iter().try_for_each(|piece| write_piece(piece, found, output))?;
            // The segment is checked as a whole: after `.` or `%2`, the value that follows decides.
            if is_dot_segment(output.since(start)) { Err(dot_segment(*position)) } else { Ok(()) }
        }
    }
}

fn write_path_value(slot: Slot, position: Position, found: &Found<'_>, output: &mut Output) -> Result<(), Problem> {
    let value = found.value(slot);
    if value.is_object_or_array() {
        let name = shown(found.name(slot));
        let message = format!("`{name}` is an object or array, which the path of a URL cannot contain");
        return Err(problem_at(Code::NonScalarInPath, position, message));
    }
    let start = output.mark();
    write_text(value, &mut Percent(output)).map_err(too_large)?;
    if output.mark() == start {
        let name = shown(found.name(slot));
        let message = format!("`{name}` is missing or empty, but a placeholder in the path of a URL needs a value");
        return Err(problem_at(Code::EmptyPathValue, position, message));
    }
    Ok(())
}

/// Whether a WHATWG parser would resolve this segment instead of sending it: `.` or `..`, with each dot plain or
/// encoded.
fn is_dot_segment(segment: &str) -> bool {
    const DOTS: [&str; 6] = [".", "%2e", "..", ".%2e", "%2e.", "%2e%2e"];
    DOTS.iter().any(|dots| segment.eq_ignore_ascii_case(dots))
}

fn dot_segment(position: Position) -> Problem {
    let message = "a segment of the path is `.` or `..`, which would change where the request goes";
    problem_at(Code::DotSegment, position, message)
}

fn too_large(_: Full) -> Problem {
    limits::rendered_too_large(Field::Url, MAX_URL_BYTES)
}

fn problem_at(code: Code, position: Position, message: impl Into<String>) -> Problem {
    let mut problem = Problem::new(code, Field::Url, message);
    problem.position = Some(position);
    problem
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn compile(template: &str) -> Result<(UrlTemplate, Paths), Problem> {
        let mut paths = Paths::default();
        super::compile(template, &mut paths).map(|url| (url, paths))
    }

    fn render(template: &str, call: &Value) -> Result<String, Problem> {
        let (url, paths) = compile(template)?;
        url.render(&paths.find(&call.to_string()).unwrap())
    }

    fn wrong(template: &str, call: &Value) -> (Code, Option<usize>) {
        let problem = render(template, call).unwrap_err();
        (problem.code, problem.position.map(|position| position.column))
    }

    #[test]
    fn a_segment_of_dots_is_refused_however_it_comes_about() {
        let cases = [
            ("https://h/a/../b", ".", 13),
            ("https://h/.", ".", 11),
            ("https://h/%2E%2e?a", ".", 11),
            ("https://h/a/${x}/b", ".", 13),
            ("https://h/.${x}", ".", 11),
            ("https://h/${x}${x}", ".", 11),
            ("https://h/%2${x}", "e", 11),
            ("https://h/%${x}.", "2E", 11),
            ("  https://h/a/%2e${x}", ".", 15),
        ];
        for (template, x, column) in cases {
            assert_eq!(wrong(template, &json!({"x": x})), (Code::DotSegment, Some(column)), "{template}");
        }
        for (template, x) in [("https://h/a${x}", ".."), ("https://h/...", ""), ("https://h/?${x}", "..")] {
            assert!(render(template, &json!({"x": x})).is_ok(), "{template}");
        }
        assert_eq!(render("https://h/${x}", &json!({"x": "%2e"})).unwrap(), "https://h/%252e");
    }

    #[test]
    fn a_path_needs_a_value_that_is_text_a_number_or_a_boolean() {
        for value in [json!(""), json!(null)] {
            assert_eq!(wrong("https://h/a${x}", &json!({"x": value})), (Code::EmptyPathValue, Some(12)));
        }
        assert_eq!(wrong("https://h/${ y }", &json!({})), (Code::EmptyPathValue, Some(11)));
        for value in [json!({}), json!([])] {
            assert_eq!(wrong("https://h/${x}", &json!({"x": value})), (Code::NonScalarInPath, Some(11)));
        }
        let call = json!({"a": 1.5, "b": false, "c": " "});
        assert_eq!(render("https://h/${a}${b}/${c}", &call).unwrap(), "https://h/1.5false/%20");
    }

    #[test]
    fn no_placeholder_stands_before_the_path() {
        let cases = [
            ("${x}", 1),
            ("  ${x}", 3),
            ("http${x}://h/", 5),
            ("https:${x}", 7),
            ("https://${x}", 9),
            ("https://h.${x}/", 11),
            ("HTTPS://h:${x}/", 11),
            ("https://${x}@h/", 9),
        ];
        for (template, column) in cases {
            assert_eq!(wrong(template, &json!({})), (Code::PlaceholderInAuthority, Some(column)), "{template}");
        }
    }

    #[test]
    fn what_a_url_parser_would_guess_at_is_refused() {
        let cases = [
            ("", Code::BadScheme, 1),
            ("//h/", Code::BadScheme, 1),
            ("h/${x}", Code::BadScheme, 1),
            ("http:/h/", Code::BadScheme, 1),
            ("javascript:1", Code::BadScheme, 1),
            ("ftp://${x}/", Code::BadScheme, 1),
            ("https://", Code::BadUrl, 9),
            ("https:///h/", Code::BadUrl, 9),
            ("https://?a", Code::BadUrl, 9),
            ("https://:80/", Code::BadUrl, 9),
            ("https://h:99999/", Code::BadUrl, 9),
            ("https://h h/", Code::BadUrl, 9),
            ("https://a%2fb/", Code::BadUrl, 9),
            ("https://[::1/", Code::BadUrl, 9),
            ("https://h/a\\b", Code::BadUrl, 12),
            ("https://h/${x}\\\\${x}", Code::BadUrl, 15),
            ("https://h/a\tb", Code::UrlControlChar, 12),
            ("https://h/?a\u{7f}", Code::UrlControlChar, 13),
            ("https://@h/", Code::UrlUserinfo, 9),
            ("https://u@h/", Code::UrlUserinfo, 10),
        ];
        for (template, code, column) in cases {
            assert_eq!(wrong(template, &json!({"x": "1"})), (code, Some(column)), "{template}");
        }
    }

    #[test]
    fn an_escaped_placeholder_is_literal_text() {
        let call = json!({"x": "v"});
        assert_eq!(render("https://h/\\${x}?\\${x}", &call).unwrap(), "https://h/$%7Bx%7D?${x}");
        assert_eq!(render("https://h/$${x}", &call).unwrap(), "https://h/$v");
    }

    #[test]
    fn a_placeholder_in_the_fragment_is_checked_but_not_looked_up() {
        assert_eq!(render("https://h?a#${x}", &json!({})).unwrap(), "https://h/?a");
        assert!(compile("https://h?a#${x}").unwrap().1.is_empty());
        assert_eq!(wrong("https://h/#${}", &json!({})), (Code::BadPlaceholder, Some(12)));
    }

    #[test]
    fn a_url_past_its_limit_is_refused_and_one_at_it_is_not() {
        let render = |bytes| render("https://h/?${x}", &json!({"x": "a".repeat(bytes)}));
        let fits = MAX_URL_BYTES - "https://h/?".len();
        assert_eq!(render(fits).unwrap().len(), MAX_URL_BYTES);
        assert_eq!(render(fits + 1).unwrap_err().code, Code::TooLarge);
        let literal = format!("https://h/?{}", "é".repeat(MAX_URL_BYTES / 4));
        assert_eq!(compile(&literal).unwrap_err().code, Code::TooLarge);
        let in_path = literal.replace('?', "");
        assert_eq!(compile(&in_path).unwrap_err().code, Code::TooLarge);
        assert!(compile(&format!("https://h/?{}", "a".repeat(fits))).is_ok());
    }

    #[test]
    fn blanks_around_a_url_and_its_fragment_are_not_sent() {
        for template in [" \n https://h/é?${x} \n", "https://h/é?${x}#b?c", "https://h/é?${x}# "] {
            assert_eq!(render(template, &json!({"x": 1})).unwrap(), "https://h/%C3%A9?1", "{template}");
        }
    }

    #[test]
    fn literal_text_is_cut_at_placeholders_only() {
        fn cut(pieces: &[Piece]) -> Vec<String> {
            let cut_one = |piece: &Piece| match piece {
                Piece::Text(text) => vec![text.clone()],
                Piece::Segment(pieces, _) => cut(pieces),
                Piece::InPath(..) | Piece::InQuery(_) => vec!["…".to_owned()],
            };
            pieces.iter().flat_map(cut_one).collect()
        }
        let pieces = |template: &str| cut(&compile(template).unwrap().0.pieces);
        assert_eq!(pieces("https://h/a//b/\\${c?d"), ["https://h/a//b/$%7Bc?d"]);
        assert_eq!(pieces("https://h/${x}${y}/b/?${z}&e"), ["https://h/", "…", "…", "/b/?", "…", "&e"]);
    }
}
