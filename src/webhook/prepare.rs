//! The rendered request in the client's own form.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use uuid::Uuid;

use super::evidence::Trace;
use super::guard::{Guard, Refusal};
use super::handover::Handover;
use crate::domain::action::Method;
use crate::domain::delivery::{Failure, Outcome};
use crate::domain::request::Request;

/// Most bytes of URL and headers together. Servers accept far less (nginx four times 8 KiB by default); and hyper must be
/// able to hold a whole head back, which it can up to 400 KiB (see `handover.rs`).
pub(super) const MAX_HEAD_BYTES: usize = 256 * 1024;

/// What is on a header's line beside its name and value: colon, space, line end.
const HEADER_LINE_OVERHEAD: usize = 4;

/// The id of the message, the same whenever the same message is sent again (Standard Webhooks 1.0).
const WEBHOOK_ID: HeaderName = HeaderName::from_static("webhook-id");

/// Makes `request` ready to send: judged by the guard, headers as rendered, its body noting the handover in `trace`.
///
/// # Errors
/// An outcome of `failed`, `blocked` or `render`: nothing was attempted.
pub(super) fn prepare(
    request: &Request,
    message_id: Uuid,
    guard: &Guard,
    trace: &Arc<Trace>,
) -> Result<reqwest::Request, Outcome> {
    let url = url::Url::parse(&request.url).map_err(|_| unsendable("the URL cannot be read"))?;
    guard.check_url(&url).map_err(blocked)?;
    let headers = headers(request, message_id)?;

    let mut prepared = reqwest::Request::new(method(request.method), url);
    *prepared.headers_mut() = headers;
    let content = request.body.as_ref().map(|text| Bytes::copy_from_slice(text.as_bytes()));
    *prepared.body_mut() = Some(reqwest::Body::wrap(Handover::new(Arc::clone(trace), content)));
    Ok(prepared)
}

fn headers(request: &Request, message_id: Uuid) -> Result<HeaderMap, Outcome> {
    let lines = request.headers.iter().map(|(name, value)| name.len() + value.len() + HEADER_LINE_OVERHEAD);
    if request.url.len() + lines.sum::<usize>() > MAX_HEAD_BYTES {
        return Err(unsendable("URL and headers are larger than 256 KiB"));
    }
    let mut headers = HeaderMap::with_capacity(request.headers.len() + 1);
    for (name, value) in &request.headers {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| unsendable("a header's name is not a token"))?;
        let mut value =
            HeaderValue::from_bytes(value.as_bytes()).map_err(|_| unsendable("a header holds a control character"))?;
        // Keeps it out of debug output, ours and the libraries'.
        value.set_sensitive(true);
        headers.append(name, value);
    }
    let id = HeaderValue::try_from(message_id.to_string()).map_err(|_| unsendable("the id cannot be a header"))?;
    headers.insert(WEBHOOK_ID, id);
    Ok(headers)
}

fn method(method: Method) -> reqwest::Method {
    match method {
        Method::Get => reqwest::Method::GET,
        Method::Post => reqwest::Method::POST,
        Method::Put => reqwest::Method::PUT,
    }
}

/// Rendering checks all this; here it is only not taken for granted.
fn unsendable(detail: &str) -> Outcome {
    Outcome::Failed { kind: Failure::Render, detail: detail.to_owned() }
}

fn blocked(refusal: Refusal) -> Outcome {
    let detail = match refusal {
        Refusal::Scheme => "plain http is refused; --allow-http permits it",
        Refusal::Address => super::outcome::ADDRESS_REFUSED,
    };
    Outcome::Failed { kind: Failure::Blocked, detail: detail.to_owned() }
}
