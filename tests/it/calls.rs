//! `postcall calls`: every call that arrived is listed, and of one without a delivery it is said why, as far as that is
//! known.

use postcall::store::calls::{CallFilter, MOST_LOOKED_AT};
use postcall::store::search::Patience;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::database::Database;
use crate::support::process::{postcall_at, stderr, stdout};

/// What an auditor sees: what was printed, and what was said.
fn calls(url: &str, arguments: &[&str]) -> (String, String) {
    let output = postcall_at(url, &[&["calls"], arguments].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    (stdout(&output), stderr(&output))
}

fn listed(url: &str, arguments: &[&str]) -> Vec<Value> {
    serde_json::from_str(&calls(url, &[&["--format", "json"], arguments].concat()).0).unwrap()
}

fn ids(rows: &[Value]) -> Vec<Uuid> {
    rows.iter().map(|row| row["call_id"].as_str().unwrap().parse().unwrap()).collect()
}

#[tokio::test]
async fn of_a_call_without_a_delivery_it_is_said_why_and_of_none_what_it_contains() {
    let database = Database::new().await;
    let url = database.login(&["postcall_auditor"]).await;
    let action = |enabled: bool| json!({"method": "GET", "url": "https://receiver.example/", "enabled": enabled});
    let call = json!({"callInfo": {"callSid": "CA1"}, "summary": "nobody's business"});
    database.publish("agent_7f3k2", "default", &action(true)).await;
    database.publish("off", "default", &action(false)).await;
    let fine = database.insert_call("agent_7f3k2", &call).await;
    let slip = database.insert_call("agent_7f3k", &call).await;
    let off = database.insert_call("off", &call).await;
    let early = database.insert_call("late", &call).await;
    database.publish("late", "default", &action(true)).await;
    let rows = listed(&url, &[]);
    assert_eq!(ids(&rows), [early, off, slip, fine], "the newest first");
    let without: Vec<&Value> = rows.iter().map(|row| &row["without"]).collect();
    assert_eq!(without[0]["reason"], json!("published_later"));
    assert_eq!(*without[1], json!({"reason": "none_enabled", "enabled_today": 0, "actions_today": 1}));
    assert_eq!(*without[2], json!({"reason": "agent_unknown", "meant": "agent_7f3k2"}));
    assert_eq!((without[3], &rows[3]["deliveries"], &rows[3]["call_sid"]), (&Value::Null, &json!(1), &json!("CA1")));
    assert_eq!(ids(&listed(&url, &["--without-deliveries"])), [early, off, slip]);
    assert_eq!(ids(&listed(&url, &["--agent", "off"])), [off]);
    assert_eq!((listed(&url, &["--since", "1h"]).len(), listed(&url, &["--to", "1h"]).len()), (4, 0));
    let table = calls(&url, &[]).0;
    assert!(table.contains("agent unknown") && table.contains("published later"), "{table}");
    assert!(!table.contains("business") && !format!("{rows:?}").contains("business"), "{table}");
    // What is enabled today does not change what was recorded.
    assert!(postcall_at(&database.url, &["action", "enable", "off"]).status.success());
    let off_today = &listed(&url, &["--agent", "off"])[0];
    assert_eq!(off_today["without"], json!({"reason": "none_enabled", "enabled_today": 1, "actions_today": 1}));
    assert_eq!(off_today["deliveries"], json!(0));
}

#[tokio::test]
async fn pages_of_calls_follow_each_other_without_gap_or_overlap() {
    let database = Database::new().await;
    let mut expected = Vec::new();
    for _ in 0..5 {
        expected.insert(0, database.insert_call("a", &json!({})).await);
    }
    let (mut found, mut after) = (Vec::new(), None::<String>);
    loop {
        let more: Vec<&str> = after.iter().flat_map(|id| ["--after", id.as_str()]).collect();
        let arguments = [&["--format", "jsonl", "--limit", "2"], &more[..]].concat();
        let (printed, said) = calls(&database.url, &arguments);
        found.extend(ids(&printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<_>>()));
        match said.trim().strip_prefix("there may be more: repeat with --after ") {
            Some(id) => after = Some(id.to_owned()),
            None => break,
        }
    }
    assert_eq!(found, expected);
}

#[tokio::test]
async fn a_look_reads_a_bounded_number_of_calls_and_the_next_one_goes_on_behind_them() {
    let database = Database::new().await;
    let oldest = database.insert_call("rare", &json!({})).await;
    let mut connection = database.pool.acquire().await.unwrap();
    // Without triggers, because it need not take long.
    for sql in [
        "SET session_replication_role = replica",
        "INSERT INTO postcall.outbox (agent, call, action_ids) SELECT 'a', '{}', '{}' FROM generate_series(1, 60000)",
        "RESET session_replication_role",
    ] {
        sqlx::raw_sql(sql).execute(&mut *connection).await.unwrap();
    }
    let filter = CallFilter { agent: Some("rare".to_owned()), ..CallFilter::default() };
    let first = database.store.calls(&filter, None, 10).await.unwrap();
    assert_eq!((first.calls.len(), first.rest_after.is_some()), (0, true));
    let sql = format!("SELECT count(*) FROM postcall.outbox WHERE id >= '{}'", first.rest_after.unwrap());
    assert_eq!(database.number(&sql).await, MOST_LOOKED_AT);
    let second = database.store.calls(&filter, first.rest_after, 10).await.unwrap();
    assert_eq!((second.calls[0].call_id, second.calls.len(), second.rest_after), (oldest, 1, None));
    // A look that has to be over soon says how many it has looked at, and the next one goes on there, too.
    let (mut rest, mut looked_at, mut found) = (None, 0, Vec::new());
    loop {
        let look = database.store.calls_within(&filter, rest, 10, Patience::Glance).await.unwrap();
        found.extend(look.calls.iter().map(|call| call.call_id));
        let Some(last) = look.rest_after else { break };
        assert!((1..=MOST_LOOKED_AT).contains(&look.looked_at), "{}", look.looked_at);
        looked_at += look.looked_at;
        let behind = format!("SELECT count(*) FROM postcall.outbox WHERE id >= '{last}'");
        assert_eq!(database.number(&behind).await, looked_at);
        rest = Some(last);
    }
    assert_eq!(found, [oldest]);
}
