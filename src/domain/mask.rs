//! Hides probable secrets wherever a request is shown or stored: credentials that an author wrote into a header or a
//! query parameter. They are recognised by the name of the header or parameter.

use percent_encoding::percent_decode_str;

/// The text that replaces a masked value.
pub const MASK: &str = "***";

/// A header or query parameter is a secret if its name contains one of these words.
const SECRET_WORDS: [&str; 9] =
    ["auth", "token", "secret", "password", "passwd", "api-key", "apikey", "api_key", "cookie"];

/// A header or query parameter is a secret if one of these is a whole word of its name, as in `x-signature` and
/// `access_key`. Inside of other words they mean something else, as in `monkey`.
const SECRET_WHOLE_WORDS: [&str; 4] = ["key", "sig", "signature", "pwd"];

/// A header or query parameter with exactly this name is a secret. In a longer name it rarely is one (`country_code`).
const SECRET_NAMES: [&str; 1] = ["code"];

/// Whether the value of a header or parameter with this name is probably a secret. In a URL, a name may be
/// percent-encoded; receivers read the decoded one.
pub fn is_secret(name: &str) -> bool {
    let name = percent_decode_str(name).decode_utf8_lossy();
    let lower = name.to_ascii_lowercase();
    SECRET_WORDS.iter().any(|word| lower.contains(word))
        || spaced(&name).split(' ').any(|word| SECRET_WHOLE_WORDS.contains(&word))
        || SECRET_NAMES.contains(&lower.as_str())
}

/// The words of a name in lower case, with blanks between them: `x-signature` and `accessKey` have two words each.
fn spaced(name: &str) -> String {
    let mut words = String::with_capacity(name.len() + 4);
    let mut after_lower = false;
    for character in name.chars() {
        if !character.is_ascii_alphanumeric() || (after_lower && character.is_ascii_uppercase()) {
            words.push(' ');
        }
        if character.is_ascii_alphanumeric() {
            words.push(character.to_ascii_lowercase());
        }
        after_lower = character.is_ascii_lowercase() || character.is_ascii_digit();
    }
    words
}

/// A header's value as it may be shown.
pub fn header<'a>(name: &str, value: &'a str) -> &'a str {
    if is_secret(name) { MASK } else { value }
}

/// A URL as it may be shown and stored: the values of query parameters with secret names are masked.
pub fn url(url: &str) -> String {
    let Some((before, query)) = url.split_once('?') else { return url.to_owned() };
    let parameters: Vec<String> = query
        .split('&')
        .map(|parameter| match parameter.split_once('=') {
            Some((name, value)) if !value.is_empty() && is_secret(name) => format!("{name}={MASK}"),
            _ => parameter.to_owned(),
        })
        .collect();
    format!("{before}?{}", parameters.join("&"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_known_by_the_names_they_stand_under() {
        let by_part =
            ["Authorization", "x-api-key", "X-Auth-Token", "cookie", "access_token", "client_secret", "tok%65n"];
        let by_word = [
            "key",
            "X-Signature",
            "hmac_signature",
            "subscription-key",
            "private_key",
            "sig",
            "code",
            "accessKey",
            "AWSAccessKeyId",
        ];
        for name in by_part.iter().chain(&by_word) {
            assert!(is_secret(name), "{name}");
        }
        for name in ["content-type", "x-call", "keyword", "monkey", "signal", "country_code", "id"] {
            assert!(!is_secret(name), "{name}");
        }
    }

    #[test]
    fn a_masked_url_differs_only_in_the_values_of_its_secrets() {
        let shown = url("https://a.example/p?id=1&token=s3cret&empty_token=&flag&key=%2B1");
        assert_eq!(shown, "https://a.example/p?id=1&token=***&empty_token=&flag&key=***");
        assert_eq!(url("https://a.example/p"), "https://a.example/p");
    }
}
