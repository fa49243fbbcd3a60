//! Reads the proxy's answer to CONNECT, up to the end of its head and within a bound.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt};

/// How many bytes the heads of an answer may have, interim ones included. Proxies send some hundred.
pub(super) const MAX_HEAD_BYTES: usize = 16 * 1024;

/// How many bytes are read at once at most.
const READ_BYTES: usize = 1_024;

/// What the proxy answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answered {
    /// A head with this status. `more` says that bytes came after it.
    Status { code: u16, more: bool },
    /// Something else.
    NotHttp,
    /// More than a head may have.
    TooLong,
    /// The connection ended before the head did.
    Ended,
}

/// Reads the answer. Interim ones (1xx) are passed over.
///
/// # Errors
/// Returns the operating system's error if reading fails.
pub(super) async fn read(proxy: &mut (impl AsyncRead + Unpin)) -> io::Result<Answered> {
    let mut head = Vec::new();
    let mut piece = [0; READ_BYTES];
    let mut begin = 0;
    loop {
        while let Some(end) = end_of_head(&head[begin..]) {
            match status(&head[begin..]) {
                Some(100..=199) => begin += end,
                Some(code) => return Ok(Answered::Status { code, more: begin + end < head.len() }),
                None => return Ok(Answered::NotHttp),
            }
        }
        if !may_be_http(&head[begin..]) {
            return Ok(Answered::NotHttp);
        }
        if head.len() >= MAX_HEAD_BYTES {
            return Ok(Answered::TooLong);
        }
        let count = proxy.read(&mut piece).await?;
        if count == 0 {
            return Ok(Answered::Ended);
        }
        head.extend_from_slice(&piece[..count]);
    }
}

/// Where the first head in `bytes` ends: behind an empty line. Lines end with LF or CR LF.
fn end_of_head(bytes: &[u8]) -> Option<usize> {
    memchr::memchr_iter(b'\n', bytes).find_map(|end| {
        let rest = &bytes[end + 1..];
        if rest.starts_with(b"\n") { Some(end + 2) } else { rest.starts_with(b"\r\n").then_some(end + 3) }
    })
}

/// Whether `bytes` begin as a status line of HTTP/1.x does, as far as they have come.
fn may_be_http(bytes: &[u8]) -> bool {
    const BEGIN: &[u8] = b"HTTP/1.";
    let count = bytes.len().min(BEGIN.len());
    bytes[..count] == BEGIN[..count]
}

/// The status of `HTTP/1.1 200 …`.
fn status(head: &[u8]) -> Option<u16> {
    let rest = head.strip_prefix(b"HTTP/1.")?;
    let ([_, b' ', hundreds @ b'1'..=b'9', tens @ b'0'..=b'9', units @ b'0'..=b'9'], rest) =
        rest.split_at_checked(5)?
    else {
        return None;
    };
    let is_over = rest.first().is_none_or(|byte| byte.is_ascii_whitespace());
    let digit = |byte: &u8| u16::from(byte - b'0');
    is_over.then(|| digit(hundreds) * 100 + digit(tens) * 10 + digit(units))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is read if the bytes come at once, and one by one.
    async fn answered(bytes: &[u8]) -> Answered {
        let at_once = read(&mut &bytes[..]).await.unwrap();
        let (mut ours, mut theirs) = tokio::io::duplex(1);
        let bytes = bytes.to_vec();
        let writes = tokio::spawn(async move { tokio::io::AsyncWriteExt::write_all(&mut theirs, &bytes).await });
        let one_by_one = read(&mut ours).await.unwrap();
        drop(ours);
        writes.await.unwrap().ok();
        match (at_once, one_by_one) {
            // One by one, nothing is read behind the head.
            (Answered::Status { code, .. }, Answered::Status { code: other, more: false }) => assert_eq!(code, other),
            (one, other) => assert_eq!(one, other),
        }
        at_once
    }

    #[tokio::test]
    async fn an_answer_is_the_status_of_its_final_head() {
        let status = |code| Answered::Status { code, more: false };
        for (bytes, expected) in [
            (&b"HTTP/1.1 200 Connection established\r\n\r\n"[..], status(200)),
            (b"HTTP/1.0 200\n\n", status(200)),
            (b"HTTP/1.1 100\n\nHTTP/1.1 418 Teapot\n\n", status(418)),
            (b"HTTP/1.1 200\n\n220 mail", Answered::Status { code: 200, more: true }),
            (b"HTTP/1.1 407 Who?\r\nproxy-authenticate: Basic\r\n\r\n", status(407)),
            (b"HTTP/1.1 100 \r\n\r\nHTTP/1.1 102 Wait\r\nx: y\r\n\r\nHTTP/1.1 502 No\r\n\r\n", status(502)),
            (b"HTTP/1.1 200 OK\r\n\r\n220 mail", Answered::Status { code: 200, more: true }),
            (b"HTTP/1.1 200 OK\r\nx: y\r\n", Answered::Ended),
            (b"HTTP/1", Answered::Ended),
            (b"", Answered::Ended),
            (b"SSH-2.0-x\r\n", Answered::NotHttp),
            (b"\x15\x03\x03\x00\x02\x02\x50", Answered::NotHttp),
            (b"HTTP/1.1 2000 OK\r\n\r\n", Answered::NotHttp),
            (b"HTTP/1.1 20 OK\r\n\r\n", Answered::NotHttp),
            (b"HTTP/1.1\r\n\r\n", Answered::NotHttp),
            (b"HTTP/2 200\r\n\r\n", Answered::NotHttp),
        ] {
            assert_eq!(answered(bytes).await, expected, "{}", String::from_utf8_lossy(bytes));
        }
    }

    #[tokio::test]
    async fn heads_without_end_are_read_up_to_a_bound() {
        for endless in [&b"HTTP/1.1 200 OK\r\n"[..], b"HTTP/1.1 100 Continue\r\n\r\n"] {
            let mut bytes = endless.to_vec();
            while bytes.len() <= 4 * MAX_HEAD_BYTES {
                bytes.extend(if endless.ends_with(b"\r\n\r\n") { endless } else { b"name: value\r\n" });
            }
            let mut rest = &bytes[..];
            assert_eq!(read(&mut rest).await.unwrap(), Answered::TooLong);
            assert!(bytes.len() - rest.len() <= MAX_HEAD_BYTES + READ_BYTES);
        }
    }
}
