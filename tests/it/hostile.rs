//! Receivers that mean harm, all at the same time: each of their deliveries ends as it must, with one request at most, and
//! everybody else is served meanwhile. How fast others are served is measured by `scripts/bench fair --case hostile-hosts`.

use serde_json::json;
use tokio::net::TcpListener;

use crate::support::database::Database;
use crate::support::hostile::{self, Hostile};
use crate::support::process::Dispatcher;
use crate::support::tally::Tally;

/// The deadline of each request to a hostile receiver.
const TIMEOUT_MS: u64 = 2_000;
/// How many calls wait for each hostile receiver.
const HOSTILE_CALLS: usize = 6;
/// How many honest receivers there are, each a host of its own, and how many calls wait for each.
const HONEST: (u8, usize) = (80, 10);
const MIB: usize = 1024 * 1024;

/// Plays the trick on each connection to a host of its own, and returns its URL.
async fn opens(number: u8, hostile: &'static Hostile) -> String {
    let listener = TcpListener::bind((std::net::Ipv4Addr::new(127, 0, 3, number), 0)).await.unwrap();
    let url = format!("{}://{}/", hostile.scheme, listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(hostile.trick.play(stream));
        }
    });
    url
}

async fn with_calls(database: &Database, agent: &str, url: &str, calls: usize) {
    let action = json!({"method": "POST", "url": url, "timeout": TIMEOUT_MS});
    database.publish(agent, "default", &action).await;
    let insert =
        format!("INSERT INTO postcall.outbox (agent, call) SELECT '{agent}', '{{}}' FROM generate_series(1, {calls})");
    database.execute(&insert).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_trick_of_a_hostile_receiver_ends_as_it_must_and_honest_receivers_get_each_call_once() {
    let database = Database::new().await;
    for (number, hostile) in (1..).zip(&hostile::ALL) {
        let url = opens(number, hostile).await;
        with_calls(&database, hostile.name, &url, HOSTILE_CALLS).await;
    }
    let mut honest = Vec::new();
    for number in 1..=HONEST.0 {
        let tally = Tally::open_at(([127, 0, 2, number], 0).into()).await;
        with_calls(&database, &format!("honest {number}"), &tally.url(), HONEST.1).await;
        honest.push(tally);
    }
    let dispatcher = Dispatcher::start(&database, &["--concurrency", "64"]).await;
    for tally in &honest {
        tally.has(HONEST.1).await;
    }
    // A host that cannot be spoken to holds what waits for it, so that not all of it has to end.
    let ended = "SELECT count(DISTINCT agent) = $1 FROM postcall.delivery WHERE agent NOT LIKE 'honest%'";
    database.until(&ended.replace("$1", &hostile::ALL.len().to_string())).await;
    for Hostile { name, outcomes, .. } in &hostile::ALL {
        let seen = format!(
            "SELECT string_agg(DISTINCT concat_ws(' ', state, error_kind), ',') FROM postcall.delivery WHERE agent = '{name}'"
        );
        let seen = database.text(&seen).await.unwrap();
        assert!(seen.split(',').all(|outcome| outcomes.contains(&outcome)), "{name}: {seen}");
    }
    for tally in &honest {
        assert!(tally.requests() == HONEST.1 && tally.arrivals().values().all(|arrivals| arrivals.count == 1));
    }
    let peak = dispatcher.peak_memory();
    println!("peak memory {} MiB", peak / MIB);
    assert!(peak < 150 * MIB, "{} MiB", peak / MIB);
}
