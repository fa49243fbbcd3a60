//! Database users who try what they must not do: one for each role, and one without any role.

use serde_json::json;
use sqlx::{AssertSqlSafe, PgConnection};

use super::database::Database;
use super::endings::ended;

/// Every role, and a user who has none.
pub const EVERYBODY: [&[&str]; 5] =
    [&["postcall_platform"], &["postcall_dispatcher"], &["postcall_publisher"], &["postcall_auditor"], &[]];

/// What stands in a call and in an action's templates, and must be seen by nobody who does not need it.
pub const SECRET: &str = "s3cret-word";

/// An action and a delivery in each state that has a table, full of secrets.
pub async fn database_with_secrets() -> Database {
    let database = Database::new().await;
    let action = json!({"method": "POST", "url": format!("https://receiver.example/{SECRET}"),
                        "headers": {"x": SECRET}, "body": format!("\"{SECRET}\"")});
    database.publish("a", "default", &action).await;
    ended(&database, "unknown", 1).await;
    ended(&database, "failed", 1).await;
    database.insert_call("a", &json!({"callInfo": {"callSid": "CA1"}, "summary": SECRET})).await;
    database.execute("ANALYZE").await;
    database
}

/// Tries statements in a transaction that is rolled back. The error's message and SQLSTATE, or `None` if nothing stopped it.
pub async fn attempt(connection: &mut PgConnection, sql: &str) -> Option<String> {
    sqlx::raw_sql("BEGIN").execute(&mut *connection).await.unwrap();
    let result = sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut *connection).await;
    sqlx::raw_sql("ROLLBACK").execute(&mut *connection).await.unwrap();
    let error = result.err()?;
    let error = error.as_database_error().expect("an error of the database");
    Some(format!("{} {}", error.code().unwrap_or_default(), error.message()))
}

/// Every statement is refused to each of the users for want of a right.
pub async fn refused(database: &Database, users: &[&[&str]], statements: &[&str]) {
    for roles in users {
        let mut connection = database.connect_as(roles).await;
        for sql in statements {
            let error = attempt(&mut connection, sql).await;
            assert!(error.as_deref().is_some_and(|error| error.starts_with("42501 ")), "{roles:?}: {sql}: {error:?}");
        }
    }
}
