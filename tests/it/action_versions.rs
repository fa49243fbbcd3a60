//! The versions of an action: an identical one is not made again, each has its reason, and what changed is told.

use std::process::Output;

use postcall::domain::action_file::ActionFile;
use postcall::store::publish::{Publication, Published};
use serde_json::{Value, json};

use crate::support::database::Database;
use crate::support::process::{file, postcall_at, postcall_on, stderr, stdout};

fn action(more: Value) -> tempfile::NamedTempFile {
    let mut action = json!({"method": "POST", "url": "https://a.example/"});
    action.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    file(&action.to_string())
}

fn publish(database: &Database, file: &tempfile::NamedTempFile, more: &[&str]) -> Output {
    postcall_on(database, &[&["action", "publish", "a", file.path().to_str().unwrap(), "--by", "Ada"], more].concat())
}

/// What a command prints, if it succeeds.
fn said(output: &Output) -> String {
    assert!(output.status.success(), "{}", stderr(output));
    stdout(output)
}

#[tokio::test]
async fn a_version_that_is_the_same_as_the_newest_is_not_made_again_and_this_is_said() {
    let database = Database::new().await;
    let (first, second) = (action(json!({"body": "[1]"})), action(json!({"body": "[2]"})));
    said(&publish(&database, &first, &[]));
    let same = "a default version 1 is the same already; nothing was published";
    assert_eq!(said(&publish(&database, &first, &[])), format!("{same} (enabled, as before)\n"));
    // Only the newest counts: an older one that is published again is a new version.
    assert_eq!(said(&publish(&database, &second, &[])), "published a default version 2 (enabled)\n");
    assert_eq!(said(&publish(&database, &first, &[])), "published a default version 3 (enabled)\n");
    assert_eq!(database.number("SELECT count(*) FROM postcall.action_version").await, 3);
    // Whether the action is enabled is no part of a version, but is what the file says.
    let disabled = action(json!({"body": "[1]", "enabled": false}));
    let same = "a default version 3 is the same already; nothing was published";
    assert_eq!(said(&publish(&database, &disabled, &["--reason", "r"])), format!("{same}, but it is now disabled\n"));
    assert_eq!(said(&publish(&database, &disabled, &[])), format!("{same} (disabled, as before)\n"));
    let switches =
        "SELECT json_agg(json_build_array(enabled, reason) ORDER BY switch_id)::text FROM postcall.action_switch";
    let switches: Value = serde_json::from_str(&database.text(switches).await.unwrap()).unwrap();
    assert_eq!(switches, json!([[true, null], [false, "r"]]));
}

#[tokio::test]
async fn each_field_of_a_version_makes_another_one_of_it() {
    let database = Database::new().await;
    let actions = [
        json!({}),
        json!({"body": "[]"}),
        json!({"body": "[] "}),
        json!({"headers": {}}),
        json!({"url": "https://a.example/b"}),
        json!({"timeout": 15_001}),
        json!({"method": "PUT"}),
    ];
    let mut whole = json!({});
    for (version, more) in (1..).zip(actions) {
        whole.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let published = said(&publish(&database, &action(whole.clone()), &[]));
        assert_eq!(published, format!("published a default version {version} (enabled)\n"));
    }
}

#[tokio::test]
async fn of_people_who_publish_the_same_at_once_one_makes_a_version_and_the_others_find_it() {
    let database = Database::new().await;
    let spec = |url: &str| ActionFile::parse(&json!({"method": "GET", "url": url}).to_string()).unwrap().spec;
    let publish = |url: &'static str| {
        let (store, spec) = (database.store.clone(), spec(url));
        let publication = move || async move {
            let new =
                Publication { agent: "a", name: "default", spec: &spec, enabled: true, by: "the test", reason: None };
            store.publish(&new).await.unwrap()
        };
        tokio::spawn(publication())
    };
    // All of them wait for the lock of somebody else before the first one can go on.
    let waiting =
        "SELECT count(*) = 4 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    let obstacles = [
        "INSERT INTO postcall.action (agent, name, enabled, version) VALUES ('a', 'default', true, 1)",
        "SELECT FROM postcall.action FOR UPDATE",
    ];
    for (round, obstacle) in obstacles.into_iter().enumerate() {
        let mut other = database.pool.begin().await.unwrap();
        sqlx::raw_sql(obstacle).execute(&mut *other).await.unwrap();
        let url = ["https://a.example/", "https://b.example/"][round];
        let publishers: Vec<_> = (0..4).map(|_| publish(url)).collect();
        database.until(waiting).await;
        // The first round's action never comes to be; the second one's is only let go.
        other.rollback().await.unwrap();
        let mut published = Vec::new();
        for publisher in publishers {
            published.push(publisher.await.unwrap());
        }
        let version = i32::try_from(round).unwrap() + 1;
        let made = published.iter().filter(|one| **one == Published::New { version }).count();
        let found = published.iter().filter(|one| **one == Published::Same { version, switched: false }).count();
        assert_eq!((made, found), (1, 3), "{published:?}");
    }
    assert_eq!(database.number("SELECT count(*) FROM postcall.action_version").await, 2);
}

#[tokio::test]
async fn why_an_action_was_published_or_switched_is_recorded_and_shown_with_it() {
    let database = Database::new().await;
    let url = database.login(&["postcall_publisher"]).await;
    let run = |arguments: &[&str]| postcall_at(&url, &[&["action"], arguments].concat());
    let file = action(json!({}));
    let path = file.path().to_str().unwrap();
    said(&run(&["publish", "a", path, "--reason", " the CRM moved "]));
    let shown = || stderr(&run(&["show", "a"]));
    assert!(
        shown().contains("): the CRM moved\nenabled since ") && shown().ends_with("): the CRM moved\n"),
        "{}",
        shown()
    );
    said(&run(&["disable", "a", "--reason", "too\u{202e} many"]));
    assert!(shown().contains("disabled since ") && shown().ends_with("): too\\u{202e} many\n"), "{}", shown());
    said(&run(&["enable", "a"]));
    let listed: Value = serde_json::from_str(&said(&run(&["list", "a", "--format", "json"]))).unwrap();
    assert_eq!(
        (&listed[0]["published_reason"], &listed[0]["switched_reason"]),
        (&json!("the CRM moved"), &Value::Null)
    );
    // Auditors read reasons; they do not read templates.
    let mut auditor = database.connect_as(&["postcall_auditor"]).await;
    let reasons = "SELECT count(reason) FROM (SELECT reason FROM postcall.action_version UNION ALL
                                              SELECT reason FROM postcall.action_switch) AS all_reasons";
    let count: i64 = sqlx::query_scalar(reasons).fetch_one(&mut auditor).await.unwrap();
    assert_eq!(count, 3);
}

#[tokio::test]
async fn a_reason_that_cannot_be_kept_is_refused_before_anything_is_done() {
    let database = Database::new().await;
    let file = action(json!({}));
    let longest = "ü".repeat(1_000);
    for (reason, words) in [
        (format!("{longest}x"), "at most 1000"),
        ("a\nb".to_owned(), "control characters"),
        ("a\u{1b}[31mb".to_owned(), "control characters"),
        (" ".to_owned(), "must not be empty"),
    ] {
        for command in [&["publish", "a", file.path().to_str().unwrap()][..], &["enable", "a"], &["disable", "a"]] {
            let output = postcall_on(&database, &[&["action"], command, &["--reason", &reason]].concat());
            assert_eq!(output.status.code(), Some(2), "{command:?}");
            assert!(stderr(&output).contains(words), "{}", stderr(&output));
        }
    }
    assert_eq!(database.number("SELECT count(*) FROM postcall.action").await, 0);
    said(&publish(&database, &file, &["--reason", &longest]));
    assert_eq!(database.text("SELECT reason FROM postcall.action_version").await, Some(longest.clone()));
    // What a session says by itself is cut, and takes nothing from whoever switches.
    let mut publisher = database.connect_as(&["postcall_publisher"]).await;
    let switch =
        "SELECT set_config('postcall.reason', repeat('ü', 100000), false); UPDATE postcall.action SET enabled = false";
    sqlx::raw_sql(switch).execute(&mut publisher).await.unwrap();
    assert_eq!(
        database.text("SELECT reason FROM postcall.action_switch ORDER BY switch_id DESC LIMIT 1").await,
        Some(longest)
    );
    for (sql, constraint) in [
        (
            "INSERT INTO postcall.action_version SELECT 1, 2, method, url, timeout_ms, headers, body, now(), 'x', 'x', '' \
          FROM postcall.action_version",
            "version_reason_has_1_to_1000_characters",
        ),
        (
            "INSERT INTO postcall.action_switch (action_id, enabled, reason) VALUES (1, true, repeat('x', 1001))",
            "switch_reason_has_1_to_1000_characters",
        ),
    ] {
        assert!(database.error_of(sql).await.contains(constraint), "{constraint}");
    }
}

#[tokio::test]
async fn versions_are_listed_from_the_newest_in_pages_with_who_why_and_what_changed() {
    let database = Database::new().await;
    let url = database.login(&["postcall_publisher"]).await;
    let user = url.split(['/', '@']).nth(2).unwrap();
    let run = |arguments: &[&str]| postcall_at(&url, &[&["action"], arguments].concat());
    let actions = [
        json!({}),
        json!({"timeout": 5_000, "method": "PUT"}),
        json!({"timeout": 5_000, "method": "PUT", "body": "[]"}),
        json!({"headers": {}, "url": "https://b.example/", "timeout": 5_000, "method": "PUT", "body": "[]"}),
    ];
    for more in actions {
        said(&run(&["publish", "a", action(more).path().to_str().unwrap(), "--by", "Ada", "--reason", "=1+1"]));
    }
    // Another action's versions are not among them.
    said(&run(&["publish", "a", action(json!({})).path().to_str().unwrap(), "--name", "other"]));
    let output = run(&["versions", "a", "--format", "json"]);
    let versions: Value = serde_json::from_str(&said(&output)).unwrap();
    assert_eq!(stderr(&output), "");
    let changed: Vec<_> = versions.as_array().unwrap().iter().map(|one| (&one["version"], &one["changed"])).collect();
    let expected = [
        (&json!(4), &json!(["url", "headers"])),
        (&json!(3), &json!(["body"])),
        (&json!(2), &json!(["method", "timeout"])),
        (&json!(1), &Value::Null),
    ];
    assert_eq!(changed, expected);
    let by = ["published_by", "published_db_user", "published_reason"].map(|field| versions[3][field].clone());
    assert_eq!(by, [json!("Ada"), json!(user), json!("=1+1")]);
    let table = said(&run(&["versions", "a"]));
    assert!(
        table.contains("method POST → PUT, timeout 15000 → 5000 ms") && table.contains("the first version"),
        "{table}"
    );
    assert!(table.contains(&format!("Ada (database user {user})")), "{table}");
    let csv = said(&run(&["versions", "a", "--format", "csv", "--limit", "1"]));
    assert_eq!(csv.lines().next(), Some("\"version\",\"published\",\"by\",\"reason\",\"changed\""));
    assert!(csv.contains("\"'=1+1\",\"url, headers\""), "{csv}");
    // Pages.
    let page = |arguments: &[&str]| {
        let output = run(&[&["versions", "a", "--format", "json"], arguments].concat());
        let versions: Value = serde_json::from_str(&said(&output)).unwrap();
        let numbers: Vec<i64> =
            versions.as_array().unwrap().iter().map(|one| one["version"].as_i64().unwrap()).collect();
        (numbers, stderr(&output))
    };
    assert_eq!(page(&["--limit", "2"]), (vec![4, 3], "more: repeat with --before 3\n".to_owned()));
    assert_eq!(page(&["--limit", "2", "--before", "3"]), (vec![2, 1], String::new()));
    assert_eq!(page(&["--before", "1"]), (vec![], String::new()));
    assert_eq!(run(&["versions", "a", "--limit", "1001"]).status.code(), Some(2));
    let missing = run(&["versions", "a", "--name", "third"]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(stderr(&missing).contains("agent a has no action third"), "{}", stderr(&missing));
}

#[tokio::test]
async fn what_differs_between_two_versions_is_shown_line_by_line() {
    let database = Database::new().await;
    let run = |arguments: &[&str]| postcall_on(&database, &[&["action"], arguments].concat());
    said(&publish(&database, &action(json!({"body": "{\n\"a\": 1\n}"})), &[]));
    let first = run(&["diff", "a"]);
    assert_eq!(first.status.code(), Some(1));
    assert!(stderr(&first).contains("version 1 is the first one"), "{}", stderr(&first));
    said(&publish(&database, &action(json!({"body": "{\n\"a\": 2\n}"})), &["--reason", "two"]));
    said(&publish(&database, &action(json!({"body": "{\n\"a\": 2\n}", "timeout": 500})), &[]));
    let lines = |arguments: &[&str]| {
        let text = said(&run(&[&["diff", "a"], arguments].concat()));
        text.lines().filter(|line| line.starts_with(['+', '-', 'v'])).map(str::to_owned).collect::<Vec<_>>()
    };
    let newest = lines(&[]);
    assert!(
        newest[0].starts_with("--- a default version 2, published 2") && newest[0].ends_with("): two"),
        "{newest:?}"
    );
    assert!(newest[1].starts_with("+++ a default version 3, published 2"), "{newest:?}");
    assert_eq!(newest[2..], ["-timeout: 15000", "+timeout: 500"]);
    assert_eq!(lines(&["1", "2"])[2..], ["-  \"a\": 1", "+  \"a\": 2"]);
    assert_eq!(lines(&["1"])[2..], ["-timeout: 15000", "+timeout: 500", "-  \"a\": 1", "+  \"a\": 2"]);
    assert_eq!(lines(&["2", "1"])[2..], ["-  \"a\": 2", "+  \"a\": 1"]);
    assert_eq!(lines(&["2", "2"]), ["versions 2 and 2 are the same"]);
    let missing = run(&["diff", "a", "1", "9"]);
    assert!(missing.status.code() == Some(1) && stderr(&missing).contains("has no action default version 9"));
}

#[tokio::test]
async fn whoever_may_not_read_templates_sees_who_published_what_and_that_it_changed_and_nothing_of_the_templates() {
    let database = Database::new().await;
    let (url, user) = (database.login(&["postcall_auditor"]).await, database.login(&["postcall_publisher"]).await);
    let first = json!({"url": "https://a.example/path-of-ours", "body": "[\"word-of-ours\"]"});
    let second = json!({"url": "https://a.example/path-of-ours", "body": "[\"other-of-ours\"]"});
    let third = json!({"url": "https://a.example/path-of-ours", "body": "[\"other-of-ours\"]", "timeout": 5_000});
    for more in [first, second, third] {
        let file = action(more);
        let publish =
            ["action", "publish", "a", file.path().to_str().unwrap(), "--by", "Ada", "--reason", "they asked"];
        said(&postcall_at(&user, &publish));
    }
    let run = |arguments: &[&str]| postcall_at(&url, &[&["action"], arguments].concat());
    let listed = run(&["list", "--format", "json"]);
    let objects: Value = serde_json::from_str(&said(&listed)).unwrap();
    let fields =
        ["agent", "name", "version", "enabled", "method", "origin", "timeout", "published_by", "published_reason"];
    assert_eq!(
        fields.map(|field| objects[0][field].clone()),
        [
            json!("a"),
            json!("default"),
            json!(3),
            json!(true),
            json!("POST"),
            json!("https://a.example"),
            json!(5_000),
            json!("Ada"),
            json!("they asked")
        ]
    );
    let digest = "SELECT encode(postcall.version_digest(action_id, 3), 'hex') FROM postcall.action";
    assert_eq!(objects[0]["digest"].as_str(), database.text(digest).await.as_deref());
    let versions = run(&["versions", "a", "--format", "json"]);
    let objects: Value = serde_json::from_str(&said(&versions)).unwrap();
    let changed: Vec<&Value> = objects.as_array().unwrap().iter().map(|one| &one["changed"]).collect();
    assert_eq!(changed, [&json!(["timeout"]), &json!(["templates"]), &Value::Null]);
    let tables = [run(&["list"]), run(&["versions", "a"])];
    assert!(said(&tables[0]).contains("https://a.example") && said(&tables[1]).contains("templates"));
    for output in tables.iter().chain([&listed, &versions]) {
        let all = stdout(output) + &stderr(output);
        assert!(!all.contains("of-ours"), "{all}");
    }
    for refused in [&["show", "a"][..], &["diff", "a"]] {
        assert!(stderr(&run(refused)).contains("permission denied"), "{}", stderr(&run(refused)));
    }
}
