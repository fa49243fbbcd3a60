//! No delivery waits for the receiver of another: not beside hosts that hang, hosts that cannot be reached, what is
//! paused, and results that wait to be recorded.

use std::net::SocketAddr;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::json;
use tokio::net::TcpListener;

use crate::support::database::Database;
use crate::support::inbox::Inbox;
use crate::support::process::{Dispatcher, postcall_on, stderr};
use crate::support::proxy::{Fate, Proxy};
use crate::support::tally::Tally;

/// How many deliveries of an agent are in this state.
fn count(agent: &str, state: &str) -> String {
    format!("SELECT count(*) FROM postcall.delivery_history WHERE agent LIKE '{agent}' AND state = '{state}'")
}

async fn publish(database: &Database, agent: &str, url: &str) {
    database.publish(agent, "default", &json!({"method": "POST", "url": url, "timeout": 60_000})).await;
}

async fn insert_calls(database: &Database, agent: &str, calls: usize) {
    let insert =
        format!("INSERT INTO postcall.outbox (agent, call) SELECT '{agent}', '{{}}' FROM generate_series(1, {calls})");
    database.execute(&insert).await;
}

/// An address of this machine at which nobody listens.
async fn closed_port() -> SocketAddr {
    TcpListener::bind(("127.0.0.1", 0)).await.unwrap().local_addr().unwrap()
}

#[tokio::test]
async fn a_receiver_that_hangs_holds_up_nobody_else_however_much_waits_for_it() {
    let (database, hanging, honest) = (Database::new().await, Tally::holding().await, Inbox::open().await);
    publish(&database, "hangs", &hanging.url()).await;
    insert_calls(&database, "hangs", 500).await;
    for agent in 0..5 {
        publish(&database, &format!("honest {agent}"), &honest.url("/")).await;
        insert_calls(&database, &format!("honest {agent}"), 40).await;
    }
    let _dispatcher = Dispatcher::start(&database, &["--concurrency", "16"]).await;
    honest.has(200).await;
    database.until(&format!("SELECT ({}) = 200", count("honest%", "delivered"))).await;
    assert!((1..=8).contains(&hanging.requests()), "{} of 16 places", hanging.requests());
    assert_eq!(database.number(&count("hangs", "delivered")).await, 0);
}

#[tokio::test]
async fn hosts_that_hang_leave_half_of_all_places_to_the_others_however_many_they_are() {
    let (database, honest) = (Database::new().await, Inbox::open().await);
    publish(&database, "honest", &honest.url("/")).await;
    insert_calls(&database, "honest", 1).await;
    let _dispatcher = Dispatcher::start(&database, &["--concurrency", "32"]).await;
    database.until(&format!("SELECT ({}) = 1", count("honest", "delivered"))).await;
    // Each address of the loopback network is a host of its own.
    let mut listeners = Vec::new();
    for host in 1..=40 {
        let tally = Tally::holding_at(([127, 0, 1, host], 0).into()).await;
        publish(&database, &format!("hangs {host}"), &tally.url()).await;
        insert_calls(&database, &format!("hangs {host}"), 5).await;
        listeners.push(tally);
    }
    // They have half of 32 places, and the last few of those are for hosts that come later.
    database.until("SELECT count(*) >= 12 FROM postcall.sending WHERE agent LIKE 'hangs%'").await;
    insert_calls(&database, "honest", 300).await;
    database.until(&format!("SELECT ({}) = 301", count("honest", "delivered"))).await;
    let held: usize = listeners.iter().map(Tally::requests).sum();
    assert!(held <= 16, "{held} of 32 places");
}

#[tokio::test]
async fn what_is_for_a_host_that_cannot_be_reached_waits_until_it_is_back_and_nothing_tries_it_by_a_request() {
    let (database, honest) = (Database::new().await, Inbox::open().await);
    let address = closed_port().await;
    publish(&database, "down", &format!("http://{address}/")).await;
    publish(&database, "honest", &honest.url("/")).await;
    insert_calls(&database, "down", 300).await;
    insert_calls(&database, "honest", 50).await;
    let mut dispatcher = Dispatcher::start(&database, &[]).await;
    database.until(&format!("SELECT ({}) = 50", count("honest", "delivered"))).await;
    database.until(&format!("SELECT ({}) >= 3", count("down", "failed"))).await;
    database.until("SELECT count(*) = 0 FROM postcall.sending").await;
    let failed = database.number(&count("down", "failed")).await;
    assert!(failed <= 10, "{failed} failed");
    assert_eq!(database.number(&count("down", "waiting")).await, 300 - failed);
    // It is back: the rest is delivered, each once, and the probes were no requests.
    let back = Tally::open_at(address).await;
    dispatcher.says("a host can be reached again").await;
    database.settled().await;
    assert_eq!(database.number(&count("down", "delivered")).await, 300 - failed);
    assert_eq!(back.requests() as i64, 300 - failed);
    assert!(back.arrivals().values().all(|arrivals| arrivals.count == 1));
}

#[tokio::test]
async fn without_holding_each_delivery_to_an_unreachable_host_fails() {
    let database = Database::new().await;
    publish(&database, "down", &format!("http://{}/", closed_port().await)).await;
    insert_calls(&database, "down", 50).await;
    let _dispatcher = Dispatcher::start(&database, &["--hold-unreachable", "false"]).await;
    database.until(&format!("SELECT ({}) = 50", count("down", "failed"))).await;
}

#[tokio::test]
async fn what_waits_for_an_unreachable_host_is_sent_elsewhere_as_soon_as_that_is_published() {
    let (database, inbox) = (Database::new().await, Inbox::open().await);
    publish(&database, "a", &format!("http://{}/", closed_port().await)).await;
    insert_calls(&database, "a", 50).await;
    let _dispatcher = Dispatcher::start(&database, &[]).await;
    database.until(&format!("SELECT ({}) >= 3", count("a", "failed"))).await;
    publish(&database, "a", &inbox.url("/")).await;
    database.settled().await;
    assert!(database.number(&count("a", "delivered")).await >= 40);
}

#[tokio::test]
async fn what_is_paused_waits_and_is_sent_when_it_is_resumed_and_nobody_else_notices() {
    let (database, inbox) = (Database::new().await, Inbox::open().await);
    for agent in ["paused", "other"] {
        publish(&database, agent, &inbox.url("/")).await;
    }
    let run = |arguments: &[&str]| {
        let output = postcall_on(&database, arguments);
        assert!(output.status.success(), "{}", stderr(&output));
    };
    run(&["pause", "agent", "paused", "--reason", "their receiver is being moved", "--by", "test"]);
    let mut dispatcher = Dispatcher::start(&database, &[]).await;
    for agent in ["paused", "other"] {
        insert_calls(&database, agent, 20).await;
    }
    database.until(&format!("SELECT ({}) = 20", count("other", "delivered"))).await;
    assert_eq!(database.number(&count("paused", "waiting")).await, 20);
    run(&["resume", "agent", "paused", "--reason", "moved", "--by", "test"]);
    database.settled().await;
    assert_eq!(database.number(&count("paused", "delivered")).await, 20);
    // The same while it runs, by the host.
    let host = inbox.address.to_string();
    run(&["pause", "host", &host, "--reason", "maintenance", "--by", "test"]);
    // The first pause, its end, and this one.
    for _ in 0..3 {
        dispatcher.says("the pauses have changed").await;
    }
    insert_calls(&database, "other", 5).await;
    insert_calls(&database, "nobody", 1).await;
    database.until(&format!("SELECT ({}) = 5", count("other", "waiting"))).await;
    run(&["resume", "host", &host, "--reason", "done", "--by", "test"]);
    database.until(&format!("SELECT ({}) = 25", count("other", "delivered"))).await;
}

#[tokio::test]
async fn a_call_that_commits_long_after_later_ones_were_sent_is_delivered() {
    let (database, inbox) = (Database::new().await, Inbox::open().await);
    publish(&database, "a", &inbox.url("/")).await;
    let _dispatcher = Dispatcher::start(&database, &[]).await;
    let mut late = database.pool.begin().await.unwrap();
    sqlx::query("INSERT INTO postcall.outbox (agent, call) VALUES ('a', '{}')").execute(&mut *late).await.unwrap();
    let inserted = database.text("SELECT clock_timestamp()::text").await.unwrap();
    for round in 1..=20 {
        insert_calls(&database, "a", 10).await;
        inbox.has(10 * round).await;
    }
    // Older than what a look at the arrivals goes back for.
    database.until(&format!("SELECT clock_timestamp() > '{inserted}'::timestamptz + interval '1 s'")).await;
    database.until(&format!("SELECT ({}) = 200", count("a", "delivered"))).await;
    late.commit().await.unwrap();
    inbox.has(201).await;
}

#[tokio::test]
async fn a_killed_dispatcher_leaves_no_more_in_doubt_than_its_places_and_what_may_wait_to_be_recorded() {
    const PLACES: usize = 4;
    const UNRECORDED: usize = 3;
    let (database, tally) = (Database::new().await, Tally::open().await);
    publish(&database, "a", &tally.url()).await;
    insert_calls(&database, "a", 50).await;
    let proxy = Proxy::to_server_of(&database.url).await;
    // No completion ever arrives.
    proxy.judge(|sql| if sql.contains("WITH done AS") { Fate::Hold } else { Fate::Pass });
    let (places, unrecorded) = (PLACES.to_string(), UNRECORDED.to_string());
    let arguments = ["--concurrency", &places, "--max-unrecorded", &unrecorded, "--lease-ms", "1000"];
    let dispatcher = Dispatcher::start_at(&proxy.url_of(&database.url), &arguments).await;
    tally.has(PLACES + UNRECORDED).await;
    database.until("SELECT count(*) = 7 FROM postcall.sending").await;
    dispatcher.signal(Signal::SIGKILL);
    dispatcher.ended().await;
    assert_eq!(tally.requests(), PLACES + UNRECORDED);
    let _heir = Dispatcher::start(&database, &["--lease-ms", "1000"]).await;
    database.settled().await;
    assert_eq!(database.number(&count("a", "unknown")).await, 7);
    assert_eq!(database.number(&count("a", "delivered")).await, 43);
    assert!(tally.arrivals().values().all(|arrivals| arrivals.count == 1));
}

#[tokio::test]
async fn a_round_that_never_comes_to_its_end_keeps_nobody_from_finding_what_arrives() {
    let (database, inbox) = (Database::new().await, Inbox::open().await);
    publish(&database, "a", &inbox.url("/")).await;
    let proxy = Proxy::to_server_of(&database.url).await;
    // As where so much of the queue is not vacuumed yet that a look at all lanes takes longer than a statement may.
    proxy.judge(|sql| if sql.contains("WITH RECURSIVE step") { Fate::Hold } else { Fate::Pass });
    let _dispatcher = Dispatcher::start_at(&proxy.url_of(&database.url), &[]).await;
    proxy.intervened(1).await;
    insert_calls(&database, "a", 10).await;
    inbox.has(10).await;
}

#[tokio::test]
async fn a_host_is_not_held_for_what_a_lane_sends_elsewhere_since_a_new_version() {
    let (database, shared) = (Database::new().await, Inbox::open().await);
    publish(&database, "moves", &shared.url("/")).await;
    insert_calls(&database, "moves", 3_000).await;
    let proxy = Proxy::to_server_of(&database.url).await;
    let dispatcher = Dispatcher::start_at(&proxy.url_of(&database.url), &["--concurrency", "16"]).await;
    shared.has(100).await;
    // The scout does not hear of the new version; only the claims do.
    proxy.judge(|sql| if sql.contains("uuid_v7_floor") { Fate::Hold } else { Fate::Pass });
    proxy.intervened(1).await;
    let closed = closed_port().await;
    publish(&database, "moves", &format!("http://{closed}/")).await;
    database.until(&format!("SELECT ({}) >= 3", count("moves", "failed"))).await;
    database.until("SELECT count(*) = 0 FROM postcall.sending").await;
    let failed = database.number(&count("moves", "failed")).await;
    assert!(failed <= 10, "{failed} failed");
    // It is the new host that cannot be reached.
    let reported =
        format!("SELECT EXISTS (SELECT FROM postcall.dispatcher_report WHERE hosts::text LIKE '%{closed}%')");
    database.until(&reported).await;
    dispatcher.signal(Signal::SIGTERM);
    let (_, lines) = dispatcher.ended_saying().await;
    assert!(!lines.iter().any(|line| line.contains("a host can be reached again")), "{lines:?}");
}
