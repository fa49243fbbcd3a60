//! What is printed: texts of others can do nothing to a terminal, programs get them exactly, and spreadsheets run none
//! of them.

use std::process::Output;

use serde_json::{Value, json};

use crate::support::database::Database;
use crate::support::process::{postcall_on, stderr, stdout};

/// Clears a screen, moves up, begins a line, turns what follows around, hides, and rings.
const HOSTILE: &str =
    "x\u{1b}[2J\u{1b}[1A\r\nFORGED row\u{2028}FORGED\u{85}FORGED\u{202e}\u{2066}\u{200b}\u{7}\u{9b}31m\tend";

/// A database in which every text of others is hostile, and the delivery that is in doubt.
async fn hostile() -> (Database, String) {
    let database = Database::new().await;
    let bound = database.pool.clone();
    let run = async |sql: &str| {
        sqlx::query(sqlx::AssertSqlSafe(sql)).bind(HOSTILE).execute(&bound).await.unwrap();
    };
    run("WITH action AS (INSERT INTO postcall.action (agent, name, enabled, version) VALUES ($1, $1, true, 1) RETURNING *)
         INSERT INTO postcall.action_version (action_id, version, method, url, timeout_ms, headers, body, published_by)
         SELECT action_id, 1, 'POST', 'https://receiver.example/?' || $1, 1000, '{\"x\": \"y\"}', '\"${text}\"', $1 FROM action")
    .await;
    run("INSERT INTO postcall.dispatcher (name, version, lease_until) VALUES ($1, '1', now())").await;
    let call = json!({"callInfo": {"callSid": HOSTILE}, "text": HOSTILE});
    database.insert_call(HOSTILE, &call).await;
    run("WITH ended AS (DELETE FROM postcall.waiting RETURNING *)
         INSERT INTO postcall.delivery (delivery_id, call_id, claim, action_id, created_at, claimed_at, finished_at,
             action_version, dispatcher_id, agent, state, error_kind, error_detail, method, url, latency_ms, call_sid,
             unresolved)
         SELECT delivery_id, call_id, delivery_id, action_id, created_at, now(), now(), 1,
                (SELECT max(dispatcher_id) FROM postcall.dispatcher), agent, 'unknown', 'timeout', $1, 'POST', $1, 5,
                call_sid, ARRAY[$1, '=x'] FROM ended")
    .await;
    run("INSERT INTO postcall.replay (replay_of, replayed_by, reason) SELECT delivery_id, $1, $1 FROM postcall.delivery").await;
    run("INSERT INTO postcall.resolution (delivery_id, source, state, resolved_by, reason, method, url)
         SELECT delivery_id, 'claim', 'failed', $1, $1, 'POST', $1 FROM postcall.delivery")
    .await;
    let id = database.text("SELECT delivery_id::text FROM postcall.delivery").await.unwrap();
    (database, id)
}

/// Whether a terminal would do anything but show it, line by line, with nothing hidden.
fn is_plain(text: &str) -> bool {
    let acts = |c: char| {
        c != '\n'
            && (c.is_control()
                || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}'))
    };
    !text.contains(acts) && !text.lines().any(|line| line.starts_with("FORGED"))
}

#[tokio::test]
async fn no_text_of_others_acts_on_the_terminal_or_begins_a_line_of_its_own() {
    let (database, id) = hostile().await;
    let replay = database.text("SELECT delivery_id::text FROM postcall.replay").await.unwrap();
    let plain = |arguments: &[&str]| -> Output {
        let output = postcall_on(&database, arguments);
        for text in [stdout(&output), stderr(&output)] {
            assert!(is_plain(&text), "{arguments:?}: {text:?}");
        }
        output
    };
    let history = stdout(&plain(&["history"]));
    assert!(history.contains(r"\u{1b}[2J") && history.contains(r"\u{202e}"), "{history}");
    let rows = history.lines().filter(|line| line.trim_start().starts_with("20")).count();
    assert_eq!(rows, 2, "{history}");
    assert!(stdout(&plain(&["show", &id])).contains(r"because      x\u{1b}[2J"));
    plain(&["show", &replay]);
    assert!(stdout(&plain(&["action", "list"])).contains(r"\u{1b}"));
    plain(&["action", "show", HOSTILE, "--name", HOSTILE]);
    plain(&["action", "disable", HOSTILE, "--name", HOSTILE]);
    plain(&["action", "disable", HOSTILE, "--name", HOSTILE]);
    assert!(
        stderr(&plain(&["action", "enable", HOSTILE])).contains(r"\u{1b}[2J"),
        "an error quotes what was asked for"
    );
    plain(&["replay", "--agent", HOSTILE, "--reason", "r", "--dry-run"]);
    plain(&["replay", &replay, &id, "--reason", "r", "--dry-run"]);
    plain(&["resolve", &id, "--as", "failed", "--reason", "r", "--by", "Ada"]);
    assert!(plain(&["action", "enable", HOSTILE, "--name", HOSTILE]).status.success());
    database.execute("DELETE FROM postcall.waiting").await;
    database.insert_call(HOSTILE, &json!({})).await;
    database.execute("DELETE FROM postcall.waiting").await;
    let accounts = plain(&["check-invariants"]);
    assert!(stdout(&accounts).contains(r"\u{1b}[2J") && accounts.status.code() == Some(1), "{}", stdout(&accounts));
}

#[tokio::test]
async fn programs_get_every_text_exactly() {
    let (database, id) = hostile().await;
    let rows: Value = serde_json::from_str(&stdout(&postcall_on(&database, &["history", "--format", "json"]))).unwrap();
    let row = rows.as_array().unwrap().iter().find(|row| row["delivery_id"] == json!(id)).unwrap();
    for column in ["agent", "action", "call_sid", "dispatcher", "resolved_by", "resolution_reason"] {
        assert_eq!(row[column], json!(HOSTILE), "{column}");
    }
    // Nothing of what is no URL is kept in its place.
    assert_eq!(row["url"], json!("…"));
    let shown: Value = serde_json::from_str(&stdout(&postcall_on(&database, &["show", &id, "--json"]))).unwrap();
    assert_eq!(shown["agent"], json!(HOSTILE));
}

#[tokio::test]
async fn no_cell_of_a_csv_runs_in_a_spreadsheet_and_the_header_is_always_there() {
    let database = Database::new().await;
    let header = stdout(&postcall_on(&database, &["history", "--format", "csv"]));
    assert!(
        header.starts_with("\"delivery_id\",\"call_id\",\"call_sid\",\"agent\"") && header.lines().count() == 1,
        "{header}"
    );
    database.publish("=HYPERLINK(1)", "@x", &json!({"method": "POST", "url": "https://receiver.example/"})).await;
    database.insert_call("=HYPERLINK(1)", &json!({"callInfo": {"callSid": "+15551234567"}})).await;
    let (hostile, _) = hostile().await;
    let read = |database: &Database, arguments: &[&str]| -> Vec<Vec<String>> {
        let text = stdout(&postcall_on(database, arguments));
        let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(text.as_bytes());
        let cells = |record: csv::StringRecord| record.iter().map(str::to_owned).collect();
        reader.records().map(|record| cells(record.unwrap())).collect()
    };
    let rows = read(&database, &["history", "--format", "csv"]);
    let cell = |name: &str| rows[1][rows[0].iter().position(|column| column == name).unwrap()].as_str();
    assert_eq!([cell("agent"), cell("action"), cell("call_sid")], ["'=HYPERLINK(1)", "'@x", "'+15551234567"]);
    assert!(cell("queue_ms").parse::<i64>().is_ok() && cell("response_code").is_empty());
    let listed = read(&database, &["action", "list", "--format", "csv"]);
    assert_eq!((listed[1][0].as_str(), listed[1][2].as_str()), ("'=HYPERLINK(1)", "1"));
    for row in read(&hostile, &["history", "--format", "csv"]).iter().skip(1) {
        assert_eq!(row.len(), rows[0].len());
        assert!(row.iter().all(|cell| !cell.starts_with(['=', '+', '@', '\t', '\r'])), "{row:?}");
    }
    let rows = read(&hostile, &["history", "--format", "csv", "--state", "failed"]);
    let unresolved = &rows[1][rows[0].iter().position(|column| column == "unresolved").unwrap()];
    // Of what was given up unsent nothing is told of the attempt, so the recorded one is looked at.
    assert_eq!(unresolved, "");
    hostile
        .execute(
            "ALTER TABLE postcall.resolution DISABLE TRIGGER evidence_is_immutable; DELETE FROM postcall.resolution",
        )
        .await;
    let rows = read(&hostile, &["history", "--format", "csv", "--state", "unknown"]);
    let unresolved = &rows[1][rows[0].iter().position(|column| column == "unresolved").unwrap()];
    assert_eq!(serde_json::from_str::<Value>(unresolved).unwrap(), json!([HOSTILE, "=x"]));
}

#[tokio::test]
async fn no_text_of_others_in_a_csv_acts_on_a_terminal_or_turns_what_stands_beside_it() {
    let (database, _) = hostile().await;
    for arguments in
        [&["history", "--format", "csv"][..], &["action", "list", "--format", "csv"], &["audit", "--format", "csv"]]
    {
        let text = stdout(&postcall_on(&database, arguments));
        // Line breaks and tabs stand for themselves, within quotes.
        let acts = |c: char| {
            (c.is_control() && !matches!(c, '\n' | '\r' | '\t'))
                || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}')
        };
        assert!(text.contains("FORGED") && !text.contains(acts), "{arguments:?}: {text:?}");
        assert!(text.contains(r"\u{202e}"), "{arguments:?}: {text:?}");
    }
}
