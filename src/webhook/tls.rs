//! TLS: the system's roots, both current versions, and a note when a handshake begins.

use std::sync::Arc;

use rustls::client::{
    ClientSessionMemoryCache, ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue,
};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, NamedGroup, RootCertStore};

use super::evidence::{self, Phase};

/// Servers whose last session is kept, so that a new connection to one of them can resume it. rustls' own default.
const REMEMBERED_SERVERS: usize = 256;

/// A configuration that trusts what this machine trusts: `SSL_CERT_FILE` and `SSL_CERT_DIR` if they are set, else the
/// system's store. Early data stays off, as it is by default: an attacker on the network may deliver it twice.
///
/// # Errors
/// If the provider supports none of the protocol versions.
pub(super) fn config() -> Result<ClientConfig, rustls::Error> {
    let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(system_roots())
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let sessions = ClientSessionMemoryCache::new(REMEMBERED_SERVERS);
    config.resumption = Resumption::store(Arc::new(NotingSessions(sessions)));
    Ok(config)
}

fn system_roots() -> RootCertStore {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (usable, unusable) = roots.add_parsable_certificates(found.certs);
    if usable == 0 {
        tracing::warn!(
            roots.unusable = unusable,
            roots.errors = found.errors.len(),
            "no root certificates found: every https webhook will fail; SSL_CERT_FILE names a file of them"
        );
    } else {
        tracing::debug!(roots.usable = usable, roots.unusable = unusable, "root certificates loaded");
    }
    roots
}

/// The session memory, which is also the one place where rustls tells that a handshake begins: it asks for the key
/// exchange to offer while it writes the first message, and the connector lets it do that once TCP is connected.
#[derive(Debug)]
struct NotingSessions(ClientSessionMemoryCache);

impl ClientSessionStore for NotingSessions {
    fn kx_hint(&self, server_name: &ServerName<'_>) -> Option<NamedGroup> {
        evidence::note(Phase::Handshaking);
        self.0.kx_hint(server_name)
    }

    fn set_kx_hint(&self, server_name: ServerName<'static>, group: NamedGroup) {
        self.0.set_kx_hint(server_name, group);
    }

    fn set_tls12_session(&self, server_name: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.0.set_tls12_session(server_name, value);
    }

    fn tls12_session(&self, server_name: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.0.tls12_session(server_name)
    }

    fn remove_tls12_session(&self, server_name: &ServerName<'static>) {
        self.0.remove_tls12_session(server_name);
    }

    fn insert_tls13_ticket(&self, server_name: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.0.insert_tls13_ticket(server_name, value);
    }

    fn take_tls13_ticket(&self, server_name: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.0.take_tls13_ticket(server_name)
    }
}
