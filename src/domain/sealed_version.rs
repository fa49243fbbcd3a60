//! Sealed versions: the templates of an action's version, encrypted where they are stored.
//!
//! Templates are customers' secrets too: tokens typed straight into them, URLs whose path is the password. The room `store` hands what it
//! reads to [`OperatorKeys`], and knows neither keys nor ciphers. In clear stays the origin, which limits and pauses go by.

use std::fmt;

use zeroize::Zeroizing;

use super::action::{ActionSpec, Method};
use super::body_digest::{KeyedDigest, RequestHead};
use super::host::Host;
use super::secret::{Absence, Sealed};

/// What stands behind the origin in the URL of a sealed version: a placeholder that never ends, of which no program makes a request.
const NOTHING_TO_SEND: &str = "/${";
/// The origin of a URL template that names no host.
const NO_ORIGIN: &str = "none://-";

/// Whose version it is, and which. What is sealed is bound to it: in another place it cannot be opened.
#[derive(Clone, Copy, Debug)]
pub struct VersionOwner<'a> {
    /// The agent whose action it is.
    pub agent: &'a str,
    /// The action.
    pub action_id: i64,
    /// The version.
    pub version: i32,
}

/// The templates of a version as they are stored, encrypted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedTemplates {
    /// The encrypted texts, and the key of them.
    pub sealed: Sealed,
    /// What history knows the version by.
    pub digest: Vec<u8>,
}

/// What keeps a version's templates from being sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the templates cannot be encrypted: the system gives no random bytes")]
pub struct NotSealed;

/// The operator's keys, as other rooms use them: they seal and open the templates of versions, and know the requests that were sent.
pub trait OperatorKeys: fmt::Debug + Send + Sync {
    /// Encrypts the templates of a version. Its digest says nothing to those who cannot open it.
    ///
    /// # Errors
    /// There are no random bytes.
    fn seal_templates(&self, owner: VersionOwner<'_>, spec: &ActionSpec) -> Result<SealedTemplates, NotSealed>;

    /// Decrypts the templates of a version, and puts them into `outline`, which has all the rest of the version.
    ///
    /// # Errors
    /// Why they cannot be opened.
    fn open_templates(
        &self,
        owner: VersionOwner<'_>,
        sealed: &SealedTemplates,
        outline: ActionSpec,
    ) -> Result<ActionSpec, Absence>;

    /// Their ids, that of the one that encrypts first.
    fn ids(&self) -> Vec<String>;

    /// Whether this keyed digest is that of `body`; `None` if its key is not among these.
    fn is_digest_of(&self, recorded: &KeyedDigest, body: &str) -> Option<bool>;

    /// Whether this keyed digest is that of the head of a request; `None` if its key is not among these.
    fn is_digest_of_head(&self, recorded: &KeyedDigest, head: RequestHead<'_>) -> Option<bool>;
}

/// The URL that stands in clear for a sealed one: its origin as it is written, and nothing that can be sent.
pub fn outline_url(url: &str) -> String {
    let url = url.trim();
    let origin = url.split_once("://").filter(|_| Host::of_url(url).is_some()).map(|(scheme, rest)| {
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        &url[..scheme.len() + "://".len() + authority.len()]
    });
    format!("{}{NOTHING_TO_SEND}", origin.unwrap_or(NO_ORIGIN))
}

/// The texts of a version in one form, of which its digest is made: of each its length and its bytes. Its memory is wiped.
pub fn canonical(spec: &ActionSpec) -> Zeroizing<Vec<u8>> {
    let texts = [Some(&spec.url), spec.headers.as_ref(), spec.body.as_ref()];
    let certificate = spec.client_certificate.as_ref().map(Some);
    let parts: Vec<Option<&String>> = texts.into_iter().chain(certificate).collect();
    let room = parts.iter().map(|part| 4 + part.map_or(0, |text| text.len())).sum();
    // With room for all of it: a text that grows leaves copies behind that are not wiped.
    let mut bytes = Zeroizing::new(Vec::with_capacity(room));
    for part in parts {
        // No text is as long as that.
        let length = part.map_or(-1, |text| i32::try_from(text.len()).unwrap_or(i32::MAX));
        bytes.extend(length.to_be_bytes());
        bytes.extend(part.map(|text| text.as_bytes()).unwrap_or_default());
    }
    bytes
}

/// A version whose templates could not be opened: what is known of it in clear, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.why())]
pub struct Unopened {
    /// The HTTP method.
    pub method: Method,
    /// Deadline of the whole request, in milliseconds.
    pub timeout_ms: u32,
    /// Scheme, host and port, as they are written.
    pub origin: String,
    /// The secret that holds the certificate of the client.
    pub client_certificate: Option<String>,
    /// Why the templates could not be opened.
    pub absence: Absence,
}

impl Unopened {
    /// What there is to say of a version of which `outline` is known.
    pub fn new(outline: ActionSpec, absence: Absence) -> Unopened {
        let origin = outline.url.strip_suffix(NOTHING_TO_SEND).unwrap_or(&outline.url).to_owned();
        Unopened {
            method: outline.method,
            timeout_ms: outline.timeout_ms,
            origin,
            client_certificate: outline.client_certificate,
            absence,
        }
    }

    /// Why the templates cannot be seen, and what to do about it.
    pub fn why(&self) -> &'static str {
        match self.absence {
            Absence::NoKey | Absence::NotSet => {
                "the templates of this action are sealed, and cannot be opened without the key file: name it with --key-file or \
                 POSTCALL_KEY_FILE"
            }
            Absence::UnknownKey => {
                "the templates of this action are sealed, and cannot be opened: the key file lacks the key that they need"
            }
            Absence::Damaged | Absence::OnlyCertificate => {
                "the templates of this action are sealed, and cannot be opened: they were changed in the database. Publish the \
                 action anew"
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_sealed_url_the_origin_stays_as_it_is_written_and_nothing_else() {
        for (url, outline) in [
            ("https://crm.example/T0/s3cret", "https://crm.example/${"),
            ("  HTTPS://CRM.example:8443?x=${y}", "HTTPS://CRM.example:8443/${"),
            ("http://[::1]:80#s3cret", "http://[::1]:80/${"),
            ("https://user:s3cret@crm.example/", "none://-/${"),
            ("https://${s3cret}/", "none://-/${"),
            ("s3cret", "none://-/${"),
        ] {
            assert_eq!(outline_url(url), outline, "{url}");
            assert_eq!(Host::of_url(outline), Host::of_url(url), "{url}");
        }
    }

    #[test]
    fn different_versions_have_different_canonical_bytes_and_a_text_that_is_empty_is_not_none() {
        let spec = |url: &str, headers: Option<&str>, body: Option<&str>, certificate: Option<&str>| {
            let owned = |text: Option<&str>| text.map(str::to_owned);
            canonical(&ActionSpec {
                method: Method::Post,
                url: url.to_owned(),
                timeout_ms: 1_000,
                headers: owned(headers),
                body: owned(body),
                client_certificate: owned(certificate),
            })
            .to_vec()
        };
        assert_eq!(spec("u", None, Some("bc"), None), b"\0\0\0\x01u\xff\xff\xff\xff\0\0\0\x02bc");
        assert_eq!(spec("u", None, None, Some("c")), b"\0\0\0\x01u\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\x01c");
        let all = [
            spec("u", Some(""), None, None),
            spec("u", None, Some(""), None),
            spec("u", None, None, None),
            spec("ub", Some("c"), None, None),
            spec("u", Some("bc"), None, None),
        ];
        assert!((0..all.len()).all(|one| (0..one).all(|other| all[one] != all[other])));
    }

    #[test]
    fn canonical_bytes_never_grow_because_what_they_leave_behind_is_not_wiped() {
        let text = || "t".repeat(1_000);
        for (headers, client_certificate) in [(None, None), (Some(text()), None), (None, Some(text()))] {
            let spec = ActionSpec {
                method: Method::Put,
                url: text(),
                timeout_ms: 1_000,
                headers,
                body: Some(text()),
                client_certificate,
            };
            let bytes = canonical(&spec);
            assert_eq!(bytes.capacity(), bytes.len());
        }
    }

    #[test]
    fn why_a_version_is_not_opened_is_told_with_the_cure() {
        for (absence, part) in [
            (Absence::NoKey, "name it with --key-file"),
            (Absence::NotSet, "name it with --key-file"),
            (Absence::UnknownKey, "the key file lacks the key"),
            (Absence::Damaged, "Publish the action anew"),
            (Absence::OnlyCertificate, "Publish the action anew"),
        ] {
            let outline = ActionSpec {
                method: Method::Put,
                url: outline_url("https://crm.example/s3cret"),
                timeout_ms: 1_000,
                headers: None,
                body: None,
                client_certificate: None,
            };
            let unopened = Unopened::new(outline, absence);
            assert!(unopened.why().contains(part), "{absence:?}");
            assert_eq!(
                (unopened.to_string().as_str(), unopened.origin.as_str()),
                (unopened.why(), "https://crm.example")
            );
        }
    }
}
