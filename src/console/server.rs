//! Connections and requests. Whoever is slow, sends too much or comes too often keeps nobody else waiting for long: each
//! of these has a bound.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use ipnet::IpNet;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::debug;

use super::answer::{Answer, Body};
use super::crowd::{Crowd, Guest, Place};
use super::export::{self, EXPORTS};
use super::failure::Trouble;
use super::form::Form;
use super::frame::{self, Frame};
use super::gate::{self, Refusal, Takes};
use super::glance::Glances;
use super::live::{Lifetime, Live};
use super::notes::{self, Notes};
use super::people::{Auth, Door, LinkKey, NoVisitor, Stores, Visit, Visitor};
use super::route::{ICON, Route, STYLE};
use super::site::{PublicUrl, Site};
use super::testing::Testing;
use super::{entrance, pages, policy};
use crate::service::action_test::Tester;
use crate::store::Patience;

/// The most pages that are read from the database at the same time; each has one session.
pub const PAGES: usize = 4;
/// The connections of a store of the console: one for each page, and one for each export.
pub const CONNECTIONS: u32 = PAGES as u32 + EXPORTS as u32;
/// The most actions that are checked at the same time while somebody types: they take one core, and no session.
const CHECKS: usize = 1;
/// How long the console waits for the database: so long that a person would still wait.
pub const PATIENCE: Patience = Patience { connection: WAIT, statement: WAIT };
const WAIT: Duration = Duration::from_secs(5);
/// How long a page may take, with all its statements.
const PAGE_TIME: Duration = Duration::from_secs(20);
/// How long `/health` waits for the database.
const HEALTH_TIME: Duration = Duration::from_secs(2);

/// The most connections of browsers. For a further one, whoever has asked for nothing for the longest loses theirs ([`Crowd`]). While
/// nobody is idle, it waits.
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

/// How the console is run.
pub struct Settings {
    /// Where it listens.
    pub listen: SocketAddr,
    /// How it knows who visits.
    pub auth: Auth,
    /// The address by which browsers reach it, if that is not the loopback.
    pub public: Option<PublicUrl>,
    /// The networks of the proxies that are believed.
    pub proxies: Vec<IpNet>,
    /// The key of links that show one agent.
    pub links: Option<LinkKey>,
    /// What makes tests of actions; `None` for a console that only reads.
    pub tester: Option<Tester>,
}

/// What all requests share.
struct Shared {
    stores: Stores,
    door: Door,
    notes: Notes,
    pages: Semaphore,
    exports: Arc<Semaphore>,
    health: Semaphore,
    checks: Semaphore,
    live: Arc<Live>,
    glances: Glances,
    testing: Testing,
}

impl Console {
    /// Listens. Each store has [`PAGES`] connections and [`PATIENCE`]; `now` is the time of the database.
    ///
    /// # Errors
    /// The error of the system if it cannot listen there.
    pub async fn listen(settings: Settings, stores: Stores, now: DateTime<Utc>) -> std::io::Result<Console> {
        let listener = TcpListener::bind(settings.listen).await?;
        let address = listener.local_addr()?;
        let site = settings.public.map_or(Site::Loopback(address.port()), Site::Public);
        let door = Door::new(settings.auth, site, settings.links, settings.proxies, now);
        let (pages, health, checks) = (Semaphore::new(PAGES), Semaphore::new(1), Semaphore::new(CHECKS));
        let (notes, live, glances) = (Notes::default(), Live::new(), Glances::default());
        let (exports, testing) = (Arc::new(Semaphore::new(EXPORTS)), Testing::new(settings.tester));
        let shared = Arc::new(Shared { stores, door, notes, pages, exports, health, checks, live, glances, testing });
        Ok(Console { listener, address, shared })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers requests until `stop`. Answers that are going out then have 5 seconds more, and so has recording the tests that are
    /// in flight, which end at once.
    pub async fn serve(self, stop: CancellationToken) {
        let crowd = Crowd::new(MOST_CONNECTIONS);
        let connections = TaskTracker::new();
        let accepting = async {
            loop {
                match self.listener.accept().await {
                    Ok((stream, peer)) => {
                        let Some(place) = crowd.place().await else { return };
                        let (shared, peer) = (Arc::clone(&self.shared), peer.ip());
                        connections.spawn(connection(stream, peer, shared, place, stop.clone()));
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
        self.shared.testing.cut();
        let ended = async {
            connections.wait().await;
            self.shared.testing.ended().await;
        };
        if timeout(LAST_WORDS, ended).await.is_err() {
            debug!("some answers or tests were cut off");
        }
        self.shared.stores.close().await;
    }
}

/// Serves one connection to its end.
async fn connection<S>(stream: S, peer: IpAddr, shared: Arc<Shared>, place: Place, stop: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let guest = place.guest();
    let until = Instant::now() + CONNECTION_TIME;
    let lifetime = Lifetime { until, stop: stop.clone() };
    let of_connection = place.guest();
    let service = service_fn(move |request| {
        respond(Arc::clone(&shared), Arc::clone(&of_connection), lifetime.clone(), request, peer)
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(MOST_HEAD_BYTES)
        .max_headers(MOST_HEADERS);
    let mut connection = pin!(http.serve_connection(TokioIo::new(stream), service));
    tokio::select! {
        // How a connection ends matters to nobody but its peer.
        _ended = connection.as_mut() => return,
        () = guest.out.cancelled() => return,
        () = tokio::time::sleep_until(until) => {}
        () = stop.cancelled() => {}
    }
    connection.as_mut().graceful_shutdown();
    // A streamed answer has a bound of its own, and the connection ends behind it.
    guest.streams.close();
    tokio::select! {
        _ended = connection.as_mut() => return,
        () = guest.streams.wait() => {}
        () = stop.cancelled() => {}
    }
    let _ended = timeout(LAST_WORDS, connection).await;
}

async fn respond(
    shared: Arc<Shared>,
    guest: Arc<Guest>,
    lifetime: Lifetime,
    request: Request<Incoming>,
    peer: IpAddr,
) -> Result<Response<Body>, Infallible> {
    let answering = async {
        let answer = shared.answer(&guest, lifetime, request, peer).await.unwrap_or_else(Trouble::into_answer);
        answer.into_response()
    };
    Ok(policy::around(frame::around(answering)).await)
}

impl Shared {
    async fn answer(
        &self,
        guest: &Arc<Guest>,
        lifetime: Lifetime,
        request: Request<Incoming>,
        peer: IpAddr,
    ) -> Result<Answer, Trouble> {
        let (head, body) = request.into_parts();
        let route = Route::of(head.uri.path());
        // Where nothing is, there is nothing but to say so.
        let takes = route.as_ref().map_or(Takes::Reading, Route::takes);
        gate::admit(&head.method, &head.uri, &head.headers, takes, self.door.site()).map_err(
            |refusal| match refusal {
                Refusal::Method => Trouble::Method(takes),
                other => Trouble::Refused(other),
            },
        )?;
        match route.ok_or(Trouble::NoPage)? {
            Route::Style => Ok(Answer::kept("text/css; charset=utf-8", STYLE.as_bytes())),
            Route::Asset(asset) => Ok(asset.answer(&head.headers)),
            Route::Icon => Ok(Answer::picture(ICON)),
            Route::Health => Ok(self.health().await),
            Route::LogIn => entrance::log_in(&self.door, &head, body, peer).await,
            Route::LogOut => Ok(entrance::log_out(&self.door, &head.headers)),
            Route::Link(token) => entrance::enter(&self.door, &token),
            // It waits for no page, and no page waits for it.
            Route::Live => {
                let visit = Visit::new(self.visitor(&head, peer)?, &self.stores, &self.notes);
                let answer = self.live.answer(&head.headers, visit.tail()?, lifetime)?;
                guest.follows();
                Ok(answer)
            }
            // In a box, because the compiler follows futures within futures only so far when it lays them out.
            route => Box::pin(self.page(route, (&head, body), peer, guest)).await,
        }
    }

    fn visitor(&self, head: &Parts, peer: IpAddr) -> Result<Visitor, Trouble> {
        self.door.visitor(&head.headers, peer).map_err(Trouble::NoVisitor)
    }

    /// A page for a visitor.
    async fn page(
        &self,
        route: Route,
        (head, body): (&Parts, Incoming),
        peer: IpAddr,
        guest: &Arc<Guest>,
    ) -> Result<Answer, Trouble> {
        let visitor = match self.door.visitor(&head.headers, peer) {
            Ok(visitor) => visitor,
            Err(NoVisitor::LogIn) => return entrance::led_to(head),
            Err(other) => return Err(Trouble::NoVisitor(other)),
        };
        let (query, note) = notes::without_note(head.uri.query().unwrap_or_default());
        let note = note.and_then(|id| self.notes.of(&visitor, id));
        let visit = Visit::new(visitor, &self.stores, &self.notes);
        frame::set(Frame::of(&visit, self.stores.writes(), self.door.knows_people(), note));
        if let Route::DeliveriesExport(_) | Route::AuditExport(_) = route {
            let _served = guest.served();
            return self.export(&route, head, &visit, &guest.streams).await;
        }
        // Before anything is waited for that others want, too: a slow sender holds no page's place.
        let form = if head.method == Method::POST { Some(Form::read(&head.headers, body).await?) } else { None };
        let _served = guest.served();
        // Waits before it takes a session, so that whoever has a permit finds one free. A check while somebody types needs no
        // session, and takes no page's place.
        let places = if route == Route::CheckAction { &self.checks } else { &self.pages };
        let _permit = timeout(WAIT, places.acquire()).await.map_err(|_| Trouble::Busy)?;
        let page = async {
            if route != Route::CheckAction {
                frame::read_from(visit.standby().await?);
            }
            pages::of(route, &query, form, &visit, &self.glances, &self.testing).await
        };
        timeout(PAGE_TIME, page).await.unwrap_or(Err(Trouble::Away))
    }

    /// The beginning of an export, which goes on among `streams`.
    async fn export(
        &self,
        route: &Route,
        head: &Parts,
        visit: &Visit<'_>,
        streams: &TaskTracker,
    ) -> Result<Answer, Trouble> {
        if !export::can_be_broken_off(head.version) {
            return Err(Trouble::OldHttp);
        }
        let permit = timeout(WAIT, Arc::clone(&self.exports).acquire_owned()).await;
        // The semaphore is never closed.
        let Ok(Ok(permit)) = permit else { return Err(Trouble::Busy) };
        let begun = async {
            let query = head.uri.query().unwrap_or_default();
            let (exported, form, store) = pages::exported(route, query, visit).await?.ok_or(Trouble::NoPage)?;
            export::begin((exported, form), store, permit, streams).await
        };
        timeout(PAGE_TIME, begun).await.unwrap_or(Err(Trouble::Away))
    }

    /// Whether the database answers.
    async fn health(&self) -> Answer {
        let asked = async {
            let _permit = self.health.acquire().await;
            self.stores.health().now().await
        };
        match timeout(HEALTH_TIME, asked).await {
            Ok(Ok(_)) => Answer::text(StatusCode::OK, "the database answers\n"),
            _ => Answer::text(StatusCode::SERVICE_UNAVAILABLE, "the database does not answer\n"),
        }
    }
}
