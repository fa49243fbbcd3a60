//! History that proves itself: what the owner of the database changes, removes, inserts or takes back is named.

use std::process::Output;

use postcall::domain::seal::{Kind, Place};
use postcall::seal::{fields, leaf};
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use uuid::Uuid;

use crate::support::database::Database;
use crate::support::endings::{end_all, ended};
use crate::support::process::{file, postcall, postcall_on, stderr, stdout};
use crate::support::sealing::{database_with, key, public, seal, seal_by, sealer, sealer_with, unguarded};

/// Verifies with the tests' key. Says whether all is well, and what is not.
fn verified(database: &Database, more: &[&str]) -> (bool, Value) {
    let key = public();
    let output = postcall_on(database, &[&["audit", "verify", "--json", "--key", &key], more].concat());
    let found: Value = serde_json::from_str(&stdout(&output)).unwrap_or_else(|_| panic!("{}", stderr(&output)));
    (output.status.success(), found)
}

/// What is wrong, as `word what`.
fn named(found: &Value) -> Vec<String> {
    let mut named: Vec<String> = found["named"]
        .as_array()
        .unwrap()
        .iter()
        .map(|wrong| format!("{} {}", wrong["is"].as_str().unwrap(), wrong["what"].as_str().unwrap()))
        .collect();
    named.sort();
    named
}

/// The delivery at this place, counted from 0.
async fn delivery(database: &Database, place: i32) -> String {
    database
        .text(&format!("SELECT delivery_id::text FROM postcall.delivery ORDER BY delivery_id OFFSET {place} LIMIT 1"))
        .await
        .unwrap()
}

fn prove(database: &Database, delivery: &str) -> Output {
    postcall_on(database, &["audit", "prove", delivery])
}

#[tokio::test]
async fn an_insider_who_alters_removes_and_inserts_sealed_rows_is_named_with_each_of_them() {
    let database = database_with(3_000).await;
    seal(&database, None).await;
    let (holds, found) = verified(&database, &[]);
    assert!(holds && found["sealed"] == 3_002 && found["unsealed"] == 0, "{found}");

    let [altered, removed, like] =
        [delivery(&database, 17).await, delivery(&database, 1_500).await, delivery(&database, 2_999).await];
    let inserted = Uuid::now_v7();
    unguarded(
        &database,
        &format!(
            "UPDATE postcall.delivery SET state = 'rejected', response_code = 422 WHERE delivery_id = '{altered}';
             DELETE FROM postcall.delivery WHERE delivery_id = '{removed}';
             CREATE TEMP TABLE copied AS SELECT * FROM postcall.delivery WHERE delivery_id = '{like}';
             UPDATE copied SET delivery_id = '{inserted}';
             INSERT INTO postcall.delivery SELECT * FROM copied"
        ),
    )
    .await;
    let (holds, found) = verified(&database, &[]);
    let expected = [
        format!("altered delivery {altered}"),
        format!("inserted delivery {inserted}"),
        format!("removed delivery {removed}"),
    ];
    assert!(!holds, "{found}");
    assert_eq!(named(&found), expected);
    let text = postcall_on(&database, &["audit", "verify", "--key", &public()]);
    assert_eq!(text.status.code(), Some(1));
    assert!(expected.iter().all(|line| stdout(&text).contains(&line[8..])), "{}", stdout(&text));
    assert!(stderr(&prove(&database, &altered)).contains("is not what was sealed"));
}

#[tokio::test]
async fn a_row_of_every_kind_is_sealed_and_named_when_it_is_altered() {
    let database = database_with(2).await;
    let unknown = ended(&database, "unknown", 2).await;
    database
        .execute(&format!(
            "INSERT INTO postcall.resolution (delivery_id, source, state, resolved_by, reason, response_code)
             VALUES ('{}', 'claim', 'delivered', 'the dispatcher', 'late', 200);
             INSERT INTO postcall.resolution (delivery_id, state, resolved_by, reason) VALUES ('{}', 'failed', 'Ada', 'r');
             INSERT INTO postcall.replay (replay_of, replayed_by, reason)
             SELECT delivery_id, 'Ada', 'r' FROM postcall.delivery WHERE state = 'delivered' LIMIT 1;
             INSERT INTO postcall.pause (agent, reason, paused_by) VALUES ('a', 'r', 'Ada');
             INSERT INTO postcall.pause_end (pause_id, reason, resumed_by) VALUES (1, 'r', 'Ada');
             UPDATE postcall.action SET enabled = false;
             UPDATE postcall.retention SET history_begins = '2001-01-01Z'",
            unknown[0], unknown[1]
        ))
        .await;
    seal(&database, None).await;
    let (holds, found) = verified(&database, &[]);
    // Four deliveries, a version, two switches, and one of each of the others.
    assert!(holds && found["sealed"] == 13, "{found}");
    unguarded(
        &database,
        "UPDATE postcall.delivery SET url = 'https://elsewhere.example/' WHERE state = 'delivered';
         UPDATE postcall.resolution SET reason = 'another';
         UPDATE postcall.replay SET replayed_by = 'Eve';
         UPDATE postcall.pause SET db_user = 'eve';
         UPDATE postcall.pause_end SET resumed_at = resumed_at + interval '1 microsecond';
         UPDATE postcall.action_switch SET enabled = NOT enabled;
         UPDATE postcall.action_version SET body = '{}';
         UPDATE postcall.pruning SET history_begins = '2002-01-01Z'",
    )
    .await;
    let (_, found) = verified(&database, &[]);
    let kinds: Vec<String> =
        named(&found).iter().map(|wrong| wrong.split(' ').take(2).collect::<Vec<_>>().join(" ")).collect();
    let expected = [
        "delivery",
        "delivery",
        "finding",
        "late_result",
        "pause",
        "pause_end",
        "pruning",
        "replay",
        "switch",
        "switch",
        "version",
    ];
    assert_eq!(kinds, expected.map(|kind| format!("altered {kind}")));
    // An action's name and agent are told with each of its versions.
    unguarded(&database, "UPDATE postcall.action_version SET body = NULL; UPDATE postcall.action SET name = 'other'")
        .await;
    assert!(named(&verified(&database, &[]).1).contains(&"altered version 1 of action 1".to_owned()));
}

#[tokio::test]
async fn a_restored_backup_is_named_by_the_checkpoints_that_were_exported_before() {
    let (database, directory) = (database_with(300).await, tempfile::tempdir().unwrap());
    seal(&database, Some(directory.path())).await;
    let place = database.number("SELECT max(size) FROM postcall.seal_slice").await;
    ended(&database, "delivered", 200).await;
    seal(&database, Some(directory.path())).await;
    let checkpoints = ["--checkpoints", directory.path().to_str().unwrap()];
    let (holds, found) = verified(&database, &checkpoints);
    assert!(holds && found["exported"] == 2 && found["sealed"] == 502, "{found}");

    let back = format!(
        "DELETE FROM postcall.delivery WHERE xact > (SELECT through_xact FROM postcall.seal_slice WHERE size = {place});
         DELETE FROM postcall.seal_slice WHERE size > {place};
         DELETE FROM postcall.seal_node WHERE (position + 1) << level > {place}"
    );
    unguarded(&database, &back).await;
    assert!(verified(&database, &[]).0, "without exported checkpoints the older log is whole");
    let (holds, found) = verified(&database, &checkpoints);
    assert!(
        !holds && named(&found)[0].contains("502 leaves") && named(&found)[0].contains("ahead of the log"),
        "{found}"
    );

    // A sealer that knows what was exported signs nothing beside it.
    ended(&database, "delivered", 300).await;
    let mut knowing = sealer_with(&database, key(), Some(directory.path()));
    database.execute("UPDATE postcall.seal_turn SET held_until = NULL").await;
    assert!(knowing.round().await.unwrap_err().to_string().contains("does not continue the checkpoint of 502 leaves"));
    // One that does not know it goes on, and both logs cannot be true.
    seal(&database, None).await;
    let (holds, found) = verified(&database, &checkpoints);
    assert!(
        !holds && named(&found)[0].contains("502 leaves") && named(&found)[0].contains("not one of this log"),
        "{found}"
    );
}

#[tokio::test]
async fn whoever_replaces_the_rows_the_leaves_and_the_checkpoints_lacks_the_key() {
    let database = database_with(100).await;
    seal(&database, None).await;
    unguarded(
        &database,
        "DELETE FROM postcall.seal_slice; DELETE FROM postcall.seal_node;
         UPDATE postcall.delivery SET call_sid = 'CAforged'",
    )
    .await;
    let forger = postcall::seal::key::Signer::from_seed("test.example/history", &[8; 32]).unwrap();
    seal_by(&database, &mut sealer_with(&database, forger, None)).await;
    let without_key = postcall_on(&database, &["audit", "verify"]);
    assert!(
        without_key.status.success() && stdout(&without_key).contains("were not verified"),
        "{}",
        stdout(&without_key)
    );
    let (holds, found) = verified(&database, &[]);
    assert!(!holds && named(&found)[0].contains("not signed by the key"), "{found}");
    // An honest sealer builds nothing on it.
    ended(&database, "delivered", 1).await;
    database.execute("UPDATE postcall.seal_turn SET held_until = NULL").await;
    assert!(sealer(&database).round().await.unwrap_err().to_string().contains("is not signed by this key"));
}

#[tokio::test]
async fn a_leaf_that_is_altered_with_its_row_is_named_by_the_signed_root() {
    let database = database_with(100).await;
    seal(&database, None).await;
    unguarded(&database, "UPDATE postcall.seal_slice SET hashes = set_byte(hashes, 39, 255 - get_byte(hashes, 39))")
        .await;
    let (holds, found) = verified(&database, &[]);
    assert!(!holds && named(&found).iter().any(|wrong| wrong.contains("are not those that were signed")), "{found}");
    unguarded(&database, "DELETE FROM postcall.seal_slice WHERE first_leaf = 0").await;
    ended(&database, "delivered", 1).await;
    assert!(verified(&database, &[]).1["sealed"] == 0);
}

#[tokio::test]
async fn what_commits_late_is_sealed_later_and_never_missed() {
    let database = database_with(10).await;
    seal(&database, None).await;
    // This one writes first, and commits last.
    let mut late = PgConnection::connect(&database.url).await.unwrap();
    let write = "INSERT INTO postcall.pause (agent, reason, paused_by) VALUES ('late', 'r', 'Ada')";
    sqlx::raw_sql(AssertSqlSafe(format!("BEGIN; {write}"))).execute(&mut late).await.unwrap();
    ended(&database, "delivered", 10).await;
    let mut sealer = sealer(&database);
    database.execute("UPDATE postcall.seal_turn SET held_until = NULL").await;
    sealer.round().await.unwrap();
    let (holds, found) = verified(&database, &[]);
    assert!(holds && found["sealed"] == 12 && found["unsealed"] == 10, "what is behind it waits: {found}");
    assert!(found["oldest_unsealed_s"].as_i64().is_some(), "{found}");

    sqlx::raw_sql("COMMIT").execute(&mut late).await.unwrap();
    seal_by(&database, &mut sealer).await;
    let (holds, found) = verified(&database, &[]);
    assert!(holds && found["sealed"] == 23 && found["unsealed"] == 0, "{found}");
}

#[tokio::test]
async fn a_transaction_of_another_database_of_the_server_keeps_nothing_from_being_sealed() {
    let other = Database::new().await;
    let mut elsewhere = PgConnection::connect(&other.url).await.unwrap();
    sqlx::raw_sql("BEGIN; SELECT pg_current_xact_id()").execute(&mut elsewhere).await.unwrap();
    let database = database_with(3).await;
    let mut here = PgConnection::connect(&database.url).await.unwrap();
    sqlx::raw_sql("BEGIN; SELECT pg_current_xact_id()").execute(&mut here).await.unwrap();
    ended(&database, "failed", 2).await;
    let sealed = "SELECT coalesce((SELECT count(*) FROM postcall.delivery WHERE xact <= (SELECT max(through_xact) FROM postcall.seal_slice)), 0)";
    let mut sealer = sealer(&database);
    sealer.round().await.unwrap();
    assert_eq!(
        database.number(sealed).await,
        3,
        "what was written behind a transaction of this database waits for its end"
    );
    sqlx::raw_sql("COMMIT").execute(&mut here).await.unwrap();
    sealer.round().await.unwrap();
    assert_eq!(database.number(sealed).await, 5);
    sqlx::raw_sql("COMMIT").execute(&mut elsewhere).await.unwrap();
}

#[tokio::test]
async fn sealers_at_the_same_time_and_one_that_dies_seal_every_row_once() {
    let database = database_with(500).await;
    let (mut one, mut other) = (sealer(&database), sealer(&database));
    // It is one's turn: the other leaves it alone, until the turn is over.
    one.round().await.unwrap();
    let sealed = "SELECT coalesce(max(size), 0) FROM postcall.seal_slice";
    database
        .until(
            "SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint > (SELECT max(xact) FROM postcall.delivery)",
        )
        .await;
    one.round().await.unwrap();
    assert_eq!(database.number(sealed).await, 502);
    ended(&database, "delivered", 20_000).await;
    database
        .until(
            "SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint > (SELECT max(xact) FROM postcall.delivery)",
        )
        .await;
    other.round().await.unwrap();
    assert_eq!(database.number(sealed).await, 502, "it is not its turn");
    // One dies in the middle of its work, wherever that is, and the other goes on when the turn is over.
    let rounds = async {
        database.until("SELECT max(size) > 502 FROM postcall.seal_slice").await;
    };
    tokio::select! {
        () = rounds => {}
        done = one.round() => done.unwrap(),
    }
    drop(one);
    database.execute("UPDATE postcall.seal_turn SET held_until = now()").await;
    // Now two who both believe that it is their turn.
    let mut third = sealer(&database);
    let free = async {
        loop {
            database.execute("UPDATE postcall.seal_turn SET held_until = NULL").await;
            if database.number(sealed).await == 20_502 {
                break;
            }
        }
    };
    tokio::join!(free, async { seal_by(&database, &mut other).await }, async { seal_by(&database, &mut third).await });
    let (holds, found) = verified(&database, &[]);
    assert!(holds && found["sealed"] == 20_502 && found["unsealed"] == 0, "{found}");
    let once =
        "SELECT count(DISTINCT first_leaf) = count(*) AND sum(size - first_leaf) = max(size) FROM postcall.seal_slice";
    database.until(once).await;
}

#[tokio::test]
async fn a_proof_is_small_holds_without_the_database_and_after_its_partition_is_gone_and_only_unaltered() {
    let database = database_with(5_000).await;
    seal(&database, None).await;
    let id = delivery(&database, 1_234).await;
    let proof = stdout(&prove(&database, &id));
    assert!(proof.len() <= 2_048, "{}", proof.len());
    let partition = "SELECT inhrelid::regclass::text FROM pg_inherits JOIN postcall.delivery ON delivery.tableoid = inhrelid LIMIT 1";
    let partition = database.text(partition).await.unwrap();
    database.execute(&format!("DROP TABLE {partition}")).await;
    assert!(stderr(&prove(&database, &id)).contains("no such delivery"));
    drop(database);

    let check =
        |proof: &str, key: &str| postcall(&["audit", "check", file(proof).path().to_str().unwrap(), "--key", key]);
    let checked = check(&proof, &public());
    let told: Value = serde_json::from_str(&stdout(&checked)).unwrap_or_else(|_| panic!("{}", stderr(&checked)));
    assert_eq!(
        (&told["kind"], &told["row"]["delivery_id"], &told["row"]["response_code"]),
        (&"delivery".into(), &id.into(), &200.into())
    );

    let stranger = postcall::seal::key::Signer::from_seed("test.example/history", &[9; 32]).unwrap();
    let refused = check(&proof, &stranger.verifier().to_string());
    assert!(
        refused.status.code() == Some(1) && stderr(&refused).contains("not signed by the key"),
        "{}",
        stderr(&refused)
    );
    let parsed: Value = serde_json::from_str(&proof).unwrap();
    for (field, value) in [("leaf", "AQg="), ("path", ""), ("checkpoint", "test.example/history\n1\nAAAA\n\n— x y\n")]
    {
        let mut altered = parsed.clone();
        altered[field] = value.into();
        assert_eq!(check(&altered.to_string(), &public()).status.code(), Some(1), "{field}");
    }
    let mut elsewhere = parsed.clone();
    elsewhere["index"] = 7.into();
    assert!(stderr(&check(&elsewhere.to_string(), &public())).contains("not in the tree"));
}

#[tokio::test]
async fn what_has_left_by_pruning_is_counted_and_what_was_removed_otherwise_is_named() {
    let database = Database::new().await;
    database.publish("a", "default", &serde_json::json!({"method": "POST", "url": "https://receiver.example/"})).await;
    // Two old deliveries, in the default partition, and one of now.
    for id in ["01000000-0000-7000-8000-000000000001", "01000000-0000-7000-8000-000000000002"] {
        database.execute(&format!("INSERT INTO postcall.outbox (id, agent, call) VALUES ('{id}', 'a', '{{}}')")).await;
    }
    database
        .execute("UPDATE postcall.waiting SET delivery_id = call_id, created_at = now() - interval '400 days'")
        .await;
    end_all(&database, "delivered").await;
    ended(&database, "delivered", 1).await;
    seal(&database, None).await;
    database
        .execute(
            "SELECT postcall.prune_rows('delivery_default', NULL, 30, 'epoch', '00000000-0000-0000-0000-000000000000')",
        )
        .await;
    seal(&database, None).await;
    let (holds, found) = verified(&database, &[]);
    assert!(holds && found["left"] == 2 && found["sealed"] == 6, "{found}");
    let young = database.text("SELECT delivery_id::text FROM postcall.delivery").await.unwrap();
    unguarded(&database, "DELETE FROM postcall.delivery").await;
    assert_eq!(named(&verified(&database, &[]).1), [format!("removed delivery {young}")]);
    // Nor does it help to say that history was pruned: that is a row that is sealed, too.
    unguarded(&database, "UPDATE postcall.pruning SET history_begins = now() + interval '1 day'").await;
    assert_eq!(named(&verified(&database, &[]).1), ["altered pruning 1"]);
}

#[tokio::test]
async fn after_a_dump_was_restored_on_another_server_the_numbers_go_on_where_they_ended() {
    let database = database_with(5).await;
    seal(&database, None).await;
    // As if this server had counted farther before.
    unguarded(
        &database,
        "UPDATE postcall.delivery SET xact = xact + 1000000000; UPDATE postcall.seal_slice SET through_xact = through_xact + 1000000000",
    )
    .await;
    ended(&database, "delivered", 1).await;
    database.execute("UPDATE postcall.seal_turn SET held_until = NULL").await;
    let mut sealer = sealer(&database);
    assert!(sealer.round().await.unwrap_err().to_string().contains("postcall.continue_seals()"));
    assert!(database.number("SELECT postcall.continue_seals()").await > 0);
    ended(&database, "delivered", 3).await;
    seal_by(&database, &mut sealer).await;
    assert_eq!(database.number("SELECT max(size) FROM postcall.seal_slice").await, 7 + 3);
    assert!(database.number("SELECT postcall.continue_seals()").await > 0);
    ended(&database, "delivered", 2).await;
    seal_by(&database, &mut sealer).await;
    assert_eq!(database.number("SELECT max(size) FROM postcall.seal_slice").await, 7 + 3 + 2);
}

#[tokio::test]
async fn a_row_that_bears_the_number_of_a_transaction_to_come_is_named() {
    let database = database_with(3).await;
    seal(&database, None).await;
    let id = ended(&database, "delivered", 1).await.remove(0);
    unguarded(&database, &format!("UPDATE postcall.delivery SET xact = xact + 1000000 WHERE delivery_id = '{id}'"))
        .await;
    assert_eq!(named(&verified(&database, &[]).1), [format!("forged delivery {id}")]);
}

/// What is sealed is what the tables hold, field by field, so that no field stands in the place of another.
#[tokio::test]
async fn a_leaf_says_what_its_row_holds() {
    let database = database_with(2).await;
    let unknown = ended(&database, "unknown", 1).await.remove(0);
    database
        .execute(&format!(
            "INSERT INTO postcall.resolution (delivery_id, source, state, resolved_by, reason, response_code, latency_ms, dns_ms,
                 connected_ms, head_ms, request_bytes, response_bytes, body_end, method, url, unresolved)
             VALUES ('{unknown}', 'claim', 'delivered', 'the dispatcher', 'late', 200, 1, 2, 3, 4, 5, 6, 'cut', 'PUT', 'u', '{{a,b}}');
             INSERT INTO postcall.replay (replay_of, replayed_by, reason)
             SELECT delivery_id, 'Ada', 'r' FROM postcall.delivery WHERE state = 'delivered' LIMIT 1;
             INSERT INTO postcall.pause (agent, reason, paused_by) VALUES ('a', 'r', 'Ada');
             INSERT INTO postcall.pause_end (pause_id, reason, resumed_by) VALUES (1, 'q', 'Bob');
             UPDATE postcall.retention SET history_begins = '2001-01-01Z'"
        ))
        .await;
    let rows = database.store.sealed_rows(&Place::FIRST, &Place::LAST, 100).await.unwrap();
    assert_eq!(rows.len(), 10);
    for row in rows {
        let kind = Kind::numbered(row.place.kind as u8).unwrap();
        let (_, told) = leaf::read(&leaf::leaf(kind, &row.record).unwrap()).unwrap();
        let (table, key) = match kind {
            Kind::Delivery => ("delivery", "delivery_id"),
            Kind::LateResult | Kind::Finding => ("resolution", "delivery_id"),
            Kind::Replay => ("replay", "delivery_id"),
            Kind::Version => ("action_version", "action_id"),
            Kind::Switch => ("action_switch", "switch_id"),
            Kind::Pause => ("pause", "pause_id"),
            Kind::PauseEnd => ("pause_end", "pause_id"),
            Kind::Pruning => ("pruning", "pruning_id"),
        };
        let id = told[key].as_str().map_or_else(|| told[key].to_string(), str::to_owned);
        let held = format!(
            "SELECT jsonb_strip_nulls(to_jsonb(t))::text FROM postcall.{table} AS t WHERE {key}::text = '{id}'"
        );
        let held: Value = serde_json::from_str(&database.text(&held).await.unwrap()).unwrap();
        let plain = |value: &Value| {
            let text =
                value.as_str().map_or_else(|| value.to_string(), |text| text.trim_start_matches("\\x").to_owned());
            text.parse::<chrono::DateTime<chrono::Utc>>().map_or(text, |time| time.to_rfc3339())
        };
        let also_known = ["agent", "name", "digest"];
        for (field, value) in
            told.iter().filter(|(field, _)| kind != Kind::Version || !also_known.contains(&field.as_str()))
        {
            assert_eq!(plain(value), plain(&held[field]), "{kind}.{field}");
        }
        // Nothing that the table holds is left out, but what is no statement about what happened.
        let not_sealed = ["xact", "url", "headers", "body"];
        let left_out: Vec<&String> =
            held.as_object().unwrap().keys().filter(|field| !told.contains_key(*field)).collect();
        let allowed = if kind == Kind::Version { &not_sealed[..] } else { &not_sealed[..1] };
        assert!(left_out.iter().all(|field| allowed.contains(&field.as_str())), "{kind}: {left_out:?}");
    }
}

#[test]
fn the_documented_fields_of_leaves_are_those_that_are_sealed() {
    let document = std::fs::read_to_string(crate::support::sources::root().join("docs/auditing.md")).unwrap();
    for kind in Kind::ALL {
        let named = format!("{} `{kind}`", kind.number());
        let line = document
            .lines()
            .find(|line| line.starts_with('|') && line.contains(&named))
            .unwrap_or_else(|| panic!("{named}"));
        let fields: Vec<String> = fields::fields(kind).iter().map(|(name, _)| format!("`{name}`")).collect();
        assert!(line.ends_with(&format!("| {} |", fields.join(", "))), "{named}: {}", fields.join(", "));
    }
}
