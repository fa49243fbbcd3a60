//! The request of a past delivery. History keeps no call and no body, so it is rendered again from the call and the
//! action's version, which do not change, and compared with the recorded digest.

use std::fmt;

use serde::Serialize;
use sha2::{Digest, Sha256};

use super::preview::first;
use crate::domain::action::Method;
use crate::domain::body_digest::KeyedDigest;
use crate::domain::call::Call;
use crate::domain::delivery::{ResolutionSource, State};
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
        /// Whether it is what was recorded as sent.
        compared: Compared,
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

/// Whether a request that was rendered again has the recorded digests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compared {
    /// Of method, URL and headers, each secret in them masked; `None` if no digest was recorded, or if its key is not there.
    pub head: Option<bool>,
    /// Of the body; `None` if no digest was recorded, if it has secrets, or if the key of the digest is not there.
    pub body: Option<bool>,
    /// Whether the request has a body.
    has_body: bool,
    /// Whether history has it that a request was made: of what is yet to be sent, there is nothing to compare.
    is_past: bool,
}

impl Compared {
    /// Whether all of it is what was sent; `None` if a part cannot be compared, and none differs.
    pub fn same(self) -> Option<bool> {
        match (self.head, self.body) {
            (Some(false), _) | (_, Some(false)) => Some(false),
            (Some(true), Some(true)) => Some(true),
            (Some(true), None) if !self.has_body => Some(true),
            (_, _) => None,
        }
    }

    /// What differs from what was sent, in words.
    pub fn difference(self) -> Option<&'static str> {
        match (self.head, self.body) {
            (Some(false), Some(false)) => Some("this is not the request that was recorded as sent"),
            (Some(false), _) => Some("this is not the URL, or these are not the headers, that were recorded as sent"),
            (_, Some(false)) => Some("this is not the body that was recorded as sent"),
            (_, _) => None,
        }
    }

    /// What was not compared: whoever reads it must not believe that it was sent because it is shown.
    pub fn not_compared(self) -> Option<&'static str> {
        match (self.head, self.body) {
            (_, _) if !self.is_past => None,
            (None, None) => Some("this was not compared with what was sent"),
            (None, Some(_)) => Some("URL and headers were not compared with what was sent"),
            (Some(_), None) if self.has_body => Some("the body was not compared with what was sent"),
            (_, _) => None,
        }
    }
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
            // A body whose secrets are masked has another digest than what was sent.
            let recorded = row.request_sha256.as_ref().filter(|_| !has_secrets);
            let body = recorded.and_then(|recorded| is_recorded(recorded, &request, store.keys()));
            let head = row.request_head_hmac.as_ref();
            let head = head.and_then(|recorded| is_recorded_head(recorded, &request, store.keys()));
            let is_past = row.url.is_some() && !nothing_left(row);
            let compared = Compared { head, body, has_body: request.body.is_some(), is_past };
            // What it was signed with is not kept, and the keys are not opened for this.
            let signed = match store.was_signed(&row.agent, row.claimed_at).await {
                Ok(signed) => signed,
                Err(error) => return unreadable(&error),
            };
            if signed {
                let masked = |name: &str| (name.to_owned(), mask::MASK.to_owned());
                request.headers.extend([masked(TIMESTAMP_HEADER), masked(SIGNATURE_HEADER)]);
            }
            let (request, gaps) = masked_with(request, gaps);
            PastRequest::Rendered { request: Box::new(request), gaps, compared }
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

/// Whether certainly nothing of the request was sent. That it failed, a person may only have found out.
fn nothing_left(row: &HistoryRow) -> bool {
    matches!(row.state, State::Failed | State::Skipped) && row.resolved_from != Some(ResolutionSource::Person)
}

/// Whether the body has the recorded digest, which is in hexadecimal; `None` if its key is not there.
fn is_recorded(recorded: &str, request: &Request, keys: Option<&dyn OperatorKeys>) -> Option<bool> {
    let recorded = hex::decode(recorded).unwrap_or_default();
    let Some(body) = &request.body else { return Some(false) };
    match <&KeyedDigest>::try_from(recorded.as_slice()) {
        Ok(keyed) => keys?.is_digest_of(keyed, body),
        Err(_) => Some(recorded == *Sha256::digest(body)),
    }
}

/// As [`is_recorded`], of method, URL and headers. A digest of them is never without a key.
fn is_recorded_head(recorded: &str, request: &Request, keys: Option<&dyn OperatorKeys>) -> Option<bool> {
    let recorded = KeyedDigest::try_from(hex::decode(recorded).unwrap_or_default());
    recorded.map_or(Some(false), |recorded| keys?.is_digest_of_head(&recorded, request.head()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_of_a_request_is_the_same_only_if_each_part_that_it_has_was_compared() {
        let compared = |head, body, has_body| Compared { head, body, has_body, is_past: true };
        let (yes, no) = (Some(true), Some(false));
        for (head, body, has_body, same, differs, lacks) in [
            (yes, yes, true, yes, None, None),
            (yes, None, false, yes, None, None),
            (yes, None, true, None, None, Some("the body")),
            (None, yes, true, None, None, Some("URL and headers")),
            (None, None, true, None, None, Some("this")),
            (None, None, false, None, None, Some("this")),
            (no, yes, true, no, Some("URL"), None),
            (no, None, false, no, Some("URL"), None),
            (yes, no, true, no, Some("body"), None),
            (None, no, true, no, Some("body"), Some("URL and headers")),
            (no, no, true, no, Some("request"), None),
        ] {
            let compared = compared(head, body, has_body);
            assert_eq!(compared.same(), same, "{compared:?}");
            let holds = |said: Option<&str>, part: Option<&str>| match (said, part) {
                (Some(said), Some(part)) => said.contains(part),
                (said, part) => said.is_none() && part.is_none(),
            };
            assert_eq!(Compared { is_past: false, ..compared }.not_compared(), None);
            assert!(holds(compared.difference(), differs) && holds(compared.not_compared(), lacks), "{compared:?}");
        }
    }

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
