//! Searching history: a year of it holds together, every question finds what it shows, and a search that takes too long says how
//! far it got.

use postcall::store::history::HistoryFilter;
use postcall::store::search::Reached;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::support::database::Database;
use crate::support::process::{postcall_at, stderr, stdout};

/// The rows that the benchmark measures, few of them.
const YEAR: &str = include_str!("../../benches/dispatch/history.sql");

async fn database_with_a_year() -> Database {
    let database = Database::new().await;
    let mut connection = PgConnection::connect(&database.url).await.unwrap();
    let script = format!("SET bench.rows = 2000; SET bench.waiting = 100; {YEAR}; ANALYZE");
    sqlx::raw_sql(AssertSqlSafe(script)).execute(&mut connection).await.unwrap();
    database
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
        (of(&|filter| filter.states = Some(vec!["delivered".to_owned()])), "state = 'delivered'"),
        (of(&|filter| filter.response_code = Some(204)), "response_code = 204"),
        (of(&|filter| filter.response_code = Some(500)), "response_code = 500"),
        (of(&|filter| filter.error_kind = Some("connect".to_owned())), "error_kind = 'connect'"),
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
        let found = database.store.search(&filter, None, 10_000).await.unwrap();
        assert_eq!((found.rows.len(), found.reached), (expected, Reached::End), "{condition}");
        assert!(found.rows.is_sorted_by(|newer, older| newer.delivery_id > older.delivery_id), "{condition}");
        // Page by page it is the same.
        let mut paged = Vec::new();
        loop {
            let after = paged.last().copied();
            let page = database.store.search(&filter, after, 400).await.unwrap();
            paged.extend(page.rows.iter().map(|row| row.delivery_id));
            if page.reached != Reached::Limit {
                break;
            }
        }
        assert_eq!(paged, found.rows.iter().map(|row| row.delivery_id).collect::<Vec<_>>(), "{condition}");
    }
}

#[tokio::test]
async fn a_search_that_takes_too_long_says_how_far_it_got_and_goes_on_from_there() {
    let database = Database::new().await;
    let name = database.text("SELECT current_database()").await.unwrap();
    let (newest, oldest) = ("2026-11-20T12:00:00Z", "2026-03-01T12:00:00Z");
    database
        .execute(
            "INSERT INTO postcall.action (agent, name, enabled, version) VALUES ('a', 'rare', true, 1);
                      INSERT INTO postcall.action_version (action_id, version, method, url, timeout_ms)
                      SELECT action_id, 1, 'POST', 'https://receiver.example/', 1000 FROM postcall.action",
        )
        .await;
    for at in [newest, oldest] {
        database
            .execute(&format!(
                "INSERT INTO postcall.delivery (delivery_id, call_id, claim, action_id, created_at, claimed_at, finished_at,
                     action_version, dispatcher_id, agent, state)
                 SELECT postcall.uuid_v7_floor('{at}'), postcall.uuid_v7(), postcall.uuid_v7(), action_id, '{at}', '{at}',
                        '{at}', 1, 1, 'a', 'skipped' FROM postcall.action"
            ))
            .await;
    }
    // For this auditor, each look at what is older than November takes longer than a search may.
    database
        .execute(&format!(
            "CREATE USER slow_{name} IN ROLE postcall_auditor;
             ALTER TABLE postcall.delivery ENABLE ROW LEVEL SECURITY;
             CREATE POLICY slowly ON postcall.delivery FOR SELECT
                 USING (delivery_id >= postcall.uuid_v7_floor('2026-11-01Z') OR pg_sleep(2) IS NOT NULL)"
        ))
        .await;
    let url = database.url.replace("postgres@", &format!("slow_{name}@"));
    let search = |more: &[&str]| {
        let output = postcall_at(&url, &[&["history", "--action", "rare", "--format", "json"], more].concat());
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
    // Other questions of the same auditor find their rows by an index, and so does he himself once it is no longer slow.
    database.execute("ALTER TABLE postcall.delivery DISABLE ROW LEVEL SECURITY").await;
    let (created, said) = search(&["--until", &until]);
    assert_eq!((created, said.as_str()), (vec![oldest.to_owned()], ""));
    assert_eq!(json!(search(&[]).0), json!([newest, oldest]));
}
