//! Who may visit the console, and what nobody gets by force, by forgery or from another site.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::json;

use crate::support::console::{Console, PASSWORD, ROLES, Response, users};
use crate::support::database::Database;
use crate::support::endings::end_all;
use crate::support::process::{file, postcall_at, stderr, stdout};

const KEY: &str = "0123456789abcdef0123456789abcdef";

/// A database with the agents a and b, each with a delivery that failed.
async fn two_agents() -> (Database, String, String) {
    let database = Database::new().await;
    for agent in ["a", "b"] {
        database.publish(agent, "default", &json!({"method": "POST", "url": "https://receiver.example/"})).await;
        database.insert_call(agent, &json!({})).await;
    }
    end_all(&database, "failed").await;
    let of = |agent: &str| format!("SELECT delivery_id::text FROM postcall.delivery WHERE agent = '{agent}'");
    let (a, b) = (database.text(&of("a")).await.unwrap(), database.text(&of("b")).await.unwrap());
    (database, a, b)
}

async fn console_with(database: &Database, settings: &[&str]) -> Console {
    Console::start_with(&database.login(&ROLES).await, settings).await
}

/// A console into which people log in and that changes things, with the cookies of all kinds of visitors: nobody, the four
/// roles, and a link for agent a.
async fn with_visitors(database: &Database) -> (Console, [String; 6]) {
    let (users, key) = (users(), file(KEY));
    let (users, key) = (users.path().to_str().unwrap(), key.path().to_str().unwrap());
    let console =
        console_with(database, &["--auth", "basic", "--users", users, "--write", "--link-key-file", key]).await;
    let link = link(&database.url, key, "a");
    let entered = console.get(&link).await;
    assert_eq!(entered.status, 200, "{}", entered.words());
    assert!(entered.body.contains("content=\"0;url=/agents/a\""), "the link leaves the address: {}", entered.body);
    let of_link = entered.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    let log_in = |role| console.log_in(role, PASSWORD);
    let visitors = [
        String::new(),
        log_in("viewer").await,
        log_in("auditor").await,
        log_in("operator").await,
        log_in("publisher").await,
        of_link,
    ];
    (console, visitors)
}

/// The path of a link for an agent.
fn link(url: &str, key: &str, agent: &str) -> String {
    let output = postcall_at(url, &["console", "link", agent, "--for", "1h", "--link-key-file", key]);
    assert!(output.status.success(), "{}", stderr(&output));
    stdout(&output).trim().strip_prefix("http://127.0.0.1:8088").expect("the default address").to_owned()
}

/// The path of a test that is recorded for an agent.
async fn test_of(database: &Database, agent: &str) -> String {
    let test = "INSERT INTO postcall.action_test
                    (agent, action, file_sha256, call_source, timeout_ms, tested_by, reason)
                VALUES ($1, 'default', sha256(''), 'sample', 1000, 'Ada', 'r') RETURNING test_id::text";
    let id: String = sqlx::query_scalar(test).bind(agent).fetch_one(&database.pool).await.unwrap();
    format!("/tests/{id}")
}

/// What a request is answered with, for nobody, viewer, auditor, operator, publisher and the link for agent a.
type Row<'r> = (&'r str, [u16; 6]);
/// The same for a form with these fields.
type Sent<'r> = (&'r str, &'r [(&'r str, &'r str)], [u16; 6]);

#[tokio::test]
async fn each_address_is_for_those_whose_role_may_see_it_or_do_it_and_for_nobody_else() {
    let (database, a, b) = two_agents().await;
    let (console, visitors) = with_visitors(&database).await;
    let (of_a, of_b) = (format!("/deliveries/{a}"), format!("/deliveries/{b}"));
    let (test_a, test_b) = (test_of(&database, "a").await, test_of(&database, "b").await);
    let find_b = format!("/deliveries?q={b}");
    let rows: [Row<'_>; 35] = [
        ("/", [303, 200, 200, 200, 200, 403]),
        ("/deliveries", [303, 200, 200, 200, 200, 200]),
        ("/deliveries?agent=b", [303, 200, 200, 200, 200, 404]),
        (&find_b, [303, 200, 303, 303, 303, 200]),
        (&of_a, [303, 403, 200, 200, 200, 200]),
        (&of_b, [303, 403, 200, 200, 200, 404]),
        ("/deliveries.csv", [303, 403, 200, 200, 200, 200]),
        ("/deliveries.jsonl", [303, 403, 200, 200, 200, 200]),
        ("/deliveries.csv?agent=b", [303, 403, 200, 200, 200, 404]),
        ("/calls", [303, 200, 200, 200, 200, 403]),
        ("/audit", [303, 200, 200, 200, 200, 403]),
        ("/audit.csv", [303, 403, 200, 200, 200, 403]),
        ("/audit.jsonl", [303, 403, 200, 200, 200, 403]),
        ("/agents", [303, 200, 200, 200, 200, 403]),
        ("/agents/a", [303, 200, 200, 200, 200, 200]),
        ("/agents/b", [303, 200, 200, 200, 200, 404]),
        ("/agents?agent=b", [303, 200, 200, 200, 200, 404]),
        ("/versions?agent=a&name=default", [303, 403, 200, 200, 200, 200]),
        ("/versions?agent=b&name=default", [303, 403, 200, 200, 200, 404]),
        ("/change/action?agent=a&name=default", [303, 403, 403, 403, 200, 403]),
        ("/tests?agent=a", [303, 403, 200, 200, 200, 200]),
        ("/tests?agent=b", [303, 403, 200, 200, 200, 404]),
        (&test_a, [303, 403, 200, 200, 200, 200]),
        (&test_b, [303, 403, 200, 200, 200, 404]),
        ("/change/test?agent=a&name=default", [303, 403, 403, 403, 200, 403]),
        ("/change/replay-many?state=failed", [303, 403, 403, 200, 200, 403]),
        ("/change/resolve-many?state=unknown", [303, 403, 403, 200, 200, 403]),
        ("/live", [403, 403, 200, 200, 200, 403]),
        ("/health", [200; 6]),
        ("/icon.svg", [200; 6]),
        ("/log-in", [200; 6]),
        ("/link/v1.x", [403; 6]),
        ("/change/enabled", [405; 6]),
        ("/log-out", [405; 6]),
        ("/nothing", [404; 6]),
    ];
    for (path, expected) in rows {
        for (number, cookie) in visitors.iter().enumerate() {
            let response = console.get_as(cookie, path).await;
            assert_eq!(response.status, expected[number], "{path} for {number}: {}", response.words());
            // No answer for the link, of whatever status, has anything of the other agent.
            assert!(number != 5 || !response.body.contains(&b) || path.contains(&b), "{path}");
        }
    }
    let reason = ("reason", "a test");
    let action: &[(&str, &str)] = &[
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
    let found = ("finding", "failed");
    let forms: [Sent<'_>; 10] = [
        ("/change/action", action, [403, 403, 403, 403, 303, 403]),
        // The console has shown no such form, so it is shown again, and nothing is sent.
        (
            "/change/test",
            &[("form", "0"), ("agent", "a"), ("name", "default"), ("version", "1"), ("call", ""), reason],
            [403, 403, 403, 403, 409, 403],
        ),
        ("/change/check", action, [403, 403, 403, 403, 200, 403]),
        (
            "/change/enabled",
            &[("agent", "a"), ("name", "default"), ("enabled", "yes"), reason],
            [403, 403, 403, 303, 303, 403],
        ),
        (
            "/change/pause",
            &[("order", "pause"), ("target", "agent"), ("agent", "b"), reason],
            [403, 403, 403, 303, 303, 403],
        ),
        ("/change/resolve", &[("delivery", &a), ("finding", "failed"), reason], [403, 403, 403, 409, 409, 403]),
        ("/change/replay", &[("delivery", &a), reason], [403, 403, 403, 303, 409, 403]),
        ("/change/replay-many", &[("query", "state=failed&agent=b"), until, reason], [403, 403, 403, 303, 303, 403]),
        (
            "/change/resolve-many",
            &[("query", "state=unknown&agent=b"), until, found, reason],
            [403, 403, 403, 303, 303, 403],
        ),
        ("/deliveries", &[reason], [405; 6]),
    ];
    for (path, fields, expected) in forms {
        // First those who may not: nothing must have changed by them.
        for (number, cookie) in visitors.iter().enumerate() {
            let response = console.sends(cookie, path, fields).await;
            assert_eq!(response.status, expected[number], "{path} for {number}: {}", response.words());
        }
    }
    is_complete(&rows.map(|(path, _)| path), &forms.map(|(path, ..)| path));
}

/// Each route of the console is in the table.
fn is_complete(rows: &[&str], forms: &[&str]) {
    let source = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/console/route.rs")).unwrap();
    let patterns = source.lines().filter_map(|line| line.trim().strip_prefix("[\"")?.split_once("\" ")).map(|(a, _)| a);
    let patterns = patterns
        .chain(source.lines().filter_map(|line| line.trim().strip_prefix("[\"")?.split_once("\"]")).map(|(a, _)| a));
    let patterns: Vec<String> = patterns.map(|literal| format!("/{}", literal.replace("\", \"", "/"))).collect();
    assert!(patterns.len() > 10, "{patterns:?}");
    for pattern in patterns {
        let is_there = rows
            .iter()
            .chain(forms)
            .any(|path| path.split('?').next() == Some(&*pattern) || path.starts_with(&format!("{pattern}/")));
        assert!(is_there || pattern.contains('|'), "{pattern} is in no row of the table of routes and roles");
    }
}

#[tokio::test]
async fn whoever_comes_by_a_role_or_a_link_is_told_of_these_and_never_of_database_users() {
    let (database, a, _) = two_agents().await;
    let (console, [_, viewer, auditor, operator, publisher, link]) = with_visitors(&database).await;
    let delivery = format!("/deliveries/{a}");
    let pages =
        ["/", "/deliveries", &delivery, "/agents/a", "/versions?agent=a&name=default", "/calls", "/audit", "/agents"];
    for cookie in [&viewer, &auditor, &operator, &publisher, &link] {
        for path in pages {
            let words = console.get_as(cookie, path).await.words();
            let is_told = words.contains("console's database user") || words.contains("needs a database user");
            assert!(!is_told, "{path}: {words}");
        }
    }
    let words = async |cookie, path| console.get_as(cookie, path).await.words();
    assert!(words(&operator, "/agents/a").await.contains("It needs the role publisher."));
    assert!(words(&operator, &delivery).await.contains("which your role may not read"));
    assert!(words(&viewer, "/agents/a").await.contains("It needs the role auditor."));
    assert!(words(&link, "/agents/a").await.contains("Your link does not show this."));
    assert!(words(&link, &delivery).await.contains("your link shows what became of the delivery"));
    // Who published which version, when and why, is no template.
    for cookie in [&auditor, &operator, &link] {
        let versions = console.get_as(cookie, "/versions?agent=a&name=default").await;
        let words = versions.words();
        assert!(words.contains("the test") && words.contains("What each version changed:"), "{words}");
        assert!(!versions.body.contains("/change/") && !words.contains("receiver.example"), "{words}");
        let agent = console.get_as(cookie, "/agents/a").await.body;
        assert!(agent.contains("href=\"/versions?agent=a&#38;name=default\""), "{agent}");
    }
    let log_in = console.get("/log-in").await.words();
    assert!(!log_in.contains("this console only reads"), "{log_in}");
}

#[tokio::test]
async fn what_one_role_has_just_read_is_not_shown_to_another_that_may_not() {
    let (database, _, _) = two_agents().await;
    let (console, [_, viewer, auditor, ..]) = with_visitors(&database).await;
    // What is open takes replays, which a viewer may not read.
    let open = |page: &str| page.contains("href=\"/deliveries?open=1\"");
    let seen = console.get_as(&auditor, "/").await.body;
    assert!(open(&seen), "{seen}");
    let seen = console.get_as(&viewer, "/").await.body;
    assert!(!open(&seen), "{seen}");
}

#[tokio::test]
async fn viewers_see_how_the_deliveries_of_the_last_hour_ended_and_neither_which_nor_why() {
    let (database, ..) = two_agents().await;
    database.insert_call("a", &json!({"callInfo": {"callSid": "CA-of-a-caller"}})).await;
    let unknown = end_all(&database, "unknown").await.remove(0);
    let resolve = ["resolve", &unknown, "--as", "delivered", "--by", "Grace Hopper", "--reason", "they have it"];
    assert!(postcall_at(&database.url, &resolve).status.success());
    let (console, [_, viewer, ..]) = with_visitors(&database).await;
    let page = console.get_as(&viewer, "/").await;
    let words = page.words();
    // By what was found out later, as an auditor sees it: that finding, and two that failed.
    assert!(words.contains("delivered 1 rejected 0 failed 2 unknown 0 skipped 0"), "{words}");
    assert!(page.body.contains("data-state=\"failed\" data-count=\"2\""), "minute by minute: {}", page.body);
    assert!(words.contains("2 deliveries failed in the last hour."), "{words}");
    for hidden in [unknown.as_str(), "Grace Hopper", "they have it", "CA-of-a-caller"] {
        assert!(!page.body.contains(hidden), "{hidden}: {words}");
    }
}

#[tokio::test]
async fn what_a_role_may_not_do_is_refused_by_the_database_too() {
    let database = Database::new().await;
    let url = database.login(&ROLES).await;
    let mut session = <sqlx::PgConnection as sqlx::Connection>::connect(&url).await.unwrap();
    for (role, refused) in [
        ("postcall_console_viewer", "SELECT call_sid FROM postcall.delivery"),
        ("postcall_console_viewer", "SELECT FROM postcall.delivery_history"),
        ("postcall_console_viewer", "SELECT reason FROM postcall.resolution"),
        ("postcall_console_viewer", "SELECT resolved_by FROM postcall.resolution"),
        ("postcall_console_viewer", "INSERT INTO postcall.pause (agent, reason, paused_by) VALUES ('a', 'x', 'x')"),
        ("postcall_auditor", "UPDATE postcall.action SET enabled = false"),
        ("postcall_console_operator", "SELECT url FROM postcall.action_version"),
        ("postcall_console_operator", "UPDATE postcall.action SET version = 2"),
        ("postcall_console_operator", "INSERT INTO postcall.action (agent, name) VALUES ('a', 'b')"),
        ("postcall_publisher", "SELECT call FROM postcall.outbox"),
    ] {
        let sql = format!("SET ROLE {role}; {refused}");
        let error = sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut session).await.unwrap_err();
        assert_eq!(error.as_database_error().unwrap().code().as_deref(), Some("42501"), "{role}: {refused}: {error}");
    }
    // A console whose user lacks one of the roles does not start.
    let users = users();
    let settings = ["console", "--auth", "basic", "--listen", "127.0.0.1:0", "--users", users.path().to_str().unwrap()];
    let output = postcall_at(&database.login(&ROLES[..3]).await, &settings);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("GRANT postcall_publisher TO"), "{}", stderr(&output));
}

#[tokio::test]
async fn a_session_is_begun_by_the_right_password_only_and_ended_by_logging_out() {
    let database = Database::new().await;
    let users = users();
    let console = console_with(&database, &["--auth", "basic", "--users", users.path().to_str().unwrap()]).await;
    let tried = async |name: &str, password: &str| {
        let fields = [("name", name), ("password", password), ("to", "/deliveries?state=failed")];
        console.sends("", "/log-in", &fields).await
    };
    let mut refusals = Vec::new();
    for (name, password) in [("viewer", "wrong"), ("nobody", PASSWORD), ("", ""), ("viewer", "")] {
        let response = tried(name, password).await;
        assert_eq!((response.status, response.header("set-cookie")), (403, None), "{name}");
        refusals.push(response.words().replace(name, ""));
    }
    assert_eq!(refusals[0], refusals[1], "it does not tell which names exist");
    let let_in = tried("viewer", PASSWORD).await;
    assert_eq!((let_in.status, let_in.header("location")), (303, Some("/deliveries?state=failed")));
    let cookie = let_in.header("set-cookie").unwrap().to_owned();
    for part in ["HttpOnly", "SameSite=Strict", "Path=/", "Max-Age="] {
        assert!(cookie.contains(part), "{cookie}");
    }
    let cookie = cookie.split(';').next().unwrap();
    assert_eq!(console.get_as(cookie, "/").await.status, 200);
    let name = cookie.split('=').next().unwrap();
    for forged in [
        format!("{name}={}", "0".repeat(64)),
        format!("{name}="),
        format!("{cookie}0"),
        format!("{cookie}; {name}=x"),
        format!("x{cookie}"),
        cookie.to_uppercase(),
        "__Host-postcall-session=x".to_owned(),
    ] {
        let response = console.get_as(&forged, "/").await;
        assert_eq!((response.status, response.header("location")), (303, Some("/log-in?to=%2F")), "{forged}");
    }
    let out = console.sends(cookie, "/log-out", &[]).await;
    assert_eq!((out.status, out.header("location")), (303, Some("/log-in")));
    assert_eq!(console.get_as(cookie, "/").await.status, 303, "the session has ended, and not the cookie alone");
    // Whoever comes from another site is led on by a page, because the browser sends no cookie until then.
    let host = console.address().to_string();
    let headers = [
        ("host", host.as_str()),
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-mode", "navigate"),
        ("sec-fetch-dest", "document"),
    ];
    let onward = console.ask("GET", "/deliveries", &headers).await;
    assert!(onward.status == 200 && onward.body.contains("content=\"0;url=/deliveries\""), "{}", onward.body);
}

#[tokio::test]
async fn whoever_guesses_passwords_is_slowed_and_keeps_nobody_out() {
    let database = Database::new().await;
    let users = users();
    let settings = ["--auth", "basic", "--users", users.path().to_str().unwrap(), "--proxy-from", "127.0.0.1/32"];
    let console = console_with(&database, &settings).await;
    let host = console.address().to_string();
    let tried = async |from: &str, name: &str, password: &str| {
        let headers = [("host", host.as_str()), ("sec-fetch-site", "same-origin"), ("x-forwarded-for", from)];
        console.sends_with(&headers, "/log-in", &[("name", name), ("password", password), ("to", "/")]).await
    };
    assert_eq!(tried("10.0.0.1", "operator", PASSWORD).await.status, 303, "where the operator logs in");
    let mut statuses = Vec::new();
    for _ in 0..12 {
        statuses.push(tried("10.0.0.2", "viewer", "guess").await.status);
    }
    assert!(statuses[..10].iter().all(|status| *status == 403) && statuses[11] == 429, "{statuses:?}");
    let slowed = tried("10.0.0.2", "viewer", PASSWORD).await;
    assert_eq!(slowed.status, 429, "not even by the right one");
    assert!(slowed.header("retry-after").is_some() && slowed.words().contains("too many tries"), "{}", slowed.words());
    // What the client itself writes into the header is not believed.
    assert_eq!(tried("10.9.9.9, 10.0.0.2", "viewer", "guess").await.status, 429);
    assert_eq!(tried("10.0.0.3", "auditor", PASSWORD).await.status, 303, "somebody else");
    for number in 0..40 {
        tried(&format!("10.1.0.{number}"), "operator", "guess").await;
    }
    assert_eq!(tried("10.2.0.1", "operator", PASSWORD).await.status, 429, "from elsewhere");
    assert_eq!(tried("10.0.0.1", "operator", PASSWORD).await.status, 303, "from where the operator logs in");
}

#[tokio::test]
async fn no_form_is_taken_from_another_site_and_none_that_does_not_say_where_it_is_from() {
    let (database, ..) = two_agents().await;
    let console = Console::start_with(&database.url, &["--write", "--as", "Ada"]).await;
    let (host, port) = (console.address().to_string(), console.address().port());
    let pause = [("order", "pause"), ("target", "agent"), ("agent", "a"), ("reason", "x")];
    let own = format!("http://{host}");
    let sent = async |headers: &[(&str, &str)]| {
        let response: Response =
            console.sends_with(&[&[("host", host.as_str())], headers].concat(), "/change/pause", &pause).await;
        response.status
    };
    for headers in [
        &[][..],
        &[("origin", "http://evil.example")],
        &[("origin", "null")],
        &[("origin", &format!("http://evil.example:{port}"))],
        &[("origin", &format!("http://localhost:{port}"))],
        &[("referer", &own)],
        &[("sec-fetch-site", "cross-site"), ("origin", &own)],
        &[("sec-fetch-site", "same-site"), ("origin", &own)],
        &[("sec-fetch-site", "none"), ("origin", &own)],
    ] {
        assert_eq!(sent(headers).await, 403, "{headers:?}");
    }
    let elsewhere = [("host", "evil.example"), ("sec-fetch-site", "same-origin")];
    assert_eq!(console.sends_with(&elsewhere, "/change/pause", &pause).await.status, 421);
    assert_eq!(database.number("SELECT count(*) FROM postcall.pause").await, 0);
    assert_eq!(sent(&[("origin", &own)]).await, 303);
    assert_eq!(database.number("SELECT count(*) FROM postcall.pause").await, 1);
}

#[tokio::test]
async fn a_form_that_is_too_large_too_slow_or_none_is_refused_and_others_are_served_meanwhile() {
    let database = Database::new().await;
    let console = Console::start_with(&database.url, &["--write", "--as", "Ada"]).await;
    let host = console.address().to_string();
    let head =
        |more: &str| format!("POST /change/pause HTTP/1.1\r\nhost: {host}\r\norigin: http://{host}\r\n{more}\r\n");
    let form = "content-type: application/x-www-form-urlencoded\r\n";
    let announced = console.send(&head(&format!("{form}content-length: 655361\r\n"))).await;
    assert_eq!((announced.status, announced.header("connection")), (413, Some("close")));
    let chunks = format!("{:x}\r\n{}\r\n", 0x10000, "a".repeat(0x10000)).repeat(11);
    let chunked = console.send(&format!("{}{chunks}", head(&format!("{form}transfer-encoding: chunked\r\n")))).await;
    assert_eq!(chunked.status, 413);
    let json = console.send(&format!("{}{{}}", head("content-type: application/json\r\ncontent-length: 2\r\n"))).await;
    assert_eq!(json.status, 415);
    let late = head(&format!("{form}content-length: 10\r\n"));
    let slow = console.send(&late);
    let (slow, page) = tokio::join!(slow, console.page("/"));
    assert_eq!((slow.status, page.status), (408, 200));
}

#[tokio::test]
async fn a_link_that_is_forged_changed_or_of_another_key_shows_nothing() {
    let (database, ..) = two_agents().await;
    let (users, key, other) = (users(), file(KEY), file(&KEY.replace('0', "9")));
    let key = key.path().to_str().unwrap();
    let settings = ["--auth", "basic", "--users", users.path().to_str().unwrap(), "--link-key-file", key];
    let console = console_with(&database, &settings).await;
    let good = link(&database.url, key, "a");
    assert_eq!(console.get(&good).await.status, 200);
    let for_b = good.replacen(".61.", ".62.", 1);
    assert_ne!(for_b, good, "the agent a is 61");
    let later = good.replacen("/link/v1.1", "/link/v1.2", 1);
    for forged in [
        for_b.as_str(),
        &later,
        &good[..good.len() - 1],
        &good.replace("v1", "v2"),
        "/link/v1",
        "/link/",
        &link(&database.url, other.path().to_str().unwrap(), "a"),
    ] {
        let response = console.get(forged).await;
        assert_eq!((response.status, response.header("set-cookie")), (403, None), "{forged}");
    }
    let name = console.get(&good).await.header("set-cookie").unwrap().split('=').next().unwrap().to_owned();
    let cookie = format!("{name}={}", for_b.rsplit('/').next().unwrap());
    assert_eq!(console.get_as(&cookie, "/agents/b").await.status, 303, "forged in the cookie");
    let unknown = postcall_at(&database.url, &["console", "link", "c", "--for", "1h", "--link-key-file", key]);
    assert!(stderr(&unknown).contains("agent c has no action"), "{}", stderr(&unknown));
}

#[tokio::test]
async fn what_a_proxy_says_counts_from_its_own_networks_only() {
    let database = Database::new().await;
    let headers = ["--proxy-user-header", "x-user", "--proxy-roles-header", "x-roles"];
    let from = |network: &'static str| [&["--auth", "proxy", "--proxy-from", network], &headers[..]].concat();
    let console = console_with(&database, &from("127.0.0.0/8")).await;
    let elsewhere = console_with(&database, &from("10.0.0.0/8,fd00::/8")).await;
    let asked = async |console: &Console, said: &[(&str, &str)]| {
        let host = console.address().to_string();
        console.ask("GET", "/", &[&[("host", host.as_str())], said].concat()).await
    };
    let ada = [("x-user", "Ada <b>"), ("x-roles", "viewer,staff")];
    let page = asked(&console, &ada).await;
    assert!(page.status == 200 && page.words().contains("Ada <b>"), "{}", page.words());
    for said in [&[("x-user", "Ada")][..], &[("x-user", "Ada"), ("x-roles", "owner")], &[("x-roles", "viewer")], &[]] {
        assert_eq!(asked(&console, said).await.status, 403, "{said:?}");
    }
    let forged = asked(&elsewhere, &[&ada[..], &[("x-forwarded-for", "10.0.0.1")]].concat()).await;
    assert!(forged.status == 403 && forged.words().contains("does not come from the proxy"), "{}", forged.words());
}

#[tokio::test]
async fn a_public_console_answers_to_its_own_name_only_and_its_cookie_is_secure() {
    let database = Database::new().await;
    let users = users();
    let settings =
        ["--auth", "basic", "--users", users.path().to_str().unwrap(), "--public-url", "https://console.example"];
    let console = console_with(&database, &settings).await;
    assert_eq!(console.get("/health").await.status, 421, "by its address");
    let log_in = |origin: &'static str| {
        let headers = [("host", "console.example"), ("origin", origin)];
        let console = &console;
        async move {
            console.sends_with(&headers, "/log-in", &[("name", "viewer"), ("password", PASSWORD), ("to", "/")]).await
        }
    };
    assert_eq!(log_in("http://console.example").await.status, 403);
    let let_in = log_in("https://console.example").await;
    let cookie = let_in.header("set-cookie").unwrap();
    assert!(cookie.starts_with("__Host-postcall-session=") && cookie.ends_with("; Secure"), "{cookie}");
}

#[tokio::test]
async fn the_file_of_users_is_read_again_when_it_changes_and_must_not_be_open_to_everybody() {
    let database = Database::new().await;
    let mut users = users();
    let path = users.path().to_str().unwrap().to_owned();
    let console = console_with(&database, &["--auth", "basic", "--users", &path]).await;
    let viewer = console.log_in("viewer", PASSWORD).await;
    let line = postcall_at("", &["console", "hash-password", "eve"]);
    assert_eq!(line.status.code(), Some(1), "an empty password");
    let hash = bcrypt::hash("other", 4).unwrap();
    users.as_file_mut().set_len(0).unwrap();
    std::fs::write(&path, format!("eve:operator:{hash}\n")).unwrap();
    // It is looked at once a second; a session of somebody who is not in it any more has ended.
    let gone = async {
        while console.get_as(&viewer, "/").await.status == 200 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), gone).await.unwrap();
    console.log_in("eve", "other").await;
    let started = |file: &tempfile::NamedTempFile| {
        let path = file.path().to_str().unwrap();
        postcall_at(&database.url, &["console", "--auth", "basic", "--listen", "127.0.0.1:0", "--users", path])
    };
    let mut broken = file("# people\n");
    writeln!(broken, "ada:publisher:secret").unwrap();
    let output = started(&broken);
    assert!(stderr(&output).contains(", line 2: its third field") && !stderr(&output).contains("secret"));
    let open = file(&format!("ada:viewer:{hash}\n"));
    std::fs::set_permissions(open.path(), std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(stderr(&started(&open)).contains("may be read or written by everybody"), "{}", stderr(&started(&open)));
}

#[test]
fn settings_that_do_not_go_together_are_said_before_anything_is_asked() {
    for (settings, said) in [
        (&["--write"][..], "--as NAME"),
        (&["--auth", "basic"], "needs --users"),
        (
            &["--auth", "proxy", "--proxy-user-header", "x"],
            "needs --proxy-user-header, --proxy-roles-header and --proxy-from",
        ),
        (&["--auth", "none", "--public-url", "https://a.example"], "need --auth basic or --auth proxy"),
        (&["--auth", "none", "--listen", "10.0.0.1:80"], "nobody can log in"),
        (&["--public-url", "http://a.example"], "expected https"),
    ] {
        let output = postcall_at("postgres://x@127.0.0.1:1/x", &[&["console"], settings].concat());
        assert_eq!(output.status.code(), Some(2), "{settings:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(said), "{settings:?}: {}", stderr(&output));
    }
}
