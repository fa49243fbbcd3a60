//! The TLS configuration: it trusts the system's root certificates, and speaks both current versions of TLS.

use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};

/// A configuration that trusts what this machine trusts: the certificates of `SSL_CERT_FILE` and `SSL_CERT_DIR` if they
/// are set, and otherwise those of the system's store. Early data stays off, as it is by default, because an attacker
/// on the network may deliver it twice.
///
/// # Errors
/// Returns an error if the provider supports none of the protocol versions.
pub(super) fn config() -> Result<ClientConfig, rustls::Error> {
    let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(system_roots())
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// How many root certificates this machine has that can be used.
pub fn root_certificates() -> usize {
    RootCertStore::empty().add_parsable_certificates(rustls_native_certs::load_native_certs().certs).0
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

#[cfg(test)]
mod tests {
    use super::super::SetupError;
    use crate::domain::chain::chain;

    #[test]
    fn why_tls_cannot_be_set_up_is_told() {
        let error = SetupError::Tls(rustls::Error::General("no such provider".to_owned()));
        assert_eq!(chain(&error).to_string(), "cannot set up TLS: unexpected error: no such provider");
    }
}
