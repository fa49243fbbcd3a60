//! Writes a value without its white space into an output.
//!
//! The result is what common JSON libraries write: strings as UTF-8 with as few escapes as possible, numbers with their
//! digits unchanged, and nothing between the tokens. Most texts differ little from that, so long parts of them are
//! copied at once.

use super::Unreadable;
use super::number::Number;
use super::scan::{Scanner, Watcher};
use super::string::Raw;
use crate::render::output::{Full, JsonString, Sink};

/// The result of copying a document.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Copied {
    /// The whole document was written.
    Whole,
    /// A name occurs twice in one of its objects, so the written text is wrong; see [`super::canonical`].
    NameTwice,
    /// The output has reached its limit.
    Full,
}

/// Writes one value of a text. The grammar must be checked already, and no name may occur twice in an object of the
/// value.
pub(crate) fn copy(value: &str, sink: &mut impl Sink) -> Result<(), Full> {
    let mut scanner = Scanner::new(value, Copy::new(value, sink));
    // This cannot fail: the text was already read once.
    let _ = scanner.value();
    let end = scanner.at();
    scanner.watcher.finish(end)
}

/// Writes the document `text`, and checks all of it in the same pass.
///
/// # Errors
/// Fails only if the text is not a JSON object, even if the output became full before that was found.
pub(crate) fn copy_document(text: &str, sink: &mut impl Sink) -> Result<Copied, Unreadable> {
    let mut scanner = Scanner::new(text, Copy::new(text, sink));
    scanner.notice_names(true);
    scanner.document(Scanner::value)?;
    let (end, name_twice) = (scanner.at(), scanner.met_a_name_twice());
    Ok(match scanner.watcher.finish(end) {
        _ if name_twice => Copied::NameTwice,
        Err(Full) => Copied::Full,
        Ok(()) => Copied::Whole,
    })
}

/// Copies the text that the scanner reads, in parts that end where the spelling must change.
struct Copy<'c, 's, S> {
    text: &'c str,
    /// Everything before this byte offset is written.
    copied: usize,
    sink: &'s mut S,
    written: Result<(), Full>,
}

impl<'c, 's, S: Sink> Copy<'c, 's, S> {
    fn new(text: &'c str, sink: &'s mut S) -> Copy<'c, 's, S> {
        Copy { text, copied: 0, sink, written: Ok(()) }
    }

    /// Copies the text up to the byte `end`, lets `write` write the part from there to `next`, and continues at `next`.
    fn replace(&mut self, end: usize, next: usize, write: impl FnOnce(&mut S) -> Result<(), Full>) {
        let stretch = self.text.get(self.copied..end).unwrap_or_default();
        self.copied = next;
        self.written = self.written.and_then(|()| if stretch.is_empty() { Ok(()) } else { self.sink.write(stretch) });
        self.written = self.written.and_then(|()| write(self.sink));
    }

    fn finish(mut self, end: usize) -> Result<(), Full> {
        self.replace(end, end, |_| Ok(()));
        self.written
    }
}

impl<S: Sink> Watcher for Copy<'_, '_, S> {
    fn blanks(&mut self, from: usize, to: usize) {
        self.replace(from, to, |_| Ok(()));
    }

    fn string(&mut self, start: usize, raw: Raw<'_>) {
        if raw.escaped {
            self.replace(start, start + raw.text.len(), |sink| raw.write(&mut JsonString(sink)));
        }
    }

    fn number(&mut self, start: usize, number: Number) {
        let text = self.text.get(start..start + number.len).unwrap_or_default();
        if number.is_respelled(text) {
            self.replace(start, start + number.len, |sink| number.write(text, sink));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::output::Output;

    fn copied(text: &str, limit: usize) -> (Result<Copied, Unreadable>, String) {
        let mut output = Output::new(limit, 0);
        let copied = copy_document(text, &mut output);
        (copied, output.into_text())
    }

    #[test]
    fn white_space_goes_and_what_can_be_written_in_two_ways_is_written_in_one() {
        let text = " { \"a b\" : [ 1E5 , -0 ,1.0,\t\"\\u0041\\/\\n\\u001F\" ] ,\r\n\"\\u00e9\":{ } , \"z\" : null } ";
        let expected = r#"{"a b":[1e+5,-0,1.0,"A/\n\u001f"],"é":{},"z":null}"#;
        assert_eq!(copied(text, 100), (Ok(Copied::Whole), expected.to_owned()));
        let compact = r#"{"a":[1,{"b":"c"}]}"#;
        assert_eq!(copied(compact, 100), (Ok(Copied::Whole), compact.to_owned()));
    }

    #[test]
    fn a_text_is_checked_to_its_end_whatever_becomes_of_the_output() {
        assert_eq!(copied("{\"a\": 1}", 7).0, Ok(Copied::Whole));
        assert_eq!(copied("{\"a\": 1}", 6).0, Ok(Copied::Full));
        assert_eq!(copied("{\"a\": 1", 3).0, Err(Unreadable::NotJson(7)));
        assert_eq!(copied("{\"a\": 1, \"a\": 2}", 3).0, Ok(Copied::NameTwice));
        assert_eq!(copied("{\"a\": 1, \"a\": 2", 100).0, Err(Unreadable::NotJson(15)));
        assert_eq!(copied("[1]", 100).0, Err(Unreadable::NotAnObject));
    }

    #[test]
    fn no_name_has_a_meaning_of_its_own() {
        for text in [
            r#"{"$serde_json::private::Number":"1"}"#,
            r#"{"a":{"$serde_json::private::RawValue":"{}"}}"#,
            r#"{"a":{"$serde_json::private::Number":"no number"}}"#,
        ] {
            assert_eq!(copied(text, 100), (Ok(Copied::Whole), text.to_owned()));
        }
    }
}
