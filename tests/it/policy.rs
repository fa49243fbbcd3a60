//! The whole installation has one policy about what may be called: dispatchers with different policies do not share a
//! queue, unless somebody changes the policy on purpose.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nix::sys::signal::Signal;
use postcall::domain::policy::Policy;
use postcall::store::dispatchers::{Newcomer, Registering, Standing};
use serde_json::json;

use crate::support::database::Database;
use crate::support::inbox::Inbox;
use crate::support::process::{Dispatcher, THIS_MACHINE, postcall_on, stderr};

/// The shortest lease there is.
const LEASE: [&str; 2] = ["--lease-ms", "1000"];
const STATES: &str = "SELECT string_agg(state || ' ' || n, ', ' ORDER BY state)
                      FROM (SELECT state, count(*) AS n FROM postcall.delivery_history GROUP BY state) AS states";

fn refusal(database: &Database, arguments: &[&str]) -> String {
    let output = postcall_on(database, &[&["run"], arguments].concat());
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    stderr(&output)
}

#[tokio::test]
async fn a_dispatcher_that_may_call_less_or_more_does_not_start_beside_a_living_one_and_says_what_differs() {
    let database = Database::new().await;
    let arguments = ["--allow-target", "10.1.0.0/16,10.0.0.0/8", "--lease-ms", "20000"];
    let running = Dispatcher::start_strict(&database.url, &arguments).await;
    let words = refusal(&database, &["--allow-http", "--allow-target", "127.0.0.0/8"]);
    for expected in [
        &format!("dispatcher {} (", running.id())[..],
        "allow_http is true here and not set there",
        r#"allow_targets is ["127.0.0.0/8"] here and ["10.0.0.0/8"] there"#,
        "Start this one with the same settings",
        "--change-policy",
    ] {
        assert!(words.contains(expected), "{expected} is missing in: {words}");
    }
    let (seconds, _) = words.split_once("until its lease is over, ").unwrap().1.split_once(" s from now").unwrap();
    assert!((1..=20).contains(&seconds.parse().unwrap()), "{words}");
    assert!(refusal(&database, &[]).contains(r#"allow_targets is not set here and ["10.0.0.0/8"] there"#));
    // The same policy in other words is the same policy.
    let _beside = Dispatcher::start_strict(&database.url, &["--allow-target", "10.0.0.0/9 10.128.0.0/9"]).await;
    let policies = "SELECT count(DISTINCT policy) FROM postcall.dispatcher";
    assert_eq!(database.number(policies).await, 1, "who was refused left no trace");
}

#[tokio::test]
async fn what_waits_for_a_dispatcher_that_may_send_it_is_not_blocked_by_one_that_may_not() {
    let (database, inbox) = (Database::new().await, Inbox::open().await);
    database.publish("a", "default", &json!({"method": "POST", "url": inbox.url("/")})).await;
    let _dispatcher = Dispatcher::start(&database, &[]).await;
    refusal(&database, &[]);
    for _ in 0..200 {
        database.insert_call("a", &json!({})).await;
    }
    database.settled().await;
    assert_eq!(database.text(STATES).await.unwrap(), "delivered 200");
}

/// No lock decides it, so this asks the server: of transactions that look and insert at the same time, it lets one commit.
#[tokio::test(flavor = "multi_thread")]
async fn of_those_that_start_at_the_same_moment_with_different_policies_only_those_with_one_policy_start() {
    let database = Database::new().await;
    for round in 0..25 {
        database
            .execute("UPDATE postcall.dispatcher SET stopped_at = clock_timestamp() WHERE stopped_at IS NULL")
            .await;
        let starts: Vec<_> = (0..6)
            .map(|number| {
                let mut session = database.session();
                tokio::spawn(async move {
                    let policy = Policy::default().with("number", json!(number % 3));
                    let (lease, standing) = (Duration::from_secs(60), Standing::BehindAll);
                    let newcomer = Newcomer { name: "test", version: "0", lease, policy: &policy, standing };
                    session.register(newcomer).await.unwrap()
                })
            })
            .collect();
        let mut started = 0;
        for start in starts {
            started += usize::from(matches!(start.await.unwrap(), Registering::Registered { .. }));
        }
        let policies = "SELECT count(DISTINCT policy) FROM postcall.dispatcher WHERE stopped_at IS NULL";
        assert_eq!(database.number(policies).await, 1, "round {round}, {started} started");
    }
}

#[tokio::test]
async fn a_registration_that_others_have_not_hindered_is_not_repeated() {
    let database = Database::new().await;
    database.execute("ALTER TABLE postcall.dispatcher RENAME TO elsewhere").await;
    let failed = Arc::new(AtomicU64::new(0));
    let mut session = database.session().counting(&failed);
    let (policy, lease, standing) = (Policy::default(), Duration::from_secs(60), Standing::BehindAll);
    let newcomer = Newcomer { name: "test", version: "0", lease, policy: &policy, standing };
    assert!(session.register(newcomer).await.is_err());
    assert_eq!(failed.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn those_who_change_the_policy_on_purpose_do_it_one_dispatcher_after_the_other() {
    let database = Database::new().await;
    let mut news = Vec::new();
    for old in [Dispatcher::start(&database, &[]).await, Dispatcher::start(&database, &[]).await] {
        old.signal(Signal::SIGTERM);
        assert!(old.ended().await.0);
        let words = if news.is_empty() { refusal(&database, &[]) } else { String::new() };
        assert!(news.len() == 1 || words.contains("--change-policy"), "{words}");
        news.push(Dispatcher::start_strict(&database.url, &["--change-policy"]).await);
    }
    // Now it is the policy of all, and the flag is needed no longer.
    let _third = Dispatcher::start_strict(&database.url, &[]).await;
    assert!(refusal(&database, &THIS_MACHINE).contains("allow_http is true here and not set there"));
}

#[tokio::test]
async fn a_lost_dispatcher_does_not_come_back_with_a_policy_that_was_replaced_and_says_why_it_stops() {
    let inbox = Inbox::holding().await;
    let database = Database::new().await;
    database.publish("a", "default", &json!({"method": "POST", "url": inbox.url("/")})).await;
    database.insert_call("a", &json!({})).await;
    let old = Dispatcher::start(&database, &LEASE).await;
    inbox.has(1).await;
    old.signal(Signal::SIGSTOP);
    let _new = Dispatcher::start_strict(&database.url, &[&LEASE[..], &["--change-policy"]].concat()).await;
    database.until("SELECT count(*) = 1 FROM postcall.dispatcher WHERE lost_at IS NOT NULL").await;
    old.signal(Signal::SIGCONT);
    inbox.answer(1);
    let (well, lines) = old.ended_saying().await;
    let words = lines.join("\n");
    assert!(!well && words.contains("others have replaced its policy"), "{words}");
    assert!(words.contains("allow_http is true here and not set there"), "{words}");
    // It drained: what was out when it was paused has its answer recorded, as evidence.
    assert_eq!(database.text(STATES).await.unwrap(), "delivered 1");
    assert_eq!(database.number("SELECT count(*) FROM postcall.dispatcher").await, 2);
}

#[tokio::test]
async fn the_one_that_replaced_a_policy_comes_back_beside_an_older_one_that_still_runs() {
    let database = Database::new().await;
    let _old = Dispatcher::start(&database, &LEASE).await;
    let mut new = Dispatcher::start_strict(&database.url, &[&LEASE[..], &["--change-policy"]].concat()).await;
    new.signal(Signal::SIGSTOP);
    database.until("SELECT count(*) = 1 FROM postcall.dispatcher WHERE lost_at IS NOT NULL").await;
    new.signal(Signal::SIGCONT);
    new.says("runs beside this one by another policy").await;
    new.says("was declared lost; goes on as another").await;
}

#[tokio::test]
async fn a_dead_dispatcher_s_policy_counts_until_its_lease_is_over() {
    let database = Database::new().await;
    let dead = Dispatcher::start(&database, &LEASE).await;
    dead.signal(Signal::SIGKILL);
    dead.ended().await;
    database.until("SELECT lease_until < clock_timestamp() FROM postcall.dispatcher").await;
    let _other = Dispatcher::start_strict(&database.url, &[]).await;
}

#[tokio::test]
async fn a_dispatcher_of_an_earlier_release_is_warned_of_and_keeps_nobody_from_starting() {
    let database = Database::new().await;
    database
        .execute(
            "INSERT INTO postcall.dispatcher (name, version, lease_until) VALUES ('old:1', '0.1.0', now() + interval '5 minutes')",
        )
        .await;
    let mut starting = Dispatcher::starting(&database.url);
    let line = starting.says("an earlier release runs beside this one").await;
    assert!(line.contains("old:1") && line.contains("0.1.0"), "{line}");
    starting.says("dispatching").await;
}

#[tokio::test]
async fn blocked_deliveries_are_warned_of_with_their_number_and_not_one_by_one() {
    let database = Database::new().await;
    database.publish("a", "default", &json!({"method": "POST", "url": "http://127.0.0.1:9/"})).await;
    for _ in 0..50 {
        database.insert_call("a", &json!({})).await;
    }
    let mut dispatcher = Dispatcher::start_strict(&database.url, &[]).await;
    let mut told = Vec::from([dispatcher.says("were blocked for good").await]);
    database.settled().await;
    dispatcher.signal(Signal::SIGTERM);
    let (well, lines) = dispatcher.ended_saying().await;
    assert!(well);
    told.extend(lines.into_iter().filter(|line| line.contains("were blocked for good")));
    let count = |line: &String| line.rsplit_once("count=").unwrap().1.parse::<usize>().unwrap();
    assert_eq!(told.iter().map(count).sum::<usize>(), 50, "{told:#?}");
    assert!(told.len() <= 2, "at once, and the rest at the end: {told:#?}");
}
