//! Nobody removes more than the owner permits, and nothing younger than a day; wrong settings are named.

use postcall::store::retention::{Dropped, RowCursor};
use serde_json::json;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use super::{
    MONTH, THEN, WEEK, accounts_agree, calls, calls_of, database_with_past, exists, foreign_calls_of, keep, outcome,
    prune_at,
};
use crate::support::database::Database;
use crate::support::endings::end_all;
use crate::support::process::{Dispatcher, postcall, postcall_at, stderr};

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
        // No such refusal is taken for a partition that is in use.
        let (mut session, days) = (Database::at(url.to_owned()).await.session(), keep("30", "30"));
        assert!(session.prune_partition(WEEK, days).await.unwrap_err().is_forbidden());
        for source in ["outbox_foreign", "action_test"] {
            assert!(session.prune_rows(source, days, RowCursor::FIRST).await.unwrap_err().is_forbidden(), "{source}");
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
