//! A dispatcher's report about itself, made every few seconds for people. No decision depends on it.

use serde::{Deserialize, Serialize};

use super::delivery::Failure;
use super::host::MAX_HOST_CHARS;

/// The largest number of hosts in a report.
pub const MOST_HOSTS: usize = 50;
/// Longest host in a report, in characters: a name, a colon and a port. A longer one is cut.
const MAX_SHOWN_CHARS: usize = MAX_HOST_CHARS + 6;

/// The state of a dispatcher at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The largest number of requests that it may have in flight.
    pub concurrency: usize,
    /// Requests that it has in flight.
    pub in_flight: usize,
    /// Results that it has and that are not yet recorded.
    pub unrecorded: usize,
    /// The hosts to which it sends, at most [`MOST_HOSTS`], in order of [`HostReport::urgency`].
    pub hosts: Vec<HostReport>,
    /// How many hosts are not listed.
    pub hosts_left_out: usize,
}

/// One host as a dispatcher sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostReport {
    /// Name and port of the host.
    pub host: String,
    /// The largest number of requests to it that may be in flight at the same time.
    pub limit: usize,
    /// Requests to it that are in flight.
    pub in_flight: usize,
    /// Lanes of this host in which deliveries wait.
    pub waiting_lanes: usize,
    /// Whether the host answers.
    pub condition: HostCondition,
}

/// Whether a host answers. Times are milliseconds before or after the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum HostCondition {
    /// The host answers.
    Answering,
    /// The host accepts requests and does not answer in time.
    Silent {
        /// For how long already.
        since_ms: u64,
    },
    /// The host cannot be reached. Nothing is sent to it until a probe reaches it.
    Unreachable {
        /// For how long already.
        since_ms: u64,
        /// The error of the last attempt: `dns`, `connect` or `tls`.
        last_error_kind: Failure,
        /// The time until the next probe.
        next_probe_in_ms: u64,
    },
}

impl HostCondition {
    /// Its name, for people.
    pub fn as_str(self) -> &'static str {
        match self {
            HostCondition::Answering => "answering",
            HostCondition::Silent { .. } => "silent",
            HostCondition::Unreachable { .. } => "unreachable",
        }
    }

    /// The rank in a report. A smaller rank needs more attention.
    pub fn rank(self) -> u8 {
        match self {
            HostCondition::Unreachable { .. } => 0,
            HostCondition::Silent { .. } => 1,
            HostCondition::Answering => 2,
        }
    }
}

impl Report {
    /// Makes a report from all hosts. It lists [`MOST_HOSTS`] of them: first those that do not answer, then those with
    /// most waiting lanes and most requests in flight.
    pub fn new(concurrency: usize, in_flight: usize, unrecorded: usize, mut hosts: Vec<HostReport>) -> Report {
        hosts.sort_by(|a, b| a.urgency().cmp(&b.urgency()));
        let hosts_left_out = hosts.len().saturating_sub(MOST_HOSTS);
        hosts.truncate(MOST_HOSTS);
        for host in &mut hosts {
            if let Some((end, _)) = host.host.char_indices().nth(MAX_SHOWN_CHARS) {
                host.host.truncate(end);
            }
        }
        Report { concurrency, in_flight, unrecorded, hosts, hosts_left_out }
    }
}

impl HostReport {
    /// The key by which hosts are ordered in a report.
    pub fn urgency(&self) -> impl Ord + '_ {
        let most_first = std::cmp::Reverse((self.waiting_lanes, self.in_flight));
        (self.condition.rank(), most_first, self.host.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(name: &str, waiting_lanes: usize, condition: HostCondition) -> HostReport {
        HostReport { host: name.to_owned(), limit: 4, in_flight: 1, waiting_lanes, condition }
    }

    const UNREACHABLE: HostCondition =
        HostCondition::Unreachable { since_ms: 7, last_error_kind: Failure::Dns, next_probe_in_ms: 9 };

    #[test]
    fn a_report_lists_a_bounded_number_of_hosts_and_none_that_is_well_before_one_that_is_not() {
        let mut hosts: Vec<HostReport> =
            (0..100).map(|number| host(&format!("h{number}"), number, HostCondition::Answering)).collect();
        hosts.push(host("silent", 0, HostCondition::Silent { since_ms: 1 }));
        hosts.push(host(&"ü".repeat(1_000), 0, UNREACHABLE));
        let report = Report::new(64, 3, 2, hosts);
        assert_eq!((report.hosts.len(), report.hosts_left_out), (MOST_HOSTS, 52));
        let conditions: Vec<&str> = report.hosts.iter().map(|host| host.condition.as_str()).collect();
        assert_eq!(conditions[..3], ["unreachable", "silent", "answering"]);
        assert_eq!(report.hosts[2].host, "h99");
        assert_eq!(report.hosts[0].host.chars().count(), MAX_SHOWN_CHARS);
        // A full one fits into its column, which takes 64 KiB.
        let longest = vec![host(&"\u{10ffff}".repeat(1_000), usize::MAX, UNREACHABLE); MOST_HOSTS];
        let text = serde_json::to_string(&Report::new(1, 1, 1, longest).hosts).unwrap();
        assert!(text.len() < 65_536, "{}", text.len());
    }

    #[test]
    fn what_is_written_down_is_read_back() {
        let hosts = vec![
            host("a:443", 1, HostCondition::Answering),
            host("b:443", 1, HostCondition::Silent { since_ms: 5 }),
            host("c:443", 1, UNREACHABLE),
        ];
        let text = serde_json::to_string(&hosts).unwrap();
        assert!(
            text.contains(r#"{"state":"unreachable","since_ms":7,"last_error_kind":"dns","next_probe_in_ms":9}"#),
            "{text}"
        );
        assert_eq!(serde_json::from_str::<Vec<HostReport>>(&text).unwrap(), hosts);
    }
}
