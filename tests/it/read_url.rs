//! Reading from a hot standby.

use std::time::Duration;

use serde_json::json;

use crate::console_several::console_of;
use crate::several_databases::listed;
use crate::support::cluster::Cluster;
use crate::support::console::Console;
use crate::support::database::Database;
use crate::support::endings::{end_all, ended};
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

#[tokio::test]
async fn a_standby_among_several_databases_is_read_and_refuses_changes_in_words_that_say_why() {
    let (_primary, database, _line, standby) = with_standby().await;
    let other = Database::new().await;
    other.publish("a", "default", &json!({"method": "POST", "url": "https://receiver.example/"})).await;
    let delivery = end_all(&database, "unknown").await.remove(0);
    ended(&database, "failed", 1).await;
    let url = standby.url_of("postcall");
    let databases = [("followed", &*url), ("other", &*other.url)];
    let console = console_of(&databases, &["--write", "--as", "Ada"]).await;
    for path in ["", "deliveries", "calls", "agents", "agents/a", "audit", &format!("deliveries/{delivery}")] {
        let page = console.page(&format!("/in/followed/{path}")).await;
        let said = "read from a standby, which shows what was committed until 20";
        assert!(page.words().contains(said), "{path}: {}", page.words());
    }
    let all = console.page("/deliveries").await;
    assert!(all.body.contains(&format!("/in/followed/deliveries/{delivery}")), "{}", all.words());
    let export = console.get("/deliveries.csv").await;
    let file = export.header("content-disposition").unwrap();
    assert!(file.contains("filename=\"deliveries-of-all-from-standby-until-20"), "{file}");
    let reason = ("reason", "r");
    let publish = [
        ("agent", "a"),
        ("name", "default"),
        ("method", "POST"),
        ("url", "https://other.example/"),
        ("timeout", ""),
        ("headers", ""),
        ("body", ""),
        ("enabled", "yes"),
        ("over", "1"),
        ("step", "publish"),
        reason,
    ];
    let until = ("until", "2999-01-01T00:00:00Z");
    let finding = ("finding", "failed");
    let forms: [(&str, &[(&str, &str)]); 7] = [
        ("pause", &[("order", "pause"), ("target", "agent"), ("agent", "a"), reason]),
        ("enabled", &[("agent", "a"), ("name", "default"), ("enabled", "no"), reason]),
        ("resolve", &[("delivery", &delivery), ("finding", "failed"), reason]),
        ("replay", &[("delivery", &delivery), reason]),
        ("replay-many", &[("query", "agent=a"), until, reason]),
        ("resolve-many", &[("query", "agent=a"), until, finding, reason]),
        ("action", &publish),
    ];
    for (form, fields) in forms {
        let refused = console.sends("", &format!("/in/followed/change/{form}"), fields).await;
        let words = refused.words();
        assert!(refused.status == 409 && words.contains("This server takes no changes"), "{form}: {words}");
        assert!(words.contains("Change it on the server that a standby follows"), "{form}: {words}");
    }
    // The other one takes them as ever, and the command line names the one that is a standby.
    console.done("", "/in/other/change/enabled", forms[1].1).await;
    let list = listed(&databases);
    let output = postcall_at(NOWHERE, &["history", "--databases", list.path().to_str().unwrap()]);
    assert!(output.status.success() && stdout(&output).contains(&delivery), "{}", stderr(&output));
    let said = stderr(&output);
    assert!(said.starts_with("followed: read from a standby: it shows what was committed until 20"), "{said}");
}

#[tokio::test]
async fn what_programs_get_from_a_standby_says_so_too() {
    let (_primary, database, _line, standby) = with_standby().await;
    let url = standby.url_of("postcall");
    let status = |url: &str| -> serde_json::Value {
        let output = postcall_at(url, &["status", "--format", "json"]);
        serde_json::from_str(&stdout(&output)).unwrap()
    };
    let of_standby = status(&url);
    assert!(of_standby["standby"]["shows_until"].as_str().is_some_and(|at| at.starts_with("20")), "{of_standby}");
    assert!(of_standby["standby"]["age_ms"].is_i64(), "{of_standby}");
    assert_eq!(status(&database.url).get("standby"), None, "a primary is none");
    let name = async |url: &str, export: &str| {
        let console = Console::start(url).await;
        let answer = console.get(export).await;
        assert_eq!(answer.status, 200);
        answer.header("content-disposition").unwrap().to_owned()
    };
    for (export, file) in [("/deliveries.csv", "deliveries"), ("/audit.jsonl", "audit")] {
        let of_standby = name(&url, export).await;
        assert!(of_standby.contains(&format!("filename=\"{file}-from-standby-until-20")), "{of_standby}");
        assert!(!name(&database.url, export).await.contains("standby"));
    }
}
