//! Why a server's certificate was not accepted, in words that the author of an action can act on. What a certificate says is
//! the receiver's data: only names that look like names of hosts are repeated, and only a few of them.

use std::sync::Arc;

use chrono::DateTime;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, Error, OtherError, SignatureScheme};

/// How many names of a certificate for another name are repeated at most.
const MAX_NAMES: usize = 4;
/// How many bytes a name may have to be repeated.
const MAX_NAME_BYTES: usize = 100;

/// Judges as rustls does, and tells one cause more: that a certificate of an unknown issuer is signed by itself.
#[derive(Debug)]
pub(super) struct Verifier(pub(super) Arc<WebPkiServerVerifier>);

/// The certificate is its own issuer, and nobody here trusts it.
#[derive(Debug, thiserror::Error)]
#[error("self-signed certificate")]
struct SelfSigned;

/// The certificate is its own issuer, and says that it is one of an authority, as `openssl req -x509` makes it. Whether it is trusted here
/// makes no difference.
#[derive(Debug, thiserror::Error)]
#[error("self-signed certificate of an authority")]
struct SelfSignedAuthority;

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let judged = self.0.verify_server_cert(certificate, intermediates, name, ocsp_response, now);
        judged.map_err(|error| match error {
            Error::InvalidCertificate(CertificateError::UnknownIssuer) if is_self_signed(certificate) => {
                CertificateError::Other(OtherError(Arc::new(SelfSigned))).into()
            }
            Error::InvalidCertificate(CertificateError::Other(OtherError(other)))
                if is_of_an_authority(&other) && is_self_signed(certificate) =>
            {
                CertificateError::Other(OtherError(Arc::new(SelfSignedAuthority))).into()
            }
            error => error,
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

/// Whether the certificate names itself as its issuer.
fn is_self_signed(certificate: &CertificateDer<'_>) -> bool {
    webpki::EndEntityCert::try_from(certificate).is_ok_and(|parsed| parsed.issuer() == parsed.subject())
}

/// Why the certificate was not accepted.
pub(super) fn describe(reason: &CertificateError) -> String {
    let words = match reason {
        CertificateError::Other(other) => of_another_kind(other),
        CertificateError::ExpiredContext { not_after, .. } => return format!("it expired{}", on_day(*not_after)),
        CertificateError::NotValidYetContext { not_before, .. } => {
            return format!("it is not valid yet; it will be{}", on_day(*not_before));
        }
        CertificateError::NotValidForNameContext { presented, .. } => {
            return format!("it is for another name{}", names(presented));
        }
        CertificateError::Expired => "it has expired",
        CertificateError::NotValidYet => "it is not valid yet",
        CertificateError::NotValidForName => "it is for another name",
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
    };
    words.to_owned()
}

/// Whether it was refused because it is one of an authority.
fn is_of_an_authority(error: &Arc<dyn std::error::Error + Send + Sync>) -> bool {
    matches!(error.downcast_ref(), Some(webpki::Error::CaUsedAsEndEntity))
}

fn of_another_kind(OtherError(error): &OtherError) -> &'static str {
    if error.is::<SelfSigned>() {
        return "it is self-signed, and no authority vouches for it";
    }
    if error.is::<SelfSignedAuthority>() {
        return "it is self-signed, and one of an authority (CA:TRUE) and not of a server";
    }
    match error.downcast_ref() {
        Some(webpki::Error::CaUsedAsEndEntity) => "it is one of an authority and not of a server",
        Some(webpki::Error::UnsupportedCertVersion) => "it is of an old version, not X.509 version 3",
        _ => "it is not acceptable",
    }
}

/// The day of that time, in UTC. Nothing if no calendar has it.
fn on_day(time: UnixTime) -> String {
    let seconds = i64::try_from(time.as_secs()).ok();
    let moment = seconds.and_then(|seconds| DateTime::from_timestamp(seconds, 0));
    moment.map(|moment| moment.format(" on %Y-%m-%d (UTC)").to_string()).unwrap_or_default()
}

/// The names of a certificate, as rustls writes them: `DnsName("a.example")`, `IpAddress(…)`.
fn names(presented: &[String]) -> String {
    let shown = |written: &&String| {
        let name = written.strip_prefix("DnsName(\"")?.strip_suffix("\")")?.to_ascii_lowercase();
        looks_like_a_name(&name).then_some(name)
    };
    let shown: Vec<String> = presented.iter().filter_map(|name| shown(&name)).take(MAX_NAMES).collect();
    match (shown.len(), presented.len() - shown.len()) {
        (_, 0) if shown.is_empty() => "; it has none".to_owned(),
        (0, others) => format!("; it has {others}"),
        (_, 0) => format!("; it has {}", shown.join(", ")),
        (_, others) => format!("; it has {} and {others} more", shown.join(", ")),
    }
}

/// Whether `name` is written as names of hosts are, perhaps with `*` as its first label.
fn looks_like_a_name(name: &str) -> bool {
    let is_label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    name.len() <= MAX_NAME_BYTES && name.strip_prefix("*.").unwrap_or(name).split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use rustls::{ExtendedKeyPurpose, RootCertStore};

    use super::*;

    fn told(presented: &[&str]) -> String {
        names(&presented.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn only_names_that_look_like_names_are_repeated_and_only_a_few() {
        assert_eq!(told(&[]), "; it has none");
        assert_eq!(told(&["DnsName(\"A.example\")"]), "; it has a.example");
        assert_eq!(told(&["DnsName(\"a-1.b_2.example\")"]), "; it has a-1.b_2.example");
        assert_eq!(told(&["DnsName(\"*.a.example\")", "IpAddress(10.0.0.1)"]), "; it has *.a.example and 1 more");
        let long = format!("DnsName(\"{}.example\")", "a.".repeat(100));
        for hostile in [
            "DnsName(\"<script>alert(1)</script>\")",
            "DnsName(\"+49 170 1234567\")",
            "DnsName(\"a b\")",
            "DnsName(\"a\u{202e}b\")",
            "DnsName(\"a\nb\")",
            "DnsName(\"a..b\")",
            "DnsName(\"a.*.b\")",
            "UniformResourceIdentifier(\"https://a.example/token\")",
            "Unsupported(0x81)",
            &long,
        ] {
            assert_eq!(told(&[hostile]), "; it has 1", "{hostile}");
        }
        let many: Vec<String> = (0..10_000).map(|index| format!("DnsName(\"n{index}.example\")")).collect();
        assert_eq!(names(&many), "; it has n0.example, n1.example, n2.example, n3.example and 9996 more");
        let longest = vec![format!("DnsName(\"{}\")", vec!["a".repeat(49); 2].join(".")); MAX_NAMES + 1];
        assert!(names(&longest).len() < 500);
    }

    #[test]
    fn only_what_was_refused_as_one_of_an_authority_is_told_to_be_one() {
        let of = |error: webpki::Error| -> Arc<dyn std::error::Error + Send + Sync> { Arc::new(error) };
        assert!(is_of_an_authority(&of(webpki::Error::CaUsedAsEndEntity)));
        assert!(!is_of_an_authority(&of(webpki::Error::EmptyEkuExtension)));
    }

    #[test]
    fn the_day_of_a_certificate_is_told_if_a_calendar_has_it() {
        assert_eq!(on_day(UnixTime::since_unix_epoch(std::time::Duration::from_secs(86_400))), " on 1970-01-02 (UTC)");
        assert_eq!(on_day(UnixTime::since_unix_epoch(std::time::Duration::from_secs(u64::MAX))), "");
    }

    /// What an author can do something about, each in a form of its own.
    fn actionable() -> Vec<CertificateError> {
        let time = UnixTime::since_unix_epoch(std::time::Duration::from_secs(86_400));
        let other = |error| CertificateError::Other(OtherError(error));
        vec![
            CertificateError::ExpiredContext { time, not_after: time },
            CertificateError::NotValidYetContext { time, not_before: time },
            CertificateError::NotValidForNameContext {
                expected: ServerName::try_from("b.example").unwrap(),
                presented: vec!["DnsName(\"a.example\")".to_owned()],
            },
            CertificateError::Expired,
            CertificateError::NotValidYet,
            CertificateError::NotValidForName,
            CertificateError::UnknownIssuer,
            CertificateError::Revoked,
            CertificateError::BadEncoding,
            CertificateError::BadSignature,
            CertificateError::InvalidPurpose,
            CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext {
                signature_algorithm_id: vec![],
                public_key_algorithm_id: vec![],
            },
            other(Arc::new(SelfSigned)),
            other(Arc::new(SelfSignedAuthority)),
            other(Arc::new(webpki::Error::CaUsedAsEndEntity)),
            other(Arc::new(webpki::Error::UnsupportedCertVersion)),
        ]
    }

    #[test]
    fn what_an_author_can_do_something_about_has_words_of_its_own() {
        let of_the_rest = describe(&CertificateError::UnhandledCriticalExtension);
        let unknown = CertificateError::Other(OtherError(Arc::new(webpki::Error::UnknownIssuer)));
        assert_eq!(describe(&unknown), of_the_rest);
        let told: Vec<String> = actionable().iter().map(describe).collect();
        let different: std::collections::HashSet<&String> = told.iter().chain([&of_the_rest]).collect();
        assert_eq!(different.len(), told.len() + 1, "{told:?}");
        assert!(told.iter().all(|words| words.starts_with("it ") || words.starts_with("its ")), "{told:?}");
        assert!(told[0].ends_with(" on 1970-01-02 (UTC)") && told[1].ends_with(" on 1970-01-02 (UTC)"), "{told:?}");
        assert!(told[2].contains("a.example"), "{told:?}");
    }

    #[test]
    fn the_same_reason_is_told_in_the_same_words_however_much_rustls_knows_of_it() {
        let (required, presented) = (ExtendedKeyPurpose::ServerAuth, vec![ExtendedKeyPurpose::ClientAuth]);
        let purpose = CertificateError::InvalidPurposeContext { required, presented };
        assert_eq!(describe(&purpose), describe(&CertificateError::InvalidPurpose));
        let kind = CertificateError::UnsupportedSignatureAlgorithmContext {
            signature_algorithm_id: vec![],
            supported_algorithms: vec![],
        };
        let of_key = CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext {
            signature_algorithm_id: vec![],
            public_key_algorithm_id: vec![],
        };
        assert_eq!(describe(&kind), describe(&of_key));
    }

    #[test]
    fn a_certificate_of_an_unknown_issuer_is_told_from_one_that_is_signed_by_itself() {
        let named = |name: &str| {
            let mut parameters = rcgen::CertificateParams::new(vec!["h.example".to_owned()]).unwrap();
            parameters.distinguished_name.push(rcgen::DnType::CommonName, name);
            parameters
        };
        let authority = |name: &str| {
            let mut parameters = named(name);
            parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
            let key = rcgen::KeyPair::generate().unwrap();
            let certificate = parameters.self_signed(&key).unwrap();
            (certificate, rcgen::Issuer::new(parameters, key))
        };
        let ((trusted, issuer), (_, unknown)) = (authority("one"), authority("another"));
        let mut roots = RootCertStore::empty();
        roots.add(trusted.into()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let inner = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
        let verifier = Verifier(Arc::clone(&inner));
        assert_eq!(verifier.supported_verify_schemes(), inner.supported_verify_schemes());
        let key = rcgen::KeyPair::generate().unwrap();
        let judged = |certificate: rcgen::Certificate| {
            let name = ServerName::try_from("h.example").unwrap();
            verifier.verify_server_cert(&certificate.into(), &[], &name, &[], UnixTime::now()).map(drop)
        };
        assert_eq!(judged(named("server").signed_by(&key, &issuer).unwrap()), Ok(()));
        let of_unknown = judged(named("server").signed_by(&key, &unknown).unwrap());
        assert_eq!(of_unknown, Err(CertificateError::UnknownIssuer.into()));
        // As they are, as `openssl req -x509` makes them, and one of an authority that another one has signed.
        let of_authority = || {
            let mut parameters = named("server");
            parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
            parameters
        };
        for (certificate, told) in [
            (named("server").self_signed(&key).unwrap(), "it is self-signed, and no authority"),
            (of_authority().self_signed(&key).unwrap(), "it is self-signed, and one of an authority"),
            (of_authority().signed_by(&key, &issuer).unwrap(), "it is one of an authority"),
        ] {
            let error = judged(certificate).unwrap_err();
            let Error::InvalidCertificate(reason) = error else { panic!("{error}") };
            assert!(describe(&reason).starts_with(told), "{}", describe(&reason));
        }
    }
}
