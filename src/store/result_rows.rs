//! Converts a batch of results into one array per column, and defines the one form of statement that writes them. CONTRIBUTING.md
//! lists the places of a new result column.

use std::borrow::Cow;
use std::time::Duration;

use uuid::Uuid;

use crate::domain::action::Method;
use crate::domain::body_digest::BodyDigest;
use crate::domain::claim::{Finished, Texts};
use crate::domain::delivery::{Answer, BodyEnd, Outcome, State};
use crate::domain::error_kind::ErrorKind;
use crate::domain::kept;

/// Stored in place of a URL that the database refused. The row of an answered delivery must have a URL.
const URL_NOT_KEPT: &str = "(not kept)";
/// Stored in place of a detail that the database refused.
const DETAIL_NOT_KEPT: &str = "the database refused the texts of this outcome; they are not kept";

/// One vector per column of `unnest`, all of the batch's length.
#[derive(Default)]
pub(super) struct ResultRows<'a> {
    pub(super) delivery_id: Vec<Uuid>,
    pub(super) claim: Vec<Uuid>,
    pub(super) state: Vec<State>,
    pub(super) error_kind: Vec<Option<ErrorKind>>,
    pub(super) error_detail: Vec<Option<Cow<'a, str>>>,
    /// Whether the call's provider id, which is already in the database, is copied into history.
    pub(super) keep_sid: Vec<bool>,
    pub(super) method: Vec<Option<Method>>,
    pub(super) url: Vec<Option<Cow<'a, str>>>,
    pub(super) request_bytes: Vec<Option<i32>>,
    pub(super) request_sha256: Vec<Option<&'a [u8]>>,
    /// Names joined by line feeds: Postgres cannot unnest an array of arrays row by row.
    pub(super) unresolved: Vec<Option<String>>,
    pub(super) response_code: Vec<Option<i16>>,
    pub(super) response_bytes: Vec<Option<i32>>,
    pub(super) response_sha256: Vec<Option<&'a [u8]>>,
    pub(super) body_end: Vec<Option<BodyEnd>>,
    pub(super) latency_ms: Vec<Option<i32>>,
    pub(super) dns_ms: Vec<Option<i32>>,
    pub(super) connected_ms: Vec<Option<i32>>,
    pub(super) head_ms: Vec<Option<i32>>,
    pub(super) request_head_hmac: Vec<Option<&'a [u8]>>,
}

/// An `INSERT` of a batch of [`ResultRows`], checked by sqlx's macro `$query`:
///
/// `$with` *results* `$into` *columns* `$select` *columns* `$from`
///
/// *Results* are the columns of this list under the names of history, and `held_delivery`, `held_claim` and `keep_sid`.
/// The list of names, types and values stands here only, so that no statement can put a value into its neighbour's column.
/// The two values of the statement's own are `$1` and `$2`, so that a new column, at the end of the list, moves no number.
/// `unresolved` is not in the list of names, because its array is made here.
macro_rules! insert_results {
    ($query:ident, $rows:ident, $with:literal, $into:literal, $select:literal, $from:literal,
     $first:expr, $second:expr $(,)?) => {
        insert_results!(
            @named
            "state, error_kind, error_detail, method, url, request_bytes, request_sha256, response_code, response_bytes,
             response_sha256, body_end, latency_ms, dns_ms, connected_ms, head_ms, request_head_hmac",
            $query, $rows, $with, $into, $select, $from, $first, $second
        )
    };
    (@named $names:literal, $query:ident, $rows:ident, $with:literal, $into:literal, $select:literal, $from:literal,
     $first:expr, $second:expr) => {
        sqlx::$query!(
            $with
            + "SELECT held_delivery, held_claim, keep_sid, string_to_array(unresolved_lines, E'\\n') AS unresolved, "
            + $names
            + " FROM unnest($3::uuid[], $4::uuid[], $5::bool[], $6::text[], $7::text[], $8::text[], $9::text[], $10::text[],
                            $11::text[], $12::int[], $13::bytea[], $14::int2[], $15::int[], $16::bytea[], $17::text[],
                            $18::int[], $19::int[], $20::int[], $21::int[], $22::bytea[])
                    AS result (held_delivery, held_claim, keep_sid, unresolved_lines, "
            + $names
            + ")"
            + $into
            + "unresolved, "
            + $names
            + $select
            + "unresolved, "
            + $names
            + $from,
            $first,
            $second,
            &$rows.delivery_id,
            &$rows.claim,
            &$rows.keep_sid,
            &$rows.unresolved as &[Option<String>],
            &$rows.state as &[State],
            &$rows.error_kind as &[Option<ErrorKind>],
            &$rows.error_detail as &[Option<Cow<'_, str>>],
            &$rows.method as &[Option<Method>],
            &$rows.url as &[Option<Cow<'_, str>>],
            &$rows.request_bytes as &[Option<i32>],
            &$rows.request_sha256 as &[Option<&[u8]>],
            &$rows.response_code as &[Option<i16>],
            &$rows.response_bytes as &[Option<i32>],
            &$rows.response_sha256 as &[Option<&[u8]>],
            &$rows.body_end as &[Option<BodyEnd>],
            &$rows.latency_ms as &[Option<i32>],
            &$rows.dns_ms as &[Option<i32>],
            &$rows.connected_ms as &[Option<i32>],
            &$rows.head_ms as &[Option<i32>],
            &$rows.request_head_hmac as &[Option<&[u8]>],
        )
    };
}
pub(super) use insert_results;

impl<'a> ResultRows<'a> {
    pub(super) fn from<I>(batch: I) -> ResultRows<'a>
    where
        I: IntoIterator<Item = &'a Finished>,
    {
        let mut columns = ResultRows::default();
        for done in batch {
            columns.delivery_id.push(done.token.delivery_id());
            columns.claim.push(done.token.claim());
            columns.push_outcome(done);
            columns.push_record(done);
        }
        columns
    }

    fn push_outcome(&mut self, done: &'a Finished) {
        let outcome = &done.outcome;
        let detail = match outcome {
            Outcome::Answered(_) | Outcome::Skipped => None,
            Outcome::Failed { detail, .. } | Outcome::Unknown { detail, .. } => Some(detail),
        };
        let answer: Option<&'a Answer> = match outcome {
            Outcome::Answered(answer) => Some(answer),
            _ => None,
        };
        self.state.push(outcome.state());
        self.error_kind.push(outcome.error_kind());
        self.error_detail.push(detail.map(|detail| match done.texts {
            Texts::Kept => kept::detail(detail),
            Texts::Refused => Cow::Borrowed(DETAIL_NOT_KEPT),
        }));
        self.response_code.push(answer.map(|answer| i16::try_from(answer.response_code).unwrap_or(i16::MAX)));
        self.response_bytes.push(answer.map(|answer| i32::try_from(answer.response_bytes).unwrap_or(i32::MAX)));
        self.response_sha256.push(answer.map(|answer| answer.response_digest.as_slice()));
        self.body_end.push(answer.map(|answer| answer.body_end));
    }

    fn push_record(&mut self, done: &'a Finished) {
        let sent = done.record.sent.as_ref();
        let timing = done.record.timing;
        let texts_kept = done.texts == Texts::Kept;
        self.keep_sid.push(texts_kept);
        self.method.push(sent.map(|sent| sent.method));
        self.url.push(sent.map(|sent| match done.texts {
            Texts::Kept => kept::url(&sent.url),
            Texts::Refused => Cow::Borrowed(URL_NOT_KEPT),
        }));
        self.request_bytes
            .push(sent.and_then(|sent| sent.body_bytes).map(|bytes| i32::try_from(bytes).unwrap_or(i32::MAX)));
        self.request_sha256.push(sent.and_then(|sent| sent.body_digest.as_ref()).map(BodyDigest::as_slice));
        self.unresolved.push(sent.filter(|_| texts_kept).and_then(|sent| kept::unresolved(&sent.unresolved)));
        self.latency_ms.push(timing.map(|timing| millis(timing.latency)));
        self.dns_ms.push(timing.and_then(|timing| timing.dns).map(millis));
        self.connected_ms.push(timing.and_then(|timing| timing.connected).map(millis));
        self.head_ms.push(timing.and_then(|timing| timing.head).map(millis));
        self.request_head_hmac.push(sent.and_then(|sent| sent.head_digest.as_ref()).map(|digest| digest.as_slice()));
    }
}

fn millis(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::claim::{AttemptRecord, ClaimToken, Completion, SentRequest};
    use crate::domain::delivery::{Ending, Timing};

    #[test]
    fn numbers_beyond_a_column_s_range_become_its_largest() {
        let answer = Answer {
            response_code: u16::MAX,
            response_bytes: u64::MAX,
            response_digest: BodyDigest::Plain([0; 32]),
            body_end: BodyEnd::Complete,
            excerpt: None,
        };
        let sent = SentRequest {
            method: Method::Post,
            url: String::new(),
            body_bytes: Some(usize::MAX),
            body_digest: None,
            head_digest: None,
            unresolved: Vec::new(),
        };
        let longest = Some(Duration::MAX);
        let timing = Timing { latency: Duration::MAX, dns: longest, connected: longest, head: longest };
        let record = AttemptRecord { sent: Some(sent), timing: Some(timing) };
        let token = ClaimToken::new(Uuid::nil(), Uuid::nil());
        let Completion::Finished(done) = token.complete(Ending::Final(Outcome::Answered(answer)), record) else {
            panic!("an outcome finishes");
        };
        let columns = ResultRows::from([&done]);
        assert_eq!(columns.response_code, [Some(i16::MAX)]);
        let integers =
            [&columns.response_bytes, &columns.request_bytes, &columns.latency_ms, &columns.dns_ms, &columns.head_ms];
        assert!(integers.iter().all(|column| **column == [Some(i32::MAX)]));
    }
}
