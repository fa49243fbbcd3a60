//! What the dispatchers of one process share, if it serves several outboxes: the HTTP client with its resolver, and the
//! limits of requests in flight. Everything else belongs to one of them: the lease, the connections, the workers, the
//! results that wait to be recorded. So a database that is down touches no other.

use std::sync::Arc;

use super::schedule::Schedule;
use crate::scheduler::Limits;
use crate::webhook::Webhook;

/// A dispatcher's part of what is shared.
#[derive(Clone)]
pub struct Seat {
    pub(super) webhook: Arc<Webhook>,
    pub(super) schedule: Schedule,
}

impl Seat {
    /// The seats of the dispatchers of so many outboxes, at least one. The limits hold for all of them together.
    pub fn all(webhook: Webhook, limits: Limits, outboxes: u16) -> Vec<Seat> {
        let webhook = Arc::new(webhook);
        let seat = |schedule| Seat { webhook: webhook.clone(), schedule };
        Schedule::all(limits, outboxes).into_iter().map(seat).collect()
    }
}
