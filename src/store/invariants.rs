//! The accounts: what must be true of the tables at every moment, asked in one snapshot.

use std::time::Duration;

use sqlx::PgConnection;

use super::dispatchers::LONGEST_LEASE;
use super::{Store, StoreError};
use crate::domain::action::MAX_TIMEOUT_MS;

/// How far from a switching of its action a call must lie to be counted on. A switch is recorded shortly before it is
/// committed, and a call is given its deliveries by what its own transaction sees, so close to a switch either is right.
const SWITCH_MARGIN: Duration = Duration::from_secs(600);
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
    /// A call that was inserted while an action was enabled has a delivery.
    NoneMissing,
    /// A replay's delivery exists.
    NoReplayMissing,
    /// What waits or is in flight has its call and its action.
    Complete,
    /// What is in flight is not older than it can be.
    NoneStuck,
}

impl Invariant {
    /// All of them.
    pub const ALL: [Invariant; 6] = [
        Invariant::OnePlace,
        Invariant::OneDelivery,
        Invariant::NoneMissing,
        Invariant::NoReplayMissing,
        Invariant::Complete,
        Invariant::NoneStuck,
    ];

    /// Its name, for programs.
    pub fn as_str(self) -> &'static str {
        match self {
            Invariant::OnePlace => "one_place",
            Invariant::OneDelivery => "one_delivery",
            Invariant::NoneMissing => "none_missing",
            Invariant::NoReplayMissing => "no_replay_missing",
            Invariant::Complete => "complete",
            Invariant::NoneStuck => "none_stuck",
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
    /// Up to [`NAMED`] offenders: delivery ids, or calls with the action that they lack or have twice.
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
}

struct Offender {
    who: String,
    total: i64,
}

impl Store {
    /// Checks all invariants in one snapshot. Reads whole tables, and takes as long as that takes.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn check_invariants(&self) -> Result<Accounts, StoreError> {
        // One snapshot for all statements: between two of them a delivery could move from a table that has not been read
        // to one that has. It is committed nowhere, so dropping it on an error is all that there is to clean up.
        let mut snapshot = self.pool.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
        // Whole tables can take longer than an ordinary statement may.
        sqlx::query!("SET LOCAL statement_timeout = 0").execute(&mut *snapshot).await?;
        let mut checked = Vec::with_capacity(Invariant::ALL.len());
        for invariant in Invariant::ALL {
            let offenders = match invariant {
                Invariant::OnePlace => in_two_places(&mut snapshot).await?,
                Invariant::OneDelivery => delivered_twice(&mut snapshot).await?,
                Invariant::NoneMissing => missing(&mut snapshot).await?,
                Invariant::NoReplayMissing => missing_replays(&mut snapshot).await?,
                Invariant::Complete => incomplete(&mut snapshot).await?,
                Invariant::NoneStuck => stuck(&mut snapshot).await?,
            };
            checked.push(Checked {
                invariant,
                violations: offenders.first().map_or(0, |offender| offender.total),
                offenders: offenders.into_iter().map(|offender| offender.who).collect(),
            });
        }
        let ages = ages(&mut snapshot).await?;
        snapshot.commit().await?;
        Ok(Accounts { checked, ages })
    }
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

async fn delivered_twice(snapshot: &mut PgConnection) -> Result<Vec<Offender>, sqlx::Error> {
    // By delivery id, so that what is in two places is not counted here once more.
    sqlx::query_as!(
        Offender,
        r#"
        SELECT call_id || ' ' || coalesce(action.name, '?') AS "who!", count(*) OVER () AS "total!"
        FROM (SELECT delivery_id, call_id, action_id FROM postcall.waiting
              UNION ALL SELECT delivery_id, call_id, action_id FROM postcall.sending
              UNION ALL SELECT delivery_id, call_id, action_id FROM postcall.delivery) AS one
        LEFT JOIN postcall.action USING (action_id)
        WHERE NOT EXISTS (SELECT FROM postcall.replay WHERE replay.delivery_id = one.delivery_id)
        GROUP BY call_id, action_id, action.name
        HAVING min(delivery_id::text) <> max(delivery_id::text)
        ORDER BY 1 LIMIT $1
        "#,
        NAMED as i64,
    )
    .fetch_all(snapshot)
    .await
}

async fn missing(snapshot: &mut PgConnection) -> Result<Vec<Offender>, sqlx::Error> {
    // - A period runs from one switch of an action to its next one; only calls well inside an enabled one are counted
    //   on (SWITCH_MARGIN).
    // - History may have been dropped up to its oldest partition, so calls from before that are not asked about.
    sqlx::query_as!(
        Offender,
        r#"
        WITH period AS (
            SELECT action_id, enabled, switched_at + $2 * interval '1 second' AS safe_from,
                   coalesce(lead(switched_at) OVER (PARTITION BY action_id ORDER BY switch_id)
                            - $2 * interval '1 second', 'infinity') AS safe_until
            FROM postcall.action_switch
        ),
        original AS (
            SELECT call_id, action_id
            FROM (SELECT delivery_id, call_id, action_id FROM postcall.waiting
                  UNION ALL SELECT delivery_id, call_id, action_id FROM postcall.sending
                  UNION ALL SELECT delivery_id, call_id, action_id FROM postcall.delivery) AS one
            WHERE NOT EXISTS (SELECT FROM postcall.replay WHERE replay.delivery_id = one.delivery_id)
        )
        SELECT outbox.id || ' ' || action.name AS "who!", count(*) OVER () AS "total!"
        FROM postcall.outbox
        JOIN postcall.action ON action.agent = outbox.agent
        JOIN period ON period.action_id = action.action_id AND period.enabled
                   AND outbox.created_at >= period.safe_from AND outbox.created_at < period.safe_until
        WHERE outbox.created_at >= postcall.history_begins()
          AND NOT EXISTS (SELECT FROM original
                          WHERE original.call_id = outbox.id AND original.action_id = action.action_id)
        ORDER BY 1 LIMIT $1
        "#,
        NAMED as i64,
        SWITCH_MARGIN.as_secs_f64(),
    )
    .fetch_all(snapshot)
    .await
}

async fn missing_replays(snapshot: &mut PgConnection) -> Result<Vec<Offender>, sqlx::Error> {
    // As above: what history may have lost with a partition is not asked about.
    sqlx::query_as!(
        Offender,
        r#"
        SELECT delivery_id::text AS "who!", count(*) OVER () AS "total!"
        FROM postcall.replay
        WHERE created_at >= postcall.history_begins()
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
    // - A dispatcher that has ended, or whose lease is over, holds nothing once others had the time to give it up; while
    //   its lease runs, a request may.
    // - One that lives holds nothing longer than the longest timeout, whatever its lease.
    sqlx::query_as!(
        Offender,
        r#"
        SELECT delivery_id::text AS "who!", count(*) OVER () AS "total!"
        FROM postcall.sending LEFT JOIN postcall.dispatcher USING (dispatcher_id)
        WHERE clock_timestamp() - $4 * interval '1 second' > least(
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
        SELECT extract(epoch FROM clock_timestamp() - (SELECT min(created_at) FROM postcall.waiting))::float8 AS waiting,
               extract(epoch FROM clock_timestamp() - (SELECT min(claimed_at) FROM postcall.sending))::float8 AS sending,
               extract(epoch FROM clock_timestamp() - (
                   SELECT min(finished_at) FROM postcall.delivery
                   WHERE state = 'unknown' AND NOT EXISTS (
                       SELECT FROM postcall.resolution WHERE resolution.delivery_id = delivery.delivery_id)
               ))::float8 AS unknown
        "#
    )
    .fetch_one(snapshot)
    .await
}
