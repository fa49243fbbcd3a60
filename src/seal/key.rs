//! The keys of checkpoints, in the text forms of C2SP signed notes: `PRIVATE+KEY+NAME+ID+…` signs, `NAME+ID+…`
//! verifies.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// The kind of signature, as C2SP numbers it: Ed25519 over the note's text.
const ED25519_NOTE: u8 = 1;
/// How a key that signs begins.
const PRIVATE: &str = "PRIVATE+KEY+";
/// How many characters of base64 hold nothing but the id of a key.
const MARKED: usize = 5;
/// The longest name of a key, in bytes.
pub const MAX_NAME_BYTES: usize = 100;

/// Why a text is not a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadKey {
    /// A name that C2SP or postcall does not allow.
    #[error("a key's name has 1 to {MAX_NAME_BYTES} visible ASCII characters and no +")]
    Name,
    /// Not a key that verifies.
    #[error("this is not a key that verifies: it has the form NAME+ID+KEY, as `postcall audit new-key` printed it")]
    Verifier,
    /// Not a key that signs.
    #[error(
        "this is not a key that signs: it has the form PRIVATE+KEY+NAME+ID+KEY, as `postcall audit new-key` wrote it"
    )]
    Signer,
}

/// A key that verifies checkpoints. Everybody may know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verifier {
    name: String,
    public: [u8; 32],
}

/// A key that signs checkpoints.
pub struct Signer {
    pair: Ed25519KeyPair,
    verifier: Verifier,
}

impl Verifier {
    /// Its name, which is also that of the log.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The four bytes by which a signature names its key.
    pub fn id(&self) -> [u8; 4] {
        let digest = Sha256::new()
            .chain_update(&self.name)
            .chain_update([b'\n', ED25519_NOTE])
            .chain_update(self.public)
            .finalize();
        [digest[0], digest[1], digest[2], digest[3]]
    }

    /// How the line of its signature begins in a note, behind the dash: its name, and what of its id is in whole
    /// characters of base64. The log is searched by it.
    pub fn mark(&self) -> String {
        let id = STANDARD.encode(self.id());
        format!("{} {}", self.name, &id[..MARKED])
    }

    /// Whether this key made this signature of this text.
    pub fn verifies(&self, text: &str, signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, self.public).verify(text.as_bytes(), signature).is_ok()
    }
}

impl Signer {
    /// The key that these 32 random bytes make.
    ///
    /// # Errors
    /// If the name is not allowed.
    pub fn from_seed(name: &str, seed: &[u8; 32]) -> Result<Signer, BadKey> {
        let allowed = |byte: u8| byte.is_ascii_graphic() && byte != b'+';
        if name.is_empty() || name.len() > MAX_NAME_BYTES || !name.bytes().all(allowed) {
            return Err(BadKey::Name);
        }
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| BadKey::Signer)?;
        let public = pair.public_key().as_ref().try_into().map_err(|_| BadKey::Signer)?;
        Ok(Signer { pair, verifier: Verifier { name: name.to_owned(), public } })
    }

    /// The text of the key that these 32 random bytes make, as its file holds it.
    pub fn text_of(&self, seed: &[u8; 32]) -> Zeroizing<String> {
        let bytes = Zeroizing::new([&[ED25519_NOTE], seed.as_slice()].concat());
        let (verifier, key) = (&self.verifier, Zeroizing::new(STANDARD.encode(&*bytes)));
        Zeroizing::new(format!("{PRIVATE}{}+{}+{}", verifier.name, hex::encode(verifier.id()), *key))
    }

    /// The key that verifies what this one signs.
    pub fn verifier(&self) -> &Verifier {
        &self.verifier
    }

    /// The signature of this text.
    pub fn sign(&self, text: &str) -> Vec<u8> {
        self.pair.sign(text.as_bytes()).as_ref().to_vec()
    }
}

/// The name and the 32 bytes of `NAME+ID+KEY`, and the id as it is written.
fn parts(text: &str) -> Option<(&str, &str, [u8; 32])> {
    let (name, rest) = text.split_once('+')?;
    let (id, key) = rest.split_once('+')?;
    match Zeroizing::new(STANDARD.decode(key).ok()?).split_first()? {
        (&ED25519_NOTE, key) => Some((name, id, key.try_into().ok()?)),
        _ => None,
    }
}

impl FromStr for Verifier {
    type Err = BadKey;

    fn from_str(text: &str) -> Result<Verifier, BadKey> {
        let (name, id, public) = parts(text.trim()).ok_or(BadKey::Verifier)?;
        let verifier = Verifier { name: name.to_owned(), public };
        if name.is_empty() || hex::encode(verifier.id()) != id { Err(BadKey::Verifier) } else { Ok(verifier) }
    }
}

impl FromStr for Signer {
    type Err = BadKey;

    fn from_str(text: &str) -> Result<Signer, BadKey> {
        let (name, id, seed) = text.trim().strip_prefix(PRIVATE).and_then(parts).ok_or(BadKey::Signer)?;
        let signer = Signer::from_seed(name, &seed)?;
        if hex::encode(signer.verifier.id()) == id { Ok(signer) } else { Err(BadKey::Signer) }
    }
}

impl fmt::Display for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = [&[ED25519_NOTE], self.public.as_slice()].concat();
        write!(f, "{}+{}+{}", self.name, hex::encode(self.id()), STANDARD.encode(bytes))
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer({})", self.verifier)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_as_they_are_written_and_as_others_write_them() {
        let signer = Signer::from_seed("postcall.example/history", &[7; 32]).unwrap();
        let text = signer.text_of(&[7; 32]);
        let read: Signer = text.parse().unwrap();
        let verifier: Verifier = signer.verifier().to_string().parse().unwrap();
        assert_eq!((&verifier, read.verifier()), (signer.verifier(), signer.verifier()));
        assert!(verifier.verifies("text", &read.sign("text")) && !verifier.verifies("other", &read.sign("text")));
        assert!(!format!("{read:?}").contains(&text[PRIVATE.len() + 40..]));
        for wrong in ["", "a", "a+b+c", &text, &signer.verifier().to_string().replace("example", "elsewhere")] {
            assert_eq!(wrong.parse::<Verifier>(), Err(BadKey::Verifier), "{wrong}");
        }
        assert!(signer.verifier().to_string().parse::<Signer>().is_err());
        for name in ["", "a b", "a+b", "a\nb", &"a".repeat(MAX_NAME_BYTES + 1)] {
            assert_eq!(Signer::from_seed(name, &[7; 32]).err(), Some(BadKey::Name), "{name}");
        }
    }
}
