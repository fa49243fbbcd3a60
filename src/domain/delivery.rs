//! A delivery: one call on its way to one action, and the states that it can go through.
//!
//! ```text
//! waiting ──claim──▶ sending ──2xx────────────────────────────▶ delivered
//!    ▲  │               │ ──any other response (3xx too)──────▶ rejected
//!    │  │               │ ──provably never reached anybody────▶ failed
//!    │  │               │ ──may have reached the receiver─────▶ unknown
//!    │  └──claim────────│ ──its action was disabled meanwhile─▶ skipped
//!    └──known unsent────┘
//! ```

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The state of a delivery. In the database, the first two are tables of their own; the others are final and share the
/// history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// The platform has committed it, and no dispatcher has claimed it.
    Waiting,
    /// It is claimed: the request is about to be sent, is in flight, or its result is about to be written.
    Sending,
    /// The receiver answered with 2xx.
    Delivered,
    /// The receiver answered with any other status code, redirects included.
    Rejected,
    /// It is certain that no byte of the request reached an HTTP server.
    Failed,
    /// It may have reached the receiver, and nobody can know. It is never sent again automatically.
    Unknown,
    /// No attempt was made: the action was disabled before the delivery had its turn.
    Skipped,
}

/// Why a delivery failed: how far the attempt got before it was certain that nothing would be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Failure {
    /// Call and template did not give a valid request.
    Render,
    /// The policy does not permit the target: plain http, or an address in a private range.
    Blocked,
    /// The host's name could not be resolved, or not in time.
    Dns,
    /// No TCP connection could be opened in time, or it ended before the request was written to it.
    Connect,
    /// No TLS session could be opened in time.
    Tls,
}

/// Why the outcome cannot be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum UnknownReason {
    /// The deadline passed after sending had begun.
    Timeout,
    /// The connection ended after sending had begun and before a response head arrived.
    Reset,
    /// The receiver sent something that is not an HTTP response.
    Protocol,
    /// The dispatcher was lost while the delivery was in flight.
    DispatcherLost,
}

/// How the response's body ended. It never changes the state: the response head decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BodyEnd {
    /// The body was read to its end.
    Complete,
    /// The body is longer than the limit; the rest was not read.
    Truncated,
    /// The connection ended inside the body, or the body's framing was invalid.
    Reset,
    /// The deadline passed inside the body.
    Timeout,
    /// The dispatcher was stopped while it read the body.
    Cut,
}

/// The receiver's response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status code, 100 to 999.
    pub response_code: u16,
    /// Bytes of the response body that were read.
    pub response_bytes: u64,
    /// SHA-256 of those bytes.
    pub response_sha256: [u8; 32],
    /// How the body ended.
    pub body_end: BodyEnd,
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
}

/// What a person can find out about a delivery that is `unknown`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// The receiver took it.
    Delivered,
    /// The receiver had it and refused it.
    Rejected,
    /// It never reached the receiver.
    Failed,
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
    /// The dispatcher stopped the attempt before a byte was written.
    Unsent,
}

/// The times of the steps of one attempt, each measured from the start of the attempt by a monotonic clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timing {
    /// From the start of the attempt to its end.
    pub latency: Duration,
    /// Until the name was resolved, if this attempt resolved one.
    pub dns: Option<Duration>,
    /// Until a connection that this attempt opened was ready for the request, with its TLS session. `None` with a
    /// `head` means that the attempt used a kept-alive connection.
    pub connected: Option<Duration>,
    /// Until the response head had arrived.
    pub head: Option<Duration>,
}

impl State {
    /// All states, in the order of a delivery's life.
    pub const ALL: [State; 7] = [
        State::Waiting,
        State::Sending,
        State::Delivered,
        State::Rejected,
        State::Failed,
        State::Unknown,
        State::Skipped,
    ];

    /// The state with this name, if there is one.
    pub fn named(name: &str) -> Option<State> {
        State::ALL.into_iter().find(|state| state.as_str() == name)
    }

    /// Its name, as in the database and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Waiting => "waiting",
            State::Sending => "sending",
            State::Delivered => "delivered",
            State::Rejected => "rejected",
            State::Failed => "failed",
            State::Unknown => "unknown",
            State::Skipped => "skipped",
        }
    }
}

impl Failure {
    /// All failures, ordered by how far the attempt got.
    pub const ALL: [Failure; 5] = [Failure::Render, Failure::Blocked, Failure::Dns, Failure::Connect, Failure::Tls];

    /// Its name as an error kind in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Failure::Render => "render",
            Failure::Blocked => "blocked",
            Failure::Dns => "dns",
            Failure::Connect => "connect",
            Failure::Tls => "tls",
        }
    }
}

impl UnknownReason {
    /// All reasons.
    pub const ALL: [UnknownReason; 4] =
        [UnknownReason::Timeout, UnknownReason::Reset, UnknownReason::Protocol, UnknownReason::DispatcherLost];

    /// Its name as an error kind in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            UnknownReason::Timeout => "timeout",
            UnknownReason::Reset => "reset",
            UnknownReason::Protocol => "protocol",
            UnknownReason::DispatcherLost => "dispatcher_lost",
        }
    }
}

impl BodyEnd {
    /// Its name in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            BodyEnd::Complete => "complete",
            BodyEnd::Truncated => "truncated",
            BodyEnd::Reset => "reset",
            BodyEnd::Timeout => "timeout",
            BodyEnd::Cut => "cut",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_2xx_is_delivered_and_a_redirect_is_a_rejection() {
        let state = |response_code| {
            let answer =
                Answer { response_code, response_bytes: 0, response_sha256: [0; 32], body_end: BodyEnd::Reset };
            Outcome::Answered(answer).state()
        };
        for code in [200, 204, 299] {
            assert_eq!(state(code), State::Delivered);
        }
        for code in [101, 199, 300, 302, 404, 500, 999] {
            assert_eq!(state(code), State::Rejected);
        }
    }
}
