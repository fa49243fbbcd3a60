//! Keys that sign requests: made, sealed, opened, and used.
//!
//! A key is sealed as its bytes: of a symmetric one those that both sides have, of an asymmetric one the seed of its pair. Its memory
//! is wiped; that of an opened key is not, because the library that signs (ring) does not wipe it.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use chacha20poly1305::aead::Generate;
use chrono::{DateTime, TimeDelta, Utc};
use ring::hmac;
use ring::signature::{Ed25519KeyPair, KeyPair};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{Kept, Keyring, SealError};
use crate::domain::request::Request;
use crate::domain::secret::{Absence, Sealed};
use crate::domain::signature::{
    Message, SEED_BYTES, SIGNATURE_HEADER, SYMMETRIC_BYTES, Scheme, TIMESTAMP_HEADER, public_text, secret_text,
    signature,
};

/// Whose key it is, and which.
#[derive(Clone, Copy, Debug)]
pub struct KeyOwner<'a> {
    /// The agent whose requests it signs.
    pub agent: &'a str,
    /// The key's id.
    pub id: Uuid,
}

/// A new key, sealed, and what its receivers need.
pub struct NewSigningKey {
    /// The key as it is stored.
    pub sealed: Sealed,
    /// The key that verifies; `None` of a symmetric one.
    pub public_key: Option<String>,
    /// What the receiver needs to verify: the secret of a symmetric key, or the public key.
    pub for_receiver: Zeroizing<String>,
}

/// A key that signs requests.
pub struct SigningKey(Opened);

enum Opened {
    Symmetric(hmac::Key),
    Asymmetric(Ed25519KeyPair),
}

/// The keys that sign the requests of one agent: the current one first, and those that it has replaced lately.
#[derive(Clone, Debug)]
pub struct SigningKeys(Vec<Arc<SigningKey>>);

impl Keyring {
    /// Makes a key that signs, and encrypts it for its owner.
    ///
    /// # Errors
    /// There are no random bytes.
    pub fn new_signing_key(&self, owner: KeyOwner<'_>, scheme: Scheme) -> Result<NewSigningKey, SealError> {
        const { assert!(SYMMETRIC_BYTES == SEED_BYTES) };
        let bytes = <[u8; SEED_BYTES]>::try_generate().map(Zeroizing::new).map_err(|_| SealError::NoRandomBytes)?;
        let sealed = self.seal_bytes(Kept::from(owner), bytes.as_slice())?;
        Ok(match scheme {
            Scheme::Symmetric => {
                NewSigningKey { sealed, public_key: None, for_receiver: secret_text(bytes.as_slice()) }
            }
            Scheme::Asymmetric => {
                let pair =
                    Ed25519KeyPair::from_seed_unchecked(bytes.as_slice()).map_err(|_| SealError::NoRandomBytes)?;
                let public = public_text(pair.public_key().as_ref());
                NewSigningKey { sealed, public_key: Some(public.clone()), for_receiver: Zeroizing::new(public) }
            }
        })
    }

    /// Decrypts a key of this owner that signs as the scheme of this name does.
    ///
    /// # Errors
    /// Why it cannot be opened.
    pub fn open_signing_key(&self, owner: KeyOwner<'_>, scheme: &str, sealed: &Sealed) -> Result<SigningKey, Absence> {
        let scheme = Scheme::named(scheme).ok_or(Absence::Damaged)?;
        let bytes = self.open_bytes(Kept::from(owner), sealed)?;
        let opened = match scheme {
            Scheme::Symmetric => Opened::Symmetric(hmac::Key::new(hmac::HMAC_SHA256, &bytes)),
            Scheme::Asymmetric => {
                Opened::Asymmetric(Ed25519KeyPair::from_seed_unchecked(&bytes).map_err(|_| Absence::Damaged)?)
            }
        };
        Ok(SigningKey(opened))
    }
}

impl SigningKey {
    /// The signature of a message, as its header has it.
    fn sign(&self, message: &Message<'_>) -> String {
        match &self.0 {
            Opened::Symmetric(key) => {
                let mut context = hmac::Context::with_key(key);
                context.update(message.head().as_bytes());
                context.update(message.payload());
                signature(Scheme::Symmetric, context.sign().as_ref())
            }
            Opened::Asymmetric(pair) => {
                // ed25519 reads the message twice, so it has to be there as a whole.
                let whole = [message.head().as_bytes(), message.payload()].concat();
                signature(Scheme::Asymmetric, pair.sign(&whole).as_ref())
            }
        }
    }
}

impl SigningKeys {
    /// Those keys; the current one first.
    pub fn new(keys: Vec<Arc<SigningKey>>) -> SigningKeys {
        SigningKeys(keys)
    }

    /// The headers with the time and the signatures.
    fn headers(&self, message: &Message<'_>) -> [(String, String); 2] {
        let signatures: Vec<String> = self.0.iter().map(|key| key.sign(message)).collect();
        [
            (TIMESTAMP_HEADER.to_owned(), message.timestamp.to_string()),
            (SIGNATURE_HEADER.to_owned(), signatures.join(" ")),
        ]
    }
}

/// Signs requests by a clock that is not this machine's: receivers judge the time of a signature, and the database's clock is the
/// one that all dispatchers have.
#[derive(Clone, Debug)]
pub struct Signer {
    keys: Arc<SigningKeys>,
    /// A time by the database's clock.
    at: DateTime<Utc>,
    /// When it was that time.
    known_at: Instant,
}

impl Signer {
    /// Signs with these keys. By the database's clock it was `at` at the moment `known_at`.
    pub fn new(keys: Arc<SigningKeys>, at: DateTime<Utc>, known_at: Instant) -> Signer {
        Signer { keys, at, known_at }
    }

    /// Adds the headers to a rendered request that is about to be sent with the id `webhook_id`. Its author cannot have set them:
    /// their names are reserved.
    pub fn sign(&self, request: &mut Request, webhook_id: Uuid) {
        let since = TimeDelta::from_std(self.known_at.elapsed()).unwrap_or_default();
        let now = self.at.checked_add_signed(since).unwrap_or(self.at);
        let message = Message { id: webhook_id, timestamp: now.timestamp(), body: request.body.as_deref() };
        let headers = self.keys.headers(&message);
        request.headers.extend(headers);
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey(…)")
    }
}

impl fmt::Debug for NewSigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewSigningKey").field("public_key", &self.public_key).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Owner, new_key_line};
    use super::*;

    fn ring() -> Keyring {
        Keyring::parse(&new_key_line().unwrap()).unwrap()
    }

    const OWNER: KeyOwner<'static> = KeyOwner { agent: "a", id: Uuid::nil() };

    /// The example of the standard's own libraries.
    #[test]
    fn the_symmetric_signature_of_the_standard_s_example_is_theirs() {
        use base64::Engine;
        let key = base64::engine::general_purpose::STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
        let mut context = hmac::Context::with_key(&key);
        context.update(b"msg_p5jXN8AQM9LWM0D4loKWxJek.1614265330.");
        context.update(b"{\"test\": 2432232314}");
        let signed = signature(Scheme::Symmetric, context.sign().as_ref());
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn a_key_is_opened_by_its_owner_alone_and_is_no_secret_of_a_template() {
        let keys = ring();
        for scheme in Scheme::ALL {
            let new = keys.new_signing_key(OWNER, scheme).unwrap();
            assert!(keys.open_signing_key(OWNER, scheme.as_str(), &new.sealed).is_ok());
            for other in [KeyOwner { agent: "b", ..OWNER }, KeyOwner { id: Uuid::max(), ..OWNER }] {
                assert_eq!(keys.open_signing_key(other, scheme.as_str(), &new.sealed).unwrap_err(), Absence::Damaged);
            }
            let id = OWNER.id.to_string();
            let as_secret = keys.open(Owner { agent: "a", name: &id }, &new.sealed);
            assert_eq!(as_secret.unwrap_err(), Absence::Damaged);
            let rewrapped = keys.rewrap(OWNER, &new.sealed).unwrap();
            assert!(rewrapped != new.sealed && keys.open_signing_key(OWNER, scheme.as_str(), &rewrapped).is_ok());
        }
        let secret = keys.seal(Owner { agent: "a", name: &OWNER.id.to_string() }, &"x".repeat(32)).unwrap();
        assert_eq!(keys.open_signing_key(OWNER, Scheme::Symmetric.as_str(), &secret).unwrap_err(), Absence::Damaged);
    }

    #[test]
    fn each_key_signs_with_a_blank_between_them_and_none_has_a_debug_form() {
        let keys = ring();
        let open = |scheme| {
            let new = keys.new_signing_key(OWNER, scheme).unwrap();
            let told = format!("{new:?}");
            assert!(scheme == Scheme::Asymmetric || !told.contains(&new.for_receiver["whsec_".len()..]), "{told}");
            Arc::new(keys.open_signing_key(OWNER, scheme.as_str(), &new.sealed).unwrap())
        };
        let both = SigningKeys::new(vec![open(Scheme::Asymmetric), open(Scheme::Symmetric)]);
        let message = Message { id: Uuid::nil(), timestamp: 7, body: None };
        let [timestamp, (_, signatures)] = both.headers(&message);
        assert_eq!(timestamp, ("webhook-timestamp".to_owned(), "7".to_owned()));
        let parts: Vec<&str> = signatures.split(' ').map(|one| one.split_once(',').unwrap().0).collect();
        assert_eq!(parts, ["v1a", "v1"]);
        assert_eq!(format!("{both:?}"), "SigningKeys([SigningKey(…), SigningKey(…)])");
        let other = both.headers(&Message { body: Some(" "), ..message });
        assert_ne!(other[1].1, signatures);
    }
}
