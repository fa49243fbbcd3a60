//! Searching history: a year of history makes sense as a whole, every question finds what it shows, and a search that
//! takes too long says how far it came.

use chrono::{DateTime, Utc};
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

#[tokio::test]
async fn a_window_that_takes_too_long_is_made_narrower() {
    let database = Database::new().await;
    let (newest, older) = ("2026-11-20T12:00:00Z", "2026-11-20T11:30:00Z");
    database.publish("a", "rare", &json!({"method": "POST", "url": "https://receiver.example/"})).await;
    // Both are within the first window, and a look at the older one takes longer than any search may.
    database
        .execute(&format!(
            "INSERT INTO postcall.waiting (delivery_id, call_id, agent, action_id, created_at)
             SELECT postcall.uuid_v7_floor(at), postcall.uuid_v7(), 'a', action_id, at
             FROM postcall.action, unnest(ARRAY['{newest}', '{older}']::timestamptz[]) AS at;
             ALTER TABLE postcall.waiting RENAME TO queue;
             CREATE VIEW postcall.waiting AS SELECT * FROM postcall.queue
                 WHERE delivery_id >= postcall.uuid_v7_floor('{newest}') OR pg_sleep(2) IS NOT NULL"
        ))
        .await;
    let filter = HistoryFilter { action: Some("rare".to_owned()), ..HistoryFilter::default() };
    let found = database.store.search(&filter, None, PAGE).await.unwrap();
    assert_eq!(found.rows.len(), 1);
    let Reached::Time(until) = found.reached else { panic!("{:?}", found.reached) };
    assert!(until > older.parse::<DateTime<Utc>>().unwrap() && until < newest.parse::<DateTime<Utc>>().unwrap());
}

/// How many rows are asked for.
const PAGE: usize = 20;
/// What may be read for them: of each of five states and a few partitions and lanes, a page and a little more.
const MOST_READ: i64 = 400;

/// How many rows of the tables with this name are read by a search, by whatever way.
async fn read_by(database: &Database, table: &str, filter: &HistoryFilter) -> (usize, i64) {
    let store = postcall::store::Store::connect(&database.url, 1).await.unwrap();
    let found = store.search(filter, None, PAGE).await.unwrap().rows.len();
    // The server counts what a session did when the session ends.
    store.close().await;
    let tables = format!("schemaname = 'postcall' AND relname ~ '^{table}(_20.*)?$'");
    let scans = format!("SELECT sum(seq_scan + idx_scan) > 0 FROM pg_stat_user_tables WHERE {tables}");
    database.until(&scans).await;
    // Of history, the summaries of its index by end count as scans, too, and are counted some time after they were made.
    let read = format!(
        "SELECT ((SELECT coalesce(sum(seq_tup_read), 0) FROM pg_stat_user_tables WHERE {tables} AND relname !~ '^delivery')
                 + (SELECT sum(idx_tup_read) FROM pg_stat_user_indexes WHERE {tables}))::bigint"
    );
    (found, database.number(&read).await)
}

/// Two agents that share a queue: of 1,000 deliveries, one has 999. Of the other's, each call has two.
async fn unequal_agents() -> Database {
    let database = Database::new().await;
    let actions = "WITH made AS (
                       INSERT INTO postcall.action (agent, name, enabled, version)
                       VALUES ('most', 'default', true, 1), ('few', 'default', true, 1), ('few', 'crm', true, 1)
                       RETURNING action_id)
                   INSERT INTO postcall.action_version (action_id, version, method, url, timeout_ms)
                   SELECT action_id, 1, 'POST', 'https://receiver.example/', 1000 FROM made";
    let queue = "INSERT INTO postcall.waiting (delivery_id, call_id, agent, action_id, created_at)
                 SELECT postcall.uuid_v7(), gen_random_uuid(), agent, action_id, now()
                 FROM generate_series(1, 30000) AS n
                 JOIN postcall.action ON agent = CASE WHEN n % 1000 = 0 THEN 'few' ELSE 'most' END";
    for sql in [actions, queue, "VACUUM ANALYZE"] {
        database.execute(sql).await;
    }
    database
}

#[tokio::test]
async fn what_waits_of_an_agent_is_read_without_what_others_have_waiting() {
    let of = |agent: &str| HistoryFilter { agent: Some(agent.to_owned()), ..HistoryFilter::default() };
    for (agent, expected) in [("few", PAGE), ("most", PAGE), ("nobody", 0)] {
        // Each has a server's counters of its own.
        let database = unequal_agents().await;
        let (found, read) = read_by(&database, "waiting", &of(agent)).await;
        assert!(found == expected && read <= MOST_READ, "{agent}: {found} found, {read} read");
    }
}

#[tokio::test]
async fn a_call_that_waits_is_found_by_each_of_its_ids_without_what_others_have_waiting() {
    let call_id = Uuid::from_u128(7);
    let by_call = |call_id| HistoryFilter { call_id: Some(call_id), ..HistoryFilter::default() };
    let by_sid = |sid: &str| HistoryFilter { call_sid: Some(sid.to_owned()), ..HistoryFilter::default() };
    let questions = [
        (by_call(call_id), 1),
        (by_call(Uuid::nil()), 0),
        (by_sid("CA7"), 1),
        (by_sid("CA8"), 0),
        (by_sid("the same"), PAGE),
    ];
    for (filter, expected) in questions {
        let database = unequal_agents().await;
        // Each call has an id of its provider, and those of one agent are all the same, as a platform that does not know better writes them.
        let sids =
            "UPDATE postcall.waiting SET call_sid = CASE agent WHEN 'few' THEN 'the same' ELSE 'CA' || delivery_id END";
        let the_one = format!(
            "UPDATE postcall.waiting SET call_id = '{call_id}', call_sid = 'CA7'
             WHERE delivery_id = (SELECT delivery_id FROM postcall.waiting WHERE agent = 'most' OFFSET 500 LIMIT 1)"
        );
        // What these have read is counted before the counters are reset.
        let written = format!("{sids}; {the_one}; SELECT pg_stat_force_next_flush()");
        for sql in [&written, "VACUUM ANALYZE", "SELECT pg_stat_reset()"] {
            database.execute(sql).await;
        }
        let (found, read) = read_by(&database, "waiting", &filter).await;
        assert!(found == expected && read <= MOST_READ, "{filter:?}: {found} found, {read} read");
    }
}

#[tokio::test]
async fn what_waits_of_an_agent_comes_the_newest_first_whichever_its_actions_are() {
    let database = unequal_agents().await;
    for action in ["default", "crm", "%"] {
        let filter = HistoryFilter {
            agent: Some("few".to_owned()),
            action: Some(action.to_owned()).filter(|action| action != "%"),
            ..HistoryFilter::default()
        };
        let found = database.store.search(&filter, None, PAGE).await.unwrap();
        let newest = format!(
            "SELECT array_agg(delivery_id) FROM (
                 SELECT delivery_id FROM postcall.delivery_history WHERE agent = 'few' AND action LIKE '{action}'
                 ORDER BY delivery_id DESC LIMIT {PAGE}) AS newest"
        );
        let newest: Vec<Uuid> = sqlx::query_scalar(AssertSqlSafe(newest)).fetch_one(&database.pool).await.unwrap();
        assert_eq!(found.rows.iter().map(|row| row.delivery_id).collect::<Vec<_>>(), newest, "{action}");
    }
}

#[tokio::test]
async fn a_search_for_an_action_that_nobody_has_is_over_at_once() {
    let database = Database::new().await;
    let mut connection = PgConnection::connect(&database.url).await.unwrap();
    let store = postcall::store::Store::connect(&database.url, 1).await.unwrap();
    // Nothing of history can be read meanwhile: whoever tried would wait, and fail.
    sqlx::raw_sql("BEGIN; LOCK TABLE postcall.delivery, postcall.waiting").execute(&mut connection).await.unwrap();
    let filter = HistoryFilter { action: Some("nobody's".to_owned()), ..HistoryFilter::default() };
    let found = store.search(&filter, None, PAGE).await.unwrap();
    assert_eq!((found.rows.len(), found.reached), (0, Reached::End));
}

#[tokio::test]
async fn a_page_of_what_was_not_delivered_reads_no_more_than_a_page_of_each_state() {
    let with =
        |states: &[State], open| HistoryFilter { states: Some(states.to_vec()), open, ..HistoryFilter::default() };
    for filter in [
        with(&[State::Failed], false),
        with(&[State::Failed, State::Unknown], false),
        with(&[State::Failed, State::Skipped, State::Waiting], false),
    ] {
        let database = Database::new().await;
        // What is asked for is the oldest: whoever read from the newest on would read everything.
        let history = "INSERT INTO postcall.delivery (delivery_id, call_id, claim, action_id, created_at, claimed_at, finished_at,
                           action_version, dispatcher_id, agent, state, error_kind, latency_ms, response_code, response_bytes,
                           response_sha256, body_end, method, url)
                       SELECT postcall.uuid_v7(), gen_random_uuid(), gen_random_uuid(), 1, now(), now(), now(), 1, 1, 'a', state,
                              CASE state WHEN 'failed' THEN 'dns' WHEN 'unknown' THEN 'timeout' END, 1,
                              CASE state WHEN 'delivered' THEN 200 END, CASE state WHEN 'delivered' THEN 0 END,
                              CASE state WHEN 'delivered' THEN sha256('') END, CASE state WHEN 'delivered' THEN 'complete' END,
                              'POST', 'https://receiver.example/'
                       FROM (SELECT CASE WHEN n > 4000 THEN 'delivered' WHEN n % 2 = 0 THEN 'failed' ELSE 'unknown' END AS state
                             FROM generate_series(1, 20000) AS n ORDER BY n) AS made";
        for sql in [history, "VACUUM ANALYZE"] {
            database.execute(sql).await;
        }
        let (found, read) = read_by(&database, "delivery", &filter).await;
        assert!(found == PAGE && read <= MOST_READ, "{:?}: {found} found, {read} read", filter.states);
    }
}
