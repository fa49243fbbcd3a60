//! An address that the operator gives at the start.

use std::fmt;
use std::str::FromStr;

use url::Url;

/// An http or https URL.
#[derive(Clone, PartialEq, Eq)]
pub struct Address(Url);

/// Why a text is no such URL. It does not repeat the text, which may hold a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAnAddress {
    /// It is no http or https URL with a host.
    #[error("give an http or https URL, such as https://checkpoints.example/postcall/")]
    NotHttp,
    /// It has a user or a password.
    #[error("give no user and no password in the URL (--checkpoint-headers-file has headers for --checkpoint-url)")]
    WithUser,
    /// It has a fragment.
    #[error("give the URL without a fragment")]
    WithFragment,
}

impl FromStr for Address {
    type Err = NotAnAddress;

    fn from_str(text: &str) -> Result<Address, NotAnAddress> {
        let url = Url::parse(text.trim()).map_err(|_| NotAnAddress::NotHttp)?;
        if !["http", "https"].contains(&url.scheme()) || url.port_or_known_default().is_none_or(|port| port == 0) {
            return Err(NotAnAddress::NotHttp);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(NotAnAddress::WithUser);
        }
        if url.fragment().is_some() {
            return Err(NotAnAddress::WithFragment);
        }
        Ok(Address(url))
    }
}

impl Address {
    /// The whole URL.
    pub fn url(&self) -> &Url {
        &self.0
    }

    /// Whether it is an https URL, so that TLS is needed.
    pub fn is_tls(&self) -> bool {
        self.0.scheme() == "https"
    }
}

/// Host and port, for the log: the path and the query may hold what proves who asks.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // An http URL always has both.
        let (host, port) = (self.0.host_str().unwrap_or_default(), self.0.port_or_known_default().unwrap_or_default());
        write!(f, "{host}:{port}")
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_address_is_refused_and_neither_it_nor_more_than_host_and_port_is_repeated() {
        for (given, why) in [
            ("", NotAnAddress::NotHttp),
            ("s3://bucket/path/", NotAnAddress::NotHttp),
            ("bucket.example/path/", NotAnAddress::NotHttp),
            ("http://b.example:0/", NotAnAddress::NotHttp),
            ("https://ada:secret@b.example/", NotAnAddress::WithUser),
            ("https://b.example/#secret", NotAnAddress::WithFragment),
        ] {
            assert_eq!(given.parse::<Address>(), Err(why), "{given}");
            assert!(!why.to_string().contains("secret"));
        }
        let address: Address = "https://b.example/secret/?key=secret".parse().unwrap();
        assert_eq!((address.to_string(), format!("{address:?}")), ("b.example:443".into(), "b.example:443".into()));
    }
}
