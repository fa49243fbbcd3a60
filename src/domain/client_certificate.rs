//! The certificate by which a request shows its sender to a receiver, as a part of TLS: a chain and its key, in PEM.

use std::fmt;
use std::sync::Arc;

use secrecy::{ExposeSecret, SecretString};

/// A certificate with what it is called in messages. Copies share the text, and the last one wipes it.
#[derive(Clone)]
pub struct ClientCertificate {
    secret: String,
    pem: Arc<SecretString>,
}

impl ClientCertificate {
    /// The certificate that the secret of this name holds.
    pub fn new(secret: &str, pem: SecretString) -> ClientCertificate {
        ClientCertificate { secret: secret.to_owned(), pem: Arc::new(pem) }
    }

    /// The name of the secret.
    pub fn secret(&self) -> &str {
        &self.secret
    }

    /// The chain and the key, in PEM.
    pub fn pem(&self) -> &str {
        self.pem.expose_secret()
    }
}

impl PartialEq for ClientCertificate {
    fn eq(&self, other: &ClientCertificate) -> bool {
        self.secret == other.secret && self.pem() == other.pem()
    }
}

impl Eq for ClientCertificate {}

impl fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientCertificate(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_certificates_are_the_same_if_their_secret_has_the_same_name_and_the_same_text() {
        let certificate = |secret: &str, pem: &str| ClientCertificate::new(secret, pem.into());
        let one = certificate("crm", "PEM");
        assert_eq!((one.secret(), one.pem()), ("crm", "PEM"));
        assert_eq!(one, certificate("crm", "PEM"));
        assert_ne!(one, certificate("crm", "renewed"));
        assert_ne!(one, certificate("erp", "PEM"));
    }
}
