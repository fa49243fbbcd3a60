//! The schema: sqlx-cli and postcall use the same migrations table, every migration can be reverted, and `run` knows
//! which migrations it needs.

use std::path::Path;
use std::process::Output;

use crate::support::database::Database;
use crate::support::process::{postcall_on, sqlx_migrate, stderr, stdout};

/// Everything of ours that a database can hold beside the ledger.
const OBJECTS: &str = "SELECT (SELECT count(*) FROM pg_class WHERE relnamespace = 'postcall'::regnamespace
                                   AND relname NOT LIKE '\\_sqlx\\_migrations%')
                            + (SELECT count(*) FROM pg_proc WHERE pronamespace = 'postcall'::regnamespace)";

fn sqlx(database: &Database, arguments: &[&str]) -> Output {
    sqlx_migrate(&database.url, Path::new(env!("CARGO_MANIFEST_DIR")), arguments)
}

/// How many there are.
fn migrations() -> usize {
    let files = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations")).unwrap();
    files.filter(|file| file.as_ref().unwrap().file_name().to_str().unwrap().ends_with(".up.sql")).count()
}

fn migrate(database: &Database) -> String {
    let output = postcall_on(database, &["migrate"]);
    assert!(output.status.success(), "{}", stderr(&output));
    stdout(&output)
}

#[tokio::test]
async fn sqlx_cli_goes_up_down_and_up_and_postcall_agrees_each_time() {
    let database = Database::empty().await;
    sqlx(&database, &["run"]);
    let objects = database.number(OBJECTS).await;
    assert!(objects > 20, "{objects}");
    assert_eq!(migrate(&database), "the schema is up to date\n");

    sqlx(&database, &["revert", "--target-version", "0"]);
    assert_eq!(database.number(OBJECTS).await, 0, "a full revert leaves the ledger and nothing else");
    assert_eq!(database.number("SELECT count(*) FROM postcall._sqlx_migrations").await, 0);

    assert_eq!(migrate(&database).lines().count(), migrations());
    assert_eq!(database.number(OBJECTS).await, objects);
    let info = stdout(&sqlx(&database, &["info"]));
    assert_eq!(info.matches("/installed").count(), migrations(), "{info}");
}

#[tokio::test]
async fn either_tool_continues_where_the_other_stopped() {
    let database = Database::empty().await;
    sqlx(&database, &["run", "--target-version", "20261123000004"]);
    assert_eq!(migrate(&database).lines().count(), migrations() - 4);
    // Each migration for itself, down to the ground and back.
    for left in (0..migrations()).rev() {
        sqlx(&database, &["revert"]);
        assert_eq!(database.number("SELECT count(*) FROM postcall._sqlx_migrations").await, left as i64);
    }
    sqlx(&database, &["run"]);
    assert_eq!(migrate(&database), "the schema is up to date\n");
}

#[tokio::test]
async fn run_refuses_a_schema_that_is_missing_older_newer_or_altered_in_plain_words() {
    let refusal = async |database: &Database| {
        let output = postcall_on(database, &["run"]);
        assert_eq!(output.status.code(), Some(1));
        stderr(&output)
    };
    let empty = Database::empty().await;
    let words = refusal(&empty).await;
    let missing = format!("older than this program: {} migrations are missing. Run `postcall migrate`", migrations());
    assert!(words.contains(&missing), "{words}");

    let database = Database::new().await;
    sqlx(&database, &["revert"]);
    let words = refusal(&database).await;
    assert!(words.contains("older than this program: 1 migrations are missing"), "{words}");

    let newer = Database::new().await;
    newer
        .execute(
            "INSERT INTO postcall._sqlx_migrations (version, description, success, checksum, execution_time)
             VALUES (20991231000000, 'from the future', true, '', 0)",
        )
        .await;
    let words = refusal(&newer).await;
    assert!(words.contains("newer than this program") && words.contains("Install a newer postcall"), "{words}");

    let altered = Database::new().await;
    altered.execute("UPDATE postcall._sqlx_migrations SET checksum = 'x' WHERE version = 20261123000004").await;
    let words = refusal(&altered).await;
    assert!(words.contains("migration 20261123000004 in the database is not the one in this program"), "{words}");
}

#[tokio::test]
async fn every_table_column_and_view_says_what_it_is() {
    let database = Database::new().await;
    let silent = "SELECT string_agg(c.relname || coalesce('.' || a.attname, ''), ', ')
                  FROM pg_class c
                  LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND c.relkind <> 'v'
                  WHERE c.relnamespace = 'postcall'::regnamespace AND c.relkind IN ('r', 'p', 'v') AND NOT c.relispartition
                    AND c.relname <> '_sqlx_migrations'
                    AND (obj_description(c.oid, 'pg_class') IS NULL
                         OR (a.attnum IS NOT NULL AND col_description(c.oid, a.attnum) IS NULL))";
    assert_eq!(database.text(silent).await, None);
}

/// Auditors read the view, and not the tables behind it.
#[tokio::test]
async fn every_column_of_the_view_of_history_says_what_it_is() {
    let database = Database::new().await;
    let silent = "SELECT string_agg(attname, ', ') FROM pg_attribute
                  WHERE attrelid = 'postcall.delivery_history'::regclass AND attnum > 0
                    AND col_description(attrelid, attnum) IS NULL";
    assert_eq!(database.text(silent).await, None);
}
