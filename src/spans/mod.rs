//! Spans of deliveries, for the operator's tracing system, by OTLP over HTTP (`--otlp-endpoint`).
//!
//! ```text
//! dispatcher ──begins, ends──▶ Spans ──bounded queue──▶ exporter, on a thread of its own ──▶ collector
//!                                └─ is the queue full? the span is dropped, and counted
//! ```
//!
//! A span is made from the completion of an attempt, after it has ended: the same facts that are recorded in history. There is
//! no span that is open while a request is in flight.
//!
//! What must not break:
//! - A collector cannot disturb a delivery. A span is put into the queue without waiting. Everything else happens on one thread
//!   with a runtime of its own, whose sockets, tasks and look-ups of names no delivery shares.
//! - A span has names of closed sets, numbers, ids, the agent's name, and the host and port that a URL names. It has no path, no
//!   query, no header, no body and nothing else of a call. So nothing personal can be in it.
//! - The collector is the operator's choice. Its address does not pass the guard of targets, and is no setting of a customer.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use uuid::Uuid;

use crate::domain::claim::{Claimed, Completion, Finished, VersionKey};
use crate::domain::delivery::Outcome;
use crate::domain::host::Origin;
use crate::metrics::Counters;

mod collector;
mod ended;
mod endpoint;
mod exporter;

use ended::EndedDelivery;
pub use endpoint::{Endpoint, NotAnEndpoint};
pub use exporter::{Exporter, ExporterError, LAST_SPANS, SpanSettings, start};

/// How many spans wait for the exporter at most. One more is dropped.
pub const MOST_WAITING: usize = 4_096;

/// Where a dispatcher puts its spans. All clones are the same.
#[derive(Clone)]
pub struct Spans {
    queue: mpsc::Sender<EndedDelivery>,
    /// Spans in the queue or on their way.
    pending: Arc<AtomicUsize>,
    counters: Arc<Counters>,
    send_traceparent: bool,
}

impl Spans {
    /// The span of a delivery whose attempt is about to begin. `agent` is the agent of its action.
    pub fn begin(&self, claimed: &Claimed, agent: Option<Arc<str>>) -> BegunSpan {
        BegunSpan {
            ids: SpanIds::draw(),
            delivery_id: claimed.token.delivery_id(),
            message_id: claimed.message_id,
            version: claimed.version,
            waited: claimed.waited,
            agent,
            began: Instant::now(),
        }
    }

    /// The value of the header `traceparent` for the request of this delivery, if it is to be sent.
    pub fn traceparent(&self, span: &BegunSpan) -> Option<String> {
        self.send_traceparent.then(|| span.ids.traceparent())
    }

    /// Notes that the attempt of this delivery has ended. `target` is where its request went, or was about to go. If nothing was sent
    /// and the delivery waits again, it gets its span later.
    pub fn end(&self, span: BegunSpan, completion: &Completion, target: Option<Origin>) {
        let Completion::Finished(Finished { outcome, record, .. }) = completion else { return };
        let lasted = record.timing.map_or_else(|| span.began.elapsed(), |timing| timing.latency);
        self.pending.fetch_add(1, Ordering::AcqRel);
        let ended = EndedDelivery {
            ended: now(),
            lasted,
            target,
            method: record.sent.as_ref().map(|sent| sent.method),
            state: outcome.state(),
            error_kind: outcome.error_kind(),
            response_code: match outcome {
                Outcome::Answered(answer) => Some(answer.response_code),
                Outcome::Failed { .. } | Outcome::Unknown { .. } | Outcome::Skipped => None,
            },
            timing: record.timing,
            begun: span,
        };
        if let Err(TrySendError::Full(_) | TrySendError::Closed(_)) = self.queue.try_send(ended) {
            self.pending.fetch_sub(1, Ordering::AcqRel);
            self.counters.spans_dropped(1);
        }
    }
}

impl fmt::Debug for Spans {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spans").field("send_traceparent", &self.send_traceparent).finish_non_exhaustive()
    }
}

/// What is known of a delivery before its attempt, for its span.
#[derive(Debug)]
pub struct BegunSpan {
    ids: SpanIds,
    delivery_id: Uuid,
    message_id: Uuid,
    version: VersionKey,
    waited: Duration,
    agent: Option<Arc<str>>,
    began: Instant,
}

/// The ids of a span and of its trace (W3C Trace Context). Each delivery is a trace of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct SpanIds {
    trace: u128,
    span: u64,
}

impl SpanIds {
    /// Random ids. Zero is not valid.
    fn draw() -> SpanIds {
        SpanIds { trace: fastrand::u128(1..), span: fastrand::u64(1..) }
    }

    /// The header's value: version 00, and the flag that the span is kept.
    fn traceparent(self) -> String {
        format!("00-{:032x}-{:016x}-01", self.trace, self.span)
    }
}

/// This machine's time. Nothing is decided by it.
#[expect(
    clippy::disallowed_methods,
    reason = "a tracing system orders spans of many programs by their machines' clocks"
)]
fn now() -> SystemTime {
    SystemTime::now()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::claim::{AttemptRecord, ClaimToken, Payload};
    use crate::domain::delivery::Ending;

    #[test]
    fn a_traceparent_has_the_form_of_its_standard_whatever_the_ids_are() {
        let least = SpanIds { trace: 1, span: 1 };
        assert_eq!(least.traceparent(), format!("00-{}1-{}1-01", "0".repeat(31), "0".repeat(15)));
        let most = SpanIds { trace: u128::MAX, span: u64::MAX };
        assert_eq!(most.traceparent(), format!("00-{}-{}-01", "f".repeat(32), "f".repeat(16)));
        assert_ne!(SpanIds::draw(), SpanIds::draw());
    }

    #[test]
    fn a_span_that_finds_the_queue_full_is_dropped_at_once_and_counted() {
        let (queue, mut inbox) = mpsc::channel(1);
        let (pending, counters) = (Arc::default(), Arc::new(Counters::default()));
        let spans = Spans { queue, pending, counters, send_traceparent: false };
        let end = || {
            let token = ClaimToken::new(Uuid::nil(), Uuid::nil());
            let (version, payload) = (VersionKey { action_id: 1, version: 1 }, Payload::Gone);
            let (message_id, enabled, waited) = (Uuid::nil(), true, Duration::ZERO);
            let claimed = Claimed { token, message_id, version, enabled, waited, payload, signing: None };
            let span = spans.begin(&claimed, None);
            let ending = Ending::Final(Outcome::answered(200));
            spans.end(span, &claimed.token.complete(ending, AttemptRecord::default()), None);
            (spans.pending.load(Ordering::Acquire), spans.counters.totals().spans_dropped)
        };
        assert_eq!(end(), (1, 0));
        assert_eq!(end(), (1, 1));
        assert!(inbox.try_recv().is_ok());
        drop(inbox);
        assert_eq!(end(), (1, 2), "nor is anything kept for an exporter that has ended");
    }
}
