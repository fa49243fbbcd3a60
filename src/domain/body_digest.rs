//! The digests that history keeps instead of texts: of the bodies of requests and responses, of the heads of requests, and of action
//! files that were tested.
//!
//! Whoever reads a plain digest can try what the text was: a phone number is one of few. So it is keyed, where there is a key.

use std::fmt;

use super::action::Method;

/// Bytes of the id of an operator's key.
pub const KEY_ID_BYTES: usize = 8;
/// Bytes of a keyed digest: the id of its key, and an HMAC-SHA256.
pub const KEYED_BYTES: usize = KEY_ID_BYTES + 32;

/// A keyed digest: the id of an operator's key, and an HMAC-SHA256 under a key that is derived from it.
pub type KeyedDigest = [u8; KEYED_BYTES];

/// The digest of a body or a file as history keeps it. Its length says which kind it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyDigest {
    /// SHA-256.
    Plain([u8; 32]),
    /// The id of an operator's key, and HMAC-SHA256 under a key that is derived from it.
    Keyed(KeyedDigest),
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

/// The digest of a body that is still being read.
pub trait RunningDigest: Send {
    /// The next bytes of the body.
    fn update(&mut self, bytes: &[u8]);

    /// The digest of all bytes.
    fn finish(self: Box<Self>) -> BodyDigest;
}

/// Makes the digests of responses. Without one, they are SHA-256.
pub trait ResponseDigests: fmt::Debug + Send + Sync {
    /// The digest of a body of which nothing was read.
    fn begin(&self) -> Box<dyn RunningDigest>;
}

/// What a request says before its body, as far as it can be compared later: without the headers that are made while it is sent
/// (`webhook-id`, the signature and its time, a trace).
#[derive(Clone, Copy)]
pub struct RequestHead<'a> {
    /// GET, POST or PUT.
    pub method: Method,
    /// The whole URL.
    pub url: &'a str,
    /// Names and values, in the order in which they are sent.
    pub headers: &'a [(String, String)],
}

impl RequestHead<'_> {
    /// Hands its parts on in their order, each with its length before it: no two heads give the same bytes.
    pub fn write(&self, mut to: impl FnMut(&[u8])) {
        let headers = self.headers.iter().flat_map(|(name, value)| [name.as_str(), value.as_str()]);
        for part in [self.method.as_str(), self.url].into_iter().chain(headers) {
            to(&(part.len() as u64).to_be_bytes());
            to(part.as_bytes());
        }
    }
}

/// Nothing of what it says, as of a request.
impl fmt::Debug for RequestHead<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestHead")
            .field("method", &self.method)
            .field("headers", &self.headers.len())
            .finish_non_exhaustive()
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

    #[test]
    fn no_two_heads_give_the_same_bytes_whatever_is_shifted_from_one_part_to_the_next() {
        let bytes = |method, url: &str, headers: &[(&str, &str)]| {
            let headers: Vec<_> =
                headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            let head = RequestHead { method, url, headers: &headers };
            let told = format!("{head:?}");
            assert!(!told.contains("https"), "{told}");
            let mut bytes = Vec::new();
            head.write(|part| bytes.extend_from_slice(part));
            bytes
        };
        let url = "https://h.example/?a=1";
        let heads = [
            bytes(Method::Post, url, &[("a", "bc"), ("d", "")]),
            bytes(Method::Put, url, &[("a", "bc"), ("d", "")]),
            bytes(Method::Post, "https://h.example/?a=2", &[("a", "bc"), ("d", "")]),
            bytes(Method::Post, "https://h.example/?a=1a", &[("", "bc"), ("d", "")]),
            bytes(Method::Post, url, &[("ab", "c"), ("d", "")]),
            bytes(Method::Post, url, &[("a", "bcd"), ("", "")]),
            bytes(Method::Post, url, &[("d", ""), ("a", "bc")]),
            bytes(Method::Post, url, &[("a", "bc")]),
            bytes(Method::Post, url, &[("a", "bc"), ("d", ""), ("", "")]),
        ];
        assert!((0..heads.len()).all(|one| (0..one).all(|other| heads[one] != heads[other])));
        let expected = b"\0\0\0\0\0\0\0\x03GET\0\0\0\0\0\0\0\x01u\0\0\0\0\0\0\0\x01n\0\0\0\0\0\0\0\x01v";
        assert_eq!(bytes(Method::Get, "u", &[("n", "v")]), expected);
    }
}
