//! Sends a request to its target, over an idle connection if there is one, and otherwise over a new one. The request is
//! written at most once.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hyper::body::Incoming;
use lru::LruCache;

use super::connect::{Connector, NoConnection};
use super::connect_limit::{ConnectLimits, Unreachable, Way};
use super::connection::{Broken, Connection};
use super::egress::Egress;
use super::evidence::Evidence;
use super::fault::Fault;
use super::pool::Pool;
use super::prepare::Prepared;
use super::target::Target;
use super::watched_stream::Unusable;

/// The client. It uses no proxy but the operator's, which is told addresses that the guard has judged: a proxy that looks up
/// names would move the guard's decision to another machine. It follows no redirect, because that would be a second request to a target that no action names. It
/// speaks only HTTP/1.1, so that the end of a connection is the end of one request.
pub(super) struct Client {
    connector: Connector,
    pool: Arc<Pool>,
    limits: Arc<ConnectLimits>,
    /// Where certificates of clients were shown of late, or would have been. The least recently used leaves first.
    certified: Mutex<LruCache<Target, ()>>,
}

/// How many such targets are remembered.
const MOST_CERTIFIED: NonZeroUsize = NonZeroUsize::new(4_096).unwrap();

/// Why there is no response head. The outcome also depends on whether the request was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NoHead {
    /// No connection could be opened.
    NoConnection(NoConnection),
    /// There was a connection, and it ended.
    Broken(Broken),
}

impl Client {
    /// A client that connects as `connector` does. `hold_unreachable` says whether it has limits.
    pub(super) fn new(connector: Connector, hold_unreachable: bool) -> Client {
        let limits = Arc::new(ConnectLimits::new(hold_unreachable));
        Client { connector, pool: Arc::default(), limits, certified: Mutex::new(LruCache::new(MOST_CERTIFIED)) }
    }

    /// The proxy through which it connects.
    pub(super) fn egress(&self) -> Option<&Egress> {
        self.connector.egress()
    }

    /// Waits for an idle connection, or for the right to open one. Nothing is attempted meanwhile. Cancel-safe.
    pub(super) async fn way_to(&self, target: &Target) -> Result<Way<Connection>, Unreachable> {
        self.limits.open(target, || self.pool.take(target)).await
    }

    /// Connects to a target and sends nothing. Returns whether that succeeded.
    pub(super) async fn probe(&self, target: &Target, evidence: &Evidence) -> bool {
        let reached = match self.connector.connect(target, None, evidence).await {
            // If the guard refuses the target, its deliveries must be attempted, so that they end as `blocked`.
            Ok(_) | Err(NoConnection::Blocked(_)) => true,
            // A probe shows no certificate. A host that refuses it for that has been reached.
            Err(NoConnection::Tls(fault)) => fault.may_want_certificate() && self.certified().contains(target),
            Err(_) => false,
        };
        if reached {
            self.limits.reached(target);
        }
        reached
    }

    fn certified(&self) -> MutexGuard<'_, LruCache<Target, ()>> {
        self.certified.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends the request on this way, and waits for the head of its answer. The caller reads the body from the
    /// connection.
    pub(super) async fn send(
        &self,
        way: Way<Connection>,
        prepared: &Prepared,
        evidence: &Arc<Evidence>,
    ) -> Result<(http::Response<Incoming>, Connection), NoHead> {
        let (mut free, opening) = match way {
            Way::Ready(connection) => (Some(connection), None),
            Way::Open(opening) => (None, Some(opening)),
        };
        // Idle connections that were closed meanwhile, or on which something has arrived, are closed and passed over.
        // There are no more of them than one target may have.
        while let Some(mut kept) =
            free.take().or_else(|| self.pool.take(&prepared.target).filter(|_| opening.is_none()))
        {
            match kept.exchange(prepared.request(), evidence).await {
                Ok(response) => return Ok((response, kept)),
                // No byte of the request was written, so using another connection is not a retry.
                Err(broken) if !evidence.is_taken() && broken.unusable != Some(Unusable::GateClosed) => {}
                Err(broken) => return Err(NoHead::Broken(broken)),
            }
        }
        if prepared.tls.is_some() {
            self.certified().put(Target { client: None, ..prepared.target.clone() }, ());
        }
        let connected = self.connector.connect(&prepared.target, prepared.tls.as_ref(), evidence).await;
        let socket = connected.map_err(NoHead::NoConnection)?;
        if let Some(opening) = opening {
            opening.connected();
        }
        let mut new = Connection::on(socket)
            .await
            .map_err(|error| NoHead::Broken(Broken { unusable: None, fault: Fault::of(&error) }))?;
        let response = new.exchange(prepared.request(), evidence).await.map_err(NoHead::Broken)?;
        Ok((response, new))
    }

    /// Keeps `connection` for the next request to `target`, if it can carry one.
    pub(super) fn keep(&self, target: &Target, mut connection: Connection) {
        if connection.is_reusable() {
            self.pool.put(target, connection);
            self.limits.one_is_free(target);
        }
    }
}
