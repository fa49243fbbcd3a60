//! How many requests a dispatcher has in flight, and for whom.

use clap::Args;
use clap::builder::{BoolishValueParser, RangedU64ValueParser};

use crate::scheduler::Limits;

/// The part of all requests that one agent or one host may have, unless told otherwise…
const PART: usize = 4;
/// … and so many at least, as far as there are so many.
const LEAST_PART: usize = 16;

/// The limits of one dispatcher; several dispatchers do not add theirs up.
#[derive(Args, Clone, Debug)]
pub(super) struct LimitArguments {
    /// Requests in flight at most. Like all limits, it is for this dispatcher alone.
    #[arg(long, env = "POSTCALL_CONCURRENCY", default_value_t = 256, value_name = "N",
          value_parser = RangedU64ValueParser::<usize>::new().range(1..=10_000))]
    concurrency: usize,

    /// Requests in flight for the actions of one agent at most. By default a quarter of all, and at least 16.
    #[arg(long, env = "POSTCALL_CONCURRENCY_PER_AGENT", value_name = "N",
          value_parser = RangedU64ValueParser::<usize>::new().range(1..=10_000))]
    concurrency_per_agent: Option<usize>,

    /// Requests in flight to one host and port at most, whoever's actions they are of. By default a quarter of
    /// all, and at least 16. Each host's own limit adapts below that: it begins small, grows with answers that
    /// come in time, and is halved by a timeout.
    #[arg(long, env = "POSTCALL_CONCURRENCY_PER_HOST", value_name = "N",
          value_parser = RangedU64ValueParser::<usize>::new().range(1..=10_000))]
    concurrency_per_host: Option<usize>,

    /// Whether the limits of hosts adapt, and hosts that do not answer share a part of all places. With `false`
    /// every host has all that one host may have.
    #[arg(long, env = "POSTCALL_ADAPT_TO_HOSTS", value_name = "BOOL", default_value_t = true,
          action = clap::ArgAction::Set, value_parser = BoolishValueParser::new())]
    adapt_to_hosts: bool,

    /// Whether deliveries to a host that cannot be reached wait until it is back, which a connection without any
    /// request finds out. With `false`, each of them is attempted, and fails.
    #[arg(long, env = "POSTCALL_HOLD_UNREACHABLE", value_name = "BOOL", default_value_t = true,
          action = clap::ArgAction::Set, value_parser = BoolishValueParser::new())]
    hold_unreachable: bool,

    /// Results that may wait to be recorded after their answers have made room for the next requests. What a
    /// killed dispatcher leaves as `unknown` is no more than its requests in flight and this together.
    #[arg(long, env = "POSTCALL_MAX_UNRECORDED", default_value_t = 64, value_name = "N",
          value_parser = RangedU64ValueParser::<usize>::new().range(0..=10_000))]
    pub(super) max_unrecorded: usize,
}

impl LimitArguments {
    /// The limits.
    pub(super) fn limits(&self) -> Limits {
        let part = (self.concurrency / PART).max(LEAST_PART).min(self.concurrency);
        Limits {
            in_flight: self.concurrency,
            per_agent: self.concurrency_per_agent.unwrap_or(part),
            per_host: self.concurrency_per_host.unwrap_or(part),
            adapt: self.adapt_to_hosts,
            hold_unreachable: self.hold_unreachable,
        }
    }
}
