//! How many requests to one host may be in flight: a limit that adapts to how the host answers.
//!
//! The limit begins small, because nothing is known of the host. Each time the limit is reached, a round begins: as
//! many answers count as the limit allows requests. Until the first timeout, each of these answers raises the limit by
//! one, so it doubles with every round. After a timeout, a whole round raises it by one. A quick host answers before
//! the next requests begin. So it matters whether the limit was reached, and not how many requests are in flight when
//! an answer arrives.
//!
//! A request that times out halves the limit, once for all requests that were in flight together, because they all have
//! the same cause. TCP finds its share of a link in the same way (RFC 5681, section 3.1), with a lost segment in place
//! of the timeout.
//!
//! A limit that was not used for a while begins small again, because what the host could take then says little about
//! now.

use std::time::{Duration, Instant};

/// The limit of a host that has just answered for the first time. (An untried host gets one request; see `host`.)
pub const FIRST_LIMIT: usize = 4;
/// After so long without a request, the limit is no larger than the first one.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(60);

/// The limit of one host.
#[derive(Clone, Debug)]
pub(super) struct AdaptiveLimit {
    limit: usize,
    /// Where it begins, and begins again.
    first: usize,
    /// The configured limit, which the adaptive limit never exceeds.
    most: usize,
    /// Below this value each answer raises the limit by one. From here on a whole round does.
    fast_until: usize,
    /// How many more answers count. It is set to the limit each time the limit is reached.
    credit: usize,
    /// How many answers counted since the limit last grew.
    answers: usize,
    /// When it was last halved. Timeouts of requests that began before this do not count again.
    halved_at: Option<Instant>,
    /// When a request last began under it.
    used_at: Instant,
}

impl AdaptiveLimit {
    pub(super) fn new(most: usize, now: Instant) -> AdaptiveLimit {
        let first = FIRST_LIMIT.min(most);
        AdaptiveLimit {
            limit: first,
            first,
            most,
            fast_until: most,
            credit: 0,
            answers: 0,
            halved_at: None,
            used_at: now,
        }
    }

    /// A limit that does not adapt. It has nothing to begin anew: nobody tells it of answers, with which it would grow.
    pub(super) fn fixed(most: usize, now: Instant) -> AdaptiveLimit {
        AdaptiveLimit { limit: most, first: most, ..AdaptiveLimit::new(most, now) }
    }

    pub(super) fn get(&self) -> usize {
        self.limit
    }

    /// Notes that a request is about to begin.
    pub(super) fn used(&mut self, now: Instant) {
        if now.saturating_duration_since(self.used_at) >= FORGOTTEN_AFTER {
            self.begin_small();
        }
        self.used_at = now;
    }

    /// Notes that requests have begun, and that more would have begun if the limit were higher. `in_flight` is how many
    /// are in flight now.
    pub(super) fn filled(&mut self, in_flight: usize) {
        if in_flight >= self.limit {
            self.credit = self.limit;
        }
    }

    /// Makes the limit as small again as it was first, because the host is about to be tried anew.
    pub(super) fn begin_small(&mut self) {
        self.limit = self.limit.min(self.first);
        (self.fast_until, self.credit, self.answers) = (self.most, 0, 0);
    }

    /// Notes that an answer arrived in time.
    pub(super) fn answered(&mut self) {
        if self.credit == 0 || self.limit >= self.most {
            return;
        }
        self.credit -= 1;
        self.answers += 1;
        if self.limit < self.fast_until || self.answers >= self.limit {
            self.limit += 1;
            self.answers = 0;
        }
    }

    /// Notes that a request that began at `started` timed out.
    pub(super) fn timed_out(&mut self, started: Instant, now: Instant) {
        if self.halved_at.is_some_and(|halved| started < halved) {
            return;
        }
        self.halved_at = Some(now);
        self.limit = (self.limit / 2).max(1);
        self.fast_until = self.limit;
        (self.credit, self.answers) = (0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Begins `requests` requests together. All are answered before any other begins.
    fn round(limit: &mut AdaptiveLimit, requests: usize, now: Instant) {
        limit.used(now);
        limit.filled(requests);
        (0..requests).for_each(|_| limit.answered());
    }

    #[test]
    fn it_begins_small_doubles_with_each_round_of_answers_and_never_exceeds_what_is_configured() {
        let now = Instant::now();
        let mut limit = AdaptiveLimit::new(50, now);
        assert_eq!(limit.get(), FIRST_LIMIT);
        for then in [8, 16, 32, 50, 50] {
            let all = limit.get();
            round(&mut limit, all, now);
            assert_eq!(limit.get(), then);
        }
        assert_eq!(AdaptiveLimit::new(2, Instant::now()).get(), 2);
    }

    #[test]
    fn requests_that_time_out_together_halve_it_once_and_then_it_grows_by_one_a_round() {
        let now = Instant::now();
        let mut limit = AdaptiveLimit::new(100, now);
        [4, 8, 16, 32].iter().for_each(|requests| round(&mut limit, *requests, now));
        assert_eq!(limit.get(), 64);
        let later = now + Duration::from_secs(15);
        (0..64).for_each(|_| limit.timed_out(now, later));
        assert_eq!(limit.get(), 32);
        // The requests that were in flight when the limit was halved are answered after all.
        (0..32).for_each(|_| limit.answered());
        assert_eq!(limit.get(), 32);
        round(&mut limit, 31, later);
        limit.filled(32);
        (0..31).for_each(|_| limit.answered());
        assert_eq!(limit.get(), 32, "one answer of the round is missing");
        limit.answered();
        assert_eq!(limit.get(), 33);
        limit.timed_out(later, later + Duration::from_secs(15));
        assert_eq!(limit.get(), 16);
    }

    #[test]
    fn each_time_that_it_is_reached_as_many_answers_count_as_it_allowed_requests() {
        let mut limit = AdaptiveLimit::new(100, Instant::now());
        limit.filled(FIRST_LIMIT);
        (0..50).for_each(|_| limit.answered());
        assert_eq!(limit.get(), 2 * FIRST_LIMIT);
    }

    #[test]
    fn it_stays_at_least_one_and_grows_only_where_it_is_used_to_the_full() {
        let mut now = Instant::now();
        let mut limit = AdaptiveLimit::new(100, now);
        for _ in 0..10 {
            limit.timed_out(now, now);
            now += Duration::from_secs(1);
        }
        assert_eq!(limit.get(), 1);
        let mut limit = AdaptiveLimit::new(100, now);
        (0..1_000).for_each(|_| round(&mut limit, FIRST_LIMIT - 1, now));
        assert_eq!(limit.get(), FIRST_LIMIT);
    }

    #[test]
    fn after_a_long_pause_it_begins_small_again() {
        let mut now = Instant::now();
        let mut limit = AdaptiveLimit::new(100, now);
        [4, 8, 16, 32].iter().for_each(|requests| round(&mut limit, *requests, now));
        limit.used(now + FORGOTTEN_AFTER / 2);
        assert_eq!(limit.get(), 64);
        now += FORGOTTEN_AFTER * 2;
        limit.used(now);
        assert_eq!(limit.get(), FIRST_LIMIT);
    }
}
