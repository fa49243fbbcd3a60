//! Gets a request to its target: over a connection that waits for one, else over a new one. It is written at most once.

use std::sync::Arc;

use hyper::body::Incoming;
use rustls::ClientConfig;

use super::connect::{Connector, NoConnection};
use super::connection::{Broken, Connection};
use super::evidence::Trace;
use super::fault::Fault;
use super::gate::Bar;
use super::guard::Guard;
use super::names::Names;
use super::pool::Pool;
use super::prepare::Prepared;
use super::target::Target;

/// The client: no proxy, whatever the environment says, since that would move the guard's decision to another machine; no
/// redirects, since following one is a second request to a target that no action names; HTTP/1.1 only, so that the end of
/// a connection is the end of one request.
pub(super) struct Client {
    connector: Connector,
    pool: Arc<Pool>,
}

/// Why there is no response head. What it means depends on whether the request was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NoHead {
    /// There was no connection.
    NoConnection(NoConnection),
    /// There was one, and it ended.
    Broken(Broken),
}

impl Client {
    /// A client that connects only to what `guard` allows.
    pub(super) fn new(guard: Guard, names: Names, tls: ClientConfig) -> Client {
        Client { connector: Connector::new(guard, names, tls), pool: Arc::default() }
    }

    /// Sends the request, and waits for the head of its answer. The rest comes over the connection.
    pub(super) async fn send(
        &self,
        prepared: &Prepared,
        trace: &Arc<Trace>,
    ) -> Result<(http::Response<Incoming>, Connection), NoHead> {
        // Those that were closed meanwhile, or on which something has arrived, are closed and passed over: at most as many
        // as one target may have.
        while let Some(mut kept) = self.pool.take(&prepared.target) {
            match kept.exchange(prepared.request(), trace).await {
                Ok(response) => return Ok((response, kept)),
                // No byte of it was written, so another connection is no second try.
                Err(broken) if !trace.is_taken() && broken.bar != Some(Bar::Fence) => {}
                Err(broken) => return Err(NoHead::Broken(broken)),
            }
        }
        let socket = self.connector.connect(&prepared.target, trace).await.map_err(NoHead::NoConnection)?;
        let mut new = Connection::on(socket)
            .await
            .map_err(|error| NoHead::Broken(Broken { bar: None, fault: Fault::of(&error) }))?;
        let response = new.exchange(prepared.request(), trace).await.map_err(NoHead::Broken)?;
        Ok((response, new))
    }

    /// Keeps `connection` for the next request to `target`, if it can carry one.
    pub(super) fn keep(&self, target: &Target, mut connection: Connection) {
        if connection.is_reusable() {
            self.pool.put(target, connection);
        }
    }
}
