//! Serves the metrics by HTTP. It shares the process with deliveries, so everything here has a bound: connections, their
//! time, what is read from them, and what is written to them. A connection carries one request.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use http::{Method, Request, Response, StatusCode};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Mutex;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;
use tracing::{debug, info};

use super::families::{self, Snapshot};
use super::figures::Figures;
use super::merged::merge;
use super::{Metrics, Operation};
use crate::store::Store;

/// The largest number of connections. One more makes the oldest one end, so that clients which are silent do not keep
/// others out.
const MOST_CONNECTIONS: usize = 32;
/// How long a client may take to send the head of its request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection may last, however slowly its client sends or reads.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(10);
/// The largest head of a request, in bytes. hyper allows no less.
const MOST_HEAD_BYTES: usize = 8_192;
/// The shortest time between two connections, so that many of them do not take the machine from deliveries.
const BETWEEN_CONNECTIONS: Duration = Duration::from_millis(2);
/// How long no connection is taken after the system refused one, because it has no file left for it, for example.
const AFTER_A_REFUSAL: Duration = Duration::from_millis(100);
/// A scrape whose text is younger gets the same text as the one before.
const TEXT_AGE: Duration = Duration::from_millis(100);

/// What a client gets.
type Reply = Response<String>;

/// A socket on which metrics will be served.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    /// With the port that the system chose, if it was to choose one.
    address: SocketAddr,
}

impl Server {
    /// Takes the address.
    ///
    /// # Errors
    /// Returns the system's error if the address cannot be taken, because another process has it, for example.
    pub async fn bind(address: SocketAddr) -> io::Result<Server> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        Ok(Server { listener, address })
    }

    /// Serves from now on, until the process ends. There is at least one source.
    pub fn start(self, sources: Vec<Source>) {
        let address = self.address;
        let look = |source: Source| {
            let (figures, reader) = Figures::of(&source.store, source.metrics.counters().errors(Operation::Figures));
            tokio::spawn(reader);
            Watched { database: source.database, metrics: source.metrics, figures }
        };
        let desk = Arc::new(Desk { watched: sources.into_iter().map(look).collect(), text: Mutex::new(None) });
        tokio::spawn(accept(self.listener, desk));
        info!(%address, "serving metrics");
    }
}

/// What is measured: a dispatcher, and the database that it serves.
pub struct Source {
    /// The name of the database. It is a label, if there are several.
    pub database: String,
    /// Those of the dispatcher.
    pub metrics: Metrics,
    /// Where figures are read.
    pub store: Store,
}

/// Takes connections until the process ends.
async fn accept(listener: TcpListener, desk: Arc<Desk>) {
    let (mut connections, mut order) = (JoinSet::new(), VecDeque::<AbortHandle>::new());
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(AFTER_A_REFUSAL).await;
            continue;
        };
        while connections.try_join_next().is_some() {}
        order.retain(|connection| !connection.is_finished());
        if order.len() >= MOST_CONNECTIONS
            && let Some(oldest) = order.pop_front()
        {
            oldest.abort();
        }
        order.push_back(connections.spawn(serve(stream, desk.clone())));
        tokio::time::sleep(BETWEEN_CONNECTIONS).await;
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin, desk: Arc<Desk>) {
    let service = service_fn(move |request: Request<hyper::body::Incoming>| {
        let desk = desk.clone();
        async move { Ok::<Reply, Infallible>(desk.reply(request.method(), request.uri().path()).await) }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(MOST_HEAD_BYTES).keep_alive(false);
    let served = tokio::time::timeout(CONNECTION_TIMEOUT, http.serve_connection(TokioIo::new(stream), service)).await;
    if !matches!(served, Ok(Ok(()))) {
        debug!("a connection to the metrics did not end in good order");
    }
}

/// Answers requests.
struct Desk {
    /// All that is measured.
    watched: Vec<Watched>,
    /// The text of the last scrape.
    text: Mutex<Option<(Instant, String)>>,
}

impl Desk {
    async fn reply(&self, method: &Method, path: &str) -> Reply {
        let known = ["/metrics", "/healthz", "/readyz"].contains(&path);
        if !known {
            return reply(StatusCode::NOT_FOUND, "there are /metrics, /healthz and /readyz");
        }
        if ![Method::GET, Method::HEAD].contains(method) {
            let mut refusal = reply(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD");
            refusal.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return refusal;
        }
        match path {
            "/metrics" => scraped(self.text().await),
            "/healthz" => reply(StatusCode::OK, "the process runs"),
            _ => match self.why_not_ready().await {
                None => reply(StatusCode::OK, "ready"),
                Some(reason) => reply(StatusCode::SERVICE_UNAVAILABLE, reason),
            },
        }
    }

    /// The metrics as text. Those who ask at the same time get the same text, so that it is made once.
    async fn text(&self) -> String {
        let mut text = self.text.lock().await;
        if let Some((made_at, made)) = &*text
            && made_at.elapsed() < TEXT_AGE
        {
            return made.clone();
        }
        let snapshots = join_all(self.watched.iter().map(Watched::snapshot)).await;
        let made = match <[Snapshot; 1]>::try_from(snapshots) {
            Ok([only]) => families::encode(only, None),
            Err(several) => {
                let labelled = several.into_iter().zip(&self.watched);
                merge(labelled.map(|(snapshot, of)| families::encode(snapshot, Some(&of.database))))
            }
        };
        *text = Some((Instant::now(), made.clone()));
        made
    }

    /// Why no dispatcher of this process can do its work now.
    async fn why_not_ready(&self) -> Option<&'static str> {
        let reasons = join_all(self.watched.iter().map(Watched::why_not_ready)).await;
        if reasons.iter().any(Option::is_none) { None } else { reasons.into_iter().flatten().next() }
    }
}

/// A dispatcher and its database, while somebody may ask about them.
struct Watched {
    database: String,
    metrics: Metrics,
    figures: Figures,
}

impl Watched {
    async fn snapshot(&self) -> Snapshot {
        let database = self.figures.get().await;
        Snapshot { totals: self.metrics.counters().totals(), live: self.metrics.live(), database }
    }

    /// Why this dispatcher cannot do its work now.
    async fn why_not_ready(&self) -> Option<&'static str> {
        match self.metrics.live() {
            None => Some("the dispatcher has not begun yet"),
            Some(live) if live.draining => Some("draining: the dispatcher claims nothing more"),
            Some(live) if live.lease_remaining.is_zero() => Some("the lease is not held: no request may begin"),
            Some(_) if self.figures.get().await.is_none() => Some("the database does not answer"),
            Some(_) => None,
        }
    }
}

fn reply(status: StatusCode, line: &'static str) -> Reply {
    let mut reply = Response::new(format!("{line}\n"));
    *reply.status_mut() = status;
    with_headers(reply, "text/plain; charset=utf-8")
}

fn scraped(text: String) -> Reply {
    with_headers(Response::new(text), families::CONTENT_TYPE)
}

fn with_headers(mut reply: Reply, content_type: &'static str) -> Reply {
    let headers = reply.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    reply
}
