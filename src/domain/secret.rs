//! Secrets: values that a template names as `${secret.NAME}`, and that nobody sees.
//!
//! A secret belongs to an agent. It is encrypted where it is stored. A dispatcher opens it for an attempt, and nothing else
//! does: whoever looks at a request sees the secret's name ([`mask`]). No value has a `Debug` form, and its memory is wiped.

use std::fmt;

use secrecy::{ExposeSecret, SecretBox, SecretString};
use zeroize::Zeroizing;

use super::client_certificate::ClientCertificate;

/// The first name of a path that means a secret: `secret` in `${secret.NAME}`.
pub const ROOT: &str = "secret";
/// The largest number of bytes of a secret's name.
pub const MAX_NAME_BYTES: usize = 64;
/// The largest number of bytes of a secret that a template can name. Tokens of several kilobytes exist.
pub const MAX_BYTES: usize = 4_096;
/// The largest number of bytes of a secret that holds a certificate with its chain and its key, in PEM. No template can name a
/// secret longer than [`MAX_BYTES`].
pub const MAX_CERTIFICATE_BYTES: usize = 16_384;
/// By this a certificate in PEM is told from other secrets.
const PEM_CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----";
/// The largest number of secrets that the templates of one action can name.
pub const MAX_NAMED: usize = 16;
/// The largest number of bytes of a secret as a JSON string: each byte can become `\u0000`, and there are two quotes.
pub const MAX_JSON_BYTES: usize = 6 * MAX_BYTES + 2;

/// Whether `name` can be the name of a secret: a letter, and then letters, digits, `_` and `-`, all of them ASCII.
pub fn is_name(name: &str) -> bool {
    name.len() <= MAX_NAME_BYTES
        && name.starts_with(|first: char| first.is_ascii_alphabetic())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
}

/// How many bytes this secret may have.
pub fn most_bytes(value: &str) -> usize {
    if value.contains(PEM_CERTIFICATE) { MAX_CERTIFICATE_BYTES } else { MAX_BYTES }
}

/// What is shown in place of the secret with this name.
pub fn mask(name: &str) -> String {
    format!("••• {ROOT}.{name}")
}

/// The value of a secret, as a JSON string.
pub struct SecretValue {
    json: SecretBox<String>,
    /// How many bytes it has as it was set.
    bytes: usize,
}

impl SecretValue {
    /// Takes the text of a secret.
    pub fn new(text: &str) -> SecretValue {
        // With room for all of it: a text that grows leaves copies behind that are not wiped.
        let mut json = Zeroizing::new(Vec::with_capacity(6 * text.len() + 2));
        // A string can always be written as JSON into memory.
        serde_json::to_writer(&mut *json, text).unwrap_or_default();
        let json = String::from_utf8(std::mem::take(&mut *json)).unwrap_or_default();
        SecretValue { json: SecretBox::new(Box::new(json)), bytes: text.len() }
    }

    /// The value as a JSON string, with its quotes.
    pub fn json(&self) -> &str {
        self.json.expose_secret()
    }

    /// This value, if it is short enough for a template, or `is_certificate`.
    ///
    /// # Errors
    /// [`Absence::OnlyCertificate`].
    pub fn fitting(self, is_certificate: bool) -> Result<SecretValue, Absence> {
        if is_certificate || !self.is_long() { Ok(self) } else { Err(Absence::OnlyCertificate) }
    }

    /// The value as it was set.
    pub fn text(&self) -> SecretString {
        // What was written as JSON above can be read.
        serde_json::from_str::<String>(self.json()).unwrap_or_default().into()
    }

    /// Whether it is too long for a template.
    fn is_long(&self) -> bool {
        self.bytes > MAX_BYTES
    }
}

impl fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretValue(…)")
    }
}

/// Why there is no value of a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absence {
    /// The agent has no secret of that name.
    NotSet,
    /// The dispatcher was started without a key.
    NoKey,
    /// It is encrypted with a key that the dispatcher does not have.
    UnknownKey,
    /// It is too long for a template: a certificate.
    OnlyCertificate,
    /// It cannot be decrypted: the row was changed, or moved from another agent or name.
    Damaged,
}

impl Absence {
    /// What happened and what to do about it, for the secret of that name.
    pub fn told(self, name: &str) -> String {
        match self {
            Absence::NotSet => {
                format!("the agent has no secret `{name}`: set it with `postcall secret set AGENT {name}`")
            }
            Absence::NoKey => format!("the secret `{name}` cannot be opened: the dispatcher has no key (--key-file)"),
            Absence::UnknownKey => {
                format!("the secret `{name}` cannot be opened: the key file lacks the key that it needs")
            }
            Absence::OnlyCertificate => {
                format!(
                    "the secret `{name}` has more than {MAX_BYTES} bytes: it can be a client_certificate, and no text"
                )
            }
            Absence::Damaged => {
                format!("the secret `{name}` cannot be opened: it was changed in the database. Set it anew")
            }
        }
    }

    /// Whether the operator has to do something about it, and not the customer.
    pub fn concerns_operator(self) -> bool {
        !matches!(self, Absence::NotSet | Absence::OnlyCertificate)
    }
}

/// The secrets that the templates of one action name, each with its value or the reason why it has none.
#[derive(Debug)]
pub enum Secrets {
    /// For a request that is shown: each secret is masked.
    Masked,
    /// For a request that is sent.
    Opened(Vec<(String, Result<SecretValue, Absence>)>),
}

impl Secrets {
    /// No secrets, for an action that names none.
    pub const NONE: Secrets = Secrets::Opened(Vec::new());

    /// The values of an opened set that templates can have.
    pub fn values(&self) -> impl Iterator<Item = &SecretValue> {
        let opened = if let Secrets::Opened(opened) = self { opened.as_slice() } else { &[] };
        opened.iter().filter_map(|(_, value)| value.as_ref().ok()).filter(|value| !value.is_long())
    }

    /// The value of the secret `name` of an opened set, for a template.
    ///
    /// # Errors
    /// Why it has none.
    pub fn get(&self, name: &str) -> Result<&SecretValue, Absence> {
        self.opened(name).and_then(|value| if value.is_long() { Err(Absence::OnlyCertificate) } else { Ok(value) })
    }

    /// The certificate that the secret `name` of an opened set holds; `None` if secrets are masked.
    ///
    /// # Errors
    /// Why it has none.
    pub fn certificate(&self, name: &str) -> Result<Option<ClientCertificate>, Absence> {
        match self {
            Secrets::Masked => Ok(None),
            Secrets::Opened(_) => self.opened(name).map(|value| Some(ClientCertificate::new(name, value.text()))),
        }
    }

    fn opened(&self, name: &str) -> Result<&SecretValue, Absence> {
        let Secrets::Opened(opened) = self else { return Err(Absence::NotSet) };
        match opened.iter().find(|(known, _)| known == name) {
            Some((_, Ok(value))) => Ok(value),
            Some((_, Err(absence))) => Err(*absence),
            None => Err(Absence::NotSet),
        }
    }
}

/// A secret as it is stored: its value is encrypted with a key of its own, and that key with the key of an operator.
#[derive(Clone, PartialEq, Eq)]
pub struct Sealed {
    /// Which of the operator's keys it is.
    pub key_id: String,
    /// The encrypted key of the value.
    pub wrapped_key: Vec<u8>,
    /// The encrypted value.
    pub sealed_value: Vec<u8>,
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealed").field("key_id", &self.key_id).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_plain_ascii_and_short() {
        for name in ["a", "API_KEY", "crm-token2", &"x".repeat(MAX_NAME_BYTES)] {
            assert!(is_name(name), "{name}");
        }
        for name in ["", "2a", "_a", "a b", "a.b", "ä", "a\0", &"x".repeat(MAX_NAME_BYTES + 1)] {
            assert!(!is_name(name), "{name:?}");
        }
    }

    #[test]
    fn a_value_is_a_json_string_and_has_no_debug_form() {
        for text in ["s3cret", "\"\\\n\u{1}é", &"\u{1}".repeat(MAX_BYTES)] {
            let value = SecretValue::new(text);
            assert_eq!(serde_json::from_str::<String>(value.json()).unwrap(), text);
            assert!(value.json().len() <= MAX_JSON_BYTES);
            assert_eq!(format!("{value:?}"), "SecretValue(…)");
        }
        let opened = Secrets::Opened(vec![("a".to_owned(), Ok(SecretValue::new("s3cret")))]);
        assert!(!format!("{opened:?}").contains("s3cret"));
        assert_eq!(opened.get("b").unwrap_err(), Absence::NotSet);
    }

    #[test]
    fn why_there_is_no_value_is_told_with_the_name_and_to_whom_it_can_mend() {
        for (absence, part, operator) in [
            (Absence::NotSet, "postcall secret set AGENT TOKEN", false),
            (Absence::NoKey, "--key-file", true),
            (Absence::UnknownKey, "lacks the key", true),
            (Absence::OnlyCertificate, "client_certificate", false),
            (Absence::Damaged, "Set it anew", true),
        ] {
            let told = absence.told("TOKEN");
            assert!(told.contains("`TOKEN`") && told.contains(part), "{told}");
            assert_eq!(absence.concerns_operator(), operator, "{absence:?}");
        }
    }

    #[test]
    fn a_secret_that_is_too_long_for_a_template_is_a_certificate_and_nothing_else() {
        let opened = |text: &str| Secrets::Opened(vec![("A".to_owned(), Ok(SecretValue::new(text)))]);
        let (longest, longer) = ("é".repeat(MAX_BYTES / 2), "é".repeat(MAX_BYTES / 2) + "x");
        for (text, fits) in [("", true), (&longest, true), (&longer, false)] {
            let (secrets, absence) = (opened(text), (!fits).then_some(Absence::OnlyCertificate));
            assert_eq!(secrets.get("A").err(), absence);
            assert_eq!(secrets.values().count(), usize::from(fits));
            assert_eq!(SecretValue::new(text).fitting(false).err(), absence);
            assert!(SecretValue::new(text).fitting(true).is_ok());
            let certificate = secrets.certificate("A").unwrap().unwrap();
            assert_eq!((certificate.secret(), certificate.pem()), ("A", text));
            assert_eq!(secrets.certificate("B"), Err(Absence::NotSet));
        }
        assert_eq!(Secrets::Masked.certificate("A"), Ok(None));
    }

    #[test]
    fn only_a_certificate_may_be_longer_than_what_a_template_can_name() {
        let bounds = ["", "s3cret", "-----BEGIN CERTIFICATE-----\nMII"].map(most_bytes);
        assert_eq!(bounds, [MAX_BYTES, MAX_BYTES, MAX_CERTIFICATE_BYTES]);
    }

    #[test]
    fn whoever_looks_at_a_request_reads_which_secret_stands_there() {
        assert_eq!(mask("CRM_TOKEN"), "••• secret.CRM_TOKEN");
    }
}
