//! Judges an attempt without a response head: from its evidence to its ending. The functions here are pure.

use super::client::NoHead;
use super::connect::NoConnection;
use super::connection::Broken;
use super::evidence::Phase;
use super::fault::{Fault, WANTS_CERTIFICATE};
use super::watched_stream::Unusable;
use crate::domain::delivery::{Ending, Failure, Outcome, UnknownReason};

/// What stopped an attempt from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StopReason {
    /// Its deadline passed.
    Deadline,
    /// The dispatcher cut it.
    Cut,
}

/// Why an exchange ended without a response head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// It was stopped.
    Stopped(StopReason),
    /// There was no connection, or it ended.
    NoHead(NoHead),
}

/// The ending of an attempt that saw no response head. `taken` says whether bytes of the request may have been sent.
/// `phase` says how far the attempt came in opening a connection of its own.
pub(super) fn without_head(taken: bool, phase: Phase, cause: Cause) -> Ending {
    match (taken, cause) {
        (true, cause) => Ending::Final(unknown(&cause)),
        (false, Cause::Stopped(StopReason::Cut)) => Ending::Unsent,
        (false, Cause::Stopped(StopReason::Deadline)) => Ending::Final(too_late(phase)),
        (false, Cause::NoHead(NoHead::NoConnection(reason))) => Ending::Final(not_connected(reason)),
        // A closed send gate ends an attempt in the same way as the dispatcher's `cut`.
        (false, Cause::NoHead(NoHead::Broken(Broken { unusable: Some(Unusable::GateClosed), .. }))) => Ending::Unsent,
        (false, Cause::NoHead(NoHead::Broken(broken))) => Ending::Final(not_written(broken)),
    }
}

/// Whether the egress proxy is what kept the attempt from being made, and would keep every other as well. What it does about
/// one target only, or may do, is not meant.
pub(super) fn is_of_the_proxy(taken: bool, phase: Phase, cause: &Cause) -> bool {
    !taken
        && match cause {
            Cause::Stopped(StopReason::Deadline) => phase == Phase::ReachingProxy,
            Cause::NoHead(NoHead::NoConnection(NoConnection::NoTunnel(reason))) => reason.is_of_the_proxy(),
            Cause::Stopped(StopReason::Cut) | Cause::NoHead(_) => false,
        }
}

fn unknown(cause: &Cause) -> Outcome {
    let reset = |fault| (UnknownReason::Reset, ended_before_a_response(fault));
    let (kind, detail) = match cause {
        Cause::Stopped(StopReason::Deadline) => {
            (UnknownReason::Timeout, "the deadline passed before a response arrived".to_owned())
        }
        Cause::Stopped(StopReason::Cut) => {
            (UnknownReason::DispatcherLost, "the dispatcher stopped before a response arrived".to_owned())
        }
        Cause::NoHead(NoHead::Broken(Broken { unusable: Some(Unusable::Excess), .. })) => {
            (UnknownReason::Protocol, EXCESS.to_owned())
        }
        Cause::NoHead(NoHead::Broken(Broken { fault, .. })) if fault.not_http => {
            (UnknownReason::Protocol, "what came back is not an HTTP response".to_owned())
        }
        Cause::NoHead(NoHead::Broken(Broken { fault, .. })) => reset(fault),
        // This cannot happen, because no request is written without a connection.
        Cause::NoHead(NoHead::NoConnection(_)) => reset(&Fault::default()),
    };
    Outcome::Unknown { kind, detail }
}

const EXCESS: &str = "the head of the response is too long, or too many interim responses came before it";

fn too_late(phase: Phase) -> Outcome {
    let (kind, detail) = match phase {
        Phase::LookingUp => (Failure::Dns, "the deadline passed before the host's name was resolved"),
        Phase::Handshaking => (Failure::Tls, "the deadline passed inside the TLS handshake"),
        Phase::ReachingProxy => (Failure::Connect, "the deadline passed before the egress proxy was reached"),
        Phase::Tunnelling => (
            Failure::Connect,
            "the deadline passed before the egress proxy had answered; it, or the host behind it, is silent",
        ),
        Phase::Connected => (Failure::Connect, "the deadline passed before the request could be written"),
        Phase::Idle | Phase::Connecting => (Failure::Connect, "the deadline passed before a TCP connection was open"),
    };
    Outcome::Failed { kind, detail: detail.to_owned() }
}

fn not_connected(reason: NoConnection) -> Outcome {
    let (kind, detail) = match reason {
        NoConnection::Unresolved(reason) => (Failure::Dns, reason),
        NoConnection::Blocked(refusal) => (Failure::Blocked, refusal.detail()),
        NoConnection::Tcp(fault) => (Failure::Connect, with_io_kind("no TCP connection", &fault)),
        NoConnection::NoTunnel(reason) => (Failure::Connect, reason.detail()),
        NoConnection::Tls(fault) => (Failure::Tls, handshake_failed(&fault)),
    };
    Outcome::Failed { kind, detail }
}

fn not_written(broken: Broken) -> Outcome {
    let detail = match broken.unusable {
        Some(Unusable::SpokeFirst) => "the host spoke first, as no HTTP server does; nothing was written".to_owned(),
        _ => with_io_kind("the connection ended before the request was written", &broken.fault),
    };
    Outcome::Failed { kind: Failure::Connect, detail }
}

/// With TLS 1.3, a server that misses the client's certificate says so only after the client may have written its request.
fn ended_before_a_response(fault: &Fault) -> String {
    let sentence = "the connection ended before a response arrived";
    match fault.tls {
        Some(WANTS_CERTIFICATE) => format!("{sentence}: {WANTS_CERTIFICATE}"),
        _ => with_io_kind(sentence, fault),
    }
}

fn handshake_failed(fault: &Fault) -> String {
    match &fault.certificate {
        Some(reason) => format!("the server's certificate was not accepted: {reason}"),
        None => match fault.tls {
            Some(reason) => format!("the TLS handshake failed: {reason}"),
            None => with_io_kind("the TLS handshake failed", fault),
        },
    }
}

fn with_io_kind(sentence: &str, fault: &Fault) -> String {
    match fault.io {
        Some(kind) => format!("{sentence}: {kind}"),
        None => sentence.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::egress::NoTunnel;
    use super::super::guard::TargetRefusal;
    use super::*;

    const PHASES: [Phase; 7] = [
        Phase::Idle,
        Phase::LookingUp,
        Phase::Connecting,
        Phase::ReachingProxy,
        Phase::Tunnelling,
        Phase::Handshaking,
        Phase::Connected,
    ];

    fn causes() -> Vec<Cause> {
        let reasons = [
            None,
            Some(Unusable::Ended),
            Some(Unusable::SpokeFirst),
            Some(Unusable::Excess),
            Some(Unusable::GateClosed),
        ];
        let faults = [Fault::default(), Fault { not_http: true, ..Fault::default() }];
        let broken = reasons
            .iter()
            .flat_map(|reason| faults.clone().map(|fault| NoHead::Broken(Broken { unusable: *reason, fault })));
        let no_connection = [
            NoConnection::Unresolved(String::new()),
            NoConnection::Blocked(TargetRefusal::Address),
            NoConnection::Tcp(Fault::default()),
            NoConnection::Tls(Fault::default()),
            NoConnection::NoTunnel(NoTunnel::Credentials),
            NoConnection::NoTunnel(NoTunnel::Refused(502)),
        ];
        let no_head = broken.chain(no_connection.map(NoHead::NoConnection)).map(Cause::NoHead);
        no_head.chain([Cause::Stopped(StopReason::Deadline), Cause::Stopped(StopReason::Cut)]).collect()
    }

    fn is_cut(cause: &Cause) -> bool {
        let behind_the_send_gate =
            matches!(cause, Cause::NoHead(NoHead::Broken(Broken { unusable: Some(Unusable::GateClosed), .. })));
        *cause == Cause::Stopped(StopReason::Cut) || behind_the_send_gate
    }

    #[test]
    fn what_was_taken_is_never_certain_and_what_was_not_taken_always_is() {
        for phase in PHASES {
            for cause in causes() {
                let taken = without_head(true, phase, cause.clone());
                assert!(matches!(taken, Ending::Final(Outcome::Unknown { .. })), "{phase:?} {cause:?}");
                let untaken = without_head(false, phase, cause.clone());
                assert!(
                    matches!(untaken, Ending::Unsent | Ending::Final(Outcome::Failed { .. })),
                    "{phase:?} {cause:?}"
                );
            }
        }
    }

    #[test]
    fn what_was_taken_is_never_laid_to_the_proxy_and_what_concerns_one_target_neither() {
        for phase in PHASES {
            for cause in causes() {
                assert!(!is_of_the_proxy(true, phase, &cause), "{phase:?} {cause:?}");
                let expected = match &cause {
                    Cause::Stopped(StopReason::Deadline) => phase == Phase::ReachingProxy,
                    Cause::NoHead(NoHead::NoConnection(NoConnection::NoTunnel(reason))) => {
                        *reason == NoTunnel::Credentials
                    }
                    _ => false,
                };
                assert_eq!(is_of_the_proxy(false, phase, &cause), expected, "{phase:?} {cause:?}");
            }
        }
    }

    fn failure(phase: Phase, cause: Cause) -> (Failure, String) {
        match without_head(false, phase, cause) {
            Ending::Final(Outcome::Failed { kind, detail }) => (kind, detail),
            ending => panic!("{ending:?}"),
        }
    }

    fn doubt(cause: Cause) -> (UnknownReason, String) {
        match without_head(true, Phase::Connected, cause) {
            Ending::Final(Outcome::Unknown { kind, detail }) => (kind, detail),
            ending => panic!("{ending:?}"),
        }
    }

    fn broken(unusable: Option<Unusable>, fault: Fault) -> Cause {
        Cause::NoHead(NoHead::Broken(Broken { unusable, fault }))
    }

    fn no_connection(reason: NoConnection) -> Cause {
        Cause::NoHead(NoHead::NoConnection(reason))
    }

    #[test]
    fn a_deadline_before_the_request_was_taken_is_laid_to_the_step_that_took_so_long() {
        for (phase, kind, part) in [
            (Phase::Idle, Failure::Connect, "TCP"),
            (Phase::LookingUp, Failure::Dns, "name"),
            (Phase::Connecting, Failure::Connect, "TCP"),
            (Phase::ReachingProxy, Failure::Connect, "proxy was reached"),
            (Phase::Tunnelling, Failure::Connect, "proxy had answered"),
            (Phase::Handshaking, Failure::Tls, "TLS"),
            (Phase::Connected, Failure::Connect, "could be written"),
        ] {
            let (judged, detail) = failure(phase, Cause::Stopped(StopReason::Deadline));
            assert!(judged == kind && detail.contains(part), "{phase:?}: {judged:?}, {detail}");
        }
    }

    #[test]
    fn what_kept_a_connection_from_being_made_is_told_with_what_is_known_of_it() {
        let refused = Fault { io: Some(std::io::ErrorKind::ConnectionRefused), ..Fault::default() };
        let untrusted = Fault { certificate: Some("it has expired".to_owned()), ..Fault::default() };
        for (cause, kind, detail) in [
            (no_connection(NoConnection::Unresolved("no such name".to_owned())), Failure::Dns, "no such name"),
            (
                no_connection(NoConnection::Blocked(TargetRefusal::Port(22))),
                Failure::Blocked,
                "port 22 is not for web servers; --allow-port permits it",
            ),
            (
                no_connection(NoConnection::Tcp(refused.clone())),
                Failure::Connect,
                "no TCP connection: connection refused",
            ),
            (no_connection(NoConnection::Tcp(Fault::default())), Failure::Connect, "no TCP connection"),
            (
                no_connection(NoConnection::Tls(untrusted)),
                Failure::Tls,
                "the server's certificate was not accepted: it has expired",
            ),
            (
                no_connection(NoConnection::Tls(Fault { tls: Some("the server refused it"), ..refused.clone() })),
                Failure::Tls,
                "the TLS handshake failed: the server refused it",
            ),
            (no_connection(NoConnection::Tls(refused)), Failure::Tls, "the TLS handshake failed: connection refused"),
            (
                broken(Some(Unusable::SpokeFirst), Fault::default()),
                Failure::Connect,
                "the host spoke first, as no HTTP server does; nothing was written",
            ),
            (
                broken(Some(Unusable::Ended), Fault::default()),
                Failure::Connect,
                "the connection ended before the request was written",
            ),
        ] {
            assert_eq!(failure(Phase::Connecting, cause), (kind, detail.to_owned()));
        }
    }

    #[test]
    fn what_was_taken_and_has_no_response_is_unknown_with_the_reason() {
        let not_http = Fault { not_http: true, ..Fault::default() };
        let reset = Fault { io: Some(std::io::ErrorKind::ConnectionReset), ..Fault::default() };
        let wants = Fault { tls: Some(WANTS_CERTIFICATE), ..reset.clone() };
        let refused = Fault { tls: Some("the server refused it"), ..reset.clone() };
        for (cause, reason, part) in [
            (Cause::Stopped(StopReason::Deadline), UnknownReason::Timeout, "the deadline passed"),
            (Cause::Stopped(StopReason::Cut), UnknownReason::DispatcherLost, "the dispatcher stopped"),
            (broken(Some(Unusable::Excess), Fault::default()), UnknownReason::Protocol, "too long"),
            (broken(None, not_http.clone()), UnknownReason::Protocol, "not an HTTP response"),
            (broken(Some(Unusable::Ended), not_http), UnknownReason::Protocol, "not an HTTP response"),
            (broken(None, Fault::default()), UnknownReason::Reset, "before a response arrived"),
            (broken(Some(Unusable::Ended), reset), UnknownReason::Reset, "arrived: connection reset"),
            (broken(None, wants), UnknownReason::Reset, WANTS_CERTIFICATE),
            (broken(None, refused), UnknownReason::Reset, "arrived: connection reset"),
        ] {
            let (kind, detail) = doubt(cause);
            assert!(kind == reason && detail.contains(part), "{kind:?}: {detail}; {part}");
        }
    }

    #[test]
    fn only_a_cut_sends_a_delivery_back_to_waiting() {
        for phase in PHASES {
            for cause in causes() {
                let unsent = without_head(false, phase, cause.clone()) == Ending::Unsent;
                assert_eq!(unsent, is_cut(&cause), "{phase:?} {cause:?}");
            }
        }
    }
}
