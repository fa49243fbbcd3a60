//! Builds the one HTTP client of the process. Most of it says what the client must not do by itself.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::ClientConfig;
use tower::{Layer, Service};

use super::evidence::{self, Phase};
use super::guard::Guard;
use super::names::Names;
use super::resolve::GuardedResolver;

/// How long a connection may wait for its next request. Servers close idle ones as well, Node by default after five
/// seconds, and a request that is written at that very moment is lost in doubt. So this side closes well before.
const IDLE_TIMEOUT: Duration = Duration::from_secs(2);

/// Connections to one host that are kept while idle. What is above it at the end of a burst is closed.
const MAX_IDLE_PER_HOST: usize = 64;

/// The client, which asks `names` and connects only to what `guard` allows.
///
/// # Errors
/// If reqwest refuses the configuration.
pub(super) fn build(names: Names, guard: Guard, tls: ClientConfig) -> reqwest::Result<reqwest::Client> {
    let builder = reqwest::Client::builder()
        // HTTP_PROXY and its like would move the guard's decision, and the request, to another machine.
        .no_proxy()
        // A redirect is an answer. Following it would be a second request, to a target that no action names.
        .redirect(reqwest::redirect::Policy::none())
        // reqwest repeats what an HTTP/2 server refused.
        .retry(reqwest::retry::never())
        // A connection carries one request at a time, so its end is the end of that request alone. There are no streams
        // that a server refuses or a GOAWAY leaves open, and so nothing that a library would want to repeat.
        .http1_only()
        .tls_backend_preconfigured(tls)
        .dns_resolver(GuardedResolver::new(names, guard))
        .connector_layer(NoteConnection)
        .pool_idle_timeout(IDLE_TIMEOUT)
        .pool_max_idle_per_host(MAX_IDLE_PER_HOST)
        .user_agent(concat!("postcall/", env!("CARGO_PKG_VERSION")))
        .tcp_nodelay(true)
        // The attempt's deadline is the only clock. reqwest would give a silent peer a minute.
        .tcp_keepalive(None);
    without_user_timeout(builder).build()
}

/// Linux can also end a connection whose data stays unacknowledged; reqwest asks it to after half a minute, connecting
/// included.
#[cfg(target_os = "linux")]
fn without_user_timeout(builder: reqwest::ClientBuilder) -> reqwest::ClientBuilder {
    builder.tcp_user_timeout(None)
}

#[cfg(not(target_os = "linux"))]
fn without_user_timeout(builder: reqwest::ClientBuilder) -> reqwest::ClientBuilder {
    builder
}

/// Wraps the connector, to note when a connection of the attempt's own is begun and ready.
#[derive(Clone, Copy, Debug)]
struct NoteConnection;

impl<S> Layer<S> for NoteConnection {
    type Service = NotingConnector<S>;

    fn layer(&self, inner: S) -> NotingConnector<S> {
        NotingConnector { inner }
    }
}

#[derive(Clone, Debug)]
struct NotingConnector<S> {
    inner: S,
}

impl<S, Target> Service<Target> for NotingConnector<S>
where
    S: Service<Target>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, target: Target) -> Self::Future {
        evidence::note(Phase::Connecting);
        let connecting = self.inner.call(target);
        Box::pin(async move {
            let connection = connecting.await?;
            evidence::note(Phase::Connected);
            Ok(connection)
        })
    }
}
