//! Which requests are answered at all. Nothing is asked of the database before a request has passed this gate.
//!
//! A browser that reaches the console also shows pages of others. So a request counts only if it names the console's own
//! host (a page of others can point a name of its own at 127.0.0.1: DNS rebinding), does what its address is for, and is
//! not a part of somebody else's page. What may change something comes from a page of the console itself.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use http::uri::Authority;
use http::{HeaderMap, Method, Uri};

use super::site::Site;

/// The longest address that is read: path and query, in bytes. An agent of 200 characters of 4 bytes each,
/// percent-encoded, takes 2,400.
pub(super) const LONGEST_ADDRESS: usize = 4_096;

/// An address of this machine that no other machine reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loopback(SocketAddr);

/// Why an address is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotLoopback {
    /// It is not an IP address with a port.
    #[error("expected an IP address with a port, such as 127.0.0.1:8088 or [::1]:8088")]
    Unreadable,
    /// Other machines could reach it.
    #[error(
        "{0} is not a loopback address: nobody can log in to the console with --auth none, so only this machine may reach it. \
         Let people log in with --auth basic or --auth proxy, or listen on 127.0.0.1, and reach it from elsewhere through a \
         tunnel: ssh -L 8088:127.0.0.1:8088 THIS_MACHINE"
    )]
    Elsewhere(IpAddr),
}

impl Loopback {
    /// This address, if no other machine reaches it.
    ///
    /// # Errors
    /// If others do.
    pub fn of(address: SocketAddr) -> Result<Loopback, NotLoopback> {
        if address.ip().is_loopback() { Ok(Loopback(address)) } else { Err(NotLoopback::Elsewhere(address.ip())) }
    }

    /// The address.
    pub fn address(self) -> SocketAddr {
        self.0
    }
}

impl FromStr for Loopback {
    type Err = NotLoopback;

    fn from_str(text: &str) -> Result<Loopback, NotLoopback> {
        Loopback::of(text.parse().map_err(|_| NotLoopback::Unreadable)?)
    }
}

impl fmt::Display for Loopback {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// Why a request is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It names another host than this machine.
    Host,
    /// Its address does not take this method.
    Method,
    /// Its address is too long.
    TooLong,
    /// It is a part of a page of somebody else.
    Foreign,
    /// It may change something, and does not come from a page of the console.
    CrossSite,
}

/// Which methods an address takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Takes {
    /// It only shows something.
    Reading,
    /// It has a form, and takes it.
    Both,
    /// It only takes a form.
    Form,
}

impl Takes {
    /// Whether it takes this one.
    fn takes(self, method: &Method) -> bool {
        match *method {
            Method::GET | Method::HEAD => self != Takes::Form,
            Method::POST => self != Takes::Reading,
            _ => false,
        }
    }

    /// The methods, as the header `Allow` names them.
    pub(super) fn allowed(self) -> &'static str {
        match self {
            Takes::Reading => "GET, HEAD",
            Takes::Both => "GET, HEAD, POST",
            Takes::Form => "POST",
        }
    }
}

/// Whether a request is answered by the console at `site`, at an address that takes these methods.
pub(super) fn admit(method: &Method, uri: &Uri, headers: &HeaderMap, takes: Takes, site: &Site) -> Result<(), Refusal> {
    if !names_the_site(uri, headers, site) {
        return Err(Refusal::Host);
    }
    if !takes.takes(method) {
        return Err(Refusal::Method);
    }
    if uri.path_and_query().map_or(0, |address| address.as_str().len()) > LONGEST_ADDRESS {
        return Err(Refusal::TooLong);
    }
    if method == Method::POST {
        return if is_from_here(headers, site) { Ok(()) } else { Err(Refusal::CrossSite) };
    }
    if is_foreign(headers) {
        return Err(Refusal::Foreign);
    }
    Ok(())
}

/// Whether a form comes from a page of the console. Browsers say so in `Sec-Fetch-Site`, and those that do not, in `Origin`;
/// what says neither may come from anywhere. The host is the console's own: it was looked at before.
fn is_from_here(headers: &HeaderMap, site: &Site) -> bool {
    if headers.contains_key("sec-fetch-site") {
        return only(headers, "sec-fetch-site") == Some("same-origin");
    }
    let own = only(headers, "host").map(|host| site.origin(host));
    own.is_some_and(|own| only(headers, "origin").is_some_and(|origin| origin.eq_ignore_ascii_case(&own)))
}

/// The value of a header that is there exactly once.
pub(super) fn only<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let mut values = headers.get_all(name).into_iter();
    let value = values.next().filter(|_| values.next().is_none())?;
    value.to_str().ok()
}

/// Whether the request has exactly one host, and that is the console's. An address with a host of its own
/// (`GET http://host/ HTTP/1.1`) must name it, too.
fn names_the_site(uri: &Uri, headers: &HeaderMap, site: &Site) -> bool {
    let named: Option<Authority> = only(headers, "host").and_then(|host| host.parse().ok());
    named.is_some_and(|host| site.is_named_by(&host)) && uri.authority().is_none_or(|own| site.is_named_by(own))
}

/// Whether a browser says that another site asks for this, other than by a link or a form that leads a person here. What
/// is no browser says nothing.
fn is_foreign(headers: &HeaderMap) -> bool {
    let said = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or("unreadable"));
    match said("sec-fetch-site") {
        None | Some("none" | "same-origin") => false,
        Some(_) => said("sec-fetch-mode") != Some("navigate") || said("sec-fetch-dest") != Some("document"),
    }
}

#[cfg(test)]
mod tests {
    use http::header;

    use super::*;

    const SITE: Site = Site::Loopback(8088);

    fn asked(uri: &str, headers: &[(&'static str, &'static str)]) -> Result<(), Refusal> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, http::HeaderValue::from_static(value));
        }
        admit(&Method::GET, &uri.parse().unwrap(), &map, Takes::Reading, &SITE)
    }

    #[test]
    fn only_an_address_that_no_other_machine_reaches_can_be_listened_on() {
        for text in ["127.0.0.1:8088", "127.8.9.1:0", "[::1]:8088"] {
            assert_eq!(text.parse::<Loopback>().unwrap().to_string(), text);
        }
        for text in ["0.0.0.0:8088", "[::]:8088", "10.0.0.1:80", "[::ffff:127.0.0.1]:80"] {
            assert!(matches!(text.parse::<Loopback>(), Err(NotLoopback::Elsewhere(_))), "{text}");
        }
        for text in ["localhost:8088", "8088", "127.0.0.1", ""] {
            assert_eq!(text.parse::<Loopback>(), Err(NotLoopback::Unreadable), "{text}");
        }
    }

    #[test]
    fn only_who_names_this_machine_is_answered() {
        for host in ["127.0.0.1:8088", "127.1.2.3:8088", "localhost:8088", "LOCALHOST:8088", "[::1]:8088"] {
            assert_eq!(asked("/", &[("host", host)]), Ok(()), "{host}");
        }
        for host in [
            "evil.example:8088",
            "localhost.evil.example:8088",
            "127.0.0.1.evil.example:8088",
            "localhost.:8088",
            "localhost:8089",
            "localhost",
            "10.0.0.1:8088",
            "user@localhost:8088",
            "0.0.0.0:8088",
            "[::]:8088",
            "",
            "a b",
        ] {
            assert_eq!(asked("/", &[("host", host)]), Err(Refusal::Host), "{host}");
        }
        assert_eq!(asked("/", &[]), Err(Refusal::Host));
        let two = [("host", "localhost:8088"), ("host", "localhost:8088")];
        assert_eq!(asked("/", &two), Err(Refusal::Host));
        assert_eq!(asked("http://evil.example:8088/", &two[..1]), Err(Refusal::Host));
        assert_eq!(asked("http://localhost:8088/", &two[..1]), Ok(()));
    }

    #[test]
    fn a_person_may_come_from_another_site_and_a_part_of_its_page_may_not() {
        let from = |site, mode, dest| {
            let headers = [
                ("host", "localhost:8088"),
                ("sec-fetch-site", site),
                ("sec-fetch-mode", mode),
                ("sec-fetch-dest", dest),
            ];
            asked("/", &headers)
        };
        for site in ["cross-site", "same-site", "unheard-of"] {
            assert_eq!(from(site, "navigate", "document"), Ok(()));
            for (mode, dest) in [("navigate", "iframe"), ("no-cors", "image"), ("cors", "empty"), ("no-cors", "style")]
            {
                assert_eq!(from(site, mode, dest), Err(Refusal::Foreign), "{site} {mode} {dest}");
            }
        }
        assert_eq!(from("same-origin", "no-cors", "style"), Ok(()));
        assert_eq!(from("none", "navigate", "document"), Ok(()));
    }

    #[test]
    fn what_does_more_than_read_and_what_is_too_long_is_refused() {
        let headers = HeaderMap::from_iter([(header::HOST, http::HeaderValue::from_static("localhost:8088"))]);
        let admitted = |method, uri: &str| admit(&method, &uri.parse().unwrap(), &headers, Takes::Reading, &SITE);
        assert_eq!(admitted(Method::HEAD, "/"), Ok(()));
        for method in [Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS, Method::TRACE, Method::PATCH] {
            assert_eq!(admitted(method, "/"), Err(Refusal::Method));
        }
        assert_eq!(admitted(Method::GET, &format!("/{}", "x".repeat(LONGEST_ADDRESS - 1))), Ok(()));
        assert_eq!(admitted(Method::GET, &format!("/{}", "x".repeat(LONGEST_ADDRESS))), Err(Refusal::TooLong));
    }

    #[test]
    fn a_form_is_taken_from_a_page_of_the_console_and_from_nowhere_else() {
        let sent = |more: &[(&'static str, &'static str)]| {
            let mut map = HeaderMap::from_iter([(header::HOST, http::HeaderValue::from_static("localhost:8088"))]);
            for (name, value) in more {
                map.append(*name, http::HeaderValue::from_static(value));
            }
            admit(&Method::POST, &Uri::from_static("/log-in"), &map, Takes::Both, &SITE)
        };
        let (own, other) = ("http://localhost:8088", "http://evil.example");
        assert_eq!(sent(&[("sec-fetch-site", "same-origin")]), Ok(()));
        assert_eq!(sent(&[("origin", own)]), Ok(()));
        for site in ["cross-site", "same-site", "none", "", "Same-Origin?"] {
            assert_eq!(sent(&[("sec-fetch-site", site), ("origin", own)]), Err(Refusal::CrossSite), "{site}");
        }
        for origin in [other, "null", "https://localhost:8088", "http://localhost", "http://localhost:8088.evil", ""] {
            assert_eq!(sent(&[("origin", origin)]), Err(Refusal::CrossSite), "{origin}");
        }
        assert_eq!(sent(&[]), Err(Refusal::CrossSite), "neither");
        assert_eq!(sent(&[("origin", own), ("origin", own)]), Err(Refusal::CrossSite), "two origins");
        let two = [("sec-fetch-site", "same-origin"), ("sec-fetch-site", "same-origin")];
        assert_eq!(sent(&two), Err(Refusal::CrossSite));
    }

    #[test]
    fn each_address_takes_its_own_methods() {
        let headers = [("host", "localhost:8088"), ("sec-fetch-site", "same-origin")];
        let headers = HeaderMap::from_iter(
            headers.map(|(name, value)| (http::HeaderName::from_static(name), http::HeaderValue::from_static(value))),
        );
        for (takes, taken) in [(Takes::Reading, "GET HEAD"), (Takes::Both, "GET HEAD POST"), (Takes::Form, "POST")] {
            for method in ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"] {
                let asked = admit(&method.parse().unwrap(), &Uri::from_static("/"), &headers, takes, &SITE);
                let is_taken = taken.split(' ').any(|one| one == method);
                assert_eq!(asked.is_ok(), is_taken, "{takes:?} {method}");
                assert!(!is_taken || takes.allowed().contains(method));
            }
        }
    }
}
