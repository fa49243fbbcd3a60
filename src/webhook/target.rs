//! The target of a request. Two requests may use the same connection if their targets are equal.

use url::{Host, Url};

/// The scheme, the host and the port of a URL.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Target {
    /// Whether TLS is spoken.
    pub(super) tls: bool,
    /// The host's name or address.
    pub(super) host: Host<String>,
    /// The TCP port.
    pub(super) port: u16,
    /// The SHA-256 of the certificate that is shown there. A connection on which one was shown serves no other request.
    pub(super) client: Option<[u8; 32]>,
}

impl Target {
    /// The target of an http or https URL.
    pub(super) fn of(url: &Url) -> Option<Target> {
        let host = url.host()?.to_owned();
        Some(Target { tls: url.scheme() == "https", host, port: url.port_or_known_default()?, client: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_what_a_url_says_about_its_host_and_nothing_of_its_path() {
        let domain = Host::Domain("h.example".to_owned());
        for (url, expected) in [
            ("https://h.example/a?b", Some((true, domain.clone(), 443))),
            ("http://h.example/a", Some((false, domain.clone(), 80))),
            ("https://H.example:8443/", Some((true, domain, 8443))),
            ("https://[2001:db8::1]/", Some((true, Host::parse("[2001:db8::1]").unwrap(), 443))),
            ("http://192.0.2.1:81", Some((false, Host::parse("192.0.2.1").unwrap(), 81))),
            ("mailto:a@h.example", None),
        ] {
            let expected = expected.map(|(tls, host, port)| Target { tls, host, port, client: None });
            assert_eq!(Target::of(&Url::parse(url).unwrap()), expected, "{url}");
        }
    }
}
