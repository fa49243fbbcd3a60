//! Calls and bodies of any size, over links of any speed: large ones hold up no small ones, take no more memory than
//! was allowed, and do not make a dispatcher lose its lease.

use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::json;

use crate::support::accounts;
use crate::support::database::Database;
use crate::support::inbox::Inbox;
use crate::support::process::{ALL_FOR_ONE, Dispatcher, postcall_on, stderr};
use crate::support::proxy::Proxy;
use crate::support::tally::Tally;

const STATES: &str = "SELECT string_agg(state || ' ' || n, ', ' ORDER BY state)
                      FROM (SELECT state, count(*) AS n FROM postcall.delivery_history GROUP BY state) AS states";
const MIB: usize = 1024 * 1024;

/// Inserts calls of an agent, each with one long value.
async fn insert_large_calls(database: &Database, agent: &str, calls: usize, bytes: usize) {
    database
        .execute(&format!(
            "INSERT INTO postcall.outbox (agent, call)
             SELECT '{agent}', json_build_object('number', number, 'transcript', repeat('word ', {bytes} / 5))
             FROM generate_series(1, {calls}) AS number"
        ))
        .await;
}

/// Gives an agent an action that sends the whole call to `url`.
async fn send_whole_calls_to(database: &Database, agent: &str, url: &str) {
    database.publish(agent, "default", &json!({"method": "POST", "url": url, "timeout": 120_000})).await;
}

async fn nobody_was_lost(database: &Database) {
    assert_eq!(database.number("SELECT count(*) FROM postcall.dispatcher WHERE lost_at IS NOT NULL").await, 0);
}

async fn stopped_well(dispatcher: Dispatcher) {
    dispatcher.signal(Signal::SIGTERM);
    let (well, last) = dispatcher.ended().await;
    assert!(well, "{last}");
}

#[tokio::test(flavor = "multi_thread")]
async fn more_waiting_bytes_than_a_link_carries_in_a_claim_s_time_are_delivered_one_portion_after_the_other() {
    let (calls, bytes) = (24, 2_500_000);
    let (database, inbox) = (Database::new().await, Inbox::open().await);
    database.publish("a", "default", &json!({"method": "POST", "url": inbox.url("/"), "body": "${number}"})).await;
    insert_large_calls(&database, "a", calls, bytes).await;
    let proxy = Proxy::to_server_of(&database.url).await;
    // All of them take 12 s, and a claim may take 10.
    proxy.limit_rate(5_000_000);
    let dispatcher = Dispatcher::start_at(&proxy.url_of(&database.url), &[]).await;
    inbox.has(calls).await;
    database.settled().await;
    assert_eq!(database.text(STATES).await.unwrap(), format!("delivered {calls}"));
    assert_eq!(inbox.received().len(), calls);
    let carried = proxy.carried();
    assert!(carried < calls * bytes * 3 / 2, "{carried} bytes for {calls} calls of {bytes}");
    stopped_well(dispatcher).await;
    nobody_was_lost(&database).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_portion_that_the_link_does_not_carry_in_time_is_followed_by_a_smaller_one() {
    let (database, inbox) = (Database::new().await, Inbox::open().await);
    database.publish("a", "default", &json!({"method": "POST", "url": inbox.url("/"), "body": "${number}"})).await;
    // Together they are one portion, which would take 12 s.
    insert_large_calls(&database, "a", 3, 1_300_000).await;
    let proxy = Proxy::to_server_of(&database.url).await;
    proxy.limit_rate(325_000);
    let mut dispatcher = Dispatcher::start_at(&proxy.url_of(&database.url), &["--adapt-to-hosts", "false"]).await;
    dispatcher.says("a claim whose answer was lost has been given back released=3").await;
    inbox.has(3).await;
    database.settled().await;
    assert_eq!(database.text(STATES).await.unwrap(), "delivered 3");
    assert_eq!(inbox.received().len(), 3);
    stopped_well(dispatcher).await;
    nobody_was_lost(&database).await;
}

/// The claim takes several leases, and another dispatcher looks on.
#[tokio::test(flavor = "multi_thread")]
async fn a_lease_is_renewed_while_a_large_claim_is_on_its_way() {
    let (database, inbox) = (Database::new().await, Inbox::open().await);
    database.publish("a", "default", &json!({"method": "POST", "url": inbox.url("/"), "body": "${number}"})).await;
    let proxy = Proxy::to_server_of(&database.url).await;
    proxy.limit_rate(1_000_000);
    let slow = Dispatcher::start_leased(&proxy.url_of(&database.url), 2_000, 4).await;
    insert_large_calls(&database, "a", 1, 8_000_000).await;
    // It claims before the other is there, which then finds nothing.
    database
        .until(
            "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database()
                                   AND query LIKE '%WITH claimant%' AND wait_event = 'ClientWrite')",
        )
        .await;
    let other = Dispatcher::start_leased(&database.url, 2_000, 4).await;
    inbox.has(1).await;
    database.settled().await;
    let sender = database.number("SELECT dispatcher_id::bigint FROM postcall.delivery WHERE state = 'delivered'").await;
    assert_eq!(sender, i64::from(slow.id()));
    nobody_was_lost(&database).await;
    stopped_well(slow).await;
    stopped_well(other).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dispatcher_that_stands_still_in_the_middle_of_a_claim_keeps_nothing_from_the_others() {
    let (database, inbox) = (Database::new().await, Inbox::open().await);
    database.publish("a", "default", &json!({"method": "POST", "url": inbox.url("/"), "body": "${number}"})).await;
    let proxy = Proxy::to_server_of(&database.url).await;
    proxy.limit_rate(200_000);
    let _still = Dispatcher::start_leased(&proxy.url_of(&database.url), 1_000, 4).await;
    insert_large_calls(&database, "a", 1, 8_000_000).await;
    database
        .until(
            "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database()
                                   AND query LIKE '%WITH claimant%' AND wait_event = 'ClientWrite')",
        )
        .await;
    // From now on it neither takes its answer nor renews its lease; its connections stay open.
    proxy.hold_back(true);
    let other = Dispatcher::start_leased(&database.url, 1_000, 4).await;
    database.until("SELECT EXISTS (SELECT FROM postcall.dispatcher WHERE lost_at IS NOT NULL)").await;
    // The server ends the connection whose peer takes nothing, and the claim with it.
    inbox.has(1).await;
    database.settled().await;
    let sender = database.number("SELECT dispatcher_id::bigint FROM postcall.delivery").await;
    assert_eq!(sender, i64::from(other.id()));
    stopped_well(other).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_beyond_the_limit_fails_by_its_size_unread_and_holds_up_nobody() {
    let (database, inbox) = (Database::new().await, Inbox::open().await);
    send_whole_calls_to(&database, "a", &inbox.url("/")).await;
    let large = json!({"callInfo": {"callSid": "CA-large"}, "transcript": "x".repeat(3_000_000)});
    database.insert_call("a", &large).await;
    database.insert_call("a", &json!({"small": true})).await;
    let proxy = Proxy::to_server_of(&database.url).await;
    let dispatcher = Dispatcher::start_at(&proxy.url_of(&database.url), &["--max-call-bytes", "1000000"]).await;
    database.settled().await;
    assert_eq!(database.text(STATES).await.unwrap(), "delivered 1, failed 1");
    let story =
        "SELECT concat_ws('|', error_kind, call_sid, error_detail, url) FROM postcall.delivery WHERE state = 'failed'";
    let story = database.text(story).await.unwrap();
    assert!(story.starts_with("render|CA-large|call: the call has 30000") && story.ends_with("(too_large)"), "{story}");
    assert!(proxy.carried() < 500_000, "{} bytes", proxy.carried());
    stopped_well(dispatcher).await;
}

/// Lets a dispatcher work at large calls until it has been through more of them than there is room for at once, and holds
/// the most memory that it took against what was allowed: 64 MiB, and as much again for what the allocator, the HTTP client
/// and the driver hold of the same bytes, and some for the program. All of the calls at once take far more.
async fn assert_memory_is_bounded(database: &Database, tally: &Tally) {
    let dispatcher = Dispatcher::start(database, &ALL_FOR_ONE).await;
    // As many as there is room for are out, and wait for their answers.
    tally.has(8).await;
    tally.answer_all();
    tally.has(20).await;
    let peak = dispatcher.peak_memory();
    println!("peak memory {} MiB", peak / MIB);
    assert!(peak < 250 * MIB, "{} MiB", peak / MIB);
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_calls_of_five_megabytes_take_no_more_memory_than_was_allowed() {
    let (database, tally) = (Database::new().await, Tally::holding().await);
    send_whole_calls_to(&database, "a", &tally.url()).await;
    insert_large_calls(&database, "a", 64, 5_000_000).await;
    assert_memory_is_bounded(&database, &tally).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_small_calls_with_bodies_of_five_megabytes_take_no_more_memory_than_was_allowed() {
    let (database, tally) = (Database::new().await, Tally::holding().await);
    let placeholders = vec!["\"${transcript}\""; 500].join(", ");
    let action = json!({"method": "POST", "url": tally.url(), "timeout": 120_000, "body": format!("[{placeholders}]")});
    database.publish("a", "default", &action).await;
    insert_large_calls(&database, "a", 64, 10_000).await;
    assert_memory_is_bounded(&database, &tally).await;
}

/// The receiver of the large ones does not answer, so that their bytes do not come free.
#[tokio::test(flavor = "multi_thread")]
async fn small_deliveries_do_not_wait_for_the_bytes_of_large_ones() {
    let (database, tally, inbox) = (Database::new().await, Tally::holding().await, Inbox::open().await);
    send_whole_calls_to(&database, "large", &tally.url()).await;
    send_whole_calls_to(&database, "small", &inbox.url("/")).await;
    // More large ones than places: what keeps them from taking all of these is the room for their bytes.
    insert_large_calls(&database, "large", 20, 5_000_000).await;
    let dispatcher = Dispatcher::start(&database, &["--concurrency", "16", "--adapt-to-hosts", "false"]).await;
    tally.has(8).await;
    insert_large_calls(&database, "small", 100, 100).await;
    inbox.has(100).await;
    assert!(database.number("SELECT count(*) FROM postcall.waiting").await > 4, "large ones go on waiting");
    tally.answer_all();
    database.settled().await;
    assert_eq!(database.text(STATES).await.unwrap(), "delivered 120");
    assert_eq!((tally.requests(), inbox.received().len()), (20, 100));
    stopped_well(dispatcher).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rendering_large_calls_delays_no_renewal() {
    let (database, tally) = (Database::new().await, Tally::open().await);
    send_whole_calls_to(&database, "a", &tally.url()).await;
    // Many values, so that they take their time to be read.
    database
        .execute(
            "INSERT INTO postcall.outbox (agent, call)
             SELECT 'a', json_build_object('numbers', (SELECT json_agg(n) FROM generate_series(1, 300000) AS n))
             FROM generate_series(1, 24)",
        )
        .await;
    let dispatchers = [
        Dispatcher::start_leased(&database.url, 2_000, 32).await,
        Dispatcher::start_leased(&database.url, 2_000, 32).await,
    ];
    database.settled().await;
    nobody_was_lost(&database).await;
    let accounts = accounts::check(&database.pool, &tally, &[]).await;
    assert_eq!((accounts.shown("delivered"), accounts.requests), (24, 24));
    for dispatcher in dispatchers {
        stopped_well(dispatcher).await;
    }
}

/// What waits for bytes when the dispatcher stops was not sent, and waits again.
#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_bytes_at_the_end_of_the_drain_goes_back_to_waiting() {
    let (database, tally) = (Database::new().await, Tally::holding().await);
    send_whole_calls_to(&database, "a", &tally.url()).await;
    insert_large_calls(&database, "a", 30, 5_000_000).await;
    let dispatcher = Dispatcher::start(&database, &["--adapt-to-hosts", "false", "--drain-timeout-ms", "100"]).await;
    tally.has(8).await;
    // More are claimed than can be sent: those hold the texts only.
    database.until("SELECT count(*) > 9 FROM postcall.sending").await;
    dispatcher.signal(Signal::SIGTERM);
    let (well, last) = dispatcher.ended().await;
    assert!(well && !last.contains("returned=0"), "{last}");
    let accounts = accounts::check(&database.pool, &tally, &[]).await;
    assert_eq!(accounts.shown("unknown"), accounts.requests);
    assert_eq!(accounts.shown("unknown") + accounts.shown("waiting"), 30);
}

#[tokio::test]
async fn a_budget_that_cannot_hold_a_largest_call_and_a_largest_body_is_refused_at_the_start() {
    let database = Database::new().await;
    let arguments = ["run", "--max-call-bytes", "100000000", "--max-bytes-in-flight", "100000000"];
    let output = tokio::time::timeout(
        Duration::from_secs(60),
        tokio::task::spawn_blocking(move || postcall_on(&database, &arguments)),
    );
    let output = output.await.unwrap().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("--max-bytes-in-flight"), "{}", stderr(&output));
}
