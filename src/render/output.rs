//! The target of rendered text: a string with a size limit, and the encodings through which values are written to it. A
//! value is written piece by piece, without an intermediate copy.

use super::json::string::find_special;
use crate::domain::percent::encoded;

/// The output has reached its limit. The text that did not fit was not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full;

/// Accepts text and writes it unchanged or encoded.
pub(super) trait Sink {
    /// Appends `text`.
    fn write(&mut self, text: &str) -> Result<(), Full>;
}

/// A string of at most `limit` bytes.
pub(super) struct Output {
    text: String,
    limit: usize,
}

/// A finished text may have this many unused allocated bytes: to free them would cost more than to keep them.
const SLACK_BYTES: usize = 1024;

impl Output {
    /// An empty output with room for `expected` bytes before it has to grow.
    pub fn new(limit: usize, expected: usize) -> Output {
        Output { text: String::with_capacity(expected.min(limit)), limit }
    }

    /// The number of bytes written so far, as a mark for [`Output::since`].
    pub fn mark(&self) -> usize {
        self.text.len()
    }

    /// The text written since `mark`.
    pub fn since(&self, mark: usize) -> &str {
        self.text.get(mark..).unwrap_or_default()
    }

    /// The text written between the marks `start` and `end`.
    pub fn between(&self, start: usize, end: usize) -> &str {
        self.text.get(start..end).unwrap_or_default()
    }

    /// Removes the text written since `mark`.
    pub fn cut_back(&mut self, mark: usize) {
        self.text.truncate(mark);
    }

    /// The written text, with little unused memory.
    pub fn into_text(mut self) -> String {
        if self.text.capacity() > self.text.len() + SLACK_BYTES {
            self.text.shrink_to_fit();
        }
        self.text
    }

    /// Makes room for `more` bytes. The capacity doubles as in a `String`, but never exceeds the limit.
    fn grow(&mut self, more: usize) {
        let needed = self.text.len() + more;
        let capacity = needed.max(2 * self.text.capacity()).min(self.limit);
        self.text.reserve_exact(capacity - self.text.len());
    }
}

impl Sink for Output {
    fn write(&mut self, text: &str) -> Result<(), Full> {
        if text.len() > self.limit - self.text.len() {
            return Err(Full);
        }
        if text.len() > self.text.capacity() - self.text.len() {
            self.grow(text.len());
        }
        self.text.push_str(text);
        Ok(())
    }
}

/// Writes text between the quotes of a JSON string (RFC 8259, section 7). It escapes only what must be escaped, so that
/// non-ASCII text is sent as UTF-8.
pub(super) struct JsonString<'o, S>(pub &'o mut S);

impl<S: Sink> Sink for JsonString<'_, S> {
    fn write(&mut self, text: &str) -> Result<(), Full> {
        let mut rest = text;
        loop {
            let (clean, special) = rest.split_at(find_special(rest.as_bytes(), 0));
            self.0.write(clean)?;
            let Some(escape) = special.bytes().next().and_then(json_escape) else { return Ok(()) };
            self.0.write(escape)?;
            rest = special.get(1..).unwrap_or_default();
        }
    }
}

/// The escape that `byte` needs inside a JSON string.
fn json_escape(byte: u8) -> Option<&'static str> {
    Some(match byte {
        b'"' => "\\\"",
        b'\\' => "\\\\",
        0x08 => "\\b",
        0x09 => "\\t",
        0x0A => "\\n",
        0x0C => "\\f",
        0x0D => "\\r",
        0x00..=0x1F => {
            let at = usize::from(byte) * 6;
            JSON_CONTROLS.get(at..at + 6)?
        }
        _ => return None,
    })
}

/// The escapes of U+0000 to U+001F, six bytes each.
const JSON_CONTROLS: &str = "\\u0000\\u0001\\u0002\\u0003\\u0004\\u0005\\u0006\\u0007\
                             \\u0008\\u0009\\u000a\\u000b\\u000c\\u000d\\u000e\\u000f\
                             \\u0010\\u0011\\u0012\\u0013\\u0014\\u0015\\u0016\\u0017\
                             \\u0018\\u0019\\u001a\\u001b\\u001c\\u001d\\u001e\\u001f";

/// Percent-encodes all characters but the unreserved ones of RFC 3986, section 2.3, so that no value can leave its
/// place in a URL.
pub(super) struct Percent<'o>(pub &'o mut Output);

impl Sink for Percent<'_> {
    fn write(&mut self, text: &str) -> Result<(), Full> {
        encoded(text).try_for_each(|piece| self.0.write(piece))
    }
}

/// Writes a header's value. Each control character, including C1 characters, becomes a space.
pub(super) struct HeaderText<'o>(pub &'o mut Output);

impl Sink for HeaderText<'_> {
    fn write(&mut self, text: &str) -> Result<(), Full> {
        let mut pieces = text.split(char::is_control);
        self.0.write(pieces.next().unwrap_or_default())?;
        pieces.try_for_each(|piece| {
            self.0.write(" ")?;
            self.0.write(piece)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_output_never_allocates_more_than_its_limit() {
        for (limit, expected) in [(1000, 0), (1000, 700), (1000, 5000), (0, 10)] {
            let mut output = Output::new(limit, expected);
            while output.write("0123456").is_ok() {
                assert!(output.text.capacity() <= limit, "{}", output.text.capacity());
            }
            assert!(output.mark() + 7 > limit && output.text.capacity() <= limit);
        }
    }

    #[test]
    fn an_output_that_grows_has_room_for_what_comes_and_still_no_more_than_its_limit() {
        let mut output = Output::new(1_000, 300);
        for text in ["x".to_owned(), "y".repeat(700)] {
            output.write(&text).unwrap();
            assert!(output.text.capacity() <= 1_000, "{}", output.text.capacity());
        }
        assert_eq!(output.mark(), 701);
    }

    #[test]
    fn an_output_grows_only_if_it_must_and_seldom() {
        let mut output = Output::new(1 << 20, 100);
        let before = output.text.capacity();
        output.write(&"x".repeat(before)).unwrap();
        assert_eq!(output.text.capacity(), before);
        let mut times = 0;
        for _ in 0..10_000 {
            let before = output.text.capacity();
            output.write("x").unwrap();
            times += usize::from(output.text.capacity() != before);
        }
        assert!(times < 10, "grew {times} times");
    }

    #[test]
    fn a_finished_text_gives_back_unused_memory_if_it_is_much() {
        let unused_of_finished = |unused: usize| {
            let mut output = Output::new(1 << 20, 10_000);
            let bytes = output.text.capacity() - unused;
            output.write(&"x".repeat(bytes)).unwrap();
            let text = output.into_text();
            text.capacity() - text.len()
        };
        assert_eq!(unused_of_finished(SLACK_BYTES), SLACK_BYTES);
        assert!(unused_of_finished(SLACK_BYTES + 1) < SLACK_BYTES);
    }

    #[test]
    fn text_in_a_json_string_is_escaped_as_serde_escapes_it() {
        let text: String = ('\0'..='\u{100}').collect();
        let mut output = Output::new(10_000, 0);
        JsonString(&mut output).write(&text).unwrap();
        assert_eq!(format!("\"{}\"", output.into_text()), serde_json::to_string(&text).unwrap());
    }
}
