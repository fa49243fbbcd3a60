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

/// The standby's network goes silent first, and the primary dies later: whatever the primary alone knows is lost. With
/// claims that do not wait for the standby, these would be claims of requests that were sent, and so are sent again.
#[tokio::test(flavor = "multi_thread")]
async fn after_a_failover_to_the_synchronous_standby_nothing_is_requested_twice_and_nothing_is_lost() {
    let mut chance = chance("after_a_failover_to_the_synchronous_standby");
    let calls = sized(3_000, 30_000);
    let mut primary = Cluster::start().await;
    let (database, tally) = (Database::on(&primary.server(), "").await, Tally::open().await);
    send_calls_to(&database, &tally.url()).await;
    let line = Proxy::of_bytes(&primary.address()).await;
    let standby = primary.synchronous_standby(&line).await;
    primary.execute("ALTER DATABASE postcall SET synchronous_commit = local").await;
    let proxy = Proxy::to(&primary.address()).await;
    let url = proxy.url_of(&database.url);
    // The platform asks for durability itself; what was acknowledged to it is on the standby.
    let platform_url = format!("{url}?options=-csynchronous_commit=on");
    let mut acknowledged = complete_calls(&platform_url, calls / 2).await.unwrap();
    let platform = complete_calls(&platform_url, calls / 2);
    let mut fleet = Fleet::with_lease(LONG_LEASE_MS, &url, 2, 16).await;

    tally.has(chance.usize(1..calls / 4)).await;
    line.hold_back(true);
    // A dispatcher that does not wait for the standby goes on instead, until the primary has nothing left for it.
    let waits_or_has_gone_on =
        "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE application_name = 'postcall' AND wait_event = 'SyncRep')
                OR NOT EXISTS (SELECT FROM postcall.waiting) AND NOT EXISTS (SELECT FROM postcall.sending)";
    database.until(waits_or_has_gone_on).await;
    primary.stop_immediately().await;
    standby.promote().await;
    proxy.switch_to(&standby.address());
    proxy.cut_all(End::Reset);

    acknowledged.extend(platform.await.unwrap());
    let database = Database::at(standby.url_of("postcall")).await;
    // Before the end of all that is in flight, which would never come where the standby does not know what has ended.
    database.until("SELECT NOT EXISTS (SELECT FROM postcall.waiting)").await;
    let twice = tally.arrivals().values().filter(|arrivals| arrivals.count > 1).count();
    assert_eq!(twice, 0, "requested twice, because the standby did not know of it");
    fleet.finish(&database).await;
    let accounts = accounts::check(&database.pool, &tally, &acknowledged).await;
    assert_eq!((accounts.shown("delivered"), accounts.requests), (accounts.committed, accounts.committed));
}
