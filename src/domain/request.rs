//! The request as it will go out: what rendering makes and sending takes.

use super::action::Method;

/// One HTTP request, fully rendered. Nothing in it is a template any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// GET, POST or PUT.
    pub method: Method,
    /// Absolute `http` or `https` URL in its WHATWG serialisation, without fragment.
    pub url: String,
    /// Names in lower case and values, in the order in which they are sent: the author's, then an added `content-type`.
    pub headers: Vec<(String, String)>,
    /// The JSON text to send byte for byte; `None` sends no body at all.
    pub body: Option<String>,
    /// One deadline over everything from DNS to the last byte of the response, in milliseconds.
    pub timeout_ms: u32,
    /// Paths of the placeholders that found nothing, in order of appearance, each once.
    pub unresolved: Vec<String>,
}
