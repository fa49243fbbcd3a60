//! What one attempt leaves behind on its way: how far it got, when, and whether the request was handed over to be
//! written. The outcome is judged from this and never from the text of an error.

use std::future::Future;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::fence::Fence;
use super::names::LookUpError;

/// The last step on the way to a connection that was seen to begin or to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// No connection was begun: none was needed yet, or a kept-alive one was tried.
    Idle,
    /// The host's name is being resolved.
    Resolving,
    /// The name did not resolve, for this reason.
    Unresolved(LookUpError),
    /// The guard refused every address of the name.
    Blocked,
    /// A TCP connection is being opened.
    Connecting,
    /// TCP is connected and the TLS handshake has begun.
    Handshaking,
    /// The connection is ready to be written to.
    Connected,
}

/// How far an attempt got in opening a connection of its own.
#[derive(Clone, Copy, Debug)]
pub(super) struct Progress {
    /// The last step.
    pub(super) phase: Phase,
    /// When the name was resolved, from the attempt's start.
    pub(super) dns: Option<Duration>,
    /// When the connection was ready, from the attempt's start.
    pub(super) connected: Option<Duration>,
}

/// The evidence of one attempt, shared by all that take part in it.
#[derive(Debug)]
pub(super) struct Trace {
    started: Instant,
    fence: Fence,
    request: AtomicU8,
    progress: Mutex<Progress>,
}

// The request's three conditions. It leaves the first one once, by whoever is quicker, and never the others.
const OFFERED: u8 = 0;
const TAKEN: u8 = 1;
const CALLED_OFF: u8 = 2;

impl Trace {
    /// A trace of an attempt that starts now, and whose request may be taken while `fence` is open.
    pub(super) fn start(fence: Fence) -> Trace {
        let progress = Progress { phase: Phase::Idle, dns: None, connected: None };
        Trace { started: Instant::now(), fence, request: AtomicU8::new(OFFERED), progress: Mutex::new(progress) }
    }

    /// When the attempt started.
    pub(super) fn started(&self) -> Instant {
        self.started
    }

    /// Time since then.
    pub(super) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// How far it got.
    pub(super) fn progress(&self) -> Progress {
        *self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Called by the connection when it is about to write the request. `true` if it may: from here on bytes may be out.
    pub(super) fn take(&self) -> bool {
        if self.fence.is_closed() {
            return !self.call_off();
        }
        match self.request.compare_exchange(OFFERED, TAKEN, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => true,
            Err(seen) => seen == TAKEN,
        }
    }

    /// Called by the attempt when it gives up. `true` if the request was not taken, and then it never will be.
    ///
    /// Reading a flag would not do: the connection lives in another task, and could take the request between the
    /// reading and the conclusion that nothing was sent.
    pub(super) fn call_off(&self) -> bool {
        match self.request.compare_exchange(OFFERED, CALLED_OFF, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => true,
            Err(seen) => seen == CALLED_OFF,
        }
    }

    /// Whether [`call_off`](Trace::call_off) came first.
    pub(super) fn is_called_off(&self) -> bool {
        self.request.load(Ordering::Acquire) == CALLED_OFF
    }

    fn note(&self, phase: Phase) {
        let elapsed = self.elapsed();
        let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        if progress.phase == Phase::Resolving && !matches!(phase, Phase::Unresolved(_)) {
            progress.dns = Some(elapsed);
        }
        if phase == Phase::Connected {
            progress.connected = Some(elapsed);
        }
        progress.phase = phase;
    }
}

tokio::task_local! {
    static CURRENT: Arc<Trace>;
}

/// Runs `exchange` so that every [`note`] made inside it goes into `trace`.
pub(super) async fn record<F: Future>(trace: Arc<Trace>, exchange: F) -> F::Output {
    CURRENT.scope(trace, exchange).await
}

/// Notes a step of the attempt that is being polled.
///
/// There may be none: when a kept-alive connection becomes free before a new one is open, the client finishes opening
/// the new one in a task of its own, for others to use. It is then no part of any attempt.
pub(super) fn note(phase: Phase) {
    let _ = CURRENT.try_with(|trace| trace.note(phase));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_either_taken_or_called_off_and_stays_so() {
        let taken = Trace::start(Fence::open());
        assert!(taken.take() && taken.take() && !taken.call_off() && taken.take());
        let called_off = Trace::start(Fence::open());
        assert!(called_off.call_off() && !called_off.take() && called_off.call_off());
    }

    #[test]
    fn behind_a_closed_fence_nothing_is_taken_and_what_was_taken_stays_so() {
        let fence = Fence::open();
        let (early, late) = (Trace::start(fence.clone()), Trace::start(fence.clone()));
        assert!(early.take());
        fence.move_to(Instant::now());
        assert!(early.take() && !early.call_off());
        assert!(!late.take() && late.call_off());
    }

    #[test]
    fn a_step_outside_any_attempt_is_noted_nowhere() {
        note(Phase::Connected);
    }
}
