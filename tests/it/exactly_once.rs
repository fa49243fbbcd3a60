//! The main promise, under load: each committed call is sent exactly once, no other call is sent, and all are always
//! accounted for.

use std::collections::HashSet;

use nix::sys::signal::Signal;
use serde_json::json;
use sqlx::PgPool;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::support::database::Database;
use crate::support::inbox::Inbox;
use crate::support::process::Dispatcher;

const CALLS: usize = 10_000;
const WRITERS: usize = 8;

/// Deliveries that exist in any state, and those that the committed calls ask for, in one snapshot.
const ACCOUNTS: &str = "SELECT (SELECT count(*) FROM postcall.waiting) + (SELECT count(*) FROM postcall.sending)
                             + (SELECT count(*) FROM postcall.delivery),
                               (SELECT count(*) FROM postcall.outbox JOIN postcall.action USING (agent))";

/// One of the platform's transactions: its own books and the call. Every fifth is rolled back.
async fn complete_call(pool: &PgPool, number: usize) -> Option<Uuid> {
    let agent = if number.is_multiple_of(2) { "one" } else { "two" };
    let mut transaction = pool.begin().await.unwrap();
    sqlx::query("INSERT INTO books (number) VALUES ($1)").bind(number as i64).execute(&mut *transaction).await.unwrap();
    let id = sqlx::query_scalar("INSERT INTO postcall.outbox (agent, call) VALUES ($1, $2::text::json) RETURNING id")
        .bind(agent)
        .bind(json!({"number": number, "callInfo": {"callSid": format!("CA{number}")}}).to_string())
        .fetch_one(&mut *transaction)
        .await
        .unwrap();
    if number % 5 == 4 {
        transaction.rollback().await.unwrap();
        return None;
    }
    transaction.commit().await.unwrap();
    Some(id)
}

async fn complete_all(database: &Database) -> HashSet<Uuid> {
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let pool = database.pool.clone();
        writers.spawn(async move {
            let mut committed = Vec::new();
            for number in (writer..CALLS).step_by(WRITERS) {
                committed.extend(complete_call(&pool, number).await);
            }
            committed
        });
    }
    writers.join_all().await.into_iter().flatten().collect()
}

/// The number that the call carried.
fn number_in(body: &str) -> usize {
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    body["number"].to_string().parse().unwrap()
}

/// Asks the accounts over and over until told that there is nothing more to come.
async fn audit(pool: PgPool, mut done: tokio::sync::watch::Receiver<bool>) -> usize {
    let mut asked = 0;
    while !*done.borrow_and_update() {
        let (have, ought): (i64, i64) = sqlx::query_as(ACCOUNTS).fetch_one(&pool).await.unwrap();
        assert_eq!(have, ought, "waiting + sending + delivery = committed calls × their enabled actions");
        asked += 1;
    }
    asked
}

#[tokio::test(flavor = "multi_thread")]
async fn each_committed_call_is_requested_exactly_once_by_three_dispatchers_and_no_other_ever() {
    let (database, inbox) = (Database::new().await, Inbox::open().await);
    database.execute("CREATE TABLE books (number bigint PRIMARY KEY)").await;
    // Agent one has one action, agent two has two. The call's number travels along.
    let action = json!({"method": "POST", "url": inbox.url("/"), "body": "{\"number\": ${number}}"});
    for (agent, name) in [("one", "default"), ("two", "default"), ("two", "second")] {
        database.publish(agent, name, &action).await;
    }
    let (finished, done) = tokio::sync::watch::channel(false);
    let auditor = tokio::spawn(audit(database.pool.clone(), done));
    let mut dispatchers = Vec::new();
    for _ in 0..3 {
        dispatchers.push(Dispatcher::start(&database, &["--concurrency", "32"]).await);
    }

    let committed = complete_all(&database).await;
    assert_eq!(committed.len(), CALLS * 4 / 5);
    database.settled().await;
    finished.send_replace(true);
    let asked = auditor.await.unwrap();
    for dispatcher in dispatchers {
        dispatcher.signal(Signal::SIGTERM);
        assert!(dispatcher.ended().await.0);
    }

    let expected = CALLS * 4 / 5 * 3 / 2;
    let counts = inbox.counts_by("webhook-id");
    assert_eq!(inbox.received().len(), expected);
    assert_eq!(counts.len(), expected, "each with an id of its own");
    let rolled_back = inbox.received().into_iter().filter(|request| number_in(&request.body) % 5 == 4);
    assert_eq!(rolled_back.count(), 0);
    let recorded: Vec<Uuid> = sqlx::query_scalar("SELECT delivery_id FROM postcall.delivery WHERE state = 'delivered'")
        .fetch_all(&database.pool)
        .await
        .unwrap();
    assert!(recorded.iter().all(|id| counts.contains_key(&id.to_string())) && recorded.len() == expected);
    let shares = "SELECT count(DISTINCT dispatcher_id) FROM postcall.delivery";
    assert_eq!(database.number(shares).await, 3, "all three took part");
    println!("{} calls committed, {expected} requests, accounts asked {asked} times", committed.len());
}
