//! History as a whole and as it grows: `history --all` and `history --follow`.

use std::collections::BTreeSet;
use std::process::Stdio;
use std::time::Duration;

use postcall::service::history::{Following, STEP, Whole};
use postcall::store::Store;
use postcall::store::history::HistoryFilter;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use uuid::Uuid;

use crate::support::database::Database;
use crate::support::endings::{end_all, ended};
use crate::support::process::{POSTCALL, postcall_on, stderr, stdout};

async fn database_with_an_action() -> Database {
    let database = Database::new().await;
    database.publish("a", "default", &json!({"method": "POST", "url": "https://receiver.example/"})).await;
    database
}

async fn step(whole: &mut Whole, store: &Store) -> Option<Vec<Uuid>> {
    let rows = whole.step(store).await.unwrap()?;
    assert!(rows.len() <= STEP, "{}", rows.len());
    Some(rows.into_iter().map(|row| row.delivery_id).collect())
}

#[tokio::test]
async fn a_whole_result_has_everything_once_although_others_insert_and_send_meanwhile() {
    let database = database_with_an_action().await;
    let count = i32::try_from(STEP).unwrap();
    ended(&database, "delivered", count).await;
    let insert = "INSERT INTO postcall.outbox (agent, call) SELECT 'a', '{}' FROM generate_series(1, 700)";
    database.execute(insert).await;
    let before: BTreeSet<Uuid> = sqlx::query_scalar("SELECT delivery_id FROM postcall.delivery_history")
        .fetch_all(&database.pool)
        .await
        .unwrap()
        .into_iter()
        .collect();
    let mut whole = Whole::new(HistoryFilter::default(), None);
    let mut found = step(&mut whole, &database.store).await.unwrap();
    // All that waited has ended, and as many new ones wait.
    end_all(&database, "rejected").await;
    database.execute(insert).await;
    while let Some(ids) = step(&mut whole, &database.store).await {
        found.extend(ids);
    }
    assert_eq!(found.len(), before.len());
    assert!(found.is_sorted_by(|newer, older| newer > older));
    assert_eq!(found.into_iter().collect::<BTreeSet<Uuid>>(), before);
}

#[tokio::test]
async fn a_whole_result_is_printed_as_a_page_that_is_long_enough_would_be() {
    let database = database_with_an_action().await;
    ended(&database, "delivered", 1_100).await;
    ended(&database, "failed", 3).await;
    let printed = |arguments: &[&str]| {
        let output = postcall_on(&database, &[&["history", "--until", "0s"], arguments].concat());
        assert!(output.status.success(), "{}", stderr(&output));
        assert_eq!(stderr(&output), "");
        stdout(&output)
    };
    for format in ["json", "csv", "jsonl"] {
        let page = printed(&["--limit", "10000", "--format", format]);
        assert_eq!(printed(&["--all", "--format", format]), page, "{format}");
        let none = printed(&["--limit", "10000", "--format", format, "--state", "unknown"]);
        assert_eq!(printed(&["--all", "--format", format, "--state", "unknown"]), none, "{format}");
    }
    let objects: Vec<Value> = serde_json::from_str(&printed(&["--all", "--format", "json"])).unwrap();
    assert_eq!(objects.len(), 1_103);
    let lines = printed(&["--all", "--format", "jsonl"]);
    let parsed: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(parsed, objects);
    let table = printed(&["--all"]);
    assert_eq!(table.lines().count(), 1_104, "a header, and a line for each");
    let column = table.find("STATE").expect("the header names the state");
    assert!(
        table.lines().skip(1).all(|line| ["delivered", "failed   "].contains(&&line[column..column + 9])),
        "{table}"
    );
}

#[tokio::test]
async fn a_span_counts_back_from_now_by_the_database_s_clock() {
    let database = database_with_an_action().await;
    let ids = ended(&database, "delivered", 2).await;
    // The first of the two is copied as one that was created three hours ago.
    database
        .execute(&copy(&ids[0], "postcall.uuid_v7_floor(now() - interval '3 hours')", "now() - interval '3 hours'"))
        .await;
    let count = |arguments: &[&str]| {
        let output = postcall_on(&database, &[&["history", "--format", "jsonl"], arguments].concat());
        assert!(output.status.success(), "{}", stderr(&output));
        stdout(&output).lines().count()
    };
    assert_eq!(count(&["--since", "2h"]), 2);
    assert_eq!(count(&["--from", "4h"]), 3);
    assert_eq!(count(&["--since", "1d", "--until", "30m"]), 1);
    for wrong in
        [&["--since", "1h", "--from", "2026-01-01"][..], &["--since", "soon"], &["--follow", "--format", "json"]]
    {
        let output = postcall_on(&database, &[&["history"], wrong].concat());
        assert_eq!(output.status.code(), Some(2), "{wrong:?}: {}", stderr(&output));
    }
}

/// A statement that inserts a copy of a delivery that has just ended.
fn copy(of: &str, id: &str, created_at: &str) -> String {
    format!(
        "INSERT INTO postcall.delivery
         SELECT (jsonb_populate_record(delivery, jsonb_build_object('delivery_id', {id}, 'created_at', {created_at},
                     'claimed_at', {created_at}, 'finished_at', clock_timestamp()))).*
         FROM postcall.delivery WHERE delivery_id = '{of}' RETURNING delivery_id::text"
    )
}

/// `postcall history --follow`, killed when it is dropped.
struct Follower {
    _child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Follower {
    fn start(database: &Database, arguments: &[&str]) -> Follower {
        let mut command = Command::new(POSTCALL);
        command.env("DATABASE_URL", &database.url).args(["history", "--follow", "--format", "jsonl"]).args(arguments);
        let mut child = command.stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Follower { _child: child, lines }
    }

    /// The next delivery that it prints.
    async fn next(&mut self) -> String {
        let line = tokio::time::timeout(Duration::from_secs(60), self.lines.next_line()).await;
        let line = line.expect("it prints something within a minute").unwrap().expect("it goes on");
        let object: Value = serde_json::from_str(&line).unwrap();
        object["delivery_id"].as_str().unwrap().to_owned()
    }
}

#[tokio::test]
async fn following_prints_each_end_once_also_of_old_deliveries_and_of_recordings_that_are_committed_late() {
    let database = database_with_an_action().await;
    let first = ended(&database, "delivered", 2).await;
    let mut follower = Follower::start(&database, &["--since", "1h", "--state", "delivered"]);
    assert_eq!([follower.next().await, follower.next().await], [first[0].as_str(), first[1].as_str()]);
    // One is recorded and not committed yet.
    let mut late = PgConnection::connect(&database.url).await.unwrap();
    let mut late = late.begin().await.unwrap();
    let insert = copy(&first[0], "postcall.uuid_v7()", "now()");
    let late_id: String = sqlx::query_scalar(AssertSqlSafe(insert)).fetch_one(&mut *late).await.unwrap();
    // Another kind, and one that was created hours ago, end meanwhile.
    ended(&database, "failed", 1).await;
    let insert = copy(&first[0], "postcall.uuid_v7_floor(now() - interval '5 hours')", "now() - interval '5 hours'");
    let old_id = database.text(&insert).await.unwrap();
    assert_eq!(follower.next().await, old_id);
    late.commit().await.unwrap();
    assert_eq!(follower.next().await, late_id);
    let last = ended(&database, "delivered", 1).await;
    assert_eq!(follower.next().await, last[0], "nothing comes twice");
}

#[tokio::test]
async fn following_from_long_ago_skips_the_time_in_which_nothing_ended_and_misses_nothing() {
    let database = database_with_an_action().await;
    ended(&database, "failed", 1).await;
    for days in [300, 299, 120] {
        let sql = format!(
            "INSERT INTO postcall.delivery
                 (delivery_id, call_id, claim, action_id, created_at, claimed_at, finished_at, action_version, dispatcher_id,
                  agent, state, error_kind, latency_ms)
             SELECT postcall.uuid_v7(), call_id, claim, action_id, at, at, at, 1, 1, agent, 'failed', 'dns', 1
             FROM (SELECT *, clock_timestamp() - interval '{days} days' AS at FROM postcall.delivery LIMIT 1) AS one"
        );
        database.execute(&sql).await;
    }
    let since = database.store.now().await.unwrap() - chrono::TimeDelta::days(400);
    let mut following = Following::since(since, HistoryFilter::default());
    let (mut seen, mut looks) = (Vec::new(), 0);
    loop {
        let look = following.look(&database.store).await.unwrap();
        looks += 1;
        seen.extend(look.rows.iter().map(|row| row.finished_at.unwrap()));
        if !look.is_more {
            break;
        }
    }
    assert!(seen.len() == 4 && seen.is_sorted(), "{seen:?}");
    assert!(looks < 20, "{looks} looks for 57,600 windows");
}
