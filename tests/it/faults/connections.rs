//! Connections to the database that break in the middle of what matters, both ways, through a proxy.

use crate::support::accounts::{self, Accounts};
use crate::support::database::Database;
use crate::support::fleet::Fleet;
use crate::support::platform::complete_calls;
use crate::support::proxy::{End, Fate, Proxy};
use crate::support::seed::{chance, sized};
use crate::support::tally::Tally;

use super::{CLAIM, COMPLETION, insert_calls, send_calls_to, send_calls_within};

/// A lease that none of these outages outlasts: nobody is given up, so no doubt is excused.
const LONG_LEASE_MS: u64 = 30_000;

/// One dispatcher whose first statement with this marker meets this fate. Nobody dies, so everything is delivered.
async fn lose_once(marker: &'static str, fate: Fate) -> Accounts {
    let (database, tally) = (Database::new().await, Tally::open().await);
    send_calls_to(&database, &tally.url()).await;
    insert_calls(&database, 20).await;
    let proxy = Proxy::to_server_of(&database.url).await;
    proxy.once(marker, fate);
    let mut fleet = Fleet::with_lease(LONG_LEASE_MS, &proxy.url_of(&database.url), 1, 8).await;
    proxy.intervened(1).await;
    fleet.finish(&database).await;
    let accounts = accounts::check(&database.pool, &tally, &[]).await;
    assert_eq!((accounts.shown("delivered"), accounts.requests), (20, 20));
    accounts
}

#[tokio::test]
async fn a_claim_that_never_arrived_loses_nothing() {
    lose_once(CLAIM, Fate::LoseStatement).await;
}

#[tokio::test]
async fn a_claim_whose_answer_was_lost_goes_back_to_waiting_and_is_sent_once() {
    lose_once(CLAIM, Fate::LoseAnswer).await;
}

#[tokio::test]
async fn a_completion_that_never_arrived_is_written_again() {
    lose_once(COMPLETION, Fate::LoseStatement).await;
}

#[tokio::test]
async fn a_completion_whose_answer_was_lost_is_in_history_once() {
    lose_once(COMPLETION, Fate::LoseAnswer).await;
}

/// The answer to the claim is lost, and then the first attempt to give it back, and then the answer to the second.
#[tokio::test]
async fn a_claim_in_doubt_is_given_back_however_often_that_is_lost_too() {
    let (database, tally) = (Database::new().await, Tally::open().await);
    send_calls_to(&database, &tally.url()).await;
    insert_calls(&database, 20).await;
    let proxy = Proxy::to_server_of(&database.url).await;
    let mut fates = [(CLAIM, Fate::LoseAnswer), (RETURN, Fate::LoseStatement), (RETURN, Fate::LoseAnswer)].into_iter();
    let mut due = fates.next();
    proxy.judge(move |sql| match due {
        Some((marker, fate)) if sql.contains(marker) => {
            due = fates.next();
            fate
        }
        _ => Fate::Pass,
    });
    let mut fleet = Fleet::with_lease(LONG_LEASE_MS, &proxy.url_of(&database.url), 1, 8).await;
    proxy.intervened(3).await;
    fleet.finish(&database).await;
    let accounts = accounts::check(&database.pool, &tally, &[]).await;
    assert_eq!((accounts.shown("delivered"), accounts.requests), (20, 20));
}

/// Text that only the statements that put deliveries back to waiting contain.
const RETURN: &str = "INSERT INTO postcall.waiting";

#[tokio::test(flavor = "multi_thread")]
async fn connections_cut_at_random_statements_cause_neither_doubt_nor_a_second_request() {
    let mut chance = chance("connections_cut_at_random_statements_cause_neither_doubt_nor_a_second_request");
    let calls = sized(3_000, 30_000);
    let (database, tally) = (Database::new().await, Tally::open().await);
    send_calls_to(&database, &tally.url()).await;
    let proxy = Proxy::to_server_of(&database.url).await;
    let mut fleet = Fleet::with_lease(LONG_LEASE_MS, &proxy.url_of(&database.url), 2, 16).await;
    proxy.judge(move |_| match chance.u32(..60) {
        0 => Fate::LoseStatement,
        1 => Fate::LoseAnswer,
        _ => Fate::Pass,
    });
    let acknowledged = complete_calls(&database.url, calls).await.unwrap();
    database.settled().await;
    proxy.judge(|_| Fate::Pass);
    fleet.finish(&database).await;
    let accounts = accounts::check(&database.pool, &tally, &acknowledged).await;
    println!("{} statements or answers lost", proxy.interventions());
    assert!(proxy.interventions() >= 10);
    assert_eq!((accounts.shown("delivered"), accounts.requests), (calls, calls));
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_cut_at_random_moments_cause_neither_doubt_nor_a_second_request() {
    let mut chance = chance("connections_cut_at_random_moments_cause_neither_doubt_nor_a_second_request");
    let (cuts, calls) = (sized(20, 200), sized(3_000, 30_000));
    let (database, tally) = (Database::new().await, Tally::open().await);
    send_calls_to(&database, &tally.url()).await;
    let proxy = Proxy::to_server_of(&database.url).await;
    let mut fleet = Fleet::with_lease(LONG_LEASE_MS, &proxy.url_of(&database.url), 2, 16).await;
    let platform = complete_calls(&database.url, calls);
    for cut in 0..cuts {
        let between = calls / (cuts + 1);
        tally.has(cut * between + chance.usize(1..between)).await;
        proxy.cut_all(if chance.bool() { End::Reset } else { End::Close });
    }
    let acknowledged = platform.await.unwrap();
    fleet.finish(&database).await;
    let accounts = accounts::check(&database.pool, &tally, &acknowledged).await;
    assert_eq!((accounts.shown("delivered"), accounts.requests), (calls, calls));
}

#[tokio::test(flavor = "multi_thread")]
async fn backends_terminated_at_random_cause_neither_doubt_nor_a_second_request() {
    let mut chance = chance("backends_terminated_at_random_cause_neither_doubt_nor_a_second_request");
    let (ends, calls) = (sized(40, 400), sized(3_000, 30_000));
    let (database, tally) = (Database::new().await, Tally::open().await);
    send_calls_to(&database, &tally.url()).await;
    let mut fleet = Fleet::with_lease(LONG_LEASE_MS, &database.url, 2, 16).await;
    let platform = complete_calls(&database.url, calls);
    for end in 0..ends {
        let between = calls / (ends + 1);
        tally.has(end * between + chance.usize(1..between)).await;
        database
            .execute(&format!(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                 WHERE datname = current_database() AND application_name = 'postcall' AND pid % 2 = {}",
                chance.u8(..2)
            ))
            .await;
    }
    let acknowledged = platform.await.unwrap();
    fleet.finish(&database).await;
    let accounts = accounts::check(&database.pool, &tally, &acknowledged).await;
    assert_eq!((accounts.shown("delivered"), accounts.requests), (calls, calls));
}

/// Between dispatcher and receiver there is room for doubt, and for nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn connections_to_a_receiver_cut_at_random_cause_doubt_and_no_second_request() {
    let mut chance = chance("connections_to_a_receiver_cut_at_random_cause_doubt_and_no_second_request");
    let (cuts, calls) = (sized(30, 300), sized(3_000, 30_000));
    let (database, tally) = (Database::new().await, Tally::open().await);
    let proxy = Proxy::to_receiver_of(&tally.url()).await;
    const TIMEOUT_MS: u32 = 20_000;
    send_calls_within(&database, &proxy.url_of(&tally.url()), TIMEOUT_MS).await;
    let mut fleet = Fleet::with_lease(LONG_LEASE_MS, &database.url, 2, 16).await;
    let platform = complete_calls(&database.url, calls);
    for cut in 0..cuts {
        let between = (calls - cuts * 32) / (cuts + 1);
        tally.has(cut * between + chance.usize(1..between)).await;
        proxy.cut_all(if chance.bool() { End::Reset } else { End::Close });
    }
    let acknowledged = platform.await.unwrap();
    fleet.finish(&database).await;
    let accounts = accounts::check(&database.pool, &tally, &acknowledged).await;
    assert_eq!(accounts.shown("delivered") + accounts.shown("unknown") + accounts.shown("failed"), calls);
    assert!(accounts.shown("unknown") <= cuts * 32, "{accounts}");
    let longest: i32 = sqlx::query_scalar("SELECT max(latency_ms)::int FROM postcall.delivery_history")
        .fetch_one(&database.pool)
        .await
        .unwrap();
    assert!(longest < TIMEOUT_MS as i32, "an attempt whose connection had ended waited for its deadline");
}
