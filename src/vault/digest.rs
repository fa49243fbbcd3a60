//! Keyed digests: HMAC-SHA256 under a key that is derived from an operator's key (HKDF, RFC 5869), and the id of that one before it.
//!
//! What is digested for another purpose has a derived key of its own. A receiver chooses what it answers: if answers had the key of bodies, it
//! could let postcall make the digest of any body that it wants to try.

use std::fmt;
use std::sync::Arc;

use ring::{hkdf, hmac};
use sha2::{Digest, Sha256};

use super::Keyring;
use super::keyring::WrappingKey;
use crate::domain::body_digest::{
    BodyDigest, KEY_ID_BYTES, KEYED_BYTES, KeyedDigest, RequestHead, ResponseDigests, RunningDigest,
};

/// What a derived key is for: no other use derives the same one. These are the bodies of requests, and files that are tested.
const OF_BODIES: &[u8] = b"postcall digest of bodies, format 1";
/// Method, URL and headers of requests.
const OF_HEADS: &[u8] = b"postcall digest of heads of requests, format 1";
/// The bodies of responses.
const OF_RESPONSES: &[u8] = b"postcall digest of responses, format 1";

/// A key that makes digests. It is derived from an operator's key, which cannot be found from it.
#[derive(Clone)]
pub struct DigestKey {
    id: [u8; KEY_ID_BYTES],
    bodies: hmac::Key,
    heads: hmac::Key,
    responses: hmac::Key,
}

/// The digest of a response of which not all is read.
struct RunningHmac {
    id: [u8; KEY_ID_BYTES],
    context: hmac::Context,
}

impl DigestKey {
    /// The one that is derived from these bytes of an operator's key with this id; `None` only if HKDF gives none.
    pub(super) fn derived(id: [u8; KEY_ID_BYTES], operator: &[u8]) -> Option<DigestKey> {
        let secret = hkdf::Salt::new(hkdf::HKDF_SHA256, &[]).extract(operator);
        let key = |label: &[u8]| Some(hmac::Key::from(secret.expand(&[label], hmac::HMAC_SHA256).ok()?));
        Some(DigestKey { id, bodies: key(OF_BODIES)?, heads: key(OF_HEADS)?, responses: key(OF_RESPONSES)? })
    }

    /// The digest of a body or a file.
    fn digest(&self, body: &str) -> BodyDigest {
        BodyDigest::Keyed(with_id(self.id, hmac::sign(&self.bodies, body.as_bytes())))
    }

    /// The digest of the head of a request.
    pub fn head_digest(&self, head: RequestHead<'_>) -> KeyedDigest {
        let mut context = hmac::Context::with_key(&self.heads);
        head.write(|part| context.update(part));
        with_id(self.id, context.sign())
    }

    /// Whether a digest was made with this key.
    fn made(&self, recorded: &KeyedDigest) -> bool {
        recorded.starts_with(&self.id)
    }
}

impl ResponseDigests for DigestKey {
    fn begin(&self) -> Box<dyn RunningDigest> {
        Box::new(RunningHmac { id: self.id, context: hmac::Context::with_key(&self.responses) })
    }
}

impl RunningDigest for RunningHmac {
    fn update(&mut self, bytes: &[u8]) {
        self.context.update(bytes);
    }

    fn finish(self: Box<Self>) -> BodyDigest {
        BodyDigest::Keyed(with_id(self.id, self.context.sign()))
    }
}

fn with_id(id: [u8; KEY_ID_BYTES], code: hmac::Tag) -> KeyedDigest {
    let mut keyed = [0; KEYED_BYTES];
    keyed[..KEY_ID_BYTES].copy_from_slice(&id);
    keyed[KEY_ID_BYTES..].copy_from_slice(code.as_ref());
    keyed
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
    pub(super) fn is_digest_of_body(&self, recorded: &KeyedDigest, body: &str) -> Option<bool> {
        self.maker_of(recorded).map(|key| key.digest(body).as_slice() == recorded)
    }

    /// Whether this keyed digest is that of the head of a request; `None` if it was made with a key that is not among these.
    pub(super) fn is_digest_of_head(&self, recorded: &KeyedDigest, head: RequestHead<'_>) -> Option<bool> {
        self.maker_of(recorded).map(|key| key.head_digest(head) == *recorded)
    }

    fn maker_of(&self, recorded: &KeyedDigest) -> Option<&Arc<DigestKey>> {
        self.all().map(WrappingKey::digest_key).find(|key| key.made(recorded))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::action::Method;
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

    #[test]
    fn the_digest_of_a_head_is_known_again_by_its_key_as_that_of_a_body_is() {
        let lines: Vec<String> = (0..2).map(|_| new_key_line().unwrap().to_string()).collect();
        let rings = lines.iter().map(|line| Keyring::parse(line).unwrap()).collect::<Vec<_>>();
        let head = |url| RequestHead { method: Method::Get, url, headers: &[] };
        let digest = rings[1].digest_key().head_digest(head("https://h/?phone=4930"));
        let both = Keyring::parse(&lines.join("\n")).unwrap();
        for (ring, url, known) in [
            (&rings[1], "https://h/?phone=4930", Some(true)),
            (&rings[1], "https://h/?phone=4931", Some(false)),
            (&both, "https://h/?phone=4930", Some(true)),
            (&rings[0], "https://h/?phone=4930", None),
        ] {
            assert_eq!(ring.is_digest_of_head(&digest, head(url)), known, "{url}");
        }
    }

    #[test]
    fn nobody_can_let_an_answer_or_a_head_say_what_the_digest_of_a_body_is() {
        let key = Keyring::parse(&new_key_line().unwrap()).unwrap().digest_key();
        let answered = |parts: &[&[u8]]| {
            let mut running = key.begin();
            parts.iter().for_each(|part| running.update(part));
            running.finish()
        };
        let head = RequestHead { method: Method::Get, url: "u", headers: &[] };
        let mut text = Vec::new();
        head.write(|part| text.extend_from_slice(part));
        let of_head = key.head_digest(head);
        let of_body = key.digest(std::str::from_utf8(&text).unwrap());
        let of_response = answered(&[&text]);
        assert!(of_body.as_slice() != of_head && of_response.as_slice() != of_head && of_body != of_response);
        assert_eq!(of_response, answered(&[&text[..3], b"", &text[3..]]), "however it is read");
        assert_ne!(of_response, answered(&[&text[1..]]));
    }
}
