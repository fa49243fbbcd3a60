//! A bucket on a real socket, to which files can only be added, and a webhook: it keeps what it gets, in the order in which it came.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// How long requests are waited for before the test fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the bucket does with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// It stores what is put where nothing stands, says 412 otherwise, and gives out what it has.
    Stores,
    /// As before, but it gives out nothing.
    WriteOnly,
    /// As before, and it says 409 in the place of 412.
    Conflicts,
    /// It stores, and the connection ends without an answer.
    StoresAndDies,
    /// It stores, and answers nothing.
    StoresAndHangs,
    /// It reads, stores nothing, and answers nothing.
    Hangs,
    /// It answers 500, and repeats what it got, as a server may.
    Refuses,
    /// It sends to another path of its own.
    Moves,
    /// It answers what is not HTTP.
    Babbles,
    /// Its answer, a success, has no end.
    NeverEnds,
}

/// One request as it arrived.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    pub path: String,
    /// In lower case.
    pub head: String,
    pub body: Vec<u8>,
}

pub struct Bucket {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    requests: Mutex<Vec<Request>>,
    files: Mutex<BTreeMap<String, Vec<u8>>>,
    changes: watch::Sender<usize>,
    manner: Mutex<Manner>,
}

impl Bucket {
    pub async fn start(manner: Manner) -> Bucket {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            requests: Mutex::default(),
            files: Mutex::default(),
            changes: watch::Sender::new(0),
            manner: Mutex::new(manner),
        });
        let of_server = shared.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let shared = of_server.clone();
                tokio::spawn(async move { serve(stream, &shared).await });
            }
        });
        Bucket { address, shared }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn behaves(&self, manner: Manner) {
        *self.shared.manner.lock().unwrap() = manner;
    }

    /// Puts a file there without a request.
    pub fn plant(&self, path: &str, text: &str) {
        self.shared.files.lock().unwrap().insert(path.to_owned(), text.as_bytes().to_vec());
    }

    /// The files, in the order of their paths.
    pub fn files(&self) -> Vec<(String, Vec<u8>)> {
        self.shared.files.lock().unwrap().clone().into_iter().collect()
    }

    /// All requests, in the order in which they came.
    pub fn requests(&self) -> Vec<Request> {
        self.shared.requests.lock().unwrap().clone()
    }

    /// Waits until it is as wanted.
    pub async fn until(&self, wanted: impl Fn(&Bucket) -> bool) {
        let mut changes = self.shared.changes.subscribe();
        let have = async {
            while !wanted(self) {
                changes.changed().await.unwrap();
            }
        };
        let in_time = tokio::time::timeout(PATIENCE, have).await;
        assert!(in_time.is_ok(), "waited in vain: {:#?}", self.requests());
    }
}

async fn serve(mut stream: TcpStream, shared: &Shared) {
    let Some(request) = read(&mut stream).await else { return };
    let manner = *shared.manner.lock().unwrap();
    let answer = answer(&request, manner, shared);
    shared.requests.lock().unwrap().push(request);
    shared.changes.send_modify(|count| *count += 1);
    match (manner, answer) {
        (Manner::StoresAndDies, _) => return,
        (_, Some(answer)) => stream.write_all(&answer).await.unwrap_or_default(),
        (_, None) => {}
    }
    if manner == Manner::NeverEnds {
        while stream.write_all(b"400\r\n").await.is_ok()
            && stream.write_all(&[b'x'; 0x400]).await.is_ok()
            && stream.write_all(b"\r\n").await.is_ok()
        {}
    }
    // Until the other side ends it.
    stream.read_to_end(&mut Vec::new()).await.ok();
}

fn answer(request: &Request, manner: Manner, shared: &Shared) -> Option<Vec<u8>> {
    let with = |code: u16, body: &[u8]| {
        let head = format!("HTTP/1.1 {code} As it is\r\ncontent-length: {}\r\nx-planted: planted\r\n\r\n", body.len());
        Some([head.as_bytes(), body].concat())
    };
    match manner {
        Manner::Stores | Manner::WriteOnly | Manner::Conflicts | Manner::StoresAndDies | Manner::StoresAndHangs => {
            let mut files = shared.files.lock().unwrap();
            if request.method == "GET" {
                return match files.get(&request.path) {
                    Some(body) if manner == Manner::Stores => with(200, body),
                    Some(_) => with(403, b""),
                    None => with(404, b""),
                };
            }
            if request.method == "PUT" && files.contains_key(&request.path) {
                assert!(request.head.contains("if-none-match: *"), "{}", request.head);
                return with(if manner == Manner::Conflicts { 409 } else { 412 }, b"");
            }
            // What is posted has one place, and a name in a header.
            let name = request.head.lines().find_map(|line| line.strip_prefix("postcall-checkpoint: "));
            let path = if request.method == "PUT" { request.path.clone() } else { name.expect("a name").to_owned() };
            files.insert(path, request.body.clone());
            if manner == Manner::StoresAndHangs { None } else { with(201, b"") }
        }
        Manner::Hangs => None,
        Manner::Refuses => with(500, &request.body),
        Manner::Moves => Some(b"HTTP/1.1 307 Elsewhere\r\nlocation: /elsewhere/\r\ncontent-length: 0\r\n\r\n".to_vec()),
        Manner::Babbles => Some(b"I speak no HTTP\r\n\r\n".to_vec()),
        Manner::NeverEnds => Some(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec()),
    }
}

async fn read(stream: &mut TcpStream) -> Option<Request> {
    let mut bytes = Vec::new();
    loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
            let mut words = head.split(' ').map(str::to_owned);
            let (method, path) = (words.next().unwrap(), words.next().unwrap());
            let head = head.to_ascii_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if bytes.len() >= end + 4 + length.map_or(0, |length| length.parse::<usize>().unwrap()) {
                return Some(Request { method, path, head, body: bytes.split_off(end + 4) });
            }
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
}
