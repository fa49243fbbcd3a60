//! A dispatcher's database user in the hands of somebody else: what it can do in the place of another dispatcher, and to what another
//! one sends. Dispatchers with logins of their own are held apart; what is written about those that share one is in SECURITY.md.

use serde_json::json;
use sqlx::{AssertSqlSafe, PgConnection};

use crate::support::database::Database;
use crate::support::inbox::Inbox;
use crate::support::intruder::attempt;
use crate::support::keys::{key_file, new_key};
use crate::support::process::Dispatcher;

const DISPATCHER: &[&str] = &["postcall_dispatcher"];

async fn does(connection: &mut PgConnection, sql: &str) -> u64 {
    sqlx::raw_sql(AssertSqlSafe(sql))
        .execute(connection)
        .await
        .unwrap_or_else(|error| panic!("{sql}: {error}"))
        .rows_affected()
}

/// Registers a dispatcher as the user of the connection, with a lease of a minute.
async fn register(connection: &mut PgConnection) -> i32 {
    let register = "INSERT INTO postcall.dispatcher (name, version, lease_until)
                    VALUES ('d', '1', clock_timestamp() + interval '1 minute') RETURNING dispatcher_id";
    sqlx::query_scalar(register).fetch_one(connection).await.unwrap()
}

/// What a dispatcher does to record a result: `state` with `columns`, which have `values`.
fn result(dispatcher_id: i32, state: &str, columns: &str, values: &str) -> String {
    format!(
        "INSERT INTO postcall.delivery (delivery_id, call_id, claim, action_id, created_at, claimed_at, finished_at, action_version,
                                        dispatcher_id, agent, state, {columns})
         VALUES (postcall_id(), postcall_id(), postcall_id(), 1, now(), now(), clock_timestamp(), 1, {dispatcher_id}, 'a', '{state}', {values})"
    )
    .replace("postcall_id()", "gen_random_uuid()")
}

fn delivered(dispatcher_id: i32) -> String {
    let columns = "method, url, response_code, response_bytes, response_sha256, body_end, latency_ms";
    result(dispatcher_id, "delivered", columns, "'POST', 'https://h.example/', 200, 0, sha256(''), 'complete', 1")
}

fn unknown(dispatcher_id: i32, kind: &str) -> String {
    result(dispatcher_id, "unknown", "error_kind, latency_ms", &format!("'{kind}', 1"))
}

async fn refused(connection: &mut PgConnection, sql: &str, words: &str) {
    let error = attempt(connection, sql).await;
    assert!(error.as_deref().is_some_and(|error| error.contains(words)), "{sql}: {error:?}");
}

#[tokio::test]
async fn no_dispatcher_touches_the_lease_of_another_or_says_that_a_living_one_is_lost() {
    let database = Database::new().await;
    let (mut holder, mut rogue) = (database.connect_as(DISPATCHER).await, database.connect_as(DISPATCHER).await);
    let id = register(&mut holder).await;
    let change = |change: &str| format!("UPDATE postcall.dispatcher SET {change} WHERE dispatcher_id = {id}");
    for what in ["lease_until = clock_timestamp() + interval '5 minutes'", "claim_epoch = 7", "stopped_at = now()"] {
        refused(&mut rogue, &change(what), "belongs to another database user").await;
    }
    // Nobody ends a lease before its time, not even with the same login: neither at once nor by making it short.
    let now = "lost_at = clock_timestamp()";
    for connection in [&mut rogue, &mut holder] {
        refused(connection, &change(now), "is not over").await;
    }
    let left = format!(
        "SELECT extract(epoch FROM lease_until - clock_timestamp())::bigint FROM postcall.dispatcher WHERE dispatcher_id = {id}"
    );
    does(&mut holder, &change("lease_until = now() - interval '1 second'")).await;
    assert!((50..=60).contains(&database.number(&left).await), "it stays as long as it was");
    // No lease is longer than any dispatcher can have.
    does(&mut holder, &change("lease_until = '9999-01-01'")).await;
    assert!((600..=660).contains(&database.number(&left).await));
    database.execute(&change("lease_until = now() - interval '1 second'")).await;
    assert_eq!(does(&mut rogue, &change(now)).await, 1, "what is over is declared lost by anybody");
}

#[tokio::test]
async fn no_dispatcher_records_a_result_in_the_name_of_another_nor_gives_up_what_a_living_one_has() {
    let database = Database::new().await;
    database.publish("a", "default", &json!({"method": "POST", "url": "https://h.example/"})).await;
    let (mut holder, mut rogue) = (database.connect_as(DISPATCHER).await, database.connect_as(DISPATCHER).await);
    let (of_holder, of_rogue) = (register(&mut holder).await, register(&mut rogue).await);
    let words = "a result is recorded by the database user of its dispatcher";
    refused(&mut rogue, &delivered(of_holder), words).await;
    refused(&mut rogue, &unknown(of_holder, "timeout"), words).await;
    for connection in [&mut rogue, &mut holder] {
        refused(connection, &unknown(of_holder, "dispatcher_lost"), words).await;
    }
    // Not hidden in a batch of its own either.
    let mixed = format!("{}; {}", delivered(of_rogue), delivered(of_holder));
    refused(&mut rogue, &mixed, words).await;
    let both = delivered(of_rogue).replace("VALUES (", "SELECT ").trim_end_matches(')').to_owned();
    let both = format!(
        "{both} UNION ALL SELECT {}",
        &delivered(of_holder).split_once("VALUES (").unwrap().1.trim_end_matches(')')
    );
    refused(&mut rogue, &both, words).await;
    assert_eq!(does(&mut holder, &delivered(of_holder)).await, 1);
    assert_eq!(does(&mut rogue, &delivered(of_rogue)).await, 1);
    let end =
        "UPDATE postcall.dispatcher SET lease_until = now() - interval '1 s', lost_at = now() WHERE dispatcher_id =";
    database.execute(&format!("{end} {of_holder}")).await;
    assert_eq!(
        does(&mut rogue, &unknown(of_holder, "dispatcher_lost")).await,
        1,
        "what a lost one had is given up by anybody"
    );
    // A dispatcher from before this was recorded has no login here, and is not held to it.
    database.execute(&format!("UPDATE postcall.dispatcher SET db_user = NULL WHERE dispatcher_id = {of_rogue}")).await;
    assert_eq!(does(&mut holder, &delivered(of_rogue)).await, 1);
}

#[tokio::test]
async fn late_evidence_is_given_about_what_is_unknown_and_by_the_dispatcher_that_had_it() {
    let database = Database::new().await;
    database.publish("a", "default", &json!({"method": "POST", "url": "https://h.example/"})).await;
    let (mut holder, mut rogue) = (database.connect_as(DISPATCHER).await, database.connect_as(DISPATCHER).await);
    let of_holder = register(&mut holder).await;
    does(&mut holder, &unknown(of_holder, "timeout")).await;
    does(&mut holder, &delivered(of_holder)).await;
    let evidence = |state: &str| {
        format!(
            "INSERT INTO postcall.resolution (delivery_id, source, resolved_by, reason, state, response_code)
             SELECT delivery_id, 'claim', 'd', 'r', 'delivered', 200 FROM postcall.delivery WHERE state = '{state}'"
        )
    };
    refused(&mut rogue, &evidence("unknown"), "by the database user of the dispatcher that had the delivery").await;
    refused(&mut holder, &evidence("delivered"), "only about a delivery that is unknown").await;
    let invented = evidence("unknown").replace("SELECT delivery_id", "SELECT gen_random_uuid()");
    refused(&mut holder, &invented, "only about a delivery that is unknown").await;
    assert_eq!(does(&mut holder, &evidence("unknown")).await, 1);
}

#[tokio::test]
async fn rows_in_the_queue_and_in_flight_are_taken_and_put_and_never_changed() {
    let database = Database::new().await;
    let mut rogue = database.connect_as(DISPATCHER).await;
    for sql in [
        "UPDATE postcall.waiting SET action_id = 2",
        "UPDATE postcall.waiting SET agent = 'b'",
        "UPDATE postcall.waiting SET call_id = delivery_id",
        "UPDATE postcall.sending SET action_id = 2",
        "UPDATE postcall.sending SET action_version = 2",
        "UPDATE postcall.sending SET dispatcher_id = 2",
        "UPDATE postcall.sending SET claim = delivery_id",
    ] {
        refused(&mut rogue, sql, "42501").await;
    }
}

#[tokio::test]
async fn the_call_of_one_agent_is_never_sent_by_the_action_of_another_whatever_stands_in_the_queue() {
    let (database, inbox) = (Database::new().await, Inbox::open().await);
    let of_a = inbox.url("/of-a");
    database.publish("a", "default", &json!({"method": "POST", "url": of_a})).await;
    let call = database.insert_call("a", &json!({"secret words": "of a"})).await;
    database.execute("DELETE FROM postcall.waiting").await;
    database.publish("b", "default", &json!({"method": "POST", "url": inbox.url("/of-b")})).await;
    // A row that a rogue wrote: a's call by b's action, once in the name of each, and b's action in a's lane.
    let mut rogue = database.connect_as(DISPATCHER).await;
    for agent in ["a", "b"] {
        let forged = format!(
            "INSERT INTO postcall.waiting (delivery_id, call_id, agent, action_id, created_at, call_bytes)
             VALUES (gen_random_uuid(), '{call}', '{agent}', 2, now(), 30)"
        );
        does(&mut rogue, &forged).await;
    }
    let _honest = Dispatcher::start_at(&database.login(DISPATCHER).await, &[]).await;
    database.settled().await;
    let ends =
        "SELECT string_agg(concat_ws(' ', agent, state, error_kind), ', ' ORDER BY agent) FROM postcall.delivery";
    assert_eq!(database.text(ends).await.unwrap(), "a failed render, b failed render");
    assert!(inbox.received().is_empty());
    // What is of one agent is sent.
    database.insert_call("a", &json!({})).await;
    inbox.has(1).await;
    assert_eq!(inbox.received()[0].target, "/of-a");
}

#[tokio::test]
async fn a_call_is_signed_by_its_action_s_agent_whatever_agent_the_queue_names() {
    let (database, inbox, keys) = (Database::new().await, Inbox::open().await, key_file(&[&new_key()]));
    crate::signing::publish(&database, "a", &inbox).await;
    crate::signing::changed(&database, &keys, &["enable", "a"]);
    let call = database.insert_call("a", &json!({})).await;
    database.execute("DELETE FROM postcall.waiting").await;
    // Of agent b nothing is signed.
    let mut rogue = database.connect_as(DISPATCHER).await;
    let forged = format!(
        "INSERT INTO postcall.waiting (delivery_id, call_id, agent, action_id, created_at, call_bytes)
         VALUES (gen_random_uuid(), '{call}', 'b', 1, now(), 30)"
    );
    does(&mut rogue, &forged).await;
    let url = database.login(DISPATCHER).await;
    let _honest = Dispatcher::start_at(&url, &["--key-file", keys.path().to_str().unwrap()]).await;
    inbox.has(1).await;
    assert!(inbox.received()[0].header("webhook-signature").is_some());
}
