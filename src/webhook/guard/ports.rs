//! Ports that are never a web server's. HTTP that is sent to them may do harm: several of these protocols take what they
//! understand from a request's lines, and pass over the rest.

use std::fmt;
use std::str::FromStr;

/// Ports that a browser refuses ("bad ports", Fetch Standard, section 2.9), sorted.
const BAD_PORTS: [u16; 83] = [
    0, 1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 53, 69, 77, 79, 87, 95, 101, 102, 103, 104, 109,
    110, 111, 113, 115, 117, 119, 123, 135, 137, 139, 143, 161, 179, 389, 427, 465, 512, 513, 514, 515, 526, 530, 531,
    532, 540, 548, 554, 556, 563, 587, 601, 636, 989, 990, 993, 995, 1719, 1720, 1723, 2049, 3659, 4045, 4190, 5060,
    5061, 6000, 6566, 6665, 6666, 6667, 6668, 6669, 6679, 6697, 10080,
];

/// What a browser does not know, because no browser is inside a data centre: databases, caches, queues, mail, shells, and
/// what steers and measures clusters. Sorted. Ports from 32,768 on are left out: systems lend them to everybody.
const INSIDE: [(u16, u16); 64] = [
    (24, 24),       // private mail
    (88, 88),       // Kerberos
    (136, 138),     // NetBIOS
    (162, 162),     // SNMP traps
    (445, 445),     // SMB
    (464, 464),     // Kerberos passwords
    (623, 623),     // IPMI
    (873, 873),     // rsync
    (902, 903),     // hypervisors
    (1099, 1099),   // Java RMI
    (1433, 1434),   // SQL Server
    (1521, 1522),   // Oracle
    (1883, 1883),   // MQTT
    (2181, 2181),   // ZooKeeper
    (2222, 2222),   // ssh beside its port
    (2375, 2380),   // Docker, Swarm, etcd
    (2525, 2525),   // mail beside its port
    (2888, 2888),   // ZooKeeper
    (3050, 3050),   // Firebird
    (3268, 3269),   // LDAP catalog
    (3306, 3306),   // MySQL
    (3389, 3389),   // remote desktops
    (3888, 3888),   // ZooKeeper
    (4194, 4194),   // cAdvisor
    (4222, 4222),   // NATS
    (4369, 4369),   // Erlang
    (4505, 4506),   // Salt
    (4646, 4648),   // Nomad
    (5038, 5038),   // Asterisk
    (5432, 5433),   // PostgreSQL
    (5671, 5672),   // AMQP
    (5900, 5910),   // VNC
    (5984, 5986),   // CouchDB, WinRM
    (6001, 6063),   // X11
    (6222, 6222),   // NATS
    (6379, 6380),   // Redis
    (6432, 6432),   // PgBouncer
    (6443, 6443),   // Kubernetes
    (7199, 7199),   // Cassandra
    (7687, 7687),   // Neo4j
    (7946, 7946),   // Swarm
    (8021, 8021),   // FreeSWITCH
    (8086, 8086),   // InfluxDB
    (8125, 8125),   // StatsD
    (8200, 8201),   // Vault
    (8300, 8302),   // Consul
    (8500, 8502),   // Consul
    (8883, 8883),   // MQTT
    (9042, 9042),   // Cassandra
    (9090, 9094),   // Prometheus, its gateway and its alerts; Kafka
    (9100, 9100),   // node exporter
    (9160, 9160),   // Cassandra
    (9200, 9200),   // Elasticsearch
    (9300, 9300),   // Elasticsearch
    (9464, 9464),   // the metrics of this program
    (10248, 10259), // Kubernetes' own parts
    (11211, 11211), // Memcached
    (15672, 15672), // RabbitMQ
    (16379, 16379), // Redis clusters
    (25672, 25672), // RabbitMQ
    (26257, 26257), // CockroachDB
    (26379, 26379), // Redis Sentinel
    (27017, 27019), // MongoDB
    (28015, 28015), // RethinkDB
];

/// Whether no web server is at `port`.
pub(super) fn is_never_http(port: u16) -> bool {
    BAD_PORTS.binary_search(&port).is_ok() || INSIDE.iter().any(|(first, last)| (*first..=*last).contains(&port))
}

/// One port, or all from one to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PortRange {
    first: u16,
    last: u16,
}

/// A text is neither a port nor a range of ports.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a port such as 8443, or a range such as 8000-8100")]
pub struct NotPorts;

impl PortRange {
    /// Whether `port` is one of them.
    pub(super) fn contains(self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }
}

impl FromStr for PortRange {
    type Err = NotPorts;

    fn from_str(text: &str) -> Result<PortRange, NotPorts> {
        let port = |text: &str| {
            // The standard library would also accept a plus sign.
            let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse().ok().filter(|port| is_plain && *port > 0).ok_or(NotPorts)
        };
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let range = PortRange { first: port(first)?, last: port(last)? };
        if range.first <= range.last { Ok(range) } else { Err(NotPorts) }
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            return self.first.fmt(formatter);
        }
        write!(formatter, "{}-{}", self.first, self.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ports_of_the_web_and_those_that_are_lent_to_everybody_are_open() {
        assert!(BAD_PORTS.is_sorted() && INSIDE.is_sorted());
        for port in [80, 443, 3000, 4443, 5000, 7000, 8000, 8080, 8081, 8443, 8888, 9000, 9443, 10000] {
            assert!(!is_never_http(port), "{port}");
        }
        assert!((32_768..61_000).all(|port| !is_never_http(port)));
    }

    #[test]
    fn a_range_holds_its_ends_and_nothing_else() {
        let range: PortRange = "8000-8100".parse().unwrap();
        assert_eq!([7999, 8000, 8100, 8101].map(|port| range.contains(port)), [false, true, true, false]);
        let one: PortRange = "443".parse().unwrap();
        assert_eq!([442, 443, 444].map(|port| one.contains(port)), [false, true, false]);
        assert_eq!([range, one].map(|range| range.to_string()), ["8000-8100", "443"]);
        for typed in ["", "-", "0", "+80", "80-", "-80", "90-80", "65536", "80-90-100", "http"] {
            assert_eq!(typed.parse::<PortRange>(), Err(NotPorts), "{typed}");
        }
    }
}
