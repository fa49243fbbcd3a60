//! The limits on requests in flight of a dispatcher, in all, per agent and per host.

use clap::Args;
use clap::builder::{BoolishValueParser, RangedU64ValueParser};

use crate::scheduler::Limits;

/// By default, one agent or one host may have the total divided by this.
const PART: usize = 4;
/// The default for one agent or one host is at least this, but not more than the total.
const LEAST_PART: usize = 16;

/// The limits of one dispatcher. Each dispatcher applies them for itself.
#[derive(Args, Clone, Debug)]
pub(super) struct LimitArguments {
    /// The largest number of requests in flight. Like all limits, it applies to this dispatcher alone.
    #[arg(long, env = "POSTCALL_CONCURRENCY", default_value_t = 256, value_name = "N",
          value_parser = RangedU64ValueParser::<usize>::new().range(1..=10_000))]
    concurrency: usize,

    /// The largest number of requests in flight for the actions of one agent. By default a quarter of all, and at least
    /// 16.
    #[arg(long, env = "POSTCALL_CONCURRENCY_PER_AGENT", value_name = "N",
          value_parser = RangedU64ValueParser::<usize>::new().range(1..=10_000))]
    concurrency_per_agent: Option<usize>,

    /// The largest number of requests in flight to one host and port, for the actions of all agents together. By
    /// default a quarter of all, and at least 16. Each host's own limit adapts below that: it begins small, grows with
    /// answers that come in time, and is halved by a timeout.
    #[arg(long, env = "POSTCALL_CONCURRENCY_PER_HOST", value_name = "N",
          value_parser = RangedU64ValueParser::<usize>::new().range(1..=10_000))]
    concurrency_per_host: Option<usize>,

    /// Whether the limits of hosts adapt, and hosts that do not answer share a part of all places. With `false`, every
    /// host has the full limit of one host.
    #[arg(long, env = "POSTCALL_ADAPT_TO_HOSTS", value_name = "BOOL", default_value_t = true,
          action = clap::ArgAction::Set, value_parser = BoolishValueParser::new())]
    adapt_to_hosts: bool,

    /// Whether deliveries to a host that cannot be reached wait until it is back. Connections without a request probe
    /// the host. With `false`, each delivery is attempted, and fails.
    #[arg(long, env = "POSTCALL_HOLD_UNREACHABLE", value_name = "BOOL", default_value_t = true,
          action = clap::ArgAction::Set, value_parser = BoolishValueParser::new())]
    hold_unreachable: bool,

    /// The largest number of results that may wait to be recorded while the next requests already begin. A killed
    /// dispatcher leaves no more deliveries as `unknown` than its requests in flight and this number together.
    #[arg(long, env = "POSTCALL_MAX_UNRECORDED", default_value_t = 64, value_name = "N",
          value_parser = RangedU64ValueParser::<usize>::new().range(0..=10_000))]
    pub(super) max_unrecorded: usize,
}

impl LimitArguments {
    /// The limits, with the defaults filled in.
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
