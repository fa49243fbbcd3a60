//! The primary dies, and its synchronous standby takes its place.

use crate::support::accounts;
use crate::support::cluster::Cluster;
use crate::support::database::Database;
use crate::support::fleet::Fleet;
use crate::support::platform::complete_calls;
use crate::support::proxy::{End, Proxy};
use crate::support::seed::{chance, sized};
use crate::support::tally::Tally;

use super::send_calls_to;

/// Nobody is given up, so no doubt is excused.
const LONG_LEASE_MS: u64 = 60_000;

#[tokio::test(flavor = "multi_thread")]
async fn after_a_failover_to_the_synchronous_standby_nothing_is_requested_twice_and_nothing_is_lost() {
    let mut chance = chance("after_a_failover_to_the_synchronous_standby");
    let calls = sized(3_000, 30_000);
    let mut primary = Cluster::start().await;
    let (database, tally) = (Database::on(&primary.server(), "").await, Tally::open().await);
    send_calls_to(&database, &tally.url()).await;
    let standby = primary.synchronous_standby().await;
    // Whatever server, database and role say: a claim waits for the standby.
    primary.execute("ALTER DATABASE postcall SET synchronous_commit = local").await;
    let proxy = Proxy::to(&primary.address()).await;
    let url = proxy.url_of(&database.url);
    let mut fleet = Fleet::with_lease(LONG_LEASE_MS, &url, 2, 16).await;
    // The platform asks for durability itself; what was acknowledged to it is on the standby.
    let platform = complete_calls(&format!("{url}?options=-csynchronous_commit=on"), calls);

    tally.has(chance.usize(calls / 4..calls / 2)).await;
    primary.stop_immediately().await;
    standby.promote().await;
    proxy.switch_to(&standby.address());
    proxy.cut_all(End::Reset);

    let acknowledged = platform.await.unwrap();
    let database = Database::at(standby.url_of("postcall")).await;
    fleet.finish(&database).await;
    let accounts = accounts::check(&database.pool, &tally, &acknowledged).await;
    assert_eq!((accounts.shown("delivered"), accounts.requests), (accounts.committed, accounts.committed));
}
