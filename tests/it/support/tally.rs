//! A receiver that only counts how often each `webhook-id` arrived, and when first. It is cheap enough for a hundred
//! thousand requests beside the dispatchers and the database.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Semaphore, watch};
use uuid::Uuid;

/// How often a request arrived, and when the first of them did.
#[derive(Clone, Copy, Debug)]
pub struct Arrivals {
    pub count: usize,
    pub first_at: DateTime<Utc>,
}

/// The receiver. It counts a request as soon as its head has arrived, and answers 200.
#[derive(Clone)]
pub struct Tally {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    arrivals: Mutex<HashMap<Uuid, Arrivals>>,
    requests: watch::Sender<usize>,
    /// Answers that may go out; closed means: all of them.
    answers: Semaphore,
}

impl Tally {
    /// Answers at once.
    pub async fn open() -> Tally {
        let tally = Tally::holding().await;
        tally.answer_all();
        tally
    }

    /// Takes requests and answers none until told to.
    pub async fn holding() -> Tally {
        Tally::holding_at(([127, 0, 0, 1], 0).into()).await
    }

    /// As [`Tally::holding`], at this address.
    pub async fn holding_at(address: SocketAddr) -> Tally {
        let listener = TcpListener::bind(address).await.unwrap();
        let tally = Tally::at(listener.local_addr().unwrap());
        tokio::spawn(accept(listener, tally.shared.clone()));
        tally
    }

    /// As [`Tally::open`], at this address.
    pub async fn open_at(address: SocketAddr) -> Tally {
        let tally = Tally::holding_at(address).await;
        tally.answer_all();
        tally
    }

    fn at(address: SocketAddr) -> Tally {
        let shared = Shared { arrivals: Mutex::default(), requests: watch::Sender::new(0), answers: Semaphore::new(0) };
        Tally { address, shared: Arc::new(shared) }
    }

    /// Where to send what it shall count.
    pub fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// Lets everything be answered, now and from now on.
    pub fn answer_all(&self) {
        self.shared.answers.close();
    }

    /// Lets so many more requests be answered.
    pub fn answer(&self, count: usize) {
        self.shared.answers.add_permits(count);
    }

    /// Waits until at least `count` requests have arrived.
    pub async fn has(&self, count: usize) {
        let mut requests = self.shared.requests.subscribe();
        let arrived = requests.wait_for(|have| *have >= count);
        let waited = tokio::time::timeout(Duration::from_secs(60), arrived).await.is_ok();
        assert!(waited, "{} of {count} requests within a minute", self.requests());
    }

    /// Requests so far.
    pub fn requests(&self) -> usize {
        *self.shared.requests.borrow()
    }

    /// What arrived, by `webhook-id`.
    pub fn arrivals(&self) -> HashMap<Uuid, Arrivals> {
        self.shared.arrivals.lock().unwrap().clone()
    }
}

/// A tally that cannot be reached yet: its listener's queue is full, so that connecting to it hangs.
pub struct Unreachable {
    tally: Tally,
    listener: TcpListener,
    _queue: Vec<TcpStream>,
}

impl Unreachable {
    /// Fills the queue.
    pub async fn new() -> Unreachable {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(1).unwrap();
        let address = listener.local_addr().unwrap();
        let mut queue = Vec::new();
        // There is no event for a connection that hangs. On a busy machine others are slow, too: what is still knocking
        // after its second knock, a second after the first, was turned away.
        loop {
            let mut connecting = pin!(TcpStream::connect(address));
            match tokio::time::timeout(Duration::from_millis(1_500), &mut connecting).await {
                Ok(stream) => queue.push(stream.unwrap()),
                Err(_) if tokio::task::spawn_blocking(move || knocks_at(address)).await.unwrap() > 0 => break,
                Err(_) => {}
            }
        }
        let tally = Tally::at(address);
        tally.answer_all();
        Unreachable { tally, listener, _queue: queue }
    }

    /// Where it will be.
    pub fn url(&self) -> String {
        self.tally.url()
    }

    /// Waits until this many connections are being opened to it (Linux).
    pub async fn is_knocked_at(&self, count: usize) {
        let address = self.tally.address;
        let enough = async {
            // Thousands of sockets of other tests make this slow; meanwhile a proxy of this test has to go on.
            while tokio::task::spawn_blocking(move || knocks_at(address)).await.unwrap() < count {
                tokio::time::sleep(BETWEEN_LOOKS).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), enough)
            .await
            .unwrap_or_else(|_| panic!("waited a minute for {count} connections that do not open"));
    }

    /// Lets everybody in. Whoever still knocks gets through at the next knock.
    pub fn open(self) -> Tally {
        tokio::spawn(accept(self.listener, self.tally.shared.clone()));
        self.tally
    }
}

/// The system has no event for a connection that hangs, so it is looked for.
const BETWEEN_LOOKS: Duration = Duration::from_millis(100);

/// How many connections to this address are being opened (Linux).
fn knocks_at(address: SocketAddr) -> usize {
    let target = format!("0100007F:{:04X}", address.port());
    // Fields: slot, local address, remote address, state; 02 is SYN_SENT.
    let sockets = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let knocks = |line: &&str| {
        let fields: Vec<&str> = line.split_whitespace().take(4).collect();
        fields.get(2) == Some(&target.as_str()) && fields.get(3) == Some(&"02")
    };
    sockets.lines().filter(knocks).count()
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        let shared = shared.clone();
        tokio::spawn(async move { serve(stream, &shared).await });
    }
}

/// One connection, request after request. Ends with whatever is not a request.
async fn serve(mut stream: TcpStream, shared: &Shared) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let mut bytes = Vec::with_capacity(4096);
    loop {
        let (end, length) = loop {
            if let Some(head) = head(&bytes) {
                break head;
            }
            read(&mut stream, &mut bytes).await?;
        };
        shared.count(&bytes[..end]);
        while bytes.len() < end + length {
            read(&mut stream, &mut bytes).await?;
        }
        bytes.drain(..end + length);
        if let Ok(permit) = shared.answers.acquire().await {
            permit.forget();
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.ok()?;
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

impl Shared {
    fn count(&self, head: &[u8]) {
        let id = header(head, "webhook-id").expect("every request has a webhook-id").parse().unwrap();
        let first = Arrivals { count: 0, first_at: Utc::now() };
        self.arrivals.lock().unwrap().entry(id).or_insert(first).count += 1;
        self.requests.send_modify(|requests| *requests += 1);
    }
}
