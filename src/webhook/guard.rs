//! The guard decides which targets may be called: by default, https at addresses in the public Internet. A tenant who
//! writes a webhook's URL must not be able to reach what only this machine can reach, such as a database, an admin page
//! or a cloud's metadata service.
//!
//! A name is judged by the addresses that it has, when the connection is opened. The guard judges the very
//! addresses that are then connected to. If a name were checked first and looked up again later, its addresses could
//! change in between.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// Decides what may be called.
#[derive(Clone, Debug)]
pub(super) struct TargetGuard {
    /// Whether plain http may be used.
    allow_http: bool,
    /// Ranges that may be called although they are not public.
    allow_targets: Vec<IpNet>,
}

/// Why a target may not be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetRefusal {
    /// The URL's scheme is plain http.
    Scheme,
    /// The host's address is not public.
    Address,
}

impl TargetGuard {
    /// A guard that allows public addresses and the ranges of `allow_targets`, and plain http only if `allow_http` is
    /// set.
    pub(super) fn new(allow_http: bool, allow_targets: Vec<IpNet>) -> TargetGuard {
        TargetGuard { allow_http, allow_targets }
    }

    /// Judges what the URL itself shows: the scheme, and the host if it is an address.
    ///
    /// # Errors
    /// Returns the [`TargetRefusal`].
    pub(super) fn check_url(&self, url: &url::Url) -> Result<(), TargetRefusal> {
        if url.scheme() != "https" && !self.allow_http {
            return Err(TargetRefusal::Scheme);
        }
        let literal = match url.host() {
            Some(url::Host::Ipv4(address)) => IpAddr::V4(address),
            Some(url::Host::Ipv6(address)) => IpAddr::V6(address),
            Some(url::Host::Domain(_)) | None => return Ok(()),
        };
        if self.allows(literal) { Ok(()) } else { Err(TargetRefusal::Address) }
    }

    /// Whether `address` may be connected to.
    pub(super) fn allows(&self, address: IpAddr) -> bool {
        // `::ffff:10.0.0.1` connects to 10.0.0.1, so it is judged as that address. An operator may list either form.
        let canonical = address.to_canonical();
        let listed = |address: &IpAddr| self.allow_targets.iter().any(|net| net.contains(address));
        listed(&canonical) || listed(&address) || is_public(canonical)
    }
}

/// Why a dispatcher without `--allow-http` and `--allow-target` refuses `url`, as far as the URL itself shows. Other
/// names can only be judged when they are looked up, but `localhost` and the names below it always mean this machine
/// (RFC 6761, section 6.3).
pub fn refused_by_default(url: &url::Url) -> Vec<TargetRefusal> {
    let only_http =
        TargetGuard::new(false, Vec::new()).check_url(url).is_err_and(|refusal| refusal == TargetRefusal::Scheme);
    let inside = match url.host() {
        Some(url::Host::Domain(name)) => is_localhost(name),
        _ => TargetGuard::new(true, Vec::new()).check_url(url).is_err(),
    };
    [(only_http, TargetRefusal::Scheme), (inside, TargetRefusal::Address)]
        .into_iter()
        .filter_map(|(refused, why)| refused.then_some(why))
        .collect()
}

/// Whether `name` means this machine. The `url` crate gives it in lower case, perhaps with a dot at its end.
fn is_localhost(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    name == "localhost" || name.ends_with(".localhost")
}

const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> IpNet {
    IpNet::new_assert(IpAddr::V4(Ipv4Addr::new(a, b, c, d)), prefix)
}

const fn v6(a: u16, b: u16, c: u16, prefix: u8) -> IpNet {
    IpNet::new_assert(IpAddr::V6(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0)), prefix)
}

/// IPv4 ranges that are not public: those of the IANA IPv4 Special-Purpose Address Registry, without its few globally
/// reachable entries, and multicast (the IPv4 Multicast Address Space Registry).
const NOT_PUBLIC_V4: [IpNet; 16] = [
    v4(0, 0, 0, 0, 8),        // this network (RFC 791)
    v4(10, 0, 0, 0, 8),       // private (RFC 1918)
    v4(100, 64, 0, 0, 10),    // shared by carriers (RFC 6598)
    v4(127, 0, 0, 0, 8),      // loopback (RFC 1122)
    v4(169, 254, 0, 0, 16),   // link-local (RFC 3927), where clouds keep their metadata
    v4(172, 16, 0, 0, 12),    // private (RFC 1918)
    v4(192, 0, 0, 0, 24),     // IETF protocol assignments (RFC 6890)
    v4(192, 0, 2, 0, 24),     // documentation (RFC 5737)
    v4(192, 88, 99, 0, 24),   // 6to4 relays, withdrawn (RFC 7526)
    v4(192, 168, 0, 0, 16),   // private (RFC 1918)
    v4(198, 18, 0, 0, 15),    // benchmarks (RFC 2544)
    v4(198, 51, 100, 0, 24),  // documentation (RFC 5737)
    v4(203, 0, 113, 0, 24),   // documentation (RFC 5737)
    v4(224, 0, 0, 0, 4),      // multicast (RFC 5771)
    v4(240, 0, 0, 0, 4),      // reserved (RFC 1112), with the limited broadcast address (RFC 919)
    v4(168, 63, 129, 16, 32), // in no registry: what an Azure machine asks about itself, reachable from there only
];

/// The only range of IPv6 that is assigned as global unicast: the IANA IPv6 Address Space registry (RFC 4291). Loopback,
/// unique local, link-local, site-local, multicast, discard-only and IPv4-compatible addresses all lie outside it.
const GLOBAL_V6: IpNet = v6(0x2000, 0, 0, 3);

/// Ranges inside [`GLOBAL_V6`] that are not public: those of the IANA IPv6 Special-Purpose Address Registry.
const NOT_PUBLIC_V6: [IpNet; 4] = [
    v6(0x2001, 0, 0, 23),     // IETF protocol assignments (RFC 2928): Teredo, benchmarks, ORCHID
    v6(0x2001, 0xdb8, 0, 32), // documentation (RFC 3849)
    v6(0x2002, 0, 0, 16),     // 6to4 (RFC 3056): carries an IPv4 address; withdrawn (RFC 7526)
    v6(0x3fff, 0, 0, 20),     // documentation (RFC 9637)
];

/// The well-known prefix by which an IPv6-only network reaches IPv4 (RFC 6052, section 2.1). The last four bytes are
/// the IPv4 address. `64:ff9b:1::/48` (RFC 8215), whose form each network chooses, is refused like all else outside
/// 2000::/3.
const NAT64: IpNet = v6(0x64, 0xff9b, 0, 96);

fn is_public(address: IpAddr) -> bool {
    let within = |net: &IpNet| net.contains(&address);
    match address {
        IpAddr::V4(_) => !NOT_PUBLIC_V4.iter().any(within),
        IpAddr::V6(v6) if within(&NAT64) => {
            let [.., a, b, c, d] = v6.octets();
            is_public(IpAddr::V4(Ipv4Addr::new(a, b, c, d)))
        }
        IpAddr::V6(_) => within(&GLOBAL_V6) && !NOT_PUBLIC_V6.iter().any(within),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard(nets: &[&str]) -> TargetGuard {
        TargetGuard::new(false, nets.iter().map(|net| net.parse().unwrap()).collect())
    }

    fn allows(guard: &TargetGuard, address: &str) -> bool {
        guard.allows(address.parse().unwrap())
    }

    /// The first and the last address of each refused range, and their public neighbours.
    const EDGES: [(&str, &str, Option<&str>, Option<&str>); 23] = [
        ("0.0.0.0", "0.255.255.255", None, Some("1.0.0.0")),
        ("10.0.0.0", "10.255.255.255", Some("9.255.255.255"), Some("11.0.0.0")),
        ("100.64.0.0", "100.127.255.255", Some("100.63.255.255"), Some("100.128.0.0")),
        ("127.0.0.0", "127.255.255.255", Some("126.255.255.255"), Some("128.0.0.0")),
        ("169.254.0.0", "169.254.255.255", Some("169.253.255.255"), Some("169.255.0.0")),
        ("172.16.0.0", "172.31.255.255", Some("172.15.255.255"), Some("172.32.0.0")),
        ("192.0.0.0", "192.0.0.255", Some("191.255.255.255"), Some("192.0.1.0")),
        ("192.0.2.0", "192.0.2.255", Some("192.0.1.255"), Some("192.0.3.0")),
        ("192.88.99.0", "192.88.99.255", Some("192.88.98.255"), Some("192.88.100.0")),
        ("192.168.0.0", "192.168.255.255", Some("192.167.255.255"), Some("192.169.0.0")),
        ("198.18.0.0", "198.19.255.255", Some("198.17.255.255"), Some("198.20.0.0")),
        ("198.51.100.0", "198.51.100.255", Some("198.51.99.255"), Some("198.51.101.0")),
        ("203.0.113.0", "203.0.113.255", Some("203.0.112.255"), Some("203.0.114.0")),
        ("224.0.0.0", "255.255.255.255", Some("223.255.255.255"), None),
        ("168.63.129.16", "168.63.129.16", Some("168.63.129.15"), Some("168.63.129.17")),
        ("::", "1fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", None, Some("2000::")),
        ("2001::", "2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff", Some("2000:ffff::"), Some("2001:200::")),
        ("2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", Some("2001:db7:ffff::"), Some("2001:db9::")),
        ("2002::", "2002:ffff:ffff:ffff:ffff:ffff:ffff:ffff", Some("2001:ffff::"), Some("2003::")),
        ("3fff::", "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff", Some("3ffe:ffff::"), Some("3fff:1000::")),
        ("4000::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", Some("3fff:ffff::"), None),
        ("64:ff9b::a00:0", "64:ff9b::aff:ffff", Some("64:ff9b::9ff:ffff"), Some("64:ff9b::b00:0")),
        ("::ffff:10.0.0.0", "::ffff:10.255.255.255", Some("::ffff:9.255.255.255"), Some("::ffff:11.0.0.0")),
    ];

    #[test]
    fn each_refused_range_ends_exactly_where_its_registry_says() {
        let guard = guard(&[]);
        for (first, last, before, after) in EDGES {
            for refused in [first, last] {
                assert!(!allows(&guard, refused), "{refused} is not public");
            }
            for public in [before, after].into_iter().flatten() {
                assert!(allows(&guard, public), "{public} is public");
            }
        }
    }

    #[test]
    fn what_only_this_machine_or_its_network_reaches_is_refused() {
        let guard = guard(&[]);
        let inside = [
            "::1",
            "::",
            "::7f00:1",
            "fe80::1",
            "fec0::1",
            "fc00::1",
            "fdff::1",
            "ff02::1",
            "100::1",
            "5f00::1",
            "64:ff9b::7f00:1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::808:808",
            "2001:0:1::1",
            "2002:7f00:1::1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "169.254.169.254",
            "fd00:ec2::254",
            "100.100.100.200",
        ];
        for address in inside {
            assert!(!allows(&guard, address), "{address}");
        }
        for address in ["8.8.8.8", "2606:4700::1111", "64:ff9b::808:808", "::ffff:8.8.8.8"] {
            assert!(allows(&guard, address), "{address}");
        }
    }

    #[test]
    fn a_range_that_is_allowed_opens_itself_and_nothing_beside_it() {
        let guard = guard(&["10.1.0.0/16", "fd00:1::/32"]);
        for address in ["10.1.0.0", "10.1.255.255", "::ffff:10.1.2.3", "fd00:1::5"] {
            assert!(allows(&guard, address), "{address}");
        }
        for address in ["10.0.255.255", "10.2.0.0", "fd00:2::", "127.0.0.1", "64:ff9b::a01:1"] {
            assert!(!allows(&guard, address), "{address}");
        }
    }

    #[test]
    fn every_spelling_of_an_address_in_a_url_is_judged_as_that_address() {
        let guard = guard(&[]);
        let spelled =
            ["127.0.0.1", "127.1", "2130706433", "0x7f.0.0.1", "0177.0.0.1", "[::1]", "[::ffff:7f00:1]", "１27.0.0.1"];
        for host in spelled {
            let url = url::Url::parse(&format!("https://{host}/")).unwrap();
            assert_eq!(guard.check_url(&url), Err(TargetRefusal::Address), "{host}");
        }
    }

    #[test]
    fn plain_http_needs_leave() {
        let url = url::Url::parse("http://example.com/").unwrap();
        assert_eq!(guard(&[]).check_url(&url), Err(TargetRefusal::Scheme));
        assert_eq!(TargetGuard::new(true, Vec::new()).check_url(&url), Ok(()));
    }

    #[test]
    fn what_a_dispatcher_refuses_by_default_is_seen_in_the_url_as_far_as_it_can_be() {
        for (url, refusals) in [
            ("https://example.com/", &[][..]),
            ("https://localhost.example.com/", &[]),
            ("https://8.8.8.8/", &[]),
            ("http://example.com/", &[TargetRefusal::Scheme]),
            ("https://10.1.2.3:8443/${a.b}?x=${['#']}", &[TargetRefusal::Address]),
            ("https://[::1]/", &[TargetRefusal::Address]),
            ("https://LocalHost/", &[TargetRefusal::Address]),
            ("https://localhost./", &[TargetRefusal::Address]),
            ("https://a.localhost/", &[TargetRefusal::Address]),
            ("http://169.254.169.254/", &[TargetRefusal::Scheme, TargetRefusal::Address]),
        ] {
            assert_eq!(refused_by_default(&url::Url::parse(url).unwrap()), refusals, "{url}");
        }
    }
}
