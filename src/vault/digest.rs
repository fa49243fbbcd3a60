//! Keyed digests of bodies and tested files: HMAC-SHA256 under a key that is derived from an operator's key (HKDF, RFC 5869), and its id before it.

use std::fmt;
use std::sync::Arc;

use ring::{hkdf, hmac};
use sha2::{Digest, Sha256};

use super::Keyring;
use super::keyring::WrappingKey;
use crate::domain::body_digest::{BodyDigest, KEY_ID_BYTES, KEYED_BYTES};

/// What the derived key is for: no other use derives the same one.
const LABEL: &[u8] = b"postcall digest of bodies, format 1";

/// A key that makes digests. It is derived from an operator's key, which cannot be found from it.
#[derive(Clone)]
pub struct DigestKey {
    id: [u8; KEY_ID_BYTES],
    key: hmac::Key,
}

impl DigestKey {
    /// The one that is derived from these bytes of an operator's key with this id; `None` only if HKDF gives none.
    pub(super) fn derived(id: [u8; KEY_ID_BYTES], operator: &[u8]) -> Option<DigestKey> {
        let salt = hkdf::Salt::new(hkdf::HKDF_SHA256, &[]);
        let key = salt.extract(operator).expand(&[LABEL], hmac::HMAC_SHA256).ok()?.into();
        Some(DigestKey { id, key })
    }

    /// The digest of a body or a file.
    fn digest(&self, body: &str) -> BodyDigest {
        let mut keyed = [0; KEYED_BYTES];
        keyed[..KEY_ID_BYTES].copy_from_slice(&self.id);
        keyed[KEY_ID_BYTES..].copy_from_slice(hmac::sign(&self.key, body.as_bytes()).as_ref());
        BodyDigest::Keyed(keyed)
    }

    /// Whether this is the digest of `body`; `None` if it was made with another key.
    fn is_digest_of(&self, recorded: &[u8; KEYED_BYTES], body: &str) -> Option<bool> {
        let (id, _) = recorded.split_first_chunk::<KEY_ID_BYTES>()?;
        (*id == self.id).then(|| self.digest(body).as_slice() == recorded)
    }
}

/// The digest of a text that is kept in its place: keyed, if there is a key.
pub fn digest_of(text: &str, key: Option<&DigestKey>) -> BodyDigest {
    key.map_or_else(|| BodyDigest::Plain(Sha256::digest(text).into()), |key| key.digest(text))
}

impl fmt::Debug for DigestKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DigestKey").finish_non_exhaustive()
    }
}

impl Keyring {
    /// The key that makes digests from now on.
    pub fn digest_key(&self) -> Arc<DigestKey> {
        Arc::clone(self.first().digest_key())
    }

    /// Whether this keyed digest is that of `body`; `None` if it was made with a key that is not among these.
    pub(super) fn is_digest_of_body(&self, recorded: &[u8; KEYED_BYTES], body: &str) -> Option<bool> {
        self.all().map(WrappingKey::digest_key).find_map(|key| key.is_digest_of(recorded, body))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vault::new_key_line;

    #[test]
    fn a_digest_is_known_again_by_its_key_and_says_nothing_to_others() {
        let lines: Vec<String> = (0..2).map(|_| new_key_line().unwrap().to_string()).collect();
        let rings = lines.iter().map(|line| Keyring::parse(line).unwrap()).collect::<Vec<_>>();
        let both = Keyring::parse(&lines.join("\n")).unwrap();
        let BodyDigest::Keyed(digest) = rings[1].digest_key().digest("+4930") else { panic!() };
        for (ring, body, known) in [
            (&rings[1], "+4930", Some(true)),
            (&rings[1], "+4931", Some(false)),
            (&both, "+4930", Some(true)),
            (&both, "", Some(false)),
            (&rings[0], "+4930", None),
        ] {
            assert_eq!(ring.is_digest_of_body(&digest, body), known, "{body}");
        }
        assert_eq!(hex::encode(&digest[..KEY_ID_BYTES]), rings[1].first_id());
        assert_ne!(digest, *both.digest_key().digest("+4930").as_slice());
    }
}
