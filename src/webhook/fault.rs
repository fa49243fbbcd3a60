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

#[cfg(test)]
mod tests {
    use std::fmt;

    use rustls::{CertificateError, InvalidMessage, PeerIncompatible};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// An error of another crate around one of these, as hyper's and ours are.
    #[derive(Debug)]
    struct Around<E>(E);

    impl<E> fmt::Display for Around<E> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("something went wrong")
        }
    }

    impl<E: Error + 'static> Error for Around<E> {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(&self.0)
        }
    }

    fn tls(error: rustls::Error) -> Option<&'static str> {
        Fault::of(&error).tls
    }

    fn alert(alert: AlertDescription) -> Option<&'static str> {
        tls(rustls::Error::AlertReceived(alert))
    }

    #[test]
    fn a_fault_is_found_however_deep_it_lies() {
        let refused = || rustls::Error::AlertReceived(AlertDescription::HandshakeFailure);
        assert_eq!(Fault::of(&io::Error::other(refused())).tls, Some(REFUSED));
        assert_eq!(Fault::of(&Around(io::Error::other(Around(refused())))).tls, Some(REFUSED));
        let certificate = rustls::Error::InvalidCertificate(CertificateError::Expired);
        let fault = Fault::of(&Around(io::Error::other(certificate)));
        assert_eq!(fault, Fault { certificate: Some(describe(&CertificateError::Expired)), ..Fault::default() });
    }

    #[test]
    fn only_what_the_operating_system_says_is_told_of_reading_and_writing() {
        let reset = io::Error::from(nix::errno::Errno::ECONNRESET);
        assert_eq!(Fault::of(&Around(reset)).io, Some(io::ErrorKind::ConnectionReset));
        assert_eq!(Fault::of(&io::Error::new(io::ErrorKind::ConnectionReset, "secret")), Fault::default());
    }

    #[test]
    fn what_a_person_can_mend_is_told_of_each_handshake_that_failed() {
        let messages = [
            tls(rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType)),
            tls(rustls::Error::PeerIncompatible(PeerIncompatible::NoCipherSuitesInCommon)),
            tls(rustls::Error::NoApplicationProtocol),
            alert(AlertDescription::UnrecognisedName),
            alert(AlertDescription::CertificateRequired),
            alert(AlertDescription::HandshakeFailure),
            alert(AlertDescription::UnknownCA),
            alert(AlertDescription::InternalError),
        ];
        let parts = [
            "does not speak TLS",
            "neither TLS 1.3 nor TLS 1.2",
            "does not offer HTTP/1.1",
            "does not know this name",
            "postcall shows none",
            "may want another cipher",
            "does not accept the client's certificate",
            "the server refused it",
        ];
        for (message, part) in messages.iter().zip(parts) {
            assert!(message.is_some_and(|message| message.contains(part)), "{message:?}, {part}");
        }
        assert_eq!(alert(AlertDescription::ProtocolVersion), messages[1]);
        assert_eq!(alert(AlertDescription::InsufficientSecurity), messages[1]);
        assert_eq!(alert(AlertDescription::NoApplicationProtocol), messages[2]);
        assert_eq!(tls(rustls::Error::HandshakeNotComplete), None);
    }

    #[test]
    fn a_server_may_want_a_certificate_if_it_says_so_or_does_not_say_why_it_refused() {
        for (description, may_want) in [
            (AlertDescription::CertificateRequired, true),
            (AlertDescription::HandshakeFailure, true),
            (AlertDescription::UnrecognisedName, false),
        ] {
            let fault = Fault::of(&rustls::Error::AlertReceived(description));
            assert_eq!(fault.may_want_certificate(), may_want, "{description:?}");
        }
        assert!(!Fault::default().may_want_certificate());
    }

    /// What hyper says of a connection on which `answer` came back, and which then ended.
    async fn fault_after(answer: &[u8]) -> Fault {
        let (ours, mut theirs) = tokio::io::duplex(1_024);
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(hyper_util::rt::TokioIo::new(ours)).await.unwrap();
        let request = http::Request::get("/").body(String::new()).unwrap();
        let answering = async {
            assert!(theirs.read(&mut [0; 1_024]).await.unwrap() > 0, "the request");
            theirs.write_all(answer).await.unwrap();
            drop(theirs);
        };
        let (ended, sent, ()) = tokio::join!(connection, sender.send_request(request), answering);
        Fault::of(&sent.err().or(ended.err()).unwrap())
    }

    #[tokio::test]
    async fn bytes_that_are_no_response_are_told_from_an_end_without_one() {
        assert!(fault_after(b"SSH-2.0-OpenSSH_9.6\r\n\r\n").await.not_http);
        assert!(!fault_after(b"").await.not_http);
        assert!(!fault_after(b"HTTP/1.1 20").await.not_http);
    }
}
