//! Which addresses are in the public Internet, by the registries of IANA.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

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

/// The address that a connection to `address` ends at: `::ffff:10.0.0.1` connects to 10.0.0.1, and so does
/// `64:ff9b::10.0.0.1` where the network translates.
pub(super) fn destination(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) if NAT64.contains(&IpAddr::V6(v6)) => {
            let [.., a, b, c, d] = v6.octets();
            IpAddr::V4(Ipv4Addr::new(a, b, c, d))
        }
        canonical => canonical,
    }
}

/// Whether `destination` is public; see [`destination`].
pub(super) fn is_public(destination: IpAddr) -> bool {
    let within = |net: &IpNet| net.contains(&destination);
    match destination {
        IpAddr::V4(_) => !NOT_PUBLIC_V4.iter().any(within),
        IpAddr::V6(_) => within(&GLOBAL_V6) && !NOT_PUBLIC_V6.iter().any(within),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn public(address: &str) -> bool {
        is_public(destination(address.parse().unwrap()))
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
        for (first, last, before, after) in EDGES {
            for refused in [first, last] {
                assert!(!public(refused), "{refused} is not public");
            }
            for neighbour in [before, after].into_iter().flatten() {
                assert!(public(neighbour), "{neighbour} is public");
            }
        }
    }

    #[test]
    fn what_only_this_machine_or_its_network_reaches_is_refused() {
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
            assert!(!public(address), "{address}");
        }
        for address in ["8.8.8.8", "2606:4700::1111", "64:ff9b::808:808", "::ffff:8.8.8.8"] {
            assert!(public(address), "{address}");
        }
    }
}
