//! What the scheduler reports to people.

use std::time::{Duration, Instant};

use super::host::{KnownHost, Manner};
use super::reach::Reach;
use super::{Outbox, Scheduler};
use crate::domain::report::{HostCondition, HostReport};

impl Scheduler {
    /// All hosts to which something is in flight, for which something waits, or which are silent or unreachable, of those to
    /// which lanes of this outbox send. What is in flight and waits there may be of other outboxes, too.
    pub fn report(&self, outbox: Outbox, now: Instant) -> Vec<HostReport> {
        let is_of_interest = |host: &KnownHost| {
            host.lanes.of(outbox) > 0
                && (host.queue.in_flight + host.queue.waiting() > 0 || host.condition(now) != HostCondition::Answering)
        };
        self.hosts
            .iter()
            .filter(|(_, host)| is_of_interest(host))
            .map(|(origin, host)| HostReport {
                host: origin.host.to_string(),
                limit: host.limit(),
                in_flight: host.queue.in_flight,
                waiting_lanes: host.queue.waiting(),
                condition: host.condition(now),
            })
            .collect()
    }
}

/// How many hosts do not answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ailing {
    /// Hosts that accept requests and do not answer in time.
    pub silent: usize,
    /// Hosts that cannot be reached.
    pub unreachable: usize,
}

impl Scheduler {
    /// How many hosts do not answer, of those to which lanes of this outbox send. Unlike a report, this copies nothing.
    pub fn ailing(&self, outbox: Outbox, now: Instant) -> Ailing {
        let mut ailing = Ailing::default();
        for host in self.hosts.values().filter(|host| host.lanes.of(outbox) > 0) {
            match host.condition(now) {
                HostCondition::Answering => {}
                HostCondition::Silent { .. } => ailing.silent += 1,
                HostCondition::Unreachable { .. } => ailing.unreachable += 1,
            }
        }
        ailing
    }
}

impl KnownHost {
    fn condition(&self, now: Instant) -> HostCondition {
        match (&self.reach, self.manner, self.silent_since) {
            (Reach::Unreachable { since, last, probe_at, .. }, _, _) => HostCondition::Unreachable {
                since_ms: millis(now.saturating_duration_since(*since)),
                last_error_kind: *last,
                next_probe_in_ms: probe_at.map_or(0, |at| millis(at.saturating_duration_since(now))),
            },
            (_, Manner::Silent, Some(since)) => {
                HostCondition::Silent { since_ms: millis(now.saturating_duration_since(since)) }
            }
            _ => HostCondition::Answering,
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
