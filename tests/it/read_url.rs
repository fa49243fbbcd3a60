//! Reading from a hot standby.

use std::time::Duration;

use serde_json::json;

use crate::support::cluster::Cluster;
use crate::support::console::Console;
use crate::support::database::Database;
use crate::support::process::{postcall_at, stderr, stdout};
use crate::support::proxy::Proxy;

/// How long any event is waited for before the test fails.
const PATIENCE: Duration = Duration::from_secs(60);
/// Nothing listens there.
const NOWHERE: &str = "postgres://postgres@127.0.0.1:1/postcall";

/// A primary with a call of agent a, and the standby that follows it.
async fn with_standby() -> (Cluster, Database, Proxy, Cluster) {
    let primary = Cluster::start().await;
    let database = Database::on(&primary.server(), "").await;
    let line = Proxy::to(&primary.address()).await;
    let standby = primary.synchronous_standby(&line).await;
    primary.configure("synchronous_commit", "remote_apply").await;
    database.publish("a", "default", &json!({"method": "POST", "url": "https://receiver.example/"})).await;
    database.insert_call("a", &json!({})).await;
    (primary, database, line, standby)
}

#[tokio::test]
async fn what_only_reads_asks_the_standby_and_says_until_when_it_shows_what_happened() {
    let (_primary, database, _line, standby) = with_standby().await;
    let url = standby.url_of("postcall");
    let call = database.text("SELECT call_id::text FROM postcall.waiting").await.unwrap();
    for (command, shown) in [
        (vec!["history"], "waiting"),
        (vec!["calls"], call.as_str()),
        (vec!["show", &call], "WAITING"),
        (vec!["status"], "waiting"),
        (vec!["audit"], "published"),
    ] {
        let asked: Vec<&str> = command.iter().copied().chain(["--read-url", &url]).collect();
        let output = postcall_at(NOWHERE, &asked);
        assert!(output.status.success(), "{command:?}: {}", stderr(&output));
        assert!(stdout(&output).contains(shown), "{command:?}: {}", stdout(&output));
        let said = stderr(&output);
        assert!(said.contains("read from a standby: it shows what was committed until 20"), "{command:?}: {said}");
    }
    let output = postcall_at(&database.url, &["history"]);
    assert!(!stderr(&output).contains("standby"), "a primary is none: {}", stderr(&output));
}

#[tokio::test]
async fn a_console_reads_from_the_standby_says_so_and_changes_the_primary() {
    let (primary, database, _line, standby) = with_standby().await;
    let url = standby.url_of("postcall");
    let console = Console::start_with(&database.url, &["--read-url", &url, "--write", "--as", "Ada"]).await;
    let words = console.page("/deliveries").await.words();
    assert!(words.contains("read from a standby, which shows what was committed until 20"), "{words}");
    // What the standby has received and does not show yet is not on any page.
    primary.configure("synchronous_commit", "on").await;
    let paused = "DO $$ BEGIN PERFORM pg_wal_replay_pause();
                         WHILE pg_get_wal_replay_pause_state() <> 'paused' LOOP PERFORM pg_sleep(0.01); END LOOP; END $$";
    standby.execute(paused).await;
    let fields = [("target", "agent"), ("agent", "a"), ("reason", "their maintenance"), ("order", "pause")];
    let answer = console.sends("", "/change/pause", &fields).await;
    assert_eq!(answer.status, 303, "{}", answer.words());
    assert_eq!(database.number("SELECT count(*) FROM postcall.active_pause").await, 1, "the primary has it");
    assert!(!console.page("/").await.words().contains("their maintenance"));
    standby.execute("SELECT pg_wal_replay_resume()").await;
    let seen = async { while !console.page("/").await.words().contains("their maintenance") {} };
    tokio::time::timeout(PATIENCE, seen).await.expect("the standby goes on, and the page shows it");
}
