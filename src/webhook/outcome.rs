//! What an attempt without a response head means. Pure: from evidence to ending.

use super::evidence::Phase;
use super::fault::Fault;
use crate::domain::delivery::{Doubt, Ending, Failure, Outcome};

/// The detail of a refused address, also where the URL itself names it.
pub(super) const ADDRESS_REFUSED: &str = "the host is not at a public address; --allow-target permits others";

/// What stopped an attempt from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// Its deadline passed.
    Deadline,
    /// The dispatcher cut it.
    Cut,
}

/// Why an exchange ended without a response head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// It was stopped.
    Stopped(Stop),
    /// The client gave up.
    Fault(Fault),
}

/// The ending of an attempt that saw no response head. `taken` says whether the request was handed over to be written,
/// `phase` how far a connection of its own got.
pub(super) fn without_head(taken: bool, phase: Phase, cause: Cause) -> Ending {
    match (taken, cause) {
        (true, _) => Ending::Final(unknown(cause)),
        (false, Cause::Stopped(Stop::Cut)) => Ending::Unsent,
        (false, Cause::Stopped(Stop::Deadline)) => Ending::Final(too_late(phase)),
        (false, Cause::Fault(fault)) => Ending::Final(failed(phase, fault)),
    }
}

fn unknown(cause: Cause) -> Outcome {
    let (kind, detail) = match cause {
        Cause::Stopped(Stop::Deadline) => (Doubt::Timeout, "the deadline passed before a response arrived".to_owned()),
        Cause::Stopped(Stop::Cut) => {
            (Doubt::DispatcherLost, "the dispatcher stopped before a response arrived".to_owned())
        }
        Cause::Fault(fault) if fault.not_http => (Doubt::Protocol, "what came back is not an HTTP response".to_owned()),
        Cause::Fault(fault) => (Doubt::Reset, with_io_kind("the connection ended before a response arrived", fault)),
    };
    Outcome::Unknown { kind, detail }
}

fn too_late(phase: Phase) -> Outcome {
    let (kind, detail) = match phase {
        Phase::Resolving => (Failure::Dns, "the deadline passed before the host's name was resolved".to_owned()),
        Phase::Handshaking => (Failure::Tls, "the deadline passed inside the TLS handshake".to_owned()),
        Phase::Connected => (Failure::Connect, "the deadline passed before the request could be written".to_owned()),
        Phase::Unresolved(error) => (Failure::Dns, error.to_string()),
        Phase::Blocked => (Failure::Blocked, ADDRESS_REFUSED.to_owned()),
        Phase::Idle | Phase::Connecting => {
            (Failure::Connect, "the deadline passed before a TCP connection was open".to_owned())
        }
    };
    Outcome::Failed { kind, detail }
}

/// The detail where a name's resolution ended without a reason of its own.
const NOT_RESOLVED: &str = "the host's name does not resolve";

fn failed(phase: Phase, fault: Fault) -> Outcome {
    let (kind, detail) = match phase {
        _ if fault.unusable => (Failure::Render, "the client cannot send to such a URL".to_owned()),
        Phase::Resolving => (Failure::Dns, NOT_RESOLVED.to_owned()),
        Phase::Unresolved(error) => (Failure::Dns, error.to_string()),
        Phase::Blocked => (Failure::Blocked, ADDRESS_REFUSED.to_owned()),
        Phase::Handshaking => (Failure::Tls, handshake_failed(fault)),
        Phase::Connected => {
            (Failure::Connect, with_io_kind("the connection ended before the request was written", fault))
        }
        Phase::Idle | Phase::Connecting => (Failure::Connect, with_io_kind("no TCP connection", fault)),
    };
    Outcome::Failed { kind, detail }
}

fn handshake_failed(fault: Fault) -> String {
    match fault.certificate {
        Some(reason) => format!("the server's certificate was not accepted: {reason}"),
        None => with_io_kind("the TLS handshake failed", fault),
    }
}

fn with_io_kind(sentence: &str, fault: Fault) -> String {
    match fault.io {
        Some(kind) => format!("{sentence}: {kind}"),
        None => sentence.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::webhook::names::LookUpError;

    const PHASES: [Phase; 7] = [
        Phase::Idle,
        Phase::Resolving,
        Phase::Unresolved(LookUpError::NoSuchName),
        Phase::Blocked,
        Phase::Connecting,
        Phase::Handshaking,
        Phase::Connected,
    ];

    fn causes() -> [Cause; 4] {
        let not_http = Fault { not_http: true, ..Fault::default() };
        [
            Cause::Stopped(Stop::Deadline),
            Cause::Stopped(Stop::Cut),
            Cause::Fault(Fault::default()),
            Cause::Fault(not_http),
        ]
    }

    #[test]
    fn what_was_taken_is_never_certain_and_what_was_not_taken_always_is() {
        for phase in PHASES {
            for cause in causes() {
                let taken = without_head(true, phase, cause);
                assert!(matches!(taken, Ending::Final(Outcome::Unknown { .. })), "{phase:?} {cause:?}");
                let untaken = without_head(false, phase, cause);
                assert!(
                    matches!(untaken, Ending::Unsent | Ending::Final(Outcome::Failed { .. })),
                    "{phase:?} {cause:?}"
                );
            }
        }
    }

    #[test]
    fn only_a_cut_sends_a_delivery_back_to_waiting() {
        for phase in PHASES {
            for cause in causes() {
                let unsent = without_head(false, phase, cause) == Ending::Unsent;
                assert_eq!(unsent, cause == Cause::Stopped(Stop::Cut), "{phase:?} {cause:?}");
            }
        }
    }
}
