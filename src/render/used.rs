//! Which placeholders a template has, and where: for editors, which mark those that found no value.

use std::ops::Range;

use super::limits;
use super::placeholder::{Part, Placeholder};
use super::source::Source;
use super::{tokens, url_text};
use crate::domain::problem::Field;

/// A placeholder in a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsedPlaceholder {
    /// Its path, as the author wrote it: the text that names it where it found no value.
    pub path: String,
    /// The bytes of the template that it takes.
    pub range: Range<usize>,
}

/// The placeholders of the template `text` of `field`, in their order, up to the first thing that cannot be read. There are
/// none for a field that has no template. A template is bounded, and so are they ([`limits`]).
pub fn placeholders(field: Field, text: &str) -> Vec<UsedPlaceholder> {
    let source = Source { field, text };
    if limits::check_template(source).is_err() {
        return Vec::new();
    }
    match field {
        Field::Url => used(&url_text::split(source, 0).unwrap_or_default()).collect(),
        Field::Headers | Field::Body => {
            let first = tokens::next(source, 0).ok().flatten();
            let all = std::iter::successors(first, |token| tokens::next(source, token.end).ok().flatten());
            all.flat_map(|token| used(&token.parts).collect::<Vec<_>>()).collect()
        }
        Field::Action | Field::Method | Field::Timeout | Field::Call => Vec::new(),
    }
}

fn used(parts: &[Part]) -> impl Iterator<Item = UsedPlaceholder> + '_ {
    parts
        .iter()
        .filter_map(Part::placeholder)
        .map(|Placeholder { path, start, end }| UsedPlaceholder { path: path.text.to_string(), range: *start..*end })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marked(field: Field, text: &str) -> Vec<(String, &str)> {
        placeholders(field, text).into_iter().map(|used| (used.path, &text[used.range])).collect()
    }

    #[test]
    fn each_placeholder_is_marked_where_it_stands_and_no_escaped_one() {
        let body = "{\"ü\": \"\\${no} ${ a.b } x\", \"${k}\": [${a['c d']}, 1${n}]}";
        let expected = [("a.b", "${ a.b }"), ("k", "${k}"), ("a['c d']", "${a['c d']}"), ("n", "${n}")];
        assert_eq!(marked(Field::Body, body), expected.map(|(path, text)| (path.to_owned(), text)));
        assert_eq!(marked(Field::Url, "https://h/é/${x}?\\${no}&y=${x}").len(), 2);
        assert_eq!(marked(Field::Headers, "{\"a\": \"${x}\", ${}: \"${y}\"}"), [("x".to_owned(), "${x}")]);
        assert_eq!(marked(Field::Method, "${x}"), []);
    }
}
