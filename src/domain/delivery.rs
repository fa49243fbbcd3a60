//! A delivery: one call on its way to one action, and the states that it can go through.
//!
//! ```text
//! waiting ──claim──▶ sending ──2xx────────────────────────────▶ delivered
//!    ▲                  │ ──any other response (3xx too)──────▶ rejected
//!    │                  │ ──provably never reached anybody────▶ failed
//!    │                  │ ──may have reached the receiver─────▶ unknown
//!    │                  │ ──its action was disabled meanwhile─▶ skipped
//!    └──known unsent────┘
//! ```

use std::time::Duration;

use super::body_digest::BodyDigest;
use super::closed_set::closed_set;
use super::error_kind::ErrorKind;
use super::excerpt::Excerpt;

closed_set! {
    /// The state of a delivery. In the database, the first two are tables of their own; the others are final and share the
    /// history.
    pub enum State {
        /// The platform has committed it, and no dispatcher has claimed it, or the claim was revoked (arrow `revoke`).
        Waiting = "waiting",
        /// It is claimed: the request is about to be sent, is in flight, or its result is about to be written.
        Sending = "sending",
        /// The receiver answered with 2xx.
        Delivered = "delivered",
        /// The receiver answered with any other status code, redirects included.
        Rejected = "rejected",
        /// It is certain that no byte of the request reached an HTTP server.
        Failed = "failed",
        /// It may have reached the receiver, and nobody can know. It is never sent again automatically.
        Unknown = "unknown",
        /// No attempt was made: the action was disabled before the delivery had its turn.
        Skipped = "skipped",
    }
}

closed_set! {
    /// Why a delivery failed: how far the attempt got before it was certain that nothing would be sent.
    pub enum Failure {
        /// Call and template did not give a valid request.
        Render = "render",
        /// The policy does not permit the target: plain http, or an address in a private range.
        Blocked = "blocked",
        /// The host's name could not be looked up, or not in time.
        Dns = "dns",
        /// No TCP connection could be opened in time, or it ended before the request was written to it.
        Connect = "connect",
        /// No TLS session could be opened in time.
        Tls = "tls",
    }
}

closed_set! {
    /// Why the outcome cannot be known.
    pub enum UnknownReason {
        /// The deadline passed after sending had begun.
        Timeout = "timeout",
        /// The connection ended after sending had begun and before a response head arrived.
        Reset = "reset",
        /// The receiver sent something that is not an HTTP response.
        Protocol = "protocol",
        /// The dispatcher was lost while the delivery was in flight (arrow `give_up`).
        DispatcherLost = "dispatcher_lost",
    }
}

closed_set! {
    /// How the response's body ended. It never changes the state: the response head decides.
    pub enum BodyEnd {
        /// The body was read to its end.
        Complete = "complete",
        /// The body is longer than the limit; the rest was not read.
        Truncated = "truncated",
        /// The connection ended inside the body, or the body's framing was invalid.
        Reset = "reset",
        /// The deadline passed inside the body.
        Timeout = "timeout",
        /// The dispatcher was stopped while it read the body.
        Cut = "cut",
    }
}

/// The receiver's response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status code, 100 to 999.
    pub response_code: u16,
    /// Bytes of the response body that were read.
    pub response_bytes: u64,
    /// The digest of those bytes.
    pub response_digest: BodyDigest,
    /// How the body ended.
    pub body_end: BodyEnd,
    /// The beginning and the end of the body, if they are to be kept.
    pub excerpt: Option<Box<Excerpt>>,
}

/// What is known after the attempt. Details are sentences that may be stored and logged: they contain no personal data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A response head arrived.
    Answered(Answer),
    /// It is certain that nothing was sent.
    Failed {
        /// How far the attempt got.
        kind: Failure,
        /// What happened, for people.
        detail: String,
    },
    /// Something may have been sent.
    Unknown {
        /// Why it cannot be known.
        kind: UnknownReason,
        /// What happened, for people.
        detail: String,
    },
    /// The action was disabled.
    Skipped,
}

impl Outcome {
    /// The final state this outcome is recorded as.
    pub fn state(&self) -> State {
        match self {
            Outcome::Answered(answer) if (200..300).contains(&answer.response_code) => State::Delivered,
            Outcome::Answered(_) => State::Rejected,
            Outcome::Failed { .. } => State::Failed,
            Outcome::Unknown { .. } => State::Unknown,
            Outcome::Skipped => State::Skipped,
        }
    }

    /// The error kind that is recorded with it; `None` if it is no error.
    pub fn error_kind(&self) -> Option<ErrorKind> {
        match self {
            Outcome::Failed { kind, .. } => Some(ErrorKind::Failure(*kind)),
            Outcome::Unknown { kind, .. } => Some(ErrorKind::Unknown(*kind)),
            Outcome::Answered(_) | Outcome::Skipped => None,
        }
    }
}

#[cfg(test)]
impl Outcome {
    /// A response with this code and an empty body.
    pub(crate) fn answered(response_code: u16) -> Outcome {
        let (response_bytes, response_digest, body_end) = (0, BodyDigest::Plain([0; 32]), BodyEnd::Complete);
        Outcome::Answered(Answer { response_code, response_bytes, response_digest, body_end, excerpt: None })
    }
}

closed_set! {
    /// Who learnt later what had become of a delivery that is recorded as `unknown`.
    pub enum ResolutionSource {
        /// The claim under which it was sent: its own result, which came late (arrow `evidence`), or that it was never sent,
        /// of one delivery (arrow `unsent`) or of all of a claim whose answer was lost (arrow `unsent_claim`).
        Claim = "claim",
        /// A person: a [`Finding`] (arrow `resolve`).
        Person = "person",
    }
}

closed_set! {
    /// What a person can find out about a delivery that is `unknown`.
    pub enum Finding {
        /// The receiver took it.
        Delivered = "delivered",
        /// The receiver had it and refused it.
        Rejected = "rejected",
        /// It never reached the receiver.
        Failed = "failed",
    }
}

impl Finding {
    /// The state that this finding gives the delivery.
    pub fn state(self) -> State {
        match self {
            Finding::Delivered => State::Delivered,
            Finding::Rejected => State::Rejected,
            Finding::Failed => State::Failed,
        }
    }
}

/// How an attempt ended: with an outcome for history, or before anything was sent, so that the delivery goes back to
/// waiting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The outcome goes into history.
    Final(Outcome),
    /// The attempt ended before a byte was written: the dispatcher stopped it, the limit of new connections to its
    /// target sent it away, or the egress proxy let nothing pass.
    Unsent,
}

/// The times of the steps of one attempt, each measured from the start of the attempt by a monotonic clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timing {
    /// From the start of the attempt to its end.
    pub latency: Duration,
    /// Until the name was looked up, if this attempt looked one up.
    pub dns: Option<Duration>,
    /// Until a connection that this attempt opened was ready for the request, with its TLS session. `None` with a
    /// `head` means that the attempt used a kept-alive connection.
    pub connected: Option<Duration>,
    /// Until the response head had arrived.
    pub head: Option<Duration>,
}

impl State {
    /// Whether a delivery in this state has ended.
    pub fn is_final(self) -> bool {
        match self {
            State::Waiting | State::Sending => false,
            State::Delivered | State::Rejected | State::Failed | State::Unknown | State::Skipped => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fmt;

    use serde::Serialize;

    use super::*;

    #[test]
    fn only_2xx_is_delivered_and_a_redirect_is_a_rejection() {
        let state = |response_code| {
            let answer = Answer {
                response_code,
                response_bytes: 0,
                response_digest: BodyDigest::Plain([0; 32]),
                body_end: BodyEnd::Reset,
                excerpt: None,
            };
            Outcome::Answered(answer).state()
        };
        for code in [200, 204, 299] {
            assert_eq!(state(code), State::Delivered);
        }
        for code in [101, 199, 300, 302, 404, 500, 999] {
            assert_eq!(state(code), State::Rejected);
        }
    }

    #[test]
    fn a_finding_has_the_name_of_the_state_that_it_gives() {
        for finding in Finding::ALL {
            assert_eq!(finding.as_str(), finding.state().as_str());
        }
    }

    #[test]
    fn a_name_stands_for_one_value_and_programs_read_the_same_name() {
        fn holds<T: Copy + fmt::Debug + PartialEq + Serialize>(
            all: &[T],
            name: fn(T) -> &'static str,
            named: fn(&str) -> Option<T>,
        ) {
            for value in all {
                assert_eq!(named(name(*value)), Some(*value));
                assert_eq!(serde_json::to_value(value).unwrap(), name(*value));
            }
            assert_eq!(named("oops"), None);
        }
        holds(&State::ALL, State::as_str, State::named);
        holds(&ErrorKind::ALL, ErrorKind::as_str, ErrorKind::named);
        assert!(ErrorKind::ALL.iter().all(|kind| kind.to_string() == kind.as_str()));
        holds(&BodyEnd::ALL, BodyEnd::as_str, BodyEnd::named);
        holds(&ResolutionSource::ALL, ResolutionSource::as_str, ResolutionSource::named);
    }

    #[test]
    fn a_delivery_has_ended_when_it_neither_waits_nor_is_being_sent() {
        let open: Vec<State> = State::ALL.into_iter().filter(|state| !state.is_final()).collect();
        assert_eq!(open, [State::Waiting, State::Sending]);
    }
}
