//! Dispatchers that are killed at any moment, under load.

use crate::protocol::trace::Seen;
use crate::support::accounts::{self, COUNTED_LATE};
use crate::support::database::Database;
use crate::support::fleet::Fleet;
use crate::support::platform::complete_calls;
use crate::support::process::postcall_on;
use crate::support::seed::{chance, sized};
use crate::support::tally::Tally;
use crate::support::traces;

use super::send_calls_to;

const PERMITS: usize = 16;

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_dispatcher_never_causes_a_second_request() {
    let mut chance = chance("a_killed_dispatcher_never_causes_a_second_request");
    let (kills, calls) = (sized(25, 200), sized(6_000, 100_000));
    let (database, tally) = (Database::new().await, Tally::open().await);
    send_calls_to(&database, &tally.url()).await;
    let mut fleet = Fleet::start(&database.url, 3, PERMITS).await;
    let platform = complete_calls(&database.url, calls);
    // The moments are spread over the whole run by the requests that have arrived, and so they are under load. The last
    // one leaves enough calls for all those that the killed took with them.
    let between = (calls - kills * PERMITS) / kills;
    for kill in 0..kills {
        tally.has(kill * between + chance.usize(1..=between)).await;
        fleet.kill(chance.usize(..fleet.members.len())).await;
        fleet.add().await;
    }
    let acknowledged = platform.await.unwrap();
    fleet.finish(&database).await;
    let accounts = accounts::check(&database.pool, &tally, &acknowledged).await;
    assert_eq!(accounts.committed, calls);
    assert_eq!(accounts.shown("delivered") + accounts.shown("unknown"), calls);
    fleet.assert_doubt_is_bounded(&accounts);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_all_dispatchers_left_when_they_were_killed_is_found_by_the_next_to_start() {
    let (database, tally) = (Database::new().await, Tally::holding().await);
    send_calls_to(&database, &tally.url()).await;
    let mut fleet = Fleet::start(&database.url, 2, 5).await;
    let acknowledged = complete_calls(&database.url, 30).await.unwrap();
    tally.has(10).await;
    fleet.kill(0).await;
    fleet.kill(0).await;
    tally.answer_all();
    fleet.add().await;
    fleet.finish(&database).await;
    let accounts = accounts::check(&database.pool, &tally, &acknowledged).await;
    assert_eq!((accounts.shown("unknown"), accounts.shown("delivered")), (10, 20));
    fleet.assert_doubt_is_bounded(&accounts);
}

/// What was in doubt after the kill is requested once more, by name, and each of it once. Kill and replays are in the traces that
/// the model accepts; without the replay, the second request would be none that it has.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_person_replays_after_a_kill_is_requested_once_more() {
    let (database, tally) = (Database::new().await, Tally::holding().await);
    send_calls_to(&database, &tally.url()).await;
    let mut fleet = Fleet::start(&database.url, 1, 5).await;
    complete_calls(&database.url, 10).await.unwrap();
    tally.has(5).await;
    fleet.kill(0).await;
    tally.answer_all();
    fleet.add().await;
    database.settled().await;
    let arguments = ["replay", "--state", "unknown", "--include-unknown", "--reason", "they asked", "--by", "Ada"];
    assert!(postcall_on(&database, &arguments).status.success());
    fleet.finish(&database).await;
    assert_eq!(tally.requests(), 15);
    let seen = traces::check(&database.pool, &tally, COUNTED_LATE, false).await;
    assert_eq!((seen[&Seen::Killed], seen[&Seen::Replayed]), (5, 5));
}
