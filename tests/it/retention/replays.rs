//! A replay keeps what it needs, however old that is; one that comes too late says so.

use postcall::store::retention::{Dropped, RowCursor, RowsPruned};
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use super::{
    MONTH, THEN, WEEK, accounts_agree, calls, calls_of, database_with_past, foreign_calls_of, keep, outcome, prune,
};
use crate::support::database::Database;
use crate::support::endings::end_all;
use crate::support::process::{postcall_at, postcall_on, stderr};

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
