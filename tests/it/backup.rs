//! A backup of a running outbox, restored into another database (docs/backup.md): every call is accounted for, the guards are
//! those that were shipped, and what was sent after the backup is not sent again if the documented statement has put in doubt
//! what waited.

use std::path::Path;
use std::process::Output;

use nix::sys::signal::Signal;
use serde_json::json;
use tempfile::NamedTempFile;
use tokio::process::Command;

use crate::support::cluster::Cluster;
use crate::support::database::Database;
use crate::support::inbox::Inbox;
use crate::support::platform::complete_calls;
use crate::support::process::{Dispatcher, file, postcall_at, postcall_on, stderr, stdout};
use crate::support::sources::root;

const STATES: &str = "SELECT string_agg(state || ' ' || n, ', ' ORDER BY state)
                      FROM (SELECT state, count(*) AS n FROM postcall.delivery_history GROUP BY state) AS states";
/// Few places and the shortest lease, so that something is in flight and something waits.
const TWO_PLACES: [&str; 8] =
    ["--lease-ms", "1000", "--concurrency", "2", "--adapt-to-hosts", "false", "--max-unrecorded", "0"];

async fn database_with_action(inbox: &Inbox) -> Database {
    let database = Database::new().await;
    database.publish("a", "default", &json!({"method": "POST", "url": inbox.url("/")})).await;
    database
}

/// One of Postgres' own programs. It must succeed.
async fn run(program: &str, arguments: &[&str]) {
    let output = tried(program, arguments).await;
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
}

async fn tried(program: &str, arguments: &[&str]) -> Output {
    let programs = std::env::var("POSTGRES_BIN").expect("POSTGRES_BIN is not set: run the tests by scripts/test");
    Command::new(Path::new(&programs).join(program)).args(arguments).output().await.unwrap()
}

/// Dumps a database as docs/backup.md says.
async fn backup(database: &Database) -> NamedTempFile {
    let dump = file("");
    run("pg_dump", &["--format=custom", "--file", dump.path().to_str().unwrap(), &database.url]).await;
    dump
}

/// Restores a dump into a new database, as docs/backup.md says.
async fn restore(dump: &NamedTempFile) -> Database {
    let url = Database::created("TEMPLATE template0").await;
    run("pg_restore", &["--exit-on-error", "--dbname", &url, dump.path().to_str().unwrap()]).await;
    Database::at(url).await
}

/// The statement of docs/backup.md that puts in doubt what waits.
fn statement() -> String {
    let text = std::fs::read_to_string(root().join("docs/backup.md")).unwrap();
    let mut blocks = text.split("```sql\n").skip(1).filter_map(|rest| rest.split("```").next());
    blocks.find(|block| block.contains("DELETE FROM postcall.waiting")).expect("docs/backup.md has it").to_owned()
}

async fn every_call_is_accounted_for_in(database: &Database) {
    let auditor = database.login(&["postcall_auditor"]).await;
    let checked = postcall_at(&auditor, &["check-invariants"]);
    assert!(checked.status.success(), "{}{}", stdout(&checked), stderr(&checked));
}

/// Two deliveries in flight and three that wait, dumped; and after the dump, all five were sent. Gives the dump.
async fn dumped_before_five_were_sent(inbox: &Inbox) -> NamedTempFile {
    let database = database_with_action(inbox).await;
    for _ in 0..5 {
        database.insert_call("a", &json!({"callInfo": {"callSid": "CA5"}})).await;
    }
    let dispatcher = Dispatcher::start(&database, &TWO_PLACES).await;
    inbox.has(2).await;
    let dump = backup(&database).await;
    inbox.answer(5);
    database.settled().await;
    assert_eq!(database.text(STATES).await.unwrap(), "delivered 5");
    dispatcher.signal(Signal::SIGTERM);
    assert!(dispatcher.ended().await.0);
    dump
}

#[tokio::test]
async fn a_backup_of_a_running_outbox_accounts_for_every_call_wherever_it_is_restored() {
    let inbox = Inbox::open().await;
    let database = database_with_action(&inbox).await;
    let _dispatcher = Dispatcher::start(&database, &TWO_PLACES).await;
    let platform = complete_calls(&database.url, 500);
    database.until("SELECT count(*) > 50 FROM postcall.delivery").await;
    let dump = backup(&database).await;
    let copy = restore(&dump).await;
    every_call_is_accounted_for_in(&copy).await;
    platform.await.unwrap();
    let calls = copy.number("SELECT count(*) FROM postcall.outbox").await;
    assert!(calls > 50, "{calls}");
    let _heir = Dispatcher::start(&copy, &TWO_PLACES).await;
    copy.settled().await;
    every_call_is_accounted_for_in(&copy).await;
    assert_eq!(copy.number("SELECT count(*) FROM postcall.delivery").await, calls);
}

/// A server of its own, because roles belong to all databases of one.
#[tokio::test]
async fn each_command_of_a_backup_succeeds_for_the_users_whom_the_document_names_and_for_no_others() {
    let cluster = Cluster::start().await;
    cluster.execute("CREATE ROLE owner LOGIN CREATEROLE").await;
    cluster.execute("CREATE DATABASE voice OWNER owner").await;
    let superuser = cluster.url_of("voice");
    let (_, place) = superuser.split_once('@').unwrap();
    let url_of = |user: &str| format!("postgres://{user}@{place}");
    let migrated = postcall_at(&url_of("owner"), &["migrate"]);
    assert!(migrated.status.success(), "{}", stderr(&migrated));
    cluster.execute("CREATE ROLE auditor LOGIN; GRANT postcall_auditor TO auditor").await;
    let directory = tempfile::tempdir().unwrap();
    let into = directory.path().join("dump");
    let into = into.to_str().unwrap();
    for (user, program, arguments, succeeds) in [
        ("postgres", "pg_dump", &["--format=custom"][..], true),
        ("owner", "pg_dump", &["--format=custom"], true),
        ("auditor", "pg_dump", &["--format=custom"], false),
        ("postgres", "pg_dumpall", &["--roles-only"], true),
        ("owner", "pg_dumpall", &["--roles-only"], false),
        ("owner", "pg_dumpall", &["--roles-only", "--no-role-passwords"], true),
    ] {
        let url = url_of(user);
        let output = tried(program, &[arguments, &["--file", into, "--dbname", &url]].concat()).await;
        assert_eq!(output.status.success(), succeeds, "{program} as {user}: {}", stderr(&output));
    }
}

#[tokio::test]
async fn what_was_sent_after_the_backup_is_not_sent_again_once_what_waited_is_put_in_doubt() {
    let inbox = Inbox::holding().await;
    let dump = dumped_before_five_were_sent(&inbox).await;
    let copy = restore(&dump).await;
    assert_eq!(copy.text(STATES).await.unwrap(), "sending 2, waiting 3");
    copy.execute(&statement()).await;
    let _heir = Dispatcher::start(&copy, &TWO_PLACES).await;
    copy.until("SELECT count(*) = 5 FROM postcall.delivery_history WHERE state = 'unknown'").await;
    copy.settled().await;
    every_call_is_accounted_for_in(&copy).await;
    assert_eq!(inbox.received().len(), 5);
    let known = "SELECT DISTINCT concat_ws(' ', error_kind, call_sid) FROM postcall.delivery_history";
    assert_eq!(copy.text(known).await.unwrap(), "dispatcher_lost CA5");
    // What a person sends again is the same message to the receiver.
    inbox.answer(5);
    let again = ["replay", "--state", "unknown", "--include-unknown", "--reason", "the receiver lacks them"];
    let replayed = postcall_on(&copy, &again);
    assert!(replayed.status.success(), "{}", stderr(&replayed));
    inbox.has(10).await;
    assert_eq!(inbox.counts_by("webhook-id").into_values().collect::<Vec<_>>(), [2; 5]);
}

#[tokio::test]
async fn what_waits_in_a_backup_is_sent_again_as_the_same_message_and_what_was_in_flight_is_not() {
    let inbox = Inbox::holding().await;
    let dump = dumped_before_five_were_sent(&inbox).await;
    let copy = restore(&dump).await;
    inbox.answer(3);
    let _heir = Dispatcher::start(&copy, &TWO_PLACES).await;
    copy.settled().await;
    assert_eq!(copy.text(STATES).await.unwrap(), "delivered 3, unknown 2");
    let mut counts: Vec<_> = inbox.counts_by("webhook-id").into_values().collect();
    counts.sort_unstable();
    assert_eq!(counts, [1, 1, 2, 2, 2]);
    every_call_is_accounted_for_in(&copy).await;
}
