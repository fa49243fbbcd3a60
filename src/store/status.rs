//! What goes on at this moment, for people. Everything is counted up to a bound, so that the answer comes at once however much
//! waits and however long history is.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use super::matching::prepare;
use super::pauses::PauseRecord;
use super::{Store, StoreError};
use crate::domain::host::{Host, HostPattern};
use crate::domain::pause::NamedTarget;
use crate::domain::report::{HostReport, Report};

/// How far what waits is counted.
const MOST_COUNTED: i64 = 100_000;
/// How many that ended as unknown are looked at, the newest.
const MOST_COUNTED_IN_DOUBT: i64 = 10_000;
/// Pauses that are shown, the newest.
pub const MOST_SHOWN_PAUSES: i64 = 100;
/// What waits for all pauses that are shown is counted so far altogether, in equal parts.
const MOST_COUNTED_FOR_PAUSES: i64 = 200_000;
/// Actions with something waiting that are searched for those of a paused host.
const MOST_LANES: i64 = 20_000;
/// Dispatchers that are shown: those that run, and then those that ended last.
const MOST_DISPATCHERS: i64 = 100;
/// For how many minutes a dispatcher that has ended is shown.
const LATELY_MINUTES: i32 = 60;
/// What a single statement may take. They take milliseconds; but who holds a snapshot for hours makes each wade through what was
/// sent meanwhile.
const PATIENCE: Duration = Duration::from_secs(20);

/// A number, counted up to a bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    /// How many were counted.
    pub counted: i64,
    /// Whether there are more.
    pub is_more: bool,
}

impl Count {
    /// `found` were found where one more than `most` was looked for.
    fn up_to(most: i64, found: i64) -> Count {
        Count { counted: found.min(most), is_more: found > most }
    }
}

/// What goes on.
#[derive(Debug)]
pub struct Status {
    /// The dispatchers that run, and those that ended lately; no more than 100.
    pub dispatchers: Vec<DispatcherStatus>,
    /// How many deliveries wait.
    pub waiting: Count,
    /// The oldest of them.
    pub oldest_waiting: Option<Oldest>,
    /// How many are in flight.
    pub in_flight: i64,
    /// How many ended as unknown and nobody has found out more.
    pub in_doubt: Count,
    /// What is paused, the newest first; no more than [`MOST_SHOWN_PAUSES`].
    pub paused: Vec<Paused>,
    /// How many pauses are active, shown or not.
    pub active_pauses: i64,
}

/// The oldest of what waits.
#[derive(Clone, Copy, Debug)]
pub struct Oldest {
    /// When its call was inserted, or its replay asked for.
    pub created_at: DateTime<Utc>,
    /// How long ago, in milliseconds.
    pub age_ms: i64,
}

/// A pause that is active.
#[derive(Debug)]
pub struct Paused {
    /// What, since when, by whom, why.
    pub pause: PauseRecord,
    /// How many deliveries wait that it holds back.
    pub waiting: Count,
}

/// A dispatcher.
#[derive(Debug)]
pub struct DispatcherStatus {
    /// Its id.
    pub dispatcher_id: i32,
    /// Host name and process id.
    pub name: String,
    /// Version of its program.
    pub version: String,
    /// When it started.
    pub started_at: DateTime<Utc>,
    /// Whether it lives.
    pub life: Life,
    /// How many deliveries are in flight in its name.
    pub in_flight: i64,
    /// What it last said about itself, if it says anything.
    pub reported: Option<Reported>,
}

/// What a dispatcher said about itself.
#[derive(Debug)]
pub struct Reported {
    /// How long ago, in milliseconds.
    pub age_ms: i64,
    /// What.
    pub report: Report,
}

/// Whether a dispatcher lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// It has been heard of.
    Alive {
        /// How long it counts as alive if it is not heard of any more, in milliseconds.
        lease_left_ms: i64,
    },
    /// Its lease is over; nobody has declared it lost yet.
    Overdue {
        /// For how long, in milliseconds.
        since_ms: i64,
    },
    /// It stopped in good order.
    Stopped {
        /// When.
        at: DateTime<Utc>,
    },
    /// Another dispatcher declared it lost.
    Lost {
        /// When.
        at: DateTime<Utc>,
    },
}

impl Life {
    fn of(stopped_at: Option<DateTime<Utc>>, lost_at: Option<DateTime<Utc>>, lease_left_ms: i64) -> Life {
        match (stopped_at, lost_at) {
            (Some(at), _) => Life::Stopped { at },
            (None, Some(at)) => Life::Lost { at },
            (None, None) if lease_left_ms > 0 => Life::Alive { lease_left_ms },
            (None, None) => Life::Overdue { since_ms: -lease_left_ms },
        }
    }
}

impl Store {
    /// What goes on at this moment. The rights of an auditor suffice.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn status(&self) -> Result<Status, StoreError> {
        let pauses = self.active_pauses(MOST_SHOWN_PAUSES).await?;
        // One snapshot, so that no delivery is seen in two places or in none.
        let mut snapshot = self.pool.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
        prepare(&mut snapshot, PATIENCE).await?;
        let queue = queue(&mut snapshot).await?;
        let status = Status {
            dispatchers: dispatchers(&mut snapshot).await?,
            waiting: Count::up_to(MOST_COUNTED, queue.waiting),
            oldest_waiting: oldest_waiting(&mut snapshot).await?,
            in_flight: queue.in_flight,
            in_doubt: in_doubt(&mut snapshot).await?,
            active_pauses: queue.active_pauses,
            paused: count_paused(&mut snapshot, pauses).await?,
        };
        snapshot.rollback().await?;
        Ok(status)
    }

    /// How many actions go to a host, up to a bound of 20,000 actions that are looked at.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn actions_of_host(&self, pattern: &HostPattern) -> Result<usize, StoreError> {
        // Only this side knows which names of a host are the same.
        let targets = sqlx::query_scalar!("SELECT target FROM postcall.action_target LIMIT $1", MOST_LANES)
            .fetch_all(&self.pool)
            .await?;
        let hosts = targets.iter().flatten().filter_map(|target| Host::of_url(target));
        Ok(hosts.filter(|host| pattern.matches(host)).count())
    }
}

struct Queue {
    waiting: i64,
    in_flight: i64,
    active_pauses: i64,
}

async fn queue(snapshot: &mut PgConnection) -> Result<Queue, sqlx::Error> {
    // What is in flight, and the active pauses, are small by their nature; what waits is counted to a bound.
    sqlx::query_as!(
        Queue,
        r#"
        SELECT (SELECT count(*) FROM (SELECT FROM postcall.waiting LIMIT $1) AS counted) AS "waiting!",
               (SELECT count(*) FROM postcall.sending) AS "in_flight!",
               (SELECT count(*) FROM postcall.active_pause) AS "active_pauses!"
        "#,
        MOST_COUNTED + 1,
    )
    .fetch_one(snapshot)
    .await
}

async fn oldest_waiting(snapshot: &mut PgConnection) -> Result<Option<Oldest>, sqlx::Error> {
    // Ids are time-ordered, so the first one of the primary key is the oldest.
    sqlx::query_as!(
        Oldest,
        r#"
        SELECT created_at, greatest(0, extract(epoch FROM clock_timestamp() - created_at) * 1000)::bigint AS "age_ms!"
        FROM postcall.waiting ORDER BY delivery_id LIMIT 1
        "#
    )
    .fetch_optional(snapshot)
    .await
}

async fn in_doubt(snapshot: &mut PgConnection) -> Result<Count, sqlx::Error> {
    // The newest that ended as unknown are looked at, up to the bound, by the index of what was not delivered; those that were
    // resolved are among them, so that many findings do not make it look further and further.
    let row = sqlx::query!(
        r#"
        SELECT count(*) AS "looked_at!",
               count(*) FILTER (WHERE NOT EXISTS (
                   SELECT FROM postcall.resolution WHERE resolution.delivery_id = doubtful.delivery_id)) AS "unresolved!"
        FROM (SELECT delivery_id FROM postcall.delivery WHERE state = 'unknown'
              ORDER BY delivery_id DESC LIMIT $1) AS doubtful
        "#,
        MOST_COUNTED_IN_DOUBT + 1,
    )
    .fetch_one(snapshot)
    .await?;
    Ok(Count { counted: row.unresolved.min(MOST_COUNTED_IN_DOUBT), is_more: row.looked_at > MOST_COUNTED_IN_DOUBT })
}

async fn dispatchers(snapshot: &mut PgConnection) -> Result<Vec<DispatcherStatus>, sqlx::Error> {
    // One row for every start there ever was: read whole, as a registration does.
    let rows = sqlx::query!(
        r#"
        SELECT dispatcher_id, name, version, started_at, stopped_at, lost_at,
               greatest(-1e15, least(1e15, extract(epoch FROM lease_until - clock_timestamp()) * 1000))::bigint
                   AS "lease_left_ms!",
               coalesce(in_flight.deliveries, 0) AS "deliveries!",
               greatest(0, extract(epoch FROM clock_timestamp() - report.reported_at) * 1000)::bigint AS age_ms,
               report.concurrency AS "concurrency?", report.in_flight AS "in_flight?", report.unrecorded AS "unrecorded?",
               report.hosts::text AS hosts, report.hosts_left_out AS "hosts_left_out?"
        FROM postcall.dispatcher
        LEFT JOIN (SELECT dispatcher_id, count(*) AS deliveries FROM postcall.sending GROUP BY dispatcher_id) AS in_flight
            USING (dispatcher_id)
        LEFT JOIN postcall.dispatcher_report AS report USING (dispatcher_id)
        WHERE coalesce(stopped_at, lost_at) IS NULL
           OR coalesce(stopped_at, lost_at) > clock_timestamp() - $1 * interval '1 minute'
        ORDER BY coalesce(stopped_at, lost_at) DESC NULLS FIRST, dispatcher_id DESC
        LIMIT $2
        "#,
        f64::from(LATELY_MINUTES),
        MOST_DISPATCHERS,
    )
    .fetch_all(snapshot)
    .await?;
    let count = |number: Option<i32>| usize::try_from(number.unwrap_or(0)).unwrap_or(0);
    let statuses = rows.into_iter().map(|row| {
        let report = row.hosts.map(|hosts| Report {
            concurrency: count(row.concurrency),
            in_flight: count(row.in_flight),
            unrecorded: count(row.unrecorded),
            // What another release wrote in another form is passed over.
            hosts: serde_json::from_str::<Vec<HostReport>>(&hosts).unwrap_or_default(),
            hosts_left_out: count(row.hosts_left_out),
        });
        DispatcherStatus {
            dispatcher_id: row.dispatcher_id,
            name: row.name,
            version: row.version,
            started_at: row.started_at,
            life: Life::of(row.stopped_at, row.lost_at, row.lease_left_ms),
            in_flight: row.deliveries,
            reported: row.age_ms.zip(report).map(|(age_ms, report)| Reported { age_ms, report }),
        }
    });
    Ok(statuses.collect())
}

/// How many wait for each pause.
async fn count_paused(snapshot: &mut PgConnection, pauses: Vec<PauseRecord>) -> Result<Vec<Paused>, sqlx::Error> {
    let lanes = lanes_of_hosts(snapshot, &pauses).await?;
    let most = MOST_COUNTED_FOR_PAUSES / i64::try_from(pauses.len()).unwrap_or(1).max(1);
    let (mut ids, mut agents, mut actions, mut of_host) =
        (Vec::new(), Vec::new(), Vec::new(), (Vec::new(), Vec::new()));
    for pause in &pauses {
        ids.push(pause.pause_id);
        actions.push(pause.action_id);
        agents.push(match &pause.target {
            NamedTarget::Agent(agent) => Some(agent.clone()),
            NamedTarget::Action { .. } | NamedTarget::Host(_) => None,
        });
    }
    for (pause_id, action_id) in lanes {
        of_host.0.push(pause_id);
        of_host.1.push(action_id);
    }
    // Each lane by its index, which holds all that is asked; the limit ends the walk through a pause's lanes.
    let rows = sqlx::query!(
        r#"
        SELECT pause.pause_id AS "pause_id!", counted.waiting AS "waiting!"
        FROM unnest($1::bigint[], $2::text[], $3::bigint[]) AS pause (pause_id, agent, action_id)
        CROSS JOIN LATERAL (
            SELECT count(*) AS waiting
            FROM (SELECT FROM (
                      SELECT pause.action_id WHERE pause.action_id IS NOT NULL
                      UNION ALL
                      SELECT action.action_id FROM postcall.action WHERE action.agent = pause.agent
                      UNION ALL
                      SELECT of_host.action_id FROM unnest($4::bigint[], $5::bigint[]) AS of_host (pause_id, action_id)
                      WHERE of_host.pause_id = pause.pause_id
                  ) AS lane
                  CROSS JOIN LATERAL (
                      SELECT FROM postcall.waiting WHERE waiting.action_id = lane.action_id
                      ORDER BY waiting.action_id, waiting.delivery_id LIMIT $6) AS held_back
                  LIMIT $6) AS held_back
        ) AS counted
        "#,
        &ids,
        &agents as &[Option<String>],
        &actions as &[Option<i64>],
        &of_host.0,
        &of_host.1,
        most + 1,
    )
    .fetch_all(snapshot)
    .await?;
    let counts: std::collections::HashMap<i64, i64> = rows.into_iter().map(|row| (row.pause_id, row.waiting)).collect();
    let paused = pauses.into_iter().map(|pause| {
        let found = counts.get(&pause.pause_id).copied().unwrap_or(0);
        Paused { waiting: Count::up_to(most, found), pause }
    });
    Ok(paused.collect())
}

/// The actions that go to a paused host and have something waiting, beside the id of the pause.
async fn lanes_of_hosts(snapshot: &mut PgConnection, pauses: &[PauseRecord]) -> Result<Vec<(i64, i64)>, sqlx::Error> {
    let patterns: Vec<(i64, HostPattern)> = pauses
        .iter()
        .filter_map(|pause| match &pause.target {
            NamedTarget::Host(host) => Some((pause.pause_id, host.parse().ok()?)),
            NamedTarget::Agent(_) | NamedTarget::Action { .. } => None,
        })
        .collect();
    if patterns.is_empty() {
        return Ok(Vec::new());
    }
    // A loose index scan: from each lane that has something waiting one step to the next, whatever the lanes hold. Which names of
    // a host are the same, only this side knows.
    let lanes = sqlx::query!(
        r#"
        WITH RECURSIVE lane AS (
            (SELECT action_id, 1 AS number FROM postcall.waiting ORDER BY action_id LIMIT 1)
            UNION ALL
            SELECT next.action_id, lane.number + 1
            FROM lane CROSS JOIN LATERAL (
                SELECT waiting.action_id FROM postcall.waiting WHERE waiting.action_id > lane.action_id
                ORDER BY waiting.action_id LIMIT 1) AS next
            WHERE lane.number < $1
        )
        SELECT lane.action_id AS "action_id!", target AS "target!"
        FROM lane JOIN postcall.action_target ON action_target.action_id = lane.action_id
        WHERE target IS NOT NULL
        "#,
        i32::try_from(MOST_LANES).unwrap_or(i32::MAX),
    )
    .fetch_all(snapshot)
    .await?;
    let mut found = Vec::new();
    for lane in lanes {
        let Some(host) = Host::of_url(&lane.target) else { continue };
        let held_by = patterns.iter().filter(|(_, pattern)| pattern.matches(&host));
        found.extend(held_by.map(|(pause_id, _)| (*pause_id, lane.action_id)));
    }
    Ok(found)
}
