//! Metrics, health and readiness of one dispatcher, for monitoring.
//!
//! ```text
//! dispatcher ──records──▶ Counters ─┐
//!            ◀───asks──── Live ─────┼──▶ families: the text of a scrape ──▶ server: /metrics, /healthz, /readyz
//! database ──reads──────▶ figures ──┘
//! ```
//!
//! What must not break:
//! - A scraper cannot disturb a delivery. The dispatcher only adds to atomics. The server has bounds for connections,
//!   for their time and for what it reads. The database is read on a session of its own, at most once in 5 s.
//! - No label has a value from a call, an action, an agent or a host: all values are names of closed sets of this
//!   program. So the number of series is fixed, and nothing personal can be in them.
//! - If the database does not answer, the dispatcher's own metrics are served all the same.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

mod counters;
mod families;
mod figures;
mod histogram;
mod merged;
mod server;

pub use counters::{Counters, Operation, Totals};
pub use server::{Server, Source};

/// What is known of a dispatcher at this moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Live {
    /// Whether it drains.
    pub draining: bool,
    /// How long its lease still lasts; zero if no request may begin.
    pub lease_remaining: Duration,
    /// Requests that it has in flight.
    pub in_flight: usize,
    /// The largest number of requests that it may have in flight.
    pub concurrency: usize,
    /// Results that wait to be recorded, without their places.
    pub unrecorded: usize,
    /// Results that were lost on their way to the database.
    pub lost: usize,
    /// Hosts that accept requests and do not answer in time.
    pub hosts_silent: usize,
    /// Hosts that cannot be reached, so that their deliveries wait.
    pub hosts_unreachable: usize,
}

type Look = Box<dyn Fn() -> Live + Send + Sync>;

/// The metrics of one dispatcher. All clones are the same.
#[derive(Clone, Default)]
pub struct Metrics {
    counters: Arc<Counters>,
    look: Arc<OnceLock<Look>>,
}

impl Metrics {
    /// What the dispatcher counts.
    pub fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// From now on, `look` says what is known of the dispatcher. It must be cheap, because each scrape calls it. Only
    /// the first call of this counts, because there is one dispatcher.
    pub fn watch(&self, look: impl Fn() -> Live + Send + Sync + 'static) {
        self.look.get_or_init(|| Box::new(look));
    }

    /// What is known of the dispatcher; `None` before it has begun.
    fn live(&self) -> Option<Live> {
        self.look.get().map(|look| look())
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").field("counters", &self.counters).finish_non_exhaustive()
    }
}
