//! Results as the database takes them: a batch turned on its side, one array per column.

use std::time::Duration;

use uuid::Uuid;

use crate::domain::claim::Finished;
use crate::domain::delivery::{Answer, Outcome};

/// One vector per column of `unnest`, all of the batch's length.
#[derive(Default)]
pub(super) struct Columns<'a> {
    pub(super) delivery_id: Vec<Uuid>,
    pub(super) claim: Vec<Uuid>,
    pub(super) state: Vec<&'static str>,
    pub(super) error_kind: Vec<Option<&'static str>>,
    pub(super) error_detail: Vec<Option<&'a str>>,
    pub(super) call_sid: Vec<Option<&'a str>>,
    pub(super) method: Vec<Option<&'static str>>,
    pub(super) url: Vec<Option<&'a str>>,
    pub(super) request_bytes: Vec<Option<i32>>,
    pub(super) request_sha256: Vec<Option<&'a [u8]>>,
    /// Paths joined by line feeds, which no path holds: Postgres cannot unnest an array of arrays row by row.
    pub(super) unresolved: Vec<Option<String>>,
    pub(super) response_code: Vec<Option<i16>>,
    pub(super) response_bytes: Vec<Option<i32>>,
    pub(super) response_sha256: Vec<Option<&'a [u8]>>,
    pub(super) body_end: Vec<Option<&'static str>>,
    pub(super) latency_ms: Vec<Option<i32>>,
    pub(super) dns_ms: Vec<Option<i32>>,
    pub(super) connected_ms: Vec<Option<i32>>,
    pub(super) head_ms: Vec<Option<i32>>,
}

impl<'a> Columns<'a> {
    /// The columns of `batch`, in its order.
    pub(super) fn from(batch: &'a [Finished]) -> Columns<'a> {
        let mut columns = Columns::default();
        for done in batch {
            columns.delivery_id.push(done.hold.delivery_id());
            columns.claim.push(done.hold.claim());
            columns.push_outcome(&done.outcome);
            columns.push_story(done);
        }
        columns
    }

    fn push_outcome(&mut self, outcome: &'a Outcome) {
        let (kind, detail): (Option<&'static str>, Option<&'a str>) = match outcome {
            Outcome::Answered(_) | Outcome::Skipped => (None, None),
            Outcome::Failed { kind, detail } => (Some(kind.as_str()), Some(bounded(detail))),
            Outcome::Unknown { kind, detail } => (Some(kind.as_str()), Some(bounded(detail))),
        };
        let answer: Option<&'a Answer> = match outcome {
            Outcome::Answered(answer) => Some(answer),
            _ => None,
        };
        self.state.push(outcome.state().as_str());
        self.error_kind.push(kind);
        self.error_detail.push(detail);
        self.response_code.push(answer.map(|answer| i16::try_from(answer.response_code).unwrap_or(i16::MAX)));
        self.response_bytes.push(answer.map(|answer| i32::try_from(answer.response_bytes).unwrap_or(i32::MAX)));
        self.response_sha256.push(answer.map(|answer| answer.response_sha256.as_slice()));
        self.body_end.push(answer.map(|answer| answer.body_end.as_str()));
    }

    fn push_story(&mut self, done: &'a Finished) {
        let sent = done.story.sent.as_ref();
        let timing = done.story.timing;
        let unresolved = sent.map(|sent| sent.unresolved.join("\n")).filter(|paths| !paths.is_empty());
        self.call_sid.push(done.story.call_sid.as_deref());
        self.method.push(sent.map(|sent| sent.method.as_str()));
        self.url.push(sent.map(|sent| sent.url.as_str()));
        self.request_bytes
            .push(sent.and_then(|sent| sent.body_bytes).map(|bytes| i32::try_from(bytes).unwrap_or(i32::MAX)));
        self.request_sha256.push(sent.and_then(|sent| sent.body_sha256.as_ref()).map(|digest| digest.as_slice()));
        self.unresolved.push(unresolved);
        self.latency_ms.push(timing.map(|timing| millis(timing.latency)));
        self.dns_ms.push(timing.and_then(|timing| timing.dns).map(millis));
        self.connected_ms.push(timing.and_then(|timing| timing.connected).map(millis));
        self.head_ms.push(timing.and_then(|timing| timing.head).map(millis));
    }
}

/// Most bytes of an error's detail that history keeps, as its CHECK constraint says.
const MAX_DETAIL_BYTES: usize = 1024;

fn bounded(detail: &str) -> &str {
    let mut end = detail.len().min(MAX_DETAIL_BYTES);
    while !detail.is_char_boundary(end) {
        end -= 1;
    }
    &detail[..end]
}

fn millis(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}
