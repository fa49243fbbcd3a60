//! The only HTTP client. It sends one request for one attempt, at most once, and says what is known afterwards.
//!
//! An outcome rests on evidence: a response head that arrived, a request that was handed over to be written, a step on
//! the way to a connection that was seen. No error's text is ever read.
//!
//! | seen | ending |
//! | --- | --- |
//! | a response head | delivered or rejected, however its body ends |
//! | the request taken to be written, no head | unknown: timeout, reset, protocol, dispatcher lost |
//! | the request not taken, stopped by the dispatcher | unsent |
//! | the request not taken | failed: blocked, dns, connect, tls |
//!
//! An attempt is one future, from the name to the last byte of the answer: nothing of it runs anywhere else, and dropping
//! it closes what it has opened. The map of the room, in the order in which an attempt comes by:
//!
//! - `prepare`: the rendered request in the client's form; `target`: where it goes
//! - `guard`: which targets may be called
//! - `client`: gets the request there, over a connection from the `pool`, or over a new one, if the `door` lets it
//! - `connect`: opens a connection; `names`: finds the host's addresses, `race`: the one that answers first, `tls`: whom
//!   to trust
//! - `connection`: HTTP on a connected socket
//! - `gate`: every byte passes it, so it knows whether the request was written; `fence`: until when requests may begin, by
//!   a `clock` that goes on while the machine is suspended; `head`: how much may come before an answer's head ends
//! - `evidence`: what all of these leave behind
//! - `response`: reads the answer's body; `fault`, `outcome`: what it means that there was none
//!
//! Nothing here knows the database, templates, or any other attempt.
//!
//! # What attempts share, and who waits for whom
//!
//! Only those with the same target, at its `door`, before their attempts begin. The `pool` is asked and never waited for. Every queue, buffer and number of connections has a bound, named
//! where it is kept: what one receiver sends is read only as far as its own attempt's bounds.

mod client;
mod clock;
mod connect;
mod connection;
mod door;
mod evidence;
mod fault;
mod fence;
mod gate;
mod guard;
mod head;
mod names;
mod outcome;
mod policy;
mod pool;
mod prepare;
mod race;
mod response;
mod target;
mod tls;

use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::path::PathBuf;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use ipnet::IpNet;
use uuid::Uuid;

use self::client::{Client, NoHead};
pub use self::clock::Moment;
use self::connection::Connection;
use self::door::Way;
use self::evidence::Evidence;
pub use self::fence::Fence;
use self::guard::Guard;
pub use self::guard::{Refusal, refused_by_default};
pub use self::names::NameSources;
use self::names::Names;
use self::outcome::{Cause, Stop, without_head};
use self::prepare::Prepared;
use self::target::Target;
use crate::domain::delivery::{BodyEnd, Ending, Outcome, Timing};
use crate::domain::host::Origin;
use crate::domain::request::Request;

/// How long a probe may take to connect.
pub const PROBE_TIMEOUT: Duration = Duration::from_secs(3);

/// What may be called. The default is https to public addresses only.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Whether plain http may be used (`--allow-http`).
    pub allow_http: bool,
    /// Ranges that may be called although they are not public (`--allow-target`).
    pub allow_targets: Vec<IpNet>,
    /// Whether only a few connections to one target are opened at a time, so that a host which cannot be reached fails few
    /// requests. Those that wait then are sent away unattempted.
    pub hold_unreachable: bool,
    /// Where it is written down how names are resolved, if not where the system keeps it.
    pub names: Option<NameSources>,
}

/// The client cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// rustls refuses its configuration.
    #[error("cannot set up TLS")]
    Tls(#[source] rustls::Error),
    /// A file that says how names are resolved cannot be read.
    #[error("cannot read {}", path.display())]
    Names {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// How an attempt went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// What is known now.
    pub ending: Ending,
    /// When what happened.
    pub timing: Timing,
}

/// The client: one for the process, shared by all attempts. Its connections are kept alive for a moment and reused.
pub struct Webhook {
    client: Client,
    guard: Guard,
}

impl Webhook {
    /// A client that calls what `settings` permit. Root certificates are read once, here; where there are none, the
    /// log says so, and only plain http can be delivered.
    ///
    /// # Errors
    /// If one of the libraries refuses its configuration.
    pub fn new(settings: Settings) -> Result<Webhook, SetupError> {
        let guard = Guard::new(settings.allow_http, settings.allow_targets);
        let tls = tls::config().map_err(SetupError::Tls)?;
        let names = match settings.names {
            Some(sources) => Names::from_sources(sources)?,
            None => Names::system()?,
        };
        let client = Client::new(guard.clone(), names, tls, settings.hold_unreachable);
        Ok(Webhook { client, guard })
    }

    /// Sends `request` at most once and waits for the answer, for no longer than `request.timeout_ms` in all, from the
    /// name's resolution to the last byte of the answer. `message_id` goes along as the header `webhook-id`.
    ///
    /// Before that it may wait at the target's door, for no longer than the timeout once more; where it is sent away, nothing
    /// was attempted, and the ending is [`Ending::Unsent`].
    ///
    /// Once `fence` is closed the request does not begin any more; one that is out goes on.
    ///
    /// When `cut` completes, the attempt ends at once with what is known by then. Dropping the returned future instead
    /// loses that knowledge: the request may be out, and nobody will know. Either way nothing of it goes on.
    pub async fn send(
        &self,
        request: &Request,
        message_id: Uuid,
        fence: &Fence,
        cut: impl Future<Output = ()>,
    ) -> Attempt {
        let timeout = Duration::from_millis(request.timeout_ms.into());
        let mut cut = pin!(cut);
        let prepared = prepare::prepare(request, message_id, &self.guard);
        let way = match &prepared {
            Ok(prepared) => tokio::select! {
                biased;
                () = cut.as_mut() => None,
                () = fence.closes() => None,
                way = self.client.way_to(&prepared.target) => way.ok(),
                () = tokio::time::sleep(timeout) => None,
            },
            Err(_) => None,
        };
        // The attempt begins here. What was waited for before is the queue's time.
        let evidence = Arc::new(Evidence::start(fence.clone()));
        let deadline = evidence.started() + timeout;
        let stop = pin!(async {
            tokio::select! {
                biased;
                () = cut => Stop::Cut,
                () = tokio::time::sleep_until(deadline) => Stop::Deadline,
            }
        });
        let (ending, head) = match (prepared, way) {
            (Ok(prepared), Some(way)) => self.exchange(way, &prepared, &evidence, fence, stop).await,
            (Ok(_), None) => (Ending::Unsent, None),
            (Err(refused), _) => (Ending::Final(refused), None),
        };
        let progress = evidence.progress();
        let timing = Timing { latency: evidence.elapsed(), dns: progress.dns, connected: progress.connected, head };
        Attempt { ending, timing }
    }

    /// Connects to a host, with TLS if its URLs say so, and sends nothing. Whether that went well; `None` if nothing was
    /// known of it within [`PROBE_TIMEOUT`].
    pub async fn probe(&self, origin: &Origin) -> Option<bool> {
        let Ok(host) = url::Host::parse(origin.host.name()) else { return Some(true) };
        let target = Target { tls: origin.tls, host, port: origin.host.port() };
        let evidence = Evidence::start(Fence::open());
        tokio::time::timeout(PROBE_TIMEOUT, self.client.probe(&target, &evidence)).await.ok()
    }

    /// The ending of the exchange and, if a response head arrived, when.
    async fn exchange(
        &self,
        way: Way<Connection>,
        prepared: &Prepared,
        evidence: &Arc<Evidence>,
        fence: &Fence,
        mut stop: Pin<&mut impl Future<Output = Stop>>,
    ) -> (Ending, Option<Duration>) {
        let cause = {
            let head = pin!(self.client.send(way, prepared, evidence));
            match until_stopped(head, evidence, fence, stop.as_mut()).await {
                Ok((response, mut connection)) => {
                    let arrived = evidence.elapsed();
                    let answer = response::read(response, &mut connection, stop).await;
                    if answer.body_end == BodyEnd::Complete {
                        self.client.keep(&prepared.target, connection);
                    }
                    return (Ending::Final(Outcome::Answered(answer)), Some(arrived));
                }
                Err(cause) => cause,
            }
        };
        // Whatever was under way is dropped, so this is final.
        (without_head(evidence.is_taken(), evidence.progress().phase, cause), None)
    }
}

/// Waits for a response head, unless the attempt is stopped, or the fence closes before the request is taken.
async fn until_stopped<T>(
    mut head: Pin<&mut impl Future<Output = Result<T, NoHead>>>,
    evidence: &Evidence,
    fence: &Fence,
    mut stop: Pin<&mut impl Future<Output = Stop>>,
) -> Result<T, Cause> {
    let mut fence = pin!(fence.closes());
    poll_fn(|cx| {
        // As long as the request is not taken, whatever stops the attempt goes first: the next step might be the one that
        // takes it.
        if !evidence.is_taken() {
            if fence.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Err(Cause::Stopped(Stop::Cut)));
            }
            if let Poll::Ready(stopped) = stop.as_mut().poll(cx) {
                return Poll::Ready(Err(Cause::Stopped(stopped)));
            }
        }
        // Afterwards the head does: where both are there at once, the answer is not thrown away.
        if let Poll::Ready(head) = head.as_mut().poll(cx) {
            return Poll::Ready(head.map_err(Cause::NoHead));
        }
        stop.as_mut().poll(cx).map(|stopped| Err(Cause::Stopped(stopped)))
    })
    .await
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhook").field("guard", &self.guard).finish_non_exhaustive()
    }
}
