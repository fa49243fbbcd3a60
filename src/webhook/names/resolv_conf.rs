//! The resolver's configuration: which name servers to ask, how to ask them, and what to append to short names
//! (resolv.conf(5)). Its values are kept within the bounds of the system's own resolver.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hickory_proto::rr::Name;
use nix::net::if_::if_nametoindex;
use resolv_conf::{Config, ScopedIp};
use tokio::time::Instant;

/// How many name servers are used at most.
const MAX_SERVERS: usize = 3;
/// How many search domains are used at most.
const MAX_SEARCH: usize = 32;
/// The greatest value of `ndots`.
const MAX_NDOTS: u32 = 15;
/// The greatest value of `timeout`, in seconds.
const MAX_TIMEOUT_S: u32 = 30;
/// The greatest value of `attempts`.
const MAX_ATTEMPTS: u32 = 5;
/// How long a name server is asked last after it was silent when another one answered.
const PASSED_OVER: Duration = Duration::from_secs(30);

/// How to ask for names, as the configuration says.
#[derive(Debug)]
pub(super) struct Directions {
    servers: Vec<Server>,
    search: Vec<Name>,
    ndots: u32,
    rotate: bool,
    next: AtomicUsize,
    /// How long to wait for a name server's replies.
    pub(super) timeout: Duration,
    /// How many rounds to make through all name servers.
    pub(super) attempts: u32,
    /// Whether to ask over TCP from the beginning (`use-vc`).
    pub(super) over_tcp: bool,
    /// Whether to ask for IPv4 addresses only (`no-aaaa`).
    pub(super) v4_only: bool,
}

/// The absolute names that a host may stand for.
#[derive(Debug)]
pub(super) struct Candidates {
    /// The names, in the order in which to ask for them.
    pub(super) names: Vec<Name>,
    /// The index of the name without a search domain: the first, or the last.
    pub(super) as_written: usize,
}

/// A name server.
#[derive(Debug)]
pub(super) struct Server {
    /// Its address and port.
    pub(super) address: SocketAddr,
    passed_over_until: Mutex<Option<Instant>>,
}

impl Directions {
    /// Reads `text`, and ignores lines that are not valid. All name servers have `port`. If `text` names no name
    /// server, the one on this machine is asked.
    pub(super) fn parse(text: &[u8], port: u16) -> Directions {
        let (config, _) = Config::parse_with_errors(text);
        let named = config.nameservers.iter().filter_map(|server| socket_address(server, port));
        let mut servers: Vec<Server> = named.take(MAX_SERVERS).map(Server::new).collect();
        if servers.is_empty() {
            servers.push(Server::new((Ipv4Addr::LOCALHOST, port).into()));
        }
        Directions {
            servers,
            search: search(&config),
            ndots: config.ndots.min(MAX_NDOTS),
            rotate: config.rotate,
            next: AtomicUsize::new(0),
            timeout: Duration::from_secs(config.timeout.clamp(1, MAX_TIMEOUT_S).into()),
            attempts: config.attempts.clamp(1, MAX_ATTEMPTS),
            over_tcp: config.use_vc,
            v4_only: config.no_aaaa,
        }
    }

    /// Whether `text` names a name server.
    pub(super) fn names_a_server(text: &[u8]) -> bool {
        !Config::parse_with_errors(text).0.nameservers.is_empty()
    }

    /// The absolute names that `host` may stand for, in the order in which to ask for them. `None` if it is not a name
    /// that can be asked for.
    pub(super) fn candidates(&self, host: &str) -> Option<Candidates> {
        let mut name = Name::from_ascii(host).ok().filter(|name| name.num_labels() > 0)?;
        if name.is_fqdn() {
            return Some(Candidates { names: vec![name], as_written: 0 });
        }
        let dots = host.matches('.').count();
        let appended = self.search.iter().filter_map(|domain| name.clone().append_domain(domain).ok());
        let mut names: Vec<Name> = appended.collect();
        name.set_fqdn(true);
        let as_written = if dots >= self.ndots as usize { 0 } else { names.len() };
        names.insert(as_written, name);
        Some(Candidates { names, as_written })
    }

    /// The name servers, in the order in which to ask them now.
    pub(super) fn servers(&self, now: Instant) -> Vec<&Server> {
        let mut servers: Vec<&Server> = self.servers.iter().collect();
        if self.rotate {
            servers.rotate_left(self.next.fetch_add(1, Ordering::Relaxed) % self.servers.len());
        }
        servers.sort_by_key(|server| server.is_passed_over(now));
        servers
    }
}

impl Server {
    fn new(address: SocketAddr) -> Server {
        Server { address, passed_over_until: Mutex::new(None) }
    }

    /// Makes this server the last to be asked for a while, because it was silent about a name for which another server
    /// had an answer. Silence alone would prove nothing: the name's own servers may be the silent ones, and a tenant
    /// could silence them on purpose.
    pub(super) fn pass_over(&self, now: Instant) {
        *self.passed_over_until.lock().unwrap_or_else(PoisonError::into_inner) = Some(now + PASSED_OVER);
    }

    fn is_passed_over(&self, now: Instant) -> bool {
        self.passed_over_until.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|until| now < until)
    }
}

fn socket_address(server: &ScopedIp, port: u16) -> Option<SocketAddr> {
    match server {
        ScopedIp::V4(address) => Some((*address, port).into()),
        ScopedIp::V6(address, None) => Some((IpAddr::V6(*address), port).into()),
        ScopedIp::V6(address, Some(scope)) => {
            let scope = scope.parse().ok().or_else(|| if_nametoindex(scope.as_str()).ok())?;
            Some(SocketAddrV6::new(*address, port, 0, scope).into())
        }
    }
}

/// The domains to append: those of the last `search` or `domain`, or otherwise the domain of this machine's own name.
fn search(config: &Config) -> Vec<Name> {
    let mut domains: Vec<String> = config.get_last_search_or_domain().map(ToString::to_string).collect();
    if domains.is_empty() {
        domains.extend(config.get_system_domain());
    }
    let names = domains.iter().filter_map(|domain| Name::from_ascii(domain).ok());
    let absolute = names.map(|mut name| {
        name.set_fqdn(true);
        name
    });
    absolute.filter(|name| name.num_labels() > 0).take(MAX_SEARCH).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidates(text: &str, host: &str) -> Option<Vec<String>> {
        let candidates = Directions::parse(text.as_bytes(), 53).candidates(host)?;
        Some(candidates.names.iter().map(Name::to_ascii).collect())
    }

    #[test]
    fn short_names_are_searched_for_first_and_long_ones_last() {
        let text = "search one.test two.test\noptions ndots:2";
        let short = ["a.b.one.test.", "a.b.two.test.", "a.b."].map(str::to_owned).to_vec();
        assert_eq!(candidates(text, "a.b"), Some(short));
        let long = ["a.b.c.", "a.b.c.one.test.", "a.b.c.two.test."].map(str::to_owned).to_vec();
        assert_eq!(candidates(text, "a.b.c"), Some(long));
        assert_eq!(candidates(text, "a."), Some(vec!["a.".to_owned()]));
        assert_eq!(
            candidates("search one.test", "a_b.test").map(|names| names.len()),
            Some(2),
            "an underscore is usual"
        );
    }

    #[test]
    fn what_is_no_name_has_no_candidates() {
        let label = "x".repeat(64);
        let long = vec!["x"; 200].join(".");
        for host in ["", ".", "a..b", label.as_str(), long.as_str()] {
            assert_eq!(candidates("search one.test", host), None, "{host}");
        }
    }

    #[test]
    fn options_are_taken_within_the_bounds_of_the_systems_resolver() {
        let usual = Directions::parse(b"", 53);
        assert_eq!((usual.timeout, usual.attempts, usual.ndots), (Duration::from_secs(5), 2, 1));
        let greedy = Directions::parse(b"options timeout:999 attempts:999 ndots:999 use-vc no-aaaa", 53);
        assert_eq!((greedy.timeout, greedy.attempts, greedy.ndots), (Duration::from_secs(30), 5, 15));
        assert!(greedy.over_tcp && greedy.v4_only);
        let none = Directions::parse(b"options timeout:0 attempts:0", 53);
        assert_eq!((none.timeout, none.attempts), (Duration::from_secs(1), 1));
    }

    fn addresses(directions: &Directions, now: Instant) -> Vec<String> {
        directions.servers(now).iter().map(|server| server.address.to_string()).collect()
    }

    #[test]
    fn no_name_server_means_the_one_on_this_machine_and_more_than_three_are_left_out() {
        let now = Instant::now();
        assert_eq!(addresses(&Directions::parse(b"search a.test", 53), now), ["127.0.0.1:53"]);
        let text = b"nameserver 10.0.0.1\nnameserver ::1\nnameserver 10.0.0.3\nnameserver 10.0.0.4";
        assert_eq!(addresses(&Directions::parse(text, 53), now), ["10.0.0.1:53", "[::1]:53", "10.0.0.3:53"]);
        let scoped = Directions::parse(b"nameserver fe80::1%7", 53);
        assert_eq!(addresses(&scoped, now), ["[fe80::1%7]:53"]);
    }

    #[test]
    fn a_passed_over_server_is_asked_last_and_not_for_ever() {
        let (directions, now) = (Directions::parse(b"nameserver 10.0.0.1\nnameserver 10.0.0.2", 53), Instant::now());
        directions.servers(now)[0].pass_over(now);
        assert_eq!(addresses(&directions, now), ["10.0.0.2:53", "10.0.0.1:53"]);
        assert_eq!(addresses(&directions, now + PASSED_OVER), ["10.0.0.1:53", "10.0.0.2:53"]);
    }

    #[test]
    fn rotate_asks_each_in_turn() {
        let text = b"nameserver 10.0.0.1\nnameserver 10.0.0.2\noptions rotate";
        let (directions, now) = (Directions::parse(text, 53), Instant::now());
        let firsts: Vec<String> = (0..4).map(|_| addresses(&directions, now).swap_remove(0)).collect();
        assert_eq!(firsts, ["10.0.0.1:53", "10.0.0.2:53", "10.0.0.1:53", "10.0.0.2:53"]);
    }

    #[test]
    fn the_root_is_no_domain_to_search_in() {
        let expected = ["a.one.test.", "a."].map(str::to_owned).to_vec();
        assert_eq!(candidates("search . one.test", "a"), Some(expected));
    }
}
