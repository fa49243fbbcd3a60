//! What a receiver needs for TLS.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

/// A certificate for `localhost` that nobody has signed, with its key, and both as PEM.
pub fn self_signed() -> (CertificateDer<'static>, PrivateKeyDer<'static>, String) {
    self_signed_for("localhost")
}

/// The same for another name.
pub fn self_signed_for(name: &str) -> (CertificateDer<'static>, PrivateKeyDer<'static>, String) {
    let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    let pem = made.cert.pem() + &made.signing_key.serialize_pem();
    (made.cert.into(), PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap(), pem)
}

/// Makes TLS of accepted connections.
pub fn acceptor(certificate: CertificateDer<'static>, key: PrivateKeyDer<'static>) -> TlsAcceptor {
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}
