//! Sessions: whatever settings the server, the database and the role have, postcall's sessions have those that they
//! need.

use nix::sys::signal::Signal;
use serde_json::json;

use crate::support::cluster::Cluster;
use crate::support::database::Database;
use crate::support::inbox::Inbox;
use crate::support::process::{Dispatcher, postcall_at, stderr};
use crate::support::proxy::Proxy;

/// Defaults with which a session of ours could not work, or not well.
const HOSTILE: &[&str] = &[
    "default_transaction_isolation = 'serializable'",
    "default_transaction_read_only = on",
    "default_transaction_deferrable = on",
    "lock_timeout = '1ms'",
    // Long enough for the statement that sets it anew, on a machine that is busy with everything else.
    "statement_timeout = '3s'",
    "idle_session_timeout = '250ms'",
    "idle_in_transaction_session_timeout = '1ms'",
    "synchronous_commit = off",
    "exit_on_error = on",
    "row_security = on",
    "search_path = 'hostile, public'",
    "client_min_messages = 'debug5'",
    "DateStyle = 'SQL, DMY'",
    "IntervalStyle = 'iso_8601'",
    "TimeZone = 'Pacific/Chatham'",
    "bytea_output = 'escape'",
    "extra_float_digits = -15",
    "standard_conforming_strings = off",
    "transform_null_equals = on",
    "array_nulls = off",
    "quote_all_identifiers = on",
    "enable_indexscan = off",
    "enable_indexonlyscan = off",
    "enable_nestloop = off",
    "enable_tidscan = off",
    "enable_material = off",
    "enable_partition_pruning = off",
    "plan_cache_mode = 'force_custom_plan'",
    "work_mem = '64kB'",
    "jit = on",
    "jit_above_cost = 0",
    "join_collapse_limit = 1",
    "from_collapse_limit = 1",
];

/// A login of this test alone, with the dispatcher's role and these defaults.
async fn role_with(database: &Database, name: &str, defaults: &[&str]) -> String {
    let role = format!("{name}_{}", std::process::id());
    database
        .execute(&format!("DROP ROLE IF EXISTS {role}; CREATE ROLE {role} LOGIN IN ROLE postcall_dispatcher"))
        .await;
    for setting in defaults {
        database.execute(&format!("ALTER ROLE {role} SET {setting}")).await;
    }
    database.url.replace("postgres@", &format!("{role}@"))
}

#[tokio::test]
async fn a_role_with_hostile_defaults_dispatches_everything_exactly_once_without_trouble() {
    const CALLS: usize = 400;
    let (database, inbox) = (Database::new().await, Inbox::open().await);
    database.publish("a", "default", &json!({"method": "POST", "url": inbox.url("/")})).await;
    let url = role_with(&database, "hostile", HOSTILE).await;
    let mut dispatchers = Vec::new();
    for _ in 0..3 {
        dispatchers.push(Dispatcher::start_at(&url, &["--concurrency", "8"]).await);
    }
    for _ in 0..CALLS {
        database.insert_call("a", &json!({"callInfo": {"callSid": "CA1"}})).await;
    }
    database.settled().await;
    for dispatcher in dispatchers {
        dispatcher.signal(Signal::SIGTERM);
        let (well, lines) = dispatcher.ended_saying().await;
        assert!(well && !lines.iter().any(|line| line.contains("WARN")), "{lines:#?}");
    }
    let outcomes = "SELECT count(*) FROM postcall.delivery_history WHERE state = 'delivered'";
    assert_eq!(database.number(outcomes).await, CALLS as i64);
    assert_eq!(inbox.received().len(), CALLS);
    let outcome = postcall_at(&url, &["history", "--limit", "5"]);
    assert!(outcome.status.success(), "{}", stderr(&outcome));
}

/// Sessions of the program under test, by what is set there.
async fn says(url: &str, setting: &str) -> String {
    let database = Database::at(url.to_owned()).await;
    let sql = format!("SELECT current_setting('{setting}')");
    database.text(&sql).await.unwrap()
}

/// A database, or a server, that is read-only by default is meant so: it is waited out like any other trouble.
#[tokio::test]
async fn a_database_that_is_read_only_on_purpose_is_not_written_to() {
    let database = Database::new().await;
    let name = database.text("SELECT current_database()::text").await.unwrap();
    database.execute(&format!("ALTER DATABASE {name} SET default_transaction_read_only = on")).await;
    assert_eq!(says(&database.url, "default_transaction_read_only").await, "on");
    let output = postcall_at(&database.url, &["run"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("read-only transaction"), "{}", stderr(&output));
}

#[tokio::test]
async fn a_standby_is_refused_in_plain_words() {
    let cluster = Cluster::start().await;
    Database::on(&cluster.server(), "").await;
    let line = Proxy::to(&cluster.address()).await;
    let standby = cluster.synchronous_standby(&line).await;
    for command in ["run", "migrate"] {
        let output = postcall_at(&standby.url_of("postcall"), &[command]);
        assert_eq!(output.status.code(), Some(1), "{command}");
        assert!(stderr(&output).contains("this server is a standby"), "{command}: {}", stderr(&output));
    }
}

#[tokio::test]
async fn a_session_in_which_the_schema_s_triggers_would_not_fire_is_refused_by_name() {
    let database = Database::new().await;
    let url = role_with(&database, "replica", &["session_replication_role = 'replica'"]).await;
    let output = postcall_at(&url, &["run"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("session_replication_role"), "{}", stderr(&output));
}
