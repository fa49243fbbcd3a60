//! The facts that an error of a connection holds. Its text is never used, because it holds URLs and changes with every
//! release of a library.

use std::error::Error;
use std::io;

use rustls::{AlertDescription, CertificateError, OtherError};

/// The parts of an error that say something about what happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Fault {
    /// Whether bytes arrived that are not an HTTP response.
    pub(super) not_http: bool,
    /// Why the server's certificate was not accepted.
    pub(super) certificate: Option<&'static str>,
    /// Why the two sides could not agree on how to speak TLS.
    pub(super) tls: Option<&'static str>,
    /// The kind of the operating system's error.
    pub(super) io: Option<io::ErrorKind>,
}

impl Fault {
    /// The fault in `error` and in what caused it.
    pub(super) fn of(error: &(dyn Error + 'static)) -> Fault {
        let mut fault = Fault::default();
        let mut cause: Option<&(dyn Error + 'static)> = Some(error);
        while let Some(error) = cause {
            fault.look_at(error);
            cause = inner(error);
        }
        fault
    }

    fn look_at(&mut self, error: &(dyn Error + 'static)) {
        if let Some(error) = error.downcast_ref::<hyper::Error>() {
            self.not_http |= error.is_parse();
        } else if let Some(error) = error.downcast_ref::<rustls::Error>() {
            match error {
                rustls::Error::InvalidCertificate(reason) => self.certificate = Some(describe(reason)),
                error => self.tls = disagreement(error),
            }
        } else if let Some(error) = error.downcast_ref::<io::Error>()
            && error.raw_os_error().is_some()
        {
            self.io = Some(error.kind());
        }
    }
}

/// The cause of `error`. `source` of an `io::Error` skips the error that it wraps, so that one is taken first.
fn inner<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(wrapped) => Some(wrapped),
        None => error.source(),
    }
}

/// What a person can do something about, of all that ends a handshake.
fn disagreement(error: &rustls::Error) -> Option<&'static str> {
    match error {
        rustls::Error::InvalidMessage(_) => Some("what answers does not speak TLS; is it a port for plain http?"),
        rustls::Error::PeerIncompatible(_) => Some("the server speaks neither TLS 1.3 nor TLS 1.2 with a safe cipher"),
        rustls::Error::NoApplicationProtocol => Some("the server does not offer HTTP/1.1"),
        rustls::Error::AlertReceived(alert) => match alert {
            AlertDescription::ProtocolVersion | AlertDescription::InsufficientSecurity => {
                Some("the server speaks neither TLS 1.3 nor TLS 1.2 with a safe cipher")
            }
            AlertDescription::UnrecognisedName => Some("the server does not know this name"),
            AlertDescription::NoApplicationProtocol => Some("the server does not offer HTTP/1.1"),
            AlertDescription::CertificateRequired => Some("the server wants a client's certificate"),
            AlertDescription::HandshakeFailure => {
                Some("the server refused it; it may want another cipher, or a client's certificate")
            }
            _ => Some("the server refused it"),
        },
        _ => None,
    }
}

fn describe(reason: &CertificateError) -> &'static str {
    match reason {
        CertificateError::Other(other) if is_own_authority(other) => {
            "it is one of an authority and not of a server, as a self-signed one often is"
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "it has expired",
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => "it is not valid yet",
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => "it is for another name",
        CertificateError::UnknownIssuer => "its issuer is not trusted here",
        CertificateError::Revoked => "it was revoked",
        CertificateError::BadEncoding => "it cannot be read",
        CertificateError::BadSignature => "its signature is wrong",
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "it was not issued for servers"
        }
        CertificateError::UnsupportedSignatureAlgorithmContext { .. }
        | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            "its signature is of a kind that is not safe or not known"
        }
        _ => "it is not acceptable",
    }
}

/// Whether the server showed an authority's certificate as its own.
fn is_own_authority(OtherError(error): &OtherError) -> bool {
    matches!(error.downcast_ref(), Some(webpki::Error::CaUsedAsEndEntity))
}
