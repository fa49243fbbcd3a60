//! What a proxy in front of the console says about its visitors. It counts only if the connection comes from the proxy's networks:
//! anybody else could say anything.

use std::net::IpAddr;

use http::{HeaderMap, HeaderName};
use ipnet::IpNet;

use super::Role;
use crate::console::gate::only;
use crate::service::attribution;

/// The headers in which a proxy names its visitors.
pub struct Proxy {
    /// The header with the person's name.
    pub user: HeaderName,
    /// The header with the person's roles, separated by commas. Names that are no roles of the console are passed over.
    pub roles: HeaderName,
}

/// Whom the proxy names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Named {
    /// A person with a role.
    Person(String, Role),
    /// A person without any role of the console.
    WithoutRole,
    /// Nobody.
    Nobody,
}

impl Proxy {
    /// Whom these headers of the proxy name.
    pub(super) fn named(&self, headers: &HeaderMap) -> Named {
        let Some(name) = only(headers, self.user.as_str()) else { return Named::Nobody };
        let Ok(name) = attribution::person(name) else { return Named::Nobody };
        let roles = only(headers, self.roles.as_str()).unwrap_or_default();
        match roles.split(',').filter_map(|role| Role::named(role.trim())).max() {
            Some(role) => Named::Person(name, role),
            None => Named::WithoutRole,
        }
    }
}

/// Whether an address is in one of these networks.
pub(super) fn is_in(networks: &[IpNet], address: IpAddr) -> bool {
    let address = address.to_canonical();
    networks.iter().any(|network| network.contains(&address))
}

/// From which address a request comes: that of the connection, or what a proxy in these networks says that it was.
pub(super) fn origin(networks: &[IpNet], peer: IpAddr, headers: &HeaderMap) -> IpAddr {
    if !is_in(networks, peer) {
        return peer;
    }
    // Only the last entry is the proxy's own; those before it are what its peer said.
    let last = headers.get_all("x-forwarded-for").into_iter().next_back();
    let last = last.and_then(|value| value.to_str().ok()).and_then(|list| list.rsplit(',').next());
    last.and_then(|address| address.trim().parse().ok()).unwrap_or(peer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_is_named_once_and_has_the_strongest_of_the_roles_that_there_are() {
        let proxy = Proxy { user: HeaderName::from_static("x-user"), roles: HeaderName::from_static("x-roles") };
        let named = |headers: &[(&'static str, &'static str)]| {
            let mut map = HeaderMap::new();
            for (name, value) in headers {
                map.append(*name, http::HeaderValue::from_static(value));
            }
            proxy.named(&map)
        };
        let ada = |role| Named::Person("ada".to_owned(), role);
        assert_eq!(named(&[("x-user", "ada"), ("x-roles", "staff, viewer,operator")]), ada(Role::Operator));
        assert_eq!(named(&[("x-user", "ada"), ("x-roles", "Publisher")]), Named::WithoutRole);
        assert_eq!(named(&[("x-user", "ada")]), Named::WithoutRole);
        let twice = [("x-user", "ada"), ("x-roles", "viewer"), ("x-roles", "publisher")];
        assert_eq!(named(&twice), Named::WithoutRole);
        for headers in [&[("x-roles", "viewer")][..], &[("x-user", ""), ("x-roles", "viewer")]] {
            assert_eq!(named(headers), Named::Nobody);
        }
        let two = [("x-user", "ada"), ("x-user", "bob"), ("x-roles", "viewer")];
        assert_eq!(named(&two), Named::Nobody);
    }

    #[test]
    fn only_the_proxy_is_believed_from_where_a_request_comes_and_only_its_own_entry() {
        let networks = ["10.0.0.0/8".parse().unwrap()];
        let headers = HeaderMap::from_iter([(
            HeaderName::from_static("x-forwarded-for"),
            http::HeaderValue::from_static("1.1.1.1, 2.2.2.2"),
        )]);
        let from = |peer: &str| origin(&networks, peer.parse().unwrap(), &headers).to_string();
        assert_eq!(from("10.1.2.3"), "2.2.2.2");
        assert_eq!(from("::ffff:10.1.2.3"), "2.2.2.2");
        assert_eq!(from("11.1.2.3"), "11.1.2.3");
        assert_eq!(origin(&networks, "10.0.0.1".parse().unwrap(), &HeaderMap::new()).to_string(), "10.0.0.1");
    }
}
