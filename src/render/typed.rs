//! Secrets that are typed into a template: values of headers and parameters whose names are those of secrets, and parts of a URL's
//! path that can hardly be guessed. The rules are those by which what is shown is masked.

use std::ops::Range;

use super::limits;
use super::placeholder::Part;
use super::source::{Source, shown};
use super::tokens::{self, Kind, Token};
use super::url_text;
use crate::domain::mask::{is_secret, is_unguessable};
use crate::domain::problem::Field;
use crate::domain::warning::{Warning, WarningCode};

/// The largest number of them that are told of one template.
const MAX_TOLD: usize = 5;
/// What stands in the place of a placeholder while a URL is taken apart. No URL has it.
const VALUE: char = '\0';

/// Warnings of what is probably a secret in the template `text` of `field`. No warning tells any of it.
pub fn warnings(field: Field, text: &str) -> Vec<Warning> {
    let source = Source { field, text };
    if limits::check_template(source).is_err() {
        return Vec::new();
    }
    let found = match field {
        Field::Url => in_url(source),
        Field::Headers => in_headers(source),
        Field::Body | Field::Action | Field::Method | Field::Timeout | Field::Call => Vec::new(),
    };
    let warning = |(what, range): (String, Range<usize>)| {
        let hint = "name a secret in its place (`${secret.NAME}`), or publish with the key file (--key-file), which seals the \
                    templates; if it is no secret, nothing is wrong";
        let message = format!("{what} is probably a secret, and would be stored in clear");
        Warning::new(WarningCode::TypedSecret, field, message, hint).at(range)
    };
    found.into_iter().take(MAX_TOLD).map(warning).collect()
}

/// What is found, and where.
type Found = Vec<(String, Range<usize>)>;

fn in_headers(source: Source<'_>) -> Found {
    let (mut found, mut name) = (Vec::new(), None);
    let mut current = tokens::next(source, 0).ok().flatten();
    while let Some(token) = current {
        let next = tokens::next(source, token.end).ok().flatten();
        let is_key = next.as_ref().is_some_and(|next| next.kind == Kind::Punct(':'));
        if is_key {
            name = Some(source.between(token.start, token.end).trim_matches('"'));
        } else if !matches!(token.kind, Kind::Punct(_))
            && let Some(name) = name.take()
            && is_secret(name)
            && is_typed(&without_values(source, &token))
        {
            found.push((format!("the value of `{}`", shown(name)), token.start..token.end));
        }
        current = next;
    }
    found
}

/// The literal text of a value, with [`VALUE`] for each placeholder.
fn without_values(source: Source<'_>, token: &Token) -> String {
    let literal = token.parts.iter().map(|part| text_of(source, part, 1)).collect::<String>();
    let is_none = token.kind == Kind::Word && ["null", "true", "false"].contains(&literal.as_str());
    if is_none { String::new() } else { literal }
}

fn text_of(source: Source<'_>, part: &Part, bytes: usize) -> String {
    match part {
        Part::Text(start, end) => source.between(*start, *end).to_owned(),
        Part::Dropped(_) => VALUE.to_string(),
        Part::Placeholder(_) => VALUE.to_string().repeat(bytes),
    }
}

/// Whether a part of a value that stands under the name of a secret is typed: all of it, or a piece beside a placeholder that is no word,
/// such as `Bearer` is.
fn is_typed(value: &str) -> bool {
    match value.contains(VALUE) {
        true => has_unguessable(value),
        false => !value.trim().is_empty(),
    }
}

fn has_unguessable(text: &str) -> bool {
    text.split(|c: char| !c.is_ascii_alphanumeric()).any(is_unguessable)
}

fn in_url(source: Source<'_>) -> Found {
    let bytes = |part: &Part| part.placeholder().map_or(0, |placeholder| placeholder.end - placeholder.start);
    let parts = url_text::split(source, 0).unwrap_or_default();
    // As long as the template, so that a place in it is one in the template.
    let text: String = parts.iter().map(|part| text_of(source, part, bytes(part))).collect();
    let Some(authority) = text.find("://").map(|at| at + "://".len()) else { return Vec::new() };
    let path = text[authority..].find(['/', '?', '#']).map_or(text.len(), |at| authority + at);
    let end = text[path..].find('#').map_or(text.len(), |at| path + at);
    let query = text[path..end].find('?').map_or(end, |at| path + at);
    let segments = pieces(&text, path..query, '/').filter(|range| has_unguessable(&text[range.clone()]));
    let mut found: Found = segments.map(|range| ("this part of the path".to_owned(), range)).collect();
    for parameter in pieces(&text, (query + 1).min(end)..end, '&') {
        let Some((name, value)) = text[parameter.clone()].split_once('=') else { continue };
        if is_secret(name) && is_typed(value) {
            found.push((format!("the value of `{}`", shown(name)), parameter.end - value.len()..parameter.end));
        }
    }
    found
}

/// The pieces of a part of a text between separators.
fn pieces(text: &str, part: Range<usize>, separator: char) -> impl Iterator<Item = Range<usize>> {
    let mut at = part.start;
    text[part].split(separator).map(move |piece| {
        let start = at;
        at += piece.len() + separator.len_utf8();
        start..start + piece.len()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marked(field: Field, text: &str) -> Vec<&str> {
        let warnings = warnings(field, text);
        assert!(warnings.iter().all(|one| one.code == WarningCode::TypedSecret && one.field == field));
        warnings.into_iter().map(|one| &text[one.range.unwrap()]).collect()
    }

    #[test]
    fn what_is_typed_under_the_name_of_a_secret_is_marked_and_what_is_named_is_not() {
        for (headers, expected) in [
            ("{\"Authorization\": \"Bearer abc\"}", vec!["\"Bearer abc\""]),
            ("{\"x\": 1, \"x-api-key\": 12, \"cookie\": \"a=b\"}", vec!["12", "\"a=b\""]),
            ("{\"x-token\": \"${callInfo.from} aB3dE6gH\"}", vec!["\"${callInfo.from} aB3dE6gH\""]),
            ("{\"authorization\": \"Bearer ${secret.TOKEN}\", \"x-key\": \"${context.key}\"}", vec![]),
            ("{\"authorization\": \"\", \"cookie\": null, \"x-key\": ${secret.K}}", vec![]),
            ("{\"content-type\": \"aB3dE6gH\", \"x-call\": \"${callInfo.callSid}\"}", vec![]),
            ("{\"x-token\": \"a\" \"b\": \"${", vec!["\"a\""]),
        ] {
            assert_eq!(marked(Field::Headers, headers), expected, "{headers}");
        }
        assert_eq!(marked(Field::Body, "{\"token\": \"aB3dE6gH\"}"), Vec::<&str>::new());
    }

    #[test]
    fn what_can_hardly_be_guessed_of_a_path_is_marked_and_plain_words_are_not() {
        for (url, expected) in [
            (" https://h.example/services/T0A1B2C3D/s3cretPart?x=${a}#B3dE6gH7", vec!["T0A1B2C3D", "s3cretPart"]),
            ("https://h.example/é${callInfo.from}/abc-d4E5f6g7/x", vec!["abc-d4E5f6g7"]),
            ("https://h.example/${secret.PATH}/v2/call-completed/oauth2?id=aB3dE6gH", vec![]),
            ("https://h.example?key=1&token=${secret.T}&x=${a}&code=\\${b}aB3dE6gH", vec!["1", "\\${b}aB3dE6gH"]),
            ("https://aB3dE6gH.example", vec![]),
            ("aB3dE6gH/aB3dE6gH", vec![]),
        ] {
            assert_eq!(marked(Field::Url, url), expected, "{url}");
        }
        assert_eq!(marked(Field::Url, &format!("https://h/{}", "aB3dE6gH/".repeat(50))).len(), MAX_TOLD);
    }

    #[test]
    fn no_warning_tells_the_secret() {
        for (field, text) in [
            (Field::Url, "https://h.example/s3cretPart?key=s3cretPart"),
            (Field::Headers, "{\"x-key\": \"s3cretPart\"}"),
        ] {
            let warnings = warnings(field, text);
            assert!(!warnings.is_empty() && !format!("{warnings:?}").contains("s3cret"), "{warnings:?}");
        }
    }
}
