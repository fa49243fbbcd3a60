//! Hides probable secrets wherever a request is shown or stored: credentials that an author wrote into a header or a
//! query parameter. They are recognised by the name of the header or parameter.

/// The text that replaces a masked value.
pub const MASK: &str = "***";

/// A header or query parameter is a secret if its name contains one of these words.
const SECRET_WORDS: [&str; 9] =
    ["auth", "token", "secret", "password", "passwd", "api-key", "apikey", "api_key", "cookie"];

/// A header or query parameter with exactly this name is a secret. These are too short to look for inside other names.
const SECRET_NAMES: [&str; 5] = ["key", "sig", "signature", "pwd", "code"];

/// Whether the value of a header or parameter with this name is probably a secret.
pub fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    SECRET_WORDS.iter().any(|word| name.contains(word)) || SECRET_NAMES.contains(&name.as_str())
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
        for name in ["Authorization", "x-api-key", "X-Auth-Token", "cookie", "access_token", "key", "client_secret"] {
            assert!(is_secret(name), "{name}");
        }
        for name in ["content-type", "x-call", "keyword", "monkey", "signal", "id"] {
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
