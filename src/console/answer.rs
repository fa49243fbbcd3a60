//! The response, with the headers that every answer has, whether it is a page, an error or the style sheet.

use http::header::{self, HeaderName};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body_util::channel::{Channel, Sender};
use http_body_util::{Either, Full};
use hyper::body::Bytes;

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

/// The pieces of a streamed answer that wait for a slow reader. Whoever writes waits when so many wait.
const PIECES: usize = 4;

/// The body of a response: whole, or in pieces as they come.
pub(super) type Body = Either<Full<Bytes>, Channel<Bytes, CutOff>>;
/// Where the pieces of a streamed answer go. It ends the answer well when it is dropped; [`Sender::abort`] breaks it off,
/// so that nobody takes a part for the whole.
pub(super) type Pieces = Sender<Bytes, CutOff>;

/// A streamed answer could not be brought to its end.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the answer was broken off")]
pub(super) struct CutOff;

/// An answer without the headers that every answer has.
pub(super) struct Answer {
    status: StatusCode,
    kind: &'static str,
    body: Body,
    cache: &'static str,
    extra: HeaderMap,
}

impl Answer {
    fn new(status: StatusCode, kind: &'static str, body: Body) -> Answer {
        Answer { status, kind, body, cache: NOT_KEPT, extra: HeaderMap::new() }
    }

    /// A page.
    pub(super) fn page(status: StatusCode, html: String) -> Answer {
        Answer::new(status, "text/html; charset=utf-8", whole(html))
    }

    /// A text for programs.
    pub(super) fn text(status: StatusCode, text: &str) -> Answer {
        Answer::new(status, "text/plain; charset=utf-8", whole(text.to_owned()))
    }

    /// A part of the program that browsers may keep.
    pub(super) fn kept(kind: &'static str, content: &'static [u8]) -> Answer {
        Answer { cache: KEPT_FOR_EVER, ..Answer::new(StatusCode::OK, kind, whole(content)) }
    }

    /// A drawing of the program.
    pub(super) fn picture(svg: &str) -> Answer {
        Answer { kind: "image/svg+xml", ..Answer::text(StatusCode::OK, svg) }
    }

    /// Leads to another page of the console.
    pub(super) fn elsewhere(path: &str) -> Answer {
        let answer = Answer::text(StatusCode::SEE_OTHER, "");
        match HeaderValue::from_str(path) {
            Ok(path) => answer.with(header::LOCATION, path),
            Err(_) => answer,
        }
    }

    /// An answer whose end is not known yet, and where its pieces go.
    pub(super) fn streamed(kind: &'static str) -> (Answer, Pieces) {
        let (pieces, body) = Channel::new(PIECES);
        (Answer::new(StatusCode::OK, kind, Either::Right(body)), pieces)
    }

    /// The same with one more header; one of the same name stays, too.
    pub(super) fn with(mut self, name: HeaderName, value: HeaderValue) -> Answer {
        self.extra.append(name, value);
        self
    }

    /// The response.
    pub(super) fn into_response(self) -> Response<Body> {
        let mut response = Response::new(self.body);
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        for (name, value) in EVERYWHERE {
            headers.insert(name, HeaderValue::from_static(value));
        }
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(self.kind));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(self.cache));
        headers.extend(self.extra);
        response
    }
}

fn whole(content: impl Into<Bytes>) -> Body {
    Either::Left(Full::new(content.into()))
}
