//! Writes to the log that deliveries were blocked, which is final. A wrong setting of this dispatcher shows here first.
//! The log has one line a minute at most, with a count, because one such action can fail thousands of times a second.

use std::time::{Duration, Instant};

use tracing::warn;

/// The shortest time between two warnings.
const EVERY: Duration = Duration::from_secs(60);

/// How many blocked deliveries the log has not mentioned yet, and when it last mentioned some.
#[derive(Debug, Default)]
pub(super) struct BlockedWarning(OnceAMinute);

/// Counts what the log has not mentioned yet, and says when a line is due.
#[derive(Debug, Default)]
pub(super) struct OnceAMinute {
    unsaid: usize,
    said_at: Option<Instant>,
}

impl BlockedWarning {
    /// Counts `blocked` more deliveries, and writes a log line if one is due.
    pub(super) fn note(&mut self, blocked: usize) {
        if let Some(count) = self.0.due(blocked, Instant::now()) {
            say(count);
        }
    }

    /// Writes a log line about the deliveries that the log has not mentioned yet.
    pub(super) fn flush(&mut self) {
        if let Some(count) = self.0.rest() {
            say(count);
        }
    }
}

impl OnceAMinute {
    /// How many deliveries a log line at `now` has to mention. `None` if there are none, or if the last line is too
    /// recent.
    pub(super) fn due(&mut self, more: usize, now: Instant) -> Option<usize> {
        self.unsaid += more;
        if self.unsaid == 0 || self.said_at.is_some_and(|said_at| now < said_at + EVERY) {
            return None;
        }
        self.said_at = Some(now);
        self.rest()
    }

    /// How many deliveries the last log line has to mention, if any.
    fn rest(&mut self) -> Option<usize> {
        Some(std::mem::take(&mut self.unsaid)).filter(|unsaid| *unsaid != 0)
    }
}

fn say(count: usize) {
    warn!(
        count,
        "deliveries were blocked for good, by what may be called. Are --allow-http, --allow-target, --deny-target, \
         --allow-port and --only-port what they should be? See `postcall history --error-kind blocked`"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_told_at_once_and_the_others_once_a_minute_with_their_number() {
        let mut warning = OnceAMinute::default();
        let start = Instant::now();
        assert_eq!(warning.due(0, start), None);
        assert_eq!(warning.due(1, start), Some(1));
        assert_eq!(warning.due(700, start + EVERY / 2), None);
        assert_eq!(warning.due(0, start + EVERY), Some(700), "told although nothing new has come");
        assert_eq!(warning.due(0, start + EVERY * 2), None);
        assert_eq!(warning.due(5, start + EVERY * 2), Some(5));
        assert_eq!(warning.rest(), None, "all were told");
        assert_eq!(warning.due(3, start + EVERY * 2), None);
        assert_eq!([warning.rest(), warning.rest()], [Some(3), None]);
    }
}
