//! Recording outcomes: sending → delivery, in batches, each row fenced by its claim.

use std::borrow::Cow;
use std::collections::HashSet;

use uuid::Uuid;

use super::StoreError;
use super::result_rows::ResultRows;
use super::session::Session;
use crate::domain::claim::Finished;
use crate::domain::kept;

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

impl Session {
    /// Moves deliveries from sending into history with their outcomes, all in one durable commit, and says for each, in
    /// the same order, what became of it. May be repeated after an error: nothing is recorded twice.
    ///
    /// # Errors
    /// Only those of the database; nothing is recorded then. One that is [`StoreError::is_about_the_data`] may be about a
    /// single row of the batch.
    pub async fn finish(&mut self, batch: &[Finished]) -> Result<Vec<Recording>, StoreError> {
        let moved = self.move_into_history(batch).await?;
        let missing: Vec<&Finished> = batch.iter().filter(|done| !moved.contains(&done.token.delivery_id())).collect();
        let earlier = if missing.is_empty() { HashSet::new() } else { self.recorded_earlier(&missing).await? };
        Ok(batch
            .iter()
            .map(|done| match done.token.delivery_id() {
                id if moved.contains(&id) => Recording::Recorded,
                id if earlier.contains(&id) => Recording::AlreadyRecorded,
                _ => Recording::NotHeld,
            })
            .collect())
    }

    #[expect(clippy::too_many_lines, reason = "most of it is one statement")]
    async fn move_into_history(&mut self, batch: &[Finished]) -> Result<HashSet<Uuid>, StoreError> {
        let columns = ResultRows::from(batch);
        // - unnest: one statement of one shape, whatever the size of the batch.
        // - DELETE … RETURNING is the fence: only a row that this claim still holds leaves sending, and only a row that
        //   left sending enters history. A repetition finds nothing to delete and so inserts nothing.
        // - Each row is looked up by the key, and then deleted at the physical address that was found: LIMIT keeps the planner
        //   from making one join of both, for which it reads the index of sending as a whole, with all the dead entries that
        //   somebody's old snapshot keeps in it. A row of sending never changes, so it keeps its address.
        // - What was found goes through the DELETE together with the outcome: there is nothing to be joined afterwards, which
        //   would cost the square of the batch.
        // - finished_at is never before claimed_at even if the server's clock was set back in between.
        // - What the database itself knows of the call is cut here, by the bounds of domain::kept. A time of insertion
        //   that no calculation can use, in a row from before that was refused, gives way to that of the claim.
        let statement = sqlx::query_scalar!(
            r#"
            WITH done AS (
                SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::bool[],
                                     $7::text[], $8::text[], $9::int[], $10::bytea[], $11::text[], $12::int2[],
                                     $13::int[], $14::bytea[], $15::text[], $16::int[], $17::int[], $18::int[],
                                     $19::int[])
                    AS done (held_delivery, held_claim, state, error_kind, error_detail, keep_sid,
                             method, url, request_bytes, request_sha256, unresolved, response_code,
                             response_bytes, response_sha256, body_end, latency_ms, dns_ms, connected_ms,
                             head_ms)
            ),
            ended AS (
                DELETE FROM postcall.sending
                USING (
                    SELECT done.*, held.address
                    FROM done,
                        LATERAL (SELECT ctid AS address FROM postcall.sending
                                 WHERE sending.delivery_id = held_delivery AND sending.claim = held_claim LIMIT 1) AS held
                ) AS done
                WHERE sending.ctid = done.address
                RETURNING sending.*, done.*
            )
            INSERT INTO postcall.delivery
                (delivery_id, call_id, claim, action_id, created_at, claimed_at, finished_at, action_version,
                 dispatcher_id, agent, state, error_kind, error_detail, call_sid, method, url, request_bytes,
                 request_sha256, unresolved, response_code, response_bytes, response_sha256, body_end, latency_ms,
                 dns_ms, connected_ms, head_ms)
            SELECT delivery_id, call_id, claim, action_id,
                   CASE WHEN created_at >= '2000-01-01Z' AND created_at < '10000-01-01Z' THEN created_at ELSE claimed_at END, claimed_at,
                   greatest(clock_timestamp(), claimed_at), action_version, dispatcher_id, left(agent, $20), state,
                   error_kind, error_detail, CASE WHEN keep_sid THEN left(sid, $21) END, method, url, request_bytes,
                   request_sha256,
                   string_to_array(unresolved, E'\n'), response_code, response_bytes, response_sha256, body_end,
                   latency_ms, dns_ms, connected_ms, head_ms
            FROM ended
            RETURNING delivery_id
            "#,
            &columns.delivery_id,
            &columns.claim,
            &columns.state as &[&str],
            &columns.error_kind as &[Option<&str>],
            &columns.error_detail as &[Option<Cow<'_, str>>],
            &columns.keep_sid,
            &columns.method as &[Option<&str>],
            &columns.url as &[Option<Cow<'_, str>>],
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
            kept::MAX_AGENT_CHARS,
            kept::MAX_CALL_SID_CHARS,
        );
        Ok(self.fetch_all(statement).await?.into_iter().collect())
    }

    async fn recorded_earlier(&mut self, missing: &[&Finished]) -> Result<HashSet<Uuid>, StoreError> {
        let (deliveries, claims): (Vec<Uuid>, Vec<Uuid>) =
            missing.iter().map(|done| (done.token.delivery_id(), done.token.claim())).unzip();
        // By primary key, and by claim, so that another claim's outcome is not taken for ours; nor is what others wrote
        // when they gave the delivery up under this claim. LIMIT as above: a join may read a whole partition.
        let statement = sqlx::query_scalar!(
            r#"
            SELECT delivery.delivery_id
            FROM unnest($1::uuid[], $2::uuid[]) AS held (delivery_id, claim)
            JOIN LATERAL (SELECT delivery_id, error_kind FROM postcall.delivery
                          WHERE delivery.delivery_id = held.delivery_id AND delivery.claim = held.claim LIMIT 1)
                AS delivery ON delivery.error_kind IS DISTINCT FROM 'dispatcher_lost'
            "#,
            &deliveries,
            &claims,
        );
        Ok(self.fetch_all(statement).await?.into_iter().collect())
    }
}
