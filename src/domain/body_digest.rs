//! The digest of a request's body, or of an action file that was tested, which history keeps instead of the text.
//!
//! Whoever reads a plain digest can try what the text was: a phone number is one of few. So it is keyed, where there is a key.

/// Bytes of the id of an operator's key.
pub const KEY_ID_BYTES: usize = 8;
/// Bytes of a keyed digest: the id of its key, and an HMAC-SHA256.
pub const KEYED_BYTES: usize = KEY_ID_BYTES + 32;

/// The digest of a body or a file as history keeps it. Its length says which kind it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyDigest {
    /// SHA-256.
    Plain([u8; 32]),
    /// The id of an operator's key, and HMAC-SHA256 under a key that is derived from it.
    Keyed([u8; KEYED_BYTES]),
}

impl BodyDigest {
    /// Its bytes.
    pub fn as_slice(&self) -> &[u8] {
        match self {
            BodyDigest::Plain(bytes) => bytes,
            BodyDigest::Keyed(bytes) => bytes,
        }
    }
}

/// What a recorded digest, in hexadecimal, is for people: its name, and its value.
pub fn in_words(recorded: &str) -> (&'static str, String) {
    match recorded.split_at_checked(2 * KEY_ID_BYTES) {
        Some((key_id, hmac)) if recorded.len() == 2 * KEYED_BYTES => {
            ("HMAC-SHA256", format!("{hmac} (under the key {key_id}; compared with --key-file)"))
        }
        _ => ("SHA-256", recorded.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recorded_digest_is_named_by_what_it_is_and_a_keyed_one_tells_its_key() {
        let recorded =
            |digest: BodyDigest| digest.as_slice().iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let (key, code) = ("01".repeat(KEY_ID_BYTES), "ab".repeat(KEYED_BYTES - KEY_ID_BYTES));
        let mut keyed = [0xab; KEYED_BYTES];
        keyed[..KEY_ID_BYTES].fill(1);
        let told = format!("{code} (under the key {key}; compared with --key-file)");
        assert_eq!(in_words(&recorded(BodyDigest::Keyed(keyed))), ("HMAC-SHA256", told));
        assert_eq!(in_words(&recorded(BodyDigest::Plain([0xab; 32]))), ("SHA-256", "ab".repeat(32)));
    }
}
