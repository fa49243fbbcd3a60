//! A webhook receiver on a raw TCP socket. It plays the same script on each connection, byte by byte, and keeps
//! everything that arrives. So a test can check what was on the wire, and how often.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What arrived, one entry a connection, in the order in which they were accepted.
type Received = Arc<Mutex<Vec<Vec<u8>>>>;

/// A listening receiver. It ends when it is dropped.
pub struct Receiver {
    address: SocketAddr,
    received: Received,
    task: JoinHandle<()>,
}

impl Receiver {
    /// Listens on a free port of the loopback and plays `script` on every connection.
    pub async fn start<S, F>(script: S) -> Receiver
    where
        S: Fn(Peer) -> F + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        Receiver::start_at("127.0.0.1", script).await
    }

    /// The same on another address of this machine.
    pub async fn start_at<S, F>(address: &str, script: S) -> Receiver
    where
        S: Fn(Peer) -> F + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind((address, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let received = Received::default();
        let log = Arc::clone(&received);
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                // What a script has written is on its way, and does not wait for an acknowledgement.
                stream.set_nodelay(true).unwrap();
                let connection = {
                    let mut log = log.lock().unwrap();
                    log.push(Vec::new());
                    log.len() - 1
                };
                tokio::spawn(script(Peer { stream, connection, log: Arc::clone(&log) }));
            }
        });
        Receiver { address, received, task }
    }

    /// Answers every request on a connection with `response`.
    pub async fn answering(response: &'static [u8]) -> Receiver {
        Receiver::start(move |mut peer| async move {
            while peer.request().await {
                peer.write(response).await;
            }
        })
        .await
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// An http URL on it.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// What arrived on each connection.
    pub fn received(&self) -> Vec<Vec<u8>> {
        self.received.lock().unwrap().clone()
    }

    /// What arrived on each connection, as text.
    pub fn texts(&self) -> Vec<String> {
        self.received().into_iter().map(|bytes| String::from_utf8(bytes).unwrap()).collect()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The receiver's side of one connection.
pub struct Peer {
    stream: TcpStream,
    connection: usize,
    log: Received,
}

impl Peer {
    /// Reads one whole request. `false` if the connection ended before it was whole.
    pub async fn request(&mut self) -> bool {
        let mut request = Vec::new();
        while !is_whole(&request) {
            match self.read().await {
                Some(bytes) => request.extend(bytes),
                None => return false,
            }
        }
        true
    }

    /// Reads what comes next. `None` at the connection's end.
    pub async fn read(&mut self) -> Option<Vec<u8>> {
        let mut buffer = vec![0; 16 * 1024];
        let count = self.stream.read(&mut buffer).await.unwrap_or(0);
        buffer.truncate(count);
        self.log.lock().unwrap()[self.connection].extend(&buffer);
        (count > 0).then_some(buffer)
    }

    /// Waits until something has arrived, and leaves it unread.
    pub async fn something(&mut self) {
        self.stream.readable().await.unwrap();
        self.stream.peek(&mut [0]).await.unwrap();
    }

    /// Writes `bytes`. `false` if the other side no longer takes them.
    pub async fn write(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).await.is_ok()
    }

    /// Keeps the connection open, and reads on, until the other side ends it.
    pub async fn hang(&mut self) {
        while self.read().await.is_some() {}
    }

    /// Ends this side's half in order.
    pub async fn finish(&mut self) {
        self.stream.shutdown().await.unwrap();
    }

    /// Ends the connection with a reset.
    pub fn reset(self) {
        self.stream.set_zero_linger().unwrap();
    }

    /// Which connection it is, from 0.
    pub fn number(&self) -> usize {
        self.connection
    }

    /// The socket itself, for what this type has no words for. Nothing is recorded any more.
    pub fn into_stream(self) -> TcpStream {
        self.stream
    }
}

fn is_whole(request: &[u8]) -> bool {
    let Some(end) = request.windows(4).position(|window| window == b"\r\n\r\n") else { return false };
    let head = std::str::from_utf8(&request[..end]).unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let length: usize = length.map_or(0, |digits| digits.parse().unwrap());
    request.len() >= end + 4 + length
}
