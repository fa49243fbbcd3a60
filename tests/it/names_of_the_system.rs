//! The program as it runs on a machine: it takes names from `/etc/resolv.conf` and `/etc/hosts`. The tests run in a
//! mount namespace in which these two files are their own. If that is not permitted, the tests say so.

use nix::sys::signal::Signal;
use serde_json::json;

use crate::support::database::Database;
use crate::support::inbox::Inbox;
use crate::support::name_server::{Asked, NameFiles, NameServer, Replies};
use crate::support::not_tested::impossible;
use crate::support::process::Dispatcher;

/// The port of all name servers in resolv.conf.
const PORT: u16 = 53;

/// Silent about `dead.test`, and certain that everything else is here.
fn silent_about_the_dead(asked: &Asked) -> Replies {
    if asked.is_in("dead.test") { Vec::new() } else { asked.addresses(&["127.0.0.1"], 60) }
}

/// A dispatcher that asks the name server at `address`. `None` where that cannot be tested.
async fn dispatcher_asking(
    address: &str,
    hosts: &str,
    database: &Database,
    arguments: &[&str],
) -> Option<(Dispatcher, NameServer, NameFiles)> {
    let address = (address.parse::<std::net::Ipv4Addr>().unwrap(), PORT).into();
    if std::net::UdpSocket::bind(address).is_err() {
        impossible(&format!("names of the system: this user may not listen at port {PORT}"));
        return None;
    }
    let server = NameServer::start_at(address, silent_about_the_dead).await;
    let files = NameFiles::naming(&server, "options timeout:15 attempts:2");
    files.write_hosts(hosts);
    let [resolv_conf, hosts] = files.paths();
    let Some(dispatcher) = Dispatcher::start_resolving_by(database, &resolv_conf, &hosts, arguments).await else {
        impossible("names of the system: this user may not make a mount namespace");
        return None;
    };
    Some((dispatcher, server, files))
}

#[tokio::test]
async fn calls_to_a_silent_name_leave_threads_and_time_to_all_others() {
    let (database, inbox) = (Database::new().await, Inbox::open().await);
    let port = inbox.address.port();
    let action = |host: &str| json!({"method": "POST", "url": format!("http://{host}:{port}/"), "timeout": 20_000});
    database.publish("dead", "default", &action("dead.test")).await;
    for number in 0..20 {
        database.publish("live", &format!("live-{number}"), &action(&format!("live-{number}.test"))).await;
    }
    let calls = "INSERT INTO postcall.outbox (agent, call) SELECT 'dead', '{}' FROM generate_series(1, 2000)";
    database.execute(calls).await;
    database.insert_call("live", &json!({})).await;
    let arguments = ["--concurrency", "3000"];
    let Some((dispatcher, server, _files)) = dispatcher_asking("127.53.0.1", "", &database, &arguments).await else {
        return;
    };
    server.was_asked("the dead name is asked for", |asked| asked.is_in("dead.test")).await;
    let live = "FROM postcall.delivery_history WHERE agent = 'live'";
    database.until(&format!("SELECT count(*) FILTER (WHERE state NOT IN ('waiting', 'sending')) = 20 {live}")).await;
    assert_eq!(database.text(&format!("SELECT string_agg(DISTINCT state, ' ') {live}")).await.unwrap(), "delivered");
    assert_eq!(server.open_sockets(), 1, "all calls to the silent name share one question");
    let threads = dispatcher.threads();
    assert!(threads < 50, "{threads} threads");
}

#[tokio::test]
async fn the_hosts_file_is_heeded_and_no_name_is_in_the_log() {
    let (database, inbox) = (Database::new().await, Inbox::open().await);
    let port = inbox.address.port();
    for (host, timeout_ms) in [("written.hidden", 20_000), ("asked.hidden", 20_000), ("dead.test", 2_000)] {
        let action = json!({"method": "POST", "url": format!("http://{host}:{port}/"), "timeout": timeout_ms});
        database.publish("a", host, &action).await;
    }
    database.insert_call("a", &json!({})).await;
    let (hosts, arguments) = ("127.0.0.1 written.hidden\n", ["--log", "trace"]);
    let Some((dispatcher, server, _files)) = dispatcher_asking("127.53.0.2", hosts, &database, &arguments).await else {
        return;
    };
    database.settled().await;
    dispatcher.signal(Signal::SIGTERM);
    let outcomes = "SELECT string_agg(action || ' ' || state, ', ' ORDER BY action) FROM postcall.delivery_history";
    let expected = "asked.hidden delivered, dead.test failed, written.hidden delivered";
    assert_eq!(database.text(outcomes).await.unwrap(), expected);
    assert!(server.names_in("written.hidden").is_empty());
    let (well, lines) = dispatcher.ended_saying().await;
    assert!(well && !lines.is_empty());
    let hosts = ["written.hidden:", "asked.hidden:", "asked.hidden.", "dead.test:", "dead.test."];
    let told = lines.iter().find(|line| hosts.iter().any(|host| line.contains(host)));
    assert_eq!(told, None);
}
