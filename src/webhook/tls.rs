//! The TLS configuration: it trusts the system's root certificates, and speaks both current versions of TLS.

use std::path::Path;
use std::sync::Arc;

use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, RootCertStore};

use super::SetupError;
use super::certificate::Verifier;
use crate::domain::client_certificate::ClientCertificate;

/// A configuration that trusts what this machine trusts: the certificates of `SSL_CERT_FILE` and `SSL_CERT_DIR` if they
/// are set, and otherwise those of the system's store; and the authorities of `ca_file`, if there is one. Early data stays
/// off, as it is by default, because an attacker on the network may deliver it twice.
///
/// # Errors
/// Returns an error if the provider supports none of the protocol versions, or if `ca_file` cannot be read, or has no
/// certificate, or one that cannot be used.
pub fn config(ca_file: Option<&Path>) -> Result<ClientConfig, SetupError> {
    let mut roots = system_roots();
    if let Some(path) = ca_file {
        add_file(&mut roots, path)?;
    }
    if roots.is_empty() {
        tracing::warn!("no root certificates found: every https webhook will fail; SSL_CERT_FILE names a file of them");
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(SetupError::Tls)?;
    let roots = Arc::new(roots);
    // Without roots there is no verifier, and nothing is trusted.
    let builder = match WebPkiServerVerifier::builder_with_provider(Arc::clone(&roots), provider).build() {
        // rustls calls every verifier of one's own dangerous. This one asks rustls's, and only tells more about a refusal.
        Ok(verifier) => builder.dangerous().with_custom_certificate_verifier(Arc::new(Verifier(verifier))),
        Err(_) => builder.with_root_certificates(roots),
    };
    let mut config = builder.with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// `config` with the certificate that is shown to the receiver, if it asks for one. TLS sessions are not resumed: a session is
/// that of whose certificate began it.
///
/// # Errors
/// Returns why it cannot be used. Nothing of the certificate or the key is in it.
pub(super) fn showing(config: &ClientConfig, certificate: &ClientCertificate) -> Result<ClientConfig, &'static str> {
    let pem = certificate.pem().as_bytes();
    let chain: Vec<CertificateDer<'static>> =
        CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(|_| "it is not PEM")?;
    if chain.is_empty() {
        return Err("it has no certificate in PEM");
    }
    let key = PrivateKeyDer::from_pem_slice(pem).map_err(|_| "it has no unencrypted private key in PEM")?;
    let certified = CertifiedKey::from_der(chain, key, config.crypto_provider());
    let certified = certified.map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => "the key is not that of its first certificate",
        _ => "its key or its first certificate is of a kind that cannot be used",
    })?;
    let mut config = config.clone();
    config.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(certified));
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// How many root certificates this machine has that can be used.
pub fn root_certificates() -> usize {
    system_roots().len()
}

fn system_roots() -> RootCertStore {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (usable, unusable) = roots.add_parsable_certificates(found.certs);
    tracing::debug!(
        roots.usable = usable,
        roots.unusable = unusable,
        roots.errors = found.errors.len(),
        "root certificates loaded"
    );
    roots
}

/// Adds the authorities of a file. One that cannot be used is an error: somebody relies on it.
fn add_file(roots: &mut RootCertStore, path: &Path) -> Result<(), SetupError> {
    let failed = |reason: String| SetupError::CaFile { path: path.to_owned(), reason };
    let pem = std::fs::read(path).map_err(|error| failed(error.to_string()))?;
    let mut count = 0;
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|_| failed("it is not a file of certificates in PEM".to_owned()))?;
        roots.add(certificate).map_err(|_| failed(format!("its certificate {} cannot be used", count + 1)))?;
        count += 1;
    }
    if count == 0 { Err(failed("it has no certificate in PEM".to_owned())) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::chain::chain;

    #[test]
    fn why_tls_cannot_be_set_up_is_told() {
        let error = SetupError::Tls(rustls::Error::General("no such provider".to_owned()));
        assert_eq!(chain(&error).to_string(), "cannot set up TLS: unexpected error: no such provider");
    }

    /// A certificate that nobody else has signed, and its key, in PEM.
    fn self_signed() -> (String, String) {
        let made = rcgen::generate_simple_self_signed(["h.example".to_owned()]).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    #[test]
    fn the_roots_that_are_counted_are_those_of_this_machine_that_can_be_used() {
        let certificates = rustls_native_certs::load_native_certs().certs;
        let usable = certificates.into_iter().filter(|one| RootCertStore::empty().add(one.clone()).is_ok()).count();
        assert_eq!(root_certificates(), usable);
    }

    #[test]
    fn a_file_of_authorities_is_trusted_as_a_whole_or_not_at_all() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ca.pem");
        let (one, other) = (self_signed().0, self_signed().0);
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for (text, expected) in [
            (one.clone(), Ok(1)),
            (format!("# Two of them.\n{one}{other}"), Ok(2)),
            (String::new(), Err("it has no certificate in PEM")),
            (self_signed().1, Err("it has no certificate in PEM")),
            (format!("{one}{broken}{other}"), Err("its certificate 2 cannot be used")),
            (one.replace("-----END", "-----ENDE"), Err("it is not a file of certificates in PEM")),
        ] {
            std::fs::write(&path, text).unwrap();
            let mut roots = RootCertStore::empty();
            let added = match add_file(&mut roots, &path) {
                Ok(()) => Ok(roots.len()),
                Err(SetupError::CaFile { reason, .. }) => Err(reason),
                Err(error) => panic!("{error}"),
            };
            assert_eq!(added, expected.map_err(str::to_owned));
        }
    }

    #[test]
    fn why_a_clients_certificate_cannot_be_used_is_told_and_nothing_of_it() {
        let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().unwrap();
        let config = builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth();
        let ((one, key), (other, other_key)) = (self_signed(), self_signed());
        for (pem, expected) in [
            (format!("{one}{key}"), None),
            (format!("{one}{other}{key}"), None),
            (format!("{other}{key}"), Some("the key is not that of its first certificate")),
            (format!("{one}{other}{other_key}"), Some("the key is not that of its first certificate")),
            (key.clone(), Some("it has no certificate in PEM")),
            (one, Some("it has no unencrypted private key in PEM")),
        ] {
            let shown = showing(&config, &ClientCertificate::new("s", pem.into()));
            assert_eq!(shown.as_ref().err(), expected.as_ref());
            assert!(shown.is_err() || shown.is_ok_and(|config| config.client_auth_cert_resolver.has_certs()));
        }
    }
}
