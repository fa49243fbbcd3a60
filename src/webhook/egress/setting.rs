//! Which proxy: `http://[NAME:PASSWORD@]HOST[:PORT]`.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use percent_encoding::percent_decode_str;
use secrecy::SecretString;
use url::{Host, Url};
use zeroize::Zeroizing;

/// How many bytes the setting may have.
const MAX_BYTES: usize = 4_096;

/// The proxy, as the operator has set it.
#[derive(Clone)]
pub struct EgressProxy {
    pub(super) host: Host<String>,
    pub(super) port: u16,
    /// The value of the header `proxy-authorization`.
    pub(super) authorization: Option<SecretString>,
}

/// Why a text names no proxy. It has nothing of the text, which may hold a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAProxy {
    /// It is no URL.
    #[error("it is not a URL such as http://proxy.example:3128")]
    NotAUrl,
    /// It is another kind of proxy.
    #[error(
        "it does not begin with http://; postcall speaks plain HTTP with the proxy, and TLS through it with the host"
    )]
    Scheme,
    /// It has a path, a query or a fragment.
    #[error("it has more than a host and a port; write a `/`, `?` or `#` of the password as %2F, %3F or %23")]
    More,
    /// It is too long.
    #[error("it is longer than 4096 bytes")]
    TooLong,
    /// Its name has a colon, which Basic authentication cannot say.
    #[error("the name before the password has a colon, which a proxy cannot tell from the colon before the password")]
    Colon,
}

impl FromStr for EgressProxy {
    type Err = NotAProxy;

    fn from_str(text: &str) -> Result<EgressProxy, NotAProxy> {
        if text.len() > MAX_BYTES {
            return Err(NotAProxy::TooLong);
        }
        let url = Url::parse(text).map_err(|_| NotAProxy::NotAUrl)?;
        if url.scheme() != "http" {
            return Err(NotAProxy::Scheme);
        }
        let (Some(host), Some(port)) = (url.host(), url.port_or_known_default()) else {
            return Err(NotAProxy::NotAUrl);
        };
        if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
            return Err(NotAProxy::More);
        }
        Ok(EgressProxy { host: host.to_owned(), port, authorization: authorization(&url)? })
    }
}

/// Basic authentication (RFC 7617), if the URL has a name or a password.
fn authorization(url: &Url) -> Result<Option<SecretString>, NotAProxy> {
    let decoded = |text: &str| Zeroizing::new(percent_decode_str(text).collect::<Vec<u8>>());
    let (name, password) = (decoded(url.username()), decoded(url.password().unwrap_or_default()));
    if name.is_empty() && password.is_empty() {
        return Ok(None);
    }
    if name.contains(&b':') {
        return Err(NotAProxy::Colon);
    }
    let pair = Zeroizing::new([&name[..], b":", &password[..]].concat());
    let encoded = Zeroizing::new(BASE64_STANDARD.encode(&pair[..]));
    Ok(Some(format!("Basic {}", &*encoded).into()))
}

/// Where it is, without the credentials.
impl fmt::Debug for EgressProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EgressProxy({}:{})", self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    fn authorization_of(text: &str) -> Option<String> {
        let proxy: EgressProxy = text.parse().unwrap();
        proxy.authorization.map(|value| value.expose_secret().to_owned())
    }

    #[test]
    fn a_proxy_is_a_host_a_port_and_perhaps_credentials_which_are_never_shown() {
        let proxy: EgressProxy = "http://me:s%3Acret%2F@proxy.example:3128".parse().unwrap();
        assert_eq!(format!("{proxy:?}"), "EgressProxy(proxy.example:3128)");
        let expected = format!("Basic {}", BASE64_STANDARD.encode("me:s:cret/"));
        assert_eq!(authorization_of("http://me:s%3Acret%2F@proxy.example:3128"), Some(expected));
        assert_eq!(authorization_of("http://me@p"), Some(format!("Basic {}", BASE64_STANDARD.encode("me:"))));
        assert_eq!(authorization_of("http://[::1]:8080/"), None);
        assert_eq!(format!("{:?}", "http://[::1]".parse::<EgressProxy>().unwrap()), "EgressProxy([::1]:80)");
    }

    #[test]
    fn a_setting_may_be_as_long_as_the_bound_and_no_longer() {
        let of = |bytes: usize| {
            let text = format!("http://me:{}@p", "s".repeat(bytes - "http://me:@p".len()));
            text.parse::<EgressProxy>().err()
        };
        assert_eq!((of(MAX_BYTES), of(MAX_BYTES + 1)), (None, Some(NotAProxy::TooLong)));
    }

    #[test]
    fn why_a_text_names_no_proxy_has_nothing_of_the_text() {
        let long = format!("http://me:secret@{}", "a".repeat(MAX_BYTES));
        for (text, reason) in [
            ("secret", NotAProxy::NotAUrl),
            ("http://me:secret@", NotAProxy::NotAUrl),
            ("http://me:secret@proxy:port", NotAProxy::NotAUrl),
            ("https://me:secret@proxy:3128", NotAProxy::Scheme),
            ("socks5://me:secret@proxy:1080", NotAProxy::Scheme),
            ("http://me:secret@proxy/path", NotAProxy::More),
            ("http://me:secret@proxy?x", NotAProxy::More),
            ("http://me%3Ayou:secret@proxy", NotAProxy::Colon),
            (&long, NotAProxy::TooLong),
        ] {
            let refused = text.parse::<EgressProxy>().unwrap_err();
            assert_eq!(refused, reason, "{text}");
            assert!(!refused.to_string().contains("secret"));
        }
    }
}
