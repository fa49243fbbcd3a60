//! One pass over a JSON text that checks its grammar and finds where its values begin and end.

use super::names::{Names, Seen};
use super::number::Number;
use super::string::{self, Raw};
use super::{MAX_DEPTH, Unreadable};

/// The byte at which a text stops being JSON, or is nested too deep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotJson(pub usize);

impl From<NotJson> for Unreadable {
    fn from(NotJson(at): NotJson) -> Unreadable {
        Unreadable::NotJson(at)
    }
}

/// Receives what the scanner reads. All offsets are byte offsets in the whole text.
pub(crate) trait Watcher {
    /// White space between the tokens, from the first offset up to the second.
    fn blanks(&mut self, _from: usize, _to: usize) {}
    /// A string, which is a key or a value. The text between its quotes begins at `start`.
    fn string(&mut self, _start: usize, _raw: Raw<'_>) {}
    /// A number that begins at `start`.
    fn number(&mut self, _start: usize, _number: Number) {}
}

/// A watcher that ignores everything.
impl Watcher for () {}

/// A pass over `text`. Each method continues where the one before it stopped.
pub(crate) struct Scanner<'c, W> {
    text: &'c str,
    at: usize,
    depth: usize,
    names: Names<'c>,
    /// Receives what the scanner reads.
    pub watcher: W,
}

/// An object or array that is being read.
#[derive(Default)]
pub(crate) struct Open {
    begun: bool,
    seen: Seen,
}

impl<'c, W: Watcher> Scanner<'c, W> {
    /// Begins a pass over `text`.
    pub fn new(text: &'c str, watcher: W) -> Scanner<'c, W> {
        Scanner { text, at: 0, depth: 0, names: Names::new(text), watcher }
    }

    /// The current byte offset; the next token is read from here.
    pub fn at(&self) -> usize {
        self.at
    }

    /// The text from byte `start` to the current offset.
    pub fn since(&self, start: usize) -> &'c str {
        self.text.get(start..self.at).unwrap_or_default()
    }

    /// Sets whether a name that occurs twice in an object is noticed from here on, and returns the previous setting.
    pub fn notice_names(&mut self, notice: bool) -> bool {
        self.names.notice(notice)
    }

    /// Whether an object with a name that occurs twice was noticed.
    pub fn met_a_name_twice(&self) -> bool {
        self.names.met_twice()
    }

    /// Reads the whole text as one object; `walk` reads the object itself.
    pub fn document(
        &mut self,
        walk: impl FnOnce(&mut Scanner<'c, W>) -> Result<(), NotJson>,
    ) -> Result<(), Unreadable> {
        let is_object = self.peek() == Some(b'{');
        walk(self)?;
        match self.peek() {
            Some(_) => Err(self.here().into()),
            None if is_object => Ok(()),
            None => Err(Unreadable::NotAnObject),
        }
    }

    /// Reads one value of any type.
    pub fn value(&mut self) -> Result<(), NotJson> {
        match self.peek() {
            Some(b'{') => {
                let mut object = self.open()?;
                while self.next_key(&mut object)?.is_some() {
                    self.value()?;
                }
                Ok(())
            }
            Some(b'[') => {
                let mut array = self.open()?;
                while self.next_item(&mut array)? {
                    self.value()?;
                }
                Ok(())
            }
            Some(b'"') => self.string().map(drop),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.literal("true"),
            Some(b'f') => self.literal("false"),
            Some(b'n') => self.literal("null"),
            _ => Err(self.here()),
        }
    }

    /// Skips white space and returns the first byte of the next token, without reading it.
    pub fn peek(&mut self) -> Option<u8> {
        let bytes = self.text.as_bytes();
        let start = self.at;
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = bytes.get(self.at) {
            self.at += 1;
        }
        if start < self.at {
            self.watcher.blanks(start, self.at);
        }
        bytes.get(self.at).copied()
    }

    /// Enters an object or array; [`Scanner::peek`] must have returned its bracket.
    pub fn open(&mut self) -> Result<Open, NotJson> {
        if self.depth == MAX_DEPTH {
            return Err(self.here());
        }
        self.depth += 1;
        self.at += 1;
        Ok(Open { begun: false, seen: self.names.open() })
    }

    /// Reads the name of the next entry of `object`; `None` at the object's end. The entry's value must be read next.
    pub fn next_key(&mut self, object: &mut Open) -> Result<Option<Raw<'c>>, NotJson> {
        match (self.peek(), object.begun) {
            (Some(b'}'), _) => {
                self.close(object);
                return Ok(None);
            }
            (Some(b','), true) => self.at += 1,
            (_, false) => object.begun = true,
            _ => return Err(self.here()),
        }
        if self.peek() != Some(b'"') {
            return Err(self.here());
        }
        let start = self.at + 1;
        let key = self.string()?;
        self.names.add(&mut object.seen, start, key);
        if self.peek() != Some(b':') {
            return Err(self.here());
        }
        self.at += 1;
        Ok(Some(key))
    }

    /// Moves to the next item of `array`, which must be read next; false at the array's end.
    pub fn next_item(&mut self, array: &mut Open) -> Result<bool, NotJson> {
        match (self.peek(), array.begun) {
            (Some(b']'), _) => {
                self.close(array);
                return Ok(false);
            }
            (Some(b','), true) => self.at += 1,
            (_, false) => array.begun = true,
            _ => return Err(self.here()),
        }
        Ok(true)
    }

    fn close(&mut self, open: &Open) {
        self.names.close(&open.seen);
        self.depth -= 1;
        self.at += 1;
    }

    /// Reads a string; [`Scanner::peek`] must have returned its quote.
    pub fn string(&mut self) -> Result<Raw<'c>, NotJson> {
        let bytes = self.text.as_bytes();
        let start = self.at + 1;
        let mut escaped = false;
        self.at = string::find_special(bytes, start);
        while bytes.get(self.at) == Some(&b'\\') {
            escaped = true;
            self.escape()?;
            self.at = string::find_special(bytes, self.at);
        }
        if bytes.get(self.at) != Some(&b'"') {
            return Err(self.here());
        }
        let raw = Raw { text: self.since(start), escaped };
        self.at += 1;
        self.watcher.string(start, raw);
        Ok(raw)
    }

    fn escape(&mut self) -> Result<(), NotJson> {
        let escape = self.text.as_bytes().get(self.at + 1..).unwrap_or_default();
        self.at += match escape {
            [b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', ..] => 2,
            [b'u', digits @ ..] if digits.len() >= 4 && digits.iter().take(4).all(u8::is_ascii_hexdigit) => 6,
            _ => return Err(self.here()),
        };
        Ok(())
    }

    fn number(&mut self) -> Result<(), NotJson> {
        let start = self.at;
        let rest = self.text.as_bytes().get(start..).unwrap_or_default();
        let number = Number::read(rest).map_err(|at| NotJson(start + at))?;
        self.at += number.len;
        self.watcher.number(start, number);
        Ok(())
    }

    fn literal(&mut self, literal: &str) -> Result<(), NotJson> {
        let rest = self.text.get(self.at..).unwrap_or_default();
        if !rest.starts_with(literal) {
            return Err(self.here());
        }
        self.at += literal.len();
        Ok(())
    }

    fn here(&self) -> NotJson {
        NotJson(self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<(), Unreadable> {
        Scanner::new(text, ()).document(Scanner::value)
    }

    #[test]
    fn what_is_no_json_is_refused_at_its_first_wrong_byte() {
        let cases = [
            ("", 0),
            (" ", 1),
            ("{", 1),
            ("{}{", 2),
            ("{\"a\"}", 4),
            ("{\"a\":}", 5),
            ("{\"a\":1,}", 7),
            ("{,}", 1),
            ("{\"a\":1 \"b\":2}", 7),
            ("{a:1}", 1),
            ("[1,]", 3),
            ("[,]", 1),
            ("[1 2]", 3),
            ("[1}", 2),
            ("{\"a\":tru}", 5),
            ("{\"a\":TRUE}", 5),
            ("{\"a\":01}", 6),
            ("{\"a\":-}", 6),
            ("{\"a\":+1}", 5),
            ("{\"a\":1.}", 7),
            ("{\"a\":1e}", 7),
            ("{\"a\":\"\\x\"}", 6),
            ("{\"a\":\"\\u12\"}", 6),
            ("{\"a\":\"\\u+123\"}", 6),
            ("{\"a\":\"\n\"}", 6),
            ("{\"a\":\"b", 7),
            ("\u{feff}{}", 0),
            ("{}\u{a0}", 2),
        ];
        for (text, at) in cases {
            assert_eq!(read(text), Err(Unreadable::NotJson(at)), "{text:?}");
        }
    }

    #[test]
    fn what_is_json_and_no_object_is_told_apart() {
        for text in ["[]", "1", "null", " \"a\" ", "[{}]"] {
            assert_eq!(read(text), Err(Unreadable::NotAnObject), "{text}");
        }
        assert_eq!(read(" {\"a\" : [ 1 , {} , \"\\ud83d\" ] }\r\n\t"), Ok(()));
    }

    #[test]
    fn nesting_is_read_to_its_limit_and_no_deeper() {
        let nested = |depth: usize| format!("{{\"a\":{}1{}}}", "[".repeat(depth - 1), "]".repeat(depth - 1));
        assert_eq!(read(&nested(MAX_DEPTH)), Ok(()));
        assert_eq!(read(&nested(MAX_DEPTH + 1)), Err(Unreadable::NotJson("{\"a\":".len() + MAX_DEPTH - 1)));
        // Far beyond the limit, reading ends with an error and not with a stack overflow.
        assert!(read(&nested(1_000_000)).is_err());
    }
}
