//! Measures what a question costs in a database with a year of history, through the program's own statements, and by
//! SQL as an auditor asks it. Each question is asked several times. The first time, which reads from the disk, is not
//! counted. A figure above its limit is marked, but nothing fails because of its time.

use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use postcall::domain::delivery::State;
use postcall::domain::error_kind::ErrorKind;
use postcall::store::history::HistoryFilter;
use postcall::store::invariants::Invariant;
use postcall::store::search::Reached;
use serde_json::json;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use uuid::Uuid;

use crate::database::Database;
use crate::print::{chapter, keep, note, percentile, rounded};

/// The script that makes the rows.
const ROWS: &str = include_str!("history.sql");
const AUDITING: &str = include_str!("../../docs/auditing.md");

/// How often each question is asked.
const ASKED: usize = 7;
/// The limits, in milliseconds. This one is for the newest page, and for questions that name a call, an agent, a
/// delivery, a state or a day. The next one is for every other question, and the last one for the check of the
/// accounts.
const NAMED_MS: f64 = 50.0;
const OTHER_MS: f64 = 1_000.0;
const ACCOUNTS_MS: f64 = 30_000.0;
/// The rows of a page, and one more, which shows whether there is another page.
const PAGE: usize = 51;

/// Makes a database with `rows` deliveries of a year, and `waiting` deliveries that wait.
pub async fn database(rows: i64, waiting: i64) -> Database {
    let database = Database::new("bench_history").await;
    fill(&database, rows, waiting).await;
    database
}

/// Measures and prints all figures of this subject. `plans` says whether to print the statements' plans.
pub async fn measure(database: Database, plans: bool) {
    let [rows, waiting] = ["delivery", "waiting"].map(|table| format!("SELECT count(*) FROM postcall.{table}"));
    let (rows, waiting) = (database.number(&rows).await, database.number(&waiting).await);
    chapter(&format!("History: {rows} deliveries of a year, and {waiting} that wait"));
    if plans {
        explain_everything(&database).await;
    }
    let known = Known::look_up(&database).await;
    note("Through the program: the median of some, in milliseconds, and the limit.");
    for (what, limit, filter) in questions(&known) {
        ask_program(&database, what, limit, &filter).await;
    }
    note("By SQL, as postcall_auditor: the view's newest page, and what docs/auditing.md asks.");
    ask_sql(&database, &known).await;
    note("The accounts.");
    let started = Instant::now();
    let accounts = database.store.check_invariants().await.unwrap();
    line("check-invariants", started.elapsed().as_secs_f64() * 1_000.0, ACCOUNTS_MS, "");
    // A database that was filled before may have the schema of another release, and its deliveries in flight stay in
    // flight.
    let asked = accounts
        .checked
        .iter()
        .filter(|checked| !matches!(checked.invariant, Invariant::NoneStuck | Invariant::GuardsOn));
    assert_eq!(asked.map(|checked| checked.violations).sum::<i64>(), 0, "WRONG: {:?}", accounts.checked);
    database.close().await;
}

/// Makes `rows` deliveries of a year, and `waiting` deliveries that wait.
pub async fn fill(database: &Database, rows: i64, waiting: i64) {
    let started = Instant::now();
    let mut connection = PgConnection::connect(&database.url).await.unwrap();
    let script = format!("SET bench.rows = {rows}; SET bench.waiting = {waiting}; {ROWS}");
    sqlx::raw_sql(AssertSqlSafe(script)).execute(&mut connection).await.unwrap();
    sqlx::raw_sql("VACUUM ANALYZE").execute(&mut connection).await.unwrap();
    sqlx::raw_sql("CHECKPOINT").execute(&mut connection).await.unwrap();
    note(&format!("The rows were made in {} s.", started.elapsed().as_secs()));
}

/// Lets the server send the plan of every statement. The database driver writes it to the log.
async fn explain_everything(database: &Database) {
    tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).without_time().init();
    for setting in [
        "session_preload_libraries = 'auto_explain'",
        "auto_explain.log_min_duration = 0",
        "auto_explain.log_analyze = on",
        "auto_explain.log_buffers = on",
        "auto_explain.log_level = 'notice'",
        "client_min_messages = 'notice'",
    ] {
        let set = format!(
            "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET {}', current_database()); END $$",
            setting.replace('\'', "''")
        );
        database.execute(&set).await;
    }
}

/// Values that exist in the database, to ask for.
struct Known {
    call_id: Uuid,
    waiting_call_id: Uuid,
    delivery_id: Uuid,
    call_sid: String,
    day: DateTime<Utc>,
}

impl Known {
    async fn look_up(database: &Database) -> Known {
        let (delivery_id, call_id, call_sid, day) = sqlx::query_as(
            "SELECT delivery_id, call_id, call_sid, date_trunc('day', created_at) FROM postcall.delivery
             WHERE delivery_id >= postcall.uuid_v7_floor(now() - interval '200 days') ORDER BY delivery_id LIMIT 1",
        )
        .fetch_one(&database.pool)
        .await
        .unwrap();
        let waiting = "SELECT call_id FROM postcall.waiting ORDER BY delivery_id DESC LIMIT 1";
        let waiting_call_id = sqlx::query_scalar(waiting).fetch_one(&database.pool).await.unwrap();
        Known { call_id, waiting_call_id, delivery_id, call_sid, day }
    }
}

fn questions(known: &Known) -> Vec<(&'static str, f64, HistoryFilter)> {
    let with = |change: &dyn Fn(&mut HistoryFilter)| {
        let mut filter = HistoryFilter::default();
        change(&mut filter);
        filter
    };
    let text = |value: &str| Some(value.to_owned());
    let states = |states: &[&str]| Some(states.iter().filter_map(|state| State::named(state)).collect());
    vec![
        ("(the newest page)", NAMED_MS, with(&|_| {})),
        ("--call-id", NAMED_MS, with(&|filter| filter.call_id = Some(known.call_id))),
        ("--call-id of one that waits", NAMED_MS, with(&|filter| filter.call_id = Some(known.waiting_call_id))),
        ("--call-sid", NAMED_MS, with(&|filter| filter.call_sid = Some(known.call_sid.clone()))),
        ("--call-sid that there is not", NAMED_MS, with(&|filter| filter.call_sid = text("nothing"))),
        ("(one delivery, for show)", NAMED_MS, with(&|filter| filter.delivery_ids = Some(vec![known.delivery_id]))),
        ("--agent with 10 % of all", NAMED_MS, with(&|filter| filter.agent = text("agent_0"))),
        ("--agent with few", NAMED_MS, with(&|filter| filter.agent = text("agent_999"))),
        ("--agent with all that wait", NAMED_MS, with(&|filter| filter.agent = text("agent_1"))),
        (
            "--agent --state failed",
            NAMED_MS,
            with(&|filter| {
                filter.agent = text("agent_0");
                filter.states = states(&["failed"]);
            }),
        ),
        ("--state waiting", NAMED_MS, with(&|filter| filter.states = states(&["waiting"]))),
        ("--state sending", NAMED_MS, with(&|filter| filter.states = states(&["sending"]))),
        ("--state failed", NAMED_MS, with(&|filter| filter.states = states(&["failed"]))),
        ("--state rejected", NAMED_MS, with(&|filter| filter.states = states(&["rejected"]))),
        ("--state unknown", NAMED_MS, with(&|filter| filter.states = states(&["unknown"]))),
        ("--state skipped", NAMED_MS, with(&|filter| filter.states = states(&["skipped"]))),
        ("--state failed --state unknown", NAMED_MS, with(&|filter| filter.states = states(&["failed", "unknown"]))),
        ("--open", NAMED_MS, with(&|filter| filter.open = true)),
        (
            "--open --agent",
            NAMED_MS,
            with(&|filter| {
                filter.agent = text("agent_0");
                filter.open = true;
            }),
        ),
        (
            "--since and --until of a day",
            NAMED_MS,
            with(&|filter| {
                filter.since = Some(known.day);
                filter.until = Some(known.day + TimeDelta::days(1));
            }),
        ),
        ("--state delivered", OTHER_MS, with(&|filter| filter.states = states(&["delivered"]))),
        ("--error-kind dns", OTHER_MS, with(&|filter| filter.error_kind = ErrorKind::named("dns"))),
        ("--error-kind timeout", OTHER_MS, with(&|filter| filter.error_kind = ErrorKind::named("timeout"))),
        ("--response-code 404", OTHER_MS, with(&|filter| filter.response_code = Some(404))),
        ("--response-code 418 (none)", OTHER_MS, with(&|filter| filter.response_code = Some(418))),
        ("--response-code 204", OTHER_MS, with(&|filter| filter.response_code = Some(204))),
        ("--response-code 299 (none)", OTHER_MS, with(&|filter| filter.response_code = Some(299))),
        ("--action of 100 agents", OTHER_MS, with(&|filter| filter.action = text("crm"))),
        ("--action that there is not", OTHER_MS, with(&|filter| filter.action = text("nothing"))),
    ]
}

async fn ask_program(database: &Database, what: &str, limit: f64, filter: &HistoryFilter) {
    let mut times = Vec::with_capacity(ASKED);
    let mut told = String::new();
    for _ in 0..=ASKED {
        let started = Instant::now();
        let found = database.store.search(filter, None, PAGE).await.unwrap();
        times.push(started.elapsed().as_secs_f64() * 1_000.0);
        told = match found.reached {
            Reached::Limit => String::new(),
            Reached::End => format!("{} in all", found.rows.len()),
            Reached::Time(until) => format!("{} back to {until}", found.rows.len()),
            Reached::Before(id) => format!("{} back to {id}", found.rows.len()),
        };
    }
    times.remove(0);
    line(&format!("history {what}"), percentile(&mut times, 0.5), limit, &told);
}

/// Asks the statements of docs/auditing.md, with values that exist in the database.
async fn ask_sql(database: &Database, known: &Known) {
    let page = "SELECT * FROM postcall.delivery_history ORDER BY delivery_id DESC LIMIT 50";
    let failed = "SELECT * FROM postcall.delivery_history WHERE state = 'failed' ORDER BY delivery_id DESC LIMIT 50";
    let mut statements = vec![("the newest page of the view".to_owned(), page.to_owned(), NAMED_MS)];
    statements.push(("the newest page of what failed".to_owned(), failed.to_owned(), NAMED_MS));
    let tuesday = known.day.format("%Y-%m-%d").to_string();
    let (before, after) = (known.day - TimeDelta::days(1), known.day + TimeDelta::days(1));
    for part in AUDITING.split("\n**").skip(1) {
        let Some((title, rest)) = part.split_once("**") else { continue };
        let Some((_, sql)) = rest.split_once("```sql\n-- as postcall_auditor\n") else { continue };
        let sql = sql.split("\n```").next().unwrap_or_default();
        let sql = sql
            .replace("CA123", &known.call_sid)
            .replace("agent_7f3k2", "agent_0")
            .replace("2026-11-17", &tuesday)
            .replace("2026-11-16", &before.format("%Y-%m-%d").to_string())
            .replace("2026-11-18", &after.format("%Y-%m-%d").to_string());
        let whole = title.contains("accounts");
        statements.push((title.to_owned(), sql, if whole { ACCOUNTS_MS } else { limit_of(title) }));
    }
    let mut auditor = PgConnection::connect(&database.url).await.unwrap();
    sqlx::raw_sql("SET ROLE postcall_auditor").execute(&mut auditor).await.unwrap();
    for (what, sql, limit) in statements {
        let mut times = Vec::with_capacity(ASKED);
        for _ in 0..=ASKED {
            let started = Instant::now();
            sqlx::raw_sql(AssertSqlSafe(sql.clone())).fetch_all(&mut auditor).await.unwrap();
            times.push(started.elapsed().as_secs_f64() * 1_000.0);
            if started.elapsed() > Duration::from_secs(5) {
                break;
            }
        }
        if times.len() > 1 {
            times.remove(0);
        }
        line(&what, percentile(&mut times, 0.5), limit, "");
    }
}

/// The limit of a statement of docs/auditing.md. Statements that count or sort everything of a kind are allowed more
/// time.
fn limit_of(title: &str) -> f64 {
    let counts = ["slow", "waiting", "placeholders", "each call"];
    if counts.iter().any(|word| title.contains(word)) { OTHER_MS } else { NAMED_MS }
}

fn line(what: &str, ms: f64, limit: f64, told: &str) {
    keep(what, json!(ms), "ms", None, ASKED);
    let mark = if ms > limit { "ABOVE" } else { "" };
    let limit = rounded(limit);
    println!("{what:<58}{:>10} ms  of {limit:>6}  {mark:<6}{told}", rounded(ms));
}
