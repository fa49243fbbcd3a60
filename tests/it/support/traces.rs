//! Holds a run of the program against the model of the protocol: of each delivery there is one trace (its call's insertion, its
//! claim, its requests as the receiver saw them, that its dispatcher was killed or stopped, what was recorded, what was learnt
//! late and that it was replayed, in the order that is certain), and the model must have a run in which just this is seen.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex};
use std::time::Duration;

use chrono::{DateTime, Utc};
use nix::sys::signal::Signal;
use postcall::domain::delivery::State;
use sqlx::PgPool;
use uuid::Uuid;

use super::process::signals_to;
use super::tally::{Arrivals, Tally};
use crate::protocol::trace::{Seen, Trace};

/// One delivery as the database shows it.
#[derive(sqlx::FromRow)]
struct Row {
    delivery_id: Uuid,
    message_id: Uuid,
    shown: String,
    recorded: Option<String>,
    given_up: bool,
    created_at: DateTime<Utc>,
    claimed_at: Option<DateTime<Utc>>,
    finished_at: Option<DateTime<Utc>>,
    evidence: Option<String>,
    evidence_at: Option<DateTime<Utc>>,
    replayed_at: Option<DateTime<Utc>>,
    /// The process that held it, and since when it was a dispatcher.
    process: Option<i64>,
    started_at: Option<DateTime<Utc>>,
}

/// A replay is seen with its original, whose message it is. What people found is left out: no fault test has it.
const ROWS: &str = "SELECT history.delivery_id, history.message_id, history.state AS shown, delivery.state AS recorded,
                           coalesce(delivery.error_kind = 'dispatcher_lost', false) AS given_up,
                           history.created_at, delivery.claimed_at, delivery.finished_at,
                           late.state AS evidence, late.resolved_at AS evidence_at, replay.created_at AS replayed_at,
                           substring(dispatcher.name FROM '[0-9]+$')::bigint AS process, dispatcher.started_at
                    FROM postcall.delivery_history AS history
                    LEFT JOIN postcall.delivery USING (delivery_id)
                    LEFT JOIN postcall.dispatcher USING (dispatcher_id)
                    LEFT JOIN postcall.delivery_history AS replay ON replay.replay_of = history.delivery_id
                    LEFT JOIN postcall.resolution AS late ON late.delivery_id = history.delivery_id AND source = 'claim'
                    WHERE history.delivery_id = history.message_id
                      AND NOT EXISTS (SELECT FROM postcall.resolution AS found
                                      WHERE found.delivery_id = history.delivery_id AND source = 'person')";

/// Whether the model has such a run, for each trace that was asked for. There are few different ones.
static ACCEPTED: LazyLock<Mutex<HashMap<Trace, bool>>> = LazyLock::new(Mutex::default);

/// Checks that the model accepts the trace of each delivery; returns how many had been seen to be
/// killed, stopped or replayed. A request may have been counted `counted_late` after it came. If
/// dispatchers were paused under load, requests that began in the gap that no program can close are left out; the accounts bound
/// their number.
pub async fn check(pool: &PgPool, tally: &Tally, counted_late: Duration, is_paused: bool) -> HashMap<Seen, usize> {
    let mut marked = HashMap::new();
    let rows: Vec<Row> = sqlx::query_as(ROWS).fetch_all(pool).await.unwrap();
    let arrivals = tally.arrivals();
    let mut accepted = ACCEPTED.lock().unwrap();
    for row in &rows {
        let (trace, is_late) = row.trace(arrivals.get(&row.message_id), counted_late);
        if is_paused && is_late {
            continue;
        }
        for seen in [Seen::Killed, Seen::Paused, Seen::Replayed] {
            *marked.entry(seen).or_default() += usize::from(trace.seen.contains(&seen));
        }
        let is_accepted = *accepted.entry(trace.clone()).or_insert_with(|| trace.is_accepted());
        assert!(is_accepted, "the model has no such run: {}, {trace:?}", row.delivery_id);
    }
    println!("{} deliveries went as the model can go; of them were {marked:?}", rows.len());
    marked
}

impl Row {
    /// That its dispatcher was killed or stopped while it held it, and when.
    fn stops(&self, claimed: DateTime<Utc>, given_up: DateTime<Utc>) -> impl Iterator<Item = (Seen, DateTime<Utc>)> {
        let process = self.process.and_then(|process| u32::try_from(process).ok()).unwrap_or(0);
        let sent = self.started_at.map_or(Vec::new(), |since| signals_to(process, since));
        let mut stops: Vec<(Seen, DateTime<Utc>)> = Vec::new();
        for one in sent.into_iter().filter(|one| one.at >= claimed && one.at < given_up) {
            match one.signal {
                Signal::SIGKILL => stops.push((Seen::Killed, one.at)),
                Signal::SIGSTOP => stops.push((Seen::Paused, one.at)),
                _ => {}
            }
        }
        stops.into_iter()
    }

    /// Its trace, and whether its request came after it had been given up.
    fn trace(&self, arrivals: Option<&Arrivals>, counted_late: Duration) -> (Trace, bool) {
        let state = |name: &str| State::named(name).unwrap();
        // What was seen, with the earliest and the latest moment at which it can have happened. A claim may begin before the insert
        // that it finds.
        let mut seen = vec![(Seen::Inserted, self.created_at - counted_late, self.created_at)];
        if let (Some(recorded), Some(claimed), Some(finished)) = (&self.recorded, self.claimed_at, self.finished_at) {
            seen.push((Seen::Claimed, claimed, claimed));
            let recorded = if self.given_up { Seen::GivenUp } else { Seen::Recorded(state(recorded)) };
            seen.push((recorded, finished, finished));
            if self.given_up {
                seen.extend(self.stops(claimed, finished).map(|(what, at)| (what, at, at + counted_late)));
            }
        }
        seen.extend(self.replayed_at.map(|at| (Seen::Replayed, at, at + counted_late)));
        if let (Some(evidence), Some(at)) = (&self.evidence, self.evidence_at) {
            seen.push((Seen::Evidence(state(evidence)), at, at));
        }
        let mut is_late = false;
        if let Some(arrivals) = arrivals {
            let earliest = arrivals.first_at - counted_late;
            is_late = self.given_up && self.finished_at.is_some_and(|given_up| given_up < earliest);
            seen.push((Seen::Requested, earliest, arrivals.first_at));
            // When the others came is not known; one more is wrong already.
            for _ in 1..arrivals.count {
                seen.push((Seen::Requested, DateTime::<Utc>::MIN_UTC, DateTime::<Utc>::MAX_UTC));
            }
        }
        let pairs = |first: usize| (0..seen.len()).map(move |then| (first, then));
        // A claim says when it began. Its dispatcher may be stopped before it is committed.
        let is_certain = |(first, then): &(usize, usize)| {
            let commits = seen[*first].0 == Seen::Claimed && matches!(seen[*then].0, Seen::Killed | Seen::Paused);
            !commits && seen[*first].2 < seen[*then].1
        };
        let before = (0..seen.len()).flat_map(pairs).filter(is_certain).collect();
        (Trace { seen: seen.iter().map(|(what, ..)| *what).collect(), before, shown: state(&self.shown) }, is_late)
    }
}
