//! Connections and requests. Whoever is slow, sends too much or comes too often keeps nobody else waiting for long: each
//! of these has a bound.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::future::{join_all, select_ok};
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
use tracing::{Instrument, Span, debug, error_span};

use super::answer::{Answer, Body};
use super::crowd::{Crowd, Guest, Place};
use super::databases::{Database, Databases, MOST_PAGES_OF_ONE, PAGES, Places, WAIT};
use super::export::{self, EXPORTS};
use super::failure::Trouble;
use super::form::Form;
use super::frame;
use super::gate::{self, Refusal, Takes};
use super::live::{self, Lifetime, MOST_VIEWERS};
use super::notes::{self, Notes};
use super::people::{Auth, Door, LinkKey, NoVisitor, Stores, Visit, Visitor};
use super::route::{Address, ICON, Route, STYLE};
use super::site::{PublicUrl, Site};
use super::together::All;
use super::{entrance, pages, policy};
use crate::service::action_test::Tester;
use crate::store::Patience;

/// The connections of a store of the console: one for each page, and one for each export.
pub const CONNECTIONS: u32 = PAGES as u32 + EXPORTS as u32;
/// The most actions that are checked at the same time while somebody types: they take one core, and no session.
const CHECKS: usize = 1;
/// How long the console waits for the database: so long that a person would still wait.
pub const PATIENCE: Patience = Patience { connection: WAIT, statement: WAIT };
/// How long a page may take, with all its statements.
pub(super) const PAGE_TIME: Duration = Duration::from_secs(20);
/// How long `/health` waits for a database.
const HEALTH_TIME: Duration = Duration::from_secs(2);

/// The most connections of browsers. For a further one, whoever has asked for nothing for the longest loses theirs ([`Crowd`]). While
/// nobody is idle, it waits.
const MOST_CONNECTIONS: usize = 64;
/// How many more there are for each of several databases: its live tails, its exports, and its pages that are read or wait, have no
/// more than these. So databases that do not answer, however many, leave the others their connections.
const CONNECTIONS_OF_ONE: usize = MOST_VIEWERS + EXPORTS + MOST_PAGES_OF_ONE;
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
    databases: Arc<Databases>,
    /// For pages that concern several databases.
    of_all: Places,
    /// For those who follow several databases.
    followers: live::OfAll,
    door: Door,
    notes: Notes,
    checks: Semaphore,
}

impl Console {
    /// Listens, to show one database. Each store has [`CONNECTIONS`] and [`PATIENCE`]; `now` is the time of the database.
    ///
    /// # Errors
    /// The error of the system if it cannot listen there.
    pub async fn listen(mut settings: Settings, stores: Stores, now: DateTime<Utc>) -> std::io::Result<Console> {
        let databases = Databases::one(stores, now, settings.tester.take().map(Arc::new));
        Console::of(settings, databases).await
    }

    /// Listens, to show several databases with these names, each from the time on when it is opened ([`Console::databases`]).
    ///
    /// # Errors
    /// The error of the system if it cannot listen there.
    pub async fn listen_for_several(mut settings: Settings, names: Vec<String>) -> std::io::Result<Console> {
        let tester = settings.tester.take().map(Arc::new);
        Console::of(settings, Databases::several(names, tester.as_ref())).await
    }

    async fn of(settings: Settings, databases: Databases) -> std::io::Result<Console> {
        let listener = TcpListener::bind(settings.listen).await?;
        let address = listener.local_addr()?;
        let site = settings.public.map_or(Site::Loopback(address.port()), Site::Public);
        let databases = Arc::new(databases);
        let door = Door::new(settings.auth, site, settings.links, settings.proxies, Arc::clone(&databases));
        let (notes, checks) = (Notes::default(), Semaphore::new(CHECKS));
        let (of_all, followers) = (Places::of_all(), live::OfAll::default());
        let shared = Arc::new(Shared { databases, of_all, followers, door, notes, checks });
        Ok(Console { listener, address, shared })
    }

    /// The databases, in the order in which they were given.
    pub fn databases(&self) -> &[Arc<Database>] {
        self.shared.databases.all()
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers requests until `stop`. Answers that are going out then have 5 seconds more, and so has recording the tests that are
    /// in flight, which end at once.
    pub async fn serve(self, stop: CancellationToken) {
        let databases = &self.shared.databases;
        let of_all = MOST_VIEWERS;
        let more = if databases.are_several() { CONNECTIONS_OF_ONE * databases.all().len() + of_all } else { 0 };
        let crowd = Crowd::new(MOST_CONNECTIONS + more);
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
        databases.all().iter().for_each(|database| database.testing.cut());
        let ended = async {
            connections.wait().await;
            join_all(databases.all().iter().map(|database| database.testing.ended())).await;
        };
        if timeout(LAST_WORDS, ended).await.is_err() {
            debug!("some answers or tests were cut off");
        }
        let opened = databases.all().iter().filter_map(|database| database.stores().ok());
        let closed = join_all(opened.map(Stores::close));
        // One that does not answer is left to its own end.
        let _in_order = timeout(LAST_WORDS, closed).await;
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
        let address = Address::of(head.uri.path());
        frame::set(self.databases.frame_of(address.as_ref()));
        // Where nothing is, there is nothing but to say so.
        let takes = address.as_ref().map_or(Takes::Reading, |address| address.route.takes());
        gate::admit(&head.method, &head.uri, &head.headers, takes, self.door.site()).map_err(|refusal| {
            if refusal == Refusal::Method { Trouble::Method(takes) } else { Trouble::Refused(refusal) }
        })?;
        let address = address.ok_or(Trouble::NoPage)?;
        match &address.route {
            Route::Style => Ok(Answer::kept("text/css; charset=utf-8", STYLE.as_bytes())),
            Route::Asset(asset) => Ok(asset.answer(&head.headers)),
            Route::Icon => Ok(Answer::picture(ICON)),
            Route::Health => Ok(self.health().await),
            Route::LogIn => entrance::log_in(&self.door, &head, body, peer).await,
            Route::LogOut => Ok(entrance::log_out(&self.door, &head.headers)),
            Route::Link(token) => entrance::enter(&self.door, token),
            // It waits for no page, and no page waits for it.
            Route::Live => {
                let visitor = self.door.visitor(&head.headers, peer).map_err(Trouble::NoVisitor)?;
                let answer = match self.about(&address, &visitor)? {
                    Some(database) => {
                        let visit = Visit::new(visitor, database.stores()?, &self.notes);
                        database.live.answer(&head.headers, visit.tail()?, lifetime)?
                    }
                    None => self.followers.answer(&self.all(&visitor), &head.headers, lifetime)?,
                };
                guest.follows();
                Ok(answer)
            }
            // In a box, because the compiler follows futures within futures only so far when it lays them out.
            _ => Box::pin(self.page(address, (&head, body), peer, guest)).await,
        }
    }

    /// The database that an address is about, for this visitor; `None` if it is about all.
    fn about(&self, address: &Address, visitor: &Visitor) -> Result<Option<&Database>, Trouble> {
        // A link is for one of them.
        if visitor.database.is_some() && visitor.database != address.database {
            return Err(Trouble::OneAgentOnly);
        }
        match self.databases.named(address.database.as_deref()) {
            Some(database) => Ok(Some(database)),
            None if address.database.is_none() => Ok(None),
            None => Err(Trouble::NoPage),
        }
    }

    /// This visitor at all databases.
    fn all<'s>(&'s self, visitor: &'s Visitor) -> All<'s> {
        All { visitor, databases: &self.databases, notes: &self.notes }
    }

    /// A page for a visitor.
    async fn page(
        &self,
        address: Address,
        (head, body): (&Parts, Incoming),
        peer: IpAddr,
        guest: &Arc<Guest>,
    ) -> Result<Answer, Trouble> {
        let visitor = match self.door.visitor(&head.headers, peer) {
            Ok(visitor) => visitor,
            Err(NoVisitor::LogIn) => return entrance::led_to(head),
            Err(other) => return Err(Trouble::NoVisitor(other)),
        };
        let about = self.about(&address, &visitor);
        let (query, note) = notes::without_note(head.uri.query().unwrap_or_default());
        let note = note.and_then(|id| self.notes.of(&visitor, id));
        let own = self.databases.named(visitor.database.as_deref());
        let shown = about.as_ref().ok().copied().flatten().or(own.map(Arc::as_ref));
        frame::set(self.databases.frame(shown, self.door.knows_people()).around(&visitor, note));
        let Some(database) = about? else {
            let (_served, all) = (guest.served(), self.all(&visitor));
            if let Route::DeliveriesExport(form) = address.route {
                return export::of_all(&all, (form, &query), head.version, &guest.streams).await;
            }
            let _place = self.of_all.one().await?;
            return pages::of_all(&address.route, &query, &all).await;
        };
        // What is logged of the page says of which database it is.
        let span = database.name().map_or_else(Span::none, |name| error_span!("page", database = name));
        let visit = Visit::new(visitor, database.stores()?, &self.notes);
        self.page_of((database, address.route), &query, (head, body), &visit, guest).instrument(span).await
    }

    /// A page of a database.
    async fn page_of(
        &self,
        (database, route): (&Database, Route),
        query: &str,
        (head, body): (&Parts, Incoming),
        visit: &Visit<'_>,
        guest: &Arc<Guest>,
    ) -> Result<Answer, Trouble> {
        if let Route::DeliveriesExport(_) | Route::AuditExport(_) = route {
            let _served = guest.served();
            let query = head.uri.query().unwrap_or_default();
            return export::of_one(database, (&route, query), head.version, visit, &guest.streams).await;
        }
        // Before anything is waited for that others want, too: a slow sender holds no page's place.
        let form = if head.method == Method::POST { Some(Form::read(&head.headers, body).await?) } else { None };
        let _served = guest.served();
        let Database { glances, testing, .. } = database;
        // A check while somebody types needs no session, and takes no page's place.
        if route == Route::CheckAction {
            let _permit = timeout(WAIT, self.checks.acquire()).await.map_err(|_| Trouble::Busy)?;
            let checked = pages::of(route, query, form, visit, glances, testing);
            return timeout(PAGE_TIME, checked).await.unwrap_or(Err(Trouble::Away));
        }
        // Waits before it takes a session, so that whoever has a place finds one free.
        let _place = database.place().await?;
        let page = async {
            frame::read_from(visit.standby().await?);
            pages::of(route, query, form, visit, glances, testing).await
        };
        timeout(PAGE_TIME, page).await.unwrap_or(Err(Trouble::Away))
    }

    /// Whether the database answers; of several, whether any does, because it is the console that is asked about.
    async fn health(&self) -> Answer {
        let several = self.databases.are_several();
        let asked = self.databases.all().iter().map(|database| {
            Box::pin(async move {
                let stores = database.stores().map_err(drop)?;
                let asking = async {
                    let _permit = database.health.acquire().await;
                    stores.health().now().await
                };
                timeout(HEALTH_TIME, asking).await.map_err(drop)?.map_err(drop)
            })
        });
        let (good, bad) = match several {
            false => ("the database answers\n", "the database does not answer\n"),
            true => ("a database answers\n", "no database answers\n"),
        };
        match select_ok(asked).await {
            Ok(_) => Answer::text(StatusCode::OK, good),
            Err(()) => Answer::text(StatusCode::SERVICE_UNAVAILABLE, bad),
        }
    }
}
