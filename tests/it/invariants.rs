//! The accounts: right while everything is in motion, and whatever is taken away or added by hand shows.

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::database::Database;
use crate::support::inbox::Inbox;
use crate::support::process::{Dispatcher, postcall_at, postcall_on, stderr, stdout};

/// A database whose action has been enabled for an hour, so that calls are counted on.
async fn database_with_action(url: &str) -> Database {
    let database = Database::new().await;
    database.publish("a", "default", &json!({"method": "POST", "url": url})).await;
    an_hour_later(&database).await;
    database
}

/// Moves all switches of actions into the past.
async fn an_hour_later(database: &Database) {
    database
        .execute(
            "SET session_replication_role = replica;
             UPDATE postcall.action_switch SET switched_at = switched_at - interval '1 hour';
             RESET session_replication_role",
        )
        .await;
}

/// What the command says: the violated invariants with their offenders.
fn violated(database: &Database) -> Vec<(String, Vec<String>)> {
    let output = postcall_on(database, &["check-invariants", "--json"]);
    let report: Value = serde_json::from_str(&stdout(&output)).unwrap();
    let invariants = report["invariants"].as_array().unwrap();
    let violated: Vec<(String, Vec<String>)> = invariants
        .iter()
        .filter(|invariant| invariant["holds"] == json!(false))
        .map(|invariant| {
            let offenders = invariant["offenders"].as_array().unwrap();
            let offenders = offenders.iter().map(|offender| offender.as_str().unwrap().to_owned()).collect();
            (invariant["name"].as_str().unwrap().to_owned(), offenders)
        })
        .collect();
    assert_eq!(output.status.code(), Some(i32::from(!violated.is_empty())), "{}", stderr(&output));
    assert_eq!(report["holds"], json!(violated.is_empty()));
    violated
}

/// One violated invariant with one offender.
fn only(name: &str, offender: impl ToString) -> Vec<(String, Vec<String>)> {
    vec![(name.to_owned(), vec![offender.to_string()])]
}

#[tokio::test(flavor = "multi_thread")]
async fn they_hold_at_every_moment_under_load_and_after_a_kill() {
    let inbox = Inbox::open().await;
    let database = database_with_action(&inbox.url("/")).await;
    let victim = Dispatcher::start(&database, &["--lease-ms", "1000"]).await;
    let writer = database.pool.clone();
    let platform = tokio::spawn(async move {
        for _ in 0..2_000 {
            sqlx::query("INSERT INTO postcall.outbox (agent, call) VALUES ('a', '{}')").execute(&writer).await.unwrap();
        }
    });
    let _heir = Dispatcher::start(&database, &["--lease-ms", "1000"]).await;
    let mut asked = 0;
    while !platform.is_finished() {
        assert_eq!(violated(&database), []);
        asked += 1;
        if asked == 3 {
            victim.signal(Signal::SIGKILL);
        }
    }
    platform.await.unwrap();
    database.settled().await;
    assert_eq!(violated(&database), []);
    assert_eq!(database.number("SELECT count(*) FROM postcall.delivery").await, 2_000);
}

#[tokio::test]
async fn a_waiting_delivery_that_is_taken_away_is_missed() {
    let database = database_with_action("https://receiver.example/").await;
    let call = database.insert_call("a", &json!({})).await;
    assert_eq!(violated(&database), []);
    database.execute("DELETE FROM postcall.waiting").await;
    assert_eq!(violated(&database), only("none_missing", format!("{call} default")));
}

#[tokio::test]
async fn a_delivery_in_flight_or_in_history_that_is_taken_away_is_missed() {
    let inbox = Inbox::holding().await;
    let database = database_with_action(&inbox.url("/")).await;
    let call = database.insert_call("a", &json!({})).await;
    let dispatcher = Dispatcher::start(&database, &[]).await;
    inbox.has(1).await;
    assert_eq!(violated(&database), []);
    // By id, not by moment: its dispatcher, which still holds it, cannot record it any more.
    database.execute("DELETE FROM postcall.sending").await;
    assert_eq!(violated(&database), only("none_missing", format!("{call} default")));
    drop(dispatcher);

    let other = database_with_action(&inbox.url("/")).await;
    let call = other.insert_call("a", &json!({})).await;
    inbox.answer(2);
    let _dispatcher = Dispatcher::start(&other, &[]).await;
    other.settled().await;
    assert_eq!(violated(&other), []);
    other
        .execute(
            "SET session_replication_role = replica; DELETE FROM postcall.delivery; RESET session_replication_role",
        )
        .await;
    assert_eq!(violated(&other), only("none_missing", format!("{call} default")));
}

#[tokio::test]
async fn a_delivery_that_is_put_back_into_the_queue_is_in_two_places() {
    let inbox = Inbox::open().await;
    let database = database_with_action(&inbox.url("/")).await;
    let call = database.insert_call("a", &json!({})).await;
    let dispatcher = Dispatcher::start(&database, &[]).await;
    database.settled().await;
    drop(dispatcher);
    let again =
        "INSERT INTO postcall.waiting SELECT delivery_id, call_id, agent, action_id, created_at FROM postcall.delivery";
    database.execute(again).await;
    let id = database.text("SELECT delivery_id::text FROM postcall.waiting").await.unwrap();
    assert_eq!(violated(&database), only("one_place", id));
    // Under an id of its own it is a second delivery of the same call.
    database.execute("UPDATE postcall.waiting SET delivery_id = postcall.uuid_v7()").await;
    assert_eq!(violated(&database), only("one_delivery", format!("{call} default")));
}

#[tokio::test]
async fn a_replay_is_no_second_delivery_and_is_missed_if_it_is_taken_away() {
    let inbox = Inbox::open().await;
    let database = database_with_action(&inbox.url("/500")).await;
    database.insert_call("a", &json!({})).await;
    let dispatcher = Dispatcher::start(&database, &[]).await;
    database.settled().await;
    drop(dispatcher);
    assert!(postcall_on(&database, &["replay", "--agent", "a", "--reason", "r"]).status.success());
    assert_eq!(violated(&database), []);
    let id = database.text("SELECT delivery_id::text FROM postcall.waiting").await.unwrap();
    database.execute("DELETE FROM postcall.waiting").await;
    assert_eq!(violated(&database), only("no_replay_missing", id));
}

#[tokio::test]
async fn what_waits_without_its_call_or_action_shows() {
    let database = database_with_action("https://receiver.example/").await;
    database.insert_call("a", &json!({})).await;
    let id = database.text("SELECT delivery_id::text FROM postcall.waiting").await.unwrap();
    database.execute("DELETE FROM postcall.outbox").await;
    assert_eq!(violated(&database), only("complete", &id));
    let other = database_with_action("https://receiver.example/").await;
    other
        .execute("INSERT INTO postcall.waiting SELECT postcall.uuid_v7(), id, 'a', 99, now() FROM postcall.outbox")
        .await;
    assert_eq!(violated(&other), []);
    other.insert_call("a", &json!({})).await;
    other
        .execute("INSERT INTO postcall.waiting SELECT postcall.uuid_v7(), id, 'a', 99, now() FROM postcall.outbox")
        .await;
    let id = other.text("SELECT delivery_id::text FROM postcall.waiting WHERE action_id = 99").await.unwrap();
    assert_eq!(violated(&other), only("complete", id));
}

#[tokio::test]
async fn nobody_is_accused_because_an_action_was_switched() {
    let database = Database::new().await;
    let action = json!({"method": "POST", "url": "https://receiver.example/"});
    // Not yet there, then enabled, then disabled: calls of all three times, each in its right.
    database.insert_call("a", &json!({})).await;
    database.publish("a", "default", &action).await;
    database.insert_call("a", &json!({})).await;
    assert!(postcall_on(&database, &["action", "disable", "a"]).status.success());
    database.insert_call("a", &json!({})).await;
    assert_eq!(violated(&database), []);
    an_hour_later(&database).await;
    let late = database.insert_call("a", &json!({})).await;
    assert_eq!(violated(&database), [], "it was disabled when {late} came");
    // Close to a switch a call may have been given a delivery or not.
    assert!(postcall_on(&database, &["action", "enable", "a"]).status.success());
    assert_eq!(violated(&database), []);
    let near = database.insert_call("a", &json!({})).await;
    database.execute("DELETE FROM postcall.waiting").await;
    assert_eq!(violated(&database), [], "{near} is not asked about");
    // A publication that leaves it enabled is no switch.
    an_hour_later(&database).await;
    database.publish("a", "default", &action).await;
    assert_eq!(database.number("SELECT count(*) FROM postcall.action_switch").await, 3);
    let well_inside = database.insert_call("a", &json!({})).await;
    assert_eq!(violated(&database).len(), 1, "near is now an hour from any switch, and has no delivery");
    database.execute(&format!("DELETE FROM postcall.outbox WHERE id = '{near}'")).await;
    database.execute("DELETE FROM postcall.outbox WHERE id NOT IN (SELECT call_id FROM postcall.waiting)").await;
    assert_eq!(violated(&database), []);
    database.execute("DELETE FROM postcall.waiting").await;
    assert_eq!(violated(&database), only("none_missing", format!("{well_inside} default")));
}

#[tokio::test]
async fn what_is_in_flight_for_too_long_shows() {
    let database = database_with_action("https://receiver.example/").await;
    // Dispatchers that live, with leases that run or have just ended, and what they hold since when; then those that
    // stopped, were lost, or whose lease and request have both been over for too long.
    for (lease, ended, claimed, stuck) in [
        ("5 s", "NULL, NULL", "130 s", false),
        ("5 s", "NULL, NULL", "700 s", false),
        ("5 s", "NULL, NULL", "790 s", true),
        ("-50 s", "NULL, NULL", "300 s", false),
        ("-70 s", "NULL, NULL", "100 s", false),
        ("-70 s", "NULL, NULL", "190 s", true),
        ("5 s", "now() - interval '50 s', NULL", "60 s", false),
        ("5 s", "now() - interval '70 s', NULL", "80 s", true),
        ("-1 s", "NULL, now() - interval '70 s'", "80 s", true),
    ] {
        let sql = format!(
            "WITH one AS (INSERT INTO postcall.dispatcher (name, version, started_at, lease_until, stopped_at, lost_at)
                          VALUES ('d', '1', now() - interval '1 hour', now() + interval '{lease}', {ended})
                          RETURNING dispatcher_id),
                  call AS (INSERT INTO postcall.outbox (agent, call) VALUES ('a', '{{}}') RETURNING id)
             INSERT INTO postcall.sending
             SELECT postcall.uuid_v7(), id, 'a', 1, 1, now(), dispatcher_id, gen_random_uuid(),
                    now() - interval '{claimed}' FROM one, call"
        );
        database.execute(&sql).await;
        database.execute("DELETE FROM postcall.waiting").await;
        let id = database.text("SELECT delivery_id::text FROM postcall.sending").await.unwrap();
        let expected = if stuck { only("none_stuck", id) } else { vec![] };
        assert_eq!(violated(&database), expected, "{lease}, {ended}, {claimed}");
        database.execute("DELETE FROM postcall.sending; DELETE FROM postcall.outbox").await;
    }
}

#[tokio::test]
async fn the_report_names_ten_offenders_and_tells_the_ages_and_needs_the_dispatcher_s_role_only() {
    let database = database_with_action("https://receiver.example/").await;
    let name = database.text("SELECT current_database()").await.unwrap();
    database.execute(&format!("CREATE USER checker_of_{name} IN ROLE postcall_dispatcher")).await;
    let url = database.url.replace("postgres@", &format!("checker_of_{name}@"));
    let output = postcall_at(&url, &["check-invariants"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let expected = "holds     one_place\nholds     one_delivery\nholds     none_missing\nholds     no_replay_missing\n\
                    holds     complete\nholds     none_stuck\noldest waiting: none\noldest sending: none\n\
                    oldest unknown: none\n";
    assert_eq!(stdout(&output), expected);
    database.execute("INSERT INTO postcall.outbox (agent, call) SELECT 'a', '{}' FROM generate_series(1, 12)").await;
    database.execute("DELETE FROM postcall.waiting").await;
    database.insert_call("a", &json!({})).await;
    let output = postcall_on(&database, &["check-invariants"]);
    let said = stdout(&output);
    assert!(said.contains("VIOLATED  none_missing: calls without a delivery of an enabled action: 12\n"), "{said}");
    assert!(said.contains("          and 2 more\n") && said.contains("oldest waiting: 0."), "{said}");
    assert!(stderr(&output).contains("1 of 6 invariants are violated"), "{}", stderr(&output));
}
