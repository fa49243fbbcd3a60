//! Checks the promise at the end of a fault test: compares what the receiver counted with what the database shows.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::PgPool;
use uuid::Uuid;

use super::tally::{Arrivals, Tally};
use super::traces;

/// How much later than it was sent a request may have been counted, on a machine that is busy with everything else.
pub const COUNTED_LATE: Duration = Duration::from_millis(500);

/// What the books say.
#[derive(Debug, Default)]
pub struct Accounts {
    /// Committed calls times the actions of their agents.
    pub committed: usize,
    /// Requests that the receiver counted.
    pub requests: usize,
    /// The most often that one delivery was requested.
    pub most_requests: usize,
    /// Deliveries that were never requested.
    pub unrequested: usize,
    /// Deliveries in each state.
    pub states: BTreeMap<String, usize>,
    /// Deliveries of each dispatcher that became `unknown` when they were recorded, whatever was learnt later.
    pub doubts: HashMap<i32, usize>,
    /// Requests that arrived after their deliveries had been given up.
    pub late: usize,
    wrongs: Vec<String>,
}

/// One delivery as the database shows it.
#[derive(sqlx::FromRow)]
struct Row {
    delivery_id: Uuid,
    message_id: Uuid,
    /// What is shown, later evidence included.
    state: String,
    /// What was recorded first, by whom and when; null while there is nothing in history.
    recorded: Option<String>,
    recorded_kind: Option<String>,
    recorded_at: Option<DateTime<Utc>>,
    dispatcher_id: Option<i32>,
}

const ROWS: &str = "SELECT history.delivery_id, message_id, history.state, delivery.state AS recorded,
                           delivery.error_kind AS recorded_kind, delivery.finished_at AS recorded_at,
                           delivery.dispatcher_id
                    FROM postcall.delivery_history AS history
                    LEFT JOIN postcall.delivery USING (delivery_id)";

/// Committed calls and actions that are not in exactly one place.
const MISPLACED: &str = "WITH place AS (SELECT call_id, action_id FROM postcall.waiting
                                        UNION ALL SELECT call_id, action_id FROM postcall.sending
                                        UNION ALL SELECT call_id, action_id FROM postcall.delivery)
                         SELECT count(*) FROM (
                             SELECT FROM postcall.outbox
                             JOIN postcall.action ON action.agent = outbox.agent AND enabled
                             LEFT JOIN place ON place.call_id = outbox.id AND place.action_id = action.action_id
                             GROUP BY outbox.id, action.action_id HAVING count(place.call_id) <> 1) AS misplaced";

const COMMITTED: &str = "SELECT count(*) FROM postcall.outbox JOIN postcall.action USING (agent) WHERE enabled";

/// Checks that the promise was kept, prints the figures, and gives them. `acknowledged` are calls that the platform knows
/// to be committed.
///
/// - Nothing was requested more than once, and nothing that the database does not know.
/// - What is shown delivered or rejected was requested exactly once; what is shown failed, skipped or waiting, never.
/// - No request arrived after its delivery had been given up; see [`check_paused`].
/// - Every committed call and action is in exactly one place, and every acknowledged call is there.
/// - The model of the protocol accepts the trace of each delivery (`traces`).
pub async fn check(pool: &PgPool, tally: &Tally, acknowledged: &[Uuid]) -> Accounts {
    check_paused(pool, tally, acknowledged, 0).await
}

/// As [`check`], after dispatchers were paused so often under load.
///
/// A pause can hit a thread between its last look at the send gate and the system call that writes the request. No program
/// can close that gap from its side; it lets through one request per thread of the dispatcher's runtime at most.
pub async fn check_paused(pool: &PgPool, tally: &Tally, acknowledged: &[Uuid], pauses: usize) -> Accounts {
    let rows: Vec<Row> = sqlx::query_as(ROWS).fetch_all(pool).await.unwrap();
    let mut arrivals = tally.arrivals();
    let mut accounts = Accounts { requests: tally.requests(), ..Accounts::default() };
    for row in &rows {
        accounts.enter(row, arrivals.remove(&row.message_id));
    }
    for id in arrivals.keys() {
        accounts.wrongs.push(format!("{id} was requested and is not known to the database"));
    }
    accounts.balance(pool, rows.len(), acknowledged).await;
    let threads = std::thread::available_parallelism().unwrap().get();
    if accounts.late > pauses * threads {
        accounts.wrongs.push(format!("{} were requested after they had been given up", accounts.late));
    }
    println!("{accounts}");
    assert!(accounts.wrongs.is_empty(), "{} wrongs, first: {:#?}", accounts.wrongs.len(), accounts.first_wrongs());
    traces::check(pool, tally, COUNTED_LATE, pauses > 0).await;
    accounts
}

impl Accounts {
    /// How many are shown in this state.
    pub fn shown(&self, state: &str) -> usize {
        self.states.get(state).copied().unwrap_or(0)
    }

    fn enter(&mut self, row: &Row, arrivals: Option<Arrivals>) {
        let count = arrivals.map_or(0, |arrivals| arrivals.count);
        self.most_requests = self.most_requests.max(count);
        self.unrequested += usize::from(count == 0);
        *self.states.entry(row.state.clone()).or_default() += 1;
        if let (Some("unknown"), Some(dispatcher)) = (row.recorded.as_deref(), row.dispatcher_id) {
            *self.doubts.entry(dispatcher).or_default() += 1;
        }
        let fits = match row.state.as_str() {
            "delivered" | "rejected" => count == 1,
            "failed" | "skipped" | "waiting" => count == 0,
            _ => count <= 1,
        };
        if !fits {
            self.wrongs.push(format!("{} is {} and was requested {count} times", row.delivery_id, row.state));
        }
        let given_up = row.recorded_at.filter(|_| row.recorded_kind.as_deref() == Some("dispatcher_lost"));
        if let (Some(given_up), Some(arrivals)) = (given_up, arrivals)
            && arrivals.first_at > given_up + COUNTED_LATE
        {
            self.late += 1;
        }
    }

    async fn balance(&mut self, pool: &PgPool, deliveries: usize, acknowledged: &[Uuid]) {
        let committed: i64 = sqlx::query_scalar(COMMITTED).fetch_one(pool).await.unwrap();
        self.committed = usize::try_from(committed).unwrap();
        if deliveries != self.committed {
            self.wrongs.push(format!("{} deliveries committed, {deliveries} to be found", self.committed));
        }
        let misplaced: i64 = sqlx::query_scalar(MISPLACED).fetch_one(pool).await.unwrap();
        if misplaced > 0 {
            self.wrongs.push(format!("{misplaced} calls and actions are not in exactly one place"));
        }
        let there = "SELECT count(*) FROM postcall.outbox WHERE id = ANY ($1)";
        let there: i64 = sqlx::query_scalar(there).bind(acknowledged).fetch_one(pool).await.unwrap();
        if usize::try_from(there).unwrap() != acknowledged.len() {
            self.wrongs.push(format!("{there} of {} acknowledged calls are left", acknowledged.len()));
        }
    }

    fn first_wrongs(&self) -> &[String] {
        &self.wrongs[..self.wrongs.len().min(10)]
    }
}

impl fmt::Display for Accounts {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "accounts: {} committed, {} requests, {} at most for one delivery, {} never requested;",
            self.committed, self.requests, self.most_requests, self.unrequested
        )?;
        for (state, count) in &self.states {
            write!(formatter, " {state} {count}")?;
        }
        write!(formatter, "; doubted at first {}, late {}", self.doubts.values().sum::<usize>(), self.late)
    }
}
