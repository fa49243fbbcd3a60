//! Searching history: a year of history makes sense as a whole, every question finds what it shows, and a search that
//! takes too long says how far it came.

use postcall::domain::delivery::State;
use postcall::domain::error_kind::ErrorKind;
use postcall::store::history::HistoryFilter;
use postcall::store::search::Reached;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use uuid::Uuid;

use crate::support::database::Database;
use crate::support::process::{postcall_on, stderr, stdout};

/// The rows that the benchmark measures, few of them.
const YEAR: &str = include_str!("../../benches/dispatch/history.sql");

async fn database_with_a_year() -> Database {
    let database = Database::new().await;
    let mut connection = PgConnection::connect(&database.url).await.unwrap();
    let script = format!("SET bench.rows = 2000; SET bench.waiting = 100; {YEAR}; ANALYZE");
    sqlx::raw_sql(AssertSqlSafe(script)).execute(&mut connection).await.unwrap();
    database
}

/// The ids of all that matches: page after page, and on a busy machine window after window.
async fn everything(database: &Database, filter: &HistoryFilter, page: usize) -> Vec<Uuid> {
    let (mut ids, mut after, mut filter) = (Vec::new(), None, filter.clone());
    loop {
        let found = database.store.search(&filter, after, page).await.unwrap();
        ids.extend(found.rows.iter().map(|row| row.delivery_id));
        match found.reached {
            Reached::End => return ids,
            Reached::Limit => after = ids.last().copied(),
            Reached::Time(until) => (filter.until, after) = (Some(until), None),
            Reached::Before(id) => after = Some(id),
        }
    }
}

#[tokio::test]
async fn a_year_of_history_holds_every_invariant_and_is_found_whole_by_every_question() {
    let database = database_with_a_year().await;
    for checked in database.store.check_invariants().await.unwrap().checked {
        assert_eq!(checked.offenders, Vec::<String>::new(), "{:?}", checked.invariant);
    }
    let of = |change: &dyn Fn(&mut HistoryFilter)| {
        let mut filter = HistoryFilter::default();
        change(&mut filter);
        filter
    };
    let questions: [(HistoryFilter, &str); 9] = [
        (HistoryFilter::default(), "true"),
        (of(&|filter| filter.agent = Some("agent_0".to_owned())), "agent = 'agent_0'"),
        (of(&|filter| filter.action = Some("crm".to_owned())), "action = 'crm'"),
        (of(&|filter| filter.action = Some("nobody's".to_owned())), "action = 'nobody''s'"),
        (of(&|filter| filter.states = Some(vec![State::Delivered])), "state = 'delivered'"),
        (of(&|filter| filter.response_code = Some(204)), "response_code = 204"),
        (of(&|filter| filter.response_code = Some(500)), "response_code = 500"),
        (of(&|filter| filter.error_kind = ErrorKind::named("connect")), "error_kind = 'connect'"),
        (
            of(&|filter| {
                filter.since = Some("2026-01-01T00:00:00Z".parse().unwrap());
                filter.until = Some("2026-06-01T00:00:00Z".parse().unwrap());
            }),
            "created_at >= '2026-01-01Z' AND created_at < '2026-06-01Z'",
        ),
    ];
    for (filter, condition) in questions {
        let sql = format!("SELECT count(*) FROM postcall.delivery_history WHERE {condition}");
        let expected = usize::try_from(database.number(&sql).await).unwrap();
        let found = everything(&database, &filter, 10_000).await;
        assert_eq!(found.len(), expected, "{condition}");
        assert!(found.is_sorted_by(|newer, older| newer > older), "{condition}");
        assert_eq!(everything(&database, &filter, 400).await, found, "page by page it is the same: {condition}");
    }
}

#[tokio::test]
async fn a_search_that_takes_too_long_says_how_far_it_got_and_goes_on_from_there() {
    let database = Database::new().await;
    let (newest, oldest) = ("2026-11-20T12:00:00Z", "2026-03-01T12:00:00Z");
    database.publish("a", "rare", &json!({"method": "POST", "url": "https://receiver.example/"})).await;
    // Each look at a waiting delivery from before November takes longer than a search may.
    database
        .execute(&format!(
            "INSERT INTO postcall.waiting (delivery_id, call_id, agent, action_id, created_at)
             SELECT postcall.uuid_v7_floor(at), postcall.uuid_v7(), 'a', action_id, at
             FROM postcall.action, unnest(ARRAY['{newest}', '{oldest}']::timestamptz[]) AS at;
             ALTER TABLE postcall.waiting RENAME TO queue;
             CREATE VIEW postcall.waiting AS SELECT * FROM postcall.queue
                 WHERE delivery_id >= postcall.uuid_v7_floor('2026-11-01Z') OR pg_sleep(2) IS NOT NULL"
        ))
        .await;
    let search = |more: &[&str]| {
        let output = postcall_on(&database, &[&["history", "--action", "rare", "--format", "json"], more].concat());
        assert!(output.status.success(), "{}", stderr(&output));
        let rows: Value = serde_json::from_str(&stdout(&output)).unwrap();
        let created: Vec<String> =
            rows.as_array().unwrap().iter().map(|row| row["created_at"].as_str().unwrap().to_owned()).collect();
        (created, stderr(&output))
    };
    let (created, said) = search(&[]);
    assert_eq!(created, [newest]);
    let until = said.trim().rsplit_once("repeat with --until ").map(|(_, until)| until.to_owned());
    let until = until.unwrap_or_else(|| panic!("{said}"));
    assert!(said.starts_with(&format!("searched back to {until}; for what is older, ")), "{said}");
    assert!(*until < *newest && *until > *oldest, "{until}");
    // Once nothing is slow any more, what was left is found, and nothing twice.
    database.execute("DROP VIEW postcall.waiting; ALTER TABLE postcall.queue RENAME TO waiting").await;
    assert_eq!(search(&["--until", &until]).0, [oldest]);
}
