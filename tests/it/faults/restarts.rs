//! Dispatchers that are stopped in good order leave no doubt.

use std::time::Duration;

use crate::support::accounts;
use crate::support::database::Database;
use crate::support::fleet::Fleet;
use crate::support::platform::complete_calls;
use crate::support::seed::{chance, sized};
use crate::support::tally::Tally;

use super::send_calls_to;

#[tokio::test(flavor = "multi_thread")]
async fn a_dispatcher_stopped_under_load_leaves_no_doubt() {
    let mut chance = chance("a_dispatcher_stopped_under_load_leaves_no_doubt");
    let (stops, calls) = (sized(10, 100), sized(4_000, 40_000));
    let (database, tally) = (Database::new().await, Tally::open().await);
    send_calls_to(&database, &tally.url()).await;
    let mut fleet = Fleet::start(&database.url, 2, 32).await;
    let platform = complete_calls(&database.url, calls);
    let between = calls / stops;
    for stop in 0..stops {
        tally.has(stop * between + chance.usize(1..=between)).await;
        fleet.retire(chance.usize(..fleet.members.len())).await;
        fleet.add().await;
    }
    let acknowledged = platform.await.unwrap();
    fleet.finish(&database).await;
    let accounts = accounts::check(&database.pool, &tally, &acknowledged).await;
    assert_eq!((accounts.shown("delivered"), accounts.requests), (calls, calls));
    fleet.assert_doubt_is_bounded(&accounts);
}

/// A rolling restart: every second the older of two dispatchers is replaced, the new one starting first.
#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_restart_leaves_no_doubt_and_loses_nothing() {
    let (database, tally) = (Database::new().await, Tally::open().await);
    send_calls_to(&database, &tally.url()).await;
    let mut fleet = Fleet::start(&database.url, 2, 32).await;
    let mut seconds = tokio::time::interval(Duration::from_secs(1));
    let mut acknowledged = Vec::new();
    for _ in 0..sized(5, 60) {
        let platform = complete_calls(&database.url, 500);
        seconds.tick().await;
        fleet.add().await;
        fleet.retire(0).await;
        acknowledged.extend(platform.await.unwrap());
    }
    fleet.finish(&database).await;
    let accounts = accounts::check(&database.pool, &tally, &acknowledged).await;
    assert_eq!((accounts.shown("delivered"), accounts.requests), (acknowledged.len(), acknowledged.len()));
    fleet.assert_doubt_is_bounded(&accounts);
}
