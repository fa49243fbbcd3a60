//! Signed requests, as Standard Webhooks 1.0.0 has them: what is signed, and how signatures and keys are written.
//!
//! A signature covers the request's id, the time at which it is sent, and its body byte by byte. A request without a body has
//! nothing behind the second full stop.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::closed_set::closed_set;
use super::problem::{Code, Field, Problem};
use super::secret::Absence;

/// The header with the time of sending, in seconds since 1970.
pub const TIMESTAMP_HEADER: &str = "webhook-timestamp";
/// The header with the signatures, with a blank between them.
pub const SIGNATURE_HEADER: &str = "webhook-signature";
/// The largest number of keys that sign one request. The schema holds it: each key is one more signature in every request.
pub const MAX_KEYS: usize = 4;
/// The longest time for which a replaced key goes on signing, in seconds: 30 days. The schema holds it.
pub const MAX_KEEP_SECONDS: u32 = 30 * 24 * 3_600;
/// Random bytes of a new symmetric key. The standard wants 24 to 64; HMAC-SHA256 is not stronger with more than 32.
pub const SYMMETRIC_BYTES: usize = 32;
/// Bytes of the seed of an asymmetric key, from which the pair of keys is made.
pub const SEED_BYTES: usize = 32;
/// How a symmetric key begins, as both sides have it.
const SECRET_PREFIX: &str = "whsec_";
/// How a key begins that verifies.
const PUBLIC_PREFIX: &str = "whpk_";

closed_set! {
    /// How a request is signed.
    pub enum Scheme {
        /// HMAC-SHA256 with a secret that both sides have.
        Symmetric = "v1",
        /// ed25519: postcall has the key that signs, and everybody may have the one that verifies.
        Asymmetric = "v1a",
    }
}

/// Why nothing is sent if the keys of an agent cannot be opened.
pub fn unsigned(absence: Absence) -> Problem {
    let why = match absence {
        Absence::NoKey => "there is no key file (--key-file)",
        Absence::UnknownKey => "the key file lacks the key that it needs",
        Absence::NotSet | Absence::OnlyCertificate | Absence::Damaged => {
            "it was changed in the database. Disable signing, and enable it anew"
        }
    };
    let message = format!("the key that signs this agent's requests cannot be opened: {why}");
    Problem::new(Code::NoSigningKey, Field::Action, message)
}

/// What a signature covers.
#[derive(Clone, Copy)]
pub struct Message<'a> {
    /// The request's `webhook-id`.
    pub id: Uuid,
    /// When it is sent, in seconds since 1970.
    pub timestamp: i64,
    /// Its body; `None` counts as an empty one.
    pub body: Option<&'a str>,
}

impl Message<'_> {
    /// What is signed before the body: `id.timestamp.`
    pub fn head(&self) -> String {
        format!("{}.{}.", self.id, self.timestamp)
    }

    /// The bytes of the body.
    pub fn payload(&self) -> &[u8] {
        self.body.unwrap_or_default().as_bytes()
    }
}

/// One signature in its header: the scheme, a comma, and the bytes in base64.
pub fn signature(scheme: Scheme, bytes: &[u8]) -> String {
    format!("{scheme},{}", STANDARD.encode(bytes))
}

/// A symmetric key as both sides have it.
pub fn secret_text(key: &[u8]) -> Zeroizing<String> {
    let encoded = Zeroizing::new(STANDARD.encode(key));
    Zeroizing::new([SECRET_PREFIX, &encoded].concat())
}

/// A key that verifies, as receivers have it.
pub fn public_text(key: &[u8]) -> String {
    format!("{PUBLIC_PREFIX}{}", STANDARD.encode(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_signed_is_id_time_and_body_with_full_stops_between_them() {
        let id = Uuid::from_u128(0x0192_f0c1_0000_7000_8000_0000_0000_0001);
        let message = Message { id, timestamp: 1_674_087_231, body: Some("{\"a\": 1}") };
        assert_eq!(message.head(), "0192f0c1-0000-7000-8000-000000000001.1674087231.");
        assert_eq!(message.payload(), b"{\"a\": 1}");
        assert_eq!(Message { body: None, ..message }.payload(), b"");
    }

    #[test]
    fn keys_and_signatures_have_the_forms_of_the_standard() {
        assert_eq!(*secret_text(&[0, 1, 2]), "whsec_AAEC");
        assert_eq!(public_text(&[0, 1, 2]), "whpk_AAEC");
        assert_eq!(signature(Scheme::Symmetric, &[0, 1, 2]), "v1,AAEC");
        assert_eq!(signature(Scheme::Asymmetric, &[0, 1, 2]), "v1a,AAEC");
    }
}
