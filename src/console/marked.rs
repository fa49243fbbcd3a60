//! Texts of a request in which the places are marked where a placeholder found no value.

use crate::domain::request::Gap;

/// A part of a text.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// As it may be shown.
    pub(super) text: String,
    /// The path that found no value, if the text stands in place of its value; then it may be empty.
    pub(super) gap: Option<String>,
}

/// The text in pieces, each as `shown` shows it. The gaps are in the order of the text; those behind its end are left out.
pub(super) fn pieces(text: &str, gaps: &[Gap], shown: impl Fn(&str) -> String) -> Vec<Piece> {
    let (mut pieces, mut done) = (Vec::with_capacity(2 * gaps.len() + 1), 0);
    for Gap { path, range } in gaps {
        let (Some(before), Some(instead)) = (text.get(done..range.start), text.get(range.clone())) else { continue };
        pieces.extend((!before.is_empty()).then(|| Piece { text: shown(before), gap: None }));
        pieces.push(Piece { text: shown(instead), gap: Some(shown(path)) });
        done = range.end;
    }
    let rest = text.get(done..).unwrap_or_default();
    pieces.extend((!rest.is_empty()).then(|| Piece { text: shown(rest), gap: None }));
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pieces_together_are_the_text_whatever_the_gaps_are() {
        let gap = |range| Gap { path: "p".to_owned(), range };
        for gaps in [vec![], vec![gap(0..0), gap(0..0), gap(3..5)], vec![gap(2..9), gap(1..1), gap(7..8)]] {
            let pieces = pieces("aébcde", &gaps, str::to_owned);
            assert_eq!(pieces.iter().map(|piece| piece.text.as_str()).collect::<String>(), "aébcde", "{gaps:?}");
        }
        let marked = pieces("x=, null", &[gap(2..2), gap(4..8)], str::to_owned);
        let marked: Vec<_> = marked.iter().map(|piece| (piece.text.as_str(), piece.gap.is_some())).collect();
        assert_eq!(marked, [("x=", false), ("", true), (", ", false), ("null", true)]);
    }
}
