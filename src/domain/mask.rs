//! Hides what must not be read wherever a request is shown or stored.
//!
//! [`header`] and [`url()`] hide probable secrets in a request that is shown to those who may read calls and actions:
//! credentials that an author wrote into a header or a query parameter. They are recognised by their names.
//!
//! [`recorded_url`] is stricter. It makes what history keeps of a URL, which is read by people who may not read calls: the
//! origin, the plain words of the path and the names of the parameters. A phone number, a name or a token has no place there,
//! and no rule could tell which number is one.

use percent_encoding::percent_decode_str;

/// The text that replaces a masked value.
pub const MASK: &str = "***";

/// The text in history that replaces a part of a URL.
pub const HIDDEN: &str = "…";

/// The largest number of characters of a path segment that history keeps. Words that people choose for a path are short, and
/// keys and tokens are longer.
pub const MAX_WORD: usize = 16;

/// The largest number of characters of a parameter's name that history keeps.
pub const MAX_PARAMETER_NAME: usize = 32;

/// The smallest number of characters of what counts as a token because it mixes letters and digits.
pub const MIN_TOKEN: usize = 6;

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

/// What is probably a secret in a request that is sent, longest first: the values of headers and parameters with secret names, whole and
/// word by word without what names a scheme (`Bearer`), and the parts of the path that can hardly be guessed. Each as it is sent, and
/// without percent-encoding.
pub fn probable_secrets(url: &str, headers: &[(String, String)]) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for (_, value) in headers.iter().filter(|(name, _)| is_secret(name)) {
        let words = value.split([' ', ';', ',']).filter(|word| !word.is_empty());
        let is_scheme = |word: &&str| word.len() < value.len() && word.bytes().all(|byte| byte.is_ascii_alphabetic());
        found.push(value.clone());
        for word in words.filter(|word| !is_scheme(word)) {
            found.push(word.to_owned());
            // A cookie, or a parameter such as `signature=…`; not the padding of base64.
            found.extend(word.split_once('=').map(|(_, value)| value.to_owned()));
        }
    }
    let rest = url.split_once("://").map_or("", |(_, rest)| rest);
    let rest = rest.split_once('#').map_or(rest, |(before, _)| before);
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    let is_token = |segment: &&str| segment.split(|c: char| !c.is_ascii_alphanumeric()).any(is_unguessable);
    let parameters = query.split('&').filter_map(|parameter| parameter.split_once('='));
    let values = parameters.filter(|(name, _)| is_secret(name)).map(|(_, value)| value);
    for text in path.split('/').skip(1).filter(is_token).chain(values) {
        found.push(text.to_owned());
        found.push(percent_decode_str(text).decode_utf8_lossy().into_owned());
    }
    found.sort_by_key(|text| std::cmp::Reverse(text.len()));
    found.dedup();
    found
}

/// What history keeps of a URL: its origin, the plain words of its path and the names of its parameters. Every other
/// segment and every value is [`HIDDEN`]. A text that is no URL is hidden as a whole. Applied to its own result, it changes
/// nothing.
pub fn recorded_url(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return HIDDEN.to_owned() };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, rest) = rest.split_at(end);
    // Today's templates cannot have credentials before the host.
    let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let rest = rest.split_once('#').map_or(rest, |(before, _)| before);
    let (path, query) = rest.split_once('?').map_or((rest, None), |(path, query)| (path, Some(query)));
    let mut kept = format!("{scheme}://{authority}");
    for (index, segment) in path.split('/').enumerate() {
        kept.push_str(if index > 0 { "/" } else { "" });
        kept.push_str(if segment.is_empty() || is_word(segment) { segment } else { HIDDEN });
    }
    for (index, parameter) in query.into_iter().flat_map(|query| query.split('&')).enumerate() {
        kept.push(if index > 0 { '&' } else { '?' });
        match parameter.split_once('=') {
            Some((name, "")) if is_word(name) => kept.extend([name, "="]),
            // A text that ends with `=` may be a token in base64. So may one that is followed by nothing at all.
            Some((name, value)) if is_parameter_name(name) && !value.is_empty() && !value.starts_with('=') => {
                kept.extend([name, "=", HIDDEN]);
            }
            _ if parameter.is_empty() => {}
            _ => kept.push_str(HIDDEN),
        }
    }
    kept
}

/// Whether a part of a URL is a plain word, as people choose for a path.
fn is_word(text: &str) -> bool {
    text.len() <= MAX_WORD && text.bytes().all(|byte| byte.is_ascii_alphabetic() || b"-_".contains(&byte))
}

/// Whether a part of a text, letters and digits alone, can hardly be guessed, as keys and tokens can hardly be: it is longer than a word,
/// or has digits elsewhere than as the one or two at its end.
pub fn is_unguessable(part: &str) -> bool {
    let name = part.trim_end_matches(|c: char| c.is_ascii_digit());
    let (has_digits, has_letters) = (
        name.bytes().any(|byte| byte.is_ascii_digit()) || part.len() - name.len() > 2,
        part.bytes().any(|byte| byte.is_ascii_alphabetic()),
    );
    part.len() > MAX_WORD || (part.len() >= MIN_TOKEN && has_digits && has_letters)
}

/// Whether a text is plainly the name of a parameter, such as `utm_source`, `$filter` or `ids[0]`.
fn is_parameter_name(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.$[]".contains(&byte);
    !text.is_empty() && text.len() <= MAX_PARAMETER_NAME && text.bytes().all(plain)
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

    #[test]
    fn history_keeps_of_a_url_its_origin_its_plain_words_and_the_names_of_its_parameters() {
        let cases = [
            ("https://a.example:8443/crm/Call-Done_hook/", "https://a.example:8443/crm/Call-Done_hook/"),
            ("https://a.example/services/T012/%2B14155550123/x1", "https://a.example/services/…/…/…"),
            ("https://a.example/abcdefghijklmnop/abcdefghijklmnopq", "https://a.example/abcdefghijklmnop/…"),
            (
                "https://a.example/p?utm_source=x&$top=5&ids[0]=7&x=",
                "https://a.example/p?utm_source=…&$top=…&ids[0]=…&x=",
            ),
            ("https://a.example/?dG9rZW4=", "https://a.example/?…"),
            ("https://a.example?dG9rZW4==&flag&a%20b=1&&=3", "https://a.example?…&…&…&&…"),
            ("https://u:p@[::1]:8080/%41/p;v=1#part", "https://[::1]:8080/…/…"),
            ("Aditi", "…"),
        ];
        for (url, kept) in cases {
            assert_eq!(recorded_url(url), kept, "{url}");
            assert_eq!(recorded_url(kept), kept, "a second time changes nothing");
        }
    }

    #[test]
    fn words_can_be_guessed_and_tokens_hardly() {
        for word in ["", "v2", "oauth2", "callback24", "completed", "abcdefghijklmnop", "T0123", "1234567", "2024"] {
            assert!(!is_unguessable(word), "{word}");
        }
        for token in ["s3cret", "T01234", "callback245", "abcdefghijklmnopq", "12345678901234567", "4f9a3b"] {
            assert!(is_unguessable(token), "{token}");
        }
    }

    #[test]
    fn a_shown_header_is_masked_if_its_name_is_that_of_a_secret() {
        assert_eq!([header("Authorization", "Bearer x"), header("X-Call", "CA1")], [MASK, "CA1"]);
    }
}
