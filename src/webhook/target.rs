//! Where a request goes: what two requests must have in common to go over the same connection.

use url::{Host, Url};

/// Scheme, host and port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Target {
    /// Whether TLS is spoken.
    pub(super) tls: bool,
    /// A name or an address.
    pub(super) host: Host<String>,
    /// The TCP port.
    pub(super) port: u16,
}

impl Target {
    /// The target of an http or https URL.
    pub(super) fn of(url: &Url) -> Option<Target> {
        let host = url.host()?.to_owned();
        Some(Target { tls: url.scheme() == "https", host, port: url.port_or_known_default()? })
    }
}
