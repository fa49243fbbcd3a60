//! Puts the rendered request into the form that the client sends.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{ACCEPT, HOST, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use http::uri::PathAndQuery;
use rustls::ClientConfig;
use sha2::{Digest, Sha256};
use url::{Position, Url};
use uuid::Uuid;

use super::connection::Content;
use super::guard::{TargetGuard, TargetRefusal};
use super::target::Target;
use super::tls;
use crate::domain::action::Method;
use crate::domain::delivery::{Failure, Outcome};
use crate::domain::request::Request;

/// How many bytes the URL and the headers may have together. Servers accept far less (nginx four times 8 KiB by
/// default).
const MAX_HEAD_BYTES: usize = 256 * 1024;

/// The bytes of a header's line without its name and its value: the colon, the space and the line end.
const HEADER_LINE_OVERHEAD: usize = 4;

/// How many headers the client adds to the rendered ones at most.
const OWN_HEADERS: usize = 4;

/// The id of the message, the same whenever the same message is sent again (Standard Webhooks 1.0).
const WEBHOOK_ID: HeaderName = HeaderName::from_static("webhook-id");

/// The value of the header `user-agent`, unless the action sets one.
const SENDER: HeaderValue = HeaderValue::from_static(concat!("postcall/", env!("CARGO_PKG_VERSION")));

/// A request that is ready to send.
#[derive(Debug)]
pub(super) struct Prepared {
    /// The target that it goes to.
    pub(super) target: Target,
    /// TLS with the certificate that is shown there, if one is.
    pub(super) tls: Option<Arc<ClientConfig>>,
    method: http::Method,
    path: http::Uri,
    headers: HeaderMap,
    content: Content,
}

impl Prepared {
    /// The request in the form that hyper takes.
    pub(super) fn request(&self) -> http::Request<Content> {
        let mut request = http::Request::new(self.content.clone());
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.path.clone();
        *request.headers_mut() = self.headers.clone();
        request
    }
}

/// Makes `request` ready to send: the guard judges its URL, and the client's own headers are added to the rendered
/// ones. `tls` is how TLS is spoken without a certificate of the client.
///
/// # Errors
/// Returns a `failed` outcome, of the kind `blocked` or `render`. Nothing was attempted.
pub(super) fn prepare(
    request: &Request,
    message_id: Uuid,
    guard: &TargetGuard,
    tls: &ClientConfig,
) -> Result<Prepared, Outcome> {
    let url = Url::parse(&request.url).map_err(|_| unsendable("the URL cannot be read"))?;
    guard.check_url(&url).map_err(blocked)?;
    let mut target = Target::of(&url).ok_or_else(|| unsendable("the URL names no host"))?;
    let tls = match &request.client_certificate {
        Some(certificate) => {
            target.client = Some(Sha256::digest(certificate.pem()).into());
            let showing = tls::showing(tls, certificate).map_err(|why| {
                unsendable(&format!("the client certificate (secret `{}`) cannot be used: {why}", certificate.secret()))
            })?;
            Some(Arc::new(showing))
        }
        None => None,
    };
    let path = PathAndQuery::try_from(&url[Position::BeforePath..Position::AfterQuery])
        .map_err(|_| unsendable("the URL's path or query cannot be sent"))?;
    Ok(Prepared {
        target,
        tls,
        method: method(request.method),
        path: path.into(),
        headers: headers(request, message_id, &url)?,
        content: Content(request.body.as_ref().map(|text| Bytes::copy_from_slice(text.as_bytes()))),
    })
}

fn headers(request: &Request, message_id: Uuid, url: &Url) -> Result<HeaderMap, Outcome> {
    let lines = request.headers.iter().map(|(name, value)| name.len() + value.len() + HEADER_LINE_OVERHEAD);
    if request.url.len() + lines.sum::<usize>() > MAX_HEAD_BYTES {
        return Err(unsendable("URL and headers are larger than 256 KiB"));
    }
    let mut headers = HeaderMap::with_capacity(request.headers.len() + OWN_HEADERS);
    for (name, value) in &request.headers {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| unsendable("a header's name is not a token"))?;
        let mut value =
            HeaderValue::from_bytes(value.as_bytes()).map_err(|_| unsendable("a header holds a control character"))?;
        // This keeps the value out of the debug output of postcall and of its libraries.
        value.set_sensitive(true);
        headers.try_append(name, value).map_err(|_| unsendable("there are too many headers"))?;
    }
    let id = HeaderValue::try_from(message_id.to_string()).map_err(|_| unsendable("the id cannot be a header"))?;
    headers.insert(WEBHOOK_ID, id);
    headers.entry(ACCEPT).or_insert(HeaderValue::from_static("*/*"));
    headers.entry(USER_AGENT).or_insert(SENDER);
    let host = HeaderValue::from_str(&url[Position::BeforeHost..Position::AfterPort])
        .map_err(|_| unsendable("the URL's host cannot be a header"))?;
    headers.entry(HOST).or_insert(host);
    Ok(headers)
}

fn method(method: Method) -> http::Method {
    match method {
        Method::Get => http::Method::GET,
        Method::Post => http::Method::POST,
        Method::Put => http::Method::PUT,
    }
}

/// The outcome of a request that cannot be sent. Rendering has checked all this; the client does not rely on it.
fn unsendable(detail: &str) -> Outcome {
    Outcome::Failed { kind: Failure::Render, detail: detail.to_owned() }
}

fn blocked(refusal: TargetRefusal) -> Outcome {
    Outcome::Failed { kind: Failure::Blocked, detail: refusal.detail() }
}

#[cfg(test)]
mod tests {
    use rustls::RootCertStore;

    use super::*;
    use crate::webhook::guard::TargetRules;

    fn request(method: Method, headers: &[(&str, &str)]) -> Request {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Request {
            method,
            url: "https://h.example:8443/a?b".to_owned(),
            headers: headers.iter().map(owned).collect(),
            body: Some("{}".to_owned()),
            timeout_ms: 1_000,
            unresolved: vec![],
            client_certificate: None,
        }
    }

    fn prepared(request: &Request) -> Result<http::Request<Content>, Outcome> {
        let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().unwrap();
        let tls = builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth();
        let guard = TargetGuard::new(TargetRules::default());
        prepare(request, Uuid::nil(), &guard, &tls).map(|prepared| prepared.request())
    }

    #[test]
    fn the_action_says_the_method_the_path_and_the_headers_and_what_it_leaves_out_is_added() {
        let id = Uuid::nil().to_string();
        let sender = concat!("postcall/", env!("CARGO_PKG_VERSION"));
        for (method, name) in [(Method::Get, "GET"), (Method::Post, "POST"), (Method::Put, "PUT")] {
            let sent = prepared(&request(method, &[("x-a", "1"), ("accept", "a/b"), ("x-a", "2")])).unwrap();
            assert_eq!((sent.method().as_str(), sent.uri().to_string()), (name, "/a?b".to_owned()));
            let mut headers: Vec<(&str, &str)> =
                sent.headers().iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
            headers.sort();
            let expected = [
                ("accept", "a/b"),
                ("host", "h.example:8443"),
                ("user-agent", sender),
                ("webhook-id", &id),
                ("x-a", "1"),
                ("x-a", "2"),
            ];
            assert_eq!(headers, expected);
            assert!(sent.headers()["x-a"].is_sensitive(), "no library shows it");
        }
    }

    #[test]
    fn the_url_and_the_lines_of_the_headers_fill_the_bound_and_do_not_exceed_it() {
        let lines = |headers: &[(&str, &str)]| -> usize {
            headers.iter().map(|(name, value)| format!("{name}: {value}\r\n").len()).sum()
        };
        let few = [("x-a", "1"), ("x-bcdef", "123456789"), ("x-p", "")];
        let room = MAX_HEAD_BYTES - request(Method::Post, &[]).url.len() - lines(&few);
        for (bytes, fits) in [(0, true), (room, true), (room + 1, false)] {
            let long = "v".repeat(bytes);
            let headers = [few[0], few[1], ("x-p", long.as_str())];
            assert_eq!(prepared(&request(Method::Post, &headers)).is_ok(), fits, "{bytes} of {room}");
        }
    }
}
