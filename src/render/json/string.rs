//! The text between the quotes of a JSON string (RFC 8259, section 7).
//!
//! JavaScript programs can cut strings between the two halves of an emoji and then write `\ud83d` alone. That is valid
//! JSON by its grammar, but not Unicode text. Postgres accepts it, so it can be in a call. Each such half becomes
//! U+FFFD, as in UTF-8 encoders, so that the delivery does not fail.

use crate::render::output::{Full, Sink};

/// The text between the quotes of a string, not decoded. Its grammar was checked.
#[derive(Clone, Copy)]
pub(crate) struct Raw<'c> {
    /// The text between the quotes.
    pub text: &'c str,
    /// Whether the text contains a backslash.
    pub escaped: bool,
}

impl<'c> Raw<'c> {
    /// The decoded characters of the string.
    pub fn chars(self) -> impl Iterator<Item = char> {
        let mut rest = self.text;
        std::iter::from_fn(move || {
            let (c, length) = match rest.strip_prefix('\\') {
                None => rest.chars().next().map(|c| (c, c.len_utf8()))?,
                Some(_) => unescaped(rest),
            };
            rest = rest.get(length..).unwrap_or_default();
            Some(c)
        })
    }

    /// Whether both strings have the same decoded characters.
    pub fn same(self, other: Raw<'_>) -> bool {
        match self.escaped || other.escaped {
            true => self.chars().eq(other.chars()),
            false => self.text == other.text,
        }
    }

    /// Writes the decoded characters of the string.
    pub fn write(self, sink: &mut impl Sink) -> Result<(), Full> {
        if !self.escaped {
            return sink.write(self.text);
        }
        let mut rest = self.text;
        while let Some(at) = rest.find('\\') {
            let (clean, escape) = rest.split_at(at);
            let (c, length) = unescaped(escape);
            sink.write(clean)?;
            sink.write(c.encode_utf8(&mut [0; 4]))?;
            rest = escape.get(length..).unwrap_or_default();
        }
        sink.write(rest)
    }
}

/// The character of the escape at the start of `text`, and the escape's length in bytes.
fn unescaped(text: &str) -> (char, usize) {
    let c = match text.as_bytes().get(1) {
        Some(b'b') => '\u{8}',
        Some(b'f') => '\u{c}',
        Some(b'n') => '\n',
        Some(b'r') => '\r',
        Some(b't') => '\t',
        Some(b'u') => return unescaped_unicode(text),
        Some(itself) => char::from(*itself),
        None => char::REPLACEMENT_CHARACTER,
    };
    (c, 2)
}

/// As [`unescaped`], for `\uXXXX` and for a pair of them.
fn unescaped_unicode(text: &str) -> (char, usize) {
    const ONE: usize = "\\uXXXX".len();
    let unit = |at: usize| {
        let digits = text.get(at..)?.strip_prefix("\\u")?.get(..4)?;
        u16::from_str_radix(digits, 16).ok()
    };
    let units = [unit(0), unit(ONE)].into_iter().flatten();
    match char::decode_utf16(units).next() {
        Some(Ok(c)) => (c, ONE * c.len_utf16()),
        // Half of a surrogate pair. What follows it is decoded separately.
        _ => (char::REPLACEMENT_CHARACTER, ONE),
    }
}

/// The string in `text` whose text between the quotes begins at the byte `start`.
pub(super) fn at(text: &str, start: usize) -> Raw<'_> {
    let bytes = text.as_bytes();
    let mut end = find_special(bytes, start);
    let mut escaped = false;
    while bytes.get(end) == Some(&b'\\') {
        escaped = true;
        end = find_special(bytes, end + 2);
    }
    Raw { text: text.get(start..end).unwrap_or_default(), escaped }
}

/// The offset of the first byte at or after `from` that must be escaped in a string: a quote, a backslash or a control
/// character. If there is none, the length of `bytes`. Checks eight bytes at a time.
pub(crate) fn find_special(bytes: &[u8], from: usize) -> usize {
    const ONES: u64 = u64::MAX / 255;
    const HIGHS: u64 = ONES * 0x80;
    // The lowest set bit marks the first byte below `limit`; bits above it may be wrong.
    let below = |word: u64, limit: u8| word.wrapping_sub(ONES * u64::from(limit)) & !word & HIGHS;
    let equal = |word: u64, byte: u8| below(word ^ (ONES * u64::from(byte)), 1);

    let mut at = from;
    while let Some(chunk) = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        let word = u64::from_le_bytes(*chunk);
        let special = below(word, b' ') | equal(word, b'"') | equal(word, b'\\');
        if special != 0 {
            return at + special.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    let rest = bytes.get(at..).unwrap_or_default();
    at + rest.iter().position(|byte| is_special(*byte)).unwrap_or(rest.len())
}

fn is_special(byte: u8) -> bool {
    byte < b' ' || byte == b'"' || byte == b'\\'
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::render::output::Output;

    fn raw(text: &str) -> Raw<'_> {
        Raw { text, escaped: text.contains('\\') }
    }

    fn written(text: &str) -> String {
        let mut output = Output::new(1 << 20, 0);
        raw(text).write(&mut output).unwrap();
        output.into_text()
    }

    #[test]
    fn half_an_emoji_becomes_the_replacement_character_and_whole_ones_stay() {
        let cases = [
            ("x\\ud83d", "x\u{FFFD}"),
            ("\\ud83d\\ude00", "😀"),
            ("\\\\ud83d", "\\ud83d"),
            ("\\ude00\\ud83d\\ude00", "\u{FFFD}😀"),
            ("\\uD83D\\uD83D\\uDE00\\uDE00", "\u{FFFD}😀\u{FFFD}"),
            ("\\ud83d\\n", "\u{FFFD}\n"),
            ("\\ud83dé", "\u{FFFD}é"),
        ];
        for (text, expected) in cases {
            assert_eq!(written(text), expected, "{text}");
            assert!(raw(text).chars().eq(expected.chars()), "{text}");
        }
    }

    #[test]
    fn every_escape_stands_for_its_character() {
        assert_eq!(written(r#"\"\\\/\b\f\n\r\t\u0041\u00e9\u0000"#), "\"\\/\u{8}\u{c}\n\r\tAé\0");
        assert!(raw("\\u0061").same(raw("a")) && !raw("\\\\u0061").same(raw("a")));
    }

    #[test]
    fn a_string_is_read_from_its_start_in_a_text_to_its_quote() {
        let text = r#"{"plain":"é", "a\"b\\":1, "\u0061bc":2}"#;
        let read = |before: &str| {
            let raw = at(text, text.find(before).unwrap() + before.len());
            (raw.text, raw.escaped)
        };
        assert_eq!(read("{\""), ("plain", false));
        assert_eq!(read(":\""), ("é", false));
        assert_eq!(read("é\", \""), (r#"a\"b\\"#, true));
        assert_eq!(read(":1, \""), (r"\u0061bc", true));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn the_first_special_byte_is_found_wherever_it_stands(bytes: Vec<u8>, from in 0_usize..20) {
            let from = from.min(bytes.len());
            let expected = bytes[from..].iter().position(|byte| is_special(*byte)).map_or(bytes.len(), |at| from + at);
            prop_assert_eq!(find_special(&bytes, from), expected);
        }

        #[test]
        fn a_string_that_serde_json_writes_is_read_back(text: String) {
            let json = serde_json::to_string(&text).unwrap();
            prop_assert_eq!(written(&json[1..json.len() - 1]), text);
        }
    }
}
