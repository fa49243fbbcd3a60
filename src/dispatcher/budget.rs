//! The bytes that a dispatcher holds at the same time. It holds the text of a call from the claim until the request is
//! rendered. It holds a body from just before it is rendered until the attempt has ended.
//!
//! There are two budgets, so that no deliveries wait for each other in a circle:
//!
//! - **Texts**: the claimer reserves the bytes before it claims, and waits for nothing while it holds them. A delivery
//!   keeps its share of the texts while it waits for a share of the bodies.
//! - **Bodies**: a delivery that holds a share waits for a permit to render, whose holders wait for nothing. Then it
//!   waits for the receiver, for no longer than the action's timeout. So shares come back, and the oldest waiting
//!   delivery is served first.
//!
//! Small deliveries ([`SMALL_TEXT`], [`SMALL_BODY`]) use neither budget: a small delivery is rendered and sent at once,
//! however many large ones wait. Their number is bounded by the places, which bounds their bytes.
//!
//! While the texts are used up, claims pass over large calls and take only small ones. The large calls stay in the
//! queue, in their order.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::pace;
use crate::domain::call::MAX_CALL_BYTES;
use crate::render::limits::MAX_BODY_BYTES;

/// The text of a call is small up to this number of bytes.
pub(super) const SMALL_TEXT: usize = 64 * 1024;
/// A body is small up to this number of bytes. A body that cannot become larger than this is rendered without a share.
pub(super) const SMALL_BODY: usize = 256 * 1024;
/// How many large requests are rendered at the same time. Each rendering needs a processor and memory of its own. Two
/// leave room for the other threads, and on a larger machine still render some hundred megabytes a second.
const RENDERED_AT_ONCE: usize = 2;
/// One part in so many of the budget is for texts, unless one largest claim needs more. Texts only wait to become
/// bodies.
const PART_OF_TEXTS: usize = 4;

/// The default of [`DispatcherSettings::max_call_bytes`](super::DispatcherSettings::max_call_bytes).
pub const DEFAULT_MAX_CALL_BYTES: usize = MAX_CALL_BYTES;
/// The default of [`DispatcherSettings::max_bytes_in_flight`](super::DispatcherSettings::max_bytes_in_flight).
pub const DEFAULT_MAX_BYTES_IN_FLIGHT: usize = 64 * 1024 * 1024;

/// Whether a text of so many bytes is small.
pub(super) fn is_small_text(bytes: usize) -> bool {
    bytes <= SMALL_TEXT
}

/// Whether a delivery is small: its text, and the largest body that it can become.
pub(super) fn is_small(text: usize, body: usize) -> bool {
    is_small_text(text) && body <= SMALL_BODY
}

/// The smallest total that `Budget::new` accepts: one largest claim and one largest body.
pub fn least_bytes_in_flight(max_call_bytes: usize) -> usize {
    largest_claim(max_call_bytes) + MAX_BODY_BYTES
}

/// How many bytes one claim can fetch at most.
fn largest_claim(max_call_bytes: usize) -> usize {
    max_call_bytes.max(pace::MAX_BYTES)
}

/// A number of bytes of a budget. They go back to the budget when the share is dropped.
pub(super) struct Share {
    permit: OwnedSemaphorePermit,
}

impl Share {
    /// Takes `bytes` out of this share, or the whole share if it has fewer.
    pub(super) fn split(&mut self, bytes: usize) -> Option<Share> {
        let bytes = bytes.min(self.permit.num_permits());
        self.permit.split(bytes).map(|permit| Share { permit })
    }

    /// Keeps `bytes` at most, and gives back the rest.
    pub(super) fn shrink_to(&mut self, bytes: usize) {
        let rest = self.permit.num_permits().saturating_sub(bytes);
        drop(self.permit.split(rest));
    }
}

/// The budgets of one dispatcher.
pub(super) struct Budget {
    max_call_bytes: usize,
    texts: Arc<Semaphore>,
    bodies: Arc<Semaphore>,
    bodies_in_all: usize,
    rendering: Arc<Semaphore>,
}

impl Budget {
    /// Divides `bytes_in_flight` between texts and bodies. It must be at least [`least_bytes_in_flight`].
    pub(super) fn new(bytes_in_flight: usize, max_call_bytes: usize) -> Budget {
        let texts = largest_claim(max_call_bytes).max(bytes_in_flight / PART_OF_TEXTS);
        let bodies = bytes_in_flight.saturating_sub(texts).clamp(MAX_BODY_BYTES, Semaphore::MAX_PERMITS);
        Budget {
            max_call_bytes,
            texts: Arc::new(Semaphore::new(texts)),
            bodies: Arc::new(Semaphore::new(bodies)),
            bodies_in_all: bodies,
            rendering: Arc::new(Semaphore::new(RENDERED_AT_ONCE)),
        }
    }

    /// The largest call that is fetched, in bytes.
    pub(super) fn max_call_bytes(&self) -> usize {
        self.max_call_bytes
    }

    /// Reserves the bytes that one claim can fetch. `None` if fewer are free: then only small calls can be claimed.
    pub(super) fn reserve_texts(&self) -> Option<Share> {
        let permit = self.texts.clone().try_acquire_many_owned(count(largest_claim(self.max_call_bytes)));
        permit.ok().map(|permit| Share { permit })
    }

    /// Waits until [`Budget::reserve_texts`] would succeed, but no longer than `at_most`. Cancel-safe.
    pub(super) async fn texts_free(&self, at_most: Duration) {
        let free = self.texts.acquire_many(count(largest_claim(self.max_call_bytes)));
        drop(tokio::time::timeout(at_most, free).await);
    }

    /// Waits for a share for a body of no more than `bytes`. Cancel-safe. The caller must not hold such a share
    /// already.
    pub(super) async fn body(&self, bytes: usize) -> Option<Share> {
        let permit = self.bodies.clone().acquire_many_owned(count(bytes.min(self.bodies_in_all))).await;
        // Only a closed semaphore returns an error, and this one is never closed.
        permit.ok().map(|permit| Share { permit })
    }

    /// Waits for a permit to render a large request. The holder of such a permit waits for nothing.
    pub(super) async fn permit_to_render(&self) -> Option<OwnedSemaphorePermit> {
        self.rendering.clone().acquire_owned().await.ok()
    }
}

fn count(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    const MIB: usize = 1024 * 1024;

    #[test]
    fn the_least_budget_holds_a_largest_claim_beside_a_largest_body() {
        for max_call_bytes in [1, DEFAULT_MAX_CALL_BYTES, 100 * MIB] {
            let least = least_bytes_in_flight(max_call_bytes);
            let budget = Budget::new(least, max_call_bytes);
            assert_eq!(budget.texts.available_permits() + budget.bodies_in_all, least);
            let texts = budget.reserve_texts();
            assert!(texts.is_some() && budget.reserve_texts().is_none());
            assert!(budget.body(MAX_BODY_BYTES).now_or_never().is_some(), "bodies do not wait for texts");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_for_bytes_of_texts_goes_on_when_they_are_free_or_the_time_is_over() {
        const AT_MOST: Duration = Duration::from_secs(2);
        let budget = Budget::new(least_bytes_in_flight(1), 1);
        let waits = async || {
            let begun = tokio::time::Instant::now();
            budget.texts_free(AT_MOST).await;
            begun.elapsed()
        };
        let texts = budget.reserve_texts();
        assert!(waits().await >= AT_MOST);
        let (waited, ()) = tokio::join!(waits(), async {
            tokio::time::sleep(AT_MOST / 2).await;
            drop(texts);
        });
        assert_eq!((waited, waits().await), (AT_MOST / 2, Duration::ZERO));
    }

    #[test]
    fn a_delivery_is_small_up_to_a_bound_of_its_text_and_of_its_body() {
        let (text, body) = (SMALL_TEXT, SMALL_BODY);
        let small = [is_small(text, body), is_small(text + 1, body), is_small(text, body + 1)];
        assert_eq!((small, is_small_text(text), is_small_text(text + 1)), ([true, false, false], true, false));
    }

    #[test]
    fn so_many_large_requests_are_rendered_at_once_and_no_more() {
        let budget = Budget::new(DEFAULT_MAX_BYTES_IN_FLIGHT, DEFAULT_MAX_CALL_BYTES);
        let permit = || budget.permit_to_render().now_or_never();
        let held: Vec<_> = (0..RENDERED_AT_ONCE).map(|_| permit()).collect();
        assert!(held.iter().all(|permit| matches!(permit, Some(Some(_)))) && permit().is_none());
        drop(held);
        assert!(permit().is_some());
    }

    #[test]
    fn what_is_not_needed_comes_back_at_once_and_the_rest_at_the_end() {
        let budget = Budget::new(DEFAULT_MAX_BYTES_IN_FLIGHT, DEFAULT_MAX_CALL_BYTES);
        let free = budget.texts.available_permits();
        let mut reserved = budget.reserve_texts().unwrap();
        let text = reserved.split(3 * MIB).unwrap();
        drop(reserved);
        assert_eq!(budget.texts.available_permits(), free - 3 * MIB);
        drop(text);
        assert_eq!(budget.texts.available_permits(), free);
        let mut body = budget.body(5 * MIB).now_or_never().flatten().unwrap();
        body.shrink_to(MIB);
        assert_eq!(budget.bodies.available_permits(), budget.bodies_in_all - MIB);
        body.shrink_to(2 * MIB);
        assert_eq!(budget.bodies.available_permits(), budget.bodies_in_all - MIB);
    }

    #[test]
    fn texts_and_bodies_together_are_what_was_allowed() {
        let budget = Budget::new(DEFAULT_MAX_BYTES_IN_FLIGHT, DEFAULT_MAX_CALL_BYTES);
        assert_eq!(budget.texts.available_permits() + budget.bodies_in_all, DEFAULT_MAX_BYTES_IN_FLIGHT);
    }
}
