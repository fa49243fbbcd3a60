//! Recording outcomes: sending → delivery, in batches, each row fenced by its claim.

use std::collections::HashSet;
use std::time::Duration;

use uuid::Uuid;

use super::{Store, StoreError};
use crate::domain::claim::Finished;
use crate::domain::delivery::{Answer, Outcome};

/// What became of one outcome that was to be recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recording {
    /// It is in history.
    Recorded,
    /// It had been recorded under this very claim before: the answer to the first attempt was lost.
    AlreadyRecorded,
    /// The claim was no longer valid: somebody else gave the delivery up in between.
    NotHeld,
}

impl Store {
    /// Moves deliveries from sending into history with their outcomes, all in one durable commit, and says for each, in
    /// the same order, what became of it. May be repeated after an error: nothing is recorded twice.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn finish(&self, batch: &[Finished]) -> Result<Vec<Recording>, StoreError> {
        let moved = self.move_into_history(batch).await?;
        let missing: Vec<&Finished> = batch.iter().filter(|done| !moved.contains(&done.hold.delivery_id())).collect();
        let earlier = if missing.is_empty() { HashSet::new() } else { self.recorded_earlier(&missing).await? };
        Ok(batch
            .iter()
            .map(|done| match done.hold.delivery_id() {
                id if moved.contains(&id) => Recording::Recorded,
                id if earlier.contains(&id) => Recording::AlreadyRecorded,
                _ => Recording::NotHeld,
            })
            .collect())
    }

    async fn move_into_history(&self, batch: &[Finished]) -> Result<HashSet<Uuid>, StoreError> {
        let columns = Columns::from(batch);
        // - unnest: one statement of one shape, whatever the size of the batch.
        // - DELETE … RETURNING is the fence: only a row that this claim still holds leaves sending, and only a row that
        //   left sending enters history. A repetition finds nothing to delete and so inserts nothing.
        // - finished_at is never before claimed_at even if the server's clock was set back in between.
        let moved = sqlx::query_scalar!(
            r#"
            WITH done AS (
                SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[],
                                     $7::text[], $8::text[], $9::int[], $10::bytea[], $11::text[], $12::int2[],
                                     $13::int[], $14::bytea[], $15::text[], $16::int[], $17::int[], $18::int[],
                                     $19::int[])
                    AS done (delivery_id, claim, state, error_kind, error_detail, call_sid,
                             method, url, request_bytes, request_sha256, unresolved, response_code,
                             response_bytes, response_sha256, body_end, latency_ms, dns_ms, connected_ms,
                             head_ms)
            ),
            ended AS (
                DELETE FROM postcall.sending USING done
                WHERE sending.delivery_id = done.delivery_id AND sending.claim = done.claim
                RETURNING sending.*
            )
            INSERT INTO postcall.delivery
                (delivery_id, call_id, claim, action_id, created_at, claimed_at, finished_at, action_version,
                 dispatcher_id, agent, state, error_kind, error_detail, call_sid, method, url, request_bytes,
                 request_sha256, unresolved, response_code, response_bytes, response_sha256, body_end, latency_ms,
                 dns_ms, connected_ms, head_ms)
            SELECT ended.delivery_id, call_id, ended.claim, action_id, created_at, claimed_at,
                   greatest(clock_timestamp(), claimed_at), action_version, dispatcher_id, agent, state, error_kind,
                   error_detail, call_sid, method, url, request_bytes, request_sha256,
                   string_to_array(unresolved, E'\n'), response_code, response_bytes, response_sha256, body_end,
                   latency_ms, dns_ms, connected_ms, head_ms
            FROM ended JOIN done USING (delivery_id)
            RETURNING delivery_id
            "#,
            &columns.delivery_id,
            &columns.claim,
            &columns.state as &[&str],
            &columns.error_kind as &[Option<&str>],
            &columns.error_detail as &[Option<&str>],
            &columns.call_sid as &[Option<&str>],
            &columns.method as &[Option<&str>],
            &columns.url as &[Option<&str>],
            &columns.request_bytes as &[Option<i32>],
            &columns.request_sha256 as &[Option<&[u8]>],
            &columns.unresolved as &[Option<String>],
            &columns.response_code as &[Option<i16>],
            &columns.response_bytes as &[Option<i32>],
            &columns.response_sha256 as &[Option<&[u8]>],
            &columns.body_end as &[Option<&str>],
            &columns.latency_ms as &[Option<i32>],
            &columns.dns_ms as &[Option<i32>],
            &columns.connected_ms as &[Option<i32>],
            &columns.head_ms as &[Option<i32>],
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(moved.into_iter().collect())
    }

    async fn recorded_earlier(&self, missing: &[&Finished]) -> Result<HashSet<Uuid>, StoreError> {
        let (deliveries, claims): (Vec<Uuid>, Vec<Uuid>) =
            missing.iter().map(|done| (done.hold.delivery_id(), done.hold.claim())).unzip();
        // By primary key, and by claim, so that another claim's outcome is not taken for ours.
        let rows = sqlx::query_scalar!(
            r#"
            SELECT delivery.delivery_id
            FROM unnest($1::uuid[], $2::uuid[]) AS held (delivery_id, claim)
            JOIN postcall.delivery ON delivery.delivery_id = held.delivery_id AND delivery.claim = held.claim
            "#,
            &deliveries,
            &claims,
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(rows.into_iter().collect())
    }
}

/// A batch turned on its side: one vector per column of `unnest`, all of the batch's length.
#[derive(Default)]
struct Columns<'a> {
    delivery_id: Vec<Uuid>,
    claim: Vec<Uuid>,
    state: Vec<&'static str>,
    error_kind: Vec<Option<&'static str>>,
    error_detail: Vec<Option<&'a str>>,
    call_sid: Vec<Option<&'a str>>,
    method: Vec<Option<&'static str>>,
    url: Vec<Option<&'a str>>,
    request_bytes: Vec<Option<i32>>,
    request_sha256: Vec<Option<&'a [u8]>>,
    /// Paths joined by line feeds, which no path holds: Postgres cannot unnest an array of arrays row by row.
    unresolved: Vec<Option<String>>,
    response_code: Vec<Option<i16>>,
    response_bytes: Vec<Option<i32>>,
    response_sha256: Vec<Option<&'a [u8]>>,
    body_end: Vec<Option<&'static str>>,
    latency_ms: Vec<Option<i32>>,
    dns_ms: Vec<Option<i32>>,
    connected_ms: Vec<Option<i32>>,
    head_ms: Vec<Option<i32>>,
}

impl<'a> Columns<'a> {
    fn from(batch: &'a [Finished]) -> Columns<'a> {
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
