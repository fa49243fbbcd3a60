//! Tests of actions among the acts of the audit: who tested what, when, and what became of it.

use std::collections::BTreeSet;

use postcall::domain::act::Act;
use postcall::domain::action_test::CallSource;
use postcall::domain::body_digest::BodyDigest;
use postcall::store::action_tests::{Begun, TestOrder, Tested};
use postcall::store::acts::ActFilter;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::console::Console;
use crate::support::database::Database;
use crate::support::process::{postcall_at, stderr, stdout};

/// Begins a test of an agent's action `crm` and stops it before anything is sent.
async fn test(database: &Database, agent: &str, tested: Tested) -> Uuid {
    let order = TestOrder {
        agent,
        action: "crm",
        tested,
        source: CallSource::Sample,
        call_id: None,
        timeout_ms: 1_000,
        sent: None,
        by: "Grace Hopper",
        reason: "does it work?",
    };
    let Begun::Test(id) = database.store.begin_test(&order).await.unwrap() else { panic!("too many tests") };
    let stopped = format!("INSERT INTO postcall.action_test_result (test_id, state) VALUES ('{id}', 'unsent')");
    database.execute(&stopped).await;
    id
}

async fn listed(database: &Database, role: &str, more: &[&str]) -> Result<Vec<Value>, String> {
    let url = database.login(&[role]).await;
    let output = postcall_at(&url, &[&["audit", "--format", "jsonl"], more].concat());
    if !output.status.success() {
        return Err(stderr(&output));
    }
    Ok(stdout(&output).lines().map(|line| serde_json::from_str(line).unwrap()).collect())
}

#[tokio::test]
async fn who_tested_what_and_what_became_of_it_is_an_act_for_all_who_may_read_tests() {
    let database = Database::new().await;
    database.publish("a", "crm", &json!({"method": "POST", "url": "https://r.example/"})).await;
    let of_version = test(&database, "a", Tested::Version(1)).await;
    let of_file = test(&database, "b", Tested::File(BodyDigest::Plain([7; 32]))).await;
    for role in ["postcall_auditor", "postcall_console_operator", "postcall_publisher"] {
        let acts = listed(&database, role, &["--by", "Grace Hopper"]).await.unwrap();
        assert_eq!(acts.iter().map(|act| &act["act"]).collect::<Vec<_>>(), ["tested", "tested"], "{role}");
        let (file, version) = (&acts[0], &acts[1]);
        assert_eq!((&version["test_id"], &version["version"]), (&json!(of_version), &json!(1)));
        assert_eq!(
            (&version["agent"], &version["action"], &version["test_state"]),
            (&json!("a"), &json!("crm"), &json!("unsent"))
        );
        assert_eq!((&file["test_id"], &file["version"], &file["agent"]), (&json!(of_file), &Value::Null, &json!("b")));
        assert_eq!((&file["action"], &file["reason"]), (&json!("crm"), &json!("does it work?")));
    }
    assert_eq!(listed(&database, "postcall_auditor", &["--agent", "a"]).await.unwrap().len(), 3);
    assert_eq!(listed(&database, "postcall_auditor", &["--act", "tested", "--agent", "b"]).await.unwrap().len(), 1);
    // A dispatcher's user may read all acts but these.
    let acts = listed(&database, "postcall_dispatcher", &[]).await.unwrap();
    assert_eq!(acts.iter().map(|act| &act["act"]).collect::<Vec<_>>(), ["enabled", "published"]);
    let refused = listed(&database, "postcall_dispatcher", &["--act", "tested"]).await.unwrap_err();
    assert!(refused.contains("may not") || refused.contains("permission denied"), "{refused}");

    let console = Console::start(&database.login(&["postcall_auditor"]).await).await;
    let page = console.page("/audit?act=tested").await;
    let words = page.words();
    for part in ["version 1 of crm: unsent", "a file as crm: unsent", "Grace Hopper", "does it work?"] {
        assert!(words.contains(part), "no {part:?} in: {words}");
    }
    assert!(page.body.contains(&format!("href=\"/tests/{of_version}\"")), "{}", page.body);
}

#[tokio::test]
async fn pages_of_acts_lose_no_test_and_repeat_none_wherever_they_end() {
    let database = Database::new().await;
    let mut tests = BTreeSet::new();
    for agent in ["a", "b", "c"] {
        database.publish(agent, "crm", &json!({"method": "POST", "url": "https://r.example/"})).await;
        for _ in 0..4 {
            tests.insert(test(&database, agent, Tested::File(BodyDigest::Plain([1; 32]))).await);
        }
    }
    for acts in [None, Some(vec![Act::Tested])] {
        let filter = ActFilter { acts, ..ActFilter::default() };
        for limit in 1..=5 {
            let (mut after, mut found) = (None, Vec::new());
            loop {
                let page = database.store.acts(&filter, after.as_ref(), limit).await.unwrap();
                found.extend(page.acts);
                after = page.rest_after;
                if after.is_none() {
                    break;
                }
            }
            let expected = if filter.acts.is_none() { 12 + 6 } else { 12 };
            assert_eq!(found.len(), expected, "{limit}");
            assert!(found.is_sorted_by(|a, b| (a.at, &a.key.0.record) > (b.at, &b.key.0.record)));
            assert_eq!(found.iter().filter_map(|act| act.test_id).collect::<BTreeSet<_>>(), tests);
        }
    }
    // The times of two acts are also bounds: the first is within, the second is not.
    let all = database.store.acts(&ActFilter::default(), None, 100).await.unwrap().acts;
    let (newest, oldest) = (all[2].at, all[9].at);
    let filter = ActFilter { since: Some(oldest), until: Some(newest), ..ActFilter::default() };
    let between = database.store.acts(&filter, None, 100).await.unwrap().acts;
    let expected: Vec<_> =
        all.iter().filter(|act| act.at >= oldest && act.at < newest).map(|act| act.test_id).collect();
    assert_eq!(between.iter().map(|act| act.test_id).collect::<Vec<_>>(), expected);
}
