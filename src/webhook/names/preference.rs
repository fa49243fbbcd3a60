//! The order in which addresses are tried, after two rules of RFC 6724. Addresses without a route from here go last
//! (rule 1), and IPv6 goes before IPv4 (the precedences of section 2.1). Otherwise the name server's order stays.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

/// The port that is named when asking for a route. Nothing is sent to it.
const ANY_PORT: u16 = 9;

/// `addresses` in the order of preference, judged by the routes that this machine has now.
pub(super) fn by_preference(addresses: Vec<IpAddr>) -> Vec<IpAddr> {
    sorted(addresses, has_route)
}

fn sorted(mut addresses: Vec<IpAddr>, has_route: impl Fn(IpAddr) -> bool) -> Vec<IpAddr> {
    addresses.sort_by_cached_key(|address| (!has_route(*address), address.is_ipv4()));
    addresses
}

/// Whether the system has a route to `address`. Connecting a UDP socket asks the routing table, and sends nothing. If
/// no socket can be opened, all addresses count as having no route.
fn has_route(address: IpAddr) -> bool {
    let any = match address {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    UdpSocket::bind((any, 0)).and_then(|socket| socket.connect((address, ANY_PORT))).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reachable_before_unreachable_and_v6_before_v4_and_else_the_servers_order() {
        let parse = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<IpAddr>>();
        let found = parse(&["192.0.2.2", "192.0.2.1", "2001:db8::2", "2001:db8::1"]);
        let all = parse(&["2001:db8::2", "2001:db8::1", "192.0.2.2", "192.0.2.1"]);
        assert_eq!(sorted(found.clone(), |_| true), all);
        assert_eq!(sorted(found.clone(), |_| false), all);
        let v4_only = parse(&["192.0.2.2", "192.0.2.1", "2001:db8::2", "2001:db8::1"]);
        assert_eq!(sorted(found, |address| address.is_ipv4()), v4_only);
    }

    #[test]
    fn this_machine_has_a_route_to_itself_and_none_to_where_no_single_machine_is() {
        assert!(has_route(IpAddr::V4(Ipv4Addr::LOCALHOST)));
        // Everybody on the link, and an address of a link that is not named.
        assert!(!has_route(IpAddr::V4(Ipv4Addr::BROADCAST)) && !has_route("fe80::1".parse().unwrap()));
    }

    #[test]
    fn where_there_is_a_route_is_judged_by_the_routes_of_this_machine() {
        let [here, also_here, nowhere] = [[127, 0, 0, 2], [127, 0, 0, 1], [255; 4]].map(IpAddr::from);
        assert_eq!(by_preference(vec![nowhere, here, also_here]), [here, also_here, nowhere]);
    }
}
