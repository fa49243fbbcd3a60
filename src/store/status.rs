//! The current status, for people. Everything is counted up to a limit, so that the answer comes at once, however much
//! waits and however long history is.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use super::held_back::count_paused;
use super::matching::prepare;
use super::pauses::PauseRecord;
use super::{Store, StoreError};
use crate::domain::report::{HostReport, Report};

/// The largest number of waiting deliveries that are counted.
pub const MOST_COUNTED: i64 = 100_000;
/// How many of the newest deliveries that were recorded as unknown are read.
pub const MOST_COUNTED_IN_DOUBT: i64 = 10_000;
/// The largest number of pauses that are shown; the newest are shown.
pub const MOST_SHOWN_PAUSES: i64 = 100;
/// The largest number of dispatchers that are shown: first those that run, then those that ended last.
const MOST_DISPATCHERS: i64 = 100;
/// For how many minutes a dispatcher that has ended is shown.
const LATELY_MINUTES: i32 = 60;
/// How long a single statement may take. Usually they take milliseconds, but if somebody holds a snapshot for hours,
/// each has to skip the dead rows of everything that was sent meanwhile.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(20);

/// A number, counted up to a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    /// How many were counted.
    pub counted: i64,
    /// Whether there are more.
    pub is_more: bool,
}

impl Count {
    /// The count for a search that found `found` rows and stopped at `most` plus one.
    pub(super) fn up_to(most: i64, found: i64) -> Count {
        Count { counted: found.min(most), is_more: found > most }
    }
}

/// The current status of deliveries, pauses and dispatchers.
#[derive(Debug)]
pub struct Status {
    /// When this was so, by the database's clock.
    pub at: DateTime<Utc>,
    /// The dispatchers that run, and those that ended within the last 60 minutes; at most 100.
    pub dispatchers: Vec<DispatcherStatus>,
    /// How many deliveries wait.
    pub waiting: Count,
    /// The oldest delivery that waits.
    pub oldest_waiting: Option<Oldest>,
    /// How many are in flight.
    pub in_flight: i64,
    /// How many deliveries are unknown and not resolved.
    pub in_doubt: Count,
    /// The active pauses, the newest first; at most [`MOST_SHOWN_PAUSES`].
    pub paused: Vec<HeldPause>,
    /// How many pauses are active, shown or not.
    pub active_pauses: i64,
}

impl Status {
    /// How many pauses are active beside those that are shown.
    pub fn pauses_left_out(&self) -> i64 {
        let shown = i64::try_from(self.paused.len()).unwrap_or(i64::MAX);
        (self.active_pauses - shown).max(0)
    }

    /// The hosts as the dispatchers that live see them, each with the dispatcher's id; those that are not well first.
    pub fn hosts(&self) -> Vec<(i32, &HostReport)> {
        let mut hosts: Vec<(i32, &HostReport)> =
            self.live_reports().flat_map(|(id, report)| report.hosts.iter().map(move |host| (id, host))).collect();
        hosts.sort_by(|(_, a), (_, b)| a.urgency().cmp(&b.urgency()));
        hosts
    }

    /// How many hosts these dispatchers have left out of their reports, all of them less urgent.
    pub fn hosts_left_out(&self) -> usize {
        self.live_reports().map(|(_, report)| report.hosts_left_out).sum()
    }

    /// The reports of the dispatchers that live, with their ids.
    fn live_reports(&self) -> impl Iterator<Item = (i32, &Report)> {
        let live = self.dispatchers.iter().filter(|dispatcher| matches!(dispatcher.life, Life::Alive { .. }));
        live.filter_map(|dispatcher| Some((dispatcher.dispatcher_id, &dispatcher.reported.as_ref()?.report)))
    }
}

/// The oldest delivery of those that wait, or that are open.
#[derive(Clone, Copy, Debug)]
pub struct Oldest {
    /// When its call was inserted, or its replay was made.
    pub created_at: DateTime<Utc>,
    /// How long ago, in milliseconds.
    pub age_ms: i64,
}

/// How far behind the queue is.
#[derive(Debug)]
pub struct Lag {
    /// How many deliveries wait.
    pub waiting: Count,
    /// The oldest delivery that waits.
    pub oldest_waiting: Option<Oldest>,
}

/// An active pause.
#[derive(Debug)]
pub struct HeldPause {
    /// The pause: what is paused, since when, by whom and why.
    pub pause: PauseRecord,
    /// How many waiting deliveries it holds back.
    pub waiting: Count,
}

/// The status of one dispatcher.
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
    /// Whether it is alive, and since when or until when.
    pub life: Life,
    /// How many deliveries it has in flight, by the rows in `sending`.
    pub in_flight: i64,
    /// Its last report about itself; `None` if it never reported.
    pub reported: Option<Reported>,
}

/// A dispatcher's report about itself.
#[derive(Debug)]
pub struct Reported {
    /// How long ago, in milliseconds.
    pub age_ms: i64,
    /// The report's content.
    pub report: Report,
}

/// Whether a dispatcher is alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// Its lease is valid.
    Alive {
        /// How long the lease still lasts if it is not renewed, in milliseconds.
        lease_left_ms: i64,
    },
    /// Its lease is over, but no other dispatcher has declared it lost yet.
    Overdue {
        /// How long the lease has been over, in milliseconds.
        since_ms: i64,
    },
    /// It stopped in an orderly way.
    Stopped {
        /// The time at which it ended.
        at: DateTime<Utc>,
    },
    /// Another dispatcher declared it lost.
    Lost {
        /// The time at which it ended.
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
    /// Tells how far behind the queue is.
    pub async fn lag(&self) -> Result<Lag, StoreError> {
        let mut transaction = self.pool.begin_with("BEGIN READ ONLY").await?;
        prepare(&mut transaction, STATEMENT_TIMEOUT.min(self.statement_timeout)).await?;
        let waiting = Count::up_to(MOST_COUNTED, queue(&mut transaction).await?.waiting);
        let oldest_waiting = oldest_waiting(&mut transaction).await?;
        transaction.rollback().await?;
        Ok(Lag { waiting, oldest_waiting })
    }

    /// Returns the current status. The rights of an auditor suffice.
    pub async fn status(&self) -> Result<Status, StoreError> {
        let pauses = self.active_pauses(MOST_SHOWN_PAUSES).await?;
        // One snapshot, so that no delivery is seen in two places or in none.
        let mut snapshot = self.pool.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
        prepare(&mut snapshot, STATEMENT_TIMEOUT.min(self.statement_timeout)).await?;
        let queue = queue(&mut snapshot).await?;
        let status = Status {
            at: queue.at,
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
}

pub(super) struct Queue {
    pub(super) at: DateTime<Utc>,
    pub(super) waiting: i64,
    in_flight: i64,
    pub(super) active_pauses: i64,
    pub(super) paused_hosts: i64,
}

pub(super) async fn queue(snapshot: &mut PgConnection) -> Result<Queue, sqlx::Error> {
    // Deliveries in flight and active pauses are always few; waiting deliveries are counted up to a limit.
    sqlx::query_as!(
        Queue,
        r#"
        SELECT (SELECT count(*) FROM (SELECT FROM postcall.waiting LIMIT $1) AS counted) AS "waiting!",
               (SELECT count(*) FROM postcall.sending) AS "in_flight!",
               (SELECT count(*) FROM postcall.active_pause) AS "active_pauses!",
               (SELECT count(host) FROM postcall.active_pause) AS "paused_hosts!",
               statement_timestamp() AS "at!"
        "#,
        MOST_COUNTED + 1,
    )
    .fetch_one(snapshot)
    .await
}

pub(super) async fn oldest_waiting(snapshot: &mut PgConnection) -> Result<Option<Oldest>, sqlx::Error> {
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

pub(super) async fn in_doubt(snapshot: &mut PgConnection) -> Result<Count, sqlx::Error> {
    // Reads the newest deliveries that were recorded as unknown, up to the limit, by the index of what was not
    // delivered. Resolved ones count towards the limit, so that many findings do not make the search longer.
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
    let is_more = Count::up_to(MOST_COUNTED_IN_DOUBT, row.looked_at).is_more;
    Ok(Count { is_more, ..Count::up_to(MOST_COUNTED_IN_DOUBT, row.unresolved) })
}

pub(super) async fn dispatchers(snapshot: &mut PgConnection) -> Result<Vec<DispatcherStatus>, sqlx::Error> {
    // The table has one row for every start there ever was. It is read completely, as a registration does.
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
            // Hosts that another release wrote in another format are ignored.
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

#[cfg(test)]
mod tests {
    use super::super::pauses::Deed;
    use super::*;
    use crate::domain::pause::NamedTarget;
    use crate::domain::report::HostCondition;

    fn dispatcher(dispatcher_id: i32, life: Life, hosts: Vec<HostReport>) -> DispatcherStatus {
        let report = Report { hosts_left_out: 1, ..Report::new(1, 0, 0, hosts) };
        let reported = Some(Reported { age_ms: 0, report });
        let (name, version) = (String::new(), String::new());
        DispatcherStatus {
            dispatcher_id,
            name,
            version,
            started_at: DateTime::UNIX_EPOCH,
            life,
            in_flight: 0,
            reported,
        }
    }

    fn pause() -> HeldPause {
        let (by, db_user, reason) = (String::new(), String::new(), String::new());
        let pause = PauseRecord {
            pause_id: 1,
            target: NamedTarget::Agent("a".to_owned()),
            action_id: None,
            begun: Deed { at: DateTime::UNIX_EPOCH, by, db_user, reason },
            ended: None,
        };
        HeldPause { pause, waiting: Count { counted: 0, is_more: false } }
    }

    fn host(condition: HostCondition) -> HostReport {
        HostReport { host: "a.test:443".to_owned(), limit: 1, in_flight: 0, waiting_lanes: 0, condition }
    }

    #[test]
    fn hosts_are_those_of_the_dispatchers_that_live_and_none_that_is_well_comes_before_one_that_is_not() {
        let (answering, silent) = (host(HostCondition::Answering), host(HostCondition::Silent { since_ms: 1 }));
        let (alive, at) = (Life::Alive { lease_left_ms: 1 }, DateTime::UNIX_EPOCH);
        let none = Count { counted: 0, is_more: false };
        let status = Status {
            at,
            dispatchers: vec![
                dispatcher(1, alive, vec![answering.clone()]),
                dispatcher(2, Life::Stopped { at }, vec![silent.clone()]),
                dispatcher(3, Life::Overdue { since_ms: 1 }, vec![silent.clone()]),
                dispatcher(4, Life::Lost { at }, vec![silent.clone()]),
                dispatcher(5, alive, vec![silent.clone(), answering.clone()]),
            ],
            waiting: none,
            oldest_waiting: None,
            in_flight: 0,
            in_doubt: none,
            paused: vec![pause()],
            active_pauses: 3,
        };
        assert_eq!(status.hosts(), [(5, &silent), (1, &answering), (5, &answering)]);
        assert_eq!((status.hosts_left_out(), status.pauses_left_out()), (2, 2));
    }

    #[test]
    fn a_dispatcher_is_overdue_from_the_moment_at_which_its_lease_ends_and_for_as_long_as_it_has_been_over() {
        let life = |lease_left_ms| Life::of(None, None, lease_left_ms);
        assert_eq!(life(1), Life::Alive { lease_left_ms: 1 });
        assert_eq!(life(0), Life::Overdue { since_ms: 0 });
        assert_eq!(life(-5), Life::Overdue { since_ms: 5 });
        let (at, lost_at) = (DateTime::UNIX_EPOCH, DateTime::<Utc>::MAX_UTC);
        assert_eq!(Life::of(Some(at), Some(lost_at), 1), Life::Stopped { at });
        assert_eq!(Life::of(None, Some(at), 1), Life::Lost { at });
        let counts = [Count { counted: 3, is_more: false }, Count { counted: 3, is_more: true }];
        assert_eq!([3, 4].map(|found| Count::up_to(3, found)), counts);
    }
}
