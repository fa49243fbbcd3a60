//! Old calls and old history are removed: no delivery that is still to be sent loses its call, nothing waits for the
//! removal, the accounts stay exact, and no role removes more than the owner permits.

use std::time::Duration;

use nix::sys::signal::Signal;
use postcall::domain::retention::Retention;
use postcall::store::retention::{Dropped, RowCursor, RowsPruned};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use uuid::Uuid;

use crate::support::database::Database;
use crate::support::endings::end_all;
use crate::support::process::{Dispatcher, POSTCALL, postcall, postcall_at, postcall_on, stderr, stdout};

/// A month and a week of long ago.
const WEEK: &str = "outbox_20250602";
const MONTH: &str = "delivery_20250601";
/// A time in both.
const THEN: &str = "2025-06-04 12:00Z";

/// A database with an action of agent a, partitions of long ago, and those of today.
async fn database_with_past() -> Database {
    let database = Database::new().await;
    database.publish("a", "default", &json!({"method": "POST", "url": "https://receiver.example/"})).await;
    partition(&database, "outbox", WEEK, "2025-06-02Z", "2025-06-09Z").await;
    partition(&database, "delivery", MONTH, "2025-06-01Z", "2025-07-01Z").await;
    database
}

async fn partition(database: &Database, parent: &str, name: &str, from: &str, to: &str) {
    let script = format!(
        "DO $$ BEGIN
             EXECUTE format('CREATE TABLE postcall.{name} PARTITION OF postcall.{parent} FOR VALUES FROM (%L) TO (%L)',
                            postcall.uuid_v7_floor('{from}'), postcall.uuid_v7_floor('{to}'));
             PERFORM postcall.guard_against_truncate('postcall.{name}');
             EXECUTE 'ALTER TABLE postcall.{name} ' || CASE '{parent}'
                 WHEN 'outbox' THEN 'ENABLE ALWAYS TRIGGER calls_are_immutable'
                 ELSE 'ENABLE ALWAYS TRIGGER history_is_immutable' END;
         END $$"
    );
    database.execute(&script).await;
}

/// Inserts `count` calls as if it were `then`, with ids of that time, and leaves their deliveries waiting.
async fn calls_of(database: &Database, then: &str, count: i32) {
    insert(database, then, "overlay(gen_random_uuid()::text PLACING left(postcall.uuid_v7_floor(at)::text, 14) || '7' FROM 1 FOR 15)::uuid", count)
        .await;
}

/// As [`calls_of`], with ids that are no times.
async fn foreign_calls_of(database: &Database, then: &str, count: i32) {
    insert(database, then, "overlay(gen_random_uuid()::text PLACING 'f' FROM 1 FOR 1)::uuid", count).await;
}

async fn insert(database: &Database, then: &str, id: &str, count: i32) {
    let script = format!(
        "WITH made AS (INSERT INTO postcall.outbox (id, agent, call, created_at)
                       SELECT {id}, 'a', '{{}}', at
                       FROM (SELECT '{then}'::timestamptz + n * interval '1 ms' AS at FROM generate_series(1, {count}) AS n) AS c
                       RETURNING id)
         SELECT count(*) FROM made;
         UPDATE postcall.waiting SET delivery_id =
             overlay(gen_random_uuid()::text PLACING left(postcall.uuid_v7_floor(created_at)::text, 14) || '7' FROM 1 FOR 15)::uuid
         WHERE created_at < now() - interval '1 day'"
    );
    database.execute(&script).await;
}

fn keep(calls: &str, history: &str) -> Retention {
    Retention::new(calls.parse().unwrap(), history.parse().unwrap()).unwrap()
}

/// What the command says of each partition: its outcome, and why.
fn prune(database: &Database, arguments: &[&str]) -> Vec<(String, String, String)> {
    prune_at(&database.url, arguments)
}

fn prune_at(url: &str, arguments: &[&str]) -> Vec<(String, String, String)> {
    let output = postcall_at(url, &[&["prune", "--format", "json"], arguments].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    let rows: Vec<Value> = serde_json::from_str(&stdout(&output)).unwrap();
    let text = |row: &Value, name: &str| row[name].as_str().unwrap_or_default().to_owned();
    rows.iter().map(|row| (text(row, "partition"), text(row, "outcome"), text(row, "why"))).collect()
}

fn outcome<'a>(rows: &'a [(String, String, String)], partition: &str) -> &'a str {
    rows.iter().find(|row| row.0 == partition).map_or("", |row| &row.1)
}

fn why<'a>(rows: &'a [(String, String, String)], partition: &str) -> &'a str {
    rows.iter().find(|row| row.0 == partition).map_or("", |row| &row.2)
}

async fn exists(database: &Database, table: &str) -> bool {
    database.number(&format!("SELECT count(to_regclass('postcall.{table}'))")).await == 1
}

async fn calls(database: &Database) -> i64 {
    database.number("SELECT count(*) FROM postcall.outbox").await
}

fn accounts_agree(database: &Database) {
    let output = postcall_on(database, &["check-invariants"]);
    assert!(output.status.success(), "{}", stdout(&output));
}

#[tokio::test]
async fn what_is_old_leaves_and_what_is_younger_stays_and_a_dry_run_changes_nothing() {
    let database = database_with_past().await;
    calls_of(&database, THEN, 3).await;
    foreign_calls_of(&database, THEN, 5).await;
    end_all(&database, "delivered").await;
    // Of today, one of them with a foreign id.
    database.insert_call("a", &json!({})).await;
    database
        .execute(
            "INSERT INTO postcall.outbox (id, agent, call) VALUES ('f0000000-0000-4000-8000-000000000000', 'a', '{}')",
        )
        .await;
    end_all(&database, "delivered").await;
    accounts_agree(&database);

    let both = ["--keep-calls-days", "30", "--keep-history-days", "60"];
    let said = prune(&database, &[&both[..], &["--dry-run"]].concat());
    for due in [WEEK, MONTH, "outbox_foreign"] {
        assert_eq!(outcome(&said, due), "would leave", "{said:?}");
    }
    assert_eq!(calls(&database).await, 10);
    assert!(exists(&database, WEEK).await && exists(&database, MONTH).await);

    let said = prune(&database, &both);
    assert_eq!(outcome(&said, WEEK), "left", "{said:?}");
    assert_eq!(outcome(&said, MONTH), "left", "{said:?}");
    assert_eq!(outcome(&said, "outbox_foreign"), "5 rows left", "{said:?}");
    assert_eq!(calls(&database).await, 2);
    assert!(!exists(&database, WEEK).await && !exists(&database, MONTH).await);
    assert_eq!(database.number("SELECT count(*) FROM postcall.delivery").await, 2);
    accounts_agree(&database);
    assert!(prune(&database, &both).iter().all(|(_, outcome, _)| outcome == "stays"));
}

#[tokio::test]
async fn a_partition_with_a_call_that_waits_or_is_in_flight_stays_and_the_delivery_is_named() {
    let database = database_with_past().await;
    calls_of(&database, THEN, 3).await;
    foreign_calls_of(&database, THEN, 3).await;
    database
        .execute(
            "INSERT INTO postcall.dispatcher (name, version, lease_until) VALUES ('d', '1', now() + interval '1 hour');
             WITH held AS (DELETE FROM postcall.waiting WHERE delivery_id IN (
                      SELECT delivery_id FROM postcall.waiting WHERE call_id < 'f0000000-0000-0000-0000-000000000000' LIMIT 1)
                  RETURNING *)
             INSERT INTO postcall.sending (delivery_id, call_id, agent, action_id, action_version, created_at, dispatcher_id,
                 claim, claimed_at)
             SELECT delivery_id, call_id, agent, action_id, 1, created_at, 1, gen_random_uuid(), now() FROM held",
        )
        .await;
    let days = ["--keep-calls-days", "30"];
    let (waiting, sending) = (
        "SELECT delivery_id::text FROM postcall.waiting WHERE call_id < 'f0000000-0000-0000-0000-000000000000'",
        "SELECT delivery_id::text FROM postcall.sending",
    );
    for expected in [waiting, sending] {
        let said = prune(&database, &days);
        assert_eq!(outcome(&said, WEEK), "stays");
        // Whatever the plan said before.
        let dropped = database.session().prune_partition(WEEK, keep("30", "")).await.unwrap();
        assert!(matches!(dropped, Dropped::Pending(Some(_))), "{dropped:?}");
        let id = database.text(expected).await.unwrap();
        assert!(why(&said, WEEK).contains(&id) || expected == waiting, "{said:?}");
        assert!(why(&said, WEEK).contains("is still to be sent"), "{said:?}");
        assert_eq!(outcome(&said, "outbox_foreign"), "0 rows left", "{said:?}");
        assert_eq!(calls(&database).await, 6);
        if expected == waiting {
            database
                .execute("DELETE FROM postcall.waiting WHERE call_id < 'f0000000-0000-0000-0000-000000000000'")
                .await;
        }
    }
    // One of the foreign calls is through: it leaves, the others stay.
    database
        .execute("DELETE FROM postcall.waiting WHERE delivery_id = (SELECT min(delivery_id::text)::uuid FROM postcall.waiting)")
        .await;
    assert_eq!(outcome(&prune(&database, &days), "outbox_foreign"), "1 rows left");
    database.execute("DELETE FROM postcall.sending").await;
    assert_eq!(outcome(&prune(&database, &days), WEEK), "left");
    let orphans =
        "SELECT count(*) FROM postcall.waiting WHERE NOT EXISTS (SELECT FROM postcall.outbox WHERE id = call_id)";
    assert_eq!(database.number(orphans).await, 0);
    assert_eq!(calls(&database).await, 2);
}

/// A transaction in which somebody replays the only delivery of history, not yet committed.
async fn replaying(database: &Database) -> PgConnection {
    let mut person = PgConnection::connect(&database.url).await.unwrap();
    let replay = "BEGIN; INSERT INTO postcall.replay (replay_of, replayed_by, reason)
                  SELECT delivery_id, 'Ada', 'r' FROM postcall.delivery";
    sqlx::raw_sql(replay).execute(&mut person).await.unwrap();
    person
}

#[tokio::test]
async fn a_replay_that_is_not_yet_committed_keeps_its_call() {
    for foreign in [false, true] {
        let database = database_with_past().await;
        if foreign {
            foreign_calls_of(&database, THEN, 1).await
        } else {
            calls_of(&database, THEN, 1).await
        };
        end_all(&database, "failed").await;
        let mut session = database.session();
        let mut person = replaying(&database).await;
        if foreign {
            let portion = session.prune_rows("outbox_foreign", keep("30", ""), RowCursor::FIRST).await.unwrap();
            assert!(matches!(portion, RowsPruned::InUse), "{portion:?}");
        } else {
            assert_eq!(session.prune_partition(WEEK, keep("30", "")).await.unwrap(), Dropped::InUse);
        }
        sqlx::raw_sql("COMMIT").execute(&mut person).await.unwrap();
        let said = prune(&database, &["--keep-calls-days", "30"]);
        let expected = if foreign { ("outbox_foreign", "0 rows left") } else { (WEEK, "stays") };
        assert_eq!(outcome(&said, expected.0), expected.1, "{said:?}");
        assert_eq!(calls(&database).await, 1);
        accounts_agree(&database);
    }
}

#[tokio::test]
async fn a_replay_that_comes_while_a_partition_leaves_finds_no_call_and_says_so() {
    let database = database_with_past().await;
    calls_of(&database, THEN, 1).await;
    end_all(&database, "failed").await;
    let id = database.text("SELECT delivery_id::text FROM postcall.delivery").await.unwrap();
    // The drop is not yet committed, as if its server were slow.
    let mut pruner = PgConnection::connect(&database.url).await.unwrap();
    let dropped =
        format!("BEGIN; SELECT 1 / (outcome = 'left')::int FROM postcall.prune_partition('{WEEK}', 30, NULL)");
    sqlx::raw_sql(AssertSqlSafe(dropped)).execute(&mut pruner).await.unwrap();
    let url = database.url.clone();
    let replay = std::thread::spawn(move || postcall_at(&url, &["replay", &id, "--reason", "r", "--by", "Ada"]));
    database.until("SELECT count(*) > 0 FROM pg_locks WHERE NOT granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())").await;
    sqlx::raw_sql("COMMIT").execute(&mut pruner).await.unwrap();
    let output = replay.join().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("the call is no longer kept"), "{}", stderr(&output));
    assert_eq!(database.number("SELECT count(*) FROM postcall.waiting").await, 0);
    accounts_agree(&database);
}

#[tokio::test]
async fn a_message_of_which_history_has_lost_a_delivery_is_in_doubt_for_a_replay() {
    let database = database_with_past().await;
    calls_of(&database, THEN, 1).await;
    end_all(&database, "delivered").await;
    let original = database.text("SELECT delivery_id::text FROM postcall.delivery").await.unwrap();
    let made = postcall_on(&database, &["replay", &original, "--include-delivered", "--reason", "r", "--by", "Ada"]);
    assert!(made.status.success(), "{}", stderr(&made));
    let again = &end_all(&database, "failed").await[0];
    // Its call stays, because nobody asked for it to leave.
    let mut session = database.session();
    assert_eq!(session.prune_partition(MONTH, keep("60", "60")).await.unwrap(), Dropped::Left);
    let replay =
        |flags: &[&str]| postcall_on(&database, &[&["replay", again, "--reason", "r", "--by", "Ada"], flags].concat());
    let refused = replay(&[]);
    assert!(stderr(&refused).contains("may have been received (--include-unknown"), "{}", stderr(&refused));
    assert!(replay(&["--include-unknown"]).status.success());
    // The receiver still sees the first delivery's id.
    assert_eq!(database.text("SELECT message_id::text FROM postcall.replay WHERE delivery_id IN (SELECT delivery_id FROM postcall.waiting)").await.unwrap(), original);
    accounts_agree(&database);
}

#[tokio::test]
async fn what_was_said_about_history_leaves_with_it_and_the_guards_hold_for_the_rest() {
    let database = database_with_past().await;
    calls_of(&database, THEN, 2).await;
    end_all(&database, "unknown").await;
    for sql in [
        "INSERT INTO postcall.resolution (delivery_id, state, resolved_by, reason)
         SELECT min(delivery_id::text)::uuid, 'failed', 'Ada', 'r' FROM postcall.delivery",
        "INSERT INTO postcall.replay (replay_of, replayed_by, reason)
         SELECT max(delivery_id::text)::uuid, 'Ada', 'r' FROM postcall.delivery",
    ] {
        database.execute(sql).await;
    }
    end_all(&database, "unknown").await;
    database
        .execute(
            "INSERT INTO postcall.resolution (delivery_id, state, resolved_by, reason)
             SELECT delivery_id, 'failed', 'Ada', 'r' FROM postcall.replay",
        )
        .await;
    let refusals = async || {
        for table in ["delivery", "replay", "resolution"] {
            let error = database.error_of(&format!("DELETE FROM postcall.{table}")).await;
            assert!(error.contains("are never changed or deleted"), "{table}: {error}");
        }
    };
    refusals().await;
    let said = prune(&database, &["--keep-calls-days", "30", "--keep-history-days", "30"]);
    assert_eq!(outcome(&said, MONTH), "left");
    assert_eq!(outcome(&said, "resolution"), "1 rows left", "{said:?}");
    // The replay was made today, and its finding is about today's delivery.
    let left = "SELECT (SELECT count(*) FROM postcall.replay) * 10 + (SELECT count(*) FROM postcall.resolution)";
    assert_eq!(database.number(left).await, 11);
    refusals().await;
    accounts_agree(&database);
    // What has left cannot be said not to have.
    for earlier in ["history_begins - interval '1 ms'", "NULL"] {
        let error = database.error_of(&format!("UPDATE postcall.retention SET history_begins = {earlier}")).await;
        assert!(error.contains("are never changed or deleted"), "{error}");
    }
    let error = database.error_of("DELETE FROM postcall.retention").await;
    assert!(error.contains("are never changed or deleted"), "{error}");
}

#[tokio::test]
async fn a_replay_that_still_waits_keeps_its_record_however_old_it_is() {
    let database = database_with_past().await;
    calls_of(&database, THEN, 1).await;
    end_all(&database, "failed").await;
    database.execute("INSERT INTO postcall.replay (replay_of, replayed_by, reason) SELECT delivery_id, 'Ada', 'r' FROM postcall.delivery").await;
    // History no longer reaches back to the replay, which waits.
    database.execute("UPDATE postcall.retention SET history_begins = now() + interval '1 day'").await;
    let mut session = database.session();
    let portion = session.prune_rows("replay", keep("30", "30"), RowCursor::FIRST).await.unwrap();
    assert!(matches!(portion, RowsPruned::Last(0)), "{portion:?}");
    assert!(database.error_of("DELETE FROM postcall.replay").await.contains("are never changed or deleted"));
    end_all(&database, "failed").await;
    let portion = session.prune_rows("replay", keep("30", "30"), RowCursor::FIRST).await.unwrap();
    assert!(matches!(portion, RowsPruned::Last(0)), "{portion:?}");
}

#[tokio::test]
async fn history_in_the_default_partition_leaves_in_portions_and_nobody_is_accused() {
    let database = database_with_past().await;
    // There is no partition of that month.
    calls_of(&database, "2025-03-04 12:00Z", 4_500).await;
    end_all(&database, "delivered").await;
    let both = ["--keep-calls-days", "30", "--keep-history-days", "30"];
    let mut session = database.session();
    // Only history, so that the calls that have lost theirs are there to be asked about.
    let RowsPruned::More(removed, next) =
        session.prune_rows("delivery_default", keep("30", "30"), RowCursor::FIRST).await.unwrap()
    else {
        panic!("more than a portion");
    };
    assert!(removed < 4_500, "{removed}");
    accounts_agree(&database);
    assert!(matches!(
        session.prune_rows("delivery_default", keep("30", "30"), next).await.unwrap(),
        RowsPruned::More(..)
    ));
    accounts_agree(&database);
    let said = prune(&database, &both);
    assert_eq!(outcome(&said, "delivery_default"), "500 rows left", "{said:?}");
    assert_eq!(outcome(&said, "outbox_default"), "4500 rows left", "{said:?}");
    assert_eq!(calls(&database).await, 0);
    accounts_agree(&database);
}

#[tokio::test]
async fn a_call_whose_history_is_missing_is_still_missed_if_it_is_younger_than_what_has_left() {
    let database = database_with_past().await;
    calls_of(&database, THEN, 1).await;
    let call = database.insert_call("a", &json!({})).await;
    end_all(&database, "delivered").await;
    prune(&database, &["--keep-calls-days", "30", "--keep-history-days", "30"]);
    accounts_agree(&database);
    database.insert_call("a", &json!({})).await;
    database.execute("DELETE FROM postcall.waiting").await;
    let output = postcall_on(&database, &["check-invariants"]);
    assert!(
        stdout(&output).contains("VIOLATED  none_missing") && !stdout(&output).contains(&call.to_string()),
        "{}",
        stdout(&output)
    );
}

#[tokio::test]
async fn whoever_checks_the_accounts_never_sees_a_partition_half_gone() {
    let database = database_with_past().await;
    // The call stays; its delivery leaves, although there is an older partition that does not.
    partition(&database, "delivery", "delivery_20250501", "2025-05-01Z", "2025-06-01Z").await;
    calls_of(&database, THEN, 1).await;
    end_all(&database, "delivered").await;
    let mut pruner = PgConnection::connect(&database.url).await.unwrap();
    let dropped = format!("BEGIN; SELECT 1 / (outcome = 'left')::int FROM postcall.prune_partition('{MONTH}', 30, 30)");
    sqlx::raw_sql(AssertSqlSafe(dropped)).execute(&mut pruner).await.unwrap();
    let store = database.store.clone();
    let check = tokio::spawn(async move { store.check_invariants().await.unwrap() });
    database.until("SELECT count(*) > 0 FROM pg_locks WHERE NOT granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())").await;
    sqlx::raw_sql("COMMIT").execute(&mut pruner).await.unwrap();
    let violated: Vec<_> = check.await.unwrap().checked.into_iter().filter(|checked| checked.violations > 0).collect();
    assert!(violated.is_empty(), "{violated:?}");
    // And nothing leaves while somebody checks.
    let mut checker = PgConnection::connect(&database.url).await.unwrap();
    let lock = "BEGIN; LOCK TABLE postcall.retention IN ACCESS SHARE MODE";
    sqlx::raw_sql(lock).execute(&mut checker).await.unwrap();
    assert_eq!(database.session().prune_partition(WEEK, keep("30", "")).await.unwrap(), Dropped::InUse);
}

#[tokio::test]
async fn no_role_removes_what_the_owner_does_not_permit() {
    let database = database_with_past().await;
    calls_of(&database, THEN, 1).await;
    foreign_calls_of(&database, THEN, 1).await;
    end_all(&database, "delivered").await;
    let refused = async |url: &str, words: &str| {
        for arguments in [
            &["prune", "--keep-calls-days", "30"][..],
            &["prune", "--keep-calls-days", "30", "--dry-run"],
            &["run", "--keep-calls-days", "30"],
        ] {
            let output = postcall_at(url, arguments);
            assert_eq!(output.status.code(), Some(1));
            assert!(stderr(&output).contains(words), "{arguments:?}: {}", stderr(&output));
        }
        let mut connection = PgConnection::connect(url).await.unwrap();
        for statement in [
            format!("SELECT postcall.prune_partition('{WEEK}', 30, 30)"),
            format!("SELECT postcall.prune_partition('{MONTH}', 30, 30)"),
            "SELECT postcall.prune_rows('outbox_foreign', 30, 30, '2000-01-01Z', '00000000-0000-0000-0000-000000000000')".to_owned(),
            "SELECT postcall.prune_rows('replay', 30, 30, '2000-01-01Z', '00000000-0000-0000-0000-000000000000')".to_owned(),
            "UPDATE postcall.retention SET least_calls_days = 1".to_owned(),
        ] {
            let error = sqlx::raw_sql(AssertSqlSafe(statement.clone())).execute(&mut connection).await.expect_err(&statement);
            let code = error.as_database_error().and_then(|error| error.code().map(|code| code.into_owned()));
            assert_eq!(code.as_deref(), Some("42501"), "{statement}: {error}");
        }
    };
    for role in ["postcall_dispatcher", "postcall_publisher"] {
        let url = database.login(&[role]).await;
        refused(&url, "only the owner of the schema may remove calls").await;
        database.execute("UPDATE postcall.retention SET least_calls_days = 31, least_history_days = 31").await;
        refused(&url, "calls are kept for at least 31 days in this database (postcall.retention), not 30").await;
        database.execute("UPDATE postcall.retention SET least_calls_days = NULL, least_history_days = NULL").await;
    }
    for role in ["postcall_auditor", "postcall_platform"] {
        let output = postcall_at(&database.login(&[role]).await, &["prune", "--keep-calls-days", "30"]);
        assert_eq!(output.status.code(), Some(1), "{role}");
    }
    assert!(exists(&database, WEEK).await && calls(&database).await == 2);
    database.execute("UPDATE postcall.retention SET least_calls_days = 31, least_history_days = 31").await;
    let url = database.login(&["postcall_publisher"]).await;
    let said = prune_at(&url, &["--keep-calls-days", "31", "--keep-history-days", "31"]);
    assert_eq!((outcome(&said, WEEK), outcome(&said, MONTH)), ("left", "left"));
}

#[tokio::test]
async fn what_is_younger_than_a_day_is_never_removed() {
    let database = database_with_past().await;
    database.insert_call("a", &json!({})).await;
    end_all(&database, "delivered").await;
    let week = database
        .text("SELECT relname::text FROM postcall.outbox JOIN pg_class ON pg_class.oid = outbox.tableoid")
        .await
        .unwrap();
    let mut session = database.session();
    assert_eq!(session.prune_partition(&week, keep("1", "1")).await.unwrap(), Dropped::Young);
    for days in ["0", "-1", "NULL"] {
        let error = database.error_of(&format!("SELECT postcall.prune_partition('{WEEK}', {days}, {days})")).await;
        assert!(error.contains("are kept for 1 to 36500 days"), "{error}");
    }
    // Nothing but partitions of calls and history.
    for table in ["action", "waiting", "outbox", "outbox_default", "retention"] {
        assert_eq!(session.prune_partition(table, keep("1", "1")).await.unwrap(), Dropped::Gone, "{table}");
    }
}

#[test]
fn history_is_kept_at_least_as_long_as_calls_and_wrong_settings_are_named() {
    for command in ["run", "prune"] {
        let refusal = |arguments: &[&str]| {
            let output =
                postcall(&[&[command, "--database-url", "postgres://nobody@127.0.0.1:1/none"], arguments].concat());
            (output.status.code(), stderr(&output))
        };
        let (code, words) = refusal(&["--keep-calls-days", "31", "--keep-history-days", "30"]);
        assert!(code == Some(1) && words.contains("history must be kept for at least as long as calls"), "{words}");
        let (code, words) = refusal(&["--keep-history-days", "30"]);
        assert!(code == Some(1) && words.contains("--keep-calls-days is forever"), "{words}");
        let (code, words) = refusal(&["--keep-calls-days", "0"]);
        assert!(code == Some(2) && words.contains("it must be a number of days, 1 to 36500"), "{words}");
    }
    let output = postcall(&["prune", "--database-url", "postgres://nobody@127.0.0.1:1/none"]);
    assert!(stderr(&output).contains("give the number of days for which calls are kept"), "{}", stderr(&output));
}

#[tokio::test]
async fn a_dispatcher_with_its_role_alone_lets_go_what_is_old_by_itself() {
    let database = database_with_past().await;
    calls_of(&database, THEN, 3).await;
    foreign_calls_of(&database, THEN, 3).await;
    end_all(&database, "delivered").await;
    database.execute("UPDATE postcall.retention SET least_calls_days = 30, least_history_days = 30").await;
    let url = database.login(&["postcall_dispatcher"]).await;
    let mut dispatcher = Dispatcher::start_at(&url, &["--keep-calls-days", "30", "--keep-history-days", "60"]).await;
    database.until("SELECT count(*) = 0 FROM postcall.outbox").await;
    database.until(&format!("SELECT to_regclass('postcall.{MONTH}') IS NULL")).await;
    dispatcher.says("removed old rows").await;
    accounts_agree(&database);
}

/// The tables of the schema that this connection's transaction has locked against inserts.
async fn locked(connection: &mut PgConnection) -> Vec<String> {
    let sql = "SELECT DISTINCT relname::text FROM pg_locks JOIN pg_class ON pg_class.oid = relation
               WHERE pid = pg_backend_pid() AND granted AND relnamespace = 'postcall'::regnamespace AND relkind IN ('r', 'p')
                 AND mode IN ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock') ORDER BY 1";
    sqlx::query_scalar(sql).fetch_all(connection).await.unwrap()
}

async fn insert_at_once(database: &Database) {
    let insert =
        "BEGIN; SET LOCAL lock_timeout = '1ms'; INSERT INTO postcall.outbox (agent, call) VALUES ('a', '{}'); COMMIT";
    let mut platform = PgConnection::connect(&database.url).await.unwrap();
    sqlx::raw_sql(insert).execute(&mut platform).await.unwrap();
}

#[tokio::test]
async fn what_is_found_to_be_pending_or_leaves_by_row_locks_nothing_that_inserts_and_claims_use() {
    let database = database_with_past().await;
    calls_of(&database, THEN, 1).await;
    foreign_calls_of(&database, THEN, 3).await;
    for (call, expected) in [
        (format!("SELECT outcome FROM postcall.prune_partition('{WEEK}', 30, NULL)"), vec![WEEK, "replay", "retention"]),
        ("SELECT outcome FROM postcall.prune_rows('outbox_foreign', 30, NULL, '2000-01-01Z', '00000000-0000-0000-0000-000000000000')".to_owned(), vec!["replay"]),
        ("SELECT outcome FROM postcall.prune_plan(30, 30) LIMIT 1".to_owned(), vec![]),
    ] {
        let mut pruner = PgConnection::connect(&database.url).await.unwrap();
        sqlx::raw_sql("BEGIN").execute(&mut pruner).await.unwrap();
        let _outcome: String = sqlx::query_scalar(AssertSqlSafe(call.clone())).fetch_one(&mut pruner).await.unwrap();
        assert_eq!(locked(&mut pruner).await, expected, "{call}");
        // While that transaction is open.
        insert_at_once(&database).await;
    }
    // What leaves as a whole locks its parent and the default partition, and no other partition.
    database.execute("DELETE FROM postcall.waiting").await;
    let mut pruner = PgConnection::connect(&database.url).await.unwrap();
    let dropped = format!("BEGIN; SELECT outcome FROM postcall.prune_partition('{WEEK}', 30, NULL)");
    sqlx::raw_sql(AssertSqlSafe(dropped)).execute(&mut pruner).await.unwrap();
    assert_eq!(locked(&mut pruner).await, ["outbox", "outbox_default", "replay", "retention"]);
}

#[tokio::test]
async fn an_open_transaction_of_the_platform_is_not_waited_for_and_its_others_go_on() {
    let database = database_with_past().await;
    calls_of(&database, THEN, 1).await;
    end_all(&database, "delivered").await;
    let mut platform = PgConnection::connect(&database.url).await.unwrap();
    let insert = "BEGIN; INSERT INTO postcall.outbox (agent, call) VALUES ('a', '{}')";
    sqlx::raw_sql(insert).execute(&mut platform).await.unwrap();
    let mut session = database.session();
    assert_eq!(session.prune_partition(WEEK, keep("30", "")).await.unwrap(), Dropped::InUse);
    // Nothing is left locked by the try.
    let locks = "SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock'
                 AND relation = 'postcall.outbox'::regclass AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    assert_eq!(database.number(locks).await, 0);
    insert_at_once(&database).await;
    sqlx::raw_sql("COMMIT").execute(&mut platform).await.unwrap();
    assert_eq!(session.prune_partition(WEEK, keep("30", "")).await.unwrap(), Dropped::Left);
}

#[tokio::test]
async fn of_two_who_prune_at_once_and_one_who_makes_partitions_none_fails_and_everything_is_done() {
    let database = database_with_past().await;
    for week in 0..6 {
        let (from, to) = (9 + 7 * week, 16 + 7 * week);
        let date =
            |day: i32| if day <= 30 { format!("2025-06-{day:02}Z") } else { format!("2025-07-{:02}Z", day - 30) };
        partition(&database, "outbox", &format!("outbox_old_{week}"), &date(from), &date(to)).await;
    }
    foreign_calls_of(&database, THEN, 5_000).await;
    end_all(&database, "delivered").await;
    let last = database.text("SELECT max(relname::text) FROM pg_class WHERE relname ~ '^outbox_2' AND relkind = 'r' AND relispartition AND relnamespace = 'postcall'::regnamespace").await.unwrap();
    database.execute(&format!("DROP TABLE postcall.{last}")).await;
    let prunes: Vec<_> = (0..2)
        .map(|_| {
            let url = database.url.clone();
            std::thread::spawn(move || prune_at(&url, &["--keep-calls-days", "30", "--keep-history-days", "30"]))
        })
        .collect();
    while !exists(&database, &last).await {
        database.session().make_partitions().await.unwrap();
    }
    let said: Vec<_> = prunes.into_iter().map(|prune| prune.join().unwrap()).collect();
    assert_eq!(database.number("SELECT count(*) FROM postcall.outbox").await, 0, "{said:?}");
    assert_eq!(database.number("SELECT count(*) FROM pg_class WHERE relname ~ '^outbox_(old_[0-9]|20250602)$' AND relnamespace = 'postcall'::regnamespace").await, 0, "{said:?}");
    accounts_agree(&database);
}

#[tokio::test]
async fn killed_at_any_moment_nothing_is_half_done_and_a_repetition_finishes_it() {
    let database = database_with_past().await;
    calls_of(&database, THEN, 100).await;
    foreign_calls_of(&database, THEN, 10_000).await;
    end_all(&database, "delivered").await;
    database.execute("UPDATE postcall.retention SET least_calls_days = 30, least_history_days = 30").await;
    let arguments = ["prune", "--keep-calls-days", "30", "--keep-history-days", "30"];
    // Between what it says, one more step each time: the partition of calls, that of history, the first rows.
    for step in [WEEK, MONTH, "SELECT count(*) < 10000 FROM postcall.outbox"] {
        let mut command = std::process::Command::new(POSTCALL);
        let mut killed = command
            .args(arguments)
            .env("DATABASE_URL", &database.url)
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let done = if step.starts_with("SELECT") {
            step.to_owned()
        } else {
            format!("SELECT to_regclass('postcall.{step}') IS NULL")
        };
        database.until(&done).await;
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(i32::try_from(killed.id()).unwrap()), Signal::SIGKILL)
            .unwrap();
        killed.wait().unwrap();
        accounts_agree(&database);
    }
    prune(&database, &arguments[1..]);
    assert_eq!(calls(&database).await, 0);
    accounts_agree(&database);
}

#[tokio::test]
async fn a_partition_that_somebody_has_detached_is_named_with_what_to_do() {
    let database = database_with_past().await;
    database.execute(&format!("ALTER TABLE postcall.outbox DETACH PARTITION postcall.{WEEK}")).await;
    let said = prune(&database, &["--keep-calls-days", "30"]);
    assert_eq!(outcome(&said, WEEK), "stays");
    assert!(why(&said, WEEK).contains(&format!("DROP TABLE postcall.{WEEK}")), "{said:?}");
}

#[tokio::test]
async fn without_an_index_foreign_calls_stay_and_the_statement_is_named_that_makes_it() {
    let database = database_with_past().await;
    foreign_calls_of(&database, THEN, 3).await;
    end_all(&database, "delivered").await;
    database.execute("DROP INDEX postcall.outbox_foreign_by_age").await;
    let said = prune(&database, &["--keep-calls-days", "30"]);
    assert_eq!(outcome(&said, "outbox_foreign"), "stays");
    let (_, statement) = why(&said, "outbox_foreign").split_once("owner: ").unwrap();
    database.execute(statement).await;
    assert_eq!(outcome(&prune(&database, &["--keep-calls-days", "30"]), "outbox_foreign"), "3 rows left");
    // Partitions that are made later have theirs.
    database.execute("DROP TABLE postcall.outbox_foreign; SELECT postcall.make_partitions()").await;
    assert_eq!(database.number("SELECT count(to_regclass('postcall.outbox_foreign_by_age'))").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_full_partitions_leave_the_platform_and_the_dispatchers_go_on() {
    let database = database_with_past().await;
    database
        .execute(&format!(
            "ALTER TABLE postcall.{WEEK} ALTER COLUMN call SET STORAGE PLAIN;
             INSERT INTO postcall.outbox (id, agent, call)
             SELECT overlay(gen_random_uuid()::text PLACING left(postcall.uuid_v7_floor('{THEN}')::text, 14) || '7' FROM 1 FOR 15)::uuid,
                    'nobody', ('{{\"x\": \"' || repeat('x', 7900) || '\"}}')::json FROM generate_series(1, 20000)"
        ))
        .await;
    let stop = tokio_util::sync::CancellationToken::new();
    let platform =
        measured(&database, stop.clone(), "INSERT INTO postcall.outbox (agent, call) VALUES ('a', '{}')".to_owned());
    let unknown = Uuid::nil();
    let reader =
        measured(&database, stop.clone(), format!("SELECT call::text FROM postcall.outbox WHERE id = '{unknown}'"));
    let said = prune(&database, &["--keep-calls-days", "30", "--keep-history-days", "30"]);
    stop.cancel();
    assert_eq!(outcome(&said, WEEK), "left", "{said:?}");
    for (who, worker) in [("an insert", platform), ("a read", reader)] {
        let (count, slowest) = worker.await.unwrap();
        println!("{who}: {count}, the slowest {} ms", slowest.as_millis());
        // Far more than it takes, and less than what a transaction in the way would cost.
        assert!(count > 0 && slowest < Duration::from_secs(10), "{who} took {} ms", slowest.as_millis());
    }
}

/// Runs a statement over and over on a connection of its own; how often, and how long the slowest took.
fn measured(
    database: &Database,
    stop: tokio_util::sync::CancellationToken,
    sql: String,
) -> tokio::task::JoinHandle<(usize, Duration)> {
    let url = database.url.clone();
    tokio::spawn(async move {
        let mut connection = PgConnection::connect(&url).await.unwrap();
        let (mut count, mut slowest) = (0, Duration::ZERO);
        while !stop.is_cancelled() {
            let began = std::time::Instant::now();
            sqlx::query(AssertSqlSafe(sql.clone())).execute(&mut connection).await.unwrap();
            slowest = slowest.max(began.elapsed());
            count += 1;
        }
        (count, slowest)
    })
}
