//! What is open: neither delivered nor healed by a replay (`history --open`), and what replayed a delivery.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use postcall::store::history::HistoryFilter;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use uuid::Uuid;

use crate::support::database::Database;
use crate::support::endings::{end_all, ended};
use crate::support::process::{postcall_on, stderr, stdout};
use crate::support::sealing::unguarded;

/// The rows that the benchmark measures, few of them.
const YEAR: &str = include_str!("../../benches/dispatch/history.sql");

fn run(database: &Database, arguments: &[&str]) -> String {
    let output = postcall_on(database, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
    stdout(&output)
}

/// A delivery that ends in `state`.
async fn one(database: &Database, state: &str) -> String {
    ended(database, state, 1).await.remove(0)
}

/// A replay that ends in `state`.
async fn replayed(database: &Database, id: &str, state: &str) -> String {
    run(database, &["replay", id, "--include-unknown", "--include-delivered", "--by", "ann", "--reason", "r"]);
    end_all(database, state).await.remove(0)
}

fn find_out(database: &Database, id: &str, state: &str) {
    run(database, &["resolve", id, "--as", state, "--by", "ann", "--reason", "r"]);
}

fn open(database: &Database) -> BTreeSet<String> {
    let listed = run(database, &["history", "--open", "--format", "jsonl"]);
    let ids = listed.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["delivery_id"].clone());
    ids.map(|id| id.as_str().unwrap().to_owned()).collect()
}

/// How many are open by the short answer, whether that is all, and how old the oldest of them is by its time of creation.
async fn counted(database: &Database) -> (i64, bool, Option<DateTime<Utc>>) {
    let open = database.store.open_deliveries().await.unwrap();
    (open.count.counted, open.count.is_more, open.oldest.map(|oldest| oldest.created_at))
}

/// When the oldest of these was created.
async fn oldest(database: &Database, ids: &BTreeSet<String>) -> Option<DateTime<Utc>> {
    let id: Uuid = ids.first()?.parse().unwrap();
    let created_at = "SELECT created_at FROM postcall.delivery WHERE delivery_id = $1";
    Some(sqlx::query_scalar(created_at).bind(id).fetch_one(&database.pool).await.unwrap())
}

#[tokio::test]
async fn open_is_what_was_not_delivered_until_a_later_delivery_of_the_message_or_a_finding_says_that_it_was() {
    let database = Database::new().await;
    database.publish("a", "default", &json!({"method": "POST", "url": "https://receiver.example/"})).await;
    one(&database, "delivered").await;
    one(&database, "skipped").await;
    let mut expected = BTreeSet::new();
    for state in ["failed", "rejected", "unknown"] {
        expected.insert(one(&database, state).await);
    }
    let [delivered, failed] = [one(&database, "unknown").await, one(&database, "unknown").await];
    find_out(&database, &delivered, "delivered");
    find_out(&database, &failed, "failed");
    expected.insert(failed);
    assert_eq!(open(&database), expected);
    // Healed at once, by the second replay, and by a replay of which a person found out that it was delivered.
    let healed = one(&database, "failed").await;
    let newest = replayed(&database, &healed, "delivered").await;
    let twice = one(&database, "rejected").await;
    let again = replayed(&database, &twice, "failed").await;
    let newest_of_twice = replayed(&database, &again, "delivered").await;
    let found = one(&database, "failed").await;
    find_out(&database, &replayed(&database, &found, "unknown").await, "delivered");
    assert_eq!(open(&database), expected);
    // Not healed: by a replay that failed, is unknown, or was found to have failed; each of these is open itself, too.
    for state in ["failed", "unknown"] {
        let first = one(&database, "rejected").await;
        expected.extend([replayed(&database, &first, state).await, first]);
    }
    let first = one(&database, "failed").await;
    let second = replayed(&database, &first, "unknown").await;
    find_out(&database, &second, "failed");
    expected.extend([first, second]);
    // What was delivered heals nothing that came after it.
    let delivered = one(&database, "delivered").await;
    expected.insert(replayed(&database, &delivered, "failed").await);
    assert_eq!(open(&database), expected);
    // The short answer knows the same.
    let number = i64::try_from(expected.len()).unwrap();
    assert_eq!(counted(&database).await, (number, false, oldest(&database, &expected).await));
    let status: Value = serde_json::from_str(&run(&database, &["status", "--format", "json"])).unwrap();
    assert_eq!(status["open"], json!({"count": number, "is_more": false}));
    assert!(status["oldest_open"]["age_ms"].is_number(), "{status}");
    assert!(run(&database, &["status"]).contains(&format!("open       {number}, the oldest since ")));
    let as_shown = |id: &str| {
        let object: Value = serde_json::from_str(&run(&database, &["show", id, "--json"])).unwrap();
        object["replayed_as"].as_str().map(str::to_owned)
    };
    assert_eq!(as_shown(&healed), Some(newest.clone()));
    assert_eq!((as_shown(&newest), as_shown(&twice)), (None, Some(newest_of_twice.clone())));
    assert_eq!(as_shown(&again), Some(newest_of_twice));
}

#[tokio::test]
async fn a_replay_that_is_still_on_its_way_heals_nothing_yet() {
    let database = Database::new().await;
    database.publish("a", "default", &json!({"method": "POST", "url": "https://receiver.example/"})).await;
    let first = one(&database, "failed").await;
    run(&database, &["replay", "--open", "--by", "ann", "--reason", "r"]);
    assert_eq!(open(&database), BTreeSet::from([first]));
    end_all(&database, "delivered").await;
    assert_eq!(open(&database), BTreeSet::new());
}

#[tokio::test]
async fn of_the_last_hour_what_failed_or_was_rejected_counts_until_a_replay_has_delivered_it() {
    let database = Database::new().await;
    database.publish("a", "default", &json!({"method": "POST", "url": "https://receiver.example/"})).await;
    let failed = one(&database, "failed").await;
    one(&database, "rejected").await;
    one(&database, "delivered").await;
    let lately = || async {
        let open = database.store.open_deliveries().await.unwrap();
        (open.failed_lately, open.rejected_lately)
    };
    assert_eq!(lately().await, (1, 1));
    replayed(&database, &failed, "delivered").await;
    assert_eq!(lately().await, (0, 1));
    // What is older than an hour is told by how long it has been open.
    let older = "UPDATE postcall.delivery SET delivery_id = postcall.uuid_v7_floor(now() - interval '61 minutes') WHERE state = 'rejected'";
    unguarded(&database, older).await;
    assert_eq!(lately().await, (0, 0));
}

#[tokio::test]
async fn of_a_year_of_history_exactly_what_is_open_is_found() {
    let database = Database::new().await;
    let mut connection = PgConnection::connect(&database.url).await.unwrap();
    let script = format!("SET bench.rows = 4000; SET bench.waiting = 10; {YEAR}; ANALYZE");
    sqlx::raw_sql(AssertSqlSafe(script)).execute(&mut connection).await.unwrap();
    let expected: Vec<Uuid> = sqlx::query_scalar(
        "SELECT delivery_id FROM postcall.delivery_history AS history
         WHERE state IN ('rejected', 'failed', 'unknown') AND NOT EXISTS (
             SELECT FROM postcall.delivery_history AS later
             WHERE later.message_id = history.message_id AND later.delivery_id > history.delivery_id
               AND later.state = 'delivered')
         ORDER BY delivery_id DESC",
    )
    .fetch_all(&database.pool)
    .await
    .unwrap();
    let filter = HistoryFilter { open: true, ..HistoryFilter::default() };
    let found: Vec<Uuid> =
        database.store.history(&filter, 10_000).await.unwrap().iter().map(|row| row.delivery_id).collect();
    assert!(expected.len() > 50, "{}", expected.len());
    assert_eq!(found, expected);
    let ids = expected.iter().map(ToString::to_string).collect();
    let number = i64::try_from(expected.len()).unwrap();
    assert_eq!(counted(&database).await, (number, false, oldest(&database, &ids).await));
    // In pages, and if everything that is open had to be looked for among much that was healed, it is the same.
    for page in [7, 1_000] {
        let (mut paged, mut after) = (Vec::new(), None);
        loop {
            let found = database.store.search(&filter, after, page).await.unwrap();
            paged.extend(found.rows.iter().map(|row| row.delivery_id));
            after = found.rest_before();
            if after.is_none() {
                break;
            }
        }
        assert_eq!(paged, expected, "{page}");
    }
}

#[tokio::test]
async fn the_short_answer_looks_at_a_bounded_number_and_finds_the_oldest_behind_much_that_was_healed() {
    let database = Database::new().await;
    database.publish("a", "default", &json!({"method": "POST", "url": "https://receiver.example/"})).await;
    let first = BTreeSet::from([one(&database, "failed").await]);
    let oldest = oldest(&database, &first).await;
    ended(&database, "failed", 1_000).await;
    assert_eq!(counted(&database).await, (1_000, true, oldest));
    // All of these are found to have been delivered, and more than are looked at.
    ended(&database, "unknown", 2_100).await;
    database
        .execute(
            "INSERT INTO postcall.resolution (delivery_id, source, state, resolved_by, reason)
             SELECT delivery_id, 'person', 'delivered', 'ann', 'r' FROM postcall.delivery WHERE state = 'unknown'",
        )
        .await;
    assert_eq!(counted(&database).await, (0, true, oldest));
}

#[tokio::test]
async fn a_replay_of_what_is_open_takes_all_of_it_in_steps_counts_what_it_leaves_out_and_keeps_to_its_limit() {
    let database = Database::new().await;
    database.publish("a", "default", &json!({"method": "POST", "url": "https://receiver.example/"})).await;
    ended(&database, "failed", 1_203).await;
    ended(&database, "unknown", 2).await;
    ended(&database, "delivered", 2).await;
    let order = ["replay", "--open", "--dry-run", "--reason", "the receiver was down"];
    let judged = postcall_on(&database, &order);
    assert!(judged.status.success(), "{}", stderr(&judged));
    assert!(stdout(&judged).ends_with("would replay 1203: 1203 failed\n"), "{}", stdout(&judged));
    assert_eq!(stderr(&judged), "left out: 2 unknown (--include-unknown includes them)\n");
    let limited = postcall_on(&database, &[&order[..], &["--limit", "1202"]].concat());
    assert!(stderr(&limited).contains("more than 1202 deliveries match"), "{}", stderr(&limited));
}
