//! Connections and requests. Whoever is slow, sends too much or comes too often keeps nobody else waiting for long: each
//! of these has a bound.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::debug;

use super::answer::{Answer, Body};
use super::export::{self, EXPORTS};
use super::failure::Trouble;
use super::form::Form;
use super::gate::{self, Loopback, Refusal, Takes};
use super::pages;
use super::route::{ICON, Route, STYLE};
use crate::store::{Patience, Store};

/// The most pages that are read from the database at the same time; each has one session.
const PAGES: usize = 4;
/// The connections of the console's store: one for each page, one for each export, and one for `/health`, which waits for no
/// page.
pub const CONNECTIONS: u32 = PAGES as u32 + EXPORTS as u32 + 1;
/// How long the console waits for the database: so long that a person would still wait.
pub const PATIENCE: Patience = Patience { connection: WAIT, statement: WAIT };
const WAIT: Duration = Duration::from_secs(5);
/// How long a page may take, with all its statements.
const PAGE_TIME: Duration = Duration::from_secs(20);
/// How long `/health` waits for the database.
const HEALTH_TIME: Duration = Duration::from_secs(2);

/// The most connections of browsers. Further ones wait in the system's queue.
const MOST_CONNECTIONS: usize = 64;
/// How long the head of a request may take to arrive, and how long a connection may be idle.
const HEAD_TIME: Duration = Duration::from_secs(5);
/// The largest head of a request, in bytes.
const MOST_HEAD_BYTES: usize = 16 * 1024;
/// The most headers of a request.
const MOST_HEADERS: usize = 64;
/// How long a connection lives. A browser opens another one; whoever reads slowly does not hold its place for ever.
const CONNECTION_TIME: Duration = Duration::from_secs(60);
/// How long an answer that is going out may still take at the end of a connection, or of the console.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// How long no connection is taken after the system refused one, because it has no file left for it, for example.
const AFTER_A_REFUSAL: Duration = Duration::from_millis(50);

/// The console, which listens.
pub struct Console {
    listener: TcpListener,
    address: SocketAddr,
    shared: Arc<Shared>,
}

/// What all requests share.
struct Shared {
    store: Store,
    port: u16,
    pages: Semaphore,
    exports: Arc<Semaphore>,
    health: Semaphore,
}

impl Console {
    /// Listens. The store has [`CONNECTIONS`] connections and [`PATIENCE`].
    ///
    /// # Errors
    /// The error of the system if it cannot listen there.
    pub async fn listen(at: Loopback, store: Store) -> std::io::Result<Console> {
        let listener = TcpListener::bind(at.address()).await?;
        let address = listener.local_addr()?;
        let (pages, health) = (Semaphore::new(PAGES), Semaphore::new(1));
        let exports = Arc::new(Semaphore::new(EXPORTS));
        let shared = Arc::new(Shared { store, port: address.port(), pages, exports, health });
        Ok(Console { listener, address, shared })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers requests until `stop`. Answers that are going out then have 5 seconds more.
    pub async fn serve(self, stop: CancellationToken) {
        let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
        let connections = TaskTracker::new();
        let accepting = async {
            loop {
                // The semaphore is never closed.
                let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
                match self.listener.accept().await {
                    Ok((stream, _)) => {
                        connections.spawn(connection(stream, Arc::clone(&self.shared), place, stop.clone()));
                    }
                    Err(_) => tokio::time::sleep(AFTER_A_REFUSAL).await,
                }
            }
        };
        tokio::select! {
            () = accepting => {}
            () = stop.cancelled() => {}
        }
        connections.close();
        if timeout(LAST_WORDS, connections.wait()).await.is_err() {
            debug!("some answers were cut off");
        }
    }
}

/// Serves one connection to its end.
async fn connection<S>(stream: S, shared: Arc<Shared>, _place: OwnedSemaphorePermit, stop: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let streams = TaskTracker::new();
    let of_connection = streams.clone();
    let service = service_fn(move |request| respond(Arc::clone(&shared), of_connection.clone(), request));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(MOST_HEAD_BYTES)
        .max_headers(MOST_HEADERS);
    let mut connection = pin!(http.serve_connection(TokioIo::new(stream), service));
    tokio::select! {
        // How a connection ends matters to nobody but its peer.
        _ended = connection.as_mut() => return,
        () = tokio::time::sleep(CONNECTION_TIME) => {}
        () = stop.cancelled() => {}
    }
    connection.as_mut().graceful_shutdown();
    // A streamed answer has a bound of its own, and the connection ends behind it.
    streams.close();
    tokio::select! {
        _ended = connection.as_mut() => return,
        () = streams.wait() => {}
        () = stop.cancelled() => {}
    }
    let _ended = timeout(LAST_WORDS, connection).await;
}

async fn respond(
    shared: Arc<Shared>,
    streams: TaskTracker,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let answer = match shared.answer(&streams, request).await {
        Ok(answer) => answer,
        Err(trouble) => trouble.into_answer(),
    };
    Ok(answer.into_response())
}

impl Shared {
    async fn answer(&self, streams: &TaskTracker, request: Request<Incoming>) -> Result<Answer, Trouble> {
        let (head, body) = request.into_parts();
        let (uri, route) = (&head.uri, Route::of(head.uri.path()));
        // Where nothing is, there is nothing but to say so.
        let takes = route.as_ref().map_or(Takes::Reading, Route::takes);
        gate::admit(&head.method, uri, &head.headers, takes, self.port).map_err(|refusal| match refusal {
            Refusal::Method => Trouble::Method(takes),
            other => Trouble::Refused(other),
        })?;
        let route = route.ok_or(Trouble::NoPage)?;
        let page = match route {
            Route::Style => return Ok(Answer::kept("text/css; charset=utf-8", STYLE.as_bytes())),
            Route::Icon => return Ok(Answer::picture(ICON)),
            Route::Health => return Ok(self.health().await),
            Route::DeliveriesExport(_) | Route::AuditExport(_) => return self.export(&route, &head, streams).await,
            page => page,
        };
        // Before anything is waited for that others want, too: a slow sender holds no page's place.
        let form = if head.method == Method::POST { Some(Form::read(&head.headers, body).await?) } else { None };
        // Waits before it takes a session, so that whoever has a permit finds one free.
        let _permit = timeout(WAIT, self.pages.acquire()).await.map_err(|_| Trouble::Busy)?;
        let page = pages::of(page, uri.query().unwrap_or_default(), form, &self.store);
        timeout(PAGE_TIME, page).await.unwrap_or(Err(Trouble::Away))
    }

    /// The beginning of an export, which goes on among `streams`.
    async fn export(&self, route: &Route, head: &Parts, streams: &TaskTracker) -> Result<Answer, Trouble> {
        if !export::can_be_broken_off(head.version) {
            return Err(Trouble::OldHttp);
        }
        let permit = timeout(WAIT, Arc::clone(&self.exports).acquire_owned()).await;
        // The semaphore is never closed.
        let Ok(Ok(permit)) = permit else { return Err(Trouble::Busy) };
        let begun = async {
            let query = head.uri.query().unwrap_or_default();
            let exported = pages::exported(route, query, &self.store).await?.ok_or(Trouble::NoPage)?;
            export::begin(exported, self.store.clone(), permit, streams).await
        };
        timeout(PAGE_TIME, begun).await.unwrap_or(Err(Trouble::Away))
    }

    /// Whether the database answers.
    async fn health(&self) -> Answer {
        let asked = async {
            let _permit = self.health.acquire().await;
            self.store.now().await
        };
        match timeout(HEALTH_TIME, asked).await {
            Ok(Ok(_)) => Answer::text(StatusCode::OK, "the database answers\n"),
            _ => Answer::text(StatusCode::SERVICE_UNAVAILABLE, "the database does not answer\n"),
        }
    }
}
