//! Replays: the same message is sent once more, never by accident, and never without a record.

use std::process::Output;

use serde_json::{Value, json};

use crate::support::database::Database;
use crate::support::endings::{end_all, ended};
use crate::support::inbox::Inbox;
use crate::support::process::{Dispatcher, postcall_at, postcall_on, stderr, stdout};

/// What a replay leaves behind, and what waits.
const REPLAYS: &str = "SELECT count(*) FROM postcall.replay";
const WAITING: &str = "SELECT count(*) FROM postcall.waiting";

async fn database_with_action() -> Database {
    let database = Database::new().await;
    database.publish("a", "default", &json!({"method": "POST", "url": "https://receiver.example/"})).await;
    database
}

fn replay(database: &Database, arguments: &[&str]) -> Output {
    postcall_on(database, &[&["replay", "--reason", "the receiver was down", "--by", "Ada"], arguments].concat())
}

/// The id of the only new delivery that a replay by id says it made.
fn made(output: &Output) -> String {
    assert!(output.status.success(), "{}", stderr(output));
    stdout(output).trim().rsplit(' ').next().unwrap().to_owned()
}

fn refused(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{}", stdout(output));
    stderr(output)
}

#[tokio::test]
async fn a_replay_is_a_new_delivery_of_the_same_message_by_the_newest_version_linked_to_its_original() {
    let (database, inbox) = (Database::new().await, Inbox::open().await);
    database.publish("a", "default", &json!({"method": "POST", "url": inbox.url("/422")})).await;
    database.insert_call("a", &json!({"callInfo": {"callSid": "CA1"}})).await;
    let _dispatcher = Dispatcher::start(&database, &[]).await;
    database.settled().await;
    let original = database.text("SELECT delivery_id::text FROM postcall.delivery").await.unwrap();

    let again = made(&replay(&database, &[&original]));
    inbox.has(2).await;
    database.settled().await;
    database.publish("a", "default", &json!({"method": "POST", "url": inbox.url("/mended")})).await;
    let last = made(&replay(&database, &[&again]));
    inbox.has(3).await;
    database.settled().await;

    assert_eq!(inbox.counts_by("webhook-id"), [(original.clone(), 3)].into());
    assert_eq!(inbox.received()[2].target, "/mended");
    let output = postcall_on(&database, &["history", "--format", "json"]);
    let rows: Vec<Value> = serde_json::from_str(&stdout(&output)).unwrap();
    let told = |row: &Value| {
        ["delivery_id", "state", "message_id", "replay_of", "replayed_by", "replay_reason"]
            .map(|column| row[column].as_str().unwrap_or("-").to_owned())
    };
    let reason = "the receiver was down";
    assert_eq!(told(&rows[0]), [&last, "delivered", &original, &again, "Ada", reason]);
    assert_eq!(told(&rows[1]), [&again, "rejected", &original, &original, "Ada", reason]);
    assert_eq!(told(&rows[2]), [&original, "rejected", &original, "-", "-", "-"]);
}

#[tokio::test]
async fn what_was_delivered_or_is_in_doubt_is_sent_again_only_if_that_is_asked_for_by_name() {
    let database = database_with_action().await;
    for (state, flag) in [("delivered", "--include-delivered"), ("unknown", "--include-unknown")] {
        let id = &ended(&database, state, 1).await[0];
        assert!(refused(&replay(&database, &[id])).contains(flag));
        assert!(refused(&replay(&database, &["--state", state])).contains(&format!("left out: 1 {state} ({flag}")));
        assert_eq!(database.number(WAITING).await, 0);
        // What the message came to once holds for its replays, whatever they came to.
        let failed = made(&replay(&database, &[id, flag]));
        end_all(&database, "failed").await;
        assert!(refused(&replay(&database, &[&failed])).contains(flag));
        made(&replay(&database, &[&failed, flag]));
        end_all(&database, state).await;
    }
    for state in ["failed", "rejected", "skipped"] {
        let id = &ended(&database, state, 1).await[0];
        made(&replay(&database, &[id]));
        end_all(&database, "delivered").await;
    }
}

#[tokio::test]
async fn a_delivery_is_replayed_once_and_a_message_on_its_way_not_at_all() {
    let database = database_with_action().await;
    let original = &ended(&database, "failed", 1).await[0];
    let again = made(&replay(&database, &[original]));
    assert!(refused(&replay(&database, &[original])).contains(&format!("its replay {again} is still waiting")));
    assert!(refused(&replay(&database, &[&again])).contains("still waiting"));
    end_all(&database, "failed").await;
    let words = refused(&replay(&database, &[original]));
    assert!(words.contains(&format!("was replayed as {again}, which is failed: replay that one")), "{words}");
    // Both match; one can be replayed.
    let output = replay(&database, &["--state", "failed"]);
    assert_eq!(stdout(&output), "replayed 1\n");
    assert!(stderr(&output).contains("left out: 1, replayed already"), "{}", stderr(&output));
    assert_eq!(database.number(REPLAYS).await, 2);
    let words = refused(&replay(&database, &["--agent", "a", "--state", "waiting"]));
    assert!(words.contains("left out: 1 waiting (still on their way)"), "{words}");
}

#[tokio::test]
async fn by_id_one_refusal_means_that_nothing_is_replayed_and_all_refusals_are_named() {
    let database = database_with_action().await;
    let good = &ended(&database, "failed", 1).await[0];
    let bad = &ended(&database, "delivered", 1).await[0];
    let nowhere = "01a20a0c-146c-7e1c-9aa8-e0f101fcdd31";
    for more in [&[][..], &["--dry-run"]] {
        let words = refused(&replay(&database, &[&[good, bad, nowhere][..], more].concat()));
        assert!(words.contains(&format!("{bad}: the message was delivered")), "{words}");
        assert!(words.contains(&format!("{nowhere}: there is no such delivery")), "{words}");
        assert!(words.contains("nothing is replayed: 2 of 3 are refused"), "{words}");
        assert_eq!((database.number(REPLAYS).await, database.number(WAITING).await), (0, 0));
    }
}

#[tokio::test]
async fn what_could_only_fail_or_be_skipped_is_refused() {
    let database = database_with_action().await;
    let id = &ended(&database, "failed", 1).await[0];
    assert!(postcall_on(&database, &["action", "disable", "a"]).status.success());
    let words = refused(&replay(&database, &[id]));
    assert!(words.contains("`postcall action enable a --name default` first"), "{words}");
    assert!(postcall_on(&database, &["action", "enable", "a"]).status.success());
    database.execute("DELETE FROM postcall.outbox").await;
    assert!(refused(&replay(&database, &[id])).contains("the call is no longer kept"));
    assert_eq!(database.number(REPLAYS).await, 0);
}

#[tokio::test]
async fn a_dry_run_says_how_many_and_which_and_changes_nothing() {
    let database = database_with_action().await;
    ended(&database, "delivered", 3).await;
    let failed = ended(&database, "failed", 2).await;
    let rejected = ended(&database, "rejected", 1).await;
    let output = replay(&database, &["--agent", "a", "--dry-run"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let said = stdout(&output);
    assert!(said.ends_with("would replay 3: 2 failed, 1 rejected\n"), "{said}");
    assert!(failed.iter().chain(&rejected).all(|id| said.contains(id)), "{said}");
    assert_eq!(said.lines().count(), 5, "{said}");
    assert!(stderr(&output).contains("left out: 3 delivered (--include-delivered"), "{}", stderr(&output));
    let by_id = stdout(&replay(&database, &[&failed[1], "--dry-run"]));
    assert!(by_id.contains(&failed[1]) && by_id.ends_with("would replay 1: 1 failed\n"), "{by_id}");
    assert_eq!((database.number(REPLAYS).await, database.number(WAITING).await), (0, 0));
}

#[tokio::test]
async fn criteria_choose_and_must_be_given_and_must_not_match_more_than_bargained_for() {
    let database = database_with_action().await;
    database.publish("b", "crm", &json!({"method": "GET", "url": "https://receiver.example/"})).await;
    ended(&database, "failed", 3).await;
    database.insert_call("b", &json!({})).await;
    end_all(&database, "rejected").await;
    let words = refused(&replay(&database, &["--state", "failed", "--limit", "2"]));
    assert!(words.contains("more than 2 deliveries match"), "{words}");
    for (criteria, count) in [
        (["--agent", "b"], 1),
        (["--action", "crm"], 1),
        (["--error-kind", "dns"], 3),
        (["--call-sid", "CA9"], 0),
        (["--since", "2026-01-01"], 4),
        (["--until", "2026-01-01"], 0),
    ] {
        let said = stdout(&replay(&database, &[&criteria[..], &["--dry-run"]].concat()));
        let expected = if count == 0 { "no delivery matches".to_owned() } else { format!("would replay {count}:") };
        assert!(said.contains(&expected), "{criteria:?}: {said}");
    }
    let id = "01a20a0c-146c-7e1c-9aa8-e0f101fcdd31";
    for wrong in [&[][..], &[id, "--agent", "a"], &["--dry-run"]] {
        assert_eq!(replay(&database, wrong).status.code(), Some(2), "{wrong:?}");
    }
    assert_eq!(postcall_on(&database, &["replay", id]).status.code(), Some(2), "a reason is required");
    assert_eq!(database.number(REPLAYS).await, 0);
}

#[tokio::test]
async fn who_comes_second_waits_and_is_refused() {
    let database = database_with_action().await;
    let id = ended(&database, "failed", 1).await.remove(0);
    // The first has written and not yet committed.
    let mut first = database.pool.begin().await.unwrap();
    sqlx::query("INSERT INTO postcall.replay (replay_of, replayed_by, reason) VALUES ($1::uuid, 'Bob', 'first')")
        .bind(&id)
        .execute(&mut *first)
        .await
        .unwrap();
    let url = database.url.clone();
    let second = tokio::task::spawn_blocking(move || postcall_at(&url, &["replay", &id, "--reason", "second"]));
    let waits = "SELECT EXISTS (SELECT FROM pg_stat_activity
                                WHERE datname = current_database() AND wait_event = 'transactionid')";
    database.until(waits).await;
    first.commit().await.unwrap();
    let words = refused(&second.await.unwrap());
    assert!(words.contains("its replay") && words.contains("is still waiting"), "{words}");
    assert_eq!((database.number(REPLAYS).await, database.number(WAITING).await), (1, 1));
}

#[tokio::test]
async fn however_many_replay_the_same_at_the_same_time_each_delivery_is_replayed_once() {
    let database = database_with_action().await;
    ended(&database, "failed", 1_200).await;
    // All wait at this lock, and set out together.
    let mut lock = database.pool.begin().await.unwrap();
    sqlx::query("LOCK TABLE postcall.replay").execute(&mut *lock).await.unwrap();
    let operators: Vec<_> = (0..4)
        .map(|_| {
            let url = database.url.clone();
            let command = ["replay", "--state", "failed", "--reason", "all at once"];
            tokio::task::spawn_blocking(move || postcall_at(&url, &command))
        })
        .collect();
    let all_wait = "SELECT count(*) = 4 FROM pg_stat_activity
                    WHERE datname = current_database() AND wait_event_type = 'Lock'";
    database.until(all_wait).await;
    lock.rollback().await.unwrap();
    let mut total = 0;
    for operator in operators {
        let output = operator.await.unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        assert!(stderr(&output).contains("1000 of 1200"), "{}", stderr(&output));
        total += stdout(&output).trim().strip_prefix("replayed ").unwrap().parse::<i64>().unwrap();
    }
    assert_eq!((total, database.number(REPLAYS).await, database.number(WAITING).await), (1_200, 1_200, 1_200));
}

#[tokio::test]
async fn a_replay_that_the_database_interrupts_says_how_many_were_made_and_a_repetition_makes_the_rest() {
    let database = database_with_action().await;
    let last = ended(&database, "failed", 501).await.remove(500);
    let trouble = format!(
        "CREATE FUNCTION public.trouble() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''trouble''; END';
         CREATE TRIGGER trouble BEFORE INSERT ON postcall.replay
             FOR EACH ROW WHEN (NEW.replay_of = '{last}') EXECUTE FUNCTION public.trouble()"
    );
    database.execute(&trouble).await;
    let words = refused(&replay(&database, &["--state", "failed"]));
    assert!(words.contains("500 of 501\n500 were replayed before this; repeat the command for the rest\n"), "{words}");
    assert!(words.contains("trouble"), "{words}");
    assert_eq!(database.number(REPLAYS).await, 500);

    database.execute("DROP TRIGGER trouble ON postcall.replay").await;
    let output = replay(&database, &["--state", "failed"]);
    assert_eq!(stdout(&output), "replayed 1\n", "{}", stderr(&output));
    assert!(stderr(&output).contains("left out: 500, replayed already\n"), "{}", stderr(&output));
    assert_eq!(database.number(REPLAYS).await, 501);
}

#[tokio::test]
async fn a_replay_of_the_previous_release_is_one_delivery_under_its_message_s_id() {
    let database = database_with_action().await;
    let original = ended(&database, "failed", 1).await.remove(0);
    // Its statement chooses the ids and puts the delivery into the queue itself.
    let statement = "WITH made AS (
             INSERT INTO postcall.replay (delivery_id, replay_of, message_id, replayed_by, reason)
             SELECT postcall.uuid_v7(), $1::uuid, $1::uuid, 'Ada', 'r'
             ON CONFLICT (replay_of) DO NOTHING
             RETURNING delivery_id, replay_of
         ),
         queued AS (
             INSERT INTO postcall.waiting (delivery_id, call_id, agent, action_id, created_at)
             SELECT made.delivery_id, call_id, agent, action_id, clock_timestamp()
             FROM made JOIN postcall.delivery ON delivery.delivery_id = made.replay_of
         )
         SELECT delivery_id FROM made";
    sqlx::query(statement).bind(&original).execute(&database.pool).await.unwrap();
    assert_eq!((database.number(REPLAYS).await, database.number(WAITING).await), (1, 1));
    let message = "SELECT message_id::text FROM postcall.delivery_history WHERE state = 'waiting'";
    assert_eq!(database.text(message).await, Some(original));
}

#[tokio::test]
async fn a_replay_takes_neither_its_identity_nor_its_queue_from_whoever_asks_for_it() {
    let database = database_with_action().await;
    let original = ended(&database, "failed", 1).await.remove(0);
    let replay = "INSERT INTO postcall.replay (replay_of, delivery_id, message_id, replayed_by, reason)
                  VALUES ($1::uuid, $2::uuid, $2::uuid, 'Ada', 'r')";
    let foreign = "01a20a0c-146c-7e1c-9aa8-e0f101fcdd31";
    sqlx::query(replay).bind(&original).bind(foreign).execute(&database.pool).await.unwrap();
    let said = "SELECT (delivery_id <> '01a20a0c-146c-7e1c-9aa8-e0f101fcdd31') || ' ' || (message_id = replay_of) FROM postcall.replay";
    assert_eq!(database.text(said).await.unwrap(), "true true");
    // What has not ended, or is not there, is not replayed.
    let waiting = database.text("SELECT delivery_id::text FROM postcall.waiting").await.unwrap();
    for id in [waiting.as_str(), foreign] {
        let error = sqlx::query(replay).bind(id).bind(foreign).execute(&database.pool).await.unwrap_err();
        assert!(error.to_string().contains("only a delivery that has ended can be replayed"), "{error}");
    }
}
