//! What a person finds out about an unknown delivery: it is recorded once, with a name, and never against better
//! evidence.

use std::process::Output;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::console::Console;
use crate::support::database::Database;
use crate::support::inbox::Inbox;
use crate::support::process::{Dispatcher, postcall_at, postcall_on, stderr, stdout};
use crate::support::sealing::unguarded;

/// The shortest lease there is.
const LEASE: [&str; 2] = ["--lease-ms", "1000"];
const STORY: &str = "SELECT concat_ws(', ', state, recorded_state, resolved_by, resolution_reason)
                     FROM postcall.delivery_history";

/// One delivery whose dispatcher is paused with its request out, and which others have given up.
async fn in_doubt() -> (Database, Inbox, Dispatcher, String) {
    let (database, inbox) = (Database::new().await, Inbox::holding().await);
    database.publish("a", "default", &json!({"method": "POST", "url": inbox.url("/")})).await;
    database.insert_call("a", &json!({})).await;
    let paused = Dispatcher::start(&database, &LEASE).await;
    inbox.has(1).await;
    paused.signal(Signal::SIGSTOP);
    let heir = Dispatcher::start(&database, &LEASE).await;
    database.until("SELECT count(*) = 1 FROM postcall.delivery_history WHERE state = 'unknown'").await;
    heir.signal(Signal::SIGTERM);
    assert!(heir.ended().await.0);
    let id = database.text("SELECT delivery_id::text FROM postcall.delivery").await.unwrap();
    (database, inbox, paused, id)
}

fn resolve(database: &Database, id: &str, state: &str, more: &[&str]) -> Output {
    let arguments = ["resolve", id, "--as", state, "--reason", "the receiver's log"];
    postcall_on(database, &[&arguments, more].concat())
}

#[tokio::test]
async fn a_finding_is_recorded_once_with_name_and_reason_and_history_stays_as_it_was() {
    let (database, _inbox, _paused, id) = in_doubt().await;
    let output = resolve(&database, &id, "rejected", &["--by", "Ada"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(stdout(&output), format!("{id} is resolved as rejected, says Ada\n"));
    assert_eq!(database.text(STORY).await.unwrap(), "rejected, unknown, Ada, the receiver's log");
    let again = resolve(&database, &id, "delivered", &["--by", "Bob"]);
    assert_eq!(again.status.code(), Some(1));
    assert!(stderr(&again).contains("was resolved before"), "{}", stderr(&again));
    assert_eq!(database.text(STORY).await.unwrap(), "rejected, unknown, Ada, the receiver's log");
}

#[tokio::test]
async fn of_two_people_at_the_same_time_one_resolves() {
    let (database, _inbox, _paused, id) = in_doubt().await;
    // The first has written and not yet committed; the second waits for it.
    let mut first = database.pool.begin().await.unwrap();
    sqlx::query(
        "INSERT INTO postcall.resolution (delivery_id, source, state, resolved_by, reason)
         VALUES ($1::uuid, 'person', 'failed', 'Ada', 'first')",
    )
    .bind(&id)
    .execute(&mut *first)
    .await
    .unwrap();
    let second = tokio::task::spawn_blocking({
        let (url, id) = (database.url.clone(), id.clone());
        move || postcall_at(&url, &["resolve", &id, "--as", "delivered", "--reason", "second"])
    });
    database.until("SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'transactionid')").await;
    first.commit().await.unwrap();
    let second = second.await.unwrap();
    assert_eq!(second.status.code(), Some(1));
    assert!(stderr(&second).contains("was resolved before"), "{}", stderr(&second));
    assert_eq!(database.text(STORY).await.unwrap(), "failed, unknown, Ada, first");
}

#[tokio::test]
async fn the_request_s_own_late_result_outranks_a_person_s_finding() {
    let (database, inbox, mut paused, id) = in_doubt().await;
    assert!(resolve(&database, &id, "failed", &[]).status.success());
    assert!(database.text(STORY).await.unwrap().starts_with("failed, unknown"));
    inbox.answer(1);
    paused.signal(Signal::SIGCONT);
    paused.says("late results recorded as evidence").await;
    assert!(database.text(STORY).await.unwrap().starts_with("delivered, unknown, the dispatcher that sent it"));
    let too_late = resolve(&database, &id, "failed", &[]);
    assert!(stderr(&too_late).contains("was resolved before"), "{}", stderr(&too_late));
    // It hides as little as a finding what was recorded at first.
    let text = stdout(&postcall_on(&database, &["show", &id]));
    assert!(text.contains("at first       dispatcher_lost\n") && text.contains("status         200"), "{text}");
    assert!(text.contains("\nwhat was sent\n"), "{text}");
}

#[tokio::test]
async fn what_a_person_found_out_stands_beside_the_error_that_was_recorded_and_never_in_its_place() {
    let (database, _inbox, _paused, id) = in_doubt().await;
    let detail = "SELECT error_detail FROM postcall.delivery";
    let detail = database.text(detail).await.unwrap();
    let console = Console::start(&database.url).await;
    for finding in ["delivered", "rejected", "failed"] {
        unguarded(&database, "DELETE FROM postcall.resolution").await;
        assert!(resolve(&database, &id, finding, &[]).status.success());
        let text = stdout(&postcall_on(&database, &["show", &id]));
        for told in ["at first       dispatcher_lost", &detail, "what was sent, or a part of it"] {
            assert!(text.contains(told), "{finding}: {told} in:\n{text}");
        }
        assert!(!text.contains("  nothing"), "{text}");
        let object: Value = serde_json::from_str(&stdout(&postcall_on(&database, &["show", &id, "--json"]))).unwrap();
        assert_eq!((&object["error_detail"], &object["recorded_error_detail"]), (&Value::Null, &json!(detail)));
        let page = console.page(&format!("/deliveries/{id}")).await.words();
        for told in
            ["error at first dispatcher_lost", &format!("detail at first {detail}"), "What was sent, or a part of it"]
        {
            assert!(page.contains(told), "{finding}: {told} in:\n{page}");
        }
        assert!(!page.contains("Nothing."), "{page}");
    }
}

#[tokio::test]
async fn what_its_own_late_result_has_settled_is_no_longer_a_person_s_to_resolve() {
    let (database, inbox, mut paused, id) = in_doubt().await;
    inbox.answer(1);
    paused.signal(Signal::SIGCONT);
    paused.says("late results recorded as evidence").await;
    let output = resolve(&database, &id, "failed", &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("was resolved before"), "{}", stderr(&output));
    assert_eq!(database.number("SELECT count(*) FROM postcall.resolution WHERE source = 'person'").await, 0);
}

#[tokio::test]
async fn only_what_is_unknown_can_be_resolved() {
    let (database, inbox) = (Database::new().await, Inbox::open().await);
    database.publish("a", "default", &json!({"method": "POST", "url": inbox.url("/")})).await;
    database.insert_call("a", &json!({})).await;
    let id = database.text("SELECT delivery_id::text FROM postcall.waiting").await.unwrap();
    let refusal = |id: &str| {
        let output = resolve(&database, id, "failed", &[]);
        assert_eq!(output.status.code(), Some(1));
        stderr(&output)
    };
    assert!(refusal(&id).contains("is waiting: only what is unknown can be resolved"));
    let _dispatcher = Dispatcher::start(&database, &[]).await;
    database.settled().await;
    assert!(refusal(&id).contains("is delivered: only what is unknown can be resolved"));
    assert!(refusal("01a20a0c-146c-7e1c-9aa8-e0f101fcdd31").contains("there is no delivery"));
    assert_eq!(database.number("SELECT count(*) FROM postcall.resolution").await, 0);
}

#[tokio::test]
async fn who_says_so_is_never_empty_and_a_reason_is_required() {
    let database = Database::new().await;
    let id = "01a20a0c-146c-7e1c-9aa8-e0f101fcdd31";
    let usage = |arguments: &[&str]| {
        postcall_on(&database, &[&["resolve", id, "--as", "failed"], arguments].concat()).status.code()
    };
    assert_eq!(usage(&[]), Some(2));
    assert_eq!(usage(&["--reason", " "]), Some(2));
    assert_eq!(usage(&["--reason", "r", "--by", ""]), Some(2));
    let (database, _inbox, _paused, id) = in_doubt().await;
    let nobody = std::process::Command::new(env!("CARGO_BIN_EXE_postcall"))
        .args(["resolve", &id, "--as", "failed", "--reason", "r", "--database-url", &database.url])
        .env("USER", "")
        .output()
        .unwrap();
    assert!(nobody.status.success(), "{}", stderr(&nobody));
    let system = nix::unistd::User::from_uid(nix::unistd::Uid::current()).unwrap().unwrap().name;
    assert_eq!(database.text("SELECT resolved_by FROM postcall.resolution").await, Some(system));
}
