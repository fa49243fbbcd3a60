//! The receiver's own process: an HTTP/1.1 server that costs as little as possible, because it shares the machine with
//! the processes that are measured. It has one thread, and reuses one buffer for each connection. It parses no more
//! than it needs to find the end of a request, and its numbers.
//!
//! It reads commands from standard input, one a line, answers by lines on standard output, and ends when the input
//! ends:
//!
//! | command        | answer |
//! |----------------|--------|
//! | `listen HOST:PORT` | the address; the receiver chooses the port if it is 0 |
//! | `hostile NUMBER HOST:PORT` | the address, at which the trick of this number is played on each connection |
//! | `close HOST:PORT`  | `closed`; the receiver no longer listens there, and has closed the connections |
//! | `count`        | requests so far, and when the first and the last arrived (monotonic clock, nanoseconds) |
//! | `lanes FIRST END` | the same for the lanes from FIRST up to END, of the requests that were kept |
//! | `arrivals`     | a line for each request (message id, call, lane, when it arrived), then `end` |
//! | `forget`       | `forgotten`: the receiver counts from 0 again |
//! | `count-only`   | `counting`: from now on, requests are counted, and no longer kept one by one |

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io::{BufRead, Write};
use std::net::SocketAddr;
use std::ops::Range;
use std::rc::Rc;
use std::time::Duration;

use memchr::{memchr, memmem};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet, LocalSet, spawn_local};
use uuid::Uuid;

use super::Behaviour;
use super::hostile::{self, Trick};
use crate::calls;
use crate::clock::now_ns;

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
/// The size of a connection's buffer. It is larger than any request here.
const BUFFER_BYTES: usize = 64 * 1024;
/// How many connections may wait to be accepted. If a listener drops one, its sender loses a second.
const BACKLOG: u32 = 4_096;

/// Serves until standard input ends.
pub fn run() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, obey(commands()));
}

/// The lines of standard input, read on a thread of their own.
fn commands() -> mpsc::Receiver<String> {
    let (sender, commands) = mpsc::channel(1);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            if sender.blocking_send(line.unwrap()).is_err() {
                return;
            }
        }
    });
    commands
}

async fn obey(mut commands: mpsc::Receiver<String>) {
    let ledger = Rc::new(Ledger::default());
    let mut open: HashMap<SocketAddr, AbortHandle> = HashMap::new();
    while let Some(line) = commands.recv().await {
        let mut out = std::io::BufWriter::new(std::io::stdout().lock());
        match line.split_once(' ').unwrap_or((&line, "")) {
            ("listen", address) => {
                let listener = listen(address.parse().unwrap());
                let address = listener.local_addr().unwrap();
                open.insert(address, spawn_local(accept(listener, ledger.clone())).abort_handle());
                writeln!(out, "{address}").unwrap();
            }
            ("hostile", trick) => {
                let (trick, address) = trick.split_once(' ').unwrap();
                let listener = listen(address.parse().unwrap());
                writeln!(out, "{}", listener.local_addr().unwrap()).unwrap();
                spawn_local(play(listener, hostile::ALL[number(trick)].trick));
            }
            ("close", address) => {
                let address: SocketAddr = address.parse().unwrap();
                open.remove(&address).expect("it listens there").abort();
                // An aborted task is dropped when it would have run next. Until then its socket is open.
                while TcpStream::connect(address).await.is_ok() {}
                writeln!(out, "closed").unwrap();
            }
            ("count", _) => {
                let (total, first_ns, last_ns) = (ledger.total.get(), ledger.first_ns.get(), ledger.last_ns.get());
                writeln!(out, "{total} {first_ns} {last_ns}").unwrap();
            }
            ("lanes", range) => {
                let (first, end) = range.split_once(' ').unwrap();
                let (total, first_ns, last_ns) = ledger.of_lanes(number(first)..number(end));
                writeln!(out, "{total} {first_ns} {last_ns}").unwrap();
            }
            ("arrivals", _) => {
                for arrival in ledger.kept.borrow().iter() {
                    let Arrived { message, call, lane, at_ns } = arrival;
                    writeln!(out, "{message} {call} {lane} {at_ns}").unwrap();
                }
                writeln!(out, "end").unwrap();
            }
            ("forget", _) => {
                ledger.total.set(0);
                ledger.kept.borrow_mut().clear();
                ledger.counts_only.set(false);
                writeln!(out, "forgotten").unwrap();
            }
            ("count-only", _) => {
                ledger.counts_only.set(true);
                writeln!(out, "counting").unwrap();
            }
            (other, _) => panic!("no such command: {other}"),
        }
        out.flush().unwrap();
    }
}

/// The requests that have arrived.
#[derive(Default)]
struct Ledger {
    total: Cell<u64>,
    first_ns: Cell<u64>,
    last_ns: Cell<u64>,
    counts_only: Cell<bool>,
    kept: RefCell<Vec<Arrived>>,
}

struct Arrived {
    message: Uuid,
    call: u64,
    lane: usize,
    at_ns: u64,
}

impl Ledger {
    fn of_lanes(&self, lanes: Range<usize>) -> (u64, u64, u64) {
        let kept = self.kept.borrow();
        kept.iter().filter(|arrived| lanes.contains(&arrived.lane)).fold((0, 0, 0), |(total, first_ns, _), arrived| {
            (total + 1, if total == 0 { arrived.at_ns } else { first_ns }, arrived.at_ns)
        })
    }

    fn note(&self, request: &Request) {
        let at_ns = now_ns();
        if self.total.get() == 0 {
            self.first_ns.set(at_ns);
        }
        self.last_ns.set(at_ns);
        self.total.set(self.total.get() + 1);
        if !self.counts_only.get() {
            let Request { message, call, lane, .. } = *request;
            self.kept.borrow_mut().push(Arrived { message, call, lane, at_ns });
        }
    }
}

fn listen(address: SocketAddr) -> TcpListener {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind(address).unwrap();
    socket.listen(BACKLOG).unwrap()
}

/// Accepts connections and serves them. Dropping it closes all of them.
async fn accept(listener: TcpListener, ledger: Rc<Ledger>) {
    let mut served = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (stream, _) = accepted.unwrap();
                stream.set_nodelay(true).unwrap();
                served.spawn_local(serve(stream, ledger.clone()));
            }
            Some(ended) = served.join_next() => ended.unwrap(),
        }
    }
}

/// Plays a trick on each connection.
async fn play(listener: TcpListener, trick: Trick) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        spawn_local(trick.play(stream));
    }
}

/// Answers requests until the connection ends.
async fn serve(mut stream: TcpStream, ledger: Rc<Ledger>) {
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut filled = 0;
    loop {
        match stream.read(&mut buffer[filled..]).await {
            Ok(0) | Err(_) => return,
            Ok(read) => filled += read,
        }
        while let Some(request) = request(&buffer[..filled]) {
            ledger.note(&request);
            buffer.copy_within(request.length..filled, 0);
            filled -= request.length;
            match request.behaviour {
                // No request is for a hostile host: that is another listener.
                Behaviour::Answer | Behaviour::Hostile => {}
                Behaviour::AnswerAfter(delay) => tokio::time::sleep(delay).await,
                Behaviour::Hang => {
                    // This goes on until the other side gives up. What it still sends does not matter.
                    while matches!(stream.read(&mut buffer).await, Ok(1..)) {}
                    return;
                }
            }
            if stream.write_all(ANSWER).await.is_err() {
                return;
            }
        }
    }
}

/// The parts of a request that the receiver reads.
struct Request {
    length: usize,
    message: Uuid,
    call: u64,
    lane: usize,
    behaviour: Behaviour,
}

/// The request at the beginning of `bytes`. `None` while it is not complete.
fn request(bytes: &[u8]) -> Option<Request> {
    let head_end = memmem::find(bytes, b"\r\n\r\n")?;
    let mut lines = Lines(&bytes[..head_end + 2]);
    let (behaviour, lane) = target(lines.next().unwrap());
    let mut request = Request { length: head_end + 4, message: Uuid::nil(), call: 0, lane, behaviour };
    for line in lines {
        // The first letters of a line are enough to tell which of the headers that are sent here it may be.
        match line {
            [b'c' | b'C', b'o', ..] => request.length += header(line, "content-length").map_or(0, number),
            [b'w' | b'W', ..] => {
                request.message = header(line, "webhook-id").map_or(request.message, |id| id.parse().unwrap());
            }
            [b'x' | b'X', ..] => request.call = header(line, "x-call").map_or(request.call, calls::index_of),
            _ => {}
        }
    }
    (bytes.len() >= request.length).then_some(request)
}

/// The behaviour and the lane that the path asks for: `/answer/LANE`, `/hang/LANE` or `/delay/MS/LANE`. A request with
/// any other path is answered.
fn target(request_line: &[u8]) -> (Behaviour, usize) {
    let line = std::str::from_utf8(request_line).unwrap();
    let path = line.split(' ').nth(1).unwrap_or_default();
    let mut parts = path.split('/').skip(1);
    match parts.next() {
        Some("answer") => (Behaviour::Answer, parts.next().map_or(0, number)),
        Some("hang") => (Behaviour::Hang, parts.next().map_or(0, number)),
        Some("delay") => {
            let delay = Duration::from_millis(parts.next().map_or(0, number) as u64);
            (Behaviour::AnswerAfter(delay), parts.next().map_or(0, number))
        }
        _ => (Behaviour::Answer, 0),
    }
}

fn number(digits: &str) -> usize {
    digits.parse().unwrap()
}

/// The value of the header `name`, if this is its line.
fn header<'a>(line: &'a [u8], name: &str) -> Option<&'a str> {
    let (found, value) = line.split_at_checked(name.len())?;
    let value = value.strip_prefix(b":")?;
    found.eq_ignore_ascii_case(name.as_bytes()).then(|| std::str::from_utf8(value).unwrap().trim())
}

/// Iterates over lines that end in CR LF.
struct Lines<'a>(&'a [u8]);

impl<'a> Iterator for Lines<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let end = memchr(b'\r', self.0)?;
        let (line, rest) = self.0.split_at(end);
        self.0 = &rest[2..];
        Some(line)
    }
}
