//! A TCP proxy between a dispatcher and its peer: Postgres, whose statements it recognises, or a receiver. It loses
//! what the test says, when the test says so.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::Instant;

use super::wire::{self, ClientSide};

/// What becomes of a statement that passes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The server executes it, and the client hears of it.
    Pass,
    /// It never arrives, and the connection ends.
    LoseStatement,
    /// The server executes it to the end, and the connection ends instead of the answer.
    LoseAnswer,
    /// It stays here, and everything behind it on its connection, until the connection ends.
    Hold,
}

/// How a connection ends for both sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// In good order, as when the other process ends.
    Close,
    /// By a reset, as when the other machine has forgotten it.
    Reset,
}

type Judge = Box<dyn FnMut(&str) -> Fate + Send>;

/// A running proxy. It ends, and its connections with it, when it is dropped.
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
    task: tokio::task::JoinHandle<()>,
}

struct Shared {
    upstream: Mutex<String>,
    judge: Mutex<Option<Judge>>,
    /// Whether what passes are statements.
    speaks_postgres: bool,
    /// Counts the orders to cut all connections, with the last one's way.
    cuts: watch::Sender<(usize, End)>,
    /// Whether bytes of the server, and of the client, are held back.
    held_back: watch::Sender<bool>,
    /// Statements that did not pass.
    interventions: watch::Sender<usize>,
    /// The link on the server's side, which all connections share.
    link: Mutex<Link>,
}

/// How fast bytes of the server pass.
struct Link {
    /// Bytes a second, if that is limited.
    rate: Option<u32>,
    /// When what has been given to it so far will have passed.
    free_at: Instant,
    /// Bytes that have passed.
    carried: usize,
}

impl Link {
    /// Takes bytes, and says when they will have passed.
    fn take(&mut self, bytes: usize) -> Instant {
        self.carried += bytes;
        let takes = self.rate.map_or(Duration::ZERO, |rate| Duration::from_secs_f64(bytes as f64 / f64::from(rate)));
        self.free_at = self.free_at.max(Instant::now()) + takes;
        self.free_at
    }
}

impl Proxy {
    /// To the Postgres server at `upstream` (`host:port`).
    pub async fn to(upstream: &str) -> Proxy {
        Proxy::start(upstream, true).await
    }

    /// To the Postgres server of a database.
    pub async fn to_server_of(url: &str) -> Proxy {
        Proxy::to(split(url).0).await
    }

    /// To the receiver behind a URL.
    pub async fn to_receiver_of(url: &str) -> Proxy {
        Proxy::of_bytes(split(url).0).await
    }

    /// To whatever listens at `upstream` (`host:port`).
    pub async fn of_bytes(upstream: &str) -> Proxy {
        Proxy::start(upstream, false).await
    }

    async fn start(upstream: &str, speaks_postgres: bool) -> Proxy {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            upstream: Mutex::new(upstream.to_owned()),
            judge: Mutex::new(None),
            speaks_postgres,
            cuts: watch::Sender::new((0, End::Close)),
            held_back: watch::Sender::new(false),
            interventions: watch::Sender::new(0),
            link: Mutex::new(Link { rate: None, free_at: Instant::now(), carried: 0 }),
        });
        let task = tokio::spawn(accept(listener, shared.clone()));
        Proxy { port, shared, task }
    }

    /// The same URL through this proxy.
    pub fn url_of(&self, url: &str) -> String {
        let (host, database) = split(url);
        url.replace(&format!("{host}/{database}"), &format!("127.0.0.1:{}/{database}", self.port))
    }

    /// Where it listens, on the loopback.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Sends new connections elsewhere.
    pub fn switch_to(&self, upstream: &str) {
        *self.shared.upstream.lock().unwrap() = upstream.to_owned();
    }

    /// Lets `judge` decide the fate of every statement that is executed from now on.
    pub fn judge(&self, judge: impl FnMut(&str) -> Fate + Send + 'static) {
        *self.shared.judge.lock().unwrap() = Some(Box::new(judge));
    }

    /// Gives the next statement that contains `marker` this fate, and passes all others.
    pub fn once(&self, marker: &'static str, fate: Fate) {
        let mut due = true;
        self.judge(move |sql| if sql.contains(marker) && std::mem::take(&mut due) { fate } else { Fate::Pass });
    }

    /// Waits until this many statements did not pass.
    pub async fn intervened(&self, count: usize) {
        let mut interventions = self.shared.interventions.subscribe();
        let reached = interventions.wait_for(|have| *have >= count);
        let waited = tokio::time::timeout(Duration::from_secs(60), reached).await.is_ok();
        assert!(waited, "{} of {count} statements within a minute", self.interventions());
    }

    /// How many statements did not pass.
    pub fn interventions(&self) -> usize {
        *self.shared.interventions.borrow()
    }

    /// Ends all connections that exist.
    pub fn cut_all(&self, end: End) {
        self.shared.cuts.send_modify(|(count, how)| (*count, *how) = (*count + 1, end));
    }

    /// Lets the server's answers pass at this rate, all connections together: a slow link.
    pub fn limit_rate(&self, bytes_per_second: u32) {
        self.shared.link.lock().unwrap().rate = Some(bytes_per_second);
    }

    /// Bytes of the server's answers so far.
    pub fn carried(&self) -> usize {
        self.shared.link.lock().unwrap().carried
    }

    /// Holds back every byte in both directions, connections staying open: a network that has gone silent.
    pub fn hold_back(&self, held_back: bool) {
        self.shared.held_back.send_replace(held_back);
    }
}

impl Shared {
    fn fate_of(&self, sql: &str) -> Fate {
        self.judge.lock().unwrap().as_mut().map_or(Fate::Pass, |judge| judge(sql))
    }

    fn intervene(&self) {
        self.interventions.send_modify(|count| *count += 1);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
        self.cut_all(End::Reset);
    }
}

/// `host:port` and the path of a URL.
fn split(url: &str) -> (&str, &str) {
    let (rest, path) = url.rsplit_once('/').expect("a URL ends in /database");
    (rest.rsplit_once(['@', '/']).expect("a URL has a host").1, path)
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((client, _)) = listener.accept().await {
        let shared = shared.clone();
        tokio::spawn(async move { connect(client, &shared).await });
    }
}

/// One connection, until either side ends it, a judgement does, or all are cut.
async fn connect(mut client: TcpStream, shared: &Shared) {
    let mut cuts = shared.cuts.subscribe();
    cuts.mark_unchanged();
    let upstream = shared.upstream.lock().unwrap().clone();
    let Ok(mut server) = TcpStream::connect(upstream).await else { return };
    client.set_nodelay(true).unwrap();
    server.set_nodelay(true).unwrap();
    tokio::select! {
        () = relay(&mut client, &mut server, shared) => {}
        Ok(()) = cuts.changed() => {}
    }
    if cuts.has_changed().is_err() || cuts.borrow().1 == End::Reset {
        client.set_zero_linger().ok();
        server.set_zero_linger().ok();
    }
}

async fn relay(client: &mut TcpStream, server: &mut TcpStream, shared: &Shared) {
    let mut messages = ClientSide::default();
    let (mut from_client, mut from_server) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    loop {
        let (count, upwards) = tokio::select! {
            count = client.read(&mut from_client) => (count.unwrap_or(0), true),
            count = server.read(&mut from_server) => (count.unwrap_or(0), false),
        };
        if count == 0 {
            return;
        }
        shared.held_back.subscribe().wait_for(|held_back| !held_back).await.unwrap();
        if !upwards {
            let passed = shared.link.lock().unwrap().take(count);
            tokio::time::sleep_until(passed).await;
            if client.write_all(&from_server[..count]).await.is_err() {
                return;
            }
            continue;
        }
        if !shared.speaks_postgres {
            if server.write_all(&from_client[..count]).await.is_err() {
                return;
            }
            continue;
        }
        messages.push(&from_client[..count]);
        while let Some(message) = messages.next() {
            let fate = message.executes.as_deref().map_or(Fate::Pass, |sql| shared.fate_of(sql));
            match fate {
                Fate::Pass if server.write_all(&message.bytes).await.is_ok() => continue,
                Fate::Pass => return,
                Fate::LoseStatement => shared.intervene(),
                Fate::LoseAnswer => {
                    lose_answer(server, message, &mut messages).await;
                    shared.intervene();
                }
                Fate::Hold => {
                    shared.intervene();
                    ended(client).await;
                }
            }
            return;
        }
    }
}

/// Hands over the request that begins with `message`, and keeps the whole answer from the client.
async fn lose_answer(server: &mut TcpStream, mut message: wire::Message, messages: &mut ClientSide) {
    let mut whole = message.ends_request;
    let mut request = std::mem::take(&mut message.bytes);
    while !whole {
        // sqlx writes a request at once, so that it is here to its end.
        let Some(next) = messages.next() else { return };
        request.extend(next.bytes);
        whole = next.ends_request;
    }
    if server.write_all(&request).await.is_err() {
        return;
    }
    let mut answer = Vec::new();
    while !wire::is_answered(&answer) && matches!(server.read_buf(&mut answer).await, Ok(1..)) {}
}

/// Waits for the client's end of the connection.
async fn ended(client: &mut TcpStream) {
    let mut rest = [0; 1024];
    while matches!(client.read(&mut rest).await, Ok(1..)) {}
}
