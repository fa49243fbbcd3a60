//! Watches the bytes of an answer until its head has ended, and bounds them.
//!
//! Any number of interim responses (1xx) may come before the final one (RFC 9110, section 15.2), and hyper reads them
//! as long as they come. Without a bound, a receiver that sends them without end would be read and parsed until the
//! deadline.

use memchr::memchr;

/// How many interim responses may come before the final one. Servers send one or two, or one every few seconds to show
/// that they are still at work (`102 Processing`).
const MAX_INTERIM: usize = 128;

/// How many bytes all heads may have together, the interim ones and the final one. This is far more than any server
/// sends: by default, nginx accepts 4 KiB from the application behind it, and Node and Apache accept 8 to 16 KiB.
pub(super) const MAX_HEAD_BYTES: usize = 256 * 1024;

/// How many header lines a head may have. hyper's default is 100.
pub(super) const MAX_HEADERS: usize = 512;

/// The length of the part of a status line that shows whether a response is interim: `HTTP/1.1 103`.
const STATUS_BYTES: usize = 12;

/// What is known after the bytes that have passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// The final head has not ended yet.
    More,
    /// The final head has ended.
    Final,
    /// More bytes or more interim heads have come than an answer may have.
    Excess,
}

/// Follows the heads of one answer line by line. A head ends at an empty line, and a line ends with LF or CR LF, as in
/// httparse.
#[derive(Debug, Default)]
pub(super) struct HeadWatch {
    /// How many bytes have passed.
    bytes: usize,
    /// How many interim heads have ended. Empty lines before a status line, which parsers accept, count, too.
    interim: usize,
    /// Whether the status line has ended.
    in_fields: bool,
    /// The beginning of the status line.
    status: [u8; STATUS_BYTES],
    /// The length of the current line in bytes, without LF.
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

    /// Whether the current head is interim. 101 is not: what follows it is no longer HTTP.
    fn is_interim(&self) -> bool {
        matches!(self.status, [.., b'1', tens, units] if [tens, units] != *b"01")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is seen, and after how many bytes. It checks that bytes one by one and all at once give the same.
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
