//! A database that goes away, comes back, refuses to be written to, or cannot clean up after itself.

use nix::sys::signal::Signal;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::support::accounts;
use crate::support::cluster::Cluster;
use crate::support::database::Database;
use crate::support::fleet::Fleet;
use crate::support::platform::complete_calls;
use crate::support::process::Dispatcher;
use crate::support::seed::{chance, sized};
use crate::support::tally::Tally;

use super::{Obstacle, insert_calls, send_calls_to};

/// A lease that none of these outages outlasts: nobody is given up, so no doubt is excused.
const LONG_LEASE_MS: u64 = 60_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stops_at_once_and_comes_back_causes_neither_doubt_nor_a_second_request() {
    let mut chance = chance("a_server_that_stops_at_once_and_comes_back_causes_neither_doubt_nor_a_second_request");
    let (stops, calls) = (sized(4, 20), sized(3_000, 30_000));
    let mut cluster = Cluster::start().await;
    let (database, tally) = (Database::on(&cluster.server(), "").await, Tally::open().await);
    send_calls_to(&database, &tally.url()).await;
    let mut fleet = Fleet::with_lease(LONG_LEASE_MS, &database.url, 2, 16).await;
    let platform = complete_calls(&database.url, calls);
    for stop in 0..stops {
        let between = calls / (stops + 1);
        tally.has(stop * between + chance.usize(1..between)).await;
        match chance.u8(..3) {
            0 => cluster.crash().await,
            1 => restart(&mut cluster, Cluster::stop_fast).await,
            _ => restart(&mut cluster, Cluster::stop_immediately).await,
        }
    }
    let acknowledged = platform.await.unwrap();
    let database = Database::at(database.url).await;
    fleet.finish(&database).await;
    let accounts = accounts::check(&database.pool, &tally, &acknowledged).await;
    assert_eq!((accounts.shown("delivered"), accounts.requests), (accounts.committed, accounts.committed));
}

async fn restart(cluster: &mut Cluster, stop: impl AsyncFnOnce(&mut Cluster)) {
    stop(cluster).await;
    cluster.start_again().await;
}

/// What is in flight when the database goes away is written when it is back, and said once.
#[tokio::test(flavor = "multi_thread")]
async fn results_outlast_an_outage_and_the_log_stays_short() {
    let mut cluster = Cluster::start().await;
    let (database, tally) = (Database::on(&cluster.server(), "").await, Tally::holding().await);
    send_calls_to(&database, &tally.url()).await;
    insert_calls(&database, 40).await;
    let dispatcher = Dispatcher::start_leased(&database.url, LONG_LEASE_MS, 16).await;
    tally.has(16).await;
    cluster.stop_immediately().await;
    tally.answer_all();
    let mut dispatcher = dispatcher;
    dispatcher.says("the database does not do what it should").await;
    cluster.start_again().await;
    let database = Database::at(database.url).await;
    database.settled().await;
    dispatcher.signal(Signal::SIGTERM);
    let (well, lines) = dispatcher.ended_saying().await;
    assert!(well && lines.len() < 20, "{lines:#?}");
    let accounts = accounts::check(&database.pool, &tally, &[]).await;
    assert_eq!((accounts.shown("delivered"), accounts.requests), (40, 40));
}

#[tokio::test(flavor = "multi_thread")]
async fn results_outlast_a_database_that_is_read_only_for_a_while() {
    let (database, tally) = (Database::new().await, Tally::holding().await);
    send_calls_to(&database, &tally.url()).await;
    insert_calls(&database, 40).await;
    let mut dispatcher = Dispatcher::start_leased(&database.url, LONG_LEASE_MS, 16).await;
    tally.has(16).await;
    let name = database.text("SELECT current_database()::text").await.unwrap();
    database.execute(&format!("ALTER DATABASE {name} SET default_transaction_read_only = on")).await;
    let end_sessions = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                        WHERE datname = current_database() AND application_name = 'postcall'";
    database.execute(end_sessions).await;
    tally.answer_all();
    dispatcher.says("the database does not do what it should").await;
    let mut connection = PgConnection::connect(&database.url).await.unwrap();
    let make_writable = format!("ALTER DATABASE {name} RESET default_transaction_read_only");
    // Each in a transaction of its own: the first decides what the second may do.
    for sql in ["SET default_transaction_read_only = off", &make_writable, end_sessions] {
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
    }
    database.settled().await;
    dispatcher.signal(Signal::SIGTERM);
    let (well, lines) = dispatcher.ended_saying().await;
    assert!(well && lines.len() < 20, "{lines:#?}");
    let accounts = accounts::check(&database.pool, &tally, &[]).await;
    assert_eq!((accounts.shown("delivered"), accounts.requests), (40, 40));
}

/// A snapshot keeps every dead row of the queue from being cleaned up, and so the queue grows by all that passes.
#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_is_held_stops_nothing() {
    let calls = sized(4_000, 40_000);
    let (database, tally) = (Database::new().await, Tally::open().await);
    send_calls_to(&database, &tally.url()).await;
    let snapshot =
        Obstacle::put(&database, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; SELECT FROM postcall.waiting").await;
    let mut fleet = Fleet::with_lease(LONG_LEASE_MS, &database.url, 2, 32).await;
    let acknowledged = complete_calls(&database.url, calls).await.unwrap();
    fleet.finish(&database).await;
    snapshot.remove().await;
    let accounts = accounts::check(&database.pool, &tally, &acknowledged).await;
    assert_eq!((accounts.shown("delivered"), accounts.requests), (calls, calls));
}
