//! The facts that an error of a connection holds. Its text is never used, because it holds URLs and changes with every
//! release of a library.

use std::error::Error;
use std::io;

use rustls::AlertDescription;

use super::certificate::describe;

/// The parts of an error that say something about what happened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Fault {
    /// Whether bytes arrived that are not an HTTP response.
    pub(super) not_http: bool,
    /// Why the server's certificate was not accepted.
    pub(super) certificate: Option<String>,
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

    /// Whether the server may have refused a client without a certificate.
    pub(super) fn may_want_certificate(&self) -> bool {
        matches!(self.tls, Some(WANTS_CERTIFICATE | REFUSED))
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

/// Said of a server that asks who its client is, as a part of TLS.
pub(super) const WANTS_CERTIFICATE: &str = "the server wants a client's certificate, and postcall shows none";

/// Said of a server that does not tell why.
const REFUSED: &str = "the server refused it; it may want another cipher, or a client's certificate";

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
            AlertDescription::CertificateRequired => Some(WANTS_CERTIFICATE),
            AlertDescription::HandshakeFailure => Some(REFUSED),
            AlertDescription::BadCertificate
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied => Some("the server does not accept the client's certificate"),
            _ => Some("the server refused it"),
        },
        _ => None,
    }
}
