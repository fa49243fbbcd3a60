//! Publishing, and what else people do by hand: the role postcall_publisher is enough, no other role is, and it stays
//! recorded who did it.

use std::process::Output;

use serde_json::{Value, json};

use crate::support::database::Database;
use crate::support::endings::ended;
use crate::support::process::{file, postcall, postcall_at, stderr, stdout};

fn action_file() -> tempfile::NamedTempFile {
    file(&json!({"method": "POST", "url": "https://api.example.com/hook"}).to_string())
}

fn path(file: &tempfile::NamedTempFile) -> &str {
    file.path().to_str().unwrap()
}

fn user_of(url: &str) -> &str {
    url.split(['/', '@']).nth(2).unwrap()
}

fn succeeds(output: Output) -> String {
    assert!(output.status.success(), "{}", stderr(&output));
    stdout(&output)
}

#[tokio::test]
async fn a_publisher_does_with_the_role_alone_all_that_people_do_by_hand_and_is_named() {
    let database = Database::new().await;
    let url = database.login(&["postcall_publisher"]).await;
    let action = action_file();
    let run = |arguments: &[&str]| succeeds(postcall_at(&url, arguments));
    run(&["action", "check", path(&action)]);
    run(&["action", "publish", "a", path(&action), "--by", "Ada"]);
    // A version that is the same would not be made again.
    let changed = file(&json!({"method": "POST", "url": "https://api.example.com/other"}).to_string());
    run(&["action", "publish", "a", path(&changed), "--by", "Grace"]);
    run(&["action", "disable", "a", "--by", "Bob"]);
    run(&["action", "enable", "a", "--by", "Eve"]);
    let unknown = ended(&database, "unknown", 1).await.remove(0);
    let failed = ended(&database, "failed", 2).await;
    assert_eq!(
        run(&["replay", "--state", "failed", "--reason", "r", "--dry-run"]).lines().last().unwrap(),
        "would replay 2: 2 failed"
    );
    run(&["replay", &failed[0], "--reason", "r", "--by", "Ada"]);
    assert_eq!(run(&["replay", "--state", "failed", "--reason", "r", "--by", "Ada"]), "replayed 1\n");
    run(&["resolve", &unknown, "--as", "delivered", "--reason", "r", "--by", "Ada"]);
    assert_eq!(run(&["history"]).lines().count(), 6);
    run(&["show", &unknown]);
    run(&["check-invariants"]);
    let user = user_of(&url);
    for (table, expected) in [
        ("action_version ORDER BY version", json!([["Ada", user], ["Grace", user]])),
        ("action_switch ORDER BY switch_id", json!([["Ada", user], ["Bob", user], ["Eve", user]])),
        ("replay", json!([["Ada", user], ["Ada", user]])),
        ("resolution", json!([["Ada", user]])),
    ] {
        let person = match table.split(' ').next().unwrap() {
            "action_version" => "published_by",
            "action_switch" => "switched_by",
            "replay" => "replayed_by",
            _ => "resolved_by",
        };
        let sql = format!(
            "SELECT json_agg(json_build_array({person}, db_user))::text FROM (SELECT * FROM postcall.{table}) AS t"
        );
        let found: Value = serde_json::from_str(&database.text(&sql).await.unwrap()).unwrap();
        assert_eq!(found, expected, "{table}");
    }
    // Both are shown.
    let listed: Value = serde_json::from_str(&run(&["action", "list", "--format", "json"])).unwrap();
    let shown =
        ["published_by", "published_db_user", "switched_by", "switched_db_user"].map(|field| listed[0][field].clone());
    assert_eq!(shown, [json!("Grace"), json!(user), json!("Eve"), json!(user)]);
    let shown = stderr(&postcall_at(&url, &["action", "show", "a"]));
    assert!(shown.contains(&format!("by Grace (database user {user})")), "{shown}");
    assert!(shown.contains(&format!("by Eve (database user {user})")), "{shown}");
}

#[tokio::test]
async fn what_people_do_by_hand_is_refused_to_every_other_role_in_words_that_name_the_one_that_is_needed() {
    let database = Database::new().await;
    let action = action_file();
    database.publish("a", "default", &json!({"method": "POST", "url": "https://receiver.example/"})).await;
    let unknown = &ended(&database, "unknown", 1).await[0];
    let commands: [&[&str]; 5] = [
        &["action", "publish", "a", path(&action)],
        &["action", "enable", "a"],
        &["action", "disable", "a"],
        &["replay", unknown, "--include-unknown", "--reason", "r"],
        &["resolve", unknown, "--as", "failed", "--reason", "r"],
    ];
    for roles in [&["postcall_platform"][..], &["postcall_dispatcher"], &["postcall_auditor"], &[]] {
        let url = database.login(roles).await;
        for command in commands {
            let output = postcall_at(&url, command);
            let words = stderr(&output);
            assert_eq!(output.status.code(), Some(1), "{roles:?} {command:?}");
            assert!(words.contains("permission denied"), "{roles:?} {command:?}: {words}");
            assert!(words.trim().ends_with("This needs a database user with the role postcall_publisher"), "{words}");
        }
    }
    let unchanged =
        "SELECT (SELECT count(*) FROM postcall.action_version) + (SELECT count(*) FROM postcall.action_switch)
                          + (SELECT count(*) FROM postcall.replay) + (SELECT count(*) FROM postcall.resolution)";
    assert_eq!(database.number(unchanged).await, 2);
    let auditor = database.login(&["postcall_auditor"]).await;
    for command in [&["history"][..], &["show", unknown], &["check-invariants"]] {
        succeeds(postcall_at(&auditor, command));
    }
    let nobody = database.login(&[]).await;
    let words = stderr(&postcall_at(&nobody, &["history"]));
    assert!(words.contains("This needs a database user with the role postcall_auditor"), "{words}");
}

#[tokio::test]
async fn names_and_reasons_that_cannot_be_kept_are_refused_before_anything_is_done() {
    let database = Database::new().await;
    let url = database.login(&["postcall_publisher"]).await;
    let action = action_file();
    let id = "01a20a0c-146c-7e1c-9aa8-e0f101fcdd31";
    for (by, words) in [
        ("x".repeat(201), "at most 200"),
        ("a\u{1b}[31mb".to_owned(), "control characters"),
        ("a\nb".to_owned(), "control characters"),
        (" ".to_owned(), "must not be empty"),
    ] {
        for command in [
            &["action", "publish", "a", path(&action)][..],
            &["action", "enable", "a"],
            &["action", "disable", "a"],
            &["resolve", id, "--as", "failed", "--reason", "r"],
            &["replay", id, "--reason", "r"],
        ] {
            let output = postcall_at(&url, &[command, &["--by", &by]].concat());
            assert_eq!(output.status.code(), Some(2), "{command:?}");
            assert!(stderr(&output).contains(words), "{}", stderr(&output));
        }
    }
    let reason = "ü".repeat(1_001);
    for command in [&["resolve", id, "--as", "failed"][..], &["replay", id]] {
        let output = postcall_at(&url, &[command, &["--reason", &reason]].concat());
        assert!(output.status.code() == Some(2) && stderr(&output).contains("at most 1000"), "{}", stderr(&output));
    }
    // The longest that can be kept is kept.
    let longest = "ü".repeat(200);
    succeeds(postcall_at(&url, &["action", "publish", "a", path(&action), "--by", &longest]));
    assert_eq!(database.text("SELECT switched_by FROM postcall.action_switch").await, Some(longest));
    // What a session says by itself is cut, and takes nothing from whoever switches.
    let mut publisher = database.connect_as(&["postcall_publisher"]).await;
    let sql =
        "SELECT set_config('postcall.person', repeat('x', 100000), false); UPDATE postcall.action SET enabled = false";
    sqlx::raw_sql(sql).execute(&mut publisher).await.unwrap();
    assert_eq!(database.number("SELECT max(char_length(switched_by))::bigint FROM postcall.action_switch").await, 200);
}

#[tokio::test]
async fn an_agent_or_action_whose_name_cannot_be_kept_is_refused_with_field_and_cure() {
    let database = Database::new().await;
    let action = action_file();
    let publish = |agent: &str, name: &str| {
        postcall_at(&database.url, &["action", "publish", agent, path(&action), "--name", name])
    };
    for (agent, name, words) in [
        (
            "ä".repeat(201),
            "n".to_owned(),
            "agent: it has 201 characters, at most 200 can be kept: choose a shorter one",
        ),
        ("a".to_owned(), "ä".repeat(101), "name: it has 101 characters, at most 100 can be kept: choose a shorter one"),
        (String::new(), "n".to_owned(), "agent: it must not be empty"),
        ("a".to_owned(), String::new(), "name: it must not be empty"),
    ] {
        let output = publish(&agent, &name);
        assert_eq!(output.status.code(), Some(1));
        assert!(stderr(&output).contains(words) && stderr(&output).contains("not published"), "{}", stderr(&output));
    }
    assert_eq!(database.number("SELECT count(*) FROM postcall.action").await, 0);
    // An agent is called what the platform calls it.
    for agent in ["ä".repeat(200).as_str(), " ", "a\u{7}b", "a\nb", "\u{202e}a"] {
        succeeds(publish(agent, &"ä".repeat(100)));
        database.insert_call(agent, &json!({})).await;
    }
    assert_eq!(database.number("SELECT count(*) FROM postcall.waiting").await, 5);
}

#[test]
fn targets_that_dispatchers_refuse_by_default_draw_a_warning_and_no_more() {
    let checked = |url: &str| {
        let action = file(&json!({"method": "POST", "url": url}).to_string());
        let output = postcall(&["action", "check", path(&action)]);
        assert_eq!(stdout(&output), "the action is well formed\n");
        assert!(output.status.success());
        stderr(&output)
    };
    assert_eq!(checked("https://api.example.com/${callInfo.callSid}?x=${context['#']}"), "");
    for url in ["https://10.1.2.3/${context.b}", "https://[::1]:8443/", "https://localhost/x", "https://2130706433/"] {
        let words = checked(url);
        assert!(words.starts_with("warning: url: ") && words.contains("--allow-target"), "{url}: {words}");
        assert_eq!(words.lines().count(), 1, "{words}");
    }
    let words = checked("http://api.example.com/");
    assert!(words.contains("warning: url: plain http is refused") && words.contains("--allow-http"), "{words}");
    assert_eq!(checked("http://127.0.0.1/").lines().count(), 2);
}

#[tokio::test]
async fn publishing_warns_of_what_dispatchers_refuse_by_default() {
    let database = Database::new().await;
    let action = file(&json!({"method": "POST", "url": "http://10.1.2.3/"}).to_string());
    let output = postcall_at(&database.url, &["action", "publish", "a", path(&action)]);
    assert_eq!(stdout(&output), "published a default version 1 (enabled)\n");
    assert_eq!(stderr(&output).matches("warning: url: ").count(), 2, "{}", stderr(&output));
}
