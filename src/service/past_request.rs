//! The request of a past delivery. History keeps no call and no body, so it is rendered again from the call and the
//! action's version, which do not change, and compared with the recorded digest.

use std::fmt;

use serde::Serialize;
use sha2::{Digest, Sha256};

use super::preview::first;
use crate::domain::action::Method;
use crate::domain::body_digest::KEYED_BYTES;
use crate::domain::call::Call;
use crate::domain::mask;
use crate::domain::problem::Problem;
use crate::domain::request::{Gap, Gaps, Request};
use crate::domain::sealed_version::OperatorKeys;
use crate::domain::signature::{SIGNATURE_HEADER, TIMESTAMP_HEADER};
use crate::render::CompiledAction;
use crate::store::history::HistoryRow;
use crate::store::{Store, StoreError};

/// What is known about the request in addition to history.
#[derive(Debug)]
pub enum PastRequest {
    /// The request, rendered again.
    Rendered {
        /// As people may see it.
        request: Box<MaskedRequest>,
        /// Where it lacks values, in its texts as people may see them.
        gaps: Gaps,
        /// Whether its body has the recorded digest; `None` if no digest was recorded, if it has secrets, or if the key of the digest is
        /// not there.
        same: Option<bool>,
    },
    /// Rendering fails for this call and action.
    Refused(Problem),
    /// The reason why it cannot be rendered again.
    Gone(&'static str),
    /// The call's payload is larger than the caller wants to have in memory.
    TooLarge {
        /// Its size.
        bytes: i64,
    },
    /// The database user may read history, but neither calls nor templates.
    Forbidden,
}

impl PastRequest {
    /// Why it is not shown, if the reason is that there are no rights to read it.
    pub const FORBIDDEN: &str = "these rights allow history only";
}

/// A request in which the values of headers and query parameters that look like secrets by their names are masked.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct MaskedRequest {
    /// GET, POST or PUT.
    pub method: Method,
    /// The URL, masked.
    pub url: String,
    /// Names and values, masked, in the order in which they are sent.
    pub headers: Vec<(String, String)>,
    /// The body as it is.
    pub body: Option<String>,
}

/// As of a request: how much it is, and nothing of what it says. A person who may see it sees it elsewhere.
impl fmt::Debug for MaskedRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MaskedRequest")
            .field("method", &self.method)
            .field("headers", &self.headers.len())
            .field("body_bytes", &self.body.as_ref().map(String::len))
            .finish_non_exhaustive()
    }
}

impl MaskedRequest {
    /// Masks `request`.
    pub(super) fn of(request: Request) -> MaskedRequest {
        let masked = |(name, value): (String, String)| {
            let value = mask::header(&name, &value).to_owned();
            (name, value)
        };
        MaskedRequest {
            method: request.method,
            url: mask::url(&request.url),
            headers: request.headers.into_iter().map(masked).collect(),
            body: request.body,
        }
    }
}

/// Masks a request, and says where its texts lack values as they are shown. Of a value that is masked, this is its end.
pub(super) fn masked_with(request: Request, gaps: Gaps) -> (MaskedRequest, Gaps) {
    let url = request.url.clone();
    let masked = MaskedRequest::of(request);
    let of_url = moved(gaps.url, |at| in_masked_url(&url, &masked.url, at));
    let of_header = |(index, gaps): (usize, Vec<Gap>)| {
        let Some((name, value)) = masked.headers.get(index) else { return Vec::new() };
        moved(gaps, |at| if mask::is_secret(name) { value.len() } else { at })
    };
    let headers = gaps.headers.into_iter().enumerate().map(of_header).collect();
    (masked, Gaps { url: of_url, headers, body: gaps.body })
}

fn moved(gaps: Vec<Gap>, to: impl Fn(usize) -> usize) -> Vec<Gap> {
    gaps.into_iter().map(|Gap { path, range }| Gap { path, range: to(range.start)..to(range.end) }).collect()
}

/// Where the byte `at` of a URL stands when its parameters are masked, each for itself.
fn in_masked_url(url: &str, masked: &str, at: usize) -> usize {
    let parameters = |url: &str| url.find('?').map_or(url.len(), |mark| mark + 1);
    if at < parameters(url) {
        return at;
    }
    let (mut before, mut after) = (parameters(url), parameters(masked));
    for (plain, shown) in url[before..].split('&').zip(masked[after..].split('&')) {
        if at <= before + plain.len() {
            return if plain == shown { after + (at - before) } else { after + shown.len() };
        }
        (before, after) = (before + plain.len() + 1, after + shown.len() + 1);
    }
    masked.len()
}

/// As [`render_again`], unless the call's payload is larger than `most_bytes`.
pub async fn render_again_within(store: &Store, row: &HistoryRow, most_bytes: i64) -> PastRequest {
    match store.payload_bytes(row.call_id).await {
        Ok(Some(bytes)) if bytes > most_bytes => PastRequest::TooLarge { bytes },
        Ok(_) => render_again(store, row).await,
        Err(error) => unreadable(&error),
    }
}

/// Renders the request of a delivery again.
pub async fn render_again(store: &Store, row: &HistoryRow) -> PastRequest {
    let payload = match store.payload(row.call_id).await {
        Ok(Some(payload)) => payload,
        Ok(None) => return PastRequest::Gone("the call's payload is no longer kept"),
        Err(error) => return unreadable(&error),
    };
    let mut actions = match store.actions(Some(&row.agent), Some(&row.action), row.action_version).await {
        Ok(actions) => actions,
        Err(error) => return unreadable(&error),
    };
    let Some(action) = actions.pop() else { return PastRequest::Gone("the action's version cannot be found") };
    let spec = match &action.spec {
        Ok(spec) => spec,
        Err(unopened) => return PastRequest::Gone(unopened.why()),
    };
    let rendered = CompiledAction::compile(spec).map_err(first).and_then(|compiled| {
        Ok((compiled.render_with_gaps(Call::of_any_length(&payload))?, compiled.body_has_secrets()))
    });
    match rendered {
        Ok(((mut request, gaps), has_secrets)) => {
            // What it was signed with is not kept, and the keys are not opened for this.
            let signed = match store.was_signed(&row.agent, row.claimed_at).await {
                Ok(signed) => signed,
                Err(error) => return unreadable(&error),
            };
            if signed {
                let masked = |name: &str| (name.to_owned(), mask::MASK.to_owned());
                request.headers.extend([masked(TIMESTAMP_HEADER), masked(SIGNATURE_HEADER)]);
            }
            // A body whose secrets are masked has another digest than what was sent.
            let recorded = row.request_sha256.as_ref().filter(|_| !has_secrets);
            let same = recorded.and_then(|recorded| is_recorded(recorded, &request, store.keys()));
            let (request, gaps) = masked_with(request, gaps);
            PastRequest::Rendered { request: Box::new(request), gaps, same }
        }
        Err(problem) => PastRequest::Refused(problem),
    }
}

/// Why something could not be read. An auditor may read neither calls nor actions; that is not an error here.
fn unreadable(error: &StoreError) -> PastRequest {
    if error.is_forbidden() {
        PastRequest::Forbidden
    } else {
        PastRequest::Gone("the database did not return what it holds")
    }
}

/// Whether the body has the recorded digest, which is in hexadecimal; `None` if its key is not there.
fn is_recorded(recorded: &str, request: &Request, keys: Option<&dyn OperatorKeys>) -> Option<bool> {
    let recorded = hex::decode(recorded).unwrap_or_default();
    let Some(body) = &request.body else { return Some(false) };
    match <&[u8; KEYED_BYTES]>::try_from(recorded.as_slice()) {
        Ok(keyed) => keys?.is_digest_of(keyed, body),
        Err(_) => Some(recorded == *Sha256::digest(body)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looks_like_a_secret_leaves_this_room_masked_and_all_else_as_it_is() {
        let headers = [("authorization", "Bearer abc"), ("x-call", "CA1")];
        let request = Request {
            method: Method::Post,
            url: "https://a.test/?token=abc&id=CA1".to_owned(),
            headers: headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
            body: Some("{}".to_owned()),
            timeout_ms: 1,
            unresolved: Vec::new(),
            client_certificate: None,
        };
        let masked = MaskedRequest::of(request);
        let headers = [("authorization", mask::MASK), ("x-call", "CA1")];
        assert_eq!(masked.headers, headers.map(|(name, value)| (name.to_owned(), value.to_owned())));
        assert_eq!(masked.url, format!("https://a.test/?token={}&id=CA1", mask::MASK));
        assert_eq!((masked.method, masked.body.as_deref()), (Method::Post, Some("{}")));
    }

    #[test]
    fn a_gap_keeps_its_place_however_long_what_is_masked_before_it_was() {
        let url = "https://a.test/?x=&token=abcdef?g&token=a&y=1";
        let masked = mask::url(url);
        for (at, before) in [(18, "x="), (25, "***"), (30, "***"), (url.len() - 1, "&y="), (url.len(), "&y=1")] {
            let place = in_masked_url(url, &masked, at);
            assert!(masked[..place].ends_with(before), "{at}: {}", &masked[..place]);
        }
    }
}
