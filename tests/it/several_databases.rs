//! One process that serves several databases: each call is sent once, whatever becomes of the other databases.

use std::collections::HashMap;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::json;

use crate::support::cluster::Cluster;
use crate::support::database::Database;
use crate::support::inbox::Inbox;
use crate::support::platform::complete_calls;
use crate::support::process::{Dispatcher, file, postcall, postcall_on, stderr, stdout};
use crate::support::proxy::{End, Proxy};
use crate::support::scrape::start;
use crate::support::tally::Tally;

use crate::faults::send_calls_to;

/// How long any event is waited for before the test fails.
const PATIENCE: Duration = Duration::from_secs(120);
/// All databases send to the same host, which takes this many requests at a time.
const NARROW: [&str; 8] = [
    "--concurrency",
    "24",
    "--concurrency-per-agent",
    "24",
    "--concurrency-per-host",
    "8",
    "--adapt-to-hosts",
    "false",
];

/// A file that names these databases.
pub fn listed(databases: &[(&str, &str)]) -> tempfile::NamedTempFile {
    let lines = databases.iter().map(|(name, url)| format!("{name} {url}\n"));
    file(&(String::from("# of the test\n\n") + &lines.collect::<String>()))
}

/// Waits until everything in a database has ended, and returns how many deliveries are in each state.
async fn ended(database: &Database) -> HashMap<String, i64> {
    tokio::time::timeout(PATIENCE, database.settled()).await.expect("everything ends");
    let states = "SELECT state, count(*) FROM postcall.delivery_history GROUP BY state";
    sqlx::query_as::<_, (String, i64)>(states).fetch_all(&database.pool).await.unwrap().into_iter().collect()
}

#[tokio::test]
async fn one_process_serves_several_databases_each_with_a_lease_of_its_own_and_tells_them_apart() {
    let (one, two, inbox) = (Database::new().await, Database::new().await, Inbox::open().await);
    for (database, agent) in [(&one, "a"), (&two, "b")] {
        database.publish(agent, "default", &json!({"method": "POST", "url": inbox.url(&format!("/{agent}"))})).await;
        database.insert_call(agent, &json!({})).await;
    }
    let list = listed(&[("north", &one.url), ("south", &two.url)]);
    let list = ["--databases", list.path().to_str().unwrap()];
    let (mut dispatcher, scraper) = start("", &list).await;
    inbox.has(2).await;
    for database in [&one, &two] {
        assert_eq!(ended(database).await, HashMap::from([("delivered".to_owned(), 1)]));
        assert_eq!(database.number("SELECT count(*) FROM postcall.dispatcher WHERE lost_at IS NULL").await, 1);
    }
    let mut paths: Vec<String> = inbox.received().into_iter().map(|request| request.target).collect();
    paths.sort();
    assert_eq!(paths, ["/a", "/b"]);
    let scrape = scraper
        .until(|scrape| {
            let waiting = scrape.samples.iter().filter(|(name, _, _)| name == "postcall_waiting_deliveries");
            waiting.filter_map(|(_, labels, _)| labels.get("database")).count() == 2
        })
        .await;
    for name in ["north", "south"] {
        let delivered = scrape.samples.iter().find(|(family, labels, _)| {
            family == "postcall_deliveries_total" && labels["database"] == name && labels["state"] == "delivered"
        });
        assert_eq!(delivered.map(|(_, _, value)| *value), Some(1.0), "{name}: {}", scrape.text);
    }
    dispatcher.signal(Signal::SIGTERM);
    for _ in 0..2 {
        let line = dispatcher.says("stopped").await;
        assert!(line.contains("database=\"north\"") || line.contains("database=\"south\""), "{line}");
    }
    assert!(dispatcher.ended().await.0);
}

#[tokio::test]
async fn a_database_that_is_not_there_yet_keeps_no_other_from_being_served_and_is_served_once_it_comes() {
    let (here, late, inbox) = (Database::new().await, Database::empty().await, Inbox::open().await);
    here.publish("a", "default", &json!({"method": "POST", "url": inbox.url("/")})).await;
    here.insert_call("a", &json!({})).await;
    let list = listed(&[
        ("here", &here.url),
        ("late", &late.url),
        ("nowhere", "postgres://postgres:Xyzzy-7391@127.0.0.1:1/postcall"),
    ]);
    let mut command = Dispatcher::command("");
    let mut dispatcher = Dispatcher::spawned(command.args(["--databases", list.path().to_str().unwrap()]));
    inbox.has(1).await;
    let why = dispatcher.lines_until("not served").await.join("\n");
    assert!(!why.contains("Xyzzy-7391"), "{why}");
    late.store.migrate().await.unwrap();
    late.publish("a", "default", &json!({"method": "POST", "url": inbox.url("/")})).await;
    late.insert_call("a", &json!({})).await;
    assert_eq!(ended(&late).await, HashMap::from([("delivered".to_owned(), 1)]));
    assert_eq!(inbox.received().len(), 2);
    dispatcher.signal(Signal::SIGTERM);
    assert!(dispatcher.ended().await.0);
}

/// One is stopped, one is frozen in the middle of everything, and one fails over, all at the same time. All of them send to the
/// same host, so places that a broken one kept would be missing for the one that is well.
#[tokio::test(flavor = "multi_thread")]
async fn databases_that_are_stopped_frozen_and_failing_over_touch_no_other_and_lose_and_repeat_nothing() {
    let tally = Tally::open().await;
    let (mut stopped, frozen, primary) = (Cluster::start().await, Cluster::start().await, Cluster::start().await);
    let of_stopped = Database::on(&stopped.server(), "").await;
    let of_frozen = Database::on(&frozen.server(), "").await;
    let of_primary = Database::on(&primary.server(), "").await;
    let well = Database::new().await;
    let all = [&of_stopped, &of_frozen, &of_primary, &well];
    for database in all {
        send_calls_to(database, &tally.url()).await;
    }
    let line = Proxy::of_bytes(&primary.address()).await;
    let standby = primary.synchronous_standby(&line).await;
    let proxy = Proxy::to(&primary.address()).await;
    let list = listed(&[
        ("stopped", &of_stopped.url),
        ("frozen", &of_frozen.url),
        ("failing-over", &proxy.url_of(&of_primary.url)),
        ("well", &well.url),
    ]);
    let mut command = Dispatcher::command("");
    command.args(["--databases", list.path().to_str().unwrap(), "--lease-ms", "4000"]).args(NARROW);
    let dispatcher = Dispatcher::spawned(&mut command);
    let mut committed = HashMap::new();
    for database in all {
        committed.insert(database.url.clone(), complete_calls(&database.url, 400).await.unwrap().len() as i64);
    }
    tally.has(200).await;

    frozen.freeze();
    stopped.stop_immediately().await;
    proxy.cut_all(End::Reset);
    *committed.get_mut(&well.url).unwrap() += complete_calls(&well.url, 600).await.unwrap().len() as i64;
    let of_well = ended(&well).await;
    assert_eq!(of_well, HashMap::from([("delivered".to_owned(), committed[&well.url])]), "while the others are broken");
    let mut primary = primary;
    primary.stop_immediately().await;
    standby.promote().await;
    proxy.switch_to(&standby.address());

    frozen.thaw();
    stopped.start_again().await;
    let of_stopped = Database::at(of_stopped.url.clone()).await;
    let of_standby = Database::at(standby.url_of("postcall")).await;
    for (database, calls) in [
        (&of_stopped, committed[&of_stopped.url]),
        (&of_frozen, committed[&of_frozen.url]),
        (&of_standby, committed[&of_primary.url]),
    ] {
        let states = ended(database).await;
        let (sent, doubts) =
            (states.get("delivered").copied().unwrap_or(0), states.get("unknown").copied().unwrap_or(0));
        assert_eq!(sent + doubts, calls, "{states:?}");
        assert!(doubts <= 8 + 1_024, "{states:?}");
    }
    let arrivals = tally.arrivals();
    assert!(arrivals.values().all(|arrivals| arrivals.count == 1), "nothing is requested twice");
    let all: i64 = committed.values().sum();
    assert!(arrivals.len() as i64 <= all && tally.requests() as i64 >= all - 3 * 8, "{} of {all}", tally.requests());
    dispatcher.signal(Signal::SIGTERM);
    assert!(dispatcher.ended().await.0);
}

#[test]
fn a_list_of_databases_that_cannot_be_used_is_refused_with_its_line_and_without_what_may_be_a_password() {
    let refused = |text: &str, words: &str| {
        let list = file(text);
        let output = postcall(&["run", "--databases", list.path().to_str().unwrap()]);
        let said = stderr(&output);
        assert!(!output.status.success() && said.contains(words), "{text}: {said}");
        assert!(!said.contains("Xyzzy"), "{said}");
    };
    refused("# nothing\n", "names no database");
    refused("one postgres://u:Xyzzy@h/d\none postgres://u@h/e\n", "the database one is given twice");
    refused("one postgres://u@h/d\n\npostgres://u:Xyzzy@h/d\n", "line 3: there must be a name");
    refused("one Xyzzy\n", "line 1: the URL cannot be read");
    refused("o/ne postgres://u@h/d\n", "line 1: the name may have");
    let (a, b) = ("postgres://u:Xyzzy@127.0.0.1:1/d", "postgres://v:Xyzzy@127.0.0.1:1/d");
    let output = postcall(&["run", "--database-url", a, "--database-url", b]);
    assert!(stderr(&output).contains("the database 127.0.0.1:1/d is given twice"), "{}", stderr(&output));
}

#[tokio::test]
async fn what_is_asked_of_all_databases_says_of_each_row_where_it_is_and_shows_those_that_answer() {
    let (north, south) = (Database::new().await, Database::new().await);
    let mut ids = Vec::new();
    for number in 0..4 {
        let (database, agent) = if number % 2 == 0 { (&north, "a") } else { (&south, "b") };
        if number < 2 {
            database.publish(agent, "default", &json!({"method": "POST", "url": "https://crm.example/"})).await;
        }
        let call = database.insert_call(agent, &json!({"callInfo": {"callSid": format!("CA{number}")}})).await;
        let id = format!("SELECT delivery_id::text FROM postcall.waiting WHERE call_id = '{call}'");
        ids.push(database.text(&id).await.unwrap());
    }
    let list = listed(&[("north", &north.url), ("south", &south.url)]);
    let on_all = |arguments: &[&str]| {
        let output = postcall(&[arguments, &["--databases", list.path().to_str().unwrap()]].concat());
        assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
        stdout(&output)
    };
    let order = |text: &str| -> Vec<String> {
        let rows: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let name = |row: &serde_json::Value| {
            row["database"].as_str().unwrap().to_owned() + row["delivery_id"].as_str().unwrap()
        };
        rows.iter().map(name).collect()
    };
    let newest_first: Vec<String> = [("south", 3), ("north", 2), ("south", 1), ("north", 0)]
        .map(|(name, number)| name.to_owned() + &ids[number])
        .to_vec();
    assert_eq!(order(&on_all(&["history", "--format", "jsonl"])), newest_first);
    assert_eq!(order(&on_all(&["history", "--all", "--format", "jsonl"])), newest_first);
    let page = |after: &[&str]| order(&on_all(&[&["history", "--format", "jsonl", "--limit", "3"], after].concat()));
    assert_eq!(page(&[]), newest_first[..3]);
    assert_eq!(page(&["--after", &ids[1]]), newest_first[3..]);
    assert!(on_all(&["history", "--format", "csv"]).starts_with("\"database\",\"delivery_id\","));
    assert!(on_all(&["show", "CA1"]).starts_with(&format!("== south\ndelivery {}", ids[1])));
    let paused = on_all(&["pause", "agent", "b", "--reason", "their maintenance"]);
    assert!(paused.contains("== north\nnot paused") && paused.contains("== south\nagent b is paused"), "{paused}");
    assert_eq!(south.number("SELECT count(*) FROM postcall.active_pause").await, 1);
    let status = on_all(&["status", "--format", "json"]);
    let status: Vec<serde_json::Value> = status.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&status[0]["database"], &status[1]["database"]), (&json!("north"), &json!("south")));
    for (command, words) in [("check-invariants", "one_place"), ("migrate", "up to date"), ("status", "waiting")] {
        let said = on_all(&[command]);
        assert!(said.contains("== north") && said.contains("== south") && said.contains(words), "{command}: {said}");
    }
    let list = listed(&[("gone", "postgres://u:Xyzzy@127.0.0.1:1/d"), ("south", &south.url)]);
    for command in ["history", "status", "check-invariants", "migrate"] {
        let output = postcall(&[command, "--databases", list.path().to_str().unwrap()]);
        let (said, shown) = (stderr(&output), stdout(&output));
        assert!(!output.status.success() && said.contains("gone: cannot connect"), "{command}: {said}");
        assert!(shown.contains("south") && !said.contains("Xyzzy"), "{command}: {shown}");
    }
}

/// As docs/operating.md says: calls of the agent go on coming all the time, and receivers rely on their order.
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_moves_to_another_database_without_a_call_sent_twice_lost_or_before_an_earlier_one() {
    let (old, new, inbox) = (Database::new().await, Database::new().await, Inbox::open().await);
    let list = listed(&[("old", &old.url), ("new", &new.url)]);
    let list = ["--databases", list.path().to_str().unwrap()];
    let on_new = |arguments: &[&str]| {
        let output = postcall_on(&new, arguments);
        assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
    };
    let action = json!({"method": "POST", "url": inbox.url("/"), "body": "{\"n\": ${n}}"});
    old.publish("a", "default", &action).await;
    let (mut dispatcher, _) = start("", &[&list[..], &["--concurrency-per-agent", "1"]].concat()).await;
    for number in 0..30 {
        old.insert_call("a", &json!({ "n": number })).await;
    }
    inbox.has(5).await;
    new.publish("a", "default", &action).await;
    on_new(&["pause", "agent", "a", "--reason", "moving"]);
    dispatcher.says("the pauses have changed").await;
    for number in 30..60 {
        new.insert_call("a", &json!({ "n": number })).await;
    }
    ended(&old).await;
    on_new(&["resume", "agent", "a", "--reason", "moved"]);
    old.execute("UPDATE postcall.action SET enabled = false").await;
    ended(&new).await;
    let sent: Vec<String> = inbox.received().into_iter().map(|request| request.body).collect();
    let wanted: Vec<String> = (0..60).map(|number| format!("{{\"n\": {number}}}")).collect();
    assert_eq!(sent, wanted);
}
