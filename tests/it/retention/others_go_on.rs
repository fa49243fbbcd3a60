//! Nothing waits for the removal: not the platform, not the dispatchers, and not who else prunes. Killed, it is nowhere half done.

use std::time::Duration;

use nix::sys::signal::Signal;
use postcall::store::retention::{Dropped, RowCursor, RowsPruned};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use uuid::Uuid;

use super::{
    MONTH, THEN, WEEK, accounts_agree, calls, calls_of, database_with_past, exists, foreign_calls_of, keep, outcome,
    partition, prune, prune_at, why,
};
use crate::support::database::Database;
use crate::support::endings::end_all;
use crate::support::process::POSTCALL;

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
async fn rows_that_are_in_use_at_every_try_stay_for_the_next_time() {
    let database = database_with_past().await;
    foreign_calls_of(&database, THEN, 3).await;
    end_all(&database, "delivered").await;
    let mut user = PgConnection::connect(&database.url).await.unwrap();
    let used = "BEGIN; SELECT FROM postcall.outbox_foreign FOR UPDATE; LOCK TABLE postcall.action_test IN ACCESS EXCLUSIVE MODE";
    sqlx::raw_sql(used).execute(&mut user).await.unwrap();
    let mut session = database.session();
    for source in ["outbox_foreign", "action_test"] {
        let rows = session.prune_rows(source, keep("30", "30"), RowCursor::FIRST).await.unwrap();
        assert!(matches!(rows, RowsPruned::InUse), "{source}: {rows:?}");
    }
    let said = prune(&database, &["--keep-calls-days", "30"]);
    assert_eq!(outcome(&said, "outbox_foreign"), "stays");
    assert!(why(&said, "outbox_foreign").starts_with("in use at every try"), "{said:?}");
    sqlx::raw_sql("COMMIT").execute(&mut user).await.unwrap();
    assert_eq!(outcome(&prune(&database, &["--keep-calls-days", "30"]), "outbox_foreign"), "3 rows left");
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
