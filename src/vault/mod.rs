//! The vault: seals and opens secrets, the keys that sign requests, and the templates of versions, with the keys of a key file.
//!
//! A secret is encrypted with a random key of its own (XChaCha20-Poly1305), and that key with the operator's. So the operator's
//! key can be changed without a secret being opened, and it encrypts nothing but keys. Agent, name and the format's version go into both
//! as associated data: a row that was moved to another agent or name cannot be opened.
//!
//! This room knows neither the database nor templates. Keys and opened values have no `Debug` form, and their memory is wiped.

mod digest;
mod keyring;
mod signing;
mod templates;

use chacha20poly1305::aead::{Aead, Generate, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use uuid::Uuid;
use zeroize::Zeroizing;

pub use digest::{DigestKey, digest_of};
use keyring::KEY_BYTES;
pub use keyring::{Keyring, KeyringError, new_key_line, read_private};
pub use signing::{KeyOwner, NewSigningKey, Signer, SigningKey, SigningKeys};

use crate::domain::sealed_version::VersionOwner;
use crate::domain::secret::{Absence, Sealed, SecretValue, most_bytes};

/// Bytes of a nonce, which stands before what it was used for. 24 random bytes do not repeat.
const NONCE_BYTES: usize = 24;

/// Whose secret it is, and under which name.
#[derive(Clone, Copy, Debug)]
pub struct Owner<'a> {
    /// The agent.
    pub agent: &'a str,
    /// The secret's name.
    pub name: &'a str,
}

/// What is sealed, and whose it is. A row that was put in the place of another kind cannot be opened, either.
#[derive(Clone, Copy, Debug)]
pub enum Kept<'a> {
    /// A secret that templates name.
    Secret(Owner<'a>),
    /// A key that signs requests.
    SigningKey(KeyOwner<'a>),
    /// The templates of a version.
    Version(VersionOwner<'a>),
}

impl<'a> From<Owner<'a>> for Kept<'a> {
    fn from(owner: Owner<'a>) -> Kept<'a> {
        Kept::Secret(owner)
    }
}

impl<'a> From<KeyOwner<'a>> for Kept<'a> {
    fn from(owner: KeyOwner<'a>) -> Kept<'a> {
        Kept::SigningKey(owner)
    }
}

/// Why a secret cannot be sealed.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// It has no bytes.
    #[error("the secret is empty")]
    Empty,
    /// It is longer than the limit.
    #[error("the secret has more than {0} bytes")]
    TooLong(usize),
    /// The system gave no random bytes, or the cipher refused.
    #[error("the secret cannot be encrypted: the system gives no random bytes")]
    NoRandomBytes,
}

impl Keyring {
    /// Encrypts the secret `value` for its owner, with the first key.
    ///
    /// # Errors
    /// The value is empty or too long, or there are no random bytes.
    pub fn seal(&self, owner: Owner<'_>, value: &str) -> Result<Sealed, SealError> {
        match most_bytes(value) {
            _ if value.is_empty() => Err(SealError::Empty),
            most if value.len() > most => Err(SealError::TooLong(most)),
            _ => self.seal_bytes(owner.into(), value.as_bytes()),
        }
    }

    fn seal_bytes(&self, owner: Kept<'_>, value: &[u8]) -> Result<Sealed, SealError> {
        let data_key = <Key>::try_generate().map(Zeroizing::new).map_err(|_| SealError::NoRandomBytes)?;
        let sealed_value = encrypt(&data_key, value, &about("value", owner, ""));
        let first = self.first();
        let wrapped_key = encrypt(first.key(), data_key.as_slice(), &about("key", owner, first.id()));
        let (sealed_value, wrapped_key) = sealed_value.zip(wrapped_key).ok_or(SealError::NoRandomBytes)?;
        Ok(Sealed { key_id: first.id().to_owned(), wrapped_key, sealed_value })
    }

    /// Decrypts a secret of this owner.
    ///
    /// # Errors
    /// Why it cannot be opened.
    pub fn open(&self, owner: Owner<'_>, sealed: &Sealed) -> Result<SecretValue, Absence> {
        let value = self.open_bytes(owner.into(), sealed)?;
        Ok(SecretValue::new(std::str::from_utf8(&value).map_err(|_| Absence::Damaged)?))
    }

    fn open_bytes(&self, owner: Kept<'_>, sealed: &Sealed) -> Result<Zeroizing<Vec<u8>>, Absence> {
        let data_key = self.unwrap(owner, sealed)?;
        let data_key = key(&data_key).ok_or(Absence::Damaged)?;
        decrypt(&data_key, &sealed.sealed_value, &about("value", owner, "")).ok_or(Absence::Damaged)
    }

    /// Encrypts the key of a secret, or of a key that signs, anew, with the first key. What is sealed stays as it is.
    ///
    /// # Errors
    /// Why it cannot be opened; a system without random bytes counts as [`Absence::Damaged`].
    pub fn rewrap<'a>(&self, owner: impl Into<Kept<'a>>, sealed: &Sealed) -> Result<Sealed, Absence> {
        let owner = owner.into();
        let data_key = self.unwrap(owner, sealed)?;
        let first = self.first();
        let wrapped_key = encrypt(first.key(), &data_key, &about("key", owner, first.id())).ok_or(Absence::Damaged)?;
        Ok(Sealed { key_id: first.id().to_owned(), wrapped_key, sealed_value: sealed.sealed_value.clone() })
    }

    fn unwrap(&self, owner: Kept<'_>, sealed: &Sealed) -> Result<Zeroizing<Vec<u8>>, Absence> {
        let wrapping = self.with_id(&sealed.key_id).ok_or(Absence::UnknownKey)?;
        decrypt(wrapping.key(), &sealed.wrapped_key, &about("key", owner, wrapping.id())).ok_or(Absence::Damaged)
    }
}

/// The associated data: each part with its length before it, so that no two lists of parts give the same.
fn about(what: &str, kept: Kept<'_>, key_id: &str) -> Vec<u8> {
    let mut text = Uuid::encode_buffer();
    let version;
    let (kind, agent, name) = match kept {
        Kept::Secret(owner) => ("postcall secret, format 1", owner.agent, owner.name),
        Kept::SigningKey(owner) => {
            ("postcall signing key, format 1", owner.agent, &*owner.id.hyphenated().encode_lower(&mut text))
        }
        Kept::Version(owner) => {
            version = format!("{} {}", owner.action_id, owner.version);
            ("postcall templates, format 1", owner.agent, version.as_str())
        }
    };
    let mut bytes = Vec::new();
    for part in [kind, what, agent, name, key_id] {
        bytes.extend((part.len() as u64).to_be_bytes());
        bytes.extend(part.as_bytes());
    }
    bytes
}

/// The bytes of a key.
type Key = [u8; KEY_BYTES];

/// A key of these bytes, if they are as many as a key has.
fn key(bytes: &[u8]) -> Option<Zeroizing<Key>> {
    Key::try_from(bytes).ok().map(Zeroizing::new)
}

fn encrypt(key: &Key, plain: &[u8], about: &[u8]) -> Option<Vec<u8>> {
    let nonce = XNonce::try_generate().ok()?;
    let sealed = XChaCha20Poly1305::new(key.into()).encrypt(&nonce, Payload { msg: plain, aad: about }).ok()?;
    Some([&nonce[..], &sealed].concat())
}

fn decrypt(key: &Key, sealed: &[u8], about: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let (nonce, sealed) = sealed.split_at_checked(NONCE_BYTES)?;
    let nonce = XNonce::try_from(nonce).ok()?;
    XChaCha20Poly1305::new(key.into()).decrypt(&nonce, Payload { msg: sealed, aad: about }).ok().map(Zeroizing::new)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::secret::MAX_BYTES;

    fn ring(lines: usize) -> (Keyring, String) {
        let text = (0..lines).map(|_| new_key_line().unwrap().to_string()).collect::<Vec<_>>().join("\n");
        (Keyring::parse(&text).unwrap(), text)
    }

    const OWNER: Owner<'static> = Owner { agent: "a", name: "TOKEN" };

    #[test]
    fn a_sealed_secret_is_opened_by_its_owner_with_its_key_and_by_nothing_else() {
        let (keys, _) = ring(1);
        let sealed = keys.seal(OWNER, "s3cret").unwrap();
        assert_eq!(keys.open(OWNER, &sealed).unwrap().json(), "\"s3cret\"");
        assert!(!sealed.sealed_value.windows(6).any(|bytes| bytes == b"s3cret"));
        for owner in
            [Owner { agent: "b", ..OWNER }, Owner { name: "TOKEN2", ..OWNER }, Owner { agent: "aT", name: "OKEN" }]
        {
            assert_eq!(keys.open(owner, &sealed).unwrap_err(), Absence::Damaged, "{owner:?}");
        }
        assert_eq!(ring(2).0.open(OWNER, &sealed).unwrap_err(), Absence::UnknownKey);
        let changed = |change: fn(&mut Sealed)| {
            let mut changed = sealed.clone();
            change(&mut changed);
            keys.open(OWNER, &changed).unwrap_err()
        };
        assert_eq!(changed(|sealed| sealed.sealed_value[30] ^= 1), Absence::Damaged);
        assert_eq!(changed(|sealed| sealed.wrapped_key[0] ^= 1), Absence::Damaged);
        assert_eq!(changed(|sealed| sealed.sealed_value.truncate(3)), Absence::Damaged);
        let other = keys.seal(OWNER, "s3cret").unwrap();
        assert!(other.sealed_value != sealed.sealed_value && other.wrapped_key != sealed.wrapped_key);
    }

    #[test]
    fn after_a_new_first_key_the_old_one_opens_until_the_secret_is_wrapped_anew() {
        let (old, old_text) = ring(1);
        let (new, new_text) = ring(1);
        let both = Keyring::parse(&format!("{new_text}\n{old_text}\n")).unwrap();
        let sealed = old.seal(OWNER, "s3cret").unwrap();
        assert!(both.open(OWNER, &sealed).is_ok());
        let rewrapped = both.rewrap(OWNER, &sealed).unwrap();
        assert_eq!(new.open(OWNER, &rewrapped).unwrap().json(), "\"s3cret\"");
        assert_eq!(old.open(OWNER, &rewrapped).unwrap_err(), Absence::UnknownKey);
        assert_eq!(rewrapped.sealed_value, sealed.sealed_value);
    }

    #[test]
    fn a_secret_is_neither_empty_nor_longer_than_the_limit() {
        let (keys, _) = ring(1);
        assert!(matches!(keys.seal(OWNER, ""), Err(SealError::Empty)));
        assert!(matches!(keys.seal(OWNER, &"x".repeat(MAX_BYTES + 1)), Err(SealError::TooLong(MAX_BYTES))));
        assert!(keys.seal(OWNER, &"x".repeat(MAX_BYTES)).is_ok());
    }
}
