//! Tests of actions: one request each, recorded before it begins and never as a delivery, at most a few at a time, and never again.

use std::process::Output;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use postcall::domain::action_test::{CallSource, TestResult};
use postcall::domain::body_digest::BodyDigest;
use postcall::domain::claim::AttemptRecord;
use postcall::domain::delivery::{Ending, Failure, Outcome};
use postcall::store::Store;
use postcall::store::action_tests::{Begun, MOST_A_MINUTE, MOST_IN_FLIGHT, TestOrder, Tested};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::process::{Child, Command};
use uuid::Uuid;

use crate::support::database::Database;
use crate::support::keys::{key_file, new_key};
use crate::support::process::{POSTCALL, THIS_MACHINE, file, postcall_at, stderr, stdout};
use crate::support::receiver::Receiver;
use crate::support::silent::{arrives, silent};

const TAKEN: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// What everybody says who tests here.
const SAID: [&str; 4] = ["--by", "Ada", "--reason", "does it work?"];

/// Guards off, so that the owner can move a test back in time; and on again.
const GUARDS_OFF: &str = "ALTER TABLE postcall.action_test DISABLE TRIGGER USER;";
const GUARDS_ON: &str = "ALTER TABLE postcall.action_test ENABLE TRIGGER USER;
                         ALTER TABLE postcall.action_test ENABLE ALWAYS TRIGGER tests_are_immutable";

/// A database with an action of agent a that posts to `url`.
async fn database(url: &str) -> Database {
    let database = Database::new().await;
    database.publish("a", "default", &json!({"method": "POST", "url": url, "timeout": 60_000})).await;
    database
}

/// The arguments of a test that may call this machine.
fn test<'a>(agent: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["action", "test", agent][..], &SAID, &THIS_MACHINE, more].concat()
}

/// Runs a test to its end while receivers go on, and returns its report.
async fn tested(url: &str, arguments: Vec<&str>) -> (Output, Value) {
    let arguments: Vec<&str> = arguments.into_iter().chain(["--format", "json"]).collect();
    let output = Command::new(POSTCALL).env("DATABASE_URL", url).args(arguments).output().await.unwrap();
    let report = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    (output, report)
}

/// What is recorded, as an auditor sees it.
async fn listed(database: &Database) -> Vec<Value> {
    let url = database.login(&["postcall_auditor"]).await;
    let output = postcall_at(&url, &["action", "tests", "a", "--format", "json"]);
    assert!(output.status.success(), "{}", stderr(&output));
    serde_json::from_str(&stdout(&output)).unwrap()
}

fn start(url: &str, arguments: &[&str]) -> Child {
    let mut command = Command::new(POSTCALL);
    command.env("DATABASE_URL", url).args(arguments).kill_on_drop(true);
    command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    command.spawn().unwrap()
}

fn signal(child: &Child, signal: Signal) {
    kill(Pid::from_raw(child.id().unwrap().try_into().unwrap()), signal).unwrap();
}

/// As if the time of all tests that are recorded were over.
async fn their_time_passes(database: &Database) {
    let passed = "UPDATE postcall.action_test SET started_at = started_at - interval '3 minutes',
                         given_up_at = given_up_at - interval '3 minutes';";
    database.execute(&format!("{GUARDS_OFF} {passed} {GUARDS_ON}")).await;
}

fn order(agent: &str) -> TestOrder<'_> {
    TestOrder {
        agent,
        action: "default",
        tested: Tested::File(BodyDigest::Plain([7; 32])),
        source: CallSource::Sample,
        call_id: None,
        timeout_ms: 1_000,
        sent: None,
        by: "Ada",
        reason: "r",
    }
}

async fn begun(store: &Store, agent: &str) -> Uuid {
    match store.begin_test(&order(agent)).await.unwrap() {
        Begun::Test(test_id) => test_id,
        refused => panic!("{refused:?}"),
    }
}

fn ended(ending: Ending) -> TestResult {
    TestResult { ending, record: AttemptRecord::default() }
}

#[tokio::test]
async fn a_test_sends_one_request_and_is_recorded_with_who_and_why_and_never_as_a_delivery() {
    let receiver = Receiver::answering(TAKEN).await;
    let database = database(&receiver.url("/hook?call=${callInfo.callSid}&token=${outcome}")).await;
    // It need not be enabled.
    postcall_at(&database.url, &["action", "disable", "a"]);
    let (output, report) = tested(&database.url, test("a", &[])).await;
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!((&report["state"], &report["response_code"]), (&json!("delivered"), &json!(200)));
    assert_eq!((&report["call_source"], &report["action_version"]), (&json!("sample"), &json!(1)));
    assert!(report["request"]["url"].as_str().unwrap().contains("call=CA1234567890abcdef"), "{report}");
    let arrived = receiver.texts();
    assert_eq!(arrived.len(), 1);
    assert!(arrived[0].contains(&format!("webhook-id: {}\r\n", report["test_id"].as_str().unwrap())), "{arrived:?}");
    assert!(arrived[0].contains("token=qualified_lead"), "{arrived:?}");

    let tests = listed(&database).await;
    assert_eq!(tests.len(), 1);
    let test = &tests[0];
    assert_eq!((&test["tested_by"], &test["reason"]), (&json!("Ada"), &json!("does it work?")));
    assert_eq!((&test["state"], &test["test_id"]), (&json!("delivered"), &report["test_id"]));
    assert_eq!(test["url"], receiver.url("/hook?call=…&token=…"), "nothing of the call is kept: {test}");
    let deliveries = "SELECT (SELECT count(*) FROM postcall.delivery_history) + (SELECT count(*) FROM postcall.waiting)
                           + (SELECT count(*) FROM postcall.outbox) + (SELECT count(*) FROM postcall.replay)";
    assert_eq!(database.number(deliveries).await, 0);
    let invariants = postcall_at(&database.url, &["check-invariants"]);
    assert!(invariants.status.success(), "{}{}", stdout(&invariants), stderr(&invariants));
}

#[tokio::test]
async fn what_is_not_2xx_is_told_in_plain_words_and_by_the_exit_status() {
    let receiver = Receiver::answering(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n").await;
    let database = database(&receiver.url("/")).await;
    let arguments = test("a", &[]);
    let output = Command::new(POSTCALL).env("DATABASE_URL", &database.url).args(arguments).output().await.unwrap();
    assert_eq!(output.status.code(), Some(1));
    let told = stdout(&output);
    assert!(told.contains("  REJECTED\n"), "{told}");
    assert!(told.contains("The receiver had it and answered with status 404"), "{told}");
    assert_eq!(listed(&database).await[0]["state"], "rejected");
}

#[tokio::test]
async fn what_certainly_was_not_sent_is_a_failure() {
    let receiver = Receiver::answering(TAKEN).await;
    let database = database(&receiver.url("/")).await;
    // The guard: nothing says that this machine may be called.
    let strict = [&["action", "test", "a"][..], &SAID].concat();
    let (output, report) = tested(&database.url, strict).await;
    assert_eq!(output.status.code(), Some(1), "{report}");
    assert_eq!((&report["state"], &report["error_kind"]), (&json!("failed"), &json!("blocked")));
    // What cannot be rendered.
    let action = file(&json!({"method": "POST", "url": receiver.url("/${context.nothing}")}).to_string());
    let (_, report) = tested(&database.url, test("a", &["--file", action.path().to_str().unwrap()])).await;
    assert_eq!((&report["state"], &report["error_kind"]), (&json!("failed"), &json!("render")));
    assert_eq!((&report["request"], &report["latency_ms"]), (&Value::Null, &Value::Null));
    assert_eq!(receiver.received().len(), 0);
    let kinds: Vec<Value> = listed(&database).await.into_iter().map(|test| test["error_kind"].clone()).collect();
    assert_eq!(kinds, [json!("render"), json!("blocked")]);
}

#[tokio::test]
async fn a_test_without_an_answer_in_time_is_unknown() {
    let (receiver, _arrivals) = silent().await;
    let database = Database::new().await;
    let action = json!({"method": "POST", "url": receiver.url("/"), "timeout": 100});
    database.publish("a", "default", &action).await;
    let (output, report) = tested(&database.url, test("a", &[])).await;
    assert_eq!(output.status.code(), Some(1));
    assert_eq!((&report["state"], &report["error_kind"]), (&json!("unknown"), &json!("timeout")));
}

#[tokio::test]
async fn a_test_whose_process_is_killed_is_unknown_after_its_time_and_is_not_sent_again() {
    let (receiver, mut arrivals) = silent().await;
    let database = database(&receiver.url("/")).await;
    let mut child = start(&database.url, &test("a", &[]));
    arrives(&mut arrivals).await;
    signal(&child, Signal::SIGKILL);
    child.wait().await.unwrap();
    let before = listed(&database).await;
    assert_eq!((&before[0]["state"], &before[0]["error_kind"]), (&json!("sending"), &Value::Null));
    their_time_passes(&database).await;
    let after = listed(&database).await;
    assert_eq!((&after[0]["state"], &after[0]["error_kind"]), (&json!("unknown"), &json!("test_lost")));
    assert_eq!(receiver.received().len(), 1);
}

#[tokio::test]
async fn a_test_that_is_interrupted_is_recorded_as_unknown_at_once() {
    let (receiver, mut arrivals) = silent().await;
    let database = database(&receiver.url("/")).await;
    for sent in [Signal::SIGINT, Signal::SIGTERM] {
        let mut child = start(&database.url, &test("a", &[]));
        arrives(&mut arrivals).await;
        signal(&child, sent);
        assert_eq!(child.wait().await.unwrap().code(), Some(1));
        let test = &listed(&database).await[0];
        assert_eq!((&test["state"], &test["error_kind"]), (&json!("unknown"), &json!("test_stopped")));
        assert!(test["latency_ms"].is_number(), "{test}");
    }
}

#[tokio::test]
async fn a_result_that_comes_after_its_time_counts_and_only_the_first_one() {
    let database = Database::new().await;
    let test_id = begun(&database.store, "a").await;
    their_time_passes(&database).await;
    assert_eq!(listed(&database).await[0]["state"], "unknown");
    let failed = Outcome::Failed { kind: Failure::Render, detail: "d".to_owned() };
    for ending in [Ending::Unsent, Ending::Final(failed)] {
        database.store.record_test(test_id, &ended(ending)).await.unwrap();
        assert_eq!(listed(&database).await[0]["state"], "unsent");
    }
}

#[tokio::test]
async fn of_all_who_test_for_one_agent_at_once_a_few_may_and_other_agents_are_not_kept_from_it() {
    let database = Database::new().await;
    let all = (0..8).map(|_| async { database.store.begin_test(&order("a")).await.unwrap() });
    let outcomes = futures_util::future::join_all(all).await;
    let tests: Vec<Uuid> =
        outcomes.iter().filter_map(|one| if let Begun::Test(id) = one { Some(*id) } else { None }).collect();
    assert_eq!(tests.len(), usize::try_from(MOST_IN_FLIGHT).unwrap(), "{outcomes:?}");
    assert!(outcomes.iter().all(|one| matches!(one, Begun::Test(_) | Begun::TooManyInFlight)), "{outcomes:?}");
    begun(&database.store, "b").await;
    // One that has ended, or whose time is over, makes room.
    database.store.record_test(tests[0], &ended(Ending::Unsent)).await.unwrap();
    begun(&database.store, "a").await;
    assert_eq!(database.store.begin_test(&order("a")).await.unwrap(), Begun::TooManyInFlight);
    their_time_passes(&database).await;
    begun(&database.store, "a").await;
}

#[tokio::test]
async fn of_one_agent_a_few_tests_a_minute_are_made() {
    let database = Database::new().await;
    for _ in 0..MOST_A_MINUTE {
        let test_id = begun(&database.store, "a").await;
        database.store.record_test(test_id, &ended(Ending::Unsent)).await.unwrap();
    }
    assert_eq!(database.store.begin_test(&order("a")).await.unwrap(), Begun::TooManyAMinute);
    begun(&database.store, "b").await;
    let action = file(&json!({"method": "POST", "url": "https://a.example/"}).to_string());
    let (output, _) = tested(&database.url, test("a", &["--file", action.path().to_str().unwrap()])).await;
    assert!(stderr(&output).contains("10 tests of this agent began within the last minute"), "{}", stderr(&output));
}

#[tokio::test]
async fn one_test_too_many_in_flight_is_refused_in_plain_words_and_sends_nothing() {
    let (receiver, mut arrivals) = silent().await;
    let database = database(&receiver.url("/")).await;
    let _first = start(&database.url, &test("a", &[]));
    let _second = start(&database.url, &test("a", &[]));
    arrives(&mut arrivals).await;
    arrives(&mut arrivals).await;
    let (output, _) = tested(&database.url, test("a", &[])).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("2 tests of this agent are in flight"), "{}", stderr(&output));
    assert_eq!(receiver.received().len(), 2);
    assert_eq!(database.number("SELECT count(*) FROM postcall.action_test").await, 2);
}

#[tokio::test]
async fn what_is_paused_is_not_called_by_a_test_and_it_is_said_why() {
    let receiver = Receiver::answering(TAKEN).await;
    let database = database(&receiver.url("/")).await;
    let host = receiver.address().to_string();
    let succeeds = |arguments: &[&str]| {
        let output = postcall_at(&database.url, arguments);
        assert!(output.status.success(), "{}", stderr(&output));
    };
    for target in [["agent", "a"], ["action", "a"], ["host", &host], ["host", "127.0.0.1"]] {
        succeeds(&[&["pause"], &target[..], &["--reason", "CRM is down", "--by", "Eve"]].concat());
        let (output, _) = tested(&database.url, test("a", &[])).await;
        assert_eq!(output.status.code(), Some(1));
        let told = stderr(&output);
        assert!(told.contains("by Eve") && told.contains("CRM is down") && told.contains("postcall resume"), "{told}");
        succeeds(&[&["resume"], &target[..], &["--reason", "r"]].concat());
    }
    database.publish("b", "default", &json!({"method": "POST", "url": "https://b.example/"})).await;
    for target in [["agent", "b"], ["host", "127.0.0.2"]] {
        succeeds(&[&["pause"], &target[..], &["--reason", "r"]].concat());
    }
    assert_eq!(database.number("SELECT count(*) FROM postcall.action_test").await, 0);
    let (output, _) = tested(&database.url, test("a", &[])).await;
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(receiver.received().len(), 1);
}

#[tokio::test]
async fn a_file_is_tested_before_it_is_published_and_told_by_its_digest() {
    let receiver = Receiver::answering(TAKEN).await;
    let database = Database::new().await;
    let action = file(&json!({"method": "POST", "url": receiver.url("/"), "body": "[${context.no}]"}).to_string());
    let call = file("{\"context\": {}}");
    let (action, call) = (action.path().to_str().unwrap(), call.path().to_str().unwrap());
    let (output, report) = tested(&database.url, test("a", &["--file", action, "--call-file", call])).await;
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stderr(&output).contains("the call has nothing for the placeholder context.no"), "{}", stderr(&output));
    assert_eq!((&report["call_source"], &report["action_version"]), (&json!("file"), &Value::Null));
    assert_eq!(report["file_sha256"].as_str().map(str::len), Some(64));
    assert_eq!((&report["unresolved"], &report["request"]["body"]), (&json!(["context.no"]), &json!("[null]")));
    assert_eq!(database.number("SELECT count(*) FROM postcall.action").await, 0);
    // A short token in the file could be guessed from a plain digest of it.
    let key = key_file(&[&new_key()]);
    let with_key = ["--file", action, "--call-file", call, "--key-file", key.path().to_str().unwrap()];
    let (output, report) = tested(&database.url, test("a", &with_key)).await;
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(report["file_sha256"].as_str().map(str::len), Some(80));
    let wrong = file("{}");
    let (output, _) = tested(&database.url, test("a", &["--file", wrong.path().to_str().unwrap()])).await;
    assert!(stderr(&output).contains("not tested"), "{}", stderr(&output));
    assert_eq!(receiver.received().len(), 2);
}

#[tokio::test]
async fn a_past_call_is_read_only_by_who_may_read_calls_and_only_one_of_the_agent() {
    let receiver = Receiver::answering(TAKEN).await;
    let database = database(&receiver.url("/")).await;
    let call = database.insert_call("a", &json!({"outcome": "won"})).await.to_string();
    let foreign = database.insert_call("b", &json!({"outcome": "lost"})).await.to_string();
    let both = database.login(&["postcall_publisher", "postcall_dispatcher"]).await;
    let (output, report) = tested(&both, test("a", &["--call", &call])).await;
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!((&report["call_source"], &report["call_id"]), (&json!("outbox"), &json!(call)));
    assert!(receiver.texts()[0].ends_with("{\"outcome\":\"won\"}"), "{:?}", receiver.texts());
    let publisher = database.login(&["postcall_publisher"]).await;
    let nobody_s = Uuid::nil().to_string();
    for (url, call, told) in [
        (&publisher, &call, "these rights do not allow reading calls"),
        (&both, &foreign, "is one of another agent"),
        (&both, &nobody_s, "there is no call"),
    ] {
        let (output, _) = tested(url, test("a", &["--call", call])).await;
        assert_eq!(output.status.code(), Some(1));
        assert!(stderr(&output).contains(told), "{}", stderr(&output));
    }
    assert_eq!(receiver.received().len(), 1);
    // The call waits as before: a test takes nothing from the queue.
    assert_eq!(database.number("SELECT count(*) FROM postcall.waiting").await, 1);
}

#[tokio::test]
async fn no_value_of_the_call_but_those_of_the_masked_url_is_kept() {
    let receiver = Receiver::answering(TAKEN).await;
    let database = Database::new().await;
    let action = json!({
        "method": "POST",
        "url": receiver.url("/?token=${callInfo.from}"),
        "headers": {"x-a": "${context.customer_name}"},
        "body": "[${analysis}, \"${callInfo.from}\"]",
    });
    database.publish("a", "default", &action).await;
    let (output, _) = tested(&database.url, test("a", &[])).await;
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(receiver.texts()[0].contains("15551234567") && receiver.texts()[0].contains("Aditi Rao"));
    let kept = "SELECT (SELECT json_agg(test) FROM postcall.action_test AS test)::text
                    || (SELECT json_agg(result) FROM postcall.action_test_result AS result)::text";
    let kept = database.text(kept).await.unwrap();
    for value in ["15551234567", "Aditi", "Whitefield"] {
        assert!(!kept.contains(value), "{kept}");
    }
}

#[tokio::test]
async fn publishers_test_auditors_look_and_nobody_says_for_another_what_became_of_a_test() {
    let receiver = Receiver::answering(TAKEN).await;
    let database = database(&receiver.url("/")).await;
    let publisher = database.login(&["postcall_publisher"]).await;
    let (output, report) = tested(&publisher, test("a", &[])).await;
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(report["db_user"].as_str(), publisher.split(['/', '@']).nth(2));
    for role in ["postcall_auditor", "postcall_dispatcher", "postcall_platform"] {
        let url = database.login(&[role]).await;
        let (output, _) = tested(&url, test("a", &[])).await;
        assert_eq!(output.status.code(), Some(1), "{role}");
        assert!(stderr(&output).contains("permission denied"), "{role}: {}", stderr(&output));
    }
    assert_eq!(receiver.received().len(), 1);
    let mut connection = PgConnection::connect(&publisher).await.unwrap();
    for forged in [
        "INSERT INTO postcall.action_test (agent, action, action_version, call_source, timeout_ms, tested_by, reason, started_at)
         VALUES ('a', 'default', 1, 'sample', 100, 'x', 'x', '2020-01-01')",
        "INSERT INTO postcall.action_test (agent, action, action_version, call_source, timeout_ms, tested_by, reason, db_user)
         VALUES ('a', 'default', 1, 'sample', 100, 'x', 'x', 'eve')",
        "DELETE FROM postcall.action_test",
        "UPDATE postcall.action_test SET reason = 'x'",
        "UPDATE postcall.action_test_result SET state = 'rejected'",
        "DELETE FROM postcall.tested_agent",
    ] {
        let error = sqlx::raw_sql(AssertSqlSafe(forged)).execute(&mut connection).await.expect_err(forged);
        assert_eq!(error.as_database_error().unwrap().code().as_deref(), Some("42501"), "{forged}: {error}");
    }
    let test_id = begun(&database.store, "a").await;
    let store = Store::connect(&publisher, 1).await.unwrap();
    assert!(store.record_test(test_id, &ended(Ending::Unsent)).await.expect_err("another's test").is_forbidden());
    database.store.record_test(test_id, &ended(Ending::Unsent)).await.unwrap();
}

#[tokio::test]
async fn neither_a_test_nor_its_result_is_changed_or_deleted_even_by_the_owner() {
    let database = Database::new().await;
    let test_id = begun(&database.store, "a").await;
    database.store.record_test(test_id, &ended(Ending::Unsent)).await.unwrap();
    for change in [
        "UPDATE postcall.action_test SET reason = 'another'",
        "DELETE FROM postcall.action_test",
        "UPDATE postcall.action_test_result SET state = 'unsent'",
        "DELETE FROM postcall.action_test_result",
        "TRUNCATE postcall.action_test_result",
        "TRUNCATE postcall.action_test CASCADE",
        "TRUNCATE postcall.tested_agent",
    ] {
        assert!(database.error_of(change).await.contains("never changed or deleted"), "{change}");
    }
}

#[tokio::test]
async fn tests_and_results_that_make_no_sense_cannot_exist() {
    let database = database("https://a.example/").await;
    let insert = |values: &str| {
        format!(
            "INSERT INTO postcall.action_test
                 (agent, action, action_version, file_sha256, call_source, call_id, timeout_ms, tested_by, reason, method)
             VALUES ({values})"
        )
    };
    for (values, constraint) in [
        ("'', 'n', NULL, sha256(''), 'sample', NULL, 100, 'x', 'x', NULL", "tested_agent_has_1_to_200_characters"),
        ("'a', '', NULL, sha256(''), 'sample', NULL, 100, 'x', 'x', NULL", "tested_action_has_1_to_100_characters"),
        ("'a', 'n', NULL, NULL, 'sample', NULL, 100, 'x', 'x', NULL", "a_version_or_a_file_is_tested"),
        ("'a', 'default', 1, sha256(''), 'sample', NULL, 100, 'x', 'x', NULL", "a_version_or_a_file_is_tested"),
        ("'a', 'n', NULL, sha256(''), 'dream', NULL, 100, 'x', 'x', NULL", "call_source_is_known"),
        ("'a', 'n', NULL, sha256(''), 'outbox', NULL, 100, 'x', 'x', NULL", "only_a_past_call_has_an_id"),
        ("'a', 'n', NULL, sha256(''), 'sample', gen_random_uuid(), 100, 'x', 'x', NULL", "only_a_past_call_has_an_id"),
        ("'a', 'n', NULL, sha256(''), 'sample', NULL, 99, 'x', 'x', NULL", "action_test_timeout_ms_check"),
        ("'a', 'n', NULL, sha256(''), 'sample', NULL, 100, '', 'x', NULL", "tested_by_has_1_to_200_characters"),
        ("'a', 'n', NULL, sha256(''), 'sample', NULL, 100, 'x', '', NULL", "test_reason_has_1_to_1000_characters"),
        ("'a', 'n', NULL, sha256(''), 'sample', NULL, 100, 'x', 'x', 'GET'", "a_request_has_a_method_and_a_url"),
        ("'a', 'default', 2, NULL, 'sample', NULL, 100, 'x', 'x', NULL", "no such version"),
    ] {
        let said = database.error_of(&insert(values)).await;
        assert!(said.contains(constraint), "{values}: {said}");
    }
    let test_id = begun(&database.store, "a").await;
    let columns = "test_id, state, error_kind, response_code, response_bytes, response_sha256, body_end, latency_ms";
    for values in [
        "'sending', NULL, NULL, NULL, NULL, NULL, NULL",
        "'delivered', NULL, NULL, NULL, NULL, NULL, 1",
        "'delivered', NULL, 404, 0, sha256(''), 'complete', 1",
        "'rejected', NULL, 200, 0, sha256(''), 'complete', 1",
        "'rejected', NULL, 404, NULL, NULL, 'complete', 1",
        "'failed', 'timeout', NULL, NULL, NULL, NULL, 1",
        "'unknown', 'dns', NULL, NULL, NULL, NULL, 1",
        "'unknown', 'test_lost', NULL, NULL, NULL, NULL, 1",
        "'unknown', NULL, NULL, NULL, NULL, NULL, 1",
        "'unsent', 'timeout', NULL, NULL, NULL, NULL, NULL",
        "'unsent', NULL, NULL, NULL, NULL, NULL, 1",
        "'failed', 'connect', NULL, NULL, NULL, NULL, NULL",
    ] {
        let insert = format!("INSERT INTO postcall.action_test_result ({columns}) VALUES ('{test_id}', {values})");
        assert!(database.error_of(&insert).await.contains("violates check constraint"), "{values}");
    }
}

#[tokio::test]
async fn old_tests_leave_with_old_history_and_younger_ones_stay() {
    let database = Database::new().await;
    let test_id = begun(&database.store, "a").await;
    database.store.record_test(test_id, &ended(Ending::Unsent)).await.unwrap();
    // A result keeps the id of its test, so a test without one is made old here, and then gets one.
    begun(&database.store, "a").await;
    let old = "UPDATE postcall.action_test SET started_at = '2026-01-01Z', given_up_at = '2026-01-01 00:01Z',
                      test_id = postcall.uuid_v7_floor('2026-01-01Z')
               WHERE NOT EXISTS (SELECT FROM postcall.action_test_result AS result
                                 WHERE result.test_id = action_test.test_id);";
    database.execute(&format!("{GUARDS_OFF} {old} {GUARDS_ON}")).await;
    let result = "INSERT INTO postcall.action_test_result (test_id, state) SELECT min(test_id::text)::uuid, 'unsent'
                  FROM postcall.action_test";
    database.execute(result).await;
    let prune = |days: &str| {
        let output = postcall_at(&database.url, &["prune", "--keep-calls-days", days, "--keep-history-days", days]);
        assert!(output.status.success(), "{}", stderr(&output));
        stdout(&output)
    };
    let counts = "SELECT (SELECT count(*) FROM postcall.action_test) * 10
                       + (SELECT count(*) FROM postcall.action_test_result)";
    prune("36000");
    assert_eq!(database.number(counts).await, 22);
    let said = prune("30");
    assert!(said.contains("action_test") && said.contains("1 rows left"), "{said}");
    assert_eq!(database.number(counts).await, 11);
    assert_eq!(database.number("SELECT count(*) FROM postcall.action_test_result").await, 1);
    // The accounts of deliveries reach back as far as before.
    assert_eq!(database.number("SELECT count(*) FROM postcall.retention WHERE history_begins IS NULL").await, 1);
}
