//! Claiming deliveries, and releasing deliveries that were claimed but never sent.

use std::collections::HashMap;
use std::time::Duration;

use uuid::Uuid;

use super::StoreError;
use super::session::Session;
use crate::domain::claim::{ClaimToken, Claimed, ClaimedSigning, Payload, VersionKey};

/// Who makes a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claimant {
    /// The dispatcher's id.
    pub dispatcher_id: i32,
    /// The dispatcher's current epoch. Each revoked claim raises it by one.
    pub epoch: i32,
}

/// The limits of one claim, in addition to the limit of each lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Portion {
    /// Total bytes of the payloads. The first delivery is taken whatever its payload's size.
    pub bytes: usize,
    /// Bytes of a single payload; deliveries with a larger payload are skipped and continue to wait.
    pub call_bytes: usize,
    /// Bytes of the largest payload that is fetched at all. Deliveries with a larger payload are taken without it,
    /// whatever `call_bytes` is, and count as 0 bytes.
    pub max_call_bytes: usize,
    /// Whether payloads are fetched. A claim that fetches none does not read the outbox.
    pub fetch: bool,
}

impl Portion {
    /// No limit.
    pub const UNBOUNDED: Portion =
        Portion { bytes: usize::MAX, call_bytes: usize::MAX, max_call_bytes: usize::MAX, fetch: true };
}

/// What a claim requests from one lane. A lane is what waits for one action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    /// The lane's action.
    pub action_id: i64,
    /// The largest number of deliveries to take.
    pub deliveries: usize,
    /// Only deliveries with a larger id are taken.
    pub after: Uuid,
}

/// The result of a claim.
#[derive(Debug, Default)]
pub struct Taken {
    /// The deliveries, in no particular order.
    pub claimed: Vec<Claimed>,
    /// By action id: how many deliveries the claim saw in each lane from which it took any. If that is the requested
    /// number, more may be waiting.
    pub seen: HashMap<i64, usize>,
    /// Whether the claim left deliveries that it saw, because their payloads exceeded the byte limit. Then a lane from
    /// which it took nothing may still hold some.
    pub cut_short: bool,
}

/// The result of revoking a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revoked {
    /// The claimant, with the new epoch, for all later claims.
    pub claimant: Claimant,
    /// Deliveries that were put back to waiting.
    pub released: Vec<Uuid>,
    /// How many deliveries other dispatchers had given up meanwhile. They are now recorded as never sent.
    pub unsent: u64,
}

impl Session {
    /// Arrow `claim`. Moves deliveries from waiting to sending for the claimant and returns them. It takes the oldest deliveries of
    /// each lane, within the lane's limit and the limits of `portion`. It takes none if the claimant was declared lost.
    /// When this returns, the claim is committed and durable, and no lock is held.
    ///
    /// `claim` is a new id chosen by the caller. With it, the caller can identify what this statement took, even if the
    /// answer is lost.
    ///
    /// # Errors
    /// After an error it is not known whether the claim was committed, or will still be committed; see
    /// [`Session::revoke_claim`]. An error that is [`StoreError::is_about_what_is_stored`] may be about a single row: a
    /// smaller claim finds that row, and a claim that fetches no payloads can take it if its payload is what the
    /// database cannot read; see also [`Session::drop_doubles`].
    #[expect(clippy::too_many_lines, reason = "most of it is one statement")]
    pub async fn claim(
        &mut self,
        claimant: Claimant,
        claim: Uuid,
        lanes: &[Ask],
        portion: Portion,
    ) -> Result<Taken, StoreError> {
        // One statement, and so one transaction and one round trip. pg_stat_activity shows the first 1,024 bytes of a
        // statement; they show what this one does.
        // - FOR UPDATE SKIP LOCKED: dispatchers skip each other's rows and do not wait for them.
        // - Each lane is one look-up by (action_id, delivery_id), so that a claim costs the same whatever waits in
        //   other lanes. Ids up to its `after` are skipped, and with them the dead index entries of earlier claims. The
        //   caller has to look later for deliveries below `after` that were committed late.
        // - The size of a payload is known before it is read. Candidates are taken until the byte limit is reached. The
        //   others stay waiting; their rows stay locked until the statement ends.
        // - In a row that the previous release moved, the payload's length and the provider id are null. A function
        //   supplies them here: subqueries on the outbox would be planned for each of its partitions at every claim.
        // - ARRAY(…) is evaluated once, before the DELETE, and gives it physical row addresses. So there is no second
        //   look-up, and the planner cannot choose a plan that reads the whole queue. A locked row keeps its address.
        // - The payload is fetched by a scalar subquery for the same reason: it can only be an index look-up per row.
        // - The deliveries seen in each lane are counted once and joined: a count for each row would cost quadratic
        //   time.
        // - action.version decides here, at the last moment, which version is sent. If the action is gone, the version
        //   is 0, which no action has. In the same way, the agent's current signing key decides how it is signed. A time of insertion that is out of range is replaced by the current time.
        //   Neither may stop the claim.
        // - The queue is not believed whose call and action it has, because each dispatcher's user may write it. The action says it: a call of
        //   another agent is not given, so that nothing is sent, and the action's agent decides which key signs. Both are looked up anyway;
        //   OFFSET 0 keeps the look-up of the action one by key for each row. Where the action is gone, there is no version.
        // - FOR KEY SHARE on the claimant's own row: a claim that was revoked, or whose claimant was declared lost,
        //   takes nothing, however late it arrives. Revoking (FOR UPDATE) waits until the claim has ended. A renewal of
        //   the lease changes no key, so it does not wait for the claim, however long a large answer takes.
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
                RETURNING delivery_id, call_id, agent, action_id, action_version, call_bytes, created_at, claimed_at
            )
            SELECT delivery_id, action_id, action_version,
                   coalesce(is_enabled, true) AS "enabled!",
                   (SELECT message_id FROM postcall.replay WHERE replay.delivery_id = claimed.delivery_id)
                       AS message_id,
                   coalesce(call_bytes, 0) AS "call_bytes!",
                   date_part('epoch', claimed_at - created_at) AS "waited_seconds!",
                   CASE WHEN $9 AND coalesce(call_bytes, 0) <= $8
                        THEN (SELECT call::text FROM postcall.outbox
                              WHERE outbox.id = claimed.call_id AND outbox.agent = coalesce(owner, outbox.agent)) END AS call,
                   (SELECT signing_key_id FROM postcall.signing_key
                    WHERE signing_key.agent = coalesce(owner, claimed.agent) AND signs_until IS NULL) AS signing_key, claimed_at AS "claimed_at!",
                   lane.seen AS "seen!", (SELECT count(*) FROM candidate) AS "seen_in_all!"
            FROM claimed
            LEFT JOIN LATERAL (SELECT enabled, agent FROM postcall.action WHERE action.action_id = claimed.action_id OFFSET 0)
                AS acting (is_enabled, owner) ON true
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
                waited: Duration::try_from_secs_f64(row.waited_seconds.max(0.0)).unwrap_or_default(),
                signing: row.signing_key.map(|key| ClaimedSigning { key, at: row.claimed_at }),
                payload: payload(row.call, row.call_bytes, portion),
            })
            .collect();
        Ok(Taken { claimed, seen, cut_short })
    }

    /// Returns the first delivery that waits in a lane after the id `after`, even if its row is locked.
    pub async fn first_waiting(&mut self, action_id: i64, after: Uuid) -> Result<Option<Uuid>, StoreError> {
        // Reads one row by the same index as the claim.
        let statement = sqlx::query_scalar!(
            "SELECT delivery_id FROM postcall.waiting WHERE action_id = $1 AND delivery_id > $2 ORDER BY delivery_id LIMIT 1",
            action_id,
            after
        );
        self.fetch_optional(statement).await
    }

    /// Arrow `revoke`. Revokes a claim whose answer was lost. The caller never learnt what the claim took, so it cannot have sent any
    /// of it. Everything that the claim took goes back to waiting, and what other dispatchers have given up meanwhile
    /// is recorded as never sent. If the claim has not reached the database yet, it will take nothing when it does.
    ///
    /// # Errors
    /// Returns the database's error. The call may be repeated.
    pub async fn revoke_claim(&mut self, claimant: Claimant, claim: Uuid) -> Result<Revoked, StoreError> {
        // Two separate statements, because the second must see what the claim committed while the first waited for it.
        // FOR UPDATE makes the first one wait: the UPDATE alone is compatible with the claim's lock.
        // greatest: a repetition raises the epoch no further. If the answer came late and this was repeated, the first
        // statement may reach the server after the next claims; they must go on under the epoch that the repetition gave.
        let statement = sqlx::query!(
            r#"
            UPDATE postcall.dispatcher SET claim_epoch = greatest(claim_epoch, $2 + 1)
            WHERE dispatcher_id = (SELECT dispatcher_id FROM postcall.dispatcher WHERE dispatcher_id = $1 FOR UPDATE)
            RETURNING claim_epoch, lost_at IS NULL AS "alive!"
            "#,
            claimant.dispatcher_id,
            claimant.epoch,
        );
        let revoked = self.fetch_optional(statement).await?;

        // Reverses the claim. The claim's id fences the write: rows that another claim holds cannot match.
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

        // If the dispatcher's row is gone, its claims take nothing any more, and others have given up what they took.
        let (epoch, alive) = revoked.map_or((claimant.epoch, false), |row| (row.claim_epoch, row.alive));
        let unsent = if alive { 0 } else { self.record_claim_unsent(claim).await? };
        Ok(Revoked { claimant: Claimant { epoch, ..claimant }, released, unsent })
    }

    /// Deletes deliveries from the queue that are also in flight, because somebody has put them back by hand. A claim
    /// cannot take them. Returns how many were deleted.
    pub async fn drop_doubles(&mut self) -> Result<u64, StoreError> {
        // Starts from the few rows in flight and looks each up in the queue by key. This runs only after a claim was
        // refused, because such rows are very rare and each claim would pay for the check.
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

    /// Arrow `release`. Puts single deliveries that are known to be unsent back to waiting. Returns those that were put back; a claim
    /// token that is no longer valid is left out.
    ///
    /// # Errors
    /// Returns the database's error. Nothing has moved then, and the call may be repeated.
    pub async fn release(&mut self, tokens: &[ClaimToken]) -> Result<Vec<Uuid>, StoreError> {
        let (deliveries, claims): (Vec<Uuid>, Vec<Uuid>) =
            tokens.iter().map(|token| (token.delivery_id(), token.claim())).unzip();
        // As above, but by delivery, because the rest of the claim may be in flight. Each row is looked up by key, as
        // in finish.rs.
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

/// Converts a limit to the database's integer type.
fn limit(bound: usize) -> i64 {
    i64::try_from(bound).unwrap_or(i64::MAX)
}

/// The payload, or why it is missing, from what the claim returned.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_that_the_claim_did_not_return_is_missing_for_its_own_reason() {
        let fetched = Portion { max_call_bytes: 100, ..Portion::UNBOUNDED };
        let unread = Portion { fetch: false, ..fetched };
        for (call, call_bytes, portion, expected) in [
            (Some("{}"), 2, fetched, Payload::Text("{}".to_owned())),
            (None, 100, fetched, Payload::Gone),
            (None, 101, fetched, Payload::TooLarge(101)),
            (None, 100, unread, Payload::Unreadable),
            (None, 101, unread, Payload::Unreadable),
        ] {
            assert_eq!(payload(call.map(str::to_owned), call_bytes, portion), expected, "{call_bytes} {portion:?}");
        }
    }
}
