//! Whether the request of a delivery was sent, and from when on it could be.

use crate::domain::delivery::{ResolutionSource, State};
use crate::store::history::HistoryRow;

/// A request that was sent, or of which a part may have been.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sending {
    /// Whether it is certain that all of it was sent: somebody answered it.
    pub is_certain: bool,
    /// How long after the start of the attempt its connection was ready, in milliseconds; `None` if it was kept open from an
    /// earlier request, so that the request was sent at once.
    pub connected_ms: Option<i32>,
}

impl Sending {
    /// The sending of a delivery; `None` if nothing of it was sent, or nobody knows of an attempt.
    pub fn of(row: &HistoryRow) -> Option<Sending> {
        // A person finds out what became of it, and nothing about the attempt; its own result tells of the attempt.
        let state = match row.resolved_from {
            Some(ResolutionSource::Claim) => row.state,
            Some(ResolutionSource::Person) | None => row.recorded_state.unwrap_or(row.state),
        };
        Sending::in_state(state, row.latency_ms, row.connected_ms)
    }

    /// The same, of an attempt that ended in this state.
    pub fn in_state(state: State, latency_ms: Option<i32>, connected_ms: Option<i32>) -> Option<Sending> {
        let is_certain = match state {
            State::Delivered | State::Rejected => true,
            State::Unknown if latency_ms.is_some() => false,
            State::Unknown | State::Waiting | State::Sending | State::Failed | State::Skipped => return None,
        };
        Some(Sending { is_certain, connected_ms })
    }

    /// By which connection, in words.
    pub fn connection(&self) -> &'static str {
        match self.connected_ms {
            Some(_) => "as soon as the connection was ready",
            None => "on a connection that was kept open",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_have_left_is_said_to_be_sent_and_only_what_was_answered_is_certain() {
        for state in State::ALL {
            let told = |latency_ms| Sending::in_state(state, latency_ms, None).map(|sending| sending.is_certain);
            let expected = match state {
                State::Delivered | State::Rejected => [Some(true), Some(true)],
                State::Unknown => [Some(false), None],
                State::Waiting | State::Sending | State::Failed | State::Skipped => [None, None],
            };
            assert_eq!([told(Some(5)), told(None)], expected, "{state}");
        }
        let kept = |connected_ms| Sending { is_certain: true, connected_ms }.connection();
        assert_eq!(kept(None), "on a connection that was kept open");
        assert_eq!(kept(Some(3)), "as soon as the connection was ready");
    }
}
