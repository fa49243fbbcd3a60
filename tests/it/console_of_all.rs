//! What the console shows of all of several databases as it comes: the export of a whole result, and the live tail.

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use crate::console_ledger::Download;
use crate::console_several::{console_of, until_shown};
use crate::several_databases::listed;
use crate::support::cluster::Cluster;
use crate::support::console::{Console, PASSWORD, ROLES, Stream, users};
use crate::support::database::Database;
use crate::support::endings::ended;
use crate::support::process::{postcall, stderr, stdout};

/// How long any event is waited for before the test fails.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a step of an export may take, as the program has it.
const STEP_TIME: Duration = Duration::from_secs(20);

async fn with_agent(database: Database) -> Database {
    database.publish("a", "default", &json!({"method": "POST", "url": "https://receiver.example/"})).await;
    database
}

/// Deliveries whose rows are long, and whose ids lie between those of others that are made at the same time.
async fn long_history(database: &Database, count: i32) {
    ended(database, "failed", 1).await;
    let sql = format!(
        "INSERT INTO postcall.delivery
             (delivery_id, call_id, claim, action_id, created_at, claimed_at, finished_at, action_version,
              dispatcher_id, agent, state, error_kind, error_detail, latency_ms, method, url)
         SELECT postcall.uuid_v7_floor(now() - number * interval '1 ms'), call_id, claim, action_id, created_at - number * interval '1 ms',
                claimed_at, finished_at, 1, 1, agent, 'failed', 'dns', repeat('x', 1000), 1, 'POST', 'https://x.example/'
         FROM postcall.delivery, generate_series(1, {count}) AS number"
    );
    database.execute(&sql).await;
}

/// A whole export: its head and its body.
async fn exported(console: &Console, path: &str) -> (String, String) {
    let download = Download::begin(console.address(), path).await;
    let head = download.head.clone();
    let (body, is_whole) = download.finish().await;
    assert!(is_whole, "{path} was broken off after {} lines", body.lines().count());
    (head, body)
}

/// What was there of an export that is broken off.
async fn broken_off(download: Download) -> usize {
    let (body, is_whole) = download.finish().await;
    assert!(!is_whole, "it ends as if it were whole, after {} lines", body.lines().count());
    body.lines().count()
}

#[tokio::test]
async fn an_export_of_all_is_what_the_command_line_lists_of_all_in_one_order_with_the_database_of_each() {
    let (north, south) = (with_agent(Database::new().await).await, with_agent(Database::new().await).await);
    for (database, count) in [(&north, 700), (&south, 650), (&north, 3)] {
        ended(database, "failed", count).await;
    }
    ended(&south, "delivered", 2).await;
    let list = listed(&[("north", &north.url), ("south", &south.url)]);
    let console = console_of(&[("north", &north.url), ("south", &south.url)], &[]).await;
    let page = console.page("/deliveries?state=failed").await;
    for format in ["csv", "jsonl"] {
        let arguments = ["history", "--all", "--state", "failed", "--format", format];
        let output = postcall(&[&arguments[..], &["--databases", list.path().to_str().unwrap()]].concat());
        assert!(output.status.success(), "{}", stderr(&output));
        assert!(page.body.contains(&format!("href=\"/deliveries.{format}?state=failed\"")), "{}", page.body);
        let (head, body) = exported(&console, &format!("/deliveries.{format}?state=failed")).await;
        assert_eq!(body, stdout(&output), "{format}");
        assert_eq!(body.lines().count(), 1_353 + usize::from(format == "csv"));
        assert!(head.contains(&format!("filename=\"deliveries-of-all.{format}\"")), "{head}");
    }
    let (_, lines) = exported(&console, "/deliveries.jsonl?state=failed").await;
    let rows: Vec<serde_json::Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let name = |row: &serde_json::Value| row["database"].as_str().unwrap().to_owned();
    assert_eq!((name(&rows[0]), name(&rows[3]), name(&rows[1_352])), ("north".into(), "south".into(), "north".into()));
    let after = rows[700]["delivery_id"].as_str().unwrap();
    let (_, rest) = exported(&console, &format!("/deliveries.jsonl?state=failed&after={after}")).await;
    assert_eq!(rest, lines.lines().skip(701).map(|line| format!("{line}\n")).collect::<String>());
    let (_, none) = exported(&console, "/deliveries.csv?agent=nobody").await;
    assert!(none.starts_with("\"database\",\"delivery_id\",") && none.lines().count() == 1, "{none}");
    assert_eq!(console.get("/audit.csv").await.status, 404);
    let wrong = console.get("/deliveries.csv?before=0192f0c1-0000-7000-8000-000000000001").await;
    assert!(wrong.status == 400 && wrong.words().contains("from the newest to the oldest"), "{}", wrong.words());
    let old = console.send(&format!("GET /deliveries.csv HTTP/1.0\r\nhost: {}\r\n\r\n", console.address())).await;
    assert_eq!(old.status, 505);
}

/// A right is taken from one, and the server of another is stopped.
#[tokio::test(flavor = "multi_thread")]
async fn an_export_of_all_is_broken_off_if_one_database_fails_in_the_middle_and_does_not_begin_without_one() {
    let mut stopped = Cluster::start().await;
    let of_stopped = with_agent(Database::on(&stopped.server(), "").await).await;
    let (forbidden, well) = (with_agent(Database::new().await).await, with_agent(Database::new().await).await);
    for database in [&of_stopped, &forbidden, &well] {
        long_history(database, 9_000).await;
    }
    let auditor = forbidden.login(&["postcall_auditor"]).await;
    let all = [("forbidden", &*auditor), ("stopped", &*of_stopped.url), ("well", &*well.url)];
    let console = console_of(&all, &[]).await;
    let lacks_a_right = Download::begin(console.address(), "/deliveries.jsonl").await;
    forbidden.execute("REVOKE SELECT ON postcall.delivery FROM postcall_auditor").await;
    assert!((500..20_000).contains(&broken_off(lacks_a_right).await));
    let refused = console.get("/deliveries.jsonl").await;
    assert!(refused.status == 403 && refused.words().contains("A right is missing"), "{}", refused.words());
    forbidden.execute("GRANT SELECT ON postcall.delivery TO postcall_auditor").await;

    let lacks_a_server = Download::begin(console.address(), "/deliveries.jsonl").await;
    stopped.stop_immediately().await;
    assert!((500..20_000).contains(&broken_off(lacks_a_server).await));
    let refused = console.get("/deliveries.csv").await;
    let words = refused.words();
    assert!(refused.status == 503 && words.contains("The deliveries of stopped would be missing."), "{words}");
    // The places of those that were broken off are free again, and the others are exported alone.
    for name in ["forbidden", "well"] {
        let (_, body) = exported(&console, &format!("/in/{name}/deliveries.jsonl")).await;
        assert_eq!(body.lines().count(), 9_001, "{name}");
    }
    stopped.start_again().await;
    until_shown(&console, "", "/in/stopped/deliveries").await;
    let (_, whole) = exported(&console, "/deliveries.jsonl").await;
    assert_eq!(whole.lines().count(), 3 * 9_001);
}

/// A machine that stands still closes no connection, so what was read of it so far is all that ever comes.
#[tokio::test(flavor = "multi_thread")]
async fn an_export_of_all_is_broken_off_in_time_if_one_database_freezes_in_the_middle_and_it_is_said_which() {
    let frozen = Cluster::start().await;
    let of_frozen = with_agent(Database::on(&frozen.server(), "").await).await;
    let well = with_agent(Database::new().await).await;
    for database in [&of_frozen, &well] {
        long_history(database, 9_000).await;
    }
    let list = listed(&[("frozen", &of_frozen.url), ("well", &well.url)]);
    let (console, mut says) = Console::start_saying("", &["--databases", list.path().to_str().unwrap()]).await;
    for name in ["frozen", "well"] {
        until_shown(&console, "", &format!("/in/{name}/deliveries")).await;
    }
    for format in ["csv", "jsonl"] {
        let halted = Download::begin(console.address(), &format!("/deliveries.{format}")).await;
        frozen.freeze();
        let begun = Instant::now();
        // A reader takes a part for the whole of no format, and what came of it is of all databases in one order.
        assert!((500..18_000).contains(&broken_off(halted).await), "{format}");
        assert!(begun.elapsed() < STEP_TIME * 2, "{format}: {:?}", begun.elapsed());
        let named = async {
            while !says.next_line().await.unwrap().expect("it goes on").contains("exporting{database=\"frozen\"}") {}
        };
        tokio::time::timeout(PATIENCE, named).await.expect("the log names it");
        // As long as it stands still, no export begins that would lack it, and what others have is exported alone.
        let begun = Instant::now();
        let refused = console.get(&format!("/deliveries.{format}")).await;
        let words = refused.words();
        assert!(refused.status == 503 && words.contains("The deliveries of frozen would be missing."), "{words}");
        assert!(begun.elapsed() < STEP_TIME, "{:?}", begun.elapsed());
        let (_, body) = exported(&console, "/in/well/deliveries.jsonl").await;
        assert_eq!(body.lines().count(), 9_001);
        frozen.thaw();
        until_shown(&console, "", "/in/frozen/deliveries").await;
        let (_, whole) = exported(&console, "/deliveries.jsonl").await;
        assert_eq!(whole.lines().count(), 2 * 9_001, "its places are free again");
    }
}

#[tokio::test]
async fn exports_of_all_take_the_places_for_exports_of_each_database_and_no_page_of_any() {
    let (north, south) = (with_agent(Database::new().await).await, with_agent(Database::new().await).await);
    for database in [&north, &south] {
        long_history(database, 9_000).await;
    }
    let console = console_of(&[("north", &north.url), ("south", &south.url)], &[]).await;
    let mut stalled = Vec::new();
    for _ in 0..2 {
        stalled.push(Download::begin(console.address(), "/deliveries.jsonl").await);
    }
    for path in ["/deliveries.csv", "/in/north/deliveries.csv"] {
        let busy = console.get(path).await;
        assert!(busy.status == 503 && busy.words().contains("Busy"), "{path}: {}", busy.words());
    }
    for path in ["/", "/deliveries", "/in/north/", "/in/south/deliveries"] {
        console.page(path).await;
    }
    drop(stalled.pop());
    let freed = async { while console.get("/in/north/deliveries.csv?agent=nobody").await.status != 200 {} };
    tokio::time::timeout(PATIENCE, freed).await.expect("its places come free");
}

/// The ids of the events that have come.
fn ids(stream: &Stream) -> Vec<&str> {
    stream.seen.lines().filter_map(|line| line.strip_prefix("id: ")).collect()
}

/// Waits for the row of a delivery, which says its database and leads into it.
async fn shows(stream: &mut Stream, name: &str, id: &str) {
    stream.until(&format!("data: <tr data-id=\"{id}\">")).await;
    stream.until(&format!("href=\"/in/{name}/deliveries/{id}\"")).await;
    stream.until(&format!("<a href=\"/in/{name}/\">{name}</a>")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_live_tail_of_all_shows_each_row_with_its_database_and_waits_for_none_that_does_not_answer() {
    let frozen = Cluster::start().await;
    let of_frozen = with_agent(Database::on(&frozen.server(), "").await).await;
    let (north, south) = (with_agent(Database::new().await).await, with_agent(Database::new().await).await);
    let all = [("north", &*north.url), ("frozen", &*of_frozen.url), ("south", &*south.url)];
    let console = console_of(&all, &[]).await;
    let mut stream = console.follow_at("/live", None).await;
    stream.until("event: told\ndata: Live: what comes to an end appears here.\n\n").await;
    assert!(stream.seen.contains("content-type: text/event-stream; charset=utf-8"), "{}", stream.seen);
    for (name, database) in [("north", &north), ("frozen", &of_frozen), ("south", &south)] {
        let id = ended(database, "failed", 1).await.remove(0);
        shows(&mut stream, name, &id).await;
    }
    frozen.freeze();
    for (name, database) in [("south", &south), ("north", &north)] {
        let id = ended(database, "delivered", 1).await.remove(0);
        shows(&mut stream, name, &id).await;
    }
    stream.until("No answer, so that it comes later: frozen.").await;
    let id = ended(&north, "failed", 1).await.remove(0);
    shows(&mut stream, "north", &id).await;
    frozen.thaw();
    let id = ended(&of_frozen, "failed", 1).await.remove(0);
    shows(&mut stream, "frozen", &id).await;
    let seen = ids(&stream);
    assert_eq!(seen.len(), seen.iter().collect::<std::collections::BTreeSet<_>>().len(), "each once: {seen:?}");
    // Whoever comes back gets the newest of all again, in the order of their ends; a page shows each once.
    let mut again = console.follow_at("/live", Some(&id)).await;
    again.until(&format!("id: {id}\n")).await;
    assert!(!again.seen.contains("may be missing") && ids(&again) == seen, "{}", again.seen);
    let mut lost = console.follow_at("/live", Some("0192f0c1-0000-7000-8000-000000000001")).await;
    lost.until("may be missing here: reload the page").await;
    // Without scripts, the overview has the newest of all.
    let overview = console.page("/").await;
    assert!(overview.body.contains("data-live=\"/live\""), "{}", overview.body);
    assert!(seen.iter().all(|id| overview.body.contains(&format!("<tr data-id=\"{id}\">"))), "{}", overview.words());
    let policy = overview.header("content-security-policy").unwrap();
    assert!(policy.contains("connect-src 'self'"), "{policy}");
}

#[tokio::test]
async fn those_who_follow_all_cost_each_database_one_session_together_with_those_who_follow_it_alone() {
    let (north, south) = (with_agent(Database::new().await).await, with_agent(Database::new().await).await);
    let console = console_of(&[("north", &north.url), ("south", &south.url)], &[]).await;
    let mut viewers = Vec::new();
    for number in 0..17 {
        let path = if number == 16 { "/in/north/live" } else { "/live" };
        let mut stream = console.follow_at(path, None).await;
        stream.until("Live: what comes to an end appears here.").await;
        viewers.push(stream);
    }
    let refused = console.get("/live").await;
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("5")));
    let id = ended(&north, "failed", 1).await.remove(0);
    for viewer in &mut viewers {
        viewer.until(&format!("id: {id}\n")).await;
    }
    let looking = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
                   AND query LIKE '%make_interval%ORDER BY finished_at DESC%'";
    for database in [&north, &south] {
        assert!(database.number(looking).await <= 1);
    }
    let own = viewers.pop().unwrap().seen;
    assert!(own.contains(&format!("href=\"/in/north/deliveries/{id}\"")) && !own.contains("data-name=\"database\""));
}

/// As for one database: who may see which, and that a link sees nothing of all.
#[tokio::test]
async fn the_export_and_the_live_tail_of_all_are_for_those_whose_role_may_read_them_in_one() {
    let (north, south) = (with_agent(Database::new().await).await, with_agent(Database::new().await).await);
    let ended = [ended(&north, "failed", 1).await.remove(0), ended(&south, "failed", 1).await.remove(0)];
    let (users, key) = (users(), crate::support::process::file("0123456789abcdef0123456789abcdef"));
    let (users, key) = (users.path().to_str().unwrap(), key.path().to_str().unwrap());
    let logins = (north.login(&ROLES).await, south.login(&ROLES).await);
    let list = listed(&[("north", &logins.0), ("south", &logins.1)]);
    let settings = ["--auth", "basic", "--users", users, "--link-key-file", key];
    let console =
        Console::start_with("", &[&["--databases", list.path().to_str().unwrap()][..], &settings].concat()).await;
    let publisher = console.log_in("publisher", PASSWORD).await;
    for name in ["north", "south"] {
        until_shown(&console, &publisher, &format!("/in/{name}/")).await;
    }
    let own = listed(&[("north", &north.url), ("south", &south.url)]);
    let link = ["console", "link", "a", "--for", "1h", "--link-key-file", key, "--in", "south"];
    let made = postcall(&[&link[..], &["--databases", own.path().to_str().unwrap()]].concat());
    let made = stdout(&made).trim().strip_prefix("http://127.0.0.1:8088").unwrap().to_owned();
    let of_link = console.get(&made).await.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    let log_in = |role| console.log_in(role, PASSWORD);
    let visitors =
        [String::new(), log_in("viewer").await, log_in("auditor").await, log_in("operator").await, publisher, of_link];
    for (path, expected) in [
        ("/deliveries.csv", [303, 403, 200, 200, 200, 403]),
        ("/deliveries.jsonl", [303, 403, 200, 200, 200, 403]),
        ("/deliveries.jsonl?agent=a", [303, 403, 200, 200, 200, 403]),
        ("/live", [403, 403, 200, 200, 200, 403]),
        ("/audit.csv", [303, 404, 404, 404, 404, 403]),
    ] {
        for (number, cookie) in visitors.iter().enumerate() {
            let answer = console.get_as(cookie, path).await;
            assert_eq!(answer.status, expected[number], "{path} for {number}: {}", answer.words());
            let is_there = ended.iter().any(|id| answer.body.contains(id));
            assert!(answer.status == 200 || !is_there, "{path} for {number}: {}", answer.body);
        }
    }
    // Who may not follow is shown nothing that has ended, and why.
    let overview = console.get_as(&visitors[1], "/").await;
    assert!(!overview.body.contains("data-live=") && !ended.iter().any(|id| overview.body.contains(id)));
    assert!(overview.words().contains("It needs the role auditor"), "{}", overview.words());
    let overview = console.get_as(&visitors[2], "/").await;
    assert!(ended.iter().all(|id| overview.body.contains(id)), "{}", overview.words());
}
