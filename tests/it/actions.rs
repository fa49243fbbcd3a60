//! Actions: what a customer publishes is checked and kept for good, and each problem is shown at the place where it is.

use serde_json::{Value, json};

use crate::support::database::Database;
use crate::support::process::{file, postcall, postcall_on, stderr, stdout};

/// The example of the platform's documentation, as printed there: the comma after `leadId` is missing.
const DOCUMENTED_BODY: &str = include_str!("data/documented_body.txt");

fn action_file(body: &str) -> tempfile::NamedTempFile {
    file(&json!({"method": "POST", "url": "https://api.example.com/hook", "body": body}).to_string())
}

fn path(file: &tempfile::NamedTempFile) -> &str {
    file.path().to_str().unwrap()
}

#[test]
fn check_shows_the_missing_comma_of_the_documented_example_with_a_caret_under_its_place() {
    let broken = action_file(DOCUMENTED_BODY);
    let output = postcall(&["action", "check", path(&broken)]);
    assert_eq!(output.status.code(), Some(1));
    let expected =
        "error[invalid_json_body]: expected `,` or `}` after this value: is a comma missing at the end of this line?
 --> body:9:32
  |
9 |   \"leadId\": \"${context.leadId}\"
  |                                ^
";
    assert_eq!(stderr(&output).trim_end(), expected.trim_end());

    let output = postcall(&["action", "check", "--json", path(&broken)]);
    let problem = &serde_json::from_str::<Value>(&stdout(&output)).unwrap()["problems"][0];
    let place =
        (problem["code"].as_str(), problem["field"].as_str(), problem["line"].as_i64(), problem["column"].as_i64());
    assert_eq!(place, (Some("invalid_json_body"), Some("body"), Some(9), Some(32)));

    let mended = action_file(&DOCUMENTED_BODY.replace("${context.leadId}\"", "${context.leadId}\","));
    let output = postcall(&["action", "check", path(&mended)]);
    assert!(output.status.success(), "{}", stderr(&output));
}

#[test]
fn check_shows_all_problems_of_a_file_at_once() {
    let bad = json!({
        "method": "POST", "url": "https://${context.host}/x", "headers": {"Host": "a", "X": "1"}, "body": "{\"a\":}",
    });
    let output = postcall(&["action", "check", "--json", path(&file(&bad.to_string()))]);
    let problems: Value = serde_json::from_str(&stdout(&output)).unwrap();
    let codes: Vec<&str> =
        problems["problems"].as_array().unwrap().iter().map(|one| one["code"].as_str().unwrap()).collect();
    assert_eq!(codes, ["placeholder_in_authority", "header_forbidden", "invalid_json_body"]);
}

#[tokio::test]
async fn a_file_with_a_problem_is_not_published() {
    let database = Database::new().await;
    let output = postcall_on(&database, &["action", "publish", "a", path(&action_file(DOCUMENTED_BODY))]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("not published"));
    assert_eq!(database.number("SELECT count(*) FROM postcall.action").await, 0);
}

#[tokio::test]
async fn every_publication_is_a_new_version_and_none_ever_changes() {
    let database = Database::new().await;
    for (version, body) in [(1, "[1]"), (2, "[2]")] {
        let output = postcall_on(&database, &["action", "publish", "a", path(&action_file(body)), "--name", "crm"]);
        assert_eq!(stdout(&output), format!("published a crm version {version} (enabled)\n"));
    }
    for sql in [
        "UPDATE postcall.action_version SET body = NULL",
        "DELETE FROM postcall.action_version",
        "DELETE FROM postcall.action",
    ] {
        assert!(database.error_of(sql).await.contains("are never changed or deleted"));
    }
    let shown = |more: &[&str]| -> Value {
        let output = postcall_on(&database, &[&["action", "show", "a", "--name", "crm"], more].concat());
        serde_json::from_str(&stdout(&output)).unwrap()
    };
    assert_eq!(shown(&[])["body"], "[2]");
    // What is shown can be published again: the way back to an older version.
    let old = shown(&["--version", "1"]);
    let output = postcall_on(&database, &["action", "publish", "a", path(&file(&old.to_string())), "--name", "crm"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(shown(&[])["body"], "[1]");
}

#[tokio::test]
async fn actions_are_listed_switched_and_missed_by_name() {
    let database = Database::new().await;
    let run = |arguments: &[&str]| postcall_on(&database, &[&["action"], arguments].concat());
    let action = action_file("{}");
    run(&["publish", "a", path(&action)]);
    run(&["publish", "a", path(&action), "--name", "second"]);
    run(&["publish", "b", path(&action)]);
    assert_eq!(stdout(&run(&["disable", "a"])), "a default is now disabled\n");
    assert_eq!(stdout(&run(&["disable", "a"])), "a default was disabled already\n");
    assert_eq!(stdout(&run(&["enable", "a"])), "a default is now enabled\n");
    assert_eq!(stdout(&run(&["disable", "a", "--name", "second"])), "a second is now disabled\n");
    let listed: Value = serde_json::from_str(&stdout(&run(&["list", "a", "--format", "json"]))).unwrap();
    let names: Vec<(&str, bool)> = listed
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (one["name"].as_str().unwrap(), one["enabled"].as_bool().unwrap()))
        .collect();
    assert_eq!(names, [("default", true), ("second", false)]);
    let output = run(&["enable", "a", "--name", "third"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(stderr(&output), "postcall: agent a has no action third; `postcall action list a` shows what it has\n");
}

#[tokio::test]
async fn concurrent_publishers_get_a_version_each() {
    let database = Database::new().await;
    let publishers = (0..20).map(|_| {
        let store = database.store.clone();
        tokio::spawn(async move {
            let spec =
                postcall::domain::action_file::ActionFile::parse(r#"{"method": "GET", "url": "https://a.example/"}"#);
            store.publish_action("a", "default", &spec.unwrap().spec, true, "the test").await.unwrap()
        })
    });
    let mut versions = Vec::new();
    for publisher in publishers.collect::<Vec<_>>() {
        versions.push(publisher.await.unwrap());
    }
    versions.sort_unstable();
    assert_eq!(versions, (1..=20).collect::<Vec<_>>());
}
