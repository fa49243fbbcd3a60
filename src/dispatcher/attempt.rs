//! Takes one claimed delivery from its call and its template to an ending. This module never uses the database.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error};
use uuid::Uuid;

use super::budget::{Budget, Share};
use super::rendering::{Rendered, failed, render};
use super::secrets::Ready;
use super::signing::Signing;
use crate::domain::claim::{AttemptRecord, Claimed, Completion, Finished};
use crate::domain::delivery::{Ending, Failure, Outcome, State, UnknownReason};
use crate::domain::host::Origin;
use crate::domain::signature::unsigned;
use crate::scheduler::Signal;
use crate::spans::Spans;
use crate::webhook::{SendGate, Webhook};

/// What all attempts of one dispatcher share.
#[derive(Clone)]
pub(super) struct Means {
    /// The HTTP client.
    pub(super) webhook: Arc<Webhook>,
    /// The budgets for the bytes of texts and bodies.
    pub(super) budget: Arc<Budget>,
    /// Ends all attempts early when it is cancelled.
    pub(super) cut: CancellationToken,
    /// Where the spans of deliveries go, if they are exported.
    pub(super) spans: Option<Spans>,
}

/// The header by which a receiver's spans become part of the delivery's trace (W3C Trace Context).
const TRACEPARENT: &str = "traceparent";

/// What has become of a claimed delivery.
pub(super) struct Ended {
    /// What is to be recorded.
    pub(super) completion: Completion,
    /// The host to which the egress proxy let nothing pass, so that the delivery is unsent.
    pub(super) kept_from: Option<Origin>,
    /// Whether the certificate that the action shows has failed, which says nothing about the host.
    pub(super) certificate_failed: bool,
}

impl Ended {
    /// What this says about which host.
    pub(super) fn news(&self) -> (Option<Origin>, Signal) {
        match &self.kept_from {
            // Nothing will reach it before the proxy does, as a probe finds out. So it is held as an unreachable host is.
            Some(host) => (Some(host.clone()), Signal::Unreached(Failure::Connect)),
            None if self.certificate_failed => (host(&self.completion), Signal::Nothing),
            None => (host(&self.completion), signal(&self.completion)),
        }
    }
}

impl From<Completion> for Ended {
    fn from(completion: Completion) -> Ended {
        Ended { completion, kept_from: None, certificate_failed: false }
    }
}

/// Attempts a claimed delivery and settles it. The attempt does not begin while `send_gate` is closed. `text_share` is the
/// share of the budget that the text of a large call holds. `traceparent` is sent unless the author of the action has set that header.
pub(super) async fn attempt(
    claimed: Claimed,
    ready: Ready,
    text_share: Option<Share>,
    traceparent: Option<String>,
    means: &Means,
    send_gate: &SendGate,
) -> Ended {
    let Claimed { token, message_id, enabled, payload, .. } = claimed;
    if !enabled {
        return token.complete(Ending::Final(Outcome::Skipped), AttemptRecord::default()).into();
    }
    match &ready.signing {
        Signing::Unopened(absence) => {
            return token.complete(failed(unsigned(*absence).to_string()), AttemptRecord::default()).into();
        }
        Signing::Outdated => return token.complete(Ending::Unsent, AttemptRecord::default()).into(),
        Signing::Unsigned | Signing::Signed(..) => {}
    }
    let secrets = Arc::clone(&ready.secrets);
    match render(payload, text_share, ready, &means.budget, send_gate, &means.cut).await {
        Ok(mut rendered) => {
            if let Some(traceparent) = traceparent {
                add_traceparent(&mut rendered.request.headers, traceparent);
            }
            let sent = send(rendered, message_id, means, send_gate).await;
            let Sent { mut ending, record, kept_from, certificate_failed } = sent;
            if let Ending::Final(Outcome::Answered(answer)) = &mut ending
                && let Some(excerpt) = &mut answer.excerpt
            {
                excerpt.mask(&secrets);
            }
            Ended { completion: token.complete(ending, record), kept_from, certificate_failed }
        }
        Err(ending) => token.complete(ending, AttemptRecord::default()).into(),
    }
}

/// Adds the header, unless there is one. The names of headers are in lower case.
fn add_traceparent(headers: &mut Vec<(String, String)>, value: String) {
    if !headers.iter().any(|(name, _)| name == TRACEPARENT) {
        headers.push((TRACEPARENT.to_owned(), value));
    }
}

/// What the result of an attempt says about its host.
fn signal(completion: &Completion) -> Signal {
    let Completion::Finished(Finished { outcome, .. }) = completion else { return Signal::Nothing };
    match outcome {
        Outcome::Answered(_) => Signal::Answered,
        Outcome::Unknown { kind: UnknownReason::Timeout, .. } => Signal::TimedOut,
        Outcome::Unknown { kind: UnknownReason::Reset | UnknownReason::Protocol, .. } => Signal::Reached,
        Outcome::Failed { kind: kind @ (Failure::Dns | Failure::Connect | Failure::Tls), .. } => {
            Signal::Unreached(*kind)
        }
        Outcome::Failed { kind: Failure::Render | Failure::Blocked, .. } => Signal::Nothing,
        Outcome::Unknown { kind: UnknownReason::DispatcherLost, .. } | Outcome::Skipped => Signal::Nothing,
    }
}

/// Logs how an attempt has ended, within its span.
pub(super) fn log_end(completion: &Completion) {
    let state = match completion {
        Completion::Finished(Finished { outcome, .. }) => outcome.state(),
        Completion::Unsent(_) => State::Waiting,
    };
    debug!(%state, "the attempt has ended");
}

/// The host that the request went to, or was about to go to. The URL of the claimed version decides this. The scheduler
/// may have known an older version of the action when it gave the place.
pub(super) fn host(completion: &Completion) -> Option<Origin> {
    let Completion::Finished(Finished { record, .. }) = completion else { return None };
    Origin::of_url(&record.sent.as_ref()?.url)
}

/// How sending ended.
struct Sent {
    ending: Ending,
    record: AttemptRecord,
    kept_from: Option<Origin>,
    certificate_failed: bool,
}

/// Sends the request. If a defect of postcall panics here, the delivery must still get an ending. The request may
/// already be in flight then, so the outcome is unknown.
async fn send(rendered: Rendered, message_id: Uuid, means: &Means, send_gate: &SendGate) -> Sent {
    // The body holds its share of the budget until both are dropped at the end.
    let Rendered { request, sent, body_share: _body_share } = rendered;
    let sending = means.webhook.send(&request, message_id, send_gate, means.cut.cancelled());
    let Ok(attempt) = AssertUnwindSafe(sending).catch_unwind().await else {
        error!(message.id = %message_id, "sending a request panicked; its delivery is recorded as unknown");
        let detail = "an internal error ended the attempt; it is not known whether the request was sent".to_owned();
        let outcome = Outcome::Unknown { kind: UnknownReason::DispatcherLost, detail };
        let (ending, record) = (Ending::Final(outcome), AttemptRecord { sent: Some(sent), timing: None });
        return Sent { ending, record, kept_from: None, certificate_failed: false };
    };
    let kept_from = attempt.kept_by_proxy.then(|| Origin::of_url(&request.url)).flatten();
    // The client, too, may find that the request cannot be sent. Then nothing was attempted, and there is no latency.
    let attempted = !matches!(attempt.ending, Ending::Final(Outcome::Failed { kind: Failure::Render, .. }));
    let timing = attempted.then_some(attempt.timing);
    let record = AttemptRecord { sent: Some(sent), timing };
    let mut ending = attempt.ending;
    if let Ending::Final(Outcome::Answered(answer)) = &mut ending
        && let Some(excerpt) = &mut answer.excerpt
    {
        excerpt.mask_typed(&request);
    }
    Sent { ending, record, kept_from, certificate_failed: attempt.certificate_failed }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::action::Method;
    use crate::domain::claim::{ClaimToken, SentRequest};

    /// An attempt at this URL that has ended so.
    fn ended(url: &str, outcome: Outcome) -> Ended {
        let sent = SentRequest {
            method: Method::Post,
            url: url.to_owned(),
            body_bytes: None,
            body_digest: None,
            head_digest: None,
            unresolved: Vec::new(),
        };
        let record = AttemptRecord { sent: Some(sent), timing: None };
        ClaimToken::new(Uuid::nil(), Uuid::nil()).complete(Ending::Final(outcome), record).into()
    }

    #[test]
    fn an_attempt_says_of_the_host_of_its_url_what_became_of_it_unless_a_certificate_or_the_proxy_kept_it_from_that_host()
     {
        let (host, proxied) = ["https://a.example/x", "https://b.example/"].map(Origin::of_url).into();
        let refused = || Outcome::Failed { kind: Failure::Tls, detail: String::new() };
        let of = |outcome| ended("https://a.example/x", outcome).news();
        assert_eq!(of(Outcome::answered(500)), (host.clone(), Signal::Answered));
        assert_eq!(of(refused()), (host.clone(), Signal::Unreached(Failure::Tls)));
        let of_certificate = Ended { certificate_failed: true, ..ended("https://a.example/x", refused()) };
        assert_eq!(of_certificate.news(), (host, Signal::Nothing));
        let kept = Ended { kept_from: proxied.clone(), ..ended("https://a.example/x", refused()) };
        assert_eq!(kept.news(), (proxied, Signal::Unreached(Failure::Connect)));
    }

    #[test]
    fn the_trace_is_told_unless_the_author_has_set_that_header() {
        let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let mut headers = vec![header("x", "1")];
        add_traceparent(&mut headers, "ours".to_owned());
        assert_eq!(headers, [header("x", "1"), header(TRACEPARENT, "ours")]);
        add_traceparent(&mut headers, "another".to_owned());
        assert_eq!(headers, [header("x", "1"), header(TRACEPARENT, "ours")], "that it has stays");
    }
}
