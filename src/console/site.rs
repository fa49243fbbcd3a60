//! The console's own place: the host that requests must name, the origin from which forms come, and its cookies.

use std::net::IpAddr;
use std::str::FromStr;

use http::HeaderValue;
use http::uri::Authority;
use url::Url;

/// The address by which browsers reach a console that stands behind a proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicUrl(Url);

/// Why an address is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotPublic {
    /// It is not an address.
    #[error("expected an address such as https://console.example")]
    Unreadable,
    /// It has more than scheme, host and port.
    #[error("expected scheme, host and port, and nothing else: the console cannot stand below a path")]
    More,
    /// Passwords and cookies would go over the network as they are.
    #[error("expected https: passwords and cookies would go over the network as they are. http is for localhost only")]
    Plain,
}

impl FromStr for PublicUrl {
    type Err = NotPublic;

    fn from_str(text: &str) -> Result<PublicUrl, NotPublic> {
        let url: Url = text.parse().map_err(|_| NotPublic::Unreadable)?;
        let host = url.host_str().unwrap_or_default();
        if !["http", "https"].contains(&url.scheme()) || host.is_empty() {
            return Err(NotPublic::Unreadable);
        }
        let has_more = url.path() != "/" || url.query().is_some() || url.fragment().is_some();
        if has_more || !url.username().is_empty() || url.password().is_some() {
            return Err(NotPublic::More);
        }
        if url.scheme() == "http" && !is_loopback(host) {
            return Err(NotPublic::Plain);
        }
        Ok(PublicUrl(url))
    }
}

impl PublicUrl {
    /// The address of a path of the console.
    pub fn of(&self, path: &str) -> String {
        format!("{}{path}", self.0.origin().ascii_serialization())
    }
}

/// Whether a host is this machine, by a name or an address that cannot lead elsewhere.
fn is_loopback(host: &str) -> bool {
    let address = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host).parse::<IpAddr>();
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

/// Where the console is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Site {
    /// At this port of the loopback, by whichever of its names.
    Loopback(u16),
    /// At this address, and no other.
    Public(PublicUrl),
}

impl Site {
    /// Whether this is the console's host.
    pub(super) fn is_named_by(&self, authority: &Authority) -> bool {
        let (host, port) = (authority.host(), authority.port_u16());
        let is_here = match self {
            Site::Loopback(own) => is_loopback(host) && port.unwrap_or(80) == *own,
            Site::Public(PublicUrl(url)) => {
                let default = if url.scheme() == "https" { 443 } else { 80 };
                let is_host = url.host_str().is_some_and(|own| own.eq_ignore_ascii_case(host));
                is_host && port.unwrap_or(default) == url.port_or_known_default().unwrap_or(default)
            }
        };
        is_here && !authority.as_str().contains('@')
    }

    /// The origin of the console's own pages, for a request with this host, which is the console's.
    pub(super) fn origin(&self, host: &str) -> String {
        match self {
            Site::Loopback(_) => format!("http://{host}"),
            Site::Public(PublicUrl(url)) => url.origin().ascii_serialization(),
        }
    }

    fn is_secure(&self) -> bool {
        matches!(self, Site::Public(PublicUrl(url)) if url.scheme() == "https")
    }

    /// The whole name of a cookie. With `__Host-`, browsers take it from this host only. Consoles at several ports of the loopback
    /// share their cookies, so each has names of its own.
    pub(super) fn cookie(&self, name: &str) -> String {
        match self {
            _ if self.is_secure() => format!("__Host-postcall-{name}"),
            Site::Loopback(port) => format!("postcall-{port}-{name}"),
            Site::Public(_) => format!("postcall-{name}"),
        }
    }

    /// The header that sets a cookie for so many seconds; with 0, that takes it away. `None` if the value cannot stand in a header.
    pub(super) fn set_cookie(&self, name: &str, value: &str, seconds: i64) -> Option<HeaderValue> {
        let secure = if self.is_secure() { "; Secure" } else { "" };
        let name = self.cookie(name);
        let cookie = format!("{name}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}");
        HeaderValue::from_str(&cookie).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_public_address_is_one_origin_that_is_encrypted() {
        for text in ["https://console.example", "https://console.example:8443/", "http://localhost:8088"] {
            assert!(text.parse::<PublicUrl>().is_ok(), "{text}");
        }
        for (text, why) in [
            ("console.example", NotPublic::Unreadable),
            ("ftp://console.example", NotPublic::Unreadable),
            ("", NotPublic::Unreadable),
            ("https://console.example/postcall", NotPublic::More),
            ("https://console.example/?a", NotPublic::More),
            ("https://me@console.example/", NotPublic::More),
            ("http://console.example", NotPublic::Plain),
        ] {
            assert_eq!(text.parse::<PublicUrl>(), Err(why), "{text}");
        }
    }

    #[test]
    fn only_the_public_host_is_the_console_s_and_its_cookies_are_for_it_alone() {
        let site = Site::Public("https://Console.example".parse().unwrap());
        let named = |host: &str| site.is_named_by(&host.parse().unwrap());
        assert!(named("console.example") && named("CONSOLE.example:443"));
        for other in ["console.example:80", "localhost", "127.0.0.1", "console.example.evil", "x@console.example"] {
            assert!(!named(other), "{other}");
        }
        assert_eq!(site.origin("whatever"), "https://console.example");
        let cookie = site.set_cookie("session", "abc", 60).unwrap();
        let expected = "__Host-postcall-session=abc; Path=/; Max-Age=60; HttpOnly; SameSite=Strict; Secure";
        assert_eq!(cookie.to_str().unwrap(), expected);
        let cookie = Site::Loopback(8088).set_cookie("session", "abc", 60).unwrap();
        let expected = "postcall-8088-session=abc; Path=/; Max-Age=60; HttpOnly; SameSite=Strict";
        assert_eq!(cookie.to_str().unwrap(), expected);
        assert!(site.set_cookie("session", "a\nb", 60).is_none());
    }
}
