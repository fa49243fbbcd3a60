//! What is old leaves, what is still needed stays and is named, and the accounts stay exact.

use postcall::store::retention::{Dropped, RowCursor, RowsPruned};
use serde_json::json;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use super::{
    MONTH, THEN, WEEK, accounts_agree, calls, calls_of, database_with_past, exists, foreign_calls_of, keep, outcome,
    partition, prune, why,
};
use crate::support::endings::end_all;
use crate::support::process::{postcall_on, stdout};

#[tokio::test]
async fn what_is_old_leaves_and_what_is_younger_stays_and_a_dry_run_changes_nothing() {
    let database = database_with_past().await;
    calls_of(&database, THEN, 3).await;
    foreign_calls_of(&database, THEN, 5).await;
    end_all(&database, "delivered").await;
    // Of today, one of them with a foreign id.
    database.insert_call("a", &json!({})).await;
    database
        .execute(
            "INSERT INTO postcall.outbox (id, agent, call) VALUES ('f0000000-0000-4000-8000-000000000000', 'a', '{}')",
        )
        .await;
    end_all(&database, "delivered").await;
    accounts_agree(&database);

    let both = ["--keep-calls-days", "30", "--keep-history-days", "60"];
    let said = prune(&database, &[&both[..], &["--dry-run"]].concat());
    for due in [WEEK, MONTH, "outbox_foreign"] {
        assert_eq!(outcome(&said, due), "would leave", "{said:?}");
    }
    assert_eq!(calls(&database).await, 10);
    assert!(exists(&database, WEEK).await && exists(&database, MONTH).await);

    let said = prune(&database, &both);
    assert_eq!(outcome(&said, WEEK), "left", "{said:?}");
    assert_eq!(outcome(&said, MONTH), "left", "{said:?}");
    assert_eq!(outcome(&said, "outbox_foreign"), "5 rows left", "{said:?}");
    assert_eq!(calls(&database).await, 2);
    assert!(!exists(&database, WEEK).await && !exists(&database, MONTH).await);
    assert_eq!(database.number("SELECT count(*) FROM postcall.delivery").await, 2);
    accounts_agree(&database);
    assert!(prune(&database, &both).iter().all(|(_, outcome, _)| outcome == "stays"));
}

#[tokio::test]
async fn a_partition_with_a_call_that_waits_or_is_in_flight_stays_and_the_delivery_is_named() {
    let database = database_with_past().await;
    calls_of(&database, THEN, 3).await;
    foreign_calls_of(&database, THEN, 3).await;
    database
        .execute(
            "INSERT INTO postcall.dispatcher (name, version, lease_until) VALUES ('d', '1', now() + interval '1 hour');
             WITH held AS (DELETE FROM postcall.waiting WHERE delivery_id IN (
                      SELECT delivery_id FROM postcall.waiting WHERE call_id < 'f0000000-0000-0000-0000-000000000000' LIMIT 1)
                  RETURNING *)
             INSERT INTO postcall.sending (delivery_id, call_id, agent, action_id, action_version, created_at, dispatcher_id,
                 claim, claimed_at)
             SELECT delivery_id, call_id, agent, action_id, 1, created_at, 1, gen_random_uuid(), now() FROM held",
        )
        .await;
    let days = ["--keep-calls-days", "30"];
    let (waiting, sending) = (
        "SELECT delivery_id::text FROM postcall.waiting WHERE call_id < 'f0000000-0000-0000-0000-000000000000'",
        "SELECT delivery_id::text FROM postcall.sending",
    );
    for expected in [waiting, sending] {
        let said = prune(&database, &days);
        assert_eq!(outcome(&said, WEEK), "stays");
        // Whatever the plan said before.
        let dropped = database.session().prune_partition(WEEK, keep("30", "")).await.unwrap();
        assert!(matches!(dropped, Dropped::Pending(Some(_))), "{dropped:?}");
        let id = database.text(expected).await.unwrap();
        assert!(why(&said, WEEK).contains(&id) || expected == waiting, "{said:?}");
        assert!(why(&said, WEEK).contains("is still to be sent"), "{said:?}");
        assert_eq!(outcome(&said, "outbox_foreign"), "0 rows left", "{said:?}");
        assert_eq!(calls(&database).await, 6);
        if expected == waiting {
            database
                .execute("DELETE FROM postcall.waiting WHERE call_id < 'f0000000-0000-0000-0000-000000000000'")
                .await;
        }
    }
    // One of the foreign calls is through: it leaves, the others stay.
    database
        .execute("DELETE FROM postcall.waiting WHERE delivery_id = (SELECT min(delivery_id::text)::uuid FROM postcall.waiting)")
        .await;
    assert_eq!(outcome(&prune(&database, &days), "outbox_foreign"), "1 rows left");
    database.execute("DELETE FROM postcall.sending").await;
    assert_eq!(outcome(&prune(&database, &days), WEEK), "left");
    let orphans =
        "SELECT count(*) FROM postcall.waiting WHERE NOT EXISTS (SELECT FROM postcall.outbox WHERE id = call_id)";
    assert_eq!(database.number(orphans).await, 0);
    assert_eq!(calls(&database).await, 2);
}

#[tokio::test]
async fn what_was_said_about_history_leaves_with_it_and_the_guards_hold_for_the_rest() {
    let database = database_with_past().await;
    calls_of(&database, THEN, 2).await;
    end_all(&database, "unknown").await;
    for sql in [
        "INSERT INTO postcall.resolution (delivery_id, state, resolved_by, reason)
         SELECT min(delivery_id::text)::uuid, 'failed', 'Ada', 'r' FROM postcall.delivery",
        "INSERT INTO postcall.replay (replay_of, replayed_by, reason)
         SELECT max(delivery_id::text)::uuid, 'Ada', 'r' FROM postcall.delivery",
    ] {
        database.execute(sql).await;
    }
    end_all(&database, "unknown").await;
    database
        .execute(
            "INSERT INTO postcall.resolution (delivery_id, state, resolved_by, reason)
             SELECT delivery_id, 'failed', 'Ada', 'r' FROM postcall.replay",
        )
        .await;
    let refusals = async || {
        for table in ["delivery", "replay", "resolution"] {
            let error = database.error_of(&format!("DELETE FROM postcall.{table}")).await;
            assert!(error.contains("are never changed or deleted"), "{table}: {error}");
        }
    };
    refusals().await;
    let said = prune(&database, &["--keep-calls-days", "30", "--keep-history-days", "30"]);
    assert_eq!(outcome(&said, MONTH), "left");
    assert_eq!(outcome(&said, "resolution"), "1 rows left", "{said:?}");
    // The replay was made today, and its finding is about today's delivery.
    let left = "SELECT (SELECT count(*) FROM postcall.replay) * 10 + (SELECT count(*) FROM postcall.resolution)";
    assert_eq!(database.number(left).await, 11);
    refusals().await;
    accounts_agree(&database);
    // What has left cannot be said not to have.
    for earlier in ["history_begins - interval '1 ms'", "NULL"] {
        let error = database.error_of(&format!("UPDATE postcall.retention SET history_begins = {earlier}")).await;
        assert!(error.contains("are never changed or deleted"), "{error}");
    }
    let error = database.error_of("DELETE FROM postcall.retention").await;
    assert!(error.contains("are never changed or deleted"), "{error}");
}

#[tokio::test]
async fn history_in_the_default_partition_leaves_in_portions_and_nobody_is_accused() {
    let database = database_with_past().await;
    // There is no partition of that month.
    calls_of(&database, "2025-03-04 12:00Z", 4_500).await;
    end_all(&database, "delivered").await;
    let both = ["--keep-calls-days", "30", "--keep-history-days", "30"];
    let mut session = database.session();
    // Only history, so that the calls that have lost theirs are there to be asked about.
    let RowsPruned::More(removed, next) =
        session.prune_rows("delivery_default", keep("30", "30"), RowCursor::FIRST).await.unwrap()
    else {
        panic!("more than a portion");
    };
    assert!(removed < 4_500, "{removed}");
    accounts_agree(&database);
    assert!(matches!(
        session.prune_rows("delivery_default", keep("30", "30"), next).await.unwrap(),
        RowsPruned::More(..)
    ));
    accounts_agree(&database);
    let said = prune(&database, &both);
    assert_eq!(outcome(&said, "delivery_default"), "500 rows left", "{said:?}");
    assert_eq!(outcome(&said, "outbox_default"), "4500 rows left", "{said:?}");
    assert_eq!(calls(&database).await, 0);
    accounts_agree(&database);
}

#[tokio::test]
async fn a_call_whose_history_is_missing_is_still_missed_if_it_is_younger_than_what_has_left() {
    let database = database_with_past().await;
    calls_of(&database, THEN, 1).await;
    let call = database.insert_call("a", &json!({})).await;
    end_all(&database, "delivered").await;
    prune(&database, &["--keep-calls-days", "30", "--keep-history-days", "30"]);
    accounts_agree(&database);
    database.insert_call("a", &json!({})).await;
    database.execute("DELETE FROM postcall.waiting").await;
    let output = postcall_on(&database, &["check-invariants"]);
    assert!(
        stdout(&output).contains("VIOLATED  none_missing") && !stdout(&output).contains(&call.to_string()),
        "{}",
        stdout(&output)
    );
}

#[tokio::test]
async fn whoever_checks_the_accounts_never_sees_a_partition_half_gone() {
    let database = database_with_past().await;
    // The call stays; its delivery leaves, although there is an older partition that does not.
    partition(&database, "delivery", "delivery_20250501", "2025-05-01Z", "2025-06-01Z").await;
    calls_of(&database, THEN, 1).await;
    end_all(&database, "delivered").await;
    let mut pruner = PgConnection::connect(&database.url).await.unwrap();
    let dropped = format!("BEGIN; SELECT 1 / (outcome = 'left')::int FROM postcall.prune_partition('{MONTH}', 30, 30)");
    sqlx::raw_sql(AssertSqlSafe(dropped)).execute(&mut pruner).await.unwrap();
    let store = database.store.clone();
    let check = tokio::spawn(async move { store.check_invariants().await.unwrap() });
    database.until("SELECT count(*) > 0 FROM pg_locks WHERE NOT granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())").await;
    sqlx::raw_sql("COMMIT").execute(&mut pruner).await.unwrap();
    let violated: Vec<_> = check.await.unwrap().checked.into_iter().filter(|checked| checked.violations > 0).collect();
    assert!(violated.is_empty(), "{violated:?}");
    // And nothing leaves while somebody checks.
    let mut checker = PgConnection::connect(&database.url).await.unwrap();
    let lock = "BEGIN; LOCK TABLE postcall.retention IN ACCESS SHARE MODE";
    sqlx::raw_sql(lock).execute(&mut checker).await.unwrap();
    assert_eq!(database.session().prune_partition(WEEK, keep("30", "")).await.unwrap(), Dropped::InUse);
}

#[tokio::test]
async fn a_partition_that_somebody_has_detached_is_named_with_what_to_do() {
    let database = database_with_past().await;
    database.execute(&format!("ALTER TABLE postcall.outbox DETACH PARTITION postcall.{WEEK}")).await;
    let said = prune(&database, &["--keep-calls-days", "30"]);
    assert_eq!(outcome(&said, WEEK), "stays");
    assert!(why(&said, WEEK).contains(&format!("DROP TABLE postcall.{WEEK}")), "{said:?}");
}

#[tokio::test]
async fn without_an_index_foreign_calls_stay_and_the_statement_is_named_that_makes_it() {
    let database = database_with_past().await;
    foreign_calls_of(&database, THEN, 3).await;
    end_all(&database, "delivered").await;
    database.execute("DROP INDEX postcall.outbox_foreign_by_age").await;
    // Also for whoever found it there and comes to the rows afterwards.
    let rows = database.session().prune_rows("outbox_foreign", keep("30", ""), RowCursor::FIRST).await.unwrap();
    assert!(matches!(rows, RowsPruned::NoIndex), "{rows:?}");
    let said = prune(&database, &["--keep-calls-days", "30"]);
    assert_eq!(outcome(&said, "outbox_foreign"), "stays");
    let (_, statement) = why(&said, "outbox_foreign").split_once("owner: ").unwrap();
    database.execute(statement).await;
    assert_eq!(outcome(&prune(&database, &["--keep-calls-days", "30"]), "outbox_foreign"), "3 rows left");
    // Partitions that are made later have theirs.
    database.execute("DROP TABLE postcall.outbox_foreign; SELECT postcall.make_partitions()").await;
    assert_eq!(database.number("SELECT count(to_regclass('postcall.outbox_foreign_by_age'))").await, 1);
}
