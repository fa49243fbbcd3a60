//! Receivers that mean harm. Each trick is played on every connection to its host, whatever is asked there. The
//! benchmark (benches/dispatch) plays the same ones.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The time between two drops of what drips.
const DROP: Duration = Duration::from_millis(50);
/// What is read at a time, and how much of an endless stream is written at a time.
const PIECE_BYTES: usize = 16 * 1024;
/// The bytes of a request's head end with this.
const HEAD_END: &[u8] = b"\r\n\r\n";

/// What a hostile receiver does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trick {
    /// It accepts the connection, and never reads.
    Deaf,
    /// It reads the request, and never answers.
    Mute,
    /// It closes the connection as soon as it is there.
    Gone,
    /// It resets the connection when the request is there.
    Reset,
    /// It resets the connection in the middle of its head.
    ResetInHead,
    /// It writes this, and then that without end, as fast as it is read.
    Endless(&'static [u8], &'static [u8]),
    /// It writes this, and then that without end, a drop at a time.
    Drip(&'static [u8], &'static [u8]),
    /// It writes this, and ends the connection in order.
    Says(&'static [u8]),
}

/// A trick with its name, how its host is called, and what must become of a delivery to it.
pub struct Hostile {
    /// Its name, for messages.
    pub name: &'static str,
    /// The scheme of its URL. What is said to `https` is no TLS.
    pub scheme: &'static str,
    /// The trick.
    pub trick: Trick,
    /// The states, with their error kinds, in which deliveries to it may end.
    pub outcomes: &'static [&'static str],
}

const fn http(name: &'static str, outcomes: &'static [&'static str], trick: Trick) -> Hostile {
    Hostile { name, scheme: "http", trick, outcomes }
}

const fn https(name: &'static str, trick: Trick) -> Hostile {
    // Without a handshake no request leaves.
    Hostile { name, scheme: "https", trick, outcomes: &["failed tls"] }
}

const SILENT: &[&str] = &["unknown timeout"];
const CUT: &[&str] = &["unknown reset"];
/// Whether something of the request has left before the connection was closed is not always the same.
const CUT_BEFORE: &[&str] = &["unknown reset", "failed connect"];
const NO_HTTP: &[&str] = &["unknown protocol"];
const DELIVERED: &[&str] = &["delivered"];
const REJECTED: &[&str] = &["rejected"];

/// All of them.
pub const ALL: [Hostile; 24] = [
    http("accepts and never reads", SILENT, Trick::Deaf),
    http("reads and never answers", SILENT, Trick::Mute),
    http("closes at once", CUT_BEFORE, Trick::Gone),
    http("resets after the request", CUT, Trick::Reset),
    http("resets in its head", CUT, Trick::ResetInHead),
    http("interim responses without end", NO_HTTP, Trick::Endless(b"", b"HTTP/1.1 102 Processing\r\n\r\n")),
    http("blank lines without end", NO_HTTP, Trick::Endless(b"", b"\r\n")),
    http("headers without end", NO_HTTP, Trick::Endless(b"HTTP/1.1 200 OK\r\n", b"name: value\r\n")),
    http("a value without end", NO_HTTP, Trick::Endless(b"HTTP/1.1 200 OK\r\nname: ", b"x")),
    http("a head that drips", SILENT, Trick::Drip(b"HTTP/1.1 200 OK\r\nname: ", b"x")),
    http("no HTTP at all", NO_HTTP, Trick::Says(b"SSH-2.0-OpenSSH_9.9\r\n")),
    http("a head cut short", CUT, Trick::Says(b"HTTP/1.1 200 OK\r\ncontent-le")),
    http("two lengths", NO_HTTP, Trick::Says(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nok")),
    http("a body without end", DELIVERED, Trick::Endless(b"HTTP/1.1 200 OK\r\n\r\n", b"x")),
    http(
        "chunks without end",
        DELIVERED,
        Trick::Endless(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
    ),
    http(
        "trailers without end",
        DELIVERED,
        Trick::Endless(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n", b"name: value\r\n"),
    ),
    http("a body that drips", DELIVERED, Trick::Drip(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n", b"x")),
    http("a length too large", DELIVERED, Trick::Says(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nok")),
    http("a length too small", DELIVERED, Trick::Endless(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n", b"x")),
    http(
        "a redirect to a place inside",
        REJECTED,
        Trick::Says(b"HTTP/1.1 307 Temporary Redirect\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n"),
    ),
    https("no handshake", Trick::Mute),
    https("a handshake that drips", Trick::Drip(b"\x16\x03\x03\x3f\xff\x02\x00\x3f\xfb", b"\0")),
    https("records without end", Trick::Endless(b"", b"\x16\x03\x03\x00\x04\x00\x00\x00\x00")),
    https("plain text for a handshake", Trick::Says(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")),
];

impl Trick {
    /// Plays it on one connection, until the other side gives up or the trick is over.
    pub async fn play(self, mut stream: TcpStream) {
        match self {
            Trick::Gone => return,
            Trick::Deaf => {
                // What is not read fills the windows of both sides. Only an error tells the other side's end.
                let mut end = [0];
                while !matches!(stream.peek(&mut end).await, Ok(0) | Err(_)) {
                    tokio::time::sleep(DROP).await;
                }
                return;
            }
            _ => {}
        }
        if !asked(&mut stream).await {
            return;
        }
        match self {
            Trick::Deaf | Trick::Gone => {}
            Trick::Mute => while said(&mut stream).await {},
            Trick::Reset => reset(stream),
            Trick::ResetInHead => {
                let _gone = stream.write_all(b"HTTP/1.1 200 OK\r\nname: va").await;
                reset(stream);
            }
            Trick::Endless(start, piece) => {
                let pieces = piece.repeat(PIECE_BYTES / piece.len());
                let mut taken = stream.write_all(start).await;
                while taken.is_ok() {
                    taken = stream.write_all(&pieces).await;
                }
            }
            Trick::Drip(start, drop) => {
                let mut taken = stream.write_all(start).await;
                while taken.is_ok() {
                    tokio::time::sleep(DROP).await;
                    taken = stream.write_all(drop).await;
                }
            }
            Trick::Says(text) => {
                let _taken = stream.write_all(text).await;
                let _ended = stream.shutdown().await;
                while said(&mut stream).await {}
            }
        }
    }
}

/// Reads until a head is over, or until TLS is spoken. `false` if the connection ends before.
async fn asked(stream: &mut TcpStream) -> bool {
    let mut request = Vec::new();
    let mut buffer = vec![0; PIECE_BYTES];
    loop {
        match stream.read(&mut buffer).await {
            Ok(read @ 1..) => request.extend_from_slice(&buffer[..read]),
            Ok(0) | Err(_) => return false,
        }
        if request[0] == 0x16 || request.windows(HEAD_END.len()).any(|window| window == HEAD_END) {
            return true;
        }
    }
}

/// Whether the other side still says something.
async fn said(stream: &mut TcpStream) -> bool {
    matches!(stream.read(&mut [0; PIECE_BYTES]).await, Ok(1..))
}

fn reset(stream: TcpStream) {
    let _gone = stream.set_zero_linger();
}
