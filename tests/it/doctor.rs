//! `postcall doctor`: an installation that works has no problem, and each thing that is wrong is named with its cure.

use std::net::TcpListener;
use std::process::Output;

use serde_json::{Value, json};

use crate::support::database::Database;
use crate::support::process::{Dispatcher, POSTCALL, postcall_at, stderr, stdout};

/// The checks as they are printed.
fn checks(output: &Output) -> Vec<Value> {
    serde_json::from_str(&stdout(output)).unwrap_or_else(|error| panic!("{error}: {}", stderr(output)))
}

fn checked(url: &str) -> Vec<Value> {
    checks(&postcall_at(url, &["doctor", "--json"]))
}

/// The verdict of one check, and what was found; of several of that name the first that is not ok.
fn verdict<'a>(checks: &'a [Value], what: &str) -> (&'a str, &'a str) {
    let named = || checks.iter().filter(|check| check["what"] == what);
    let check = named().find(|check| check["verdict"] != "ok").or(named().next());
    let check = check.unwrap_or_else(|| panic!("{what} is not among {checks:?}"));
    assert_eq!(check["cure"].is_string(), check["verdict"] != "ok", "{check}");
    (check["verdict"].as_str().unwrap(), check["found"].as_str().unwrap())
}

#[tokio::test]
async fn an_installation_that_works_has_no_problem() {
    let database = Database::new().await;
    let url = database.login(&["postcall_dispatcher"]).await;
    let _dispatcher = Dispatcher::start_at(&url, &[]).await;
    let checks = checked(&url);
    for what in ["database", "server", "user", "clocks", "schema", "guards", "partitions", "dispatchers"] {
        assert_eq!(verdict(&checks, what).0, "ok", "{checks:?}");
    }
    for role in ["postcall_auditor", "postcall_publisher"] {
        let checks = checked(&database.login(&[role]).await);
        assert_eq!((verdict(&checks, "user").0, verdict(&checks, "schema").0), ("ok", "ok"), "{role}: {checks:?}");
    }
    // Whoever owns the schema is told that others need less.
    assert_eq!(verdict(&checked(&database.url), "user").0, "warning");
}

#[tokio::test]
async fn whatever_is_wrong_is_named_and_the_exit_status_says_so() {
    let database = Database::new().await;
    database
        .execute(
            "ALTER TABLE postcall.delivery DISABLE TRIGGER history_is_immutable;
             DO $$ BEGIN EXECUTE 'DROP TABLE postcall.outbox_' || to_char(date_trunc('week', now()), 'YYYYMMDD'); END $$",
        )
        .await;
    let output = postcall_at(&database.url, &["doctor", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let found = checks(&output);
    let guards = verdict(&found, "guards");
    assert!(guards.0 == "problem" && guards.1.contains("history_is_immutable is switched off"), "{guards:?}");
    assert_eq!(verdict(&found, "partitions"), ("problem", "outbox has no partition for the present"));
    assert_eq!(verdict(&found, "dispatchers").0, "warning");
    let table = stdout(&postcall_at(&database.url, &["doctor"]));
    assert!(table.lines().any(|line| line.starts_with("problem  guards  ")), "{table}");

    // A call of a time for which there is no partition.
    let default = Database::new().await;
    let far = "INSERT INTO postcall.outbox (id, agent, call) VALUES (postcall.uuid_v7_floor('2039-12-31'), 'a', '{}')";
    default.execute(far).await;
    let checks = checked(&default.url);
    let partitions = verdict(&checks, "partitions");
    assert!(partitions.0 == "warning" && partitions.1.ends_with("has held rows (8192 bytes)"), "{partitions:?}");

    let nobody = database.login(&[]).await;
    let found = checked(&nobody);
    assert_eq!((verdict(&found, "user").0, verdict(&found, "schema").0), ("problem", "problem"));

    let empty = Database::empty().await;
    let schema = checked(&empty.url);
    assert!(verdict(&schema, "schema").1.contains("migrations are missing"), "{schema:?}");
}

#[tokio::test]
async fn that_nothing_is_sent_is_a_problem_exactly_if_something_waits() {
    let database = Database::new().await;
    let action = json!({"method": "POST", "url": "https://receiver.example/"});
    database.publish("a", "default", &action).await;
    for role in ["postcall_auditor", "postcall_publisher", "postcall_dispatcher"] {
        let url = database.login(&[role]).await;
        database.execute("DELETE FROM postcall.waiting").await;
        let idle = postcall_at(&url, &["doctor", "--json"]);
        assert_eq!(verdict(&checks(&idle), "dispatchers"), ("warning", "no dispatcher runs"), "{role}");
        assert!(idle.status.success(), "{role}: {}", stderr(&idle));
        database.insert_call("a", &json!({"callInfo": {}})).await;
        let waiting = postcall_at(&url, &["doctor", "--json"]);
        let expected = ("problem", "no dispatcher runs, and deliveries wait: nothing is sent");
        assert_eq!(verdict(&checks(&waiting), "dispatchers"), expected, "{role}");
        assert_eq!(waiting.status.code(), Some(1), "{role}");
    }
    let _dispatcher = Dispatcher::start(&database, &[]).await;
    assert_eq!(verdict(&checked(&database.url), "dispatchers").0, "ok");
}

#[tokio::test]
async fn before_the_schema_exists_nobody_is_advised_to_be_granted_a_role() {
    let empty = Database::empty().await;
    let found = checked(&empty.login(&[]).await);
    assert!(found.iter().all(|check| !check.to_string().contains("GRANT")), "{found:?}");
    assert_eq!(verdict(&found, "user").0, "ok");
    let schema = found.iter().find(|check| check["what"] == "schema").unwrap();
    assert!(schema["verdict"] == "problem" && schema["cure"].to_string().contains("postcall migrate"), "{schema}");
}

#[test]
fn a_database_that_cannot_be_reached_and_a_machine_without_root_certificates_are_problems() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut command = std::process::Command::new(POSTCALL);
    let url = format!("postgres://postgres@127.0.0.1:{port}/postcall");
    let without = [("DATABASE_URL", url.as_str()), ("SSL_CERT_FILE", "/nowhere.pem"), ("SSL_CERT_DIR", "/nowhere")];
    let output = command.envs(without).args(["doctor", "--json"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let found = checks(&output);
    let database = verdict(&found, "database");
    assert!(database.0 == "problem" && database.1.contains("Connection refused"), "{database:?}");
    assert_eq!(verdict(&found, "tls roots").0, "problem");
    assert_eq!(stderr(&output), "postcall: 2 of 2 checks found a problem\n");
}
