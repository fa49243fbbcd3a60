//! Watches the bytes of an answer go by until its head has passed, and bounds them.
//!
//! Any number of interim responses (1xx) may come before the final one (RFC 9110, section 15.2), and hyper reads them as
//! long as they come. A receiver that sends them without end would be read, and parsed, until the deadline.

use memchr::memchr;

/// Most interim responses before the final one. Servers send one or two, or one every few seconds to show that they are
/// still at work (`102 Processing`).
const MAX_INTERIM: usize = 128;

/// Most bytes of all heads together, the interim ones and the final one. Far more than any server sends: nginx takes 4 KiB
/// from the application behind it by default, Node and Apache accept 8 to 16 KiB.
pub(super) const MAX_HEAD_BYTES: usize = 256 * 1024;

/// Most header lines of a head. hyper's own bound is 100.
pub(super) const MAX_HEADERS: usize = 512;

/// As much of a status line as it takes to tell an interim response: `HTTP/1.1 103`.
const STATUS_BYTES: usize = 12;

/// What is known after some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// The final head has not ended yet.
    More,
    /// It has.
    Final,
    /// More has come than an answer may have.
    Excess,
}

/// The heads of one answer, followed line by line. Where they end is judged as httparse does it: at an empty line, each
/// line ending with LF, or CR LF.
#[derive(Debug, Default)]
pub(super) struct HeadWatch {
    /// Bytes so far.
    bytes: usize,
    /// Interim heads that have ended, and empty lines before a status line, which parsers forgive.
    interim: usize,
    /// Whether the status line is over.
    in_fields: bool,
    /// The beginning of the status line.
    status: [u8; STATUS_BYTES],
    /// Bytes of the current line, without LF.
    line: usize,
    /// Whether the last byte of the current line is CR.
    after_cr: bool,
}

impl HeadWatch {
    /// Looks at the next bytes. After anything but [`Seen::More`] the watch is over.
    pub(super) fn pass(&mut self, bytes: &[u8]) -> Seen {
        let room = MAX_HEAD_BYTES - self.bytes;
        let mut rest = &bytes[..bytes.len().min(room)];
        self.bytes += rest.len();
        while let Some(end) = memchr(b'\n', rest) {
            self.pass_within_line(&rest[..end]);
            match self.end_line() {
                Seen::More => rest = &rest[end + 1..],
                seen => return seen,
            }
        }
        self.pass_within_line(rest);
        if bytes.len() > room { Seen::Excess } else { Seen::More }
    }

    fn pass_within_line(&mut self, bytes: &[u8]) {
        if !self.in_fields {
            let places = self.status.iter_mut().skip(self.line);
            places.zip(bytes).for_each(|(place, byte)| *place = *byte);
        }
        self.line += bytes.len();
        self.after_cr = bytes.last().map_or(self.after_cr, |byte| *byte == b'\r');
    }

    fn end_line(&mut self) -> Seen {
        let empty = self.line == usize::from(self.after_cr);
        (self.line, self.after_cr) = (0, false);
        match (self.in_fields, empty) {
            (_, false) => {
                self.in_fields = true;
                return Seen::More;
            }
            (true, true) if !self.is_interim() => return Seen::Final,
            (_, true) => {}
        }
        self.in_fields = false;
        self.status = [0; STATUS_BYTES];
        self.interim += 1;
        if self.interim > MAX_INTERIM { Seen::Excess } else { Seen::More }
    }

    /// 101 is not interim: what follows it is no longer HTTP.
    fn is_interim(&self) -> bool {
        matches!(self.status, [.., b'1', tens, units] if [tens, units] != *b"01")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What was seen, and after how many bytes, given one by one and all at once.
    #[track_caller]
    fn seen(bytes: &[u8]) -> (Seen, usize) {
        let mut watch = HeadWatch::default();
        let at_once = HeadWatch::default().pass(bytes);
        for (index, byte) in bytes.iter().enumerate() {
            match watch.pass(&[*byte]) {
                Seen::More => {}
                other => {
                    assert_eq!(at_once, other);
                    return (other, index + 1);
                }
            }
        }
        assert_eq!(at_once, Seen::More);
        (Seen::More, bytes.len())
    }

    #[test]
    fn a_head_ends_at_its_empty_line() {
        for head in [
            &b"HTTP/1.1 200 OK\r\n\r\n"[..],
            b"HTTP/1.1 200 OK\n\n",
            b"HTTP/1.0 404\r\na: b\r\n folded\r\n\r\n",
            b"HTTP/1.1 101 Switching\r\nupgrade: x\r\n\r\n",
            b"\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
            b"HTTP/1.1 103 Hints\r\nlink: x\r\n\r\nHTTP/1.1 100\r\n\r\nHTTP/1.1 204 None\r\n\r\n",
        ] {
            let with_body = [head, b"HTTP/1.1 100 no head\r\n\r\n"].concat();
            assert_eq!(seen(&with_body), (Seen::Final, head.len()), "{}", String::from_utf8_lossy(head));
            assert_eq!(seen(&head[..head.len() - 1]).0, Seen::More);
        }
    }

    #[test]
    fn interim_heads_empty_lines_and_bytes_are_bounded() {
        for piece in [&b"HTTP/1.1 102 Processing\r\n\r\n"[..], b"\r\n", b"\n"] {
            let (allowed, last) = (piece.repeat(MAX_INTERIM), b"HTTP/1.1 200 OK\r\n\r\n");
            assert_eq!(seen(&[&allowed[..], last].concat()).0, Seen::Final);
            assert_eq!(seen(&piece.repeat(MAX_INTERIM + 1)), (Seen::Excess, piece.len() * (MAX_INTERIM + 1)));
        }
        for endless in [&b"x"[..], b"HTTP/1.1 200 OK\r\nname: value\r\n", b"HTTP/1.1 200 OK\r\na: b\r\n c\r\n"] {
            let bytes = endless.repeat(MAX_HEAD_BYTES / endless.len() + 1);
            assert_eq!(seen(&bytes), (Seen::Excess, MAX_HEAD_BYTES + 1));
        }
    }
}
