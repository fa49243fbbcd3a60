//! `postcall status`: it shows what goes on at once, however much there is, from what the database knows and
//! dispatchers report.

use std::time::Duration;

use postcall::domain::delivery::Failure;
use postcall::domain::host::Host;
use postcall::domain::report::{HostCondition, HostReport, Report};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::support::database::Database;
use crate::support::endings::ended;
use crate::support::process::{POSTCALL, postcall_at, postcall_on, stderr, stdout};

/// What an auditor sees.
async fn status(database: &Database) -> Value {
    let url = database.login(&["postcall_auditor"]).await;
    let output = postcall_at(&url, &["status", "--format", "json"]);
    assert!(output.status.success(), "{}", stderr(&output));
    serde_json::from_str(&stdout(&output)).unwrap()
}

fn table(database: &Database) -> String {
    let output = postcall_on(database, &["status"]);
    assert!(output.status.success(), "{}", stderr(&output));
    stdout(&output)
}

fn exactly(count: i64) -> Value {
    json!({ "count": count, "is_more": false })
}

/// Publishes an action of `agent` that goes to `url`, and lets `count` deliveries wait for it.
async fn wait_for(database: &Database, agent: &str, name: &str, url: &str, count: usize) {
    database.publish(agent, name, &json!({"method": "POST", "url": url})).await;
    database
        .execute(&format!(
            "INSERT INTO postcall.waiting (delivery_id, call_id, agent, action_id, created_at)
             SELECT postcall.uuid_v7(), postcall.uuid_v7(), agent, action_id, now() - interval '1 hour'
             FROM postcall.action, generate_series(1, {count}) WHERE agent = '{agent}' AND name = '{name}'"
        ))
        .await;
}

async fn pause(database: &Database, target: &[&str]) {
    let output = postcall_on(database, &[&["pause"], target, &["--reason", "maintenance", "--by", "Ada"]].concat());
    assert!(output.status.success(), "{}", stderr(&output));
}

#[tokio::test]
async fn an_empty_database_has_nothing_to_tell() {
    let database = Database::new().await;
    let nobody_runs = json!({"urgency": "urgent", "what": "No dispatcher runs: nothing is sent.", "cure": "Start one.",
                             "command": "postcall run"});
    let hour = json!({"delivered": exactly(0), "rejected": exactly(0), "failed": exactly(0), "unknown": exactly(0),
                      "skipped": exactly(0)});
    assert_eq!(
        status(&database).await,
        json!({"dispatchers": [], "waiting": exactly(0), "oldest_waiting": null, "in_flight": 0, "unknown": exactly(0),
               "open": exactly(0), "open_beyond_replay": 0, "oldest_open": null, "paused": [], "pauses_left_out": 0,
               "needs": [nobody_runs], "last_hour": hour})
    );
    let table = table(&database);
    assert!(table.contains("no dispatcher runs") && table.contains("nothing is paused"), "{table}");
}

#[tokio::test]
async fn each_delivery_is_counted_where_it_is() {
    let database = Database::new().await;
    database.publish("a", "default", &json!({"method": "POST", "url": "https://crm.example/"})).await;
    let unknown = ended(&database, "unknown", 3).await;
    ended(&database, "delivered", 2).await;
    wait_for(&database, "a", "default", "https://crm.example/", 3).await;
    let resolve = ["resolve", &unknown[0], "--as", "delivered", "--reason", "r"];
    assert!(postcall_on(&database, &resolve).status.success());
    let mut session = database.session();
    let dispatcher = Database::register(&mut session).await;
    database
        .execute(&format!(
            "INSERT INTO postcall.sending (delivery_id, call_id, agent, action_id, action_version, created_at, dispatcher_id,
                 claim, claimed_at)
             SELECT postcall.uuid_v7(), postcall.uuid_v7(), 'a', 1, 1, now(), {dispatcher}, postcall.uuid_v7(), now()
             FROM generate_series(1, 4)"
        ))
        .await;
    let status = status(&database).await;
    assert_eq!((&status["waiting"], &status["in_flight"]), (&exactly(3), &json!(4)));
    assert_eq!((&status["unknown"], &status["dispatchers"][0]["in_flight"]), (&exactly(2), &json!(4)));
    assert!(status["oldest_waiting"]["age_ms"].as_i64().unwrap() >= 3_600_000, "{status}");
}

#[tokio::test]
async fn what_needs_somebody_is_told_first_with_its_cure_and_as_the_overview_of_the_console_tells_it() {
    let database = Database::new().await;
    database.publish("a", "default", &json!({"method": "POST", "url": "https://crm.example/"})).await;
    ended(&database, "failed", 2).await;
    ended(&database, "unknown", 1).await;
    ended(&database, "delivered", 3).await;
    wait_for(&database, "a", "default", "https://crm.example/", 1).await;
    pause(&database, &["agent", "a"]).await;
    let told = table(&database);
    assert!(told.starts_with("4 things need somebody\nurgent     No dispatcher runs: nothing is sent.\n"), "{told}");
    assert!(told.contains("           $ postcall run\n"), "the command to do it with: {told}");
    assert!(told.contains("last hour  delivered 3, rejected 0, failed 2, unknown 1, skipped 0\n"), "{told}");
    let status = status(&database).await;
    let needs = status["needs"].as_array().unwrap();
    let urgencies: Vec<&str> = needs.iter().map(|need| need["urgency"].as_str().unwrap()).collect();
    assert_eq!(urgencies, ["urgent", "look into", "look into", "look into", "know"]);
    let page = crate::support::console::Console::start(&database.url).await.page("/").await.words();
    for need in needs {
        let what = need["what"].as_str().unwrap();
        // How long something has waited goes on while both look.
        let lasting = what.split(" has waited for").next().unwrap();
        assert!(page.contains(lasting) && told.contains(lasting), "{what}: {page}");
        assert!(page.contains(need["cure"].as_str().unwrap()), "{need}: {page}");
        assert!(told.contains(need["cure"].as_str().unwrap()), "{need}: {told}");
    }
    assert_eq!(status["last_hour"]["failed"], exactly(2));
}

#[tokio::test]
async fn of_each_pause_it_is_told_how_much_waits_for_it_and_of_a_host_by_the_newest_urls_that_go_there() {
    let database = Database::new().await;
    wait_for(&database, "a", "default", "https://crm.example/${x}?a=b", 1).await;
    wait_for(&database, "a", "second", " HTTPS://CRM.example:8443#x", 2).await;
    wait_for(&database, "b", "default", "https://müller.example/", 4).await;
    wait_for(&database, "c", "default", "https://other.example/@crm.example", 8).await;
    // Went to the host once, and does no more; goes there now, and did not.
    wait_for(&database, "d", "default", "https://crm.example/", 16).await;
    database.publish("d", "default", &json!({"method": "POST", "url": "https://other.example/"})).await;
    wait_for(&database, "e", "default", "https://other.example/", 32).await;
    database.publish("e", "default", &json!({"method": "POST", "url": "https://crm.example/"})).await;
    for target in [
        &["agent", "a"][..],
        &["action", "a", "--name", "second"],
        &["host", "crm.example"],
        &["host", "crm.example:443"],
        &["host", "Müller.example"],
        &["host", "nobody.example"],
    ] {
        pause(&database, target).await;
    }
    let status = status(&database).await;
    let told: Vec<(String, Value)> = status["paused"]
        .as_array()
        .unwrap()
        .iter()
        .map(|pause| {
            let words = ["target", "agent", "name", "host"].map(|field| pause[field].as_str().unwrap_or_default());
            (words.join(" ").trim().to_owned(), pause["waiting"].clone())
        })
        .collect();
    let expected = [
        ("host   nobody.example", 0),
        ("host   xn--mller-kva.example", 4),
        ("host   crm.example:443", 1 + 32),
        ("host   crm.example", 1 + 2 + 32),
        ("action a second", 2),
        ("agent a", 3),
    ];
    assert_eq!(told, expected.map(|(target, waiting)| (target.to_owned(), exactly(waiting))));
    let table = table(&database);
    for words in ["action a second", "maintenance", "Ada"] {
        assert!(table.contains(words), "{table}");
    }
}

#[tokio::test]
async fn where_an_action_goes_is_told_without_anything_that_can_be_a_secret() {
    let database = Database::new().await;
    // As a program of somebody's own may write them; ours refuses some.
    let urls = [
        ("https://v.example/hook/s3cret", Some("v.example:443")),
        ("\\t http://v.example:8443?k=s3cret\\n", Some("v.example:8443")),
        ("HTTPS://[::1]#s3cret", Some("[::1]:443")),
        ("https://v.example ", Some("v.example:443")),
        ("https://ada:s3cret@v.example/", None),
        ("https:/s3cret/s3cret", None),
        ("s3cret://v.example/", None),
        ("s3cret", None),
    ];
    for (number, (url, _)) in urls.iter().enumerate() {
        database
            .execute(&format!(
                "BEGIN; INSERT INTO postcall.action (agent, enabled, version) VALUES ('{number}', true, 1);
                 INSERT INTO postcall.action_version (action_id, version, method, url, timeout_ms)
                 SELECT action_id, 1, 'GET', E'{url}', 1000 FROM postcall.action WHERE agent = '{number}'; COMMIT"
            ))
            .await;
    }
    let mut auditor = database.connect_as(&["postcall_auditor"]).await;
    let targets: Vec<Option<String>> = sqlx::query_scalar("SELECT target FROM postcall.action_target ORDER BY agent")
        .fetch_all(&mut auditor)
        .await
        .unwrap();
    let hosts = targets.iter().map(|target| Host::of_url(target.as_deref()?).map(|host| host.to_string()));
    assert_eq!(hosts.collect::<Vec<_>>(), urls.map(|(_, host)| host.map(str::to_owned)));
    assert!(!targets.iter().flatten().any(|target| target.contains("s3cret")), "{targets:?}");
}

#[tokio::test]
async fn what_waits_in_large_numbers_is_counted_to_a_bound_and_it_is_said_that_there_is_more() {
    let database = Database::new().await;
    wait_for(&database, "a", "default", "https://crm.example/", 100_001).await;
    pause(&database, &["agent", "a"]).await;
    pause(&database, &["host", "crm.example"]).await;
    let more = |count: u32| json!({ "count": count, "is_more": true });
    let status = status(&database).await;
    assert_eq!(status["waiting"], more(100_000));
    // The pauses share a bound of 50,000.
    assert_eq!([&status["paused"][0]["waiting"], &status["paused"][1]["waiting"]], [&more(25_000), &more(25_000)]);
    assert!(table(&database).contains("more than 100000"));
}

#[tokio::test]
async fn a_dispatcher_is_alive_overdue_stopped_or_lost_and_forgotten_after_an_hour() {
    let database = Database::new().await;
    let mut session = database.session();
    let mut ids = Vec::new();
    for change in [
        "name = name",
        "lease_until = now() - interval '5 min'",
        "stopped_at = now()",
        "lost_at = now()",
        "lost_at = now() - interval '2 hours'",
    ] {
        let id = Database::register(&mut session).await;
        database
            .execute(&format!(
                "UPDATE postcall.dispatcher SET started_at = now() - interval '1 day', {change} WHERE dispatcher_id = {id}"
            ))
            .await;
        ids.push(id);
    }
    let status = status(&database).await;
    let mut told: Vec<(i64, &str)> = status["dispatchers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (one["dispatcher_id"].as_i64().unwrap(), one["state"]["is"].as_str().unwrap()))
        .collect();
    // Those that run come first.
    assert!(told[..2].iter().all(|(_, state)| ["alive", "overdue"].contains(state)), "{told:?}");
    told.sort_unstable();
    let states = ["alive", "overdue", "stopped", "lost"];
    let expected: Vec<(i64, &str)> = ids.iter().map(|id| i64::from(*id)).zip(states).collect();
    assert_eq!(told, expected);
}

fn report(in_flight: usize) -> Report {
    let host =
        |host: &str, condition| HostReport { host: host.to_owned(), limit: 8, in_flight, waiting_lanes: 2, condition };
    let unreachable =
        HostCondition::Unreachable { since_ms: 61_000, last_error_kind: Failure::Connect, next_probe_in_ms: 4_000 };
    let hosts = vec![
        host("well.example:443", HostCondition::Answering),
        host("slow.example:443", HostCondition::Silent { since_ms: 5_000 }),
        host("down.example:443", unreachable),
    ];
    Report::new(64, in_flight, 3, hosts)
}

#[tokio::test]
async fn what_a_dispatcher_reports_last_is_shown_with_its_age_and_the_hosts_that_are_not_well_first() {
    let database = Database::new().await;
    let dispatcher_url = database.login(&["postcall_dispatcher"]).await;
    let store = postcall::store::Store::connect(&dispatcher_url, 1).await.unwrap();
    let mut session = store.session(Duration::from_secs(30));
    let id = Database::register(&mut session).await;
    session.report(id, &report(7)).await.unwrap();
    session.report(id, &report(41)).await.unwrap();
    database.execute("UPDATE postcall.dispatcher_report SET reported_at = reported_at - interval '90 s'").await;
    let status = status(&database).await;
    let told = &status["dispatchers"][0]["report"];
    assert!(told["age_ms"].as_i64().unwrap() >= 90_000, "{told}");
    assert_eq!((&told["concurrency"], &told["in_flight"], &told["unrecorded"]), (&json!(64), &json!(41), &json!(3)));
    assert_eq!(told["hosts"], serde_json::to_value(&report(41).hosts).unwrap());
    let table = table(&database);
    assert!(table.contains("41 of 64 places taken, 3 results to record, 1 min "), "{table}");
    let places = ["unreachable for 1 min 1 s (connect), next probe within 4 s", "silent for 5 s", "answering"]
        .map(|words| table.find(words).expect(&table));
    assert!(places.is_sorted(), "{table}");
}

#[tokio::test]
async fn a_report_that_cannot_be_read_hides_nothing_but_itself() {
    let database = Database::new().await;
    let mut session = database.session();
    let (one, other) = (Database::register(&mut session).await, Database::register(&mut session).await);
    session.report(one, &report(1)).await.unwrap();
    session.report(other, &report(2)).await.unwrap();
    // As a later release may write them.
    let changed = r#"[{"host": "h:443", "condition": {"state": "resting"}}]"#;
    database
        .execute(&format!("UPDATE postcall.dispatcher_report SET hosts = '{changed}' WHERE dispatcher_id = {one}"))
        .await;
    let status = status(&database).await;
    assert_eq!(status["dispatchers"][0]["report"]["hosts"].as_array().unwrap().len(), 3, "{status}");
    assert_eq!(status["dispatchers"][1]["report"]["in_flight"], json!(1), "{status}");
    assert_eq!(status["dispatchers"][1]["report"]["hosts"], json!([]), "{status}");
}

#[tokio::test]
async fn what_dispatchers_said_that_are_long_gone_is_cleared_away_by_the_next_to_report_for_the_first_time() {
    let database = Database::new().await;
    let mut session = database.session();
    let (gone, recent) = (Database::register(&mut session).await, Database::register(&mut session).await);
    for id in [gone, recent] {
        session.report(id, &report(1)).await.unwrap();
    }
    database
        .execute(&format!(
            "UPDATE postcall.dispatcher_report SET reported_at = now() - interval '8 days' WHERE dispatcher_id = {gone}"
        ))
        .await;
    let reports = "SELECT count(*) FROM postcall.dispatcher_report";
    session.report(recent, &report(1)).await.unwrap();
    assert_eq!(database.number(reports).await, 2);
    let new = Database::register(&mut session).await;
    session.report(new, &report(1)).await.unwrap();
    assert_eq!(database.number(reports).await, 2);
    assert_eq!(database.number(&format!("{reports} WHERE dispatcher_id = {gone}")).await, 0);
}

#[tokio::test]
async fn no_text_of_others_acts_on_the_terminal_of_whoever_looks() {
    let database = Database::new().await;
    let hostile = "a\u{1b}[2J\u{202e}\nagent";
    wait_for(&database, hostile, "default", "https://crm.example/", 1).await;
    let paused = postcall_on(&database, &["pause", "agent", hostile, "--reason", "r"]);
    let mut session = database.session();
    let id = Database::register(&mut session).await;
    let mut host = report(1).hosts.remove(0);
    host.host = hostile.to_owned();
    session.report(id, &Report::new(1, 1, 1, vec![host])).await.unwrap();
    let list = postcall_on(&database, &["pause", "list"]);
    let resumed = postcall_on(&database, &["resume", "agent", hostile, "--reason", "r"]);
    for shown in [stdout(&paused), table(&database), stdout(&list), stdout(&resumed)] {
        assert!(shown.contains(r"a\u{1b}[2J\u{202e}\nagent") && !shown.contains(['\u{1b}', '\u{202e}']), "{shown}");
    }
}

#[tokio::test]
async fn watching_looks_again_and_again_on_one_line_each() {
    let database = Database::new().await;
    wait_for(&database, "a", "default", "https://crm.example/", 3).await;
    for (format, expected) in [
        (
            "table",
            "dispatchers alive 0, waiting 3 (the oldest for 1 h 0 min), in flight 0, unknown 0, open 0, paused 0, needs 2",
        ),
        ("json", "{"),
    ] {
        let mut command = tokio::process::Command::new(POSTCALL);
        command.env("DATABASE_URL", &database.url).args(["status", "--watch", "--format", format]);
        let mut child = command.stdout(std::process::Stdio::piped()).kill_on_drop(true).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        for _ in 0..2 {
            let line = tokio::time::timeout(Duration::from_secs(60), lines.next_line()).await;
            let line = line.expect("it looks within a minute").unwrap().expect("it goes on");
            assert!(line.contains(expected), "{line}");
            if format == "json" {
                let status: Value = serde_json::from_str(&line).unwrap();
                assert_eq!(status["waiting"], exactly(3));
            }
        }
    }
}
