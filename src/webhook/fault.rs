//! The facts that an error of a connection holds. Its text is never used, because it holds URLs and changes with every
//! release of a library.

use std::error::Error;
use std::io;

use rustls::CertificateError;

/// The parts of an error that say something about what happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Fault {
    /// Whether bytes arrived that are not an HTTP response.
    pub(super) not_http: bool,
    /// Why the server's certificate was not accepted.
    pub(super) certificate: Option<&'static str>,
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
            if let rustls::Error::InvalidCertificate(reason) = error {
                self.certificate = Some(describe(reason));
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

fn describe(reason: &CertificateError) -> &'static str {
    match reason {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "it has expired",
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => "it is not valid yet",
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => "it is for another name",
        CertificateError::UnknownIssuer => "its issuer is not trusted here",
        CertificateError::Revoked => "it was revoked",
        _ => "it is not acceptable",
    }
}
