//! The request as it will be sent: the result of rendering and the input of sending.

use std::fmt;
use std::ops::Range;

use super::action::Method;
use super::body_digest::RequestHead;
use super::client_certificate::ClientCertificate;
use super::kept::{MAX_UNRESOLVED, MAX_UNRESOLVED_BYTES};

/// One HTTP request, fully rendered. It contains no templates any more. Its `Debug` form tells nothing of what is sent: secrets and
/// values of the call are in it.
#[derive(Clone, PartialEq, Eq)]
pub struct Request {
    /// The HTTP method.
    pub method: Method,
    /// Absolute `http` or `https` URL in its WHATWG serialisation, without fragment.
    pub url: String,
    /// Names in lower case and values, in the order in which they are sent: first the author's, then an added
    /// `content-type`.
    pub headers: Vec<(String, String)>,
    /// The JSON text, which is sent unchanged; with `None`, no body is sent.
    pub body: Option<String>,
    /// One deadline for everything from DNS to the last byte of the response, in milliseconds.
    pub timeout_ms: u32,
    /// Paths of the unresolved placeholders (those that found no value), in order of appearance, each once. The list is
    /// limited by [`bounded_unresolved`].
    pub unresolved: Vec<String>,
    /// The certificate that is shown to the receiver.
    pub client_certificate: Option<ClientCertificate>,
}

impl Request {
    /// What it says before its body.
    pub fn head(&self) -> RequestHead<'_> {
        RequestHead { method: self.method, url: &self.url, headers: &self.headers }
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("method", &self.method)
            .field("headers", &self.headers.len())
            .field("body_bytes", &self.body.as_ref().map(String::len))
            .finish_non_exhaustive()
    }
}

/// A place in a text of a request at which a placeholder found no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The path of the placeholder.
    pub path: String,
    /// The bytes that stand in place of a value; often none.
    pub range: Range<usize>,
}

/// Where the texts of a request lack values, each in the order of its text. There are no more than placeholders in the templates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gaps {
    /// In the URL.
    pub url: Vec<Gap>,
    /// In the value of each of the author's headers that are sent, in their order.
    pub headers: Vec<Vec<Gap>>,
    /// In the body.
    pub body: Vec<Gap>,
}

/// The first of `paths`, at most [`MAX_UNRESOLVED`] of them and [`MAX_UNRESOLVED_BYTES`] together. If there are more,
/// the last entry says how many: `… and 468 more`. A path is never cut: after the first one that does not fit, no path
/// is listed.
pub fn bounded_unresolved<'p>(mut paths: impl Iterator<Item = &'p str>) -> Vec<String> {
    let mut named = Vec::new();
    let mut room = MAX_UNRESOLVED_BYTES;
    while let Some(path) = paths.next() {
        if named.len() == MAX_UNRESOLVED || path.len() > room {
            named.push(format!("… and {} more", 1 + paths.count()));
            return named;
        }
        room -= path.len();
        named.push(path.to_owned());
    }
    named
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_debug_form_of_a_request_has_nothing_of_what_is_sent() {
        let request = Request {
            method: Method::Post,
            url: "https://h/s3cret".to_owned(),
            headers: vec![("x".to_owned(), "s3cret".to_owned())],
            body: Some("\"s3cret\"".to_owned()),
            timeout_ms: 1,
            unresolved: vec!["s3cret".to_owned()],
            client_certificate: Some(ClientCertificate::new("s3cret", "s3cret".into())),
        };
        let told = format!("{request:?} {request:#?}");
        assert!(told.contains("Post") && !told.contains("s3cret"), "{told}");
    }

    #[test]
    fn what_found_nothing_is_named_within_a_bound_and_then_counted() {
        let bounded = |names: &[String]| bounded_unresolved(names.iter().map(String::as_str));
        let short: Vec<String> = (0..MAX_UNRESOLVED).map(|number| format!("p{number}")).collect();
        assert_eq!(bounded(&short), short);
        let many: Vec<String> = (0..500).map(|number| format!("p{number}")).collect();
        assert_eq!(bounded(&many), [&short[..], &["… and 468 more".to_owned()]].concat());

        let half = "x".repeat(MAX_UNRESOLVED_BYTES / 2);
        assert_eq!(bounded(&[half.clone(), half.clone()]), [half.clone(), half.clone()]);
        let past = [half.clone(), half.clone(), "y".to_owned(), "z".to_owned()];
        assert_eq!(bounded(&past), [half.clone(), half, "… and 2 more".to_owned()]);
        assert_eq!(bounded(&["x".repeat(MAX_UNRESOLVED_BYTES + 1)]), ["… and 1 more"]);
        assert!(bounded(&[]).is_empty());
    }
}
