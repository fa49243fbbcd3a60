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

/// An authority that issues certificates, and whom nobody trusts unless told.
pub struct Authority {
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
    certificate: rcgen::Certificate,
}

impl Authority {
    /// A new one.
    pub fn new() -> Authority {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut parameters = rcgen::CertificateParams::new(Vec::new()).unwrap();
        parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        parameters.distinguished_name.push(rcgen::DnType::CommonName, uuid::Uuid::now_v7().to_string());
        let certificate = parameters.self_signed(&key).unwrap();
        Authority { issuer: rcgen::Issuer::new(parameters, key), certificate }
    }

    /// Its own certificate, as PEM.
    pub fn pem(&self) -> String {
        self.certificate.pem()
    }

    /// A certificate for these names, with its key, after `change` has changed what it says.
    pub fn issue(
        &self,
        names: &[&str],
        change: impl FnOnce(&mut rcgen::CertificateParams),
    ) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut parameters = rcgen::CertificateParams::new(Vec::new()).unwrap();
        parameters.subject_alt_names =
            names.iter().map(|name| rcgen::SanType::DnsName((*name).try_into().unwrap())).collect();
        parameters.distinguished_name.push(rcgen::DnType::CommonName, "a server of these tests");
        change(&mut parameters);
        let certificate = parameters.signed_by(&key, &self.issuer).unwrap();
        (certificate.into(), PrivateKeyDer::try_from(key.serialize_der()).unwrap())
    }
}

/// Makes TLS of accepted connections.
pub fn acceptor(certificate: CertificateDer<'static>, key: PrivateKeyDer<'static>) -> TlsAcceptor {
    acceptor_with(server_config(rustls::DEFAULT_VERSIONS, None, certificate, key))
}

/// The same with this configuration.
pub fn acceptor_with(config: ServerConfig) -> TlsAcceptor {
    TlsAcceptor::from(Arc::new(config))
}

/// A server that speaks these versions, and wants a certificate that `clients` has issued, if that is set.
pub fn server_config(
    versions: &[&'static rustls::SupportedProtocolVersion],
    clients: Option<&Authority>,
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
) -> ServerConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_protocol_versions(versions).unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = rustls::RootCertStore::empty();
            roots.add(authority.certificate.der().clone()).unwrap();
            let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        }
    };
    builder.with_single_cert(vec![certificate], key).unwrap()
}

/// The certificate of a client that this authority has issued, with its key, in PEM.
pub fn client_pem(authority: &Authority) -> String {
    let (certificate, key) = authority.issue(&["a-client"], |certificate| {
        certificate.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    });
    pem("CERTIFICATE", &certificate) + &pem("PRIVATE KEY", key.secret_der())
}

fn pem(label: &str, der: &[u8]) -> String {
    use base64::Engine;
    let text = base64::prelude::BASE64_STANDARD.encode(der);
    let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}
