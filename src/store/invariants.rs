//! The accounts: what must be true of the tables at every moment, asked in one snapshot.
//!
//! They are exact. Which deliveries a call ought to have is not inferred from when an action was enabled: the call itself
//! carries that decision (`outbox.action_ids`). Time is a part of one question only, [`Invariant::NoneStuck`].

use std::time::Duration;

use sqlx::PgConnection;

use super::dispatchers::LONGEST_LEASE;
use super::{Store, StoreError, guards};
use crate::domain::action::MAX_TIMEOUT_MS;

/// How long an end may take to be written, or somebody else to give up what was lost.
const SETTLING: Duration = Duration::from_secs(60);
/// Offenders named for each invariant.
pub const NAMED: usize = 10;

/// What must hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Invariant {
    /// No delivery is in two of waiting, sending and history.
    OnePlace,
    /// No call has two deliveries of one action, replays aside.
    OneDelivery,
    /// A call has a delivery of each action that was enabled for its agent when it was inserted.
    NoneMissing,
    /// A replay's delivery exists.
    NoReplayMissing,
    /// What waits or is in flight has its call and its action.
    Complete,
    /// What is in flight is not older than it can be.
    NoneStuck,
    /// Every trigger and constraint of the schema is there and on.
    GuardsOn,
}

impl Invariant {
    /// Its name, for programs.
    pub fn as_str(self) -> &'static str {
        match self {
            Invariant::OnePlace => "one_place",
            Invariant::OneDelivery => "one_delivery",
            Invariant::NoneMissing => "none_missing",
            Invariant::NoReplayMissing => "no_replay_missing",
            Invariant::Complete => "complete",
            Invariant::NoneStuck => "none_stuck",
            Invariant::GuardsOn => "guards_on",
        }
    }
}

/// What was found out about one invariant.
#[derive(Debug)]
pub struct Checked {
    /// Which.
    pub invariant: Invariant,
    /// How often it is violated.
    pub violations: i64,
    /// Up to [`NAMED`] offenders: delivery ids, calls with the action that they lack or have twice, or sentences about
    /// guards.
    pub offenders: Vec<String>,
}

/// How long something has lasted, in seconds; `None` if there is nothing of the kind.
#[derive(Clone, Copy, Debug)]
pub struct Ages {
    /// The oldest waiting delivery, since its call was inserted.
    pub waiting: Option<f64>,
    /// The oldest delivery in flight, since it was claimed.
    pub sending: Option<f64>,
    /// The oldest delivery whose outcome is not known, since that was recorded.
    pub unknown: Option<f64>,
}

/// The accounts of one moment.
#[derive(Debug)]
pub struct Accounts {
    /// Every invariant.
    pub checked: Vec<Checked>,
    /// For information.
    pub ages: Ages,
    /// For information: calls of which the decision was not yet kept, so that nothing is asked about them.
    pub undecided_calls: i64,
}

struct Offender {
    who: String,
    /// How many there are, named or not.
    total: i64,
}

impl Checked {
    fn from(invariant: Invariant, offenders: Vec<Offender>) -> Checked {
        Checked {
            invariant,
            violations: offenders.first().map_or(0, |offender| offender.total),
            offenders: offenders.into_iter().map(|offender| offender.who).collect(),
        }
    }
}

impl Store {
    /// Checks all invariants in one snapshot. Reads whole tables, and takes as long as that takes; at most [`NAMED`]
    /// offenders of each come to this side. The rights of an auditor suffice.
    pub async fn check_invariants(&self) -> Result<Accounts, StoreError> {
        // One snapshot for all statements: between two of them a delivery could move from a table that has not been read
        // to one that has. It is committed nowhere, so dropping it on an error is all that there is to clean up.
        let mut snapshot = self.pool.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
        // Before the snapshot, which the first query takes: a partition leaves for all snapshots at once, and what the older ones
        // still show would then be accused. Nothing leaves as long as this is held; ACCESS SHARE holds up nobody else.
        sqlx::query!("LOCK TABLE postcall.retention IN ACCESS SHARE MODE").execute(&mut *snapshot).await?;
        prepare(&mut snapshot).await?;
        let (twice, missing) = balance(&mut snapshot).await?;
        let found = [
            (Invariant::OnePlace, in_two_places(&mut snapshot).await?),
            (Invariant::OneDelivery, twice),
            (Invariant::NoneMissing, missing),
            (Invariant::NoReplayMissing, missing_replays(&mut snapshot).await?),
            (Invariant::Complete, incomplete(&mut snapshot).await?),
            (Invariant::NoneStuck, stuck(&mut snapshot).await?),
            (Invariant::GuardsOn, unguarded(&mut snapshot).await?),
        ];
        let checked = found.into_iter().map(|(invariant, offenders)| Checked::from(invariant, offenders)).collect();
        let ages = ages(&mut snapshot).await?;
        let undecided_calls = undecided_calls(&mut snapshot).await?;
        snapshot.commit().await?;
        Ok(Accounts { checked, ages, undecided_calls })
    }
}

impl Store {
    /// Every guard that the database has, shipped or not.
    pub async fn guards(&self) -> Result<Vec<guards::Guard>, StoreError> {
        let mut transaction = self.pool.begin_with("BEGIN READ ONLY").await?;
        prepare(&mut transaction).await?;
        Ok(guards::present(&mut transaction).await?)
    }
}

async fn prepare(snapshot: &mut PgConnection) -> Result<(), sqlx::Error> {
    // - Whole tables can take longer than an ordinary statement may.
    // - The names in the text of a trigger are qualified only if the search path does not reach them.
    // - Compiling a plan over so many partitions takes longer than it saves.
    sqlx::query!(
        r#"SELECT set_config('statement_timeout', '0', true) AS "timeout",
                  set_config('search_path', 'pg_catalog', true) AS "path", set_config('jit', 'off', true) AS "jit""#
    )
    .fetch_one(snapshot)
    .await?;
    Ok(())
}

async fn in_two_places(snapshot: &mut PgConnection) -> Result<Vec<Offender>, sqlx::Error> {
    // From the two small tables: history holds each id once by its primary key.
    sqlx::query_as!(
        Offender,
        r#"
        SELECT delivery_id::text AS "who!", count(*) OVER () AS "total!"
        FROM (SELECT delivery_id FROM postcall.waiting JOIN postcall.sending USING (delivery_id)
              UNION SELECT delivery_id FROM postcall.waiting JOIN postcall.delivery USING (delivery_id)
              UNION SELECT delivery_id FROM postcall.sending JOIN postcall.delivery USING (delivery_id)) AS twice
        ORDER BY 1 LIMIT $1
        "#,
        NAMED as i64,
    )
    .fetch_all(snapshot)
    .await
}

/// Calls with two deliveries of one action, and calls without a delivery that they ought to have.
async fn balance(snapshot: &mut PgConnection) -> Result<(Vec<Offender>, Vec<Offender>), sqlx::Error> {
    // One pass over what was decided and what is there, because it is by far the longest.
    // - Exactly what was decided when a call was inserted is asked for. A call from before that was kept (null) is not
    //   asked about.
    // - What has left history is not asked about: whatever removes deliveries raises history_begins to their bound in the
    //   same transaction, and no call is inserted after its deliveries' ids are made. The beginning is looked up once, by
    //   a subquery of its own.
    // - A replay does not stand in for the original.
    // - Of what is there more than once it is asked whether the deliveries differ: one that is in two places is not
    //   counted here once more. Where nothing is there more than once, that reads nothing.
    let rows = sqlx::query!(
        r#"
        WITH wrong AS MATERIALIZED (
            SELECT call_id, action_id, count(*) FILTER (WHERE NOT is_decision) AS deliveries
            FROM (SELECT outbox.id AS call_id, action_id, true AS is_decision
                  FROM postcall.outbox, unnest(outbox.action_ids) AS action_id
                  WHERE outbox.created_at >= (SELECT postcall.history_begins())
                  UNION ALL
                  SELECT call_id, action_id, false
                  FROM (SELECT delivery_id, call_id, action_id FROM postcall.waiting
                        UNION ALL SELECT delivery_id, call_id, action_id FROM postcall.sending
                        UNION ALL SELECT delivery_id, call_id, action_id FROM postcall.delivery) AS one
                  WHERE NOT EXISTS (SELECT FROM postcall.replay WHERE replay.delivery_id = one.delivery_id)) AS entry
            GROUP BY call_id, action_id
            HAVING count(*) FILTER (WHERE NOT is_decision) <> 1
        ),
        twice AS MATERIALIZED (
            SELECT call_id, action_id
            FROM (SELECT DISTINCT call_id, action_id, delivery_id
                  FROM wrong
                  JOIN (SELECT delivery_id, call_id, action_id FROM postcall.waiting
                        UNION ALL SELECT delivery_id, call_id, action_id FROM postcall.sending
                        UNION ALL SELECT delivery_id, call_id, action_id FROM postcall.delivery) AS one
                  USING (call_id, action_id)
                  WHERE deliveries > 1
                    AND NOT EXISTS (SELECT FROM postcall.replay WHERE replay.delivery_id = one.delivery_id)) AS original
            GROUP BY call_id, action_id
            HAVING count(*) > 1
        )
        SELECT is_missing AS "is_missing!", call_id || ' ' || coalesce(action.name, '?') AS "who!", total AS "total!"
        FROM ((SELECT false AS is_missing, call_id, action_id, count(*) OVER () AS total
               FROM twice ORDER BY call_id, action_id LIMIT $1)
              UNION ALL
              (SELECT true, call_id, action_id, count(*) OVER ()
               FROM wrong WHERE deliveries = 0 ORDER BY call_id, action_id LIMIT $1)) AS named
        LEFT JOIN postcall.action USING (action_id)
        ORDER BY call_id, action_id
        "#,
        NAMED as i64,
    )
    .fetch_all(snapshot)
    .await?;
    let (mut twice, mut missing) = (Vec::new(), Vec::new());
    for row in rows {
        let offenders = if row.is_missing { &mut missing } else { &mut twice };
        offenders.push(Offender { who: row.who, total: row.total });
    }
    Ok((twice, missing))
}

async fn undecided_calls(snapshot: &mut PgConnection) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar!(r#"SELECT count(*) AS "count!" FROM postcall.outbox WHERE action_ids IS NULL"#)
        .fetch_one(snapshot)
        .await
}

async fn unguarded(snapshot: &mut PgConnection) -> Result<Vec<Offender>, sqlx::Error> {
    let mut faults = guards::faults(&guards::present(snapshot).await?);
    faults.sort();
    let total = i64::try_from(faults.len()).unwrap_or(i64::MAX);
    Ok(faults.into_iter().take(NAMED).map(|who| Offender { who, total }).collect())
}

async fn missing_replays(snapshot: &mut PgConnection) -> Result<Vec<Offender>, sqlx::Error> {
    // As above: what may have left history is not asked about.
    sqlx::query_as!(
        Offender,
        r#"
        SELECT delivery_id::text AS "who!", count(*) OVER () AS "total!"
        FROM postcall.replay
        WHERE created_at >= (SELECT postcall.history_begins())
          AND NOT EXISTS (SELECT FROM postcall.waiting WHERE waiting.delivery_id = replay.delivery_id)
          AND NOT EXISTS (SELECT FROM postcall.sending WHERE sending.delivery_id = replay.delivery_id)
          AND NOT EXISTS (SELECT FROM postcall.delivery WHERE delivery.delivery_id = replay.delivery_id)
        ORDER BY 1 LIMIT $1
        "#,
        NAMED as i64,
    )
    .fetch_all(snapshot)
    .await
}

async fn incomplete(snapshot: &mut PgConnection) -> Result<Vec<Offender>, sqlx::Error> {
    sqlx::query_as!(
        Offender,
        r#"
        SELECT delivery_id::text AS "who!", count(*) OVER () AS "total!"
        FROM (SELECT delivery_id, call_id, action_id FROM postcall.waiting
              UNION SELECT delivery_id, call_id, action_id FROM postcall.sending) AS pending
        WHERE NOT EXISTS (SELECT FROM postcall.outbox WHERE outbox.id = pending.call_id)
           OR NOT EXISTS (SELECT FROM postcall.action WHERE action.action_id = pending.action_id)
        ORDER BY 1 LIMIT $1
        "#,
        NAMED as i64,
    )
    .fetch_all(snapshot)
    .await
}

async fn stuck(snapshot: &mut PgConnection) -> Result<Vec<Offender>, sqlx::Error> {
    // Certain is what is held by a dispatcher that was never there, or that has ended: nobody will finish that. The rest
    // is judged by time.
    // - A dispatcher that has ended, or whose lease is over, holds nothing once others had the time to give it up; while
    //   its lease runs, a request may.
    // - One that lives holds nothing longer than the longest timeout, whatever its lease.
    // - now() is when the snapshot began: by the time of this statement, what it shows may long have been given up.
    sqlx::query_as!(
        Offender,
        r#"
        SELECT delivery_id::text AS "who!", count(*) OVER () AS "total!"
        FROM postcall.sending LEFT JOIN postcall.dispatcher USING (dispatcher_id)
        WHERE dispatcher.started_at IS NULL
           OR now() - $4 * interval '1 second' > least(
            stopped_at, lost_at,
            greatest(claimed_at + $2 * interval '1 second', lease_until),
            claimed_at + ($2 + $3) * interval '1 second')
        ORDER BY 1 LIMIT $1
        "#,
        NAMED as i64,
        f64::from(MAX_TIMEOUT_MS) / 1_000.0,
        LONGEST_LEASE.as_secs_f64(),
        SETTLING.as_secs_f64(),
    )
    .fetch_all(snapshot)
    .await
}

async fn ages(snapshot: &mut PgConnection) -> Result<Ages, sqlx::Error> {
    // What has been resolved since is no longer unknown; a partial index finds those that were.
    sqlx::query_as!(
        Ages,
        r#"
        SELECT extract(epoch FROM now() - (SELECT min(created_at) FROM postcall.waiting))::float8 AS waiting,
               extract(epoch FROM now() - (SELECT min(claimed_at) FROM postcall.sending))::float8 AS sending,
               extract(epoch FROM now() - (
                   SELECT min(finished_at) FROM postcall.delivery
                   WHERE state = 'unknown' AND NOT EXISTS (
                       SELECT FROM postcall.resolution WHERE resolution.delivery_id = delivery.delivery_id)
               ))::float8 AS unknown
        "#
    )
    .fetch_one(snapshot)
    .await
}
