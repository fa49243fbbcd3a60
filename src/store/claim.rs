//! Claiming, and giving back what was claimed and never sent.

use std::collections::HashMap;

use uuid::Uuid;

use super::StoreError;
use super::session::Session;
use crate::domain::claim::{ClaimToken, Claimed, Payload, VersionKey};

/// In whose name a claim is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claimant {
    /// The dispatcher.
    pub dispatcher_id: i32,
    /// Its current epoch; raised by every claim that it had to revoke.
    pub epoch: i32,
}

/// How much one claim takes at most, beside what each lane is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Portion {
    /// Bytes of the texts of its calls together. The first delivery is taken whatever its call weighs.
    pub bytes: usize,
    /// Bytes of a single text; deliveries of larger calls are passed over and go on waiting.
    pub call_bytes: usize,
    /// Bytes of the largest text that is fetched at all. Deliveries of larger calls are taken without it, whatever
    /// `call_bytes` says, and weigh nothing.
    pub max_call_bytes: usize,
    /// Whether texts are fetched. A claim that fetches none does not even touch the calls.
    pub fetch: bool,
}

impl Portion {
    /// Whatever there is.
    pub const UNBOUNDED: Portion =
        Portion { bytes: usize::MAX, call_bytes: usize::MAX, max_call_bytes: usize::MAX, fetch: true };
}

/// What a claim asks one lane for. A lane is what waits for one action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    /// The action.
    pub action_id: i64,
    /// Deliveries at most.
    pub deliveries: usize,
    /// Only deliveries with a larger id.
    pub after: Uuid,
}

/// What a claim took.
#[derive(Debug, Default)]
pub struct Taken {
    /// The deliveries, in no particular order.
    pub claimed: Vec<Claimed>,
    /// Deliveries that it saw in each lane of which it took any. As many as were asked for: more may be waiting.
    pub seen: HashMap<i64, usize>,
    /// Whether it saw deliveries that it left, because there was no room for their bytes. Then a lane of which it took
    /// nothing may hold some.
    pub cut_short: bool,
}

/// What became of a claim that was revoked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revoked {
    /// In whose name to claim from now on.
    pub claimant: Claimant,
    /// Deliveries that went back to waiting.
    pub released: Vec<Uuid>,
    /// How many others had given up meanwhile, and which are now recorded as never sent.
    pub unsent: u64,
}

impl Session {
    /// Moves deliveries from waiting to sending for the claimant, of each lane the oldest that it was asked for and no more
    /// than the portion in all, and returns them; none if the claimant was declared lost. When this returns, the claim is
    /// committed and durable, and no lock is held.
    ///
    /// `claim` is a new token chosen by the caller, so that it can tell, even if the answer is lost, what this very
    /// statement took.
    ///
    /// # Errors
    /// After an error it is not known whether the claim was committed, nor whether it still will be; see
    /// [`Session::revoke_claim`]. One that is [`StoreError::is_about_what_is_stored`] may be about a single row: a smaller
    /// claim finds it, and one that fetches nothing takes it if its call is what the database cannot give; see also
    /// [`Session::drop_doubles`].
    #[expect(clippy::too_many_lines, reason = "most of it is one statement")]
    pub async fn claim(
        &mut self,
        claimant: Claimant,
        claim: Uuid,
        lanes: &[Ask],
        portion: Portion,
    ) -> Result<Taken, StoreError> {
        // One statement, and so one transaction and one round trip. What it does stands within its first 1,024 bytes, of which
        // pg_stat_activity shows no more.
        // - FOR UPDATE SKIP LOCKED: dispatchers pass over each other's rows instead of queueing for them.
        // - Each lane is one look-up by (action_id, delivery_id), so that a claim costs the same whatever waits in others.
        //   Ids below its `after` are skipped, and with them the remains of earlier claims; the caller has to come back for
        //   those that commit late.
        // - What a text weighs is known before it is read. Candidates are taken until their sum is reached; those beyond
        //   it stay locked as long as the answer is on its way, and stay waiting.
        // - Where the previous release has moved a row, its length and provider id are null, and are made up for here, by
        //   a function: subqueries on the outbox would have to be prepared for each of its partitions at every claim.
        // - ARRAY(…) is evaluated once, before the DELETE, and hands it physical row addresses: no second look-up, and
        //   no plan in which the planner could read the whole queue. A locked row keeps its address.
        // - The payload is fetched by a scalar subquery for the same reason: it can only be an index look-up per row.
        // - What was seen of each lane is counted once and joined: counted for each row, it would cost the square of the claim.
        // - action.version decides here, at the last moment, which version is sent. Where the action is gone it is 0,
        //   which no action has; a time of insertion beyond all bounds gives way to the present: neither may stop the claim.
        // - FOR KEY SHARE on the claimant's own row: a claim that was revoked or whose claimant was declared lost takes
        //   nothing, however late it arrives; and whoever wants to revoke it (FOR UPDATE) waits until it is through. A
        //   renewal of the lease changes no key and so does not wait for it, however long a large answer takes.
        let statement = sqlx::query!(
            r#"
            WITH claimant AS MATERIALIZED (
                SELECT FROM postcall.dispatcher
                WHERE dispatcher_id = $2 AND claim_epoch = $4 AND lost_at IS NULL AND stopped_at IS NULL
                FOR KEY SHARE
            ),
            candidate AS MATERIALIZED (
                SELECT * FROM unnest($10::bigint[], $1::bigint[], $5::uuid[]) WITH ORDINALITY AS lane (id, most, after, place),
                LATERAL (
                    SELECT ctid AS address, delivery_id, call_id, call_bytes FROM postcall.waiting
                    WHERE EXISTS (SELECT FROM claimant) AND action_id = lane.id AND delivery_id > after
                      AND (call_bytes <= $7::bigint OR call_bytes > $8::bigint OR call_bytes IS NULL AND $7 >= $8)
                    ORDER BY delivery_id LIMIT most FOR UPDATE SKIP LOCKED
                ) AS oldest
            ),
            taken AS (
                DELETE FROM postcall.waiting
                WHERE ctid = ANY (ARRAY(
                    SELECT address
                    FROM (SELECT address, weight, sum(weight) OVER (ORDER BY place, delivery_id ROWS UNBOUNDED PRECEDING) AS total
                          FROM candidate,
                               LATERAL (SELECT coalesce(
                                   call_bytes, CASE WHEN $9 THEN (postcall.registration(call_id)).call_bytes END, 0))
                                   AS measured (bytes),
                               LATERAL (SELECT CASE WHEN bytes > $8 THEN 0 ELSE bytes END) AS weighed (weight)) AS summed
                    WHERE total <= $6 OR total = weight
                ))
                RETURNING delivery_id, call_id, agent, action_id, created_at, call_bytes, call_sid
            ),
            claimed AS (
                INSERT INTO postcall.sending (delivery_id, call_id, agent, action_id, action_version, created_at,
                                              dispatcher_id, claim, claimed_at, call_bytes, sid)
                SELECT delivery_id, call_id, agent, action_id,
                       coalesce((SELECT version FROM postcall.action WHERE action.action_id = taken.action_id), 0),
                       CASE WHEN created_at >= '2000-01-01Z' AND created_at < '10000-01-01Z' THEN created_at ELSE clock_timestamp() END, $2, $3,
                       clock_timestamp(),
                       CASE WHEN call_bytes IS NULL AND $9
                            THEN (postcall.registration(call_id)).call_bytes ELSE call_bytes END,
                       CASE WHEN call_bytes IS NULL AND $9
                            THEN (postcall.registration(call_id)).call_sid ELSE call_sid END
                FROM taken
                RETURNING delivery_id, call_id, action_id, action_version, call_bytes
            )
            SELECT delivery_id, action_id, action_version,
                   coalesce((SELECT enabled FROM postcall.action WHERE action.action_id = claimed.action_id), true)
                       AS "enabled!",
                   (SELECT message_id FROM postcall.replay WHERE replay.delivery_id = claimed.delivery_id)
                       AS message_id,
                   coalesce(call_bytes, 0) AS "call_bytes!",
                   CASE WHEN $9 AND coalesce(call_bytes, 0) <= $8
                        THEN (SELECT call::text FROM postcall.outbox WHERE outbox.id = claimed.call_id) END AS call,
                   lane.seen AS "seen!", (SELECT count(*) FROM candidate) AS "seen_in_all!"
            FROM claimed
            JOIN (SELECT id AS action_id, count(*) AS seen FROM candidate GROUP BY id) AS lane USING (action_id)
            "#,
            &lanes.iter().map(|lane| limit(lane.deliveries)).collect::<Vec<_>>(),
            claimant.dispatcher_id,
            claim,
            claimant.epoch,
            &lanes.iter().map(|lane| lane.after).collect::<Vec<_>>(),
            limit(portion.bytes),
            limit(portion.call_bytes),
            limit(portion.max_call_bytes),
            portion.fetch,
            &lanes.iter().map(|lane| lane.action_id).collect::<Vec<_>>(),
        );
        let rows = self.fetch_all(statement).await?;
        let seen = rows.iter().map(|row| (row.action_id, usize::try_from(row.seen).unwrap_or(0))).collect();
        let cut_short = rows.first().is_some_and(|row| row.seen_in_all > limit(rows.len()));
        let claimed = rows
            .into_iter()
            .map(|row| Claimed {
                message_id: row.message_id.unwrap_or(row.delivery_id),
                token: ClaimToken::new(row.delivery_id, claim),
                version: VersionKey { action_id: row.action_id, version: row.action_version },
                enabled: row.enabled,
                payload: payload(row.call, row.call_bytes, portion),
            })
            .collect();
        Ok(Taken { claimed, seen, cut_short })
    }

    /// The first delivery that waits in a lane behind `after`, whoever has locked it.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn first_waiting(&mut self, action_id: i64, after: Uuid) -> Result<Option<Uuid>, StoreError> {
        // As the claim itself: one row, by the index.
        let statement = sqlx::query_scalar!(
            "SELECT delivery_id FROM postcall.waiting WHERE action_id = $1 AND delivery_id > $2 ORDER BY delivery_id LIMIT 1",
            action_id,
            after
        );
        self.fetch_optional(statement).await
    }

    /// Settles a claim whose answer was lost, for a caller that never learnt what it took and so cannot have sent any of
    /// it: everything that it took goes back to waiting, and what others have given up meanwhile is recorded as never
    /// sent. If the claim has not arrived yet, it will take nothing when it does.
    ///
    /// # Errors
    /// Only those of the database. The call may be repeated.
    pub async fn revoke_claim(&mut self, claimant: Claimant, claim: Uuid) -> Result<Revoked, StoreError> {
        // Statements of their own, because the second must see what the claim has committed while the first waited for
        // it. FOR UPDATE is what waits: the UPDATE alone is compatible with the claim's lock.
        let statement = sqlx::query!(
            r#"
            UPDATE postcall.dispatcher SET claim_epoch = claim_epoch + 1
            WHERE dispatcher_id = (SELECT dispatcher_id FROM postcall.dispatcher WHERE dispatcher_id = $1 FOR UPDATE)
            RETURNING claim_epoch, lost_at IS NULL AS "alive!"
            "#,
            claimant.dispatcher_id
        );
        let revoked = self.fetch_optional(statement).await?;

        // The mirror image of the claim, fenced by its token: rows that anybody else holds cannot match.
        let statement = sqlx::query_scalar!(
            r#"
            WITH released AS (
                DELETE FROM postcall.sending WHERE claim = $1
                RETURNING delivery_id, call_id, agent, action_id, created_at, call_bytes, sid
            )
            INSERT INTO postcall.waiting (delivery_id, call_id, agent, action_id, created_at, call_bytes, call_sid)
            SELECT delivery_id, call_id, agent, action_id, created_at, call_bytes, sid FROM released
            ON CONFLICT DO NOTHING
            RETURNING delivery_id
            "#,
            claim,
        );
        let released = self.fetch_all(statement).await?;

        // Where the dispatcher's row is gone, its claims take nothing any more, and others have given up what they took.
        let (epoch, alive) = revoked.map_or((claimant.epoch, false), |row| (row.claim_epoch, row.alive));
        let unsent = if alive { 0 } else { self.record_claim_unsent(claim).await? };
        Ok(Revoked { claimant: Claimant { epoch, ..claimant }, released, unsent })
    }

    /// Takes deliveries out of the queue that are in flight at the same time, because somebody has put them back by hand.
    /// A claim can take none of them. Returns how many.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn drop_doubles(&mut self) -> Result<u64, StoreError> {
        // From what is in flight, which is little, to the queue by its key. Done only after a claim was refused: each
        // claim would otherwise pay for what hardly ever happens.
        let statement = sqlx::query!(
            r#"
            DELETE FROM postcall.waiting
            WHERE ctid = ANY (ARRAY(
                SELECT waiting.ctid FROM postcall.sending JOIN postcall.waiting USING (delivery_id)
                FOR UPDATE OF waiting SKIP LOCKED
            ))
            "#
        );
        Ok(self.execute(statement).await?.rows_affected())
    }

    /// Puts single deliveries back to waiting, known not to have been sent. Returns those that went back; a token that
    /// is no longer valid is left out.
    ///
    /// # Errors
    /// Only those of the database; nothing has moved then, and the call may be repeated.
    pub async fn release(&mut self, tokens: &[ClaimToken]) -> Result<Vec<Uuid>, StoreError> {
        let (deliveries, claims): (Vec<Uuid>, Vec<Uuid>) =
            tokens.iter().map(|token| (token.delivery_id(), token.claim())).unzip();
        // As above, but by delivery, because the rest of the claim may be on its way. Each is looked up by the key, as in
        // finish.rs.
        let statement = sqlx::query_scalar!(
            r#"
            WITH released AS (
                DELETE FROM postcall.sending
                WHERE ctid = ANY (ARRAY(
                    SELECT found.address
                    FROM unnest($1::uuid[], $2::uuid[]) AS held (delivery_id, claim),
                         LATERAL (SELECT ctid AS address FROM postcall.sending
                                  WHERE sending.delivery_id = held.delivery_id AND sending.claim = held.claim
                                  LIMIT 1) AS found
                ))
                RETURNING sending.delivery_id, call_id, agent, action_id, created_at, call_bytes, sid
            )
            INSERT INTO postcall.waiting (delivery_id, call_id, agent, action_id, created_at, call_bytes, call_sid)
            SELECT delivery_id, call_id, agent, action_id, created_at, call_bytes, sid FROM released
            ON CONFLICT DO NOTHING
            RETURNING delivery_id
            "#,
            &deliveries,
            &claims,
        );
        self.fetch_all(statement).await
    }
}

/// A bound as the database takes it.
fn limit(bound: usize) -> i64 {
    i64::try_from(bound).unwrap_or(i64::MAX)
}

/// The payload, from what the claim gave of it.
fn payload(call: Option<String>, call_bytes: i32, portion: Portion) -> Payload {
    match call {
        Some(text) => Payload::Text(text),
        None if !portion.fetch => Payload::Unreadable,
        None if i64::from(call_bytes) > limit(portion.max_call_bytes) => {
            Payload::TooLarge(u64::try_from(call_bytes).unwrap_or(0))
        }
        None => Payload::Gone,
    }
}
