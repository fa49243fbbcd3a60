//! The address of the collector, as the operator gives it.

use std::fmt;
use std::str::FromStr;

use url::Url;

/// Where an OTLP collector takes spans, below its address.
const PATH: &str = "/v1/traces";
/// Where collectors take OTLP over gRPC, which is not spoken here.
const GRPC_PORT: u16 = 4317;

/// The URL of a collector, to which spans are sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint(Url);

/// Why a text is no address of a collector. It does not repeat the text, which may hold a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAnEndpoint {
    /// It is no http or https URL with a host.
    #[error("give an http or https URL, such as http://127.0.0.1:4318")]
    NotHttp,
    /// It has a user or a password.
    #[error("give no user and no password in the URL: a header for the collector goes into OTEL_EXPORTER_OTLP_HEADERS")]
    WithUser,
    /// It has a query or a fragment.
    #[error("give the URL without a query and without a fragment")]
    WithQuery,
    /// It names the port of gRPC.
    #[error("port {GRPC_PORT} is that of OTLP over gRPC; postcall speaks OTLP over HTTP, usually at port 4318")]
    Grpc,
}

impl FromStr for Endpoint {
    type Err = NotAnEndpoint;

    fn from_str(text: &str) -> Result<Endpoint, NotAnEndpoint> {
        let mut url = Url::parse(text.trim()).map_err(|_| NotAnEndpoint::NotHttp)?;
        if !["http", "https"].contains(&url.scheme()) || url.port_or_known_default().is_none_or(|port| port == 0) {
            return Err(NotAnEndpoint::NotHttp);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(NotAnEndpoint::WithUser);
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(NotAnEndpoint::WithQuery);
        }
        if url.port() == Some(GRPC_PORT) {
            return Err(NotAnEndpoint::Grpc);
        }
        // As the variable of the standard, OTEL_EXPORTER_OTLP_ENDPOINT, has it.
        let base = url.path().trim_end_matches('/');
        if !base.ends_with(PATH) {
            let whole = format!("{base}{PATH}");
            url.set_path(&whole);
        }
        Ok(Endpoint(url))
    }
}

impl Endpoint {
    /// The whole URL.
    pub(super) fn url(&self) -> &str {
        self.0.as_str()
    }

    /// Whether it is an https URL, so that TLS is needed.
    pub fn is_tls(&self) -> bool {
        self.0.scheme() == "https"
    }

    /// The same, in its parts.
    pub(super) fn as_url(&self) -> &Url {
        &self.0
    }
}

/// Host and port, for the log.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // An http URL always has both.
        let (host, port) = (self.0.host_str().unwrap_or_default(), self.0.port_or_known_default().unwrap_or_default());
        write!(f, "{host}:{port}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_go_to_the_path_of_the_standard_below_the_address() {
        for (given, url, shown) in [
            ("http://127.0.0.1:4318", "http://127.0.0.1:4318/v1/traces", "127.0.0.1:4318"),
            (" http://127.0.0.1:4318/ ", "http://127.0.0.1:4318/v1/traces", "127.0.0.1:4318"),
            ("https://otel.example/otlp/", "https://otel.example/otlp/v1/traces", "otel.example:443"),
            ("https://otel.example/otlp/v1/traces", "https://otel.example/otlp/v1/traces", "otel.example:443"),
            ("http://[::1]:4318", "http://[::1]:4318/v1/traces", "[::1]:4318"),
        ] {
            let endpoint: Endpoint = given.parse().unwrap();
            assert_eq!((endpoint.url(), endpoint.to_string().as_str()), (url, shown), "{given}");
        }
    }

    #[test]
    fn what_is_no_address_of_a_collector_is_refused_with_what_to_give_instead() {
        for (given, why) in [
            ("", NotAnEndpoint::NotHttp),
            ("collector:4318", NotAnEndpoint::NotHttp),
            ("grpc://collector:4318", NotAnEndpoint::NotHttp),
            ("http://collector:0", NotAnEndpoint::NotHttp),
            ("http://ada:secret@collector:4318", NotAnEndpoint::WithUser),
            ("http://ada@collector:4318", NotAnEndpoint::WithUser),
            ("http://collector:4318/?key=secret", NotAnEndpoint::WithQuery),
            ("http://collector:4318/#x", NotAnEndpoint::WithQuery),
            ("http://collector:4317", NotAnEndpoint::Grpc),
        ] {
            assert_eq!(given.parse::<Endpoint>(), Err(why), "{given}");
            assert!(!why.to_string().contains("secret"));
        }
    }
}
