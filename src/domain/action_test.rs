//! A test of an action: one real request that a person makes, to see what a receiver answers. It is no delivery: it is
//! recorded in a table of its own and counts nowhere else. It is sent at most once, and never again.

use super::claim::AttemptRecord;
use super::closed_set::closed_set;
use super::delivery::{Ending, Outcome, State, UnknownReason};
use super::error_kind::ErrorKind;

closed_set! {
    /// What is known about a test.
    pub enum TestState {
        /// Its request may be in flight. A test that is without a result after its time is unknown.
        Sending = "sending",
        /// The receiver answered with 2xx.
        Delivered = "delivered",
        /// The receiver answered with anything else.
        Rejected = "rejected",
        /// It is certain that nothing was sent.
        Failed = "failed",
        /// The receiver may have had the request.
        Unknown = "unknown",
        /// The test was stopped before anything was sent.
        Unsent = "unsent",
    }
}

closed_set! {
    /// Why a test failed, or why its outcome cannot be known. The names are those of history; only the last two are of tests
    /// alone, because no dispatcher has a part in a test.
    pub enum TestErrorKind {
        /// No request could be made from the action and the call.
        Render = "render",
        /// The target may not be called.
        Blocked = "blocked",
        /// The host's name was not resolved.
        Dns = "dns",
        /// There was no connection.
        Connect = "connect",
        /// The TLS handshake failed.
        Tls = "tls",
        /// The deadline passed before a response arrived.
        Timeout = "timeout",
        /// The connection ended before a response arrived.
        Reset = "reset",
        /// What came back is not an HTTP response.
        Protocol = "protocol",
        /// Somebody stopped the test before a response arrived.
        Stopped = "test_stopped",
        /// No result was recorded: the process that made the test ended.
        Lost = "test_lost",
    }
}

impl TestErrorKind {
    /// The state of the tests that can have it.
    pub fn state(self) -> TestState {
        match self {
            TestErrorKind::Render
            | TestErrorKind::Blocked
            | TestErrorKind::Dns
            | TestErrorKind::Connect
            | TestErrorKind::Tls => TestState::Failed,
            TestErrorKind::Timeout
            | TestErrorKind::Reset
            | TestErrorKind::Protocol
            | TestErrorKind::Stopped
            | TestErrorKind::Lost => TestState::Unknown,
        }
    }
}

closed_set! {
    /// Where the call of a test comes from.
    pub enum CallSource {
        /// The documented sample, which is a part of the program.
        Sample = "sample",
        /// A file, or text that a person gave.
        File = "file",
        /// A past call in the outbox.
        Outbox = "outbox",
    }
}

/// How a test ended.
#[derive(Debug)]
pub struct TestResult {
    /// The outcome, or that nothing was sent.
    pub ending: Ending,
    /// What was sent, and how long the steps took.
    pub record: AttemptRecord,
}

/// What is said about a request that was stopped in flight.
const STOPPED: &str = "the test was stopped before a response arrived";

impl TestResult {
    /// The state in which the test has ended. A test never skips a disabled action, so such an outcome counts as unsent.
    pub fn state(&self) -> TestState {
        match &self.ending {
            Ending::Unsent => TestState::Unsent,
            Ending::Final(outcome) => match outcome.state() {
                State::Delivered => TestState::Delivered,
                State::Rejected => TestState::Rejected,
                State::Failed => TestState::Failed,
                State::Unknown => TestState::Unknown,
                State::Skipped | State::Waiting | State::Sending => TestState::Unsent,
            },
        }
    }

    /// The error kind that is recorded with it.
    pub fn error_kind(&self) -> Option<TestErrorKind> {
        let Ending::Final(outcome) = &self.ending else { return None };
        match outcome.error_kind()? {
            ErrorKind::Unknown(UnknownReason::DispatcherLost) => Some(TestErrorKind::Stopped),
            kind => TestErrorKind::named(kind.as_str()),
        }
    }

    /// What happened, for people.
    pub fn error_detail(&self) -> Option<&str> {
        let Ending::Final(outcome) = &self.ending else { return None };
        match outcome {
            Outcome::Unknown { kind: UnknownReason::DispatcherLost, .. } => Some(STOPPED),
            Outcome::Failed { detail, .. } | Outcome::Unknown { detail, .. } => Some(detail),
            Outcome::Answered(_) | Outcome::Skipped => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_of_an_attempt_has_a_name_among_those_of_tests() {
        for kind in ErrorKind::ALL {
            let detail = "d".to_owned();
            let outcome = match kind {
                ErrorKind::Failure(kind) => Outcome::Failed { kind, detail },
                ErrorKind::Unknown(kind) => Outcome::Unknown { kind, detail },
            };
            let result = TestResult { ending: Ending::Final(outcome), record: AttemptRecord::default() };
            let expected = if kind.as_str() == "dispatcher_lost" { "test_stopped" } else { kind.as_str() };
            assert_eq!(result.error_kind().map(TestErrorKind::as_str), Some(expected));
            let told = if kind.as_str() == "dispatcher_lost" { STOPPED } else { "d" };
            assert_eq!(result.error_detail(), Some(told), "{kind}");
            assert_eq!(result.state().as_str(), kind.state().as_str());
            assert_eq!(result.error_kind().map(TestErrorKind::state), Some(result.state()));
        }
    }
}
