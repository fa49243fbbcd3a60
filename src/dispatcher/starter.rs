//! Starts attempts: one task for each delivery, which hands its result to the finisher.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, debug, debug_span};

use super::attempt::{Means, attempt, log_end};
use super::budget::{Share, is_small_text};
use super::claimer::Needed;
use super::finisher::PendingResult;
use super::in_flight::InFlight;
use super::lease::Registration;
use super::secrets::Ready;
use super::signing::Signing;
use super::templates::Compiled;
use super::unstarted::Unstarted;
use crate::domain::claim::Claimed;
use crate::domain::secret::Secrets;

/// What an attempt needs beside its delivery.
pub(super) struct Starter {
    /// The tasks.
    pub(super) attempts: TaskTracker,
    /// What all attempts share.
    pub(super) means: Means,
    /// Where results go.
    pub(super) results: mpsc::Sender<PendingResult>,
}

impl Starter {
    /// Starts an attempt for each delivery that was claimed under this registration, with what it needs. `texts` is the budget for the texts
    /// of large calls, if there was room.
    pub(super) fn start_all(
        &self,
        mut unstarted: Unstarted,
        needed: &Needed,
        registration: &Registration,
        mut texts: Option<Share>,
    ) {
        while let Some((claimed, in_flight)) = unstarted.next() {
            let bytes = claimed.payload.bytes();
            let text_share = texts.as_mut().filter(|_| !is_small_text(bytes)).and_then(|texts| texts.split(bytes));
            // `Templates::get` returned a template for every version, so the fallback is never used.
            let unloadable = || Ready {
                template: Arc::new(Compiled::unloadable()),
                secrets: Arc::new(Secrets::NONE),
                signing: Signing::Unsigned,
                digests: None,
            };
            let mut ready = needed.templates.get(&claimed.version).cloned().unwrap_or_else(unloadable);
            ready.signing = needed.signers.signing(&claimed);
            self.start(claimed, ready, text_share, registration, in_flight);
        }
    }

    fn start(
        &self,
        claimed: Claimed,
        ready: Ready,
        text_share: Option<Share>,
        registration: &Registration,
        mut in_flight: InFlight,
    ) {
        let (means, results, send_gate) = (self.means.clone(), self.results.clone(), registration.send_gate.clone());
        // If the log leaves this level out, no fields are made.
        let span = debug_span!(
            "attempt",
            delivery.id = %claimed.token.delivery_id(),
            action.id = claimed.version.action_id,
            dispatcher.id = registration.dispatcher_id
        );
        let attempted = async move {
            let started = Instant::now();
            debug!("the attempt begins");
            let span = means.spans.as_ref().map(|spans| Box::new(spans.begin(&claimed, in_flight.agent())));
            let traceparent = means.spans.as_ref().zip(span.as_ref()).and_then(|(spans, span)| spans.traceparent(span));
            let ended = attempt(claimed, ready, text_share, traceparent, &means, &send_gate).await;
            let (news_of, signal) = ended.news();
            let completion = ended.completion;
            log_end(&completion);
            in_flight.counts().attempted(&completion);
            in_flight.ended(news_of.as_ref(), started, signal);
            if let (Some(spans), Some(span)) = (&means.spans, span) {
                spans.end(*span, &completion, news_of);
            }
            // The finisher's queue has room for every place. Without a finisher, the loss is counted.
            results.send(PendingResult { completion, in_flight }).await.ok();
        };
        // A span that is off still costs: each poll enters it, and the future is moved once more.
        if span.is_disabled() {
            self.attempts.spawn(attempted.in_current_span());
        } else {
            self.attempts.spawn(attempted.instrument(span));
        }
    }
}
