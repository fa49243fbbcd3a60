//! What is open and has lost its call: it stays listed, and is told apart from what somebody can do something about.

use serde_json::Value;

use super::{THEN, WEEK, calls_of, database_with_past, outcome, prune};
use crate::support::console::Console;
use crate::support::database::Database;
use crate::support::endings::{end_all, ended};
use crate::support::process::{postcall_on, stderr, stdout};

fn said(database: &Database, arguments: &[&str]) -> String {
    let output = postcall_on(database, arguments);
    assert!(output.status.success(), "{}", stderr(&output));
    stdout(&output)
}

fn listed(database: &Database) -> Vec<String> {
    let rows = said(database, &["history", "--open", "--format", "jsonl"]);
    let id = |line: &str| serde_json::from_str::<Value>(line).unwrap()["delivery_id"].as_str().unwrap().to_owned();
    rows.lines().map(id).collect()
}

/// How many are open, how many of these are beyond replay, and whether an oldest one is named.
fn counted(database: &Database) -> (i64, i64, bool) {
    let status: Value = serde_json::from_str(&said(database, &["status", "--format", "json"])).unwrap();
    let number = |value: &Value| value.as_i64().unwrap();
    (number(&status["open"]["count"]), number(&status["open_beyond_replay"]), status["oldest_open"].is_object())
}

#[tokio::test]
async fn what_failed_and_has_lost_its_call_needs_nobody_and_is_still_listed_as_open() {
    let database = database_with_past().await;
    calls_of(&database, THEN, 1).await;
    let failed = end_all(&database, "failed").await.remove(0);
    calls_of(&database, THEN, 1).await;
    let rejected = end_all(&database, "rejected").await.remove(0);
    assert_eq!(counted(&database), (2, 0, true));
    let console = Console::start(&database.url).await;
    assert!(console.page("/").await.words().contains("2 deliveries are open, the oldest for "));
    let gone = prune(&database, &["--keep-calls-days", "30"]);
    assert_eq!(outcome(&gone, WEEK), "left", "{gone:?}");

    assert_eq!(counted(&database), (2, 2, false));
    assert!(said(&database, &["status"]).contains("2 of the open ones: call removed; nothing can be sent again"));
    // What was read before is kept for some seconds.
    let console = Console::start(&database.url).await;
    let words = console.page("/").await.words();
    let lost = "2 open deliveries have lost their calls: call removed; nothing can be sent again.";
    assert!(words.contains(lost) && !words.contains("are open, the oldest"), "{words}");
    let mut both = [rejected, failed];
    both.sort();
    both.reverse();
    assert_eq!(listed(&database), both);
    // That is so: a replay is refused, and says why.
    let refused = postcall_on(&database, &["replay", &both[0], "--by", "ann", "--reason", "r"]);
    assert!(!refused.status.success() && stderr(&refused).contains("no longer kept"), "{}", stderr(&refused));

    // What can be sent again is found behind it, and it is the oldest that is told.
    let within_reach = ended(&database, "failed", 1).await.remove(0);
    assert_eq!(counted(&database), (3, 2, true));
    let day = format!("SELECT created_at::date::text FROM postcall.delivery WHERE delivery_id = '{within_reach}'");
    let since = database.text(&day).await.unwrap();
    let table = said(&database, &["status"]);
    assert!(table.contains(&format!("open       3, the oldest since {since}")), "{table}");
}

/// Of what is unknown, somebody can still find out what became of it.
#[tokio::test]
async fn what_is_unknown_needs_somebody_although_its_call_is_removed_until_it_is_found_to_have_failed() {
    let database = database_with_past().await;
    calls_of(&database, THEN, 1).await;
    let id = end_all(&database, "unknown").await.remove(0);
    let gone = prune(&database, &["--keep-calls-days", "30"]);
    assert_eq!(outcome(&gone, WEEK), "left", "{gone:?}");
    assert_eq!(counted(&database), (1, 0, true));
    said(&database, &["resolve", &id, "--as", "failed", "--by", "ann", "--reason", "r"]);
    assert_eq!(counted(&database), (1, 1, false));
    assert_eq!(listed(&database), [id]);
}

/// The oldest is looked for among as many as it always was, from the other end of history, past those that are beyond replay.
#[tokio::test]
async fn the_oldest_within_reach_is_found_behind_what_is_beyond_replay_at_both_ends() {
    let database = database_with_past().await;
    // More than are looked at first.
    calls_of(&database, THEN, 150).await;
    end_all(&database, "failed").await;
    prune(&database, &["--keep-calls-days", "30"]);
    let oldest = ended(&database, "failed", 1).await.remove(0);
    // More than are counted from the newest on.
    ended(&database, "failed", 1_000).await;
    let open = database.store.open_deliveries().await.unwrap();
    assert!(open.count.is_more && !open.may_be_older);
    let created_at = format!("SELECT created_at::text FROM postcall.delivery WHERE delivery_id = '{oldest}'");
    let shown = open.oldest.unwrap().created_at;
    let found = format!("SELECT '{shown}'::timestamptz::text");
    assert_eq!(database.text(&found).await, database.text(&created_at).await);
}
