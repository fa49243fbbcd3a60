//! The receivers: each behaves in one manner, and all write down how often each `webhook-id` arrived.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use uuid::Uuid;

/// How a receiver behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Manner {
    /// Answers 200 at once.
    Honest,
    /// Answers 200 after up to a third of a second.
    Slow,
    /// Answers 422.
    Refuses,
    /// Takes the request and never answers.
    Hangs,
    /// Resets: before the request is read, after it, in the middle of the answer, or not.
    Resets,
    /// Cannot be reached for most of the time.
    Flaps,
}

/// What arrived of one message: 8 bytes, because there are a million of them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    /// When it arrived first, in milliseconds since the run began.
    pub first_ms: u32,
    pub count: u16,
}

/// What all receivers have written down.
pub struct Record {
    began: DateTime<Utc>,
    seen: Mutex<HashMap<u128, Seen>>,
    requests: AtomicU64,
    /// Set at the end: nobody is unreachable any more.
    opens: AtomicBool,
}

impl Record {
    pub fn new() -> Arc<Record> {
        let (seen, requests) = (Mutex::default(), AtomicU64::new(0));
        Arc::new(Record { began: Utc::now(), seen, requests, opens: AtomicBool::new(false) })
    }

    fn enter(&self, id: Uuid) {
        let first_ms = u32::try_from((Utc::now() - self.began).num_milliseconds().max(0)).unwrap_or(u32::MAX);
        self.seen.lock().unwrap().entry(id.as_u128()).or_insert(Seen { first_ms, count: 0 }).count += 1;
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    /// Requests so far.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// How often this message arrived so far.
    pub fn count(&self, id: Uuid) -> u16 {
        self.seen.lock().unwrap().get(&id.as_u128()).map_or(0, |seen| seen.count)
    }

    /// A copy of all of it.
    pub fn all(&self) -> HashMap<u128, Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// When that was.
    pub fn time_of(&self, seen: Seen) -> DateTime<Utc> {
        self.began + chrono::Duration::milliseconds(seen.first_ms.into())
    }

    /// Lets everybody be reached from now on.
    pub fn open_all(&self) {
        self.opens.store(true, Ordering::Relaxed);
    }

    fn is_open(&self) -> bool {
        self.opens.load(Ordering::Relaxed)
    }
}

/// Starts a receiver, which lives as long as the program, and returns its address.
pub async fn open(manner: Manner, record: &Arc<Record>) -> SocketAddr {
    // One that cannot be reached gives its port away meanwhile; nobody else uses this address.
    let host = if manner == Manner::Flaps { "127.0.77.1" } else { "127.0.0.1" };
    let listener = TcpListener::bind((host, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let record = record.clone();
    if manner == Manner::Flaps {
        tokio::spawn(flap(listener, record));
    } else {
        tokio::spawn(async move { accept(&listener, manner, &record).await });
    }
    address
}

/// A flapping receiver can be reached for so long,
const REACHED_FOR: Duration = Duration::from_secs(8);
/// and then cannot for so long.
const GONE_FOR: Duration = Duration::from_secs(20);

async fn flap(first: TcpListener, record: Arc<Record>) {
    let address = first.local_addr().unwrap();
    let mut listener = Some(first);
    loop {
        if let Some(open) = listener.take().or(TcpListener::bind(address).await.ok()) {
            tokio::time::timeout(REACHED_FOR, accept(&open, Manner::Honest, &record)).await.ok();
            if record.is_open() {
                accept(&open, Manner::Honest, &record).await;
            }
        }
        let gone = Instant::now();
        while gone.elapsed() < GONE_FOR && !record.is_open() {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

async fn accept(listener: &TcpListener, manner: Manner, record: &Arc<Record>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let record = record.clone();
        tokio::spawn(async move { serve(stream, manner, &record).await });
    }
}

const TAKEN: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const REFUSED: &[u8] = b"HTTP/1.1 422 Unprocessable Content\r\ncontent-length: 2\r\n\r\nno";
const BROKEN: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-le";

/// One connection, request after request. Ends with whatever is not a request.
async fn serve(mut stream: TcpStream, manner: Manner, record: &Record) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let mut bytes = Vec::with_capacity(4096);
    loop {
        if manner == Manner::Resets && fastrand::u8(..8) == 0 {
            return stream.set_zero_linger().ok();
        }
        let (end, length) = loop {
            if let Some(head) = head(&bytes) {
                break head;
            }
            read(&mut stream, &mut bytes).await?;
        };
        record.enter(header(&bytes[..end], "webhook-id").expect("every request has a webhook-id").parse().unwrap());
        while bytes.len() < end + length {
            read(&mut stream, &mut bytes).await?;
        }
        bytes.drain(..end + length);
        let answer = match (manner, fastrand::u8(..8)) {
            (Manner::Hangs, _) => {
                // The other side ends it.
                return read(&mut stream, &mut bytes).await;
            }
            (Manner::Resets, 0) => return stream.set_zero_linger().ok(),
            (Manner::Resets, 1) => return stream.write_all(BROKEN).await.ok(),
            (Manner::Refuses, _) => REFUSED,
            (Manner::Slow, _) => {
                tokio::time::sleep(Duration::from_millis(fastrand::u64(..330))).await;
                TAKEN
            }
            _ => TAKEN,
        };
        stream.write_all(answer).await.ok()?;
    }
}

async fn read(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> Option<()> {
    (stream.read_buf(bytes).await.ok()? > 0).then_some(())
}

/// Where the first request's head ends, and how long the body behind it is.
fn head(bytes: &[u8]) -> Option<(usize, usize)> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    Some((end, header(&bytes[..end], "content-length").map_or(0, |value| value.parse().unwrap())))
}

fn header<'a>(head: &'a [u8], name: &str) -> Option<&'a str> {
    let lines = std::str::from_utf8(head).unwrap().lines();
    lines.filter_map(|line| line.split_once(": ")).find(|(have, _)| *have == name).map(|(_, value)| value)
}
