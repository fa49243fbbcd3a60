//! Platforms that prepare their transactions (two-phase commit). A transaction that has sent a notification cannot be
//! prepared. So these transactions send none, and dispatchers find the calls by looking.

use serde_json::json;
use sqlx::{Connection, PgConnection};

use crate::support::cluster::Cluster;
use crate::support::database::Database;
use crate::support::inbox::Inbox;
use crate::support::process::Dispatcher;

const INSERT: &str = "INSERT INTO postcall.outbox (agent, call) VALUES ('a', '{}')";
/// Asleep: it has asked for the bell.
const ASLEEP: &str = "SELECT last_value > extract(epoch FROM clock_timestamp()) * 1000 FROM postcall.bell";

async fn cluster_with_action(inbox: &Inbox) -> (Cluster, Database) {
    let cluster = Cluster::start().await;
    let database = Database::on(&cluster.server(), "").await;
    database.publish("a", "default", &json!({"method": "POST", "url": inbox.url("/")})).await;
    (cluster, database)
}

/// Inserts a call in a transaction that is prepared while a dispatcher does what `meanwhile` waits for. Returns the error.
async fn prepare(database: &Database, name: &str, before: &str, asleep: bool) -> Result<(), String> {
    let mut connection = PgConnection::connect(&database.url).await.unwrap();
    if asleep {
        database.until(ASLEEP).await;
    }
    let script = format!("BEGIN; {before}; {INSERT}; PREPARE TRANSACTION '{name}'");
    let prepared = sqlx::raw_sql(sqlx::AssertSqlSafe(script)).execute(&mut connection).await;
    prepared.map(drop).map_err(|error| error.as_database_error().unwrap().message().to_owned())
}

#[tokio::test]
async fn a_transaction_that_says_poll_can_be_prepared_while_a_dispatcher_sleeps_and_its_call_is_found() {
    let inbox = Inbox::open().await;
    let (_cluster, database) = cluster_with_action(&inbox).await;
    let _dispatcher = Dispatcher::start(&database, &[]).await;
    // Without the setting it is refused whenever somebody sleeps, which is what the setting is for.
    let refusal = prepare(&database, "loud", "SELECT 1", true).await.unwrap_err();
    assert!(
        refusal.contains("cannot PREPARE a transaction that has executed LISTEN, UNLISTEN, or NOTIFY"),
        "{refusal}"
    );
    for round in 1..=3 {
        prepare(&database, "silent", "SET LOCAL postcall.wake_up = 'poll'", true).await.unwrap();
        assert_eq!(inbox.received().len(), round - 1, "nothing is sent before it is committed");
        database.execute("COMMIT PREPARED 'silent'").await;
        inbox.has(round).await;
    }
    prepare(&database, "undone", "SET LOCAL postcall.wake_up = 'poll'", true).await.unwrap();
    database.execute("ROLLBACK PREPARED 'undone'").await;
    database.execute(INSERT).await;
    inbox.has(4).await;
    database.settled().await;
    assert_eq!(inbox.received().len(), 4, "what was rolled back is not sent");
}

#[tokio::test]
async fn where_the_database_says_poll_nobody_asks_for_the_bell_and_calls_are_found_by_looking() {
    let inbox = Inbox::open().await;
    let (cluster, database) = cluster_with_action(&inbox).await;
    cluster.execute("ALTER DATABASE postcall SET postcall.wake_up = 'poll'").await;
    let database = Database::at(database.url).await;
    let _dispatcher = Dispatcher::start(&database, &[]).await;
    for round in 1..=3 {
        // Idle for longer than it takes until a dispatcher would sleep: it has looked very often.
        let looks = "SELECT xact_commit FROM pg_stat_database WHERE datname = 'postcall'";
        let before = database.number(looks).await;
        database
            .until(&format!("SELECT xact_commit > {before} + 100 FROM pg_stat_database WHERE datname = 'postcall'"))
            .await;
        prepare(&database, "ordinary", "SELECT 1", false).await.unwrap();
        database.execute("COMMIT PREPARED 'ordinary'").await;
        inbox.has(round).await;
        assert_eq!(database.number("SELECT last_value FROM postcall.bell").await, 0, "nobody has asked for the bell");
    }
}
