//! If one person replays an unknown delivery and another records a finding about it, one of them comes first, and the
//! other is told so.

use std::fmt::Debug;

use postcall::domain::delivery::Finding;
use postcall::store::Store;
use postcall::store::replay::{ReplayOrder, ReplayRefusal, Replayed};
use postcall::store::resolve::Resolution;
use serde_json::json;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::support::database::Database;
use crate::support::endings::ended;
use crate::support::process::{postcall_on, stderr};

/// Races of each kind; half of them on the older code had two winners.
const RACES: usize = 40;

async fn database_with_unknown(count: usize) -> (Database, Vec<Uuid>) {
    let database = Database::new().await;
    database.publish("a", "default", &json!({"method": "POST", "url": "https://receiver.example/"})).await;
    let ids = ended(&database, "unknown", count.try_into().unwrap()).await;
    (database, ids.iter().map(|id| id.parse().unwrap()).collect())
}

async fn resolve(store: Store, id: Uuid, finding: Finding) -> Resolution {
    store.resolve(id, finding, "Ada", "the receiver's log").await.unwrap()
}

async fn replay(store: Store, ids: Vec<Uuid>) -> Vec<Replayed> {
    let order =
        ReplayOrder { by: "Bob".to_owned(), reason: "r".to_owned(), include_delivered: false, include_unknown: true };
    store.replay(&ids, &order).await.unwrap().into_iter().map(|(_, outcome)| outcome).collect()
}

/// Who won, after checking that the other was told why.
fn winner(resolution: &Resolution, replayed: &Replayed) -> &'static str {
    match (resolution, replayed) {
        (Resolution::Resolved, Replayed::Refused(ReplayRefusal::Delivered)) => "finding",
        (Resolution::Replayed { replay }, Replayed::As(made)) if replay == made => "replay",
        both => panic!("{both:?}"),
    }
}

/// Waits until so many sessions wait for a lock.
async fn waiting_for_locks(database: &Database, count: usize) {
    database
        .until(&format!(
            "SELECT count(*) = {count} FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        ))
        .await;
}

/// Waits until so many sessions wait for a lock; this order must be one of theirs.
async fn wait_in_line<T: Debug>(database: &Database, count: usize, order: &mut JoinHandle<T>) {
    tokio::select! {
        outcome = order => panic!("it has not waited for its turn: {outcome:?}"),
        () = waiting_for_locks(database, count) => {}
    }
}

/// Holds back everybody who is about to judge this delivery.
async fn hold(database: &Database, id: Uuid) -> PgConnection {
    let mut holder = PgConnection::connect(&database.url).await.unwrap();
    let sql = format!("BEGIN; SELECT postcall.lock_deliveries('{{{id}}}')");
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut holder).await.unwrap();
    holder
}

#[tokio::test]
async fn of_a_finding_and_a_replay_at_the_same_time_exactly_one_wins() {
    let (database, ids) = database_with_unknown(RACES).await;
    for id in ids {
        let finding = tokio::spawn(resolve(database.store.clone(), id, Finding::Delivered));
        let replayed = tokio::spawn(replay(database.store.clone(), vec![id]));
        winner(&finding.await.unwrap(), &replayed.await.unwrap()[0]);
    }
    let both =
        "SELECT count(*) FROM postcall.replay JOIN postcall.resolution ON resolution.delivery_id = replay.replay_of";
    assert_eq!(database.number(both).await, 0);
    assert_eq!(
        database
            .number("SELECT (SELECT count(*) FROM postcall.replay) + (SELECT count(*) FROM postcall.resolution)")
            .await,
        RACES as i64
    );
}

#[tokio::test]
async fn who_asked_first_wins_whichever_it_is() {
    let (database, ids) = database_with_unknown(8).await;
    for (number, id) in ids.into_iter().enumerate() {
        let mut holder = hold(&database, id).await;
        let (mut finding, mut replayed);
        if number % 2 == 0 {
            replayed = tokio::spawn(replay(database.store.clone(), vec![id]));
            wait_in_line(&database, 1, &mut replayed).await;
            finding = tokio::spawn(resolve(database.store.clone(), id, Finding::Delivered));
            wait_in_line(&database, 2, &mut finding).await;
        } else {
            finding = tokio::spawn(resolve(database.store.clone(), id, Finding::Delivered));
            wait_in_line(&database, 1, &mut finding).await;
            replayed = tokio::spawn(replay(database.store.clone(), vec![id]));
            wait_in_line(&database, 2, &mut replayed).await;
        }
        sqlx::raw_sql("ROLLBACK").execute(&mut holder).await.unwrap();
        let won = winner(&finding.await.unwrap(), &replayed.await.unwrap()[0]);
        assert_eq!(won, if number % 2 == 0 { "replay" } else { "finding" });
    }
}

#[tokio::test]
async fn one_after_the_other_the_second_is_told_in_plain_words() {
    let (database, ids) = database_with_unknown(2).await;
    let run = |arguments: &[&str]| postcall_on(&database, &[arguments, &["--reason", "r"]].concat());
    let (first, second) = (ids[0].to_string(), ids[1].to_string());
    assert!(run(&["replay", &first, "--include-unknown"]).status.success());
    let output = run(&["resolve", &first, "--as", "delivered"]);
    assert_eq!(output.status.code(), Some(1));
    let replay = database.text("SELECT delivery_id::text FROM postcall.replay").await.unwrap();
    assert!(stderr(&output).contains(&format!("{first} was replayed as {replay}")), "{}", stderr(&output));
    assert!(run(&["resolve", &second, "--as", "delivered"]).status.success());
    let output = run(&["replay", &second, "--include-unknown"]);
    assert!(stderr(&output).contains("the message was delivered"), "{}", stderr(&output));
    // Also where the finding is written past the program, by a statement that looks at an older state of things.
    let sql = format!(
        "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1;
         INSERT INTO postcall.resolution (delivery_id, state, resolved_by, reason) VALUES ('{first}', 'failed', 'Ada', 'r')"
    );
    let mut connection = PgConnection::connect(&database.url).await.unwrap();
    let error = sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap_err();
    assert!(error.to_string().contains("READ COMMITTED"), "{error}");
    database
        .execute(&format!("INSERT INTO postcall.resolution (delivery_id, state, resolved_by, reason) VALUES ('{first}', 'failed', 'Ada', 'r')"))
        .await;
    assert_eq!(database.number("SELECT count(*) FROM postcall.resolution").await, 1);
}

#[tokio::test]
async fn a_finding_in_the_midst_of_many_replays_takes_its_own_delivery_from_them_and_no_other() {
    let (database, ids) = database_with_unknown(200).await;
    let middle = ids[100];
    let mut holder = hold(&database, middle).await;
    // The finding waits first; the replay locks all that come before it, and waits there.
    let finding = tokio::spawn(resolve(database.store.clone(), middle, Finding::Delivered));
    waiting_for_locks(&database, 1).await;
    let replayed = tokio::spawn(replay(database.store.clone(), ids.clone()));
    waiting_for_locks(&database, 2).await;
    // Another finding, of one that the replay has locked already, waits and loses.
    let late = tokio::spawn(resolve(database.store.clone(), ids[0], Finding::Delivered));
    waiting_for_locks(&database, 3).await;
    sqlx::raw_sql("ROLLBACK").execute(&mut holder).await.unwrap();
    assert_eq!(finding.await.unwrap(), Resolution::Resolved);
    let replayed = replayed.await.unwrap();
    assert_eq!(replayed.iter().filter(|outcome| matches!(outcome, Replayed::As(_))).count(), 199);
    assert_eq!(replayed[100], Replayed::Refused(ReplayRefusal::Delivered));
    assert!(matches!(late.await.unwrap(), Resolution::Replayed { .. }));
}

#[tokio::test]
async fn two_people_who_find_different_things_and_two_who_replay_have_one_winner_each() {
    let (database, ids) = database_with_unknown(RACES).await;
    for pair in ids.chunks(2) {
        let found = tokio::join!(
            tokio::spawn(resolve(database.store.clone(), pair[0], Finding::Delivered)),
            tokio::spawn(resolve(database.store.clone(), pair[0], Finding::Failed)),
        );
        let found = [found.0.unwrap(), found.1.unwrap()];
        assert!(found.contains(&Resolution::Resolved) && found.contains(&Resolution::AlreadyResolved), "{found:?}");
        let replayed = tokio::join!(
            tokio::spawn(replay(database.store.clone(), vec![pair[1]])),
            tokio::spawn(replay(database.store.clone(), vec![pair[1]])),
        );
        let replayed = [&replayed.0.unwrap()[0], &replayed.1.unwrap()[0]];
        assert_eq!(replayed.iter().filter(|outcome| matches!(outcome, Replayed::As(_))).count(), 1, "{replayed:?}");
    }
    assert_eq!(database.number("SELECT count(*) FROM postcall.replay").await, (RACES / 2) as i64);
}

#[tokio::test]
async fn what_the_claim_itself_learns_late_is_always_taken_and_waits_for_nobody() {
    let (database, ids) = database_with_unknown(3).await;
    assert_eq!(resolve(database.store.clone(), ids[0], Finding::Failed).await, Resolution::Resolved);
    assert!(matches!(replay(database.store.clone(), vec![ids[1]]).await[0], Replayed::As(_)));
    let _holder = hold(&database, ids[2]).await;
    let mut dispatcher = database.connect_as(&["postcall_dispatcher"]).await;
    sqlx::raw_sql("SET lock_timeout = '1ms'").execute(&mut dispatcher).await.unwrap();
    for id in ids {
        sqlx::query(
            "INSERT INTO postcall.resolution (delivery_id, source, state, resolved_by, reason, response_code)
             VALUES ($1, 'claim', 'delivered', 'the dispatcher that sent it', 'late', 200)",
        )
        .bind(id)
        .execute(&mut dispatcher)
        .await
        .unwrap();
    }
    let delivered =
        "SELECT count(*) FROM postcall.delivery_history WHERE recorded_state = 'unknown' AND state = 'delivered'";
    assert_eq!(database.number(delivered).await, 3);
}
