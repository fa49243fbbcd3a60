//! The beginning and the end of a response's body, for people who ask why a receiver refused a request.

use std::fmt;

use memchr::memmem;
use secrecy::ExposeSecret;
use zeroize::Zeroizing;

use super::mask::probable_secrets;
use super::percent::encoded;
use super::request::Request;
use super::secret::{SecretValue, Secrets};

/// How many bytes of the beginning are kept at most, and how many of the end.
pub const MAX_SIDE_BYTES: usize = 2_048;
/// The shortest piece of a secret that is masked, in bytes: shorter ones are in every text.
const SHORTEST_PIECE: usize = 4;
/// What stands in the place of a secret. It is shorter than every piece, so that no side gets longer.
const MASK: &[u8] = b"***";

/// The beginning and the end of a body. It may hold personal data and is never logged, not even by `{:?}`.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Excerpt {
    beginning: Vec<u8>,
    /// What came last of what is not in the beginning.
    ending: Vec<u8>,
    left_out: usize,
}

impl Excerpt {
    /// An excerpt whose parts are known.
    pub fn of(beginning: Vec<u8>, ending: Vec<u8>, left_out: usize) -> Excerpt {
        Excerpt { beginning, ending, left_out }
    }

    /// The first bytes of the body.
    pub fn beginning(&self) -> &[u8] {
        &self.beginning
    }

    /// The last bytes that were read. Empty if the beginning is all.
    pub fn ending(&self) -> &[u8] {
        &self.ending
    }

    /// How many bytes between the two were read and are not kept.
    pub fn left_out(&self) -> usize {
        self.left_out
    }

    /// Takes the next bytes of the body.
    pub fn push(&mut self, bytes: &[u8]) {
        let (first, rest) = bytes.split_at(bytes.len().min(MAX_SIDE_BYTES - self.beginning.len()));
        self.beginning.extend_from_slice(first);
        // Whatever the size of a piece, no more than two sides are in memory.
        let skipped = rest.len().saturating_sub(MAX_SIDE_BYTES);
        self.ending.extend_from_slice(&rest[skipped..]);
        let surplus = self.ending.len().saturating_sub(MAX_SIDE_BYTES);
        self.ending.drain(..surplus);
        self.left_out += skipped + surplus;
    }

    /// Masks the secrets that were sent, for a receiver may answer with what it got. Of each secret, it finds the value as it is, as JSON
    /// writes it, and percent-encoded; a receiver that writes it in another way is not found out.
    pub fn mask(&mut self, secrets: &Secrets) {
        self.mask_all(secrets.values().flat_map(forms));
    }

    /// Masks what was probably typed as a secret into the request that was sent: the values of headers and parameters that are masked
    /// wherever a request is shown, and the parts of the path that can hardly be guessed. It finds them as [`Excerpt::mask`] does.
    pub fn mask_typed(&mut self, request: &Request) {
        let typed = probable_secrets(&request.url, &request.headers);
        self.mask_all(typed.iter().flat_map(|value| forms(&SecretValue::new(value))));
    }

    fn mask_all(&mut self, forms: impl Iterator<Item = Zeroizing<Vec<u8>>>) {
        for form in forms.filter(|form| form.len() >= SHORTEST_PIECE) {
            if self.left_out == 0 {
                // The two sides are one text, which may have been cut within the secret.
                let whole = masked(&[self.beginning(), self.ending()].concat(), &form);
                let (beginning, ending) = whole.split_at(whole.len().min(MAX_SIDE_BYTES));
                (self.beginning, self.ending) = (beginning.to_vec(), ending.to_vec());
                continue;
            }
            self.beginning = masked(&self.beginning, &form);
            self.ending = masked(&self.ending, &form);
            // What was cut within it, where something was left out.
            let lengths = || (SHORTEST_PIECE..form.len()).rev();
            if let Some(piece) = lengths().find(|length| self.beginning.ends_with(&form[..*length])) {
                self.beginning.truncate(self.beginning.len() - piece);
                self.beginning.extend_from_slice(MASK);
            }
            if let Some(piece) = lengths().find(|length| self.ending.starts_with(&form[form.len() - length..])) {
                self.ending.splice(..piece, MASK.iter().copied());
            }
        }
    }

    /// What was kept, as text: bytes that are not UTF-8 are replaced, and what was left out is counted.
    pub fn text(&self) -> String {
        if self.left_out == 0 {
            return String::from_utf8_lossy(&[self.beginning(), self.ending()].concat()).into_owned();
        }
        let side = |bytes| String::from_utf8_lossy(bytes).into_owned();
        format!("{}\n… {} bytes …\n{}", side(&self.beginning), self.left_out, side(&self.ending))
    }
}

impl fmt::Debug for Excerpt {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Excerpt({} + {} bytes)", self.beginning.len(), self.ending.len())
    }
}

/// The ways in which a receiver probably writes a secret.
fn forms(value: &SecretValue) -> [Zeroizing<Vec<u8>>; 3] {
    let (text, json) = (value.text(), value.json());
    let (plain, escaped) = (text.expose_secret(), json.get(1..json.len().saturating_sub(1)).unwrap_or_default());
    [plain.to_owned(), escaped.to_owned(), encoded(plain).to_string()].map(|form| Zeroizing::new(form.into_bytes()))
}

/// The text with the mask wherever the form stands.
fn masked(text: &[u8], form: &[u8]) -> Vec<u8> {
    let (mut rest, mut masked) = (text, Vec::with_capacity(text.len()));
    while let Some(at) = memmem::find(rest, form) {
        masked.extend_from_slice(&rest[..at]);
        masked.extend_from_slice(MASK);
        rest = &rest[at + form.len()..];
    }
    masked.extend_from_slice(rest);
    masked
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::action::Method;

    #[test]
    fn a_secret_that_a_receiver_sends_back_is_masked_however_it_is_written_and_wherever_it_was_cut() {
        let secret = "s3cr\"t /é";
        let secrets = Secrets::Opened(vec![("K".to_owned(), Ok(SecretValue::new(secret)))]);
        let kept = |body: &[u8]| {
            let mut excerpt = Excerpt::default();
            excerpt.push(body);
            excerpt.mask(&secrets);
            excerpt
        };
        let body = format!("a {secret} {{\"k\": \"s3cr\\\"t /é\"}} /s3cr%22t%20%2F%C3%A9/ b");
        assert_eq!(kept(body.as_bytes()).text(), "a *** {\"k\": \"***\"} /***/ b");
        for before in MAX_SIDE_BYTES - secret.len()..=MAX_SIDE_BYTES {
            for after in [0, 3 * MAX_SIDE_BYTES] {
                let body = [&vec![b'x'; before], secret.as_bytes(), &vec![b'y'; after]].concat();
                let excerpt = kept(&body);
                let text = [excerpt.beginning(), b"|", excerpt.ending()].concat();
                assert!(memmem::find(&text, b"s3cr").is_none(), "{before} {after}");
                assert!(excerpt.beginning().len() <= MAX_SIDE_BYTES && excerpt.ending().len() <= MAX_SIDE_BYTES);
                assert!(excerpt.beginning().starts_with(&body[..before]), "what is no secret stays: {before} {after}");
            }
            let body = [&vec![b'x'; 2 * MAX_SIDE_BYTES], secret.as_bytes(), &vec![b'y'; before]].concat();
            assert!(memmem::find(kept(&body).ending(), "t /é".as_bytes()).is_none(), "{before}");
        }
        let short = Secrets::Opened(vec![("K".to_owned(), Ok(SecretValue::new("ab")))]);
        let mut excerpt = Excerpt::of(b"ab".to_vec(), Vec::new(), 0);
        excerpt.mask(&short);
        assert_eq!(excerpt.text(), "ab");
    }

    #[test]
    fn what_was_typed_as_a_secret_is_masked_when_a_receiver_sends_it_back() {
        let request = Request {
            method: Method::Post,
            url: "https://h.example/hook/pathT0k3nA1/plain?key=qu%22ery&id=42".to_owned(),
            headers: vec![
                ("authorization".to_owned(), "Bearer hdrT0k3nB2".to_owned()),
                ("content-type".to_owned(), "text/plain".to_owned()),
                ("cookie".to_owned(), "session=c00kieC3; lang=english".to_owned()),
            ],
            body: None,
            timeout_ms: 1_000,
            unresolved: Vec::new(),
            client_certificate: None,
        };
        let mut excerpt = Excerpt::default();
        excerpt.push(
            b"POST /hook/pathT0k3nA1/plain?key=qu%22ery&id=42, {\"token\": \"hdrT0k3nB2\", \"k\": \"qu\\\"ery\"}, Bearer hdrT0k3nB2, \
              text/plain, c00kieC3 Bearer",
        );
        excerpt.mask_typed(&request);
        let expected = "POST /hook/***/plain?key=***&id=42, {\"token\": \"***\", \"k\": \"***\"}, ***, \
                        text/plain, *** Bearer";
        assert_eq!(excerpt.text(), expected);
    }

    #[test]
    fn an_excerpt_says_what_it_leaves_out_and_shows_nothing_in_debug_output() {
        let mut excerpt = Excerpt::default();
        excerpt.push(&[b'a'; MAX_SIDE_BYTES]);
        excerpt.push("secret".as_bytes());
        excerpt.push(&[b'b'; MAX_SIDE_BYTES]);
        let text = excerpt.text();
        assert!(text.starts_with("aaa") && text.ends_with("bbb") && text.contains("\n… 6 bytes …\n"));
        assert_eq!(format!("{excerpt:?}"), "Excerpt(2048 + 2048 bytes)");
        let mut short = Excerpt::default();
        short.push(b"no such lead");
        assert_eq!(short.text(), "no such lead");
    }

    proptest! {
        #[test]
        fn both_sides_are_those_of_the_whole_however_it_is_cut(length in 0..10_000_usize, piece in 1..5_000_usize) {
            let whole: Vec<u8> = (0..length).map(|place| (place % 251) as u8).collect();
            let mut excerpt = Excerpt::default();
            whole.chunks(piece).for_each(|piece| excerpt.push(piece));
            let beginning = length.min(MAX_SIDE_BYTES);
            let ending = (length - beginning).min(MAX_SIDE_BYTES);
            prop_assert_eq!(excerpt.beginning(), &whole[..beginning]);
            prop_assert_eq!(excerpt.ending(), &whole[length - ending..]);
            prop_assert_eq!(excerpt.left_out(), length - beginning - ending);
        }
    }
}
