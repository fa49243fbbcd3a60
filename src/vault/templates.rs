//! The templates of versions: sealed and opened as secrets are, and known to history by a digest that nobody can guess texts by.
//!
//! A sealed value is a byte that says how the digest was made, the key of the digest if there is one, and the texts in the form of
//! [`canonical`] without the name of the certificate's secret, which stays in clear.

use chacha20poly1305::aead::Generate;
use ring::hmac;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::{Kept, Keyring};
use crate::domain::action::ActionSpec;
use crate::domain::body_digest::{KeyedDigest, RequestHead};
use crate::domain::sealed_version::{NotSealed, OperatorKeys, SealedTemplates, VersionOwner, canonical, outline_url};
use crate::domain::secret::{Absence, Sealed};

/// Bytes of the key of a digest.
const DIGEST_KEY_BYTES: usize = 32;
/// The digest is an HMAC-SHA256 under a key that only those know who can open the version.
const KEYED: u8 = 1;
/// The digest is the SHA-256 under which history knew the version before it was sealed.
const PLAIN: u8 = 0;

/// The key of a digest.
type DigestKey = Zeroizing<[u8; DIGEST_KEY_BYTES]>;

impl OperatorKeys for Keyring {
    fn seal_templates(&self, owner: VersionOwner<'_>, spec: &ActionSpec) -> Result<SealedTemplates, NotSealed> {
        let key = <[u8; DIGEST_KEY_BYTES]>::try_generate().map(Zeroizing::new).map_err(|_| NotSealed)?;
        self.seal_with(owner, spec, Some(&key))
    }

    fn open_templates(
        &self,
        owner: VersionOwner<'_>,
        sealed: &SealedTemplates,
        outline: ActionSpec,
    ) -> Result<ActionSpec, Absence> {
        let value = self.open_bytes(Kept::Version(owner), &sealed.sealed)?;
        let (key, texts) = split(&value).ok_or(Absence::Damaged)?;
        let [url, headers, body] = read(texts).ok_or(Absence::Damaged)?;
        let origin = outline.url.clone();
        let spec = ActionSpec { url: url.ok_or(Absence::Damaged)?, headers, body, ..outline };
        // What stands in clear beside it must be that of the same version.
        let is_whole = digest(&spec, key.as_ref()) == sealed.digest && outline_url(&spec.url) == origin;
        if is_whole { Ok(spec) } else { Err(Absence::Damaged) }
    }

    fn ids(&self) -> Vec<String> {
        self.all().map(|key| key.id().to_owned()).collect()
    }

    fn is_digest_of(&self, recorded: &KeyedDigest, body: &str) -> Option<bool> {
        self.is_digest_of_body(recorded, body)
    }

    fn is_digest_of_head(&self, recorded: &KeyedDigest, head: RequestHead<'_>) -> Option<bool> {
        Keyring::is_digest_of_head(self, recorded, head)
    }
}

impl Keyring {
    /// Encrypts the templates of a version that was published in clear. Its digest stays the one that history knows it by.
    ///
    /// # Errors
    /// There are no random bytes.
    pub fn seal_former(&self, owner: VersionOwner<'_>, spec: &ActionSpec) -> Result<SealedTemplates, NotSealed> {
        self.seal_with(owner, spec, None)
    }

    fn seal_with(
        &self,
        owner: VersionOwner<'_>,
        spec: &ActionSpec,
        key: Option<&DigestKey>,
    ) -> Result<SealedTemplates, NotSealed> {
        let texts = canonical(&ActionSpec { client_certificate: None, ..spec.clone() });
        let mut value = Zeroizing::new(Vec::with_capacity(1 + DIGEST_KEY_BYTES + texts.len()));
        value.push(if key.is_some() { KEYED } else { PLAIN });
        value.extend(key.into_iter().flat_map(|key| key.iter()));
        value.extend_from_slice(&texts);
        let sealed: Sealed = self.seal_bytes(Kept::Version(owner), &value).map_err(|_| NotSealed)?;
        Ok(SealedTemplates { sealed, digest: digest(spec, key) })
    }

    /// Encrypts the key of a sealed version anew, with the first key.
    ///
    /// # Errors
    /// As [`Keyring::rewrap`].
    pub fn rewrap_version(&self, owner: VersionOwner<'_>, sealed: &Sealed) -> Result<Sealed, Absence> {
        self.rewrap(Kept::Version(owner), sealed)
    }
}

/// What history knows a version by. The database computes that without a key in the same way (`postcall.version_digest`).
fn digest(spec: &ActionSpec, key: Option<&DigestKey>) -> Vec<u8> {
    let texts = canonical(spec);
    match key {
        Some(key) => hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key.as_slice()), &texts).as_ref().to_vec(),
        None => Sha256::digest(&*texts).to_vec(),
    }
}

/// The key of the digest, if it has one, and the texts.
fn split(value: &[u8]) -> Option<(Option<DigestKey>, &[u8])> {
    match value.split_first()? {
        (&PLAIN, texts) => Some((None, texts)),
        (&KEYED, rest) => {
            let (key, texts) = rest.split_first_chunk::<DIGEST_KEY_BYTES>()?;
            Some((Some(Zeroizing::new(*key)), texts))
        }
        _ => None,
    }
}

/// The three texts.
fn read(mut texts: &[u8]) -> Option<[Option<String>; 3]> {
    let mut next = || {
        let (length, rest) = texts.split_first_chunk::<4>()?;
        let length = i32::from_be_bytes(*length);
        let (text, rest) = rest.split_at_checked(usize::try_from(length).unwrap_or_default())?;
        texts = rest;
        Some(if length < 0 { None } else { Some(std::str::from_utf8(text).ok()?.to_owned()) })
    };
    let three = [next()?, next()?, next()?];
    texts.is_empty().then_some(three)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::action::Method;
    use crate::vault::new_key_line;

    const OWNER: VersionOwner<'static> = VersionOwner { agent: "a", action_id: 12, version: 3 };

    fn ring() -> Keyring {
        Keyring::parse(&new_key_line().unwrap()).unwrap()
    }

    fn spec(headers: Option<&str>, body: Option<&str>) -> ActionSpec {
        ActionSpec {
            method: Method::Post,
            url: "https://h.example/T0/s3cret".to_owned(),
            timeout_ms: 100,
            headers: headers.map(str::to_owned),
            body: body.map(str::to_owned),
            client_certificate: None,
        }
    }

    fn outline(spec: &ActionSpec) -> ActionSpec {
        ActionSpec { url: outline_url(&spec.url), headers: None, body: None, ..spec.clone() }
    }

    #[test]
    fn sealed_templates_are_opened_as_they_were_in_their_own_place_and_in_no_other() {
        let keys = ring();
        for spec in [spec(None, None), spec(Some(""), None), spec(Some("{\"a\": \"s3cret\"}"), Some("é"))] {
            for sealed in [keys.seal_templates(OWNER, &spec).unwrap(), keys.seal_former(OWNER, &spec).unwrap()] {
                assert_eq!(keys.open_templates(OWNER, &sealed, outline(&spec)), Ok(spec.clone()));
                assert!(!sealed.sealed.sealed_value.windows(6).any(|bytes| bytes == b"s3cret"));
                for owner in [
                    VersionOwner { agent: "b", ..OWNER },
                    VersionOwner { action_id: 1, version: 23, ..OWNER },
                    VersionOwner { version: 4, ..OWNER },
                ] {
                    assert_eq!(keys.open_templates(owner, &sealed, outline(&spec)), Err(Absence::Damaged), "{owner:?}");
                }
                assert_eq!(ring().open_templates(OWNER, &sealed, outline(&spec)), Err(Absence::UnknownKey));
                let other_host = ActionSpec { url: "https://other.example/${".to_owned(), ..outline(&spec) };
                assert_eq!(keys.open_templates(OWNER, &sealed, other_host), Err(Absence::Damaged));
                let other_certificate = ActionSpec { client_certificate: Some("c".to_owned()), ..outline(&spec) };
                assert_eq!(keys.open_templates(OWNER, &sealed, other_certificate), Err(Absence::Damaged));
            }
        }
    }

    #[test]
    fn the_digest_of_a_sealed_version_is_not_that_of_its_texts_and_stays_when_the_key_changes() {
        let (keys, spec) = (ring(), spec(None, Some("1")));
        let sealed = keys.seal_templates(OWNER, &spec).unwrap();
        assert_ne!(sealed.digest, keys.seal_templates(OWNER, &spec).unwrap().digest, "the same texts");
        assert_eq!(keys.seal_former(OWNER, &spec).unwrap().digest, Sha256::digest(&*canonical(&spec)).to_vec());
        let rewrapped = keys.rewrap_version(OWNER, &sealed.sealed).unwrap();
        assert_ne!(rewrapped.wrapped_key, sealed.sealed.wrapped_key);
        let anew = SealedTemplates { sealed: rewrapped, ..sealed };
        assert_eq!(keys.open_templates(OWNER, &anew, outline(&spec)), Ok(spec));
    }
}
