//! What leads people on: nobody is told that all is well by what was not read, and who comes to a dead end is told the way out.

use serde_json::json;

use crate::support::console::Console;
use crate::support::database::Database;
use crate::support::endings::ended;
use crate::support::process::{file, postcall, postcall_at, postcall_on, stderr, stdout};

/// An action with an error, and with a slip in another field.
const WRONG: &str = r#"{"method": "POST", "url": "https://r.example/${call.callSid}", "body": "{\"a\":}"}"#;
const ITS_ERROR: &str = "expected a value here";
const ITS_SLIP: &str = "no documented call has `call.callSid`";

/// A database with an action of agent a.
async fn database() -> Database {
    let database = Database::new().await;
    database.publish("a", "default", &json!({"method": "POST", "url": "https://receiver.example/"})).await;
    database
}

#[tokio::test]
async fn who_may_not_read_what_failed_is_not_told_that_nothing_needs_anybody() {
    let database = database().await;
    ended(&database, "failed", 1).await;
    // Longer ago than the last hour, of which a viewer sees the figures.
    database
        .execute(
            "ALTER TABLE postcall.delivery DISABLE TRIGGER history_is_immutable;
             UPDATE postcall.delivery SET delivery_id = postcall.uuid_v7_floor(now() - interval '2 hours'),
                 created_at = now() - interval '2 hours', claimed_at = now() - interval '2 hours',
                 finished_at = now() - interval '2 hours';
             ALTER TABLE postcall.delivery ENABLE ALWAYS TRIGGER history_is_immutable",
        )
        .await;
    let mut session = database.session();
    Database::register(&mut session).await;
    let viewer = Console::start(&database.login(&["postcall_console_viewer"]).await).await;
    let words = viewer.page("/").await.words();
    assert!(!words.contains("Nothing needs anybody."), "{words}");
    assert!(words.contains("Of what is shown here, nothing needs anybody. Not everything is shown."), "{words}");
    let auditor = Console::start(&database.login(&["postcall_auditor"]).await).await;
    assert!(auditor.page("/").await.words().contains("1 thing needs somebody."));
}

#[tokio::test]
async fn a_search_that_finds_no_delivery_of_a_call_leads_to_the_page_that_says_why() {
    let database = database().await;
    database.insert_call("b", &json!({"callInfo": {"callSid": "CA 1&2"}})).await;
    let console = Console::start(&database.login(&["postcall_auditor"]).await).await;
    let page = console.page("/deliveries?q=CA+1%262").await;
    let (_, rest) = page.body.split_once("href=\"/calls?q=").expect("a link");
    let target = format!("/calls?q={}", rest.split('"').next().unwrap().replace("&#38;", "&"));
    assert!(console.page(&target).await.words().contains("agent unknown: it has no action"), "{target}");
}

#[tokio::test]
async fn an_agent_without_an_action_gets_its_first_one_by_page_and_only_publishers_are_offered_it() {
    let database = database().await;
    let publisher = database.login(&["postcall_publisher"]).await;
    let console = Console::start_with(&publisher, &["--write", "--as", "Ada"]).await;
    assert!(console.page("/agents").await.body.contains("href=\"/change/action\""));
    assert!(console.page("/change/action").await.words().contains("New action"));
    let reading = Console::start(&publisher).await;
    assert!(!reading.page("/agents").await.body.contains("/change/action"));
}

#[tokio::test]
async fn the_newest_version_is_not_offered_to_be_gone_back_to() {
    let database = database().await;
    database.publish("a", "default", &json!({"method": "GET", "url": "https://receiver.example/"})).await;
    let publisher = database.login(&["postcall_publisher"]).await;
    let console = Console::start_with(&publisher, &["--write", "--as", "Ada"]).await;
    let page = console.page("/versions?agent=a&name=default").await;
    assert!(page.body.contains("version=1") && !page.body.contains("version=2"), "{}", page.body);
    assert!(page.words().contains("the newest"), "{}", page.words());
    let older = console.page("/versions?agent=a&name=default&before=2").await;
    assert!(older.body.contains("version=1"), "the first of a later page is not the newest");
}

#[tokio::test]
async fn errors_and_slips_are_told_together_also_by_the_form_and_by_who_publishes() {
    let database = database().await;
    let written = file(WRONG);
    let output = postcall_on(&database, &["action", "publish", "a", written.path().to_str().unwrap()]);
    let words = stderr(&output);
    assert_eq!(output.status.code(), Some(1));
    assert!(words.contains(ITS_ERROR) && words.contains(ITS_SLIP), "{words}");
    let console = Console::start_with(&database.url, &["--write", "--as", "Ada"]).await;
    let form = [
        ("agent", "a"),
        ("name", "default"),
        ("method", "POST"),
        ("url", "https://r.example/${call.callSid}"),
        ("timeout", ""),
        ("headers", ""),
        ("body", "{\"a\":}"),
        ("over", "1"),
        ("reason", ""),
        ("step", "review"),
    ];
    let page = console.sends("", "/change/action", &form).await;
    assert_eq!(page.status, 422);
    let words = page.words();
    assert!(words.contains(ITS_ERROR) && words.contains(&format!("Warning: url: {ITS_SLIP}")), "{words}");
}

#[tokio::test]
async fn what_was_recorded_is_shown_after_it_was_resolved_too() {
    let database = database().await;
    let id = ended(&database, "unknown", 1).await.remove(0);
    let resolved = postcall_on(&database, &["resolve", &id, "--as", "delivered", "--reason", "in the log"]);
    assert!(resolved.status.success(), "{}", stderr(&resolved));
    let kind = database.text("SELECT error_kind FROM postcall.delivery").await.unwrap();
    let shown = stdout(&postcall_on(&database, &["show", &id]));
    assert!(shown.contains(&format!("  as unknown ({kind})\n")), "{shown}");
}

#[tokio::test]
async fn who_has_no_role_that_reads_is_told_which_one_it_takes_and_nothing_of_migrations() {
    let database = database().await;
    let platform = database.login(&["postcall_platform"]).await;
    for command in [&["calls"][..], &["show", "CA1"], &["status"]] {
        let words = stderr(&postcall_at(&platform, command));
        assert!(
            words.contains("may not read the schema postcall. This needs a database user with the role"),
            "{words}"
        );
        assert!(!words.contains("migrat"), "{words}");
    }
}

#[tokio::test]
async fn a_refused_pruning_does_not_say_that_something_was_removed() {
    let database = database().await;
    let url = database.login(&["postcall_publisher"]).await;
    let words = stderr(&postcall_at(&url, &["prune", "--keep-calls-days", "30"]));
    assert!(words.contains("only the owner of the schema may remove calls"), "{words}");
    assert!(!words.contains("was removed"), "{words}");
}

#[tokio::test]
async fn what_a_form_refuses_names_the_box_that_permits_it() {
    let database = database().await;
    let id = ended(&database, "unknown", 1).await.remove(0);
    let console = Console::start_with(&database.url, &["--write", "--as", "Ada"]).await;
    let refused = console.sends("", "/change/replay", &[("delivery", &id), ("reason", "again")]).await;
    assert_eq!(refused.status, 409);
    let words = refused.words();
    assert!(words.contains("tick “even if the receiver may have it”"), "{words}");
    assert!(console.page(&format!("/deliveries/{id}")).await.words().contains("even if the receiver may have it"));
}

#[tokio::test]
async fn an_id_in_a_table_is_never_broken_over_two_lines() {
    let database = database().await;
    let reason =
        "a long reason that does not fit into a table of this width, together with everything else. ".repeat(4);
    let by = ["--by", "somebody whose name has several words", "--reason", &reason];
    let test = [&["action", "test", "a", "--only-port", "1", "--format", "json"], &by[..]].concat();
    let report: serde_json::Value = serde_json::from_str(&stdout(&postcall_on(&database, &test))).unwrap();
    let listed = stdout(&postcall_on(&database, &["action", "tests", "a"]));
    assert!(listed.contains(report["test_id"].as_str().unwrap()), "{listed}");
}

#[tokio::test]
async fn the_id_of_a_test_is_said_to_be_that_of_a_test() {
    let database = database().await;
    let test =
        postcall_on(&database, &["action", "test", "a", "--reason", "x", "--only-port", "1", "--format", "json"]);
    let report: serde_json::Value = serde_json::from_str(&stdout(&test)).unwrap();
    let id = report["test_id"].as_str().unwrap();
    let words = stderr(&postcall_on(&database, &["show", id]));
    assert_eq!(words, format!("postcall: {id} is a test and no delivery: postcall action tests a\n"));
}

#[test]
fn without_a_call_the_documented_sample_is_rendered() {
    let action =
        file(r#"{"method": "POST", "url": "https://r.example/", "body": "{\"lead\": \"${context.leadId}\"}"}"#);
    let output = postcall(&["render", "--action", action.path().to_str().unwrap()]);
    assert!(stdout(&output).contains("L-1001"), "{}{}", stdout(&output), stderr(&output));
}
