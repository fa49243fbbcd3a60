//! What an operator denies, such as the deployment's own public addresses and names: a customer's webhook must not come
//! back to the platform that sends it.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;

/// A range of addresses, or a name with all names below it. A name alone is a weak fence, because anybody can give an
/// address another name: deny its addresses, too.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DeniedTarget {
    /// A range of addresses.
    Range(IpNet),
    /// A name, in the form of URLs: lower case, IDNA, without a dot at its end.
    Name(String),
}

/// A text is neither a range nor a name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected an address, a range such as 203.0.113.0/24, or a name such as voice.example, which covers the names below it"
)]
pub struct NotATarget;

impl DeniedTarget {
    /// Whether this denies `name`, which is in the form of URLs.
    pub(super) fn names(&self, name: &str) -> bool {
        let DeniedTarget::Name(denied) = self else { return false };
        let name = name.strip_suffix('.').unwrap_or(name);
        name.strip_suffix(denied.as_str()).is_some_and(|below| below.is_empty() || below.ends_with('.'))
    }

    /// Whether this denies `address`.
    pub(super) fn contains(&self, address: IpAddr) -> bool {
        matches!(self, DeniedTarget::Range(range) if range.contains(&address))
    }
}

/// A range of IPv4 addresses that is written as IPv6 (`::ffff:203.0.113.0/120`) as what it means: otherwise it would deny them in
/// this form only.
fn canonical(range: IpNet) -> IpNet {
    const MAPPED: u8 = 96;
    let (IpNet::V6(v6), IpAddr::V4(address)) = (range, range.addr().to_canonical()) else { return range };
    let prefix = v6.prefix_len().checked_sub(MAPPED);
    prefix.and_then(|prefix| IpNet::new(IpAddr::V4(address), prefix).ok()).unwrap_or(range)
}

impl FromStr for DeniedTarget {
    type Err = NotATarget;

    fn from_str(text: &str) -> Result<DeniedTarget, NotATarget> {
        if let Ok(range) = text.parse::<IpNet>() {
            return Ok(DeniedTarget::Range(canonical(range.trunc())));
        }
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(DeniedTarget::Range(address.to_canonical().into()));
        }
        // A percent sign would be read as an escape, and a port would deny less than it seems to.
        if text.contains(['%', ':', '/', '@', '*']) {
            return Err(NotATarget);
        }
        match url::Host::parse(text) {
            Ok(url::Host::Domain(name)) => match name.strip_suffix('.').unwrap_or(&name) {
                name if name.is_empty() || name.starts_with('.') || name.ends_with('.') => Err(NotATarget),
                name => Ok(DeniedTarget::Name(name.to_owned())),
            },
            // `127.1` is an address in a URL.
            Ok(url::Host::Ipv4(address)) => Ok(DeniedTarget::Range(IpAddr::V4(address).into())),
            _ => Err(NotATarget),
        }
    }
}

impl fmt::Display for DeniedTarget {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DeniedTarget::Range(range) => range.fmt(formatter),
            DeniedTarget::Name(name) => formatter.write_str(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_kept_in_one_form_however_it_is_typed() {
        for (typed, kept) in [
            ("203.0.113.7", "203.0.113.7/32"),
            ("203.0.113.7/24", "203.0.113.0/24"),
            ("127.1", "127.0.0.1/32"),
            ("2001:DB8::1", "2001:db8::1/128"),
            ("::ffff:203.0.113.7", "203.0.113.7/32"),
            ("::ffff:203.0.113.0/120", "203.0.113.0/24"),
            ("::/8", "::/8"),
            ("Voice.Example.", "voice.example"),
            ("Müller.example", "xn--mller-kva.example"),
        ] {
            assert_eq!(typed.parse::<DeniedTarget>().unwrap().to_string(), kept, "{typed}");
        }
    }

    #[test]
    fn what_would_deny_less_than_it_seems_to_is_refused() {
        for typed in
            ["", ".", "a b", "voice.example:443", "https://voice.example", "*.voice.example", ".voice.example", "a%2e"]
        {
            assert_eq!(typed.parse::<DeniedTarget>(), Err(NotATarget), "{typed}");
        }
    }
}
