//! The console over several databases: what is shown of all is in one order, and each page of one stays within it.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use serde_json::json;

use crate::several_databases::listed;
use crate::support::console::{Console, PASSWORD, ROLES, users};
use crate::support::database::Database;
use crate::support::endings::{end_all, ended};
use crate::support::life::Life;
use crate::support::process::{file, postcall, stderr, stdout};

const KEY: &str = "0123456789abcdef0123456789abcdef";
/// Between two looks at something that comes about by itself.
const AGAIN: Duration = Duration::from_millis(50);

/// Waits until a database is served.
pub async fn until_served(console: &Console, name: &str) {
    until_shown(console, "", &format!("/in/{name}/")).await;
}

/// Waits until a page is shown to whoever has this cookie.
pub async fn until_shown(console: &Console, cookie: &str, path: &str) {
    for _ in 0..2_400 {
        if console.get_as(cookie, path).await.status == 200 {
            return;
        }
        tokio::time::sleep(AGAIN).await;
    }
    panic!("{path} is not shown");
}

/// A console that serves these databases, all of which are there.
pub async fn console_of(databases: &[(&str, &str)], settings: &[&str]) -> Console {
    let list = listed(databases);
    let console = Console::start_with("", &[&["--databases", list.path().to_str().unwrap()], settings].concat()).await;
    for (name, _) in databases {
        until_served(&console, name).await;
    }
    console
}

async fn with_agent(agent: &str) -> Database {
    let database = Database::new().await;
    database.publish(agent, "default", &json!({"method": "POST", "url": "https://receiver.example/"})).await;
    database
}

/// The values of attributes that begin with this, as a browser reads them.
fn values(page: &str, beginning: &str) -> Vec<String> {
    let starts = format!("=\"{beginning}");
    let value = |rest: &str| rest.split('"').next().unwrap_or_default().replace("&#38;", "&").replace("&amp;", "&");
    page.split(&starts).skip(1).map(|rest| format!("{beginning}{}", value(rest))).collect()
}

/// The deliveries that a page lists, as database and id.
fn deliveries(page: &str) -> Vec<(String, String)> {
    let rows = values(page, "/in/").into_iter().filter_map(|address| {
        let (name, id) = address.strip_prefix("/in/")?.split_once("/deliveries/")?;
        Some((name.to_owned(), id.to_owned()))
    });
    rows.collect()
}

/// Where the link with this text leads.
fn link(page: &str, text: &str) -> Option<String> {
    let before = page.split_once(&format!("\">{text}</a>"))?.0;
    Some(before.rsplit_once("href=\"")?.1.replace("&#38;", "&").replace("&amp;", "&"))
}

#[tokio::test]
async fn deliveries_of_all_come_in_the_order_of_their_ids_on_pages_without_a_gap_in_both_directions() {
    let (north, south) = (with_agent("a").await, with_agent("a").await);
    let mut all = Vec::new();
    // Uneven, so that some pages are of one only and others of both.
    for (database, name, count) in [
        (&north, "north", 40),
        (&south, "south", 3),
        (&north, "north", 2),
        (&south, "south", 70),
        (&north, "north", 15),
    ] {
        all.extend(ended(database, "failed", count).await.into_iter().map(|id| (name.to_owned(), id)));
    }
    all.sort_by(|(_, a), (_, b)| b.cmp(a));
    let console = console_of(&[("north", &north.url), ("south", &south.url)], &[]).await;
    let (mut path, mut pages) = (Some("/deliveries?state=failed".to_owned()), Vec::new());
    let mut last = String::new();
    while let Some(next) = path {
        let page = console.page(&next).await.body;
        pages.push(deliveries(&page));
        path = link(&page, "Older");
        // What is inserted meanwhile is on no page behind it.
        ended(&north, "failed", 1).await;
        last = page;
    }
    assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), [50, 50, 30]);
    assert_eq!(pages.concat(), all);
    let mut backwards = Vec::new();
    for _ in 0..2 {
        last = console.page(&link(&last, "Newer").expect("there are newer ones")).await.body;
        backwards.push(deliveries(&last));
    }
    backwards.reverse();
    assert_eq!(backwards, pages[..2]);
    let page = console.page(&link(&last, "Newer").expect("of those that came meanwhile")).await.body;
    assert_eq!(deliveries(&page).len(), 3);
    assert_eq!(link(&page, "Newer"), None);
}

#[tokio::test]
async fn one_field_finds_a_delivery_or_a_call_in_whichever_database_it_is() {
    let (north, south) = (with_agent("a").await, with_agent("b").await);
    let of_north = ended(&north, "failed", 1).await.remove(0);
    let call = south.insert_call("b", &json!({"callInfo": {"callSid": "CA1"}})).await;
    let of_south = end_all(&south, "unknown").await.remove(0);
    let console = console_of(&[("north", &north.url), ("south", &south.url)], &[]).await;
    for (name, id) in [("north", &of_north), ("south", &of_south)] {
        let found = console.get(&format!("/deliveries?q={id}")).await;
        assert_eq!((found.status, found.header("location")), (303, Some(&*format!("/in/{name}/deliveries/{id}"))));
    }
    for q in ["CA1", &call.to_string()] {
        let page = console.page(&format!("/deliveries?q={q}")).await;
        assert_eq!(deliveries(&page.body), [("south".to_owned(), of_south.clone())], "{q}");
    }
    let page = console.page("/deliveries?agent=a").await;
    assert_eq!(deliveries(&page.body), [("north".to_owned(), of_north)]);
    assert!(page.words().contains("north"), "{}", page.words());
    let wrong = console.get("/deliveries?state=x").await;
    assert!(wrong.status == 400 && wrong.words().contains("state: expected one of"), "{}", wrong.words());
    let overview = console.page("/").await;
    assert!(overview.words().contains("All 2 databases answer."), "{}", overview.words());
    let south = overview.body.split("<tr>").skip(1).find(|row| row.contains("/in/south/")).unwrap().to_owned();
    assert!(south.contains("href=\"/in/south/deliveries?state=unknown\">1</a>"), "{south}");
    for path in ["/calls", "/agents", "/audit", "/audit.csv", "/in/nowhere/", "/in/nowhere/live"] {
        assert_eq!(console.get(path).await.status, 404, "{path}");
    }
}

/// Where a page of one database may lead beside its own pages.
fn is_of_the_console(address: &str) -> bool {
    ["/", "/log-out", "/icon.svg"].contains(&address) || address.ends_with(".js") || address.ends_with(".css")
}

/// Each attribute of each page is looked at, whatever it is called.
#[tokio::test]
async fn no_link_form_or_script_of_one_database_leads_out_of_it() {
    let (life, other) = (Life::new().await, with_agent("a").await);
    let tests =
        "INSERT INTO postcall.action_test (agent, action, file_sha256, call_source, timeout_ms, tested_by, reason)
                 VALUES ('voice-support', 'crm', sha256(''), 'sample', 1000, 'Ada', 'r')";
    life.database.execute(tests).await;
    // More than a page of everything.
    for number in 0..110 {
        let file = json!({"method": "POST", "url": "https://receiver.example/", "enabled": false});
        life.database.publish(&format!("many-{number:03}"), "default", &file).await;
    }
    life.database
        .execute("INSERT INTO postcall.outbox (agent, call) SELECT 'a', '{}' FROM generate_series(1, 60)")
        .await;
    // A path of the console's own, and a name that has to be encoded.
    for (name, root) in [("deliveries", "/in/deliveries"), ("a.b_c-d", "/in/a.b_c-d")] {
        let settings = ["--write", "--as", "Ada"];
        let console = console_of(&[(name, &life.database.url), ("other", &other.url)], &settings).await;
        let choices = [format!("{root}/"), "/in/other/".to_owned()];
        let leads_out = |page: &str| -> Vec<String> {
            let is_wrong = |address: &String| {
                !(address.starts_with(&format!("{root}/")) || is_of_the_console(address) || choices.contains(address))
            };
            [values(page, "/"), values(page, "0;url=/")].concat().into_iter().filter(is_wrong).collect()
        };
        // Where forms go, nothing is shown to who only looks.
        let is_form = |path: &str| path.contains("/change/") && !path.contains('?');
        let (mut ahead, mut seen) =
            (VecDeque::from([format!("{root}/"), format!("{root}/deliveries?q=CAnone")]), BTreeSet::new());
        while let Some(path) = ahead.pop_front() {
            let page = console.get(&path).await;
            let is_page = page.header("content-type").is_some_and(|kind| kind.starts_with("text/html"));
            if page.status == 303 {
                ahead.push_back(page.header("location").unwrap().to_owned());
            }
            assert!(page.status < 400 || is_form(&path), "{path}: {} {}", page.status, page.words());
            assert_eq!(leads_out(&page.body), Vec::<String>::new(), "{path}");
            let inside = values(&page.body, &format!("{root}/")).into_iter().filter(|_| is_page);
            // Whole results are no pages, and a form is not sent by a look.
            for address in inside.filter(|to| !to.contains(".csv") && !to.contains(".jsonl") && !to.ends_with("/live"))
            {
                let is_one_of_many = address.contains("many-") && !address.contains("after=");
                if !is_one_of_many && seen.len() < 400 && seen.insert(address.clone()) {
                    ahead.push_back(address);
                }
            }
        }
        let is_reached = |part: &str| seen.iter().any(|path| path.starts_with(&format!("{root}{part}")));
        for part in [
            "/deliveries?after=",
            "/deliveries/0",
            "/calls?q=",
            "/calls?after=",
            "/audit?after=",
            "/agents/",
            "/agents?after=",
            "/versions?",
            "/tests?",
            "/tests/0",
            "/change/action?",
            "/change/test?",
            "/change/replay-many?",
        ] {
            assert!(is_reached(part), "{part} was not reached: {seen:?}");
        }
        let wrong = console.get(&format!("{root}/deliveries/{}", uuid::Uuid::nil())).await;
        assert_eq!((wrong.status, leads_out(&wrong.body)), (404, vec![]));
        let fields =
            [("agent", "a"), ("name", "default"), ("method", "POST"), ("url", "https://x.example/"), ("timeout", "")];
        let more =
            [("headers", ""), ("body", ""), ("enabled", "yes"), ("over", "1"), ("step", "review"), ("reason", "r")];
        let fields = [&fields[..], &more].concat();
        let review = console.sends("", &format!("{root}/change/action"), &fields).await;
        assert_eq!((review.status, leads_out(&review.body)), (200, vec![]), "{}", review.words());
        assert!(review.body.contains(&format!("action=\"{root}/change/action\"")), "{}", review.body);
    }
}

#[tokio::test]
async fn what_is_changed_in_one_database_is_changed_there_only_and_said_there() {
    let (north, south) = (with_agent("a").await, with_agent("a").await);
    let failed = ended(&south, "failed", 2).await;
    let of_north = ended(&north, "failed", 2).await;
    let console = console_of(&[("north", &north.url), ("south", &south.url)], &["--write", "--as", "Ada"]).await;
    let reason = ("reason", "r");
    let pause = [("order", "pause"), ("target", "agent"), ("agent", "a"), reason];
    let answer = console.sends("", "/in/south/change/pause", &pause).await;
    assert!(answer.header("location").unwrap().starts_with("/in/south/agents/a?note="), "{answer:?}");
    let words = console.page(answer.header("location").unwrap()).await.words();
    assert!(words.contains("gent a is paused"), "{words}");
    let host = [("order", "pause"), ("target", "host"), ("host", "crm.example"), reason];
    let answer = console.sends("", "/in/south/change/pause", &host).await;
    assert!(answer.header("location").unwrap().starts_with("/in/south/?note="), "{answer:?}");
    let replayed = console.done("", "/in/south/change/replay", &[("delivery", &failed[0]), reason]).await;
    assert!(replayed.body.contains(&format!("href=\"/in/south/deliveries/{}\"", failed[0])), "{}", replayed.words());
    let until = ("until", "2999-01-01T00:00:00Z");
    let many = [("query", "state=failed"), until, reason];
    let answer = console.sends("", "/in/south/change/replay-many", &many).await;
    assert!(answer.header("location").unwrap().starts_with("/in/south/deliveries?state=failed"), "{answer:?}");
    let off = [("agent", "a"), ("name", "default"), ("enabled", "no"), reason];
    console.done("", "/in/south/change/enabled", &off).await;
    let count = "SELECT (SELECT count(*) FROM postcall.active_pause)
                      + (SELECT count(*) FROM postcall.delivery_history WHERE replay_of IS NOT NULL)
                      + (SELECT count(*) FROM postcall.action WHERE NOT enabled)";
    assert_eq!((south.number(count).await, north.number(count).await), (5, 0));
    // A form without its database is no form of all.
    assert_eq!(console.sends("", "/change/pause", &pause).await.status, 404);
    let mut export = console.follow_at("/in/north/deliveries.jsonl", None).await;
    for id in &of_north {
        export.until(id).await;
    }
    assert!(!failed.iter().any(|id| export.seen.contains(id)), "{}", export.seen);
}

/// Where a form goes, its fields, and who may send it.
type Form<'f> = (&'f str, &'f [(&'f str, &'f str)], &'f [&'f str]);

#[tokio::test]
async fn whoever_has_logged_in_changes_the_database_of_the_form_and_no_other_and_only_as_their_role_may() {
    let (north, south) = (with_agent("a").await, with_agent("a").await);
    let (users, failed) = (users(), ended(&south, "failed", 1).await.remove(0));
    let list = listed(&[("north", &north.login(&ROLES).await), ("south", &south.login(&ROLES).await)]);
    let (list, users) = (list.path().to_str().unwrap(), users.path().to_str().unwrap());
    let console = Console::start_with("", &["--databases", list, "--auth", "basic", "--users", users, "--write"]).await;
    let publisher = console.log_in("publisher", PASSWORD).await;
    for name in ["north", "south"] {
        until_shown(&console, &publisher, &format!("/in/{name}/")).await;
    }
    let url = "https://new.example/";
    let publish = [
        ("agent", "a"),
        ("name", "default"),
        ("method", "POST"),
        ("url", url),
        ("timeout", ""),
        ("headers", ""),
        ("body", ""),
        ("enabled", "yes"),
        ("over", "1"),
        ("step", "publish"),
        ("reason", "a test"),
    ];
    let pause = [("order", "pause"), ("target", "agent"), ("agent", "a"), ("reason", "r")];
    let replay = [("delivery", &*failed), ("reason", "r")];
    let forms: [Form<'_>; 3] = [
        ("/in/south/change/action", &publish, &["publisher"]),
        ("/in/south/change/pause", &pause, &["operator", "publisher"]),
        ("/in/south/change/replay", &replay, &["operator", "publisher"]),
    ];
    let changes = "SELECT (SELECT count(*) FROM postcall.action_version WHERE version > 1)
                        + (SELECT count(*) FROM postcall.active_pause)
                        + (SELECT count(*) FROM postcall.delivery_history WHERE replay_of IS NOT NULL)";
    let visitors = ["viewer", "auditor", "operator"];
    for (path, fields, may) in forms {
        let before = south.number(changes).await;
        assert_eq!(console.sends("", path, fields).await.status, 403, "{path} for nobody");
        for name in visitors.iter().filter(|name| !may.contains(name)) {
            let cookie = console.log_in(name, PASSWORD).await;
            let refused = console.sends(&cookie, path, fields).await;
            assert!(refused.status == 403 && refused.words().contains("A role is missing"), "{path} for {name}");
        }
        assert_eq!(south.number(changes).await, before, "{path}");
        let done = console.sends(&publisher, path, fields).await;
        let to = done.header("location").unwrap_or_default();
        assert!(done.status == 303 && to.starts_with("/in/south/"), "{path}: {}", done.words());
        assert_eq!(console.get_as(&publisher, to).await.status, 200, "{to}");
        assert_eq!(south.number(changes).await, before + 1, "{path}");
    }
    assert_eq!(north.number(changes).await, 0);
    let published = "SELECT url FROM postcall.action_version WHERE version = 2";
    assert_eq!(south.text(published).await.as_deref(), Some(url));
    assert!(!console.get_as(&publisher, "/in/north/agents/a").await.body.contains("new.example"));
    // Without its database, it is a form of nothing, whoever sends it.
    assert_eq!(console.sends(&publisher, "/change/action", &publish).await.status, 404);
}

#[tokio::test]
async fn the_live_tail_of_one_database_shows_nothing_of_another_and_leads_into_its_own() {
    let (north, south) = (with_agent("a").await, with_agent("a").await);
    let console = console_of(&[("north", &north.url), ("south", &south.url)], &[]).await;
    let mut stream = console.follow_at("/in/south/live", None).await;
    stream.until("Live: what comes to an end appears here.").await;
    let other = ended(&north, "failed", 1).await.remove(0);
    let own = ended(&south, "failed", 1).await.remove(0);
    stream.until(&format!("href=\"/in/south/deliveries/{own}\"")).await;
    stream.until("</tr>").await;
    assert!(stream.seen.contains("href=\"/in/south/agents/a\""), "{}", stream.seen);
    // The end of another one in both shows that what ended in the north before does not come.
    ended(&north, "failed", 1).await;
    let own = ended(&south, "failed", 1).await.remove(0);
    stream.until(&format!("id: {own}\n")).await;
    assert!(!stream.seen.contains(&other) && !stream.seen.contains("north"), "{}", stream.seen);
}

#[tokio::test]
async fn a_link_shows_its_agent_in_its_database_and_nothing_of_the_others_not_even_their_names() {
    let (north, south) = (with_agent("a").await, with_agent("a").await);
    let (of_north, of_south) = (ended(&north, "failed", 1).await.remove(0), ended(&south, "failed", 1).await.remove(0));
    let (users, key) = (users(), file(KEY));
    let (users, key) = (users.path().to_str().unwrap(), key.path().to_str().unwrap());
    let logins = (north.login(&ROLES).await, south.login(&ROLES).await);
    let list = listed(&[("north", &logins.0), ("south", &logins.1)]);
    let list = list.path().to_str().unwrap();
    let settings = ["--databases", list, "--auth", "basic", "--users", users, "--link-key-file", key];
    let console = Console::start_with("", &settings).await;
    let publisher = console.log_in("publisher", PASSWORD).await;
    for name in ["north", "south"] {
        until_shown(&console, &publisher, &format!("/in/{name}/")).await;
    }
    // The owner's databases: those of the console's user may not be read by the command.
    let own = listed(&[("north", &north.url), ("south", &south.url)]);
    let link = |more: &[&str]| {
        let link = ["console", "link", "a", "--for", "1h", "--link-key-file", key];
        postcall(&[&link[..], &["--databases", own.path().to_str().unwrap()], more].concat())
    };
    let refused = link(&[]);
    assert!(stderr(&refused).contains("name one of them with --in"), "{}", stderr(&refused));
    let refused = link(&["--in", "nowhere"]);
    assert!(stderr(&refused).contains("--in: expected one of north, south"), "{}", stderr(&refused));
    let made = link(&["--in", "south"]);
    let made = stdout(&made).trim().strip_prefix("http://127.0.0.1:8088").unwrap().to_owned();
    let entered = console.get(&made).await;
    assert!(entered.body.contains("content=\"0;url=/in/south/agents/a\""), "{}", entered.body);
    let cookie = entered.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    for (path, status) in [
        ("/in/south/agents/a", 200),
        (&format!("/in/south/deliveries/{of_south}"), 200),
        ("/in/south/deliveries", 200),
        ("/in/south/", 403),
        ("/in/north/agents/a", 403),
        (&format!("/in/north/deliveries/{of_north}"), 403),
        ("/in/north/deliveries", 403),
        ("/in/north/deliveries.csv", 403),
        ("/in/north/live", 403),
        ("/in/nowhere/", 403),
        ("/deliveries", 403),
        (&format!("/deliveries?q={of_south}"), 403),
        ("/", 403),
    ] {
        let answer = console.get_as(&cookie, path).await;
        assert_eq!(answer.status, status, "{path}: {}", answer.words());
        let is_named = answer.body.contains("north") && !path.contains("north");
        assert!(!answer.body.contains(&of_north) && !is_named, "{path}: {}", answer.body);
    }
    // A link of a console that serves one database names none.
    let one = ["console", "link", "a", "--for", "1h", "--link-key-file", key, "--database-url", &north.url];
    let one = stdout(&postcall(&one)).trim().strip_prefix("http://127.0.0.1:8088").unwrap().to_owned();
    assert_eq!(console.get(&one).await.status, 403);
    // Who is not logged in is led to the log-in, and from there to where they wanted to go; and learns no names.
    for path in ["/in/north/calls", "/in/nowhere/calls", "/"] {
        let asked = console.get(path).await;
        let to: String = url::form_urlencoded::byte_serialize(path.as_bytes()).collect();
        assert_eq!(asked.header("location"), Some(&*format!("/log-in?to={to}")), "{path}");
    }
    let fields = [("name", "viewer"), ("password", PASSWORD), ("to", "/in/north/calls")];
    assert_eq!(console.sends("", "/log-in", &fields).await.header("location"), Some("/in/north/calls"));
    assert!(!console.page("/log-in").await.body.contains("north"));
    // Roles hold in each database, and for what is shown of all.
    let viewer = console.log_in("viewer", PASSWORD).await;
    for (path, status, words) in [
        ("/", 200, "All 2 databases answer."),
        ("/deliveries", 200, "The deliveries of north are not in this list. A right is missing."),
        (&format!("/in/north/deliveries/{of_north}"), 403, "A right is missing"),
        ("/in/nowhere/", 404, "No such page"),
    ] {
        let answer = console.get_as(&viewer, path).await;
        assert!(answer.status == status && answer.words().contains(words), "{path}: {}", answer.words());
    }
    let auditor = console.log_in("auditor", PASSWORD).await;
    let page = console.get_as(&auditor, "/deliveries").await;
    assert!([&of_north, &of_south].iter().all(|id| page.body.contains(*id)), "{}", page.words());
}

#[test]
fn settings_that_do_not_go_with_several_databases_are_refused() {
    let (a, b) = ("postgres://u@127.0.0.1:1/a", "postgres://u@127.0.0.1:1/b");
    let several = ["console", "--database-url", a, "--database-url", b];
    let refused = postcall(&[&several[..], &["--read-url", a]].concat());
    assert!(stderr(&refused).contains("list their standbys in a file"), "{}", stderr(&refused));
    let list = listed(&[("..", a), ("b", b)]);
    let refused = postcall(&["console", "--databases", list.path().to_str().unwrap()]);
    assert!(stderr(&refused).contains("cannot stand in an address"), "{}", stderr(&refused));
}
