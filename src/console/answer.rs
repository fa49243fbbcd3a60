//! The response, with the headers that every answer has, whether it is a page, an error or the style sheet.

use http::header::{self, HeaderName};
use http::{HeaderValue, Response, StatusCode};

/// What a browser may do with an answer: show it, with the style sheet from here, and nothing else.
const EVERYWHERE: [(HeaderName, &str); 7] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (HeaderName::from_static("x-robots-tag"), "noindex"),
];

/// Pages show personal data and change all the time, so nobody keeps them.
const NOT_KEPT: &str = "no-store";
/// The style sheet has a new name if it changes.
const KEPT_FOR_EVER: &str = "public, max-age=31536000, immutable";

/// An answer without the headers that every answer has.
pub(super) struct Answer {
    status: StatusCode,
    kind: &'static str,
    body: String,
    cache: &'static str,
    extra: Option<(HeaderName, HeaderValue)>,
}

impl Answer {
    /// A page.
    pub(super) fn page(status: StatusCode, html: String) -> Answer {
        Answer { status, kind: "text/html; charset=utf-8", body: html, cache: NOT_KEPT, extra: None }
    }

    /// A text for programs.
    pub(super) fn text(status: StatusCode, text: &str) -> Answer {
        Answer { status, kind: "text/plain; charset=utf-8", body: text.to_owned(), cache: NOT_KEPT, extra: None }
    }

    /// A part of the program that browsers may keep.
    pub(super) fn kept(kind: &'static str, content: &str) -> Answer {
        Answer { status: StatusCode::OK, kind, body: content.to_owned(), cache: KEPT_FOR_EVER, extra: None }
    }

    /// A drawing of the program.
    pub(super) fn picture(svg: &str) -> Answer {
        Answer { kind: "image/svg+xml", ..Answer::text(StatusCode::OK, svg) }
    }

    /// Leads to another page of the console.
    pub(super) fn elsewhere(path: &str) -> Answer {
        let location = HeaderValue::from_str(path).ok().map(|path| (header::LOCATION, path));
        Answer { extra: location, ..Answer::text(StatusCode::SEE_OTHER, "") }
    }

    /// The same with one more header.
    pub(super) fn with(self, name: HeaderName, value: &'static str) -> Answer {
        Answer { extra: Some((name, HeaderValue::from_static(value))), ..self }
    }

    /// The response.
    pub(super) fn into_response(self) -> Response<String> {
        let mut response = Response::new(self.body);
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        for (name, value) in EVERYWHERE {
            headers.insert(name, HeaderValue::from_static(value));
        }
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(self.kind));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(self.cache));
        headers.extend(self.extra.map(|(name, value)| (Some(name), value)));
        response
    }
}
