//! The end: compares what the receivers wrote down with what the database shows.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Duration, Utc};
use futures_util::TryStreamExt;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::members::{LEASE_MS, PLACES, UNRECORDED};
use crate::receivers::Seen;
use crate::run::Run;
use crate::scene::Agent;

/// How much later than it was sent a request may have been counted on a busy machine.
const COUNTED_LATE: Duration = Duration::milliseconds(500);
/// So long after an outage those that did not renew their lease are still being given up.
const AFTERMATH: Duration = Duration::milliseconds(4 * LEASE_MS as i64);
/// Wrongs that are told in full.
const STORIES: usize = 5;

/// One delivery as the database shows it.
#[derive(sqlx::FromRow)]
struct Row {
    delivery_id: Uuid,
    message_id: Uuid,
    agent: String,
    /// What is shown, later evidence and findings included.
    state: String,
    recorded: Option<String>,
    error_kind: Option<String>,
    dispatcher_id: Option<i32>,
    finished_at: Option<DateTime<Utc>>,
}

const ROWS: &str = "SELECT history.delivery_id, message_id, history.agent, history.state, delivery.state AS recorded,
                           delivery.error_kind, delivery.dispatcher_id, delivery.finished_at
                    FROM postcall.delivery_history AS history LEFT JOIN postcall.delivery USING (delivery_id)";

/// Committed calls and actions that do not have exactly one delivery, replays not counted.
const MISPLACED: &str = "
    WITH place AS (SELECT delivery_id, call_id, action_id FROM postcall.waiting
                   UNION ALL SELECT delivery_id, call_id, action_id FROM postcall.sending
                   UNION ALL SELECT delivery_id, call_id, action_id FROM postcall.delivery),
         original AS (SELECT call_id, action_id FROM place
                      WHERE NOT EXISTS (SELECT FROM postcall.replay WHERE replay.delivery_id = place.delivery_id))
    SELECT outbox.id FROM postcall.outbox
    JOIN postcall.action ON action.agent = outbox.agent
    LEFT JOIN original ON original.call_id = outbox.id AND original.action_id = action.action_id
    GROUP BY outbox.id, action.action_id HAVING count(original.call_id) <> 1 LIMIT 10";

const COMMITTED: &str = "SELECT count(*) FROM postcall.outbox JOIN postcall.action USING (agent)";

/// What is known of one message: all its deliveries together.
#[derive(Clone, Copy, Default)]
struct Message {
    seen: Seen,
    /// Deliveries that were taken for certain, and those that may have been.
    taken: u16,
    doubtful: u16,
    deliveries: u16,
}

/// The books.
#[derive(Default)]
pub struct Books {
    messages: HashMap<u128, Message>,
    deliveries: u64,
    replays: u64,
    states: BTreeMap<(String, String), u64>,
    /// Deliveries that each dispatcher left behind when it was given up.
    left: HashMap<i32, usize>,
    /// Requests that came after their deliveries had been given up, and which they are.
    late: Vec<Uuid>,
    /// What is wrong, and with which message.
    pub wrongs: Vec<(Option<Uuid>, String)>,
}

/// Draws up the books from what the receivers wrote down.
pub async fn draw_up(run: &Run, seen: HashMap<u128, Seen>, acknowledged: &[Uuid]) -> Books {
    let mut connection = run.ways.connect().await.unwrap();
    sqlx::query("SET work_mem = '256MB'").execute(&mut connection).await.unwrap();
    let mut books = Books::default();
    books.messages.reserve(seen.len());
    books.messages.extend(seen.into_iter().map(|(id, seen)| (id, Message { seen, ..Message::default() })));
    {
        let mut rows = sqlx::query_as::<_, Row>(ROWS).fetch(&mut connection);
        while let Some(row) = rows.try_next().await.unwrap() {
            books.enter(run, &row);
        }
    }
    books.balance_messages();
    books.balance_doubts(run);
    books.balance_calls(&mut connection, acknowledged).await;
    books
}

impl Books {
    fn wrong(&mut self, message: Uuid, what: String) {
        self.wrongs.push((Some(message), what));
    }

    fn enter(&mut self, run: &Run, row: &Row) {
        self.deliveries += 1;
        self.replays += u64::from(row.delivery_id != row.message_id);
        *self.states.entry((row.agent.clone(), row.state.clone())).or_default() += 1;
        let message = self.messages.entry(row.message_id.as_u128()).or_default();
        message.deliveries += 1;
        match row.state.as_str() {
            "delivered" | "rejected" => message.taken += 1,
            "unknown" => message.doubtful += 1,
            _ => {}
        }
        let seen = message.seen;
        if matches!(row.state.as_str(), "waiting" | "sending") {
            self.wrong(row.message_id, format!("{} has not ended: it is {}", row.delivery_id, row.state));
        } else if row.state != "unknown" && !Agent::may_end_as(&row.agent, &row.state) {
            self.wrong(row.message_id, format!("{} of {} ended as {}", row.delivery_id, row.agent, row.state));
        }
        if row.recorded.as_deref() != Some("unknown") {
            return;
        }
        if row.error_kind.as_deref() != Some("dispatcher_lost") {
            if !Agent::may_be_in_doubt(&row.agent) {
                let kind = row.error_kind.as_deref().unwrap_or("nothing");
                self.wrong(row.message_id, format!("{} of {} is in doubt by {kind}", row.delivery_id, row.agent));
            }
            return;
        }
        let (Some(dispatcher), Some(given_up)) = (row.dispatcher_id, row.finished_at) else { return };
        *self.left.entry(dispatcher).or_default() += 1;
        if !is_excused(run, dispatcher, given_up) {
            let what = format!("{} was given up, and nothing had happened to dispatcher {dispatcher}", row.delivery_id);
            self.wrong(row.message_id, what);
        }
        if row.delivery_id == row.message_id && seen.count == 1 && run.record.time_of(seen) > given_up + COUNTED_LATE {
            self.late.push(row.message_id);
        }
    }

    /// Nothing arrived more often than it was taken or may have been taken, nor less often than it was taken.
    fn balance_messages(&mut self) {
        for (id, message) in &self.messages {
            let (count, taken, doubtful) = (message.seen.count, message.taken, message.doubtful);
            if (taken..=taken + doubtful).contains(&count) && message.deliveries > 0 {
                continue;
            }
            let what = if message.deliveries == 0 {
                format!("arrived {count} times, and the database does not know it")
            } else {
                format!("arrived {count} times; {taken} deliveries of it were taken, {doubtful} may have been")
            };
            self.wrongs.push((Some(Uuid::from_u128(*id)), what));
        }
    }

    /// Those who were given up left no more than they could have in flight, and sent nothing afterwards.
    fn balance_doubts(&mut self, run: &Run) {
        for (dispatcher, left) in &self.left {
            if *left > PLACES + UNRECORDED {
                self.wrongs.push((None, format!("dispatcher {dispatcher} left {left} doubts")));
            }
        }
        // A pause, also that of a process that waits for a processor, can hit a thread between its last look at the send gate
        // and the write. No program can close that gap; it lets through one request of each thread at most.
        let threads = std::thread::available_parallelism().unwrap().get();
        let most = usize::try_from(run.counts.pauses.get()).unwrap() * threads;
        if self.late.len() > most {
            let first = self.late.first().copied();
            let what = format!("{} arrived after they had been given up, {most} at most", self.late.len());
            self.wrongs.push((first, what));
        }
    }

    async fn balance_calls(&mut self, connection: &mut PgConnection, acknowledged: &[Uuid]) {
        let committed: i64 = sqlx::query_scalar(COMMITTED).fetch_one(&mut *connection).await.unwrap();
        let originals = self.deliveries - self.replays;
        if committed.unsigned_abs() != originals {
            self.wrongs.push((None, format!("{committed} deliveries were committed, {originals} are there")));
        }
        let misplaced: Vec<Uuid> = sqlx::query_scalar(MISPLACED).fetch_all(&mut *connection).await.unwrap();
        for call in misplaced {
            self.wrongs.push((None, format!("call {call} does not have exactly one delivery for each action")));
        }
        for some in acknowledged.chunks(20_000) {
            let missing: Option<Uuid> = sqlx::query_scalar(
                "SELECT id FROM unnest($1::uuid[]) AS acknowledged (id)
                 WHERE NOT EXISTS (SELECT FROM postcall.outbox WHERE outbox.id = acknowledged.id) LIMIT 1",
            )
            .bind(some)
            .fetch_optional(&mut *connection)
            .await
            .unwrap();
            self.wrongs.extend(missing.map(|call| (None, format!("call {call} was acknowledged and is lost"))));
        }
    }

    /// Prints the figures.
    pub fn print(&self) {
        let of = |state: &str| self.states.iter().filter(|((_, have), _)| have == state).map(|(_, count)| count).sum();
        let (delivered, unknown): (u64, u64) = (of("delivered"), of("unknown"));
        let (left, most) = (self.left.values().sum::<usize>(), self.left.values().max().copied().unwrap_or(0));
        let twice = self.messages.values().filter(|message| message.seen.count > message.deliveries).count();
        println!(
            "{} deliveries, {} of them replays; {} delivered, {unknown} unknown, {twice} sent twice; {left} left behind by \
             dispatchers that were lost, {most} at most by one; {} arrived after they had been given up",
            self.deliveries,
            self.replays,
            delivered,
            self.late.len()
        );
        let mut of_agent: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for ((agent, state), count) in &self.states {
            of_agent.entry(agent).or_default().push(format!("{count} {state}"));
        }
        for (agent, states) in of_agent {
            println!("    {agent}: {}", states.join(", "));
        }
    }

    /// Tells what is wrong, the first in full.
    pub async fn tell(&self, run: &Run) {
        println!("\n{} wrongs:", self.wrongs.len());
        for (message, what) in self.wrongs.iter().take(STORIES) {
            println!("- {}{what}", message.map_or(String::new(), |message| format!("{message}: ")));
            if let Some(message) = message {
                story(run, *message).await;
            }
        }
        for (message, what) in self.wrongs.iter().skip(STORIES).take(50) {
            println!("- {}{what}", message.map_or(String::new(), |message| format!("{message}: ")));
        }
    }
}

/// Whether a dispatcher may have been given up: it was killed or paused, or the database was gone.
fn is_excused(run: &Run, dispatcher: i32, given_up: DateTime<Utc>) -> bool {
    let lives = run.register.lives.lock().unwrap();
    // What was killed before it could say its id is not known.
    if lives.get(&dispatcher).is_none_or(|life| life.killed || life.paused) {
        return true;
    }
    let outages = run.outages.lock().unwrap();
    outages.iter().any(|(from, to)| *from <= given_up && given_up <= *to + AFTERMATH)
}

/// One row of history, as it is told.
#[derive(sqlx::FromRow)]
struct Told {
    told: String,
    claimed_at: Option<DateTime<Utc>>,
    finished_at: Option<DateTime<Utc>>,
}

/// Prints all that is known of one message.
async fn story(run: &Run, message: Uuid) {
    let mut connection = run.ways.connect().await.unwrap();
    let rows: Vec<Told> = sqlx::query_as(
        "SELECT to_jsonb(history) #>> '{}' AS told, claimed_at, finished_at FROM postcall.delivery_history AS history
         WHERE message_id = $1 ORDER BY delivery_id",
    )
    .bind(message)
    .fetch_all(&mut connection)
    .await
    .unwrap();
    let seen = run.record.all().get(&message.as_u128()).copied();
    if let Some(seen) = seen {
        println!("    the receiver has it {} times, first at {}", seen.count, run.record.time_of(seen));
    }
    for Told { told, claimed_at: claimed, finished_at: finished } in rows {
        println!("    {told}");
        let (Some(claimed), Some(finished)) = (claimed, finished) else { continue };
        for event in run.events(claimed - Duration::seconds(6), finished + Duration::seconds(6)) {
            println!("        {event}");
        }
    }
}
