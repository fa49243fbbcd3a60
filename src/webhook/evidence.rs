//! The evidence of one attempt: how far it came, when, and whether its request may have been written. The outcome is
//! judged from this evidence, and never from the text of an error.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::send_gate::SendGate;

/// The last step of opening a connection that was noted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// No connection was begun, because none was needed yet or an idle one was tried.
    Idle,
    /// The host's name is being looked up.
    LookingUp,
    /// The addresses are known, and a TCP connection to one of them is being opened.
    Connecting,
    /// The addresses are known, and a TCP connection to the egress proxy is being opened.
    ReachingProxy,
    /// The egress proxy was asked for a tunnel to one of the addresses.
    Tunnelling,
    /// TCP is connected and the TLS handshake has begun.
    Handshaking,
    /// The connection is ready to be written to.
    Connected,
}

/// How far an attempt came in opening a connection of its own.
#[derive(Clone, Copy, Debug)]
pub(super) struct Progress {
    /// The last step.
    pub(super) phase: Phase,
    /// When the name was looked up, from the attempt's start.
    pub(super) dns: Option<Duration>,
    /// When the connection was ready, from the attempt's start.
    pub(super) connected: Option<Duration>,
}

/// The evidence of one attempt. All modules that take part in the attempt share it.
#[derive(Debug)]
pub(super) struct Evidence {
    started: Instant,
    send_gate: SendGate,
    taken: AtomicBool,
    progress: Mutex<Progress>,
}

impl Evidence {
    /// The evidence of an attempt that starts now, and whose request may be taken while `send_gate` is open.
    pub(super) fn start(send_gate: SendGate) -> Evidence {
        let progress = Progress { phase: Phase::Idle, dns: None, connected: None };
        Evidence { started: Instant::now(), send_gate, taken: AtomicBool::new(false), progress: Mutex::new(progress) }
    }

    /// When the attempt started.
    pub(super) fn started(&self) -> Instant {
        self.started
    }

    /// How long ago the attempt started.
    pub(super) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// How far the attempt came.
    pub(super) fn progress(&self) -> Progress {
        *self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the request. The stream calls this when the first byte is about to be written. `true` means that the byte
    /// may be written; from then on, bytes of the request may have been sent.
    pub(super) fn take(&self) -> bool {
        let open = !self.send_gate.is_closed();
        if open {
            self.taken.store(true, Ordering::Release);
        }
        open
    }

    /// Whether bytes of the request may have been sent. `false` is certain once the attempt's exchange is no longer
    /// polled, because the exchange is one future, and nothing else writes the request.
    pub(super) fn is_taken(&self) -> bool {
        self.taken.load(Ordering::Acquire)
    }

    /// Notes a step, and when it was reached.
    pub(super) fn note(&self, phase: Phase) {
        let elapsed = self.elapsed();
        let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        if progress.phase == Phase::LookingUp {
            progress.dns = Some(elapsed);
        }
        if phase == Phase::Connected {
            progress.connected = Some(elapsed);
        }
        progress.phase = phase;
    }
}

#[cfg(test)]
mod tests {
    use super::super::clock::Moment;
    use super::*;

    #[test]
    fn behind_a_closed_send_gate_nothing_is_taken_and_what_was_taken_stays_so() {
        let send_gate = SendGate::open();
        let (early, late) = (Evidence::start(send_gate.clone()), Evidence::start(send_gate.clone()));
        assert!(early.take() && early.is_taken());
        send_gate.move_to(Moment::now());
        assert!(!late.take() && !late.is_taken());
        assert!(early.is_taken());
    }

    #[tokio::test(start_paused = true)]
    async fn the_times_of_the_lookup_and_of_the_connection_are_those_at_which_each_was_over() {
        let evidence = Evidence::start(SendGate::open());
        let began = evidence.started();
        let second = Duration::from_secs(1);
        for (phase, dns, connected) in [
            (Phase::LookingUp, None, None),
            (Phase::Connecting, Some(2 * second), None),
            (Phase::Handshaking, Some(2 * second), None),
            (Phase::Connected, Some(2 * second), Some(4 * second)),
        ] {
            tokio::time::advance(second).await;
            evidence.note(phase);
            let progress = evidence.progress();
            assert_eq!((progress.phase, progress.dns, progress.connected), (phase, dns, connected));
        }
        assert_eq!((evidence.elapsed(), evidence.started()), (4 * second, began));
    }
}
