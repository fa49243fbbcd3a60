//! What the pages of the console say, for data that is known.

use crate::support::console::Console;
use crate::support::database::Database;
use crate::support::endings::ended;
use crate::support::life::{Life, SCRIPT};
use serde_json::json;

/// Every page that shows something of this life.
async fn all_pages(life: &Life) -> Vec<String> {
    let mut pages: Vec<String> =
        ["/", "/deliveries", "/deliveries?state=failed&state=unknown&since=1h", "/agents", "/agents/voice-support"]
            .map(str::to_owned)
            .to_vec();
    pages.extend(["/deliveries?open=1", "/calls", "/audit", "/audit?act=paused&since=1h"].map(str::to_owned));
    let sql = "SELECT string_agg(delivery_id::text, ' ') FROM postcall.delivery_history";
    pages.extend(life.database.text(sql).await.unwrap().split(' ').map(|id| format!("/deliveries/{id}")));
    let encoded: String = SCRIPT.bytes().map(|byte| format!("%{byte:02X}")).collect();
    pages.push(format!("/agents/{encoded}"));
    pages.push(format!("/agents?q={encoded}"));
    pages.push(format!("/deliveries?q={encoded}&agent={encoded}&action={encoded}"));
    pages.push(format!("/calls?q={encoded}&agent={encoded}"));
    pages.push(format!("/audit?by={encoded}&agent={encoded}"));
    pages
}

/// The words of a page must contain these, in this order.
fn says(words: &str, expected: &[&str]) {
    let mut rest = words;
    for part in expected {
        let Some((_, behind)) = rest.split_once(part) else { panic!("no {part:?} in: {rest}\n\nall: {words}") };
        rest = behind;
    }
}

#[tokio::test]
async fn the_overview_says_what_needs_somebody_and_what_to_do_about_it() {
    let life = Life::new().await;
    let console = Console::start(&life.database.login(&["postcall_auditor"]).await).await;
    let words = console.page("/").await.words();
    // On a slow machine, the dispatcher has told by now which host was silent.
    let is_told = words.contains("has not answered in time");
    let expected = [
        if is_told { "5 things need somebody." } else { "4 things need somebody." },
        "The oldest delivery has waited for 2 h",
        "postcall status",
        "deliveries are unknown, and nobody has said what became of them.",
        "postcall resolve DELIVERY_ID --as delivered",
        "deliveries were rejected by their receivers in the last hour, and no replay has delivered them.",
        "deliveries failed in the last hour, and no replay has delivered them.",
        "2 pauses are in force",
        "Now waiting 1",
        "Dispatchers",
        "where it may send",
        "alive",
        "0 of 256",
        "allow_http true",
        "Pauses",
        "agent appointments",
        "Grace Hopper their maintenance window",
        "There are partitions for outbox until",
    ];
    says(&words, &expected);
}

#[tokio::test]
async fn where_all_is_well_the_overview_says_so_and_an_empty_installation_is_told_what_to_start() {
    let database = Database::new().await;
    let console = Console::start(&database.url).await;
    says(&console.page("/").await.words(), &["1 thing needs somebody.", "No dispatcher runs", "postcall run"]);
    says(&console.page("/deliveries").await.words(), &["There is no delivery yet."]);
    says(&console.page("/agents").await.words(), &["No agent has an action yet", "postcall action publish"]);
    let mut session = database.session();
    Database::register(&mut session).await;
    let words = console.page("/").await.words();
    says(&words, &["Nothing needs anybody."]);
    assert!(!words.contains("somebody"), "{words}");
}

#[tokio::test]
async fn a_delivery_s_page_tells_its_story_what_was_sent_and_what_came_back() {
    let life = Life::new().await;
    let console = Console::start(&life.database.url).await;
    let id = life.delivery("agent = 'voice-support' AND action = 'crm' AND call_sid = 'CA5f0e2b'").await;
    let words = console.page(&format!("/deliveries/{id}")).await.words();
    // Whichever of the deliveries to one receiver comes first opens the connection.
    let opened = format!("SELECT count(connected_ms) FROM postcall.delivery WHERE delivery_id = '{id}'");
    let connection = if life.database.number(&opened).await == 1 {
        "ms sent as soon as the connection was ready"
    } else {
        "at once sent on a connection that was kept open"
    };
    assert!(words.contains(connection), "{words}");
    let expected = [
        "delivered",
        &id,
        "The receiver took it and answered 201.",
        "call SID CA5f0e2b",
        "What happened",
        "inserted by the platform",
        "claimed by",
        "in the queue",
        "sent",
        "answered 201",
        "attempt ended",
        "recorded as delivered",
        "What was sent",
        "api_key=***",
        "authorization *** x-source voice CA5f0e2b",
        "\"text\": \"The parcel has not arrived.\"",
        "What came back status 201",
        "14 bytes, complete",
    ];
    says(&words, &expected);
    assert!(!words.contains("s3cret") && !words.contains("WARNING"), "{words}");
}

#[tokio::test]
async fn replays_and_findings_are_told_in_both_directions() {
    let life = Life::new().await;
    let console = Console::start(&life.database.url).await;
    let first = life.delivery("action = 'tickets' AND replay_of IS NULL AND call_sid = 'CA5f0e2b'").await;
    let replay = life.delivery(&format!("replay_of = '{first}'")).await;
    let page = console.page(&format!("/deliveries/{first}")).await;
    says(
        &page.words(),
        &["rejected", "recorded as rejected", "replayed by Ada Lovelace: the receiver's form was changed"],
    );
    assert!(page.body.contains(&format!("href=\"/deliveries/{replay}\"")), "{}", page.body);
    assert!(!page.body.contains("postcall replay"), "it is replayed once: {}", page.body);
    let page = console.page(&format!("/deliveries/{replay}")).await;
    says(&page.words(), &["replay of", &first, "made as a replay by Ada Lovelace"]);
    assert!(page.body.contains(&format!("href=\"/deliveries/{first}\"")), "{}", page.body);
    let resolved = life.delivery("resolved_at IS NOT NULL").await;
    let words = console.page(&format!("/deliveries/{resolved}")).await.words();
    let expected = [
        "The receiver took it, as a person found out.",
        "recorded as unknown (timeout)",
        "resolved by a person as delivered",
        "found in their log",
    ];
    says(&words, &expected);
}

#[tokio::test]
async fn the_last_hour_counts_what_history_shows_with_what_was_found_out_since() {
    let life = Life::new().await;
    let console = Console::start(&life.database.url).await;
    let page = console.page("/").await.body;
    for state in ["delivered", "rejected", "failed", "unknown", "skipped"] {
        let count = format!(
            "SELECT count(*)::text FROM postcall.delivery_history
             WHERE state = '{state}' AND created_at > now() - interval '1 hour'"
        );
        let count = life.database.text(&count).await.unwrap();
        let figure = format!("href=\"/deliveries?state={state}&#38;since=1h\">{count}</a>");
        assert!(page.contains(&figure), "{figure} in {page}");
    }
    assert_ne!(life.delivery("resolved_at IS NOT NULL").await, "", "one of them was resolved");
}

#[tokio::test]
async fn pages_of_a_search_follow_each_other_in_both_directions_without_a_gap_whatever_arrives_meanwhile() {
    let database = Database::new().await;
    database.publish("a", "default", &json!({"method": "POST", "url": "https://receiver.example/"})).await;
    let mut ids = ended(&database, "failed", 120).await;
    ids.reverse();
    ended(&database, "delivered", 7).await;
    let console = Console::start(&database.url).await;
    let listed = async |path: &str| {
        let page = console.page(path).await.body;
        let rows = page.split("href=\"/deliveries/").skip(1).map(|rest| rest[..36].to_owned());
        let link = |rel: &str| {
            let (_, rest) = page.split_once(&format!("rel=\"{rel}\" href=\""))?;
            Some(rest.split('"').next().unwrap().replace("&#38;", "&").replace("&amp;", "&"))
        };
        (rows.collect::<Vec<_>>(), link("prev"), link("next"))
    };
    let (first, none, older) = listed("/deliveries?state=failed&agent=a").await;
    assert_eq!((&first[..], none), (&ids[..50], None));
    let (second, newer, older) = listed(&older.unwrap()).await;
    assert_eq!(second, ids[50..100]);
    ended(&database, "failed", 3).await;
    let (third, newer_still, end) = listed(&older.unwrap()).await;
    assert_eq!((&third[..], end), (&ids[100..], None));
    assert_eq!(listed(&newer_still.unwrap()).await.0, second, "back again");
    let (back, newest, older) = listed(&newer.unwrap()).await;
    assert_eq!(back, first);
    assert_eq!(listed(&older.unwrap()).await.0, second);
    assert_eq!(listed(&newest.unwrap()).await.0.len(), 3, "what arrived meanwhile");
}

#[tokio::test]
async fn one_field_finds_a_delivery_by_its_id_and_the_deliveries_of_a_call_by_either_of_its_ids() {
    let life = Life::new().await;
    let console = Console::start(&life.database.url).await;
    let id = life.delivery("action = 'crm' AND call_sid = 'CA5f0e2b'").await;
    let response = console.get(&format!("/deliveries?q={id}")).await;
    assert_eq!((response.status, response.header("location")), (303, Some(format!("/deliveries/{id}").as_str())));
    for q in ["CA5f0e2b", &life.call.to_string()] {
        let page = console.page(&format!("/deliveries?q=+{q}+")).await;
        assert_eq!(page.body.matches("<tr><td>").count(), 5, "{q}: four actions and a replay");
    }
    says(&console.page("/deliveries?q=CAnone").await.words(), &["No delivery matches all criteria."]);
    let wrong = console.get("/deliveries?state=lost").await;
    assert_eq!(wrong.status, 400);
    says(&wrong.words(), &["state: expected one of waiting"]);
    let missing = console.get("/deliveries/0192f0c1-0000-7000-8000-000000000001").await;
    assert_eq!(missing.status, 404);
    says(&missing.words(), &["There is no delivery 0192f0c1"]);
}

#[tokio::test]
async fn agents_are_found_by_the_beginning_of_their_names_page_by_page() {
    let database = Database::new().await;
    database
        .execute(
            "WITH made AS (INSERT INTO postcall.action (agent, name, enabled, version)
                           SELECT 'agent-' || lpad(n::text, 3, '0'), 'default', n % 2 = 0, 1 FROM generate_series(1, 120) AS n
                           RETURNING action_id)
             INSERT INTO postcall.action_version (action_id, version, method, url, timeout_ms, published_by)
             SELECT action_id, 1, 'GET', 'https://x.example/', 1000, 'me' FROM made",
        )
        .await;
    for agent in ["b", "100%_x", "."] {
        database.publish(agent, "default", &json!({"method": "GET", "url": "https://x.example/"})).await;
    }
    let console = Console::start(&database.login(&["postcall_auditor"]).await).await;
    let listed = async |path: &str| {
        let page = console.page(path).await.body;
        let rows = page.split("class=\"text\"><a href=\"").skip(1);
        let names = rows.map(|rest| rest.split_once('>').unwrap().1.split('<').next().unwrap().to_owned());
        let link = |rel: &str| {
            let (_, rest) = page.split_once(&format!("rel=\"{rel}\" href=\""))?;
            Some(rest.split('"').next().unwrap().replace("&#38;", "&").replace("&amp;", "&"))
        };
        (names.collect::<Vec<_>>(), link("prev"), link("next"))
    };
    let (first, none, next) = listed("/agents?q=agent-").await;
    assert_eq!((first.len(), first[0].as_str(), none), (50, "agent-001", None));
    let (second, previous, next) = listed(&next.unwrap()).await;
    assert_eq!((second[0].as_str(), second[49].as_str()), ("agent-051", "agent-100"));
    let (third, previous_of_third, none) = listed(&next.unwrap()).await;
    assert_eq!((third.len(), third[0].as_str(), none), (20, "agent-101", None));
    assert_eq!(listed(&previous_of_third.unwrap()).await.0, second);
    let (back, none, _) = listed(&previous.unwrap()).await;
    assert_eq!((back, none), (first, None));
    assert_eq!(listed("/agents?q=100%25_").await.0, ["100%_x"], "no pattern");
    // Its name would be a step in a path.
    says(&console.page("/agents?agent=.").await.words(), &["Actions", "default enabled"]);
}

#[tokio::test]
async fn the_overview_compares_where_dispatchers_may_send_and_says_of_a_host_who_paused_it() {
    let database = Database::new().await;
    let console = Console::start(&database.login(&["postcall_auditor"]).await).await;
    let lives = async |policy: &str| {
        let insert = format!(
            "INSERT INTO postcall.dispatcher (name, version, lease_until, policy)
             VALUES ('host:1', '0', clock_timestamp() + interval '10 minutes', '{policy}')"
        );
        database.execute(&insert).await;
    };
    lives("{\"allow_http\": true}").await;
    lives("{\"allow_http\": true}").await;
    let words = console.page("/").await.words();
    says(&words, &["allow_http true"]);
    assert!(!words.contains("different policies"), "{words}");
    lives("{}").await;
    let words = console.page("/").await.words();
    says(
        &words,
        &["have different policies: allow_http is not set here and true there: give all dispatchers the same"],
    );
    says(&words, &["the defaults"]);
    let host = |name: &str| {
        format!(
            "{{\"host\": \"{name}\", \"limit\": 4, \"in_flight\": 1, \"waiting_lanes\": 1, \"condition\": {{\"state\": \"answering\"}}}}"
        )
    };
    let report = format!(
        "INSERT INTO postcall.dispatcher_report (dispatcher_id, reported_at, concurrency, in_flight, unrecorded, hosts, hosts_left_out)
         SELECT max(dispatcher_id), now(), 8, 1, 0, '[{}, {}]', 0 FROM postcall.dispatcher",
        host("crm.example:443"),
        host("other.example:443")
    );
    database.execute(&report).await;
    let pause = ["pause", "host", "crm.example", "--reason", "their maintenance", "--by", "Grace Hopper"];
    assert!(crate::support::process::postcall_on(&database, &pause).status.success());
    let words = console.page("/").await.words();
    let hosts = words.split_once(" Hosts ").unwrap().1.split_once(" Pauses ").unwrap().0.to_owned();
    assert_eq!(hosts.matches("by Grace Hopper: their maintenance").count(), 1, "{hosts}");
    let (_, crm) = hosts.split_once("crm.example:443").unwrap();
    assert!(crm.split("other.example").next().unwrap().contains("Grace Hopper"), "{hosts}");
}

#[tokio::test]
async fn a_story_says_that_a_request_was_sent_only_if_it_may_have_been() {
    let life = Life::new().await;
    let console = Console::start(&life.database.url).await;
    let of = |state: &str| format!("agent = 'voice-support' AND state = '{state}' AND replay_of IS NULL");
    for (state, told) in [("rejected", Some(" sent ")), ("unknown", Some(" sent, or a part of it ")), ("failed", None)]
    {
        let id = life.delivery(&of(state)).await;
        let words = console.page(&format!("/deliveries/{id}")).await.words();
        let story = words.split_once("What happened").unwrap().1.split_once("What ").unwrap().0.to_owned();
        assert_eq!(story.contains(" sent"), told.is_some(), "{state}: {story}");
        assert!(told.is_none_or(|told| story.contains(told)), "{state}: {story}");
        let shown = crate::support::process::postcall_on(&life.database, &["show", &id]);
        let shown = crate::support::process::stdout(&shown);
        let timeline = shown.split_once("timeline").unwrap().1.split_once("\n\n").unwrap().0.to_owned();
        let line = timeline.lines().find(|line| line.trim_start().starts_with("sent"));
        assert_eq!(line.map(|line| line.contains("sent in part?")), told.map(|_| state == "unknown"), "{timeline}");
    }
}

#[tokio::test]
async fn an_agent_s_page_shows_what_its_actions_send_without_secrets_and_what_is_paused() {
    let life = Life::new().await;
    let output = crate::support::process::postcall_on(
        &life.database,
        &["pause", "host", "old.example", "--reason", "it moves", "--by", "Ada"],
    );
    assert!(output.status.success());
    let console = Console::start(&life.database.login(&["postcall_publisher"]).await).await;
    let words = console.page("/agents/voice-support").await.words();
    let expected = [
        "Paused",
        "host old.example",
        "Ada it moves",
        "Actions",
        "crm enabled",
        "POST http://127.0.0.1",
        "api_key=***",
        "timeout 5,000 ms",
        "headers authorization, x-source",
        "version 1, published",
        "by the test",
        "${callInfo.callSid}",
        "old disabled",
        "Last deliveries",
        "what became of it",
        "It may have reached the receiver, and nobody can know: there was no answer before the action's timeout.",
        "The receiver took it and answered 201.",
        "All deliveries of this agent",
    ];
    says(&words, &expected);
    assert!(!words.contains("s3cret") && !words.contains("Grace Hopper"), "{words}");
    let missing = console.get("/agents/nobody").await;
    assert_eq!(missing.status, 404);
}

/// A page without the console's own scripts, which tests/it/console_safety.rs looks at.
fn without_own_scripts(page: &str) -> String {
    let mut rest = page.to_owned();
    for name in ["console", "chart", "editor"] {
        let Some((before, own)) = rest.split_once(&format!("<script src=\"/{name}-")) else { continue };
        rest = format!("{before}{}", own.split_once(" defer></script>").unwrap().1);
    }
    rest
}

#[tokio::test]
async fn no_text_of_others_becomes_a_part_of_a_page() {
    let life = Life::new().await;
    let console = Console::start(&life.database.url).await;
    let mut shown = 0;
    for path in all_pages(&life).await {
        let body = without_own_scripts(&console.page(&path).await.body);
        for piece in ["<script", "<img", "onerror=alert(2)>"] {
            assert!(!body.contains(piece), "{path}: {piece}");
        }
        // The form holds what was asked for as it is, and a browser shows it as a value.
        let around_values: String =
            body.split(" value=\"").map(|part| part.split_once('"').map_or(part, |(_, rest)| rest)).collect();
        assert!(!around_values.contains('\u{202e}'), "{path}");
        shown += body.matches("alert(1)").count();
        assert!(!body.contains(" style=") && !body.contains("javascript:") && !body.contains("<style"), "{path}");
    }
    assert!(shown > 20, "{shown}: it is there, as a text");
}

#[tokio::test]
async fn where_a_right_is_missing_the_page_says_which_role_it_needs_and_shows_the_rest() {
    let life = Life::new().await;
    let auditor = Console::start(&life.database.login(&["postcall_auditor"]).await).await;
    let words = auditor.page("/agents/voice-support").await.words();
    let expected = [
        "URLs, headers and bodies:",
        "the role postcall_publisher",
        "crm enabled",
        "POST http://127.0.0.1",
        "timeout 5,000 ms",
    ];
    says(&words, &expected);
    assert!(!words.contains("api_key") && !words.contains("${callInfo"), "{words}");
    let id = life.delivery("action = 'crm' AND call_sid = 'CA5f0e2b'").await;
    let words = auditor.page(&format!("/deliveries/{id}")).await.words();
    says(
        &words,
        &["recorded as delivered", "Headers and body are not shown", "They need", "What came back status 201"],
    );
    assert!(!words.contains("parcel"), "{words}");
    // A user who may read the ledger and nothing else.
    let nobody = life.database.login(&[]).await;
    let user = nobody.split(['/', '@']).nth(2).unwrap();
    let grant =
        format!("GRANT USAGE ON SCHEMA postcall TO {user}; GRANT SELECT ON postcall._sqlx_migrations TO {user}");
    life.database.execute(&grant).await;
    let nobody = Console::start(&nobody).await;
    let words = nobody.page("/").await.words();
    says(
        &words,
        &["The status cannot be read.", "needs a database user with the role postcall_auditor", "There are partitions"],
    );
    for path in ["/deliveries", "/agents"] {
        says(&nobody.page(path).await.words(), &["needs a database user with the role postcall_auditor"]);
    }
    let refused = nobody.get(&format!("/deliveries/{id}")).await;
    assert_eq!(refused.status, 403);
    says(&refused.words(), &["A right is missing", "postcall_auditor"]);
}

#[tokio::test]
async fn of_a_disabled_action_its_pages_say_who_disabled_it_when_and_why() {
    let life = Life::new().await;
    let order = [
        "action",
        "disable",
        "voice-support",
        "--name",
        "crm",
        "--by",
        "Ada Lovelace",
        "--reason",
        "their <b>form</b> changed",
    ];
    let output = crate::support::process::postcall_on(&life.database, &order);
    assert!(output.status.success(), "{}", crate::support::process::stderr(&output));
    let said = "by Ada Lovelace: their <b>form</b> changed";
    let auditor = Console::start(&life.database.login(&["postcall_auditor"]).await).await;
    let words = auditor.page("/agents/voice-support").await.words();
    says(&words, &["crm disabled", "disabled since 20", said]);
    assert_eq!(words.matches("disabled since 20").count(), 2, "what is enabled is not disabled by anybody: {words}");
    let author = Console::start_with(&life.database.url, &["--write", "--as", "Grace"]).await;
    for page in ["/versions", "/change/action"] {
        let page = author.page(&format!("{page}?agent=voice-support&name=crm")).await.words();
        says(&page, &["Disabled since 20", said]);
    }
    let viewer = Console::start(&life.database.login(&["postcall_console_viewer"]).await).await;
    let words = viewer.page("/agents/voice-support").await.words();
    says(&words, &["Who disabled actions:", "the role postcall_auditor", "crm disabled"]);
    assert!(!words.contains("Ada Lovelace"), "{words}");
}
