//! Numbers: their grammar and how they are written. Numbers are never converted, so each keeps its digits, whatever its
//! size.

use crate::render::output::{Full, Sink};

/// A number in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Number {
    /// Its length in bytes.
    pub len: usize,
    /// The offset of its `e` or `E`, if it has one.
    pub exponent: Option<usize>,
}

impl Number {
    /// Reads the number at the start of `bytes` (RFC 8259, section 6).
    ///
    /// # Errors
    /// The offset of the first byte that cannot be part of a number.
    pub fn read(bytes: &[u8]) -> Result<Number, usize> {
        let mut at = usize::from(bytes.first() == Some(&b'-'));
        at = match bytes.get(at) {
            Some(b'0') => at + 1,
            _ => digits(bytes, at)?,
        };
        if bytes.get(at) == Some(&b'.') {
            at = digits(bytes, at + 1)?;
        }
        let exponent = matches!(bytes.get(at), Some(b'e' | b'E')).then_some(at);
        if let Some(start) = exponent {
            let signed = matches!(bytes.get(start + 1), Some(b'+' | b'-'));
            at = digits(bytes, start + 1 + usize::from(signed))?;
        }
        Ok(Number { len: at, exponent })
    }

    /// Whether [`Number::write`] changes the spelling of `text`, which is this number.
    pub fn is_respelled(self, text: &str) -> bool {
        let exponent = self.exponent.and_then(|at| text.as_bytes().get(at..));
        exponent.is_some_and(|tail| !matches!(tail, [b'e', b'+' | b'-', ..]))
    }

    /// Writes `text`, which is this number. Only the spelling of an exponent changes: `1E5` and `1e5` become `1e+5`.
    pub fn write(self, text: &str, sink: &mut impl Sink) -> Result<(), Full> {
        let Some((mantissa, exponent)) = self.exponent.and_then(|at| text.split_at_checked(at)) else {
            return sink.write(text);
        };
        let power = exponent.get(1..).unwrap_or_default();
        sink.write(mantissa)?;
        sink.write(if power.starts_with(['+', '-']) { "e" } else { "e+" })?;
        sink.write(power)
    }
}

/// The end of the digits that begin at byte `start`; an error if there is no digit.
fn digits(bytes: &[u8], start: usize) -> Result<usize, usize> {
    let rest = bytes.get(start..).unwrap_or_default();
    match rest.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(rest.len()) {
        0 => Err(start.min(bytes.len())),
        length => Ok(start + length),
    }
}

/// Whether `text` is exactly one number.
pub(crate) fn is_number(text: &str) -> bool {
    Number::read(text.as_bytes()).is_ok_and(|number| number.len == text.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::render::output::Output;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_number_is_what_serde_json_reads_as_one_and_is_written_as_it_does(text in "-?[-+0-9.eE]{0,8}") {
            let read = serde_json::from_str::<serde_json::Value>(&text).ok();
            prop_assert_eq!(is_number(&text), read.is_some(), "{}", text);
            if let Some(value) = read {
                let number = Number::read(text.as_bytes()).unwrap();
                let mut output = Output::new(64, 0);
                number.write(&text, &mut output).unwrap();
                let written = output.into_text();
                prop_assert_eq!(&written, &value.to_string());
                prop_assert_eq!(number.is_respelled(&text), written != text);
            }
        }
    }
}
