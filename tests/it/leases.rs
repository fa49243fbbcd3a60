//! Dispatchers that die, are stopped for a while, or lose their database: what they had in flight becomes unknown, and
//! nothing is sent twice.

use nix::sys::signal::Signal;
use serde_json::json;

use crate::support::database::Database;
use crate::support::inbox::Inbox;
use crate::support::process::Dispatcher;

const STATES: &str = "SELECT string_agg(state || ' ' || n, ', ' ORDER BY state)
                      FROM (SELECT state, count(*) AS n FROM postcall.delivery_history GROUP BY state) AS states";
/// The shortest lease there is.
const LEASE: [&str; 2] = ["--lease-ms", "1000"];

async fn database_with_action(inbox: &Inbox) -> Database {
    let database = Database::new().await;
    database.publish("a", "default", &json!({"method": "POST", "url": inbox.url("/")})).await;
    database
}

#[tokio::test]
async fn what_a_killed_dispatcher_had_in_flight_becomes_unknown_and_is_never_requested_again() {
    let inbox = Inbox::holding().await;
    let database = database_with_action(&inbox).await;
    for _ in 0..5 {
        database.insert_call("a", &json!({"callInfo": {"callSid": "CA5"}})).await;
    }
    let victim =
        Dispatcher::start(&database, &[&LEASE[..], &["--concurrency", "3", "--adapt-to-hosts", "false"]].concat())
            .await;
    inbox.has(3).await;
    victim.signal(Signal::SIGKILL);
    let heir = Dispatcher::start(&database, &LEASE).await;
    database.until("SELECT count(*) = 3 FROM postcall.delivery_history WHERE state = 'unknown'").await;
    inbox.has(5).await;
    inbox.answer(5);
    database.settled().await;
    assert_eq!(database.text(STATES).await.unwrap(), "delivered 2, unknown 3");
    assert!(inbox.counts_by("webhook-id").values().all(|count| *count == 1));
    let story =
        "SELECT DISTINCT concat_ws(' ', error_kind, call_sid) FROM postcall.delivery_history WHERE state = 'unknown'";
    assert_eq!(database.text(story).await.unwrap(), "dispatcher_lost CA5");
    heir.signal(Signal::SIGTERM);
    assert!(heir.ended().await.0);
}

#[tokio::test]
async fn the_next_to_start_gives_up_what_the_last_one_left() {
    let inbox = Inbox::holding().await;
    let database = database_with_action(&inbox).await;
    database.insert_call("a", &json!({})).await;
    let victim = Dispatcher::start(&database, &LEASE).await;
    inbox.has(1).await;
    victim.signal(Signal::SIGKILL);
    database.until("SELECT lease_until < clock_timestamp() FROM postcall.dispatcher").await;
    assert_eq!(database.text(STATES).await.unwrap(), "sending 1");
    let _next = Dispatcher::start(&database, &LEASE).await;
    database.until("SELECT count(*) = 1 FROM postcall.delivery_history WHERE state = 'unknown'").await;
    assert_eq!(inbox.received().len(), 1);
}

#[tokio::test]
async fn the_late_result_of_a_paused_dispatcher_says_what_the_unknown_delivery_was() {
    let inbox = Inbox::holding().await;
    let database = database_with_action(&inbox).await;
    database.insert_call("a", &json!({})).await;
    let mut paused = Dispatcher::start(&database, &LEASE).await;
    inbox.has(1).await;
    paused.signal(Signal::SIGSTOP);
    let _other = Dispatcher::start(&database, &LEASE).await;
    database.until("SELECT count(*) = 1 FROM postcall.delivery_history WHERE state = 'unknown'").await;
    inbox.answer(1);
    paused.signal(Signal::SIGCONT);
    paused.says("late results recorded as evidence").await;
    assert_eq!(database.text(STATES).await.unwrap(), "delivered 1");
    let story = "SELECT concat_ws(' ', recorded_state, response_code, resolved_by) FROM postcall.delivery_history";
    assert_eq!(database.text(story).await.unwrap(), "unknown 200 the dispatcher that sent it");
    assert_eq!(inbox.received().len(), 1);
}

#[tokio::test]
async fn a_dispatcher_that_was_declared_lost_goes_on_under_a_new_id() {
    let inbox = Inbox::open().await;
    let database = database_with_action(&inbox).await;
    let mut paused = Dispatcher::start(&database, &LEASE).await;
    paused.signal(Signal::SIGSTOP);
    let other = Dispatcher::start(&database, &LEASE).await;
    database.until("SELECT count(*) = 1 FROM postcall.dispatcher WHERE lost_at IS NOT NULL").await;
    other.signal(Signal::SIGTERM);
    assert!(other.ended().await.0);
    paused.signal(Signal::SIGCONT);
    paused.says("was declared lost; goes on as another").await;
    database.insert_call("a", &json!({})).await;
    database.settled().await;
    assert_eq!(database.text(STATES).await.unwrap(), "delivered 1");
    let sender =
        "SELECT (dispatcher_id = (SELECT max(dispatcher_id) FROM postcall.dispatcher))::text FROM postcall.delivery";
    assert_eq!(database.text(sender).await.unwrap(), "true");
    paused.signal(Signal::SIGTERM);
    assert!(paused.ended().await.0);
}

#[tokio::test]
async fn a_dispatcher_that_cannot_renew_its_lease_begins_no_request_until_it_can() {
    let inbox = Inbox::open().await;
    let database = database_with_action(&inbox).await;
    let mut cut_off = Dispatcher::start(&database, &LEASE).await;
    // A lock on its row lets it neither renew nor claim; the claim waits in the database, the renewal times out.
    let mut lock = database.pool.begin().await.unwrap();
    sqlx::query("SELECT FROM postcall.dispatcher FOR UPDATE").execute(&mut *lock).await.unwrap();
    cut_off.says("worker=\"lease\"").await;
    database.insert_call("a", &json!({})).await;
    database.until("SELECT lease_until < clock_timestamp() FROM postcall.dispatcher").await;
    assert!(inbox.received().is_empty());
    lock.rollback().await.unwrap();
    cut_off.says("the database is back").await;
    database.settled().await;
    assert_eq!(database.text(STATES).await.unwrap(), "delivered 1");
    assert_eq!(inbox.received().len(), 1);
}
