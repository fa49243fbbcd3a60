//! The receiver: an HTTP/1.1 server that costs as little as possible, since it shares the machine with what is measured.
//! One thread, one reused buffer a connection, no parsing beyond what tells one request from the next.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use uuid::Uuid;

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
/// More than any request here.
const BUFFER_BYTES: usize = 64 * 1024;

/// A running receiver; it ends with the process.
pub struct Receiver {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    count: AtomicUsize,
    arrivals: Mutex<Vec<(Uuid, Instant)>>,
}

impl Receiver {
    /// Starts one on a free port of this machine.
    pub fn start() -> Receiver {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let kept = shared.clone();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
        std::thread::spawn(move || runtime.block_on(accept(listener, kept)));
        Receiver { address, shared }
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        format!("http://{}/crm/calls", self.address)
    }

    /// Requests so far.
    pub fn count(&self) -> usize {
        self.shared.count.load(Ordering::Acquire)
    }

    /// Waits until there were `count` requests. Panics when none has come for half a minute.
    pub async fn has(&self, count: usize) {
        let mut seen = (self.count(), Instant::now());
        while self.count() < count {
            tokio::time::sleep(Duration::from_millis(5)).await;
            if self.count() > seen.0 {
                seen = (self.count(), Instant::now());
            }
            assert!(seen.1.elapsed() < Duration::from_secs(30), "LOST: {} of {count} requests arrived", seen.0);
        }
    }

    /// When each message arrived. Panics if one arrived twice, or if there are not exactly `count`.
    pub fn arrivals(&self, count: usize) -> HashMap<Uuid, Instant> {
        let arrivals = self.shared.arrivals.lock().unwrap();
        let by_message: HashMap<Uuid, Instant> = arrivals.iter().copied().collect();
        assert_eq!(by_message.len(), arrivals.len(), "DOUBLED: a message arrived more than once");
        assert_eq!(by_message.len(), count, "LOST: as many messages have to arrive as were committed");
        by_message
    }

    /// Forgets what arrived.
    pub fn forget(&self) {
        self.shared.arrivals.lock().unwrap().clear();
        self.shared.count.store(0, Ordering::Release);
    }
}

async fn accept(listener: std::net::TcpListener, shared: Arc<Shared>) {
    let listener = TcpListener::from_std(listener).unwrap();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        tokio::spawn(serve(stream, shared.clone()));
    }
}

/// Answers requests until the connection ends.
async fn serve(mut stream: TcpStream, shared: Arc<Shared>) {
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut filled = 0;
    loop {
        match stream.read(&mut buffer[filled..]).await {
            Ok(0) | Err(_) => return,
            Ok(read) => filled += read,
        }
        while let Some((length, message_id)) = request(&buffer[..filled]) {
            shared.arrivals.lock().unwrap().push((message_id, Instant::now()));
            shared.count.fetch_add(1, Ordering::Release);
            buffer.copy_within(length..filled, 0);
            filled -= length;
            if stream.write_all(ANSWER).await.is_err() {
                return;
            }
        }
    }
}

/// Length and message id of the request that `bytes` begin with, once all of it is there.
fn request(bytes: &[u8]) -> Option<(usize, Uuid)> {
    let head_end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&bytes[..head_end]).unwrap();
    let mut content_length = 0;
    let mut message_id = Uuid::nil();
    for line in head.split("\r\n").skip(1) {
        match line.split_once(": ") {
            Some(("content-length", value)) => content_length = value.parse().unwrap(),
            Some(("webhook-id", value)) => message_id = value.parse().unwrap(),
            _ => {}
        }
    }
    let length = head_end + 4 + content_length;
    (bytes.len() >= length).then_some((length, message_id))
}
