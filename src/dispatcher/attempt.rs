//! One claimed delivery: from its call and its template to an ending. Never touches the database.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error};
use uuid::Uuid;

use super::budget::{Budget, Share};
use super::prepare::{Prepared, prepare};
use super::templates::Template;
use crate::domain::claim::{AttemptRecord, Claimed, Completion, Finished};
use crate::domain::delivery::{Ending, Failure, Outcome, State, UnknownReason};
use crate::domain::host::Origin;
use crate::scheduler::Signal;
use crate::webhook::{Fence, Webhook};

/// What all attempts of a dispatcher share.
#[derive(Clone)]
pub(super) struct Means {
    /// The HTTP client.
    pub(super) webhook: Arc<Webhook>,
    /// The bytes that may be held.
    pub(super) budget: Arc<Budget>,
    /// Ends attempts early.
    pub(super) cut: CancellationToken,
}

/// Attempts a claimed delivery and settles it. Behind a closed `fence` it does not begin. `text_share` is what a large
/// call's text takes of the budget.
pub(super) async fn attempt(
    claimed: Claimed,
    template: Template,
    text_share: Option<Share>,
    means: &Means,
    fence: &Fence,
) -> Completion {
    let Claimed { token, message_id, enabled, payload, .. } = claimed;
    if !enabled {
        return token.complete(Ending::Final(Outcome::Skipped), AttemptRecord::default());
    }
    match prepare(payload, text_share, template, &means.budget, fence, &means.cut).await {
        Ok(prepared) => {
            let (ending, record) = send(prepared, message_id, means, fence).await;
            token.complete(ending, record)
        }
        Err(ending) => token.complete(ending, AttemptRecord::default()),
    }
}

/// What a result says about the host.
pub(super) fn signal(completion: &Completion) -> Signal {
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

/// Where the request went, or was about to go: as the version says that was claimed, whatever the scheduler knew of the
/// action when it gave the place.
pub(super) fn host(completion: &Completion) -> Option<Origin> {
    let Completion::Finished(Finished { record, .. }) = completion else { return None };
    Origin::of_url(&record.sent.as_ref()?.url)
}

/// Sends the request. A defect of ours that panics must not leave the delivery without an end; it may have happened with
/// the request on its way, so it is a doubt.
async fn send(prepared: Prepared, message_id: Uuid, means: &Means, fence: &Fence) -> (Ending, AttemptRecord) {
    // The share goes with the body: both are dropped at the end.
    let Prepared { request, sent, body_share: _body_share } = prepared;
    let sending = means.webhook.send(&request, message_id, fence, means.cut.cancelled());
    let Ok(attempt) = AssertUnwindSafe(sending).catch_unwind().await else {
        error!(message.id = %message_id, "sending a request panicked; its delivery is recorded as unknown");
        let detail = "an internal error ended the attempt; nobody knows how far it came".to_owned();
        let outcome = Outcome::Unknown { kind: UnknownReason::DispatcherLost, detail };
        return (Ending::Final(outcome), AttemptRecord { sent: Some(sent), timing: None });
    };
    // The client, too, may find that there is nothing to send: then nothing was attempted that could have a latency.
    let attempted = !matches!(attempt.ending, Ending::Final(Outcome::Failed { kind: Failure::Render, .. }));
    let timing = attempted.then_some(attempt.timing);
    (attempt.ending, AttemptRecord { sent: Some(sent), timing })
}
