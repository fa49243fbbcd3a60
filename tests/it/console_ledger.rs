//! The ledger: the pages `/calls` and `/audit`, `postcall audit`, and exports of whole results.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use postcall::domain::act::Act;
use postcall::service::audit::WholeAudit;
use postcall::store::acts::ActFilter;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::support::console::Console;
use crate::support::database::Database;
use crate::support::endings::{end_all, ended};
use crate::support::life::Life;
use crate::support::process::{postcall_on, stderr, stdout};

/// How long any event is waited for before the test fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// A download that is read as far as a test wants.
pub struct Download {
    stream: TcpStream,
    /// In lower case.
    pub head: String,
    /// What was received of the body, with the framing of its chunks.
    raw: Vec<u8>,
}

impl Download {
    /// Asks for it, and reads its head.
    pub async fn begin(address: SocketAddr, target: &str) -> Download {
        Download::with(address, target, &[]).await
    }

    /// The same with more headers.
    async fn with(address: SocketAddr, target: &str, headers: &[(&str, &str)]) -> Download {
        let socket = TcpSocket::new_v4().unwrap();
        // What the system takes without anybody reading it is small.
        socket.set_recv_buffer_size(8 * 1024).unwrap();
        let mut stream = socket.connect(address).await.unwrap();
        let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let request = format!("GET {target} HTTP/1.1\r\nhost: {address}\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut raw = Vec::new();
        let end = loop {
            if let Some(end) = raw.windows(4).position(|window| window == b"\r\n\r\n") {
                break end;
            }
            let mut some = [0; 1_024];
            let read = tokio::time::timeout(PATIENCE, stream.read(&mut some)).await.expect("an answer").unwrap();
            assert!(read > 0, "it ends before its head");
            raw.extend(&some[..read]);
        };
        let head = String::from_utf8(raw[..end].to_vec()).unwrap().to_lowercase();
        raw.drain(..end + 4);
        Download { stream, head, raw }
    }

    /// Reads the rest: the body, and whether it came to its end.
    pub async fn finish(mut self) -> (String, bool) {
        assert!(self.head.contains("transfer-encoding: chunked"), "{}", self.head);
        let (mut body, mut at) = (Vec::new(), 0);
        loop {
            match chunk(&self.raw[at..]) {
                Some(([], 0)) => return (String::from_utf8(body).unwrap(), true),
                Some((content, length)) => {
                    body.extend(content);
                    at += length;
                }
                None => {
                    let mut some = vec![0; 256 * 1_024];
                    match tokio::time::timeout(PATIENCE, self.stream.read(&mut some)).await.expect("more, or an end") {
                        Ok(0) | Err(_) => return (String::from_utf8_lossy(&body).into_owned(), false),
                        Ok(read) => self.raw.extend(&some[..read]),
                    }
                }
            }
        }
    }
}

/// The first chunk of these bytes and its length with its framing, or an empty one and 0 if it is the last; `None` if it
/// is not complete.
fn chunk(raw: &[u8]) -> Option<(&[u8], usize)> {
    let line = raw.windows(2).position(|window| window == b"\r\n")?;
    let size = usize::from_str_radix(std::str::from_utf8(&raw[..line]).unwrap(), 16).unwrap();
    let content = raw.get(line + 2..line + 2 + size + 2)?;
    Some((&content[..size], if size == 0 { 0 } else { line + 2 + size + 2 }))
}

async fn downloaded(console: &Console, target: &str) -> String {
    let download = Download::begin(console.address(), target).await;
    assert!(download.head.starts_with("http/1.1 200 "), "{target}: {}", download.head);
    assert!(download.head.contains("cache-control: no-store"), "{}", download.head);
    let (body, is_whole) = download.finish().await;
    assert!(is_whole, "{target}");
    body
}

/// History that is longer than what all buffers on the way to a reader can hold.
async fn long_history(database: &Database) {
    ended(database, "failed", 1).await;
    let sql = "INSERT INTO postcall.delivery
                   (delivery_id, call_id, claim, action_id, created_at, claimed_at, finished_at, action_version,
                    dispatcher_id, agent, state, error_kind, error_detail, latency_ms, method, url)
               SELECT postcall.uuid_v7(), call_id, claim, action_id, created_at, claimed_at, finished_at, 1, 1, agent,
                      'failed', 'dns', repeat('x', 1000), 1, 'POST', 'https://x.example/'
               FROM postcall.delivery, generate_series(1, 12000)";
    database.execute(sql).await;
}

async fn database_with_an_action() -> Database {
    let database = Database::new().await;
    database.publish("a", "default", &json!({"method": "POST", "url": "https://receiver.example/"})).await;
    database
}

fn printed(database: &Database, arguments: &[&str]) -> String {
    let output = postcall_on(database, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
    stdout(&output)
}

#[tokio::test]
async fn an_export_is_what_the_command_line_prints_whole_and_harmless_to_a_spreadsheet() {
    let database = database_with_an_action().await;
    database.publish("=cmd|'/C calc'!A0", "default", &json!({"method": "POST", "url": "https://r.example/"})).await;
    database.insert_call("=cmd|'/C calc'!A0", &json!({"callInfo": {"callSid": "+1"}})).await;
    ended(&database, "failed", 1_203).await;
    ended(&database, "delivered", 5).await;
    let console = Console::start(&database.login(&["postcall_auditor"]).await).await;
    for (format, failed) in [("csv", 1_204 + 1), ("jsonl", 1_204)] {
        let whole = downloaded(&console, &format!("/deliveries.{format}?state=failed&until=0s")).await;
        let all = ["history", "--all", "--state", "failed", "--until", "0s", "--format", format];
        assert_eq!(whole, printed(&database, &all), "{format}");
        assert_eq!(whole.lines().count(), failed, "{format}");
        let acts = downloaded(&console, &format!("/audit.{format}")).await;
        assert_eq!(acts, printed(&database, &["audit", "--all", "--format", format]), "{format}");
    }
    let csv = downloaded(&console, "/deliveries.csv").await;
    assert!(csv.contains("\"'=cmd|'/C calc'!A0\"") && csv.contains("\"'+1\"") && !csv.contains(",\"="), "{csv}");
    let none = downloaded(&console, "/deliveries.csv?agent=nobody").await;
    assert_eq!(none.lines().count(), 1, "a header alone: {none}");
    let from = csv.lines().nth(2).and_then(|line| line.split('"').nth(1)).unwrap();
    let rest = downloaded(&console, &format!("/deliveries.csv?after={from}")).await;
    assert_eq!(rest.lines().count(), csv.lines().count() - 2, "it goes on behind a delivery that is named");
}

#[tokio::test]
async fn an_export_that_fails_in_the_middle_is_broken_off_and_one_that_may_not_begin_says_why() {
    let database = database_with_an_action().await;
    long_history(&database).await;
    let console = Console::start(&database.login(&["postcall_auditor"]).await).await;
    let download = Download::begin(console.address(), "/deliveries.csv").await;
    database.execute("REVOKE SELECT ON postcall.delivery FROM postcall_auditor").await;
    let (body, is_whole) = download.finish().await;
    assert!(!is_whole, "it ends as if it were whole");
    assert!(body.lines().count() > 500 && body.lines().count() < 12_001, "{}", body.lines().count());
    let refused = console.get("/deliveries.csv").await;
    assert_eq!(refused.status, 403);
    assert!(refused.words().contains("A right is missing"), "{}", refused.words());
    for (target, said) in [
        ("/deliveries.csv?state=lost", "state: expected one of"),
        ("/deliveries.csv?before=0192f0c1-0000-7000-8000-000000000001", "from the newest to the oldest"),
        ("/audit.csv?act=lost", "act: expected one of published, enabled"),
        ("/audit.csv?after=x", "after: expected the key of an act"),
    ] {
        let response = console.get(target).await;
        assert!(response.status == 400 && response.words().contains(said), "{target}: {}", response.words());
    }
    let host = console.address();
    let old = console.send(&format!("GET /deliveries.csv HTTP/1.0\r\nhost: {host}\r\n\r\n")).await;
    assert!(old.status == 505 && old.words().contains("HTTP/1.0"), "{}: {}", old.status, old.words());
}

#[tokio::test]
async fn readers_who_stop_reading_an_export_hold_no_session_and_keep_no_page_waiting() {
    let database = database_with_an_action().await;
    long_history(&database).await;
    let url = database.login(&["postcall_auditor"]).await;
    let console = Console::start(&url).await;
    let mut stalled = Vec::new();
    for _ in 0..2 {
        stalled.push(Download::begin(console.address(), "/deliveries.jsonl").await);
    }
    // They are read as far as the buffers reach, and then nothing is asked of the database.
    let user = url.split("//").nth(1).and_then(|rest| rest.split([':', '@']).next()).unwrap();
    let busy = format!("SELECT count(*) FROM pg_stat_activity WHERE usename = '{user}' AND state <> 'idle'");
    database.until(&format!("SELECT ({busy}) = 0")).await;
    let pages = (0..8).map(|_| console.page("/deliveries"));
    futures_util::future::join_all(pages).await;
    assert_eq!(console.page("/health").await.status, 200);
    let third = console.get("/deliveries.csv").await;
    assert_eq!((third.status, third.header("retry-after")), (503, Some("5")));
    assert_eq!(database.number(&busy).await, 0, "nothing was read in the meantime");
    // Whoever leaves makes room, and whoever goes on gets all.
    drop(stalled.pop());
    assert_eq!(downloaded(&console, "/audit.csv").await.lines().count(), 3);
    let (body, is_whole) = stalled.pop().unwrap().finish().await;
    assert!(is_whole);
    assert_eq!(body.lines().count(), 12_001);
    let last: Value = serde_json::from_str(body.lines().next_back().unwrap()).unwrap();
    assert_eq!(last["state"], "failed");
}

#[tokio::test]
async fn the_audit_says_who_did_what_to_what_and_why_and_finds_it_by_each_criterion() {
    let life = Life::new().await;
    let console = Console::start(&life.database.login(&["postcall_auditor"]).await).await;
    let words = console.page("/audit").await.words();
    for part in [
        "published",
        "version 1 of crm",
        "the receiver's form was changed",
        "found in their log",
        "their maintenance window",
        "Grace Hopper",
        "all triggers and constraints",
        "no delivery is in flight for too long",
        "outbox has partitions until",
        "postcall check-invariants",
    ] {
        assert!(words.contains(part), "no {part:?} in: {words}");
    }
    let rows = async |query: &str| {
        let body = console.page(&format!("/audit?{query}")).await.body;
        body.matches("<tr><td>").count()
    };
    for (query, count) in [
        ("act=replayed", 1),
        ("act=resolved&agent=voice-support", 1),
        ("act=paused", 2),
        ("act=paused&agent=appointments", 1),
        ("act=replayed&by=Ada+Lovelace", 1),
        ("by=Ada+Lovelace", 1),
        ("by=nobody", 0),
        ("agent=nobody", 0),
        ("act=paused&until=2020-01-01", 0),
        ("act=paused&since=1h", 2),
        ("act=resumed", 0),
    ] {
        assert_eq!(rows(query).await, count, "{query}");
    }
    assert_eq!(rows("agent=voice-support&act=published").await, 5);
    let replay = life.delivery("replay_of IS NOT NULL").await;
    let page = console.page("/audit?act=replayed").await;
    assert!(page.body.contains(&format!("href=\"/deliveries/{replay}\"")), "{}", page.body);
    let listed = printed(&life.database, &["audit", "--act", "paused", "--act", "replayed", "--format", "jsonl"]);
    let acts: Vec<Value> = listed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(acts.len(), 3);
    let replayed = acts.iter().find(|act| act["act"] == "replayed").unwrap();
    assert_eq!(replayed["person"], "Ada Lovelace");
    assert_eq!((&replayed["agent"], &replayed["action"]), (&json!("voice-support"), &json!("tickets")));
    assert_eq!(replayed["replayed_as"], json!(replay));
}

#[tokio::test]
async fn what_was_done_to_an_agent_s_deliveries_is_found_whether_it_has_few_of_them_or_many() {
    let database = Database::new().await;
    for agent in ["a", "b"] {
        database.publish(agent, "default", &json!({"method": "POST", "url": "https://receiver.example/"})).await;
        database.insert_call(agent, &json!({})).await;
    }
    let failed = end_all(&database, "failed").await;
    for agent in ["a", "b"] {
        database.insert_call(agent, &json!({})).await;
    }
    for unknown in end_all(&database, "unknown").await {
        printed(&database, &["resolve", &unknown, "--as", "delivered", "--by", "ann", "--reason", "r"]);
    }
    for id in failed {
        printed(&database, &["replay", &id, "--by", "ann", "--reason", "r"]);
    }
    end_all(&database, "delivered").await;
    let of_agent = async |agent: &str| {
        let filter = ActFilter { agent: Some(agent.to_owned()), ..ActFilter::default() };
        let found = database.store.acts(&filter, None, 100).await.unwrap();
        assert_eq!(found.rest_after.map(|key| key.to_string()), None);
        let acts = found.acts.into_iter();
        acts.map(|act| (act.act.to_string(), act.agent.unwrap_or_default(), act.key.0.to_string())).collect::<Vec<_>>()
    };
    let (few, other) = (of_agent("a").await, of_agent("b").await);
    for (agent, acts) in [("a", &few), ("b", &other)] {
        let names: BTreeSet<&str> = acts.iter().map(|(act, ..)| act.as_str()).collect();
        assert_eq!(
            (acts.len(), names),
            (4, BTreeSet::from(["enabled", "published", "replayed", "resolved"])),
            "{agent}"
        );
        assert!(acts.iter().all(|(_, of, _)| of == agent), "{acts:?}");
    }
    // More than are recognised by a list of them.
    ended(&database, "delivered", 5_001).await;
    assert_eq!(of_agent("a").await, few);
    assert_eq!(of_agent("b").await, other);
}

#[tokio::test]
async fn pages_of_acts_follow_each_other_without_a_gap_also_among_those_of_one_moment() {
    let database = database_with_an_action().await;
    // One transaction: versions have its time, all the same one.
    let many = "INSERT INTO postcall.action (agent, name, enabled, version) SELECT 'many', 'n' || n, true, 1
                FROM generate_series(1, 30) AS n;
                INSERT INTO postcall.action_version (action_id, version, method, url, timeout_ms, published_by)
                SELECT action_id, 1, 'POST', 'https://r.example/', 1000, 'x' FROM postcall.action WHERE agent = 'many'";
    sqlx::raw_sql(many).execute(&database.pool).await.unwrap();
    let filter = ActFilter { acts: Some(vec![Act::Published]), ..ActFilter::default() };
    let (mut after, mut found) = (None, Vec::new());
    loop {
        let page = database.store.acts(&filter, after.as_ref(), 4).await.unwrap();
        found.extend(page.acts.iter().map(|act| act.key.0.to_string()));
        after = page.rest_after;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(found.len(), 31);
    assert_eq!(found.iter().collect::<BTreeSet<_>>().len(), 31, "none comes twice");
    let mut whole = WholeAudit::new(filter, None);
    let mut all = Vec::new();
    while let Some(acts) = whole.step(&database.store).await.unwrap() {
        all.extend(acts.iter().map(|act| act.key.0.to_string()));
    }
    assert_eq!(all, found);
    let console = Console::start(&database.url).await;
    let (mut target, mut rows) = ("/audit".to_owned(), 0);
    loop {
        let body = console.page(&target).await.body;
        rows += body.matches("<tr><td>").count();
        let Some((_, rest)) = body.split_once("rel=\"next\" href=\"") else { break };
        target = rest.split('"').next().unwrap().replace("&#38;", "&");
    }
    assert_eq!(rows, 62, "a creation is a version and a switch");
}

#[tokio::test]
async fn the_calls_page_shows_what_arrived_and_why_something_has_no_delivery() {
    let database = Database::new().await;
    let early = database.insert_call("late-agent", &json!({"callInfo": {"callSid": "CAearly"}})).await;
    database.publish("late-agent", "default", &json!({"method": "POST", "url": "https://r.example/"})).await;
    let off = json!({"method": "POST", "url": "https://r.example/", "enabled": false});
    database.publish("off-agent", "default", &off).await;
    database.insert_call("off-agent", &json!({"callInfo": {"callSid": "CAoff"}})).await;
    database.insert_call("late-agnet", &json!({"callInfo": {"callSid": "CAslip"}})).await;
    database.insert_call("late-agent", &json!({"callInfo": {"callSid": "CAwell"}})).await;
    let console = Console::start(&database.login(&["postcall_auditor"]).await).await;
    let words = console.page("/calls").await.words();
    for part in [
        "Deliveries that wait 1",
        "CAwell",
        "agent unknown: it has no action: did you mean late-agent?",
        "none enabled at that moment (today 0 of 1)",
        "published later: the agent's first action is from",
        "INSERT INTO postcall.outbox",
    ] {
        assert!(words.contains(part), "no {part:?} in: {words}");
    }
    let of = async |query: &str| {
        let words = console.page(&format!("/calls?{query}")).await.words();
        ["CAearly", "CAoff", "CAslip", "CAwell"].map(|sid| words.contains(sid))
    };
    assert_eq!(of("without=1").await, [true, true, true, false]);
    assert_eq!(of("agent=late-agent").await, [true, false, false, true]);
    assert_eq!(of(&format!("q={early}")).await, [true, false, false, false]);
    assert_eq!(of("q=CAoff&without=1").await[..2], [false, true]);
    assert_eq!(of("until=2020-01-01").await, [false; 4]);
    assert_eq!(console.get("/calls?without=yes").await.status, 400);
}

#[tokio::test]
async fn whoever_has_a_link_exports_one_agent_and_sees_no_calls_and_no_acts_and_a_viewer_exports_nothing() {
    let database = database_with_an_action().await;
    database.publish("other", "default", &json!({"method": "POST", "url": "https://r.example/"})).await;
    database.insert_call("other", &json!({})).await;
    ended(&database, "failed", 3).await;
    let mut key = tempfile::NamedTempFile::new().unwrap();
    std::io::Write::write_all(&mut key, &[b'k'; 64]).unwrap();
    let key = key.path().to_str().unwrap();
    let proxy = ["--auth", "proxy", "--proxy-user-header", "x-user", "--proxy-roles-header", "x-roles"];
    let more = ["--proxy-from", "127.0.0.0/8", "--link-key-file", key];
    let console = Console::start_with(&database.url, &[&proxy[..], &more].concat()).await;
    let link = printed(&database, &["console", "link", "a", "--for", "1h", "--link-key-file", key]);
    let path = link.trim().strip_prefix("http://127.0.0.1:8088").unwrap();
    let host = console.address().to_string();
    let entered = console.ask("GET", path, &[("host", &host)]).await;
    let cookie = entered.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    let customer = [("host", host.as_str()), ("cookie", &cookie)];
    for target in ["/calls", "/audit", "/audit.csv", "/audit.jsonl", "/deliveries.csv?agent=other"] {
        let response = console.ask("GET", target, &customer).await;
        assert!(matches!(response.status, 403 | 404), "{target}: {} {}", response.status, response.words());
    }
    let own = Download::with(console.address(), "/deliveries.jsonl", &customer[1..]).await.finish().await;
    assert!(own.1 && own.0.lines().count() == 3 && !own.0.contains("other"), "{own:?}");
    let all = [("x-user", "ada"), ("x-roles", "auditor")];
    let all = Download::with(console.address(), "/deliveries.jsonl", &all).await.finish().await;
    assert!(all.1 && all.0.lines().count() == 4, "{all:?}");
    let viewer = [("host", host.as_str()), ("x-user", "bob"), ("x-roles", "viewer")];
    for target in ["/deliveries.csv", "/audit.csv"] {
        assert_eq!(console.ask("GET", target, &viewer).await.status, 403, "{target}");
    }
    for target in ["/calls", "/audit"] {
        let response = console.ask("GET", target, &viewer).await;
        assert!(
            response.status == 200 && response.words().contains("It needs the role auditor"),
            "{}",
            response.words()
        );
    }
}
