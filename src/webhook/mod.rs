//! The only HTTP client. It sends one request for one attempt, at most once, and says what is known afterwards.
//!
//! An outcome rests on evidence: a response head that arrived, a request that was handed over to be written, a step on
//! the way to a connection that was seen. No error's text is ever read.
//!
//! | seen | ending |
//! | --- | --- |
//! | a response head | delivered or rejected, however its body ends |
//! | the request handed over, no head | unknown: timeout, reset, protocol, dispatcher lost |
//! | the request not handed over, stopped by the dispatcher | unsent |
//! | the request not handed over | failed: blocked, dns, connect, tls |
//!
//! The map of the room, in the order in which an attempt comes by:
//!
//! - `prepare`: the rendered request in the client's form
//! - `guard`: which targets may be called; `resolve`: asks it about every address of a name
//! - `client`: builds the client and switches off what it would do by itself; `tls`: whom it trusts
//! - `fence`: until when requests may begin
//! - `handover`: the request's body, which knows when the request is about to be written
//! - `evidence`: what all of these leave behind
//! - `response`: reads the answer's body; `fault`, `outcome`: what it means that there was none
//!
//! Nothing here knows the database, templates, or any other attempt.

mod client;
mod evidence;
mod fault;
mod fence;
mod guard;
mod handover;
mod outcome;
mod policy;
mod prepare;
mod resolve;
mod response;
mod tls;

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use uuid::Uuid;

use self::evidence::Trace;
use self::fault::Fault;
pub use self::fence::Fence;
use self::guard::Guard;
use self::outcome::{Cause, Stop, without_head};
use crate::domain::delivery::{Ending, Outcome, Timing};
use crate::domain::request::Request;

/// What may be called. The default is https to public addresses only.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Whether plain http may be used (`--allow-http`).
    pub allow_http: bool,
    /// Ranges that may be called although they are not public (`--allow-target`).
    pub allow_targets: Vec<IpNet>,
}

/// The client cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// rustls refuses its configuration.
    #[error("cannot set up TLS")]
    Tls(#[source] rustls::Error),
    /// reqwest refuses its configuration.
    #[error("cannot set up the HTTP client")]
    Client(#[source] reqwest::Error),
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
#[derive(Debug)]
pub struct Webhook {
    client: reqwest::Client,
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
        let client = client::build(guard.clone(), tls).map_err(SetupError::Client)?;
        Ok(Webhook { client, guard })
    }

    /// Sends `request` at most once and waits for the answer, for no longer than `request.timeout_ms` in all, from the
    /// name's resolution to the last byte of the answer. `message_id` goes along as the header `webhook-id`.
    ///
    /// Once `fence` is closed the request does not begin any more; one that is out goes on.
    ///
    /// When `cut` completes, the attempt ends at once with what is known by then. Dropping the returned future instead
    /// loses that knowledge: the request may be out, and nobody will know.
    pub async fn send(
        &self,
        request: &Request,
        message_id: Uuid,
        fence: &Fence,
        cut: impl Future<Output = ()>,
    ) -> Attempt {
        let trace = Arc::new(Trace::start(fence.clone()));
        let deadline = trace.started() + Duration::from_millis(request.timeout_ms.into());
        let stop = pin!(async {
            tokio::select! {
                biased;
                () = cut => Stop::Cut,
                () = tokio::time::sleep_until(deadline) => Stop::Deadline,
            }
        });
        let (ending, head) = match prepare::prepare(request, message_id, &self.guard, &trace) {
            Ok(prepared) => self.exchange(prepared, &trace, fence, stop).await,
            Err(refused) => (Ending::Final(refused), None),
        };
        let progress = trace.progress();
        let timing = Timing { latency: trace.elapsed(), dns: progress.dns, connected: progress.connected, head };
        Attempt { ending, timing }
    }

    /// The ending of the exchange and, if a response head arrived, when.
    async fn exchange(
        &self,
        request: reqwest::Request,
        trace: &Arc<Trace>,
        fence: &Fence,
        mut stop: Pin<&mut impl Future<Output = Stop>>,
    ) -> (Ending, Option<Duration>) {
        let mut head = pin!(evidence::record(Arc::clone(trace), self.client.execute(request)));
        let mut fence = pin!(fence.closes());
        let mut begun = false;
        let cause = loop {
            // The fence goes before the exchange, which might otherwise take a step that it forbids. The head goes
            // before the stop: where both are there at once, the answer is not thrown away.
            tokio::select! {
                biased;
                () = &mut fence, if !begun => match trace.call_off() {
                    true => break Cause::Stopped(Stop::Cut),
                    false => begun = true,
                },
                head = &mut head => match head {
                    Ok(response) => {
                        let arrived = trace.elapsed();
                        let answer = response::read(response, stop).await;
                        return (Ending::Final(Outcome::Answered(answer)), Some(arrived));
                    }
                    Err(error) => break Cause::Fault(Fault::of(&error)),
                },
                stopped = &mut stop => break Cause::Stopped(stopped),
            }
        };
        let taken = !trace.call_off();
        (without_head(taken, trace.progress().phase, cause), None)
    }
}
