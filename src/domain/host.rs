//! A host: the unit of limits and pauses, which many actions of many agents may share. An action's URL contains the
//! host literally, because placeholders are only allowed from the path on.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;
use std::sync::Arc;

use url::{Host as UrlHost, Url};

/// Longest name of a host in a pattern, in characters: the longest name that DNS knows (RFC 1035, section 2.3.4).
pub const MAX_HOST_CHARS: usize = 253;

/// Longest part of a name between two dots, in characters (the same section).
const MAX_LABEL_CHARS: usize = 63;

/// Host and port to which a request goes. The name has the form of the `url` crate (lower case, IDNA, normalised
/// addresses), without the dot that may end a full domain name. It is cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Host {
    name: Arc<str>,
    port: u16,
}

impl Host {
    /// The host of an http or https URL, or of a URL template. Without a port, the scheme's default port counts. `None`
    /// if the text names no host; then nothing can ever be sent to it.
    pub fn of_url(text: &str) -> Option<Host> {
        let text = text.trim();
        let (scheme, rest) = text.split_once("://")?;
        if !scheme.eq_ignore_ascii_case("https") && !scheme.eq_ignore_ascii_case("http") {
            return None;
        }
        // The rest is a path, query or fragment, where a placeholder may stand for anything.
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        if authority.is_empty() || authority.contains("${") || authority.contains(['\\', '@']) {
            return None;
        }
        let url = Url::parse(&format!("{scheme}://{authority}/")).ok()?;
        let name = without_last_dot(url.host_str()?)?;
        // No connection can be made to port 0.
        let port = url.port_or_known_default().filter(|port| *port > 0)?;
        Some(Host { name: name.into(), port })
    }

    /// The name or the address; an IPv6 address is in brackets.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The TCP port.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl fmt::Display for Host {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.name, self.port)
    }
}

/// Why a name can hardly ever be looked up, if it is so: a sentence without its subject. The name is as the `url` crate writes it.
pub fn why_unlikely(name: &str) -> Option<&'static str> {
    // A dot at its end says that it is whole.
    let name = name.strip_suffix('.').unwrap_or(name);
    let is_usual = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_');
    if name.chars().any(|letter| letter != '.' && !is_usual(letter)) {
        return Some("has characters that no name of a host has");
    }
    if name.split('.').any(str::is_empty) {
        return Some("has nothing between two dots");
    }
    if name.len() > MAX_HOST_CHARS || name.split('.').any(|label| label.len() > MAX_LABEL_CHARS) {
        return Some("is longer than a name can be");
    }
    if name.split('.').any(|label| label.starts_with('-') || label.ends_with('-')) {
        return Some("has a hyphen beside a dot or at an end");
    }
    (!name.contains('.')).then_some("has no dot, and means something only within the network of the dispatchers")
}

/// Scheme, host and port (RFC 6454, section 4) to which an action's requests go. It is cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Origin {
    /// Whether the scheme is https.
    pub tls: bool,
    /// The host with its port.
    pub host: Host,
}

impl Origin {
    /// The origin of a URL or a URL template; `None` in the same cases as [`Host::of_url`].
    pub fn of_url(text: &str) -> Option<Origin> {
        let host = Host::of_url(text)?;
        Some(Origin {
            tls: text.trim_start().get(..6).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https:")),
            host,
        })
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}://{}", if self.tls { "https" } else { "http" }, self.host)
    }
}

/// A pattern for hosts: one name, at one port or at every port. It is parsed from what a person types (`crm.example`,
/// `crm.example:8443`, `[2001:db8::1]:443`). Its text form is the one that is stored, and can be parsed again.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostPattern {
    name: Arc<str>,
    port: Option<u16>,
}

impl HostPattern {
    /// The patterns that match this host: one without a port, and one with its port.
    pub fn of(host: &Host) -> [HostPattern; 2] {
        [None, Some(host.port)].map(|port| HostPattern { name: host.name.clone(), port })
    }

    /// Whether the pattern matches this host.
    pub fn matches(&self, host: &Host) -> bool {
        self.name == host.name && self.port.is_none_or(|port| port == host.port)
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => write!(formatter, "{}:{port}", self.name),
            None => formatter.write_str(&self.name),
        }
    }
}

/// Why a text is not a host pattern, with a message for the person who typed it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAHost {
    /// The text contains more than a host.
    #[error("give the host alone, without scheme, user and path: `crm.example`, or `crm.example:8443` for one port")]
    MoreThanAHost,
    /// The part after the colon is not a port.
    #[error(
        "a port is a number from 1 to 65535, as in `crm.example:8443`; an IPv6 address needs brackets before its port"
    )]
    BadPort,
    /// The name is not a valid host name or address.
    #[error("this is neither a name nor an address of a host, such as `crm.example`, `192.0.2.7` or `[2001:db8::1]`")]
    BadName,
}

impl FromStr for HostPattern {
    type Err = NotAHost;

    fn from_str(text: &str) -> Result<HostPattern, NotAHost> {
        let text = text.trim();
        if text.contains(['/', '?', '#', '@', '\\']) {
            return Err(NotAHost::MoreThanAHost);
        }
        let (name, port) = split_port(text)?;
        let parsed = match name.parse::<Ipv6Addr>() {
            Ok(address) => UrlHost::Ipv6(address),
            // A percent sign would be parsed as an escape, and no host name contains one.
            Err(_) if name.contains('%') => return Err(NotAHost::BadName),
            Err(_) => UrlHost::parse(name).map_err(|_| NotAHost::BadName)?,
        };
        let name = parsed.to_string();
        let name = without_last_dot(&name).filter(|name| name.chars().count() <= MAX_HOST_CHARS);
        Ok(HostPattern { name: name.ok_or(NotAHost::BadName)?.into(), port })
    }
}

/// Splits a text into the name and the port, if there is one. A text with more than one colon is an address without a
/// port, unless the address is in brackets.
fn split_port(text: &str) -> Result<(&str, Option<u16>), NotAHost> {
    let (name, port) = match text.rsplit_once(':') {
        Some((name, port)) if name.ends_with(']') || !name.contains(':') => (name, port),
        _ => return Ok((text, None)),
    };
    // Only digits are allowed: the standard library would also accept a plus sign.
    let digits = port.bytes().all(|byte| byte.is_ascii_digit());
    match port.parse() {
        Ok(port) if digits && port > 0 => Ok((name, Some(port))),
        _ => Err(NotAHost::BadPort),
    }
}

/// Removes the dot at the end: `crm.example.` and `crm.example` are the same host for a name server. `None` if the name
/// ends with more dots or is empty without the dot: there is no such host.
fn without_last_dot(name: &str) -> Option<&str> {
    let name = name.strip_suffix('.').unwrap_or(name);
    (!name.is_empty() && !name.ends_with('.')).then_some(name)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn host(url: &str) -> Option<String> {
        Host::of_url(url).map(|host| host.to_string())
    }

    #[test]
    fn a_host_is_told_by_the_literal_part_of_a_url_alone() {
        for (url, expected) in [
            ("https://crm.example/x/${callInfo.from}", "crm.example:443"),
            ("http://crm.example", "crm.example:80"),
            ("  HTTPS://CRM.Example:8443?x=${y}", "crm.example:8443"),
            ("https://crm.example:443/", "crm.example:443"),
            ("https://crm.example./", "crm.example:443"),
            ("https://crm.example#${x", "crm.example:443"),
            ("https://Müller.example/ü", "xn--mller-kva.example:443"),
            ("https://0x7f.1/", "127.0.0.1:443"),
            ("https://[2001:DB8::0:1]/", "[2001:db8::1]:443"),
            ("https://[::1]:8443/a:b@c", "[::1]:8443"),
        ] {
            assert_eq!(host(url).as_deref(), Some(expected), "{url}");
        }
        for url in [
            "",
            "crm.example",
            "ftp://crm.example/",
            "https://",
            "https:///x",
            "https://${x}/",
            "https://a.${x}.example/",
            "https://u:p@crm.example/",
            "https://crm.example:99999/",
            "https://crm example/",
            "https://crm.example\\x/",
            "https://./",
            "https://../",
            "https://crm.example../",
            "https://crm.example:0/",
        ] {
            assert_eq!(host(url), None, "{url}");
        }
    }

    #[test]
    fn a_pattern_without_a_port_means_every_port_of_its_host_and_no_other_host() {
        let (plain, port) =
            (Host::of_url("https://crm.example/").unwrap(), Host::of_url("https://crm.example:8443").unwrap());
        for (pattern, means) in [
            ("crm.example", [true, true]),
            ("CRM.Example.", [true, true]),
            ("crm.example:443", [true, false]),
            ("crm.example:8443", [false, true]),
            ("crm.example:80", [false, false]),
            ("example", [false, false]),
            ("a.crm.example", [false, false]),
        ] {
            let pattern: HostPattern = pattern.parse().unwrap();
            assert_eq!([pattern.matches(&plain), pattern.matches(&port)], means, "{pattern}");
        }
    }

    #[test]
    fn a_pattern_is_kept_in_the_form_of_urls() {
        for (typed, kept) in [
            (" Müller.example:8443 ", "xn--mller-kva.example:8443"),
            ("crm.example:0443", "crm.example:443"),
            ("::1", "[::1]"),
            ("[2001:DB8::1]", "[2001:db8::1]"),
            ("[::1]:443", "[::1]:443"),
            ("127.1", "127.0.0.1"),
        ] {
            assert_eq!(typed.parse::<HostPattern>().unwrap().to_string(), kept);
        }
    }

    #[test]
    fn what_is_no_host_is_refused_with_what_to_type_instead() {
        for (typed, expected) in [
            ("https://crm.example/hook", NotAHost::MoreThanAHost),
            ("ada@crm.example", NotAHost::MoreThanAHost),
            ("crm.example:", NotAHost::BadPort),
            ("crm.example:0", NotAHost::BadPort),
            ("crm.example:+80", NotAHost::BadPort),
            ("crm.example:65536", NotAHost::BadPort),
            ("", NotAHost::BadName),
            (".", NotAHost::BadName),
            ("crm.example..", NotAHost::BadName),
            ("crm example", NotAHost::BadName),
            ("crm%2eexample", NotAHost::BadName),
            ("[::1", NotAHost::BadName),
            ("::1::", NotAHost::BadName),
        ] {
            assert_eq!(typed.parse::<HostPattern>(), Err(expected), "{typed}");
        }
        assert_eq!("a".repeat(MAX_HOST_CHARS + 1).parse::<HostPattern>(), Err(NotAHost::BadName));
    }

    proptest! {
        #[test]
        fn a_host_is_meant_by_its_own_name_with_and_without_its_port(url in r"https?://[a-zA-Zäß0-9.-]{1,20}(:[0-9]{1,5})?/") {
            if let Some(host) = Host::of_url(&url) {
                for typed in [host.to_string(), host.name().to_owned()] {
                    let pattern: HostPattern = typed.parse().unwrap();
                    prop_assert!(pattern.matches(&host));
                    prop_assert_eq!(pattern.to_string(), typed);
                }
            }
        }

        #[test]
        fn no_text_is_a_host_that_its_kept_form_is_not(text in ".{0,24}") {
            if let Ok(pattern) = text.parse::<HostPattern>() {
                let kept = pattern.to_string();
                prop_assert!(kept.is_ascii() && kept == kept.to_lowercase() && !kept.contains(['/', '?', '#', '@', '\\', ' ']));
                prop_assert_eq!(kept.parse::<HostPattern>(), Ok(pattern));
            }
        }

        #[test]
        fn the_path_and_the_query_change_nothing(rest in "[/?#].{0,24}") {
            let host = Host::of_url(&format!("https://crm.example:8443{rest}"));
            prop_assert_eq!(host.map(|host| host.to_string()), Some("crm.example:8443".to_owned()));
        }
    }

    #[test]
    fn an_origin_is_the_scheme_the_host_and_the_port_of_a_url() {
        for (url, expected) in [
            ("https://crm.example/x/${y}", Some(("https://crm.example:443", 443))),
            ("http://crm.example", Some(("http://crm.example:80", 80))),
            ("  HTTPS://CRM.example.:8443?x", Some(("https://crm.example:8443", 8_443))),
            ("HTTP://[::1]:443/", Some(("http://[::1]:443", 443))),
            ("https://${x}/", None),
        ] {
            let origin = Origin::of_url(url).map(|origin| (origin.to_string(), origin.host.port()));
            assert_eq!(origin, expected.map(|(text, port)| (text.to_owned(), port)), "{url}");
        }
    }

    #[test]
    fn a_name_that_can_hardly_be_looked_up_is_told_from_one_that_can() {
        let long = format!("{}.example", "a".repeat(64));
        let longer = ["a".repeat(63).as_str(); 4].join(".");
        for name in [
            "*",
            "*.example.com",
            "a..b",
            ".a.b",
            "x",
            "crm",
            "a.b..",
            "-a.example",
            "a-.example",
            &long,
            &longer,
            "a!b.c",
        ] {
            assert!(why_unlikely(name).is_some(), "{name}");
        }
        let long = format!("{}.example", "a".repeat(63));
        for name in ["crm.example", "crm.example.", "xn--mller-kva.example", "_dmarc.a-b.example", "1.a", &long] {
            assert_eq!(why_unlikely(name), None, "{name}");
        }
    }
}
