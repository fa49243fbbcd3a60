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
