//! The invariants: what must be true of the tables at every moment, checked in one snapshot.
//!
//! They are exact. Which deliveries a call must have is not inferred from when an action was enabled: the call's row
//! holds that decision (`outbox.action_ids`). Only [`Invariant::NoneStuck`] depends on time.

use std::time::Duration;

use sqlx::PgConnection;

use super::dispatchers::LONGEST_LEASE;
use super::{Store, StoreError, guards};
use crate::domain::action::MAX_TIMEOUT_MS;

/// How long it may take to write an outcome, or to give up the deliveries of a lost dispatcher.
const SETTLING: Duration = Duration::from_secs(60);
/// The largest number of offenders that are named for each invariant.
pub const NAMED: usize = 10;

/// One statement that must hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Invariant {
    /// No delivery is in more than one of waiting, sending and history.
    OnePlace,
    /// No call has two deliveries for the same action; replays do not count.
    OneDelivery,
    /// A call has a delivery for each action that was enabled for its agent when it was inserted.
    NoneMissing,
    /// A replay's delivery exists.
    NoReplayMissing,
    /// The call and the action of each delivery that waits or is in flight exist.
    Complete,
    /// No delivery is in flight for longer than it can be.
    NoneStuck,
    /// Every trigger and constraint of the schema exists and is on, and the views and functions are those that were shipped.
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

/// The result of checking one invariant.
#[derive(Debug)]
pub struct Checked {
    /// The invariant that was checked.
    pub invariant: Invariant,
    /// How often it is violated.
    pub violations: i64,
    /// Up to [`NAMED`] offenders: delivery ids, calls with the action whose delivery is missing or doubled, or
    /// sentences about guards.
    pub offenders: Vec<String>,
}

/// Ages in seconds; `None` if there is no such delivery.
#[derive(Clone, Copy, Debug)]
pub struct Ages {
    /// Age of the oldest waiting delivery, since its call was inserted.
    pub waiting: Option<f64>,
    /// Age of the oldest delivery in flight, since it was claimed.
    pub sending: Option<f64>,
    /// Age of the oldest delivery whose outcome is unknown, since that was recorded.
    pub unknown: Option<f64>,
}

/// The results of all checks in one snapshot.
#[derive(Debug)]
pub struct Accounts {
    /// One result for each invariant.
    pub checked: Vec<Checked>,
    /// For information; no invariant depends on them.
    pub ages: Ages,
    /// For information: calls from before `outbox.action_ids` existed. They are not checked.
    pub undecided_calls: i64,
    /// Whether views and functions were compared ([`super::definitions::Definitions::compared`]).
    pub definitions_compared: bool,
    /// Whether row-level security hides rows, so that the guards alone were checked.
    pub rows_are_hidden: bool,
}

pub(super) struct Offender {
    who: String,
    /// How many there are, named or not.
    total: i64,
}

impl Checked {
    pub(super) fn from(invariant: Invariant, offenders: Vec<Offender>) -> Checked {
        Checked {
            invariant,
            violations: offenders.first().map_or(0, |offender| offender.total),
            offenders: offenders.into_iter().map(|offender| offender.who).collect(),
        }
    }

    /// Adds what else is wrong with the guards. A function of a trigger is among both.
    fn add_definitions(&mut self, faults: Vec<String>) {
        let new: Vec<String> = faults.into_iter().filter(|fault| !self.offenders.contains(fault)).collect();
        self.violations += i64::try_from(new.len()).unwrap_or(i64::MAX);
        self.offenders.extend(new.into_iter().take(NAMED.saturating_sub(self.offenders.len())));
    }
}

impl Store {
    /// Checks all invariants in one snapshot. Reads whole tables, however long that takes. Returns at most [`NAMED`]
    /// offenders of each invariant. The rights of an auditor suffice. If rows are hidden, only that is told.
    pub async fn check_invariants(&self) -> Result<Accounts, StoreError> {
        match self.check_all_invariants().await {
            Err(error) if error.hides_rows() => {
                let definitions = self.definitions().await?;
                let mut guards = Checked::from(Invariant::GuardsOn, Vec::new());
                guards.add_definitions(definitions.faults);
                Ok(Accounts {
                    checked: vec![guards],
                    ages: Ages { waiting: None, sending: None, unknown: None },
                    undecided_calls: 0,
                    definitions_compared: definitions.compared,
                    rows_are_hidden: true,
                })
            }
            other => other,
        }
    }

    async fn check_all_invariants(&self) -> Result<Accounts, StoreError> {
        // One snapshot for all statements: between two of them a delivery could move from a table that has not been
        // read to one that has. The transaction only reads, so after an error it is enough to drop it.
        let mut snapshot = self.pool.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
        // Locked before the snapshot, which the first query takes. A partition disappears for all snapshots at once,
        // and rows that an older snapshot still shows would then be reported. While this lock is held, no partition is
        // dropped. ACCESS SHARE delays nobody else.
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
        ];
        let mut guards = Checked::from(Invariant::GuardsOn, unguarded(&mut snapshot).await?);
        let checked = found.into_iter().map(|(invariant, offenders)| Checked::from(invariant, offenders));
        let mut checked: Vec<Checked> = checked.collect();
        let ages = ages(&mut snapshot).await?;
        let undecided_calls = undecided_calls(&mut snapshot).await?;
        snapshot.commit().await?;
        // Behind the snapshot, in which nothing can be made.
        let definitions = self.definitions().await?;
        guards.add_definitions(definitions.faults);
        checked.push(guards);
        let definitions_compared = definitions.compared;
        Ok(Accounts { checked, ages, undecided_calls, definitions_compared, rows_are_hidden: false })
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
    // - Reading whole tables can take longer than an ordinary statement may.
    // - The server qualifies the names in a trigger's definition only if the search path does not contain their schema.
    // - JIT compilation of a plan over so many partitions takes longer than it saves.
    sqlx::query!(
        r#"SELECT set_config('statement_timeout', '0', true) AS "timeout",
                  set_config('search_path', 'pg_catalog', true) AS "path", set_config('jit', 'off', true) AS "jit""#
    )
    .fetch_one(snapshot)
    .await?;
    Ok(())
}

async fn in_two_places(snapshot: &mut PgConnection) -> Result<Vec<Offender>, sqlx::Error> {
    // Starts from the two small tables. History cannot hold an id twice, because of its primary key.
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

/// Calls with two deliveries for one action, and calls without a delivery that they must have.
async fn balance(snapshot: &mut PgConnection) -> Result<(Vec<Offender>, Vec<Offender>), sqlx::Error> {
    // One pass over the decisions and the deliveries, because this is by far the longest statement.
    // - The check uses exactly the decision that was made when the call was inserted. A call from before that column
    //   existed (null) is not checked.
    // - Deliveries that have left history are not checked: whatever removes deliveries raises history_begins to their
    //   bound in the same transaction, and no call is inserted after its deliveries' ids are made. history_begins is
    //   read once, by a subquery of its own.
    // - A replay does not count as the original.
    // - Where a call has more than one row for an action, the statement checks whether the delivery ids differ: one
    //   delivery in two tables is not counted here again. If there is no such call, this part reads nothing.
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

pub(super) async fn unguarded(snapshot: &mut PgConnection) -> Result<Vec<Offender>, sqlx::Error> {
    let mut faults = guards::faults(&guards::present(snapshot).await?);
    faults.sort();
    let total = i64::try_from(faults.len()).unwrap_or(i64::MAX);
    Ok(faults.into_iter().take(NAMED).map(|who| Offender { who, total }).collect())
}

async fn missing_replays(snapshot: &mut PgConnection) -> Result<Vec<Offender>, sqlx::Error> {
    // As above: deliveries that may have left history are not checked.
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

pub(super) async fn stuck(snapshot: &mut PgConnection) -> Result<Vec<Offender>, sqlx::Error> {
    // If the dispatcher's row does not exist, nobody will finish the delivery. All other cases are judged by time.
    // - A dispatcher that has ended, or whose lease is over, must hold nothing once the others have had time to give
    //   its deliveries up. While its lease runs, a request may still be in flight.
    // - A living dispatcher holds a delivery no longer than the longest timeout and the longest lease together.
    // - now() is when the transaction began. With the current time, a delivery that was given up since the snapshot
    //   would look stuck.
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
    // A delivery that has been resolved is no longer unknown. A partial index finds all that were recorded as unknown.
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
