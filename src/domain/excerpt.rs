//! The beginning and the end of a response's body, for people who ask why a receiver refused a request.

use std::fmt;

/// How many bytes of the beginning are kept at most, and how many of the end.
pub const MAX_SIDE_BYTES: usize = 2_048;

/// The beginning and the end of a body. It may hold personal data and is never logged, not even by `{:?}`.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Excerpt {
    beginning: Vec<u8>,
    /// What came last of what is not in the beginning.
    ending: Vec<u8>,
    left_out: usize,
}

impl Excerpt {
    /// An excerpt whose parts are known.
    pub fn of(beginning: Vec<u8>, ending: Vec<u8>, left_out: usize) -> Excerpt {
        Excerpt { beginning, ending, left_out }
    }

    /// The first bytes of the body.
    pub fn beginning(&self) -> &[u8] {
        &self.beginning
    }

    /// The last bytes that were read. Empty if the beginning is all.
    pub fn ending(&self) -> &[u8] {
        &self.ending
    }

    /// How many bytes between the two were read and are not kept.
    pub fn left_out(&self) -> usize {
        self.left_out
    }

    /// Takes the next bytes of the body.
    pub fn push(&mut self, bytes: &[u8]) {
        let (first, rest) = bytes.split_at(bytes.len().min(MAX_SIDE_BYTES - self.beginning.len()));
        self.beginning.extend_from_slice(first);
        // Whatever the size of a piece, no more than two sides are in memory.
        let skipped = rest.len().saturating_sub(MAX_SIDE_BYTES);
        self.ending.extend_from_slice(&rest[skipped..]);
        let surplus = self.ending.len().saturating_sub(MAX_SIDE_BYTES);
        self.ending.drain(..surplus);
        self.left_out += skipped + surplus;
    }

    /// What was kept, as text: bytes that are not UTF-8 are replaced, and what was left out is counted.
    pub fn text(&self) -> String {
        if self.left_out == 0 {
            return String::from_utf8_lossy(&[self.beginning(), self.ending()].concat()).into_owned();
        }
        let side = |bytes| String::from_utf8_lossy(bytes).into_owned();
        format!("{}\n… {} bytes …\n{}", side(&self.beginning), self.left_out, side(&self.ending))
    }
}

impl fmt::Debug for Excerpt {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Excerpt({} + {} bytes)", self.beginning.len(), self.ending.len())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_excerpt_says_what_it_leaves_out_and_shows_nothing_in_debug_output() {
        let mut excerpt = Excerpt::default();
        excerpt.push(&[b'a'; MAX_SIDE_BYTES]);
        excerpt.push("secret".as_bytes());
        excerpt.push(&[b'b'; MAX_SIDE_BYTES]);
        let text = excerpt.text();
        assert!(text.starts_with("aaa") && text.ends_with("bbb") && text.contains("\n… 6 bytes …\n"));
        assert_eq!(format!("{excerpt:?}"), "Excerpt(2048 + 2048 bytes)");
        let mut short = Excerpt::default();
        short.push(b"no such lead");
        assert_eq!(short.text(), "no such lead");
    }

    proptest! {
        #[test]
        fn both_sides_are_those_of_the_whole_however_it_is_cut(length in 0..10_000_usize, piece in 1..5_000_usize) {
            let whole: Vec<u8> = (0..length).map(|place| (place % 251) as u8).collect();
            let mut excerpt = Excerpt::default();
            whole.chunks(piece).for_each(|piece| excerpt.push(piece));
            let beginning = length.min(MAX_SIDE_BYTES);
            let ending = (length - beginning).min(MAX_SIDE_BYTES);
            prop_assert_eq!(excerpt.beginning(), &whole[..beginning]);
            prop_assert_eq!(excerpt.ending(), &whole[length - ending..]);
            prop_assert_eq!(excerpt.left_out(), length - beginning - ending);
        }
    }
}
