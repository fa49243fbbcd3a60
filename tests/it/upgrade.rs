//! Upgrades from an earlier release to this one while everything runs: the schema first, then one dispatcher after the
//! other. The earlier release is the real program, built from this repository's history (`scripts/build-previous`).

use std::path::Path;
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use sqlx::{Connection, PgConnection};
use tokio::process::Command;
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::support::accounts;
use crate::support::database::Database;
use crate::support::process::{Dispatcher, THIS_MACHINE, file, postcall_at, sqlx_migrate, stderr};
use crate::support::tally::Tally;
use crate::support::tools::earlier_release;

const PLACES: usize = 8;
const LEASE_MS: &str = "2000";
/// Far more than any insert of the platform takes, and less than what a transaction in the way would cost it.
const HINDERED: Duration = Duration::from_secs(10);
/// A pace of some 300 calls a second, which a busy machine sends without a backlog.
const BETWEEN_CALLS: Duration = Duration::from_millis(3);

/// An earlier release.
struct Release {
    version: &'static str,
    /// Its newest migration.
    schema: &'static str,
    /// Whether it records its policy, which later releases compare with their own.
    records_policy: bool,
    /// Settings by which it gives all places to whoever takes them, until the result is recorded, as the first releases
    /// did.
    all_places: &'static [&'static str],
}

const FIRST: Release = Release { version: "0.1.0", schema: "20261123000014", records_policy: false, all_places: &[] };
const SECOND: Release = Release { version: "0.2.0", schema: "20261124000010", records_policy: true, all_places: &[] };
const THIRD: Release =
    Release { version: "0.3.0", schema: "20261124000017", records_policy: true, all_places: ALL_PLACES };
const ALL_PLACES: &[&str] = &["--adapt-to-hosts", "false", "--max-unrecorded", "0"];

fn old(program: &Path, url: &str, arguments: &[&str]) -> Output {
    std::process::Command::new(program).env("DATABASE_URL", url).args(arguments).output().unwrap()
}

async fn dispatcher(program: &Path, url: &str, release: &Release) -> Dispatcher {
    let mut command = Command::new(program);
    let places = PLACES.to_string();
    command.env("DATABASE_URL", url).stdout(Stdio::null()).arg("run").args(THIS_MACHINE);
    command.args(["--lease-ms", LEASE_MS, "--concurrency", &places]).args(release.all_places);
    Dispatcher::started(&mut command).await
}

/// The platform: inserts call after call, each committed by itself, until it is told to stop. Every insert must succeed.
/// Gives the ids, and how long the slowest insert took.
fn platform(url: &str, stop: Arc<AtomicBool>) -> JoinHandle<(Vec<Uuid>, Duration)> {
    let url = url.to_owned();
    tokio::spawn(async move {
        let mut connection = PgConnection::connect(&url).await.unwrap();
        let (mut ids, mut slowest) = (Vec::new(), Duration::ZERO);
        while !stop.load(Ordering::Relaxed) {
            let began = Instant::now();
            let insert = "INSERT INTO postcall.outbox (agent, call)
                          VALUES ('a', '{\"callInfo\": {\"callSid\": \"CA1\"}}') RETURNING id";
            ids.push(sqlx::query_scalar(insert).fetch_one(&mut connection).await.expect("no insert fails"));
            slowest = slowest.max(began.elapsed());
            tokio::time::sleep(BETWEEN_CALLS).await;
        }
        (ids, slowest)
    })
}

/// A database with that release's schema, and an action for agent `a`, both made by that release.
async fn schema_of(program: &Path, target: &str) -> String {
    let url = Database::created("TEMPLATE template0").await;
    let migrated = old(program, &url, &["migrate"]);
    assert!(migrated.status.success(), "{}", stderr(&migrated));
    let action = file(&format!(r#"{{"method": "POST", "url": "{target}", "timeout": 60000}}"#));
    let published = old(program, &url, &["action", "publish", "a", action.path().to_str().unwrap()]);
    assert!(published.status.success(), "{}", stderr(&published));
    url
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_system_is_upgraded_without_a_pause_and_everything_is_accounted_for() {
    upgrade_while_running(FIRST).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_system_of_the_second_release_is_upgraded_in_the_same_way() {
    upgrade_while_running(SECOND).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_system_of_the_third_release_is_upgraded_in_the_same_way() {
    upgrade_while_running(THIRD).await;
}

async fn upgrade_while_running(release: Release) {
    let Some(program) = earlier_release(release.version) else { return };
    let tally = Tally::holding().await;
    let url = schema_of(&program, &tally.url()).await;
    let stop = Arc::new(AtomicBool::new(false));
    let platform = platform(&url, stop.clone());
    let more = async |count: usize| {
        let before = tally.requests();
        tally.answer(count);
        tally.has(before + count).await;
    };
    let old = dispatcher(&program, &url, &release).await;
    more(200).await;

    let migrated = postcall_at(&url, &["migrate"]);
    assert!(migrated.status.success(), "{}", stderr(&migrated));
    // The earlier release goes on, with calls that were inserted on the new schema.
    more(200).await;

    let current = Path::new(env!("CARGO_BIN_EXE_postcall"));
    let mut starting = Command::new(current);
    starting.env("DATABASE_URL", &url).stdout(Stdio::null()).arg("run").args(THIS_MACHINE);
    let places = PLACES.to_string();
    starting.args(["--lease-ms", LEASE_MS, "--concurrency", &places]);
    let mut new = Dispatcher::spawned(starting.args(ALL_PLACES));
    if !release.records_policy {
        new.says("an earlier release runs beside this one").await;
    }
    new.says("dispatching").await;
    more(200).await;

    // Nothing is answered any more: all places of both are taken. Then the old one dies.
    let database = Database::at(url.clone()).await;
    let full = format!("SELECT (SELECT count(*) FROM postcall.sending) = {}", 2 * PLACES);
    database.until(&full).await;
    let sent = tally.requests();
    let old_id = old.id();
    old.signal(Signal::SIGKILL);
    old.ended().await;
    let given_up = format!(
        "SELECT count(*) = {PLACES} FROM postcall.delivery WHERE state = 'unknown' AND dispatcher_id = {old_id}"
    );
    database.until(&given_up).await;
    tally.answer_all();
    tally.has(sent + 100).await;

    stop.store(true, Ordering::Relaxed);
    let (ids, slowest) = platform.await.unwrap();
    println!("{} calls, the slowest insert took {} ms", ids.len(), slowest.as_millis());
    assert!(slowest < HINDERED, "an insert took {} ms", slowest.as_millis());
    database.settled().await;
    new.signal(Signal::SIGTERM);
    let (well, lines) = new.ended_saying().await;
    assert!(well, "{lines:#?}");
    let accounts = accounts::check(&database.pool, &tally, &ids).await;
    assert_eq!(accounts.shown("delivered") + accounts.shown("unknown"), ids.len());
    assert_eq!(accounts.doubts.into_iter().collect::<Vec<_>>(), [(old_id, PLACES)], "no doubt but the killed one's");
    let invariants = postcall_at(&url, &["check-invariants"]);
    assert!(invariants.status.success(), "{}", String::from_utf8_lossy(&invariants.stdout));
    let by_both = "SELECT count(DISTINCT dispatcher_id) FROM postcall.delivery WHERE state = 'delivered'";
    assert_eq!(database.number(by_both).await, 2);
}

#[tokio::test]
async fn neither_release_starts_on_a_schema_that_is_not_its_own_and_both_say_so() {
    migrate_and_go_back(FIRST).await;
}

#[tokio::test]
async fn the_second_release_and_this_one_start_on_their_own_schema_only_too() {
    migrate_and_go_back(SECOND).await;
}

#[tokio::test]
async fn the_third_release_and_this_one_start_on_their_own_schema_only_too() {
    migrate_and_go_back(THIRD).await;
}

async fn migrate_and_go_back(release: Release) {
    let Some(program) = earlier_release(release.version) else { return };
    let url = schema_of(&program, "https://receiver.example/").await;
    let refused = postcall_at(&url, &["run"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("older than this program"), "{}", stderr(&refused));
    assert!(postcall_at(&url, &["migrate"]).status.success());
    for command in [&["run"][..], &["history"]] {
        let refused = old(&program, &url, command);
        assert_eq!(refused.status.code(), Some(1), "{command:?}");
        assert!(stderr(&refused).contains("newer than this program"), "{}", stderr(&refused));
        assert!(stderr(&refused).contains("Install a newer postcall"), "{}", stderr(&refused));
    }
    // Back: once the later migrations are reverted, the earlier release works as before.
    sqlx_migrate(&url, Path::new(env!("CARGO_MANIFEST_DIR")), &["revert", "--target-version", release.schema]);
    let history = old(&program, &url, &["history"]);
    assert!(history.status.success(), "{}", stderr(&history));
    let _dispatcher = dispatcher(&program, &url, &release).await;
}
