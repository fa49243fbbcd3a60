//! A proxy for HTTP CONNECT on a real socket, which behaves as the test says.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinHandle;

/// How the proxy behaves.
#[derive(Clone, Copy, Debug)]
pub enum Manner {
    /// It opens the tunnel, or answers 502.
    Forward,
    /// It wants this value of `proxy-authorization`, and answers 407 without it.
    Demand(&'static str),
    /// It answers this, and keeps the connection open.
    Answer(&'static [u8]),
    /// It answers this without end.
    Repeat(&'static [u8]),
    /// It reads the request and never answers.
    Hang,
    /// It reads the request and ends the connection by a reset.
    Reset,
    /// It opens a tunnel to nobody, and resets it when the first bytes have passed.
    ResetTunnel,
}

#[derive(Default)]
struct Seen {
    heads: Vec<String>,
    /// Bytes that were written by [`Manner::Repeat`].
    repeated: usize,
}

/// A running proxy. It ends when it is dropped.
pub struct EgressProxy {
    address: SocketAddr,
    manner: Arc<Mutex<Manner>>,
    seen: Arc<Mutex<Seen>>,
    task: JoinHandle<()>,
}

/// A port at which nobody listens yet: connections are refused.
pub struct ClosedPort(TcpSocket);

impl ClosedPort {
    /// A free one of the loopback.
    pub fn new() -> ClosedPort {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        ClosedPort(socket)
    }

    /// The URL of the proxy that will be there.
    pub fn url(&self) -> String {
        format!("http://{}", self.0.local_addr().unwrap())
    }

    /// Starts a proxy there.
    pub fn open(self, manner: Manner) -> EgressProxy {
        let address = self.0.local_addr().unwrap();
        let (manner, seen) = (Arc::new(Mutex::new(manner)), Arc::<Mutex<Seen>>::default());
        let task = tokio::spawn(accept(self.0.listen(1_024).unwrap(), manner.clone(), seen.clone()));
        EgressProxy { address, manner, seen, task }
    }
}

impl EgressProxy {
    /// A proxy on a free port of the loopback.
    pub fn start(manner: Manner) -> EgressProxy {
        ClosedPort::new().open(manner)
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Its URL with credentials.
    pub fn url_with(&self, credentials: &str) -> String {
        format!("http://{credentials}@{}", self.address)
    }

    /// Makes it behave so from the next connection on.
    pub fn behave(&self, manner: Manner) {
        *self.manner.lock().unwrap() = manner;
    }

    /// The heads of the requests so far.
    pub fn heads(&self) -> Vec<String> {
        self.seen.lock().unwrap().heads.clone()
    }

    /// What it was asked to connect to.
    pub fn targets(&self) -> Vec<String> {
        self.heads().iter().map(|head| head.split(' ').nth(1).unwrap().to_owned()).collect()
    }

    /// How many bytes of an answer without end were taken.
    pub fn repeated(&self) -> usize {
        self.seen.lock().unwrap().repeated
    }
}

impl Drop for EgressProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, manner: Arc<Mutex<Manner>>, seen: Arc<Mutex<Seen>>) {
    while let Ok((client, _)) = listener.accept().await {
        let (manner, seen) = (*manner.lock().unwrap(), seen.clone());
        tokio::spawn(async move { serve(client, manner, &seen).await });
    }
}

async fn serve(mut client: TcpStream, manner: Manner, seen: &Mutex<Seen>) {
    let Some(head) = head(&mut client).await else { return };
    seen.lock().unwrap().heads.push(head.clone());
    match manner {
        Manner::Forward => forward(client, &head).await,
        Manner::Demand(value) if head.contains(&format!("\r\nproxy-authorization: {value}\r\n")) => {
            forward(client, &head).await;
        }
        Manner::Demand(_) => {
            let answer = b"HTTP/1.1 407 Proxy Authentication Required\r\nproxy-authenticate: Basic realm=\"x\"\r\n\r\n";
            client.write_all(answer).await.ok();
        }
        Manner::Answer(bytes) => {
            client.write_all(bytes).await.unwrap();
            ended(&mut client).await;
        }
        Manner::Repeat(bytes) => {
            while client.write_all(bytes).await.is_ok() {
                seen.lock().unwrap().repeated += bytes.len();
            }
        }
        Manner::Hang => ended(&mut client).await,
        Manner::Reset => client.set_zero_linger().unwrap(),
        Manner::ResetTunnel => {
            client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
            client.peek(&mut [0]).await.ok();
            client.set_zero_linger().unwrap();
        }
    }
}

/// The head of a request, byte by byte, so that nothing behind it is taken. `None` if the connection ends before.
async fn head(client: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await.ok()?);
    }
    Some(String::from_utf8(head).unwrap())
}

async fn forward(mut client: TcpStream, head: &str) {
    let target = head.strip_prefix("CONNECT ").and_then(|rest| rest.split(' ').next()).expect("a CONNECT");
    // It looks up no name: a client that names one is not served.
    let address: SocketAddr = target.parse().expect("an address and a port");
    match TcpStream::connect(address).await {
        Ok(mut server) => {
            client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.ok();
            copy_bidirectional(&mut client, &mut server).await.ok();
        }
        Err(_) => drop(client.write_all(b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n").await),
    }
}

async fn ended(client: &mut TcpStream) {
    let mut rest = [0; 1024];
    while matches!(client.read(&mut rest).await, Ok(1..)) {}
}
