//! The only HTTP client of postcall. It sends one request for one attempt, at most once, and returns what is known
//! then.
//!
//! An outcome rests on evidence: whether a response head arrived, whether the request was taken to be written, and how
//! far the opening of a connection came. The client never reads the text of an error.
//!
//! | seen | ending |
//! | --- | --- |
//! | a response head | delivered or rejected, however its body ends |
//! | the request taken to be written, no head | unknown: timeout, reset, protocol, dispatcher lost |
//! | the request not taken, stopped by the dispatcher, sent away by the target's `connect_limit`, or kept by the egress proxy | unsent |
//! | the request not taken | failed: blocked, dns, connect, tls |
//!
//! An attempt is one future, from the look-up of the name to the last byte of the answer. Nothing of it runs
//! anywhere else, and dropping the future closes what it has opened. An attempt passes these modules, in this order:
//!
//! - `prepare`: the rendered request in the client's form; `target`: where it goes
//! - `guard`: which targets may be called
//! - `client`: sends the request, over a connection from the `pool`, or over a new one, if the `connect_limit` permits it
//! - `connect`: opens a connection; `names`: finds the host's addresses; `race`: finds the address that answers first;
//!   `egress`: opens a tunnel through the operator's proxy; `tls`: says which certificates to trust; `certificate`: why one was not accepted
//! - `connection`: HTTP on a connected socket
//! - `watched_stream`: every byte passes it, so it knows whether the request was written; `send_gate`: until when requests may begin,
//!   by a `clock` that goes on while the machine is suspended; `head`: how many bytes may come before an answer's head
//!   ends
//! - `evidence`: what all of these note about the attempt
//! - `response`: reads the answer's body; `fault`, `outcome`: what it means if there was no answer
//!
//! Nothing here knows the database or templates. Attempts meet only in the `pool` and at the `connect_limit`.
//!
//! # What attempts share, and who waits for whom
//!
//! Only attempts with the same target wait for each other, at the target's `connect_limit`, before they begin. Nobody waits for
//! the `pool`. Every queue, every buffer and every number of connections has a bound, which stands beside it in the
//! code. What one receiver sends is read only within the bounds of its own attempt.

mod certificate;
mod client;
mod clock;
mod connect;
mod connect_limit;
mod connection;
mod egress;
mod evidence;
mod fault;
mod guard;
mod head;
mod names;
mod outcome;
mod policy;
mod pool;
mod prepare;
mod race;
mod response;
mod send_gate;
mod target;
mod tls;
mod watched_stream;

use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::path::PathBuf;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use rustls::ClientConfig;
use uuid::Uuid;

use self::client::{Client, NoHead};
pub use self::clock::Moment;
use self::connect::Connector;
use self::connect_limit::Way;
use self::connection::Connection;
use self::egress::Egress;
pub use self::egress::{EgressProxy, NotAProxy};
use self::evidence::Evidence;
use self::guard::TargetGuard;
pub use self::guard::{DeniedTarget, NotATarget, NotPorts, PortRange, TargetRefusal, TargetRules, refused_by_default};
pub use self::names::NameSources;
use self::names::Names;
use self::outcome::{Cause, StopReason, is_of_the_proxy, without_head};
use self::prepare::Prepared;
use self::response::Keeping;
pub use self::send_gate::SendGate;
use self::target::Target;
pub use self::tls::{config as tls_config, root_certificates};
use crate::domain::body_digest::ResponseDigests;
use crate::domain::delivery::{BodyEnd, Ending, Failure, Outcome, Timing};
use crate::domain::host::Origin;
use crate::domain::request::Request;

/// How long a probe may take to connect.
pub const PROBE_TIMEOUT: Duration = Duration::from_secs(3);

/// How the client works.
#[derive(Clone, Debug, Default)]
pub struct WebhookSettings {
    /// What may be called.
    pub targets: TargetRules,
    /// Whether only a few connections to one target are opened at a time, so that a host which cannot be reached fails few
    /// requests. The requests that wait then are returned unsent.
    pub hold_unreachable: bool,
    /// Whether the beginning and the end of a body are kept if the receiver did not take the request.
    pub keep_excerpts: bool,
    /// Makes the digests of responses; without it, they are SHA-256.
    pub response_digests: Option<Arc<dyn ResponseDigests>>,
    /// The proxy through which every request goes (`--egress-proxy`).
    pub egress_proxy: Option<EgressProxy>,
    /// A file of certificates of further authorities, in PEM (`--ca-file`).
    pub ca_file: Option<PathBuf>,
    /// The files that say how names are looked up. `None` means those of the system.
    pub names: Option<NameSources>,
}

/// The client cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// rustls refuses its configuration.
    #[error("cannot set up TLS")]
    Tls(#[source] rustls::Error),
    /// The file of further authorities cannot be used.
    #[error("cannot take certificates from {} (--ca-file): {reason}", path.display())]
    CaFile {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// A file that says how names are looked up cannot be read.
    #[error("cannot read {}", path.display())]
    Names {
        /// The file.
        path: PathBuf,
        /// Why it cannot be read.
        source: io::Error,
    },
}

/// The result of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// How the attempt ended, as far as it is known.
    pub ending: Ending,
    /// How long the steps of the attempt took.
    pub timing: Timing,
    /// Whether the egress proxy itself kept the attempt from being made, so that the delivery is unsent and should wait. It is
    /// never set without `hold_unreachable`.
    pub kept_by_proxy: bool,
    /// Whether TLS failed for a request that shows a certificate. That says something about the action, and nothing about the
    /// host for others.
    pub certificate_failed: bool,
}

/// How the exchange of an attempt ended.
struct Exchanged {
    ending: Ending,
    /// When the response head arrived, if it did.
    head: Option<Duration>,
    kept_by_proxy: bool,
}

impl Exchanged {
    fn with(ending: Ending) -> Exchanged {
        Exchanged { ending, head: None, kept_by_proxy: false }
    }
}

/// The HTTP client. All attempts of the process share one. It keeps connections alive for a moment, and reuses them.
pub struct Webhook {
    client: Client,
    guard: TargetGuard,
    keeping: Keeping,
    hold_unreachable: bool,
    tls: Arc<ClientConfig>,
}

impl Webhook {
    /// A client that calls what `settings` permit. It reads the root certificates once, here. If there are none, it
    /// writes that to the log, and only plain http can be delivered.
    ///
    /// # Errors
    /// Returns an error if rustls refuses its configuration, if the file of further authorities cannot be used, or if a
    /// file that says how names are looked up cannot be read.
    pub fn new(settings: WebhookSettings) -> Result<Webhook, SetupError> {
        let guard = TargetGuard::new(settings.targets);
        let tls = Arc::new(tls::config(settings.ca_file.as_deref())?);
        let names = match settings.names {
            Some(sources) => Names::from_sources(sources)?,
            None => Names::system()?,
        };
        let egress = settings.egress_proxy.map(Egress::through);
        let connector = Connector::new(guard.clone(), names, Arc::clone(&tls), egress);
        let hold_unreachable = settings.hold_unreachable;
        let keeping = Keeping { excerpts: settings.keep_excerpts, digests: settings.response_digests };
        Ok(Webhook { client: Client::new(connector, hold_unreachable), guard, keeping, hold_unreachable, tls })
    }

    /// Whether the rules for targets permit a URL, as far as it shows. A name is judged when it is looked up.
    pub fn permits(&self, url: &url::Url) -> bool {
        self.guard.permits(url)
    }

    /// Sends `request` at most once and waits for the answer, for no longer than `request.timeout_ms` in all, from the
    /// look-up of its name to the last byte of the answer. The request carries `message_id` in the header `webhook-id`.
    ///
    /// Before that it may wait at the target's limit, for no longer than the timeout once more. If it gets no way to the
    /// target there, nothing was attempted, and the ending is [`Ending::Unsent`].
    ///
    /// Once `send_gate` is closed, the request does not begin any more. A request in flight goes on.
    ///
    /// When `cut` completes, the attempt ends at once with what is known by then. If the returned future is dropped
    /// instead, that knowledge is lost: nobody knows whether the request was sent. In both cases, nothing of the
    /// attempt goes on.
    pub async fn send(
        &self,
        request: &Request,
        message_id: Uuid,
        send_gate: &SendGate,
        cut: impl Future<Output = ()>,
    ) -> Attempt {
        let timeout = Duration::from_millis(request.timeout_ms.into());
        let mut cut = pin!(cut);
        let prepared = prepare::prepare(request, message_id, &self.guard, &self.tls);
        let way = match &prepared {
            Ok(prepared) => tokio::select! {
                biased;
                () = cut.as_mut() => None,
                () = send_gate.closes() => None,
                way = self.client.way_to(&prepared.target) => way.ok(),
                () = tokio::time::sleep(timeout) => None,
            },
            Err(_) => None,
        };
        // The attempt begins here. The time before was spent waiting in a queue.
        let evidence = Arc::new(Evidence::start(send_gate.clone()));
        let deadline = evidence.started() + timeout;
        let stop = pin!(async {
            tokio::select! {
                biased;
                () = cut => StopReason::Cut,
                () = tokio::time::sleep_until(deadline) => StopReason::Deadline,
            }
        });
        let Exchanged { ending, head, kept_by_proxy } = match (prepared, way) {
            (Ok(prepared), Some(way)) => self.exchange(way, &prepared, &evidence, send_gate, stop).await,
            (Ok(_), None) => Exchanged::with(Ending::Unsent),
            (Err(refused), _) => Exchanged::with(Ending::Final(refused)),
        };
        let progress = evidence.progress();
        let timing = Timing { latency: evidence.elapsed(), dns: progress.dns, connected: progress.connected, head };
        let failed_at_tls = matches!(ending, Ending::Final(Outcome::Failed { kind: Failure::Tls, .. }));
        let certificate_failed = failed_at_tls && request.client_certificate.is_some();
        Attempt { ending, timing, kept_by_proxy, certificate_failed }
    }

    /// Connects to a host, with TLS if its URLs say so, and sends nothing. Returns whether that succeeded, or `None` if
    /// nothing was known within [`PROBE_TIMEOUT`].
    pub async fn probe(&self, origin: &Origin) -> Option<bool> {
        // As of each request, the port and the name are judged here, and the addresses when they are connected to. If the guard refuses the
        // target, its deliveries must be attempted, so that they end as `blocked`.
        let url = url::Url::parse(&origin.to_string()).ok();
        if url.is_none_or(|url| self.guard.check_url(&url).is_err()) {
            return Some(true);
        }
        let Ok(host) = url::Host::parse(origin.host.name()) else { return Some(true) };
        let target = Target { tls: origin.tls, host, port: origin.host.port(), client: None };
        let evidence = Evidence::start(SendGate::open());
        tokio::time::timeout(PROBE_TIMEOUT, self.client.probe(&target, &evidence)).await.ok()
    }

    /// Sends the request and reads the answer.
    async fn exchange(
        &self,
        way: Way<Connection>,
        prepared: &Prepared,
        evidence: &Arc<Evidence>,
        send_gate: &SendGate,
        mut stop: Pin<&mut impl Future<Output = StopReason>>,
    ) -> Exchanged {
        let cause = {
            let head = pin!(self.client.send(way, prepared, evidence));
            match until_stopped(head, evidence, send_gate, stop.as_mut()).await {
                Ok((response, mut connection)) => {
                    let arrived = evidence.elapsed();
                    let answer = response::read(response, &mut connection, &self.keeping, stop).await;
                    if answer.body_end == BodyEnd::Complete {
                        self.client.keep(&prepared.target, connection);
                    }
                    let ending = Ending::Final(Outcome::Answered(answer));
                    return Exchanged { ending, head: Some(arrived), kept_by_proxy: false };
                }
                Err(cause) => cause,
            }
        };
        // The exchange was dropped above, so nothing can change this verdict.
        let (taken, phase) = (evidence.is_taken(), evidence.progress().phase);
        let of_the_proxy = is_of_the_proxy(taken, phase, &cause);
        let ending = without_head(taken, phase, cause);
        if of_the_proxy {
            self.tell_of_the_proxy(&ending);
            if self.hold_unreachable {
                return Exchanged { kept_by_proxy: true, ..Exchanged::with(Ending::Unsent) };
            }
        }
        Exchanged::with(ending)
    }

    /// Lets the log say that the egress proxy cannot be used.
    fn tell_of_the_proxy(&self, ending: &Ending) {
        if let (Some(egress), Ending::Final(Outcome::Failed { detail, .. })) = (self.client.egress(), ending) {
            egress.fails(detail);
        }
    }
}

/// Waits for a response head, until the attempt is stopped, or the send gate closes before the request is taken.
async fn until_stopped<T>(
    mut head: Pin<&mut impl Future<Output = Result<T, NoHead>>>,
    evidence: &Evidence,
    send_gate: &SendGate,
    mut stop: Pin<&mut impl Future<Output = StopReason>>,
) -> Result<T, Cause> {
    let mut send_gate = pin!(send_gate.closes());
    poll_fn(|cx| {
        // While the request is not taken, the send gate and `stop` are checked first, because the next step might take it.
        if !evidence.is_taken() {
            if send_gate.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Err(Cause::Stopped(StopReason::Cut)));
            }
            if let Poll::Ready(stopped) = stop.as_mut().poll(cx) {
                return Poll::Ready(Err(Cause::Stopped(stopped)));
            }
        }
        // Afterwards the head is checked first: if both are ready at once, the answer must not be lost.
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
