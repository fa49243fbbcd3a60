//! The send gate says until when requests may begin. The holder of a lease moves the send gate ahead each time it renews the
//! lease.
//!
//! The send gate is asked at the last possible moment, when the first byte is about to be written. So if a process or a
//! machine was stopped just before that and goes on too late, it writes nothing. Requests that have begun are not
//! affected.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::clock::Moment;

/// How long a wait for the send gate sleeps at most before it looks at the clock again. Timers stand still while the
/// machine is suspended; the send gate's clock does not.
const LOOK: Duration = Duration::from_secs(1);

/// A moment that can be moved. All clones share it.
#[derive(Clone, Debug)]
pub struct SendGate {
    /// When the send gate closes, in nanoseconds ([`Moment::as_nanos`]). The largest number means never.
    until: Arc<AtomicU64>,
}

const NEVER: u64 = u64::MAX;

impl SendGate {
    /// A send gate that is closed until it is moved.
    pub fn closed() -> SendGate {
        SendGate { until: Arc::default() }
    }

    /// A send gate that never closes by time. It is for requests that no other dispatcher can give up.
    pub fn open() -> SendGate {
        SendGate { until: Arc::new(AtomicU64::new(NEVER)) }
    }

    /// Moves the send gate ahead or back.
    pub fn move_to(&self, until: Moment) {
        self.until.store(until.as_nanos().min(NEVER - 1), Ordering::Release);
    }

    /// Closes the send gate now.
    pub fn close(&self) {
        self.until.store(0, Ordering::Release);
    }

    /// Whether no request may begin any more.
    pub fn is_closed(&self) -> bool {
        self.left() == Some(Duration::ZERO)
    }

    /// Waits until no request may begin any more.
    pub async fn closes(&self) {
        loop {
            match self.left() {
                Some(Duration::ZERO) => return,
                left => tokio::time::sleep(left.map_or(LOOK, |left| left.min(LOOK))).await,
            }
        }
    }

    /// How long requests may still begin. `None` if the send gate never closes.
    pub fn left(&self) -> Option<Duration> {
        match self.until.load(Ordering::Acquire) {
            NEVER => None,
            until => Some(Moment::from_nanos(until).saturating_since(Moment::now())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_closes_when_it_is_no_longer_moved_ahead() {
        let send_gate = SendGate::closed();
        assert!(send_gate.is_closed());
        send_gate.move_to(Moment::now() + Duration::from_secs(60));
        assert!(!send_gate.is_closed());
        // Moving the send gate back through another clone closes it for all clones.
        send_gate.clone().move_to(Moment::now());
        send_gate.closes().await;
        assert!(!SendGate::open().is_closed());
    }

    #[tokio::test]
    async fn a_gate_that_is_closed_says_so_to_all_who_hold_it_even_if_it_would_never_have_closed() {
        let send_gate = SendGate::open();
        assert_eq!(send_gate.left(), None);
        let waiting = send_gate.clone();
        let mut closes = std::pin::pin!(waiting.closes());
        assert!(futures_util::poll!(closes.as_mut()).is_pending());
        send_gate.close();
        assert!(waiting.is_closed() && waiting.left() == Some(Duration::ZERO));
        closes.await;
    }

    #[test]
    fn the_latest_moment_of_all_is_a_moment_and_not_never() {
        let send_gate = SendGate::open();
        send_gate.move_to(Moment::from_nanos(u64::MAX));
        assert!(send_gate.left().is_some_and(|left| left > Duration::from_secs(1_000_000)));
    }
}
