//! A dispatcher that stands still for longer than its lease, and then goes on as if nothing had happened.

use nix::sys::signal::Signal;

use crate::support::accounts;
use crate::support::database::Database;
use crate::support::fleet::{Fleet, LEASE_MS};
use crate::support::platform::complete_calls;
use crate::support::process::Dispatcher;
use crate::support::proxy::{End, Proxy};
use crate::support::seed::{chance, sized};
use crate::support::tally::{Tally, Unreachable};

use super::{insert_calls, send_calls_to};

/// Waits until nothing of this dispatcher's is in flight any more, because others gave it up.
async fn given_up(database: &Database, dispatcher: &Dispatcher) {
    let nothing = format!("SELECT NOT EXISTS (SELECT FROM postcall.sending WHERE dispatcher_id = {})", dispatcher.id());
    database.until(&nothing).await;
}

/// Waits until the database's clock has gone on by `leases` leases.
async fn leases_pass(database: &Database, leases: u64) {
    let now = database.text("SELECT clock_timestamp()::text").await.unwrap();
    let passed = format!("SELECT clock_timestamp() > '{now}'::timestamptz + interval '{} ms'", leases * LEASE_MS);
    database.until(&passed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_dispatcher_never_sends_what_was_given_up_meanwhile() {
    const HELD: usize = 200;
    let (database, nobody) = (Database::new().await, Unreachable::new().await);
    send_calls_to(&database, &nobody.url()).await;
    insert_calls(&database, HELD).await;
    // All it holds waits for its connection, which opens while it is paused.
    let mut fleet = Fleet::start(&database.url, 1, HELD).await;
    nobody.is_knocked_at(HELD).await;
    fleet.members[0].signal(Signal::SIGSTOP);
    fleet.add().await;
    given_up(&database, &fleet.members[0]).await;
    let tally = nobody.open();
    fleet.members[0].signal(Signal::SIGCONT);
    // When they have ended, they have sent whatever they ever would.
    tokio::select! {
        () = tally.has(1) => panic!("it has sent what was given up"),
        () = fleet.finish(&database) => {}
    }
    let accounts = accounts::check(&database.pool, &tally, &[]).await;
    // What it knows by then, that it never sent them, may be shown already.
    assert_eq!((accounts.shown("unknown") + accounts.shown("failed"), accounts.requests), (HELD, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dispatcher_cut_off_from_the_database_sends_nothing_after_its_lease() {
    let (database, nobody) = (Database::new().await, Unreachable::new().await);
    send_calls_to(&database, &nobody.url()).await;
    insert_calls(&database, 6).await;
    let proxy = Proxy::to_server_of(&database.url).await;
    let mut cut_off = Fleet::start(&proxy.url_of(&database.url), 1, 6).await;
    nobody.is_knocked_at(6).await;
    // No error, no end of the connection: only silence.
    proxy.hold_back(true);
    let mut others = Fleet::start(&database.url, 1, 6).await;
    given_up(&database, &cut_off.members[0]).await;
    let tally = nobody.open();
    // Its connections to the receiver have opened by the time this one has, or were given up.
    insert_calls(&database, 1).await;
    tally.has(1).await;
    leases_pass(&database, 1).await;
    proxy.hold_back(false);
    proxy.cut_all(End::Reset);
    others.finish(&database).await;
    cut_off.finish(&database).await;
    let accounts = accounts::check(&database.pool, &tally, &[]).await;
    assert_eq!((accounts.shown("delivered"), accounts.requests, accounts.committed), (1, 1, 7));
}

#[tokio::test]
async fn what_a_paused_dispatcher_learns_afterwards_ends_the_doubt() {
    let (database, tally) = (Database::new().await, Tally::holding().await);
    send_calls_to(&database, &tally.url()).await;
    insert_calls(&database, 6).await;
    let mut fleet = Fleet::start(&database.url, 1, 6).await;
    tally.has(6).await;
    fleet.members[0].signal(Signal::SIGSTOP);
    fleet.add().await;
    given_up(&database, &fleet.members[0]).await;
    assert_eq!(database.number("SELECT count(*) FROM postcall.delivery_history WHERE state = 'unknown'").await, 6);
    tally.answer_all();
    fleet.members[0].signal(Signal::SIGCONT);
    fleet.finish(&database).await;
    let accounts = accounts::check(&database.pool, &tally, &[]).await;
    assert_eq!((accounts.shown("delivered"), accounts.doubts.values().sum::<usize>()), (6, 6));
}

#[tokio::test(flavor = "multi_thread")]
async fn dispatchers_paused_under_load_never_cause_a_second_request() {
    let mut chance = chance("dispatchers_paused_under_load_never_cause_a_second_request");
    let (pauses, calls) = (sized(4, 40), sized(3_000, 30_000));
    let (database, tally) = (Database::new().await, Tally::open().await);
    send_calls_to(&database, &tally.url()).await;
    let mut fleet = Fleet::start(&database.url, 3, 16).await;
    let platform = complete_calls(&database.url, calls);
    for pause in 0..pauses {
        let between = calls / (pauses + 1);
        tally.has(pause * between + chance.usize(1..between)).await;
        let paused = chance.usize(..fleet.members.len());
        fleet.members[paused].signal(Signal::SIGSTOP);
        leases_pass(&database, 2).await;
        given_up(&database, &fleet.members[paused]).await;
        fleet.members[paused].signal(Signal::SIGCONT);
    }
    let acknowledged = platform.await.unwrap();
    fleet.finish(&database).await;
    let accounts = accounts::check_paused(&database.pool, &tally, &acknowledged, pauses).await;
    assert_eq!(accounts.committed, calls);
    let doubts = accounts.doubts.values().sum::<usize>();
    assert!(doubts <= pauses * 16, "{doubts} doubts");
}
