//! History that proves itself, against somebody with the owner's rights who knows how it is proved: who changes not only rows, but also
//! what is kept beside their hashes.

use std::sync::Arc;

use postcall::dispatcher::sealer::{SealKeys, Sealer, Sealing};
use postcall::domain::seal::{Kind, Place};
use postcall::seal::key::Signer;
use postcall::seal::leaf;
use postcall::seal::note::{Checkpoint, notes};
use postcall::service::seal_verify::{compare_exported, verify};
use serde_json::Value;
use sqlx::AssertSqlSafe;

use crate::support::database::Database;
use crate::support::endings::ended;
use crate::support::process::{file, postcall, postcall_at, postcall_on, stderr, stdout};
use crate::support::sealing::{
    database_with, key, public, seal, seal_by, sealer, sealer_after, sealer_with, unguarded,
};

/// What verifying with the tests' key finds, as `word what`, in order.
fn found(database: &Database) -> Vec<String> {
    let output = postcall_on(database, &["audit", "verify", "--json", "--key", &public()]);
    let found: Value = serde_json::from_str(&stdout(&output)).unwrap_or_else(|_| panic!("{}", stderr(&output)));
    let text = |wrong: &Value| format!("{} {}", wrong["is"].as_str().unwrap(), wrong["what"].as_str().unwrap());
    let mut named: Vec<String> = found["named"].as_array().unwrap().iter().map(text).collect();
    named.sort();
    assert_eq!(output.status.success(), named.is_empty(), "{found}");
    named
}

/// Deliveries, in the order of their ids.
async fn deliveries(database: &Database) -> Vec<String> {
    let ids = "SELECT string_agg(delivery_id::text, ' ' ORDER BY delivery_id) FROM postcall.delivery";
    database.text(ids).await.unwrap().split(' ').map(str::to_owned).collect()
}

#[tokio::test]
async fn whoever_removes_a_row_cannot_say_that_its_leaf_is_that_of_another_row_or_of_none() {
    // Each says something else of the leaf at place 40, whose hash stays as it was signed.
    for (word, forgery) in [
        ("of a kind that nobody knows", "kinds = set_byte(kinds, 40, 99)"),
        (
            "of its neighbour",
            "ids = overlay(ids PLACING substring(ids FROM 41 * 16 + 1 FOR 16) FROM 40 * 16 + 1 FOR 16)",
        ),
        ("of a row that is as old as what was pruned", "ids = overlay(ids PLACING '\\x0100' FROM 40 * 16 + 1)"),
    ] {
        let database = database_with(100).await;
        database.execute("UPDATE postcall.retention SET history_begins = '2001-01-01Z'").await;
        seal(&database, None).await;
        assert_eq!(found(&database), [] as [String; 0]);
        unguarded(
            &database,
            &format!(
                "DELETE FROM postcall.delivery USING postcall.seal_slice
                 WHERE size - first_leaf >= 100 AND delivery_id = encode(substring(ids FROM 40 * 16 + 1 FOR 16), 'hex')::uuid;
                 UPDATE postcall.seal_slice SET {forgery} WHERE size - first_leaf >= 100"
            ),
        )
        .await;
        assert_eq!(deliveries(&database).await.len(), 99, "{word}");
        let named = found(&database);
        assert!(
            named.iter().any(|wrong| wrong.starts_with("log the rows of the leaves up to number")),
            "{word}: {named:?}"
        );
    }
}

#[tokio::test]
async fn a_sealed_row_that_is_altered_and_sealed_again_is_named_however_its_second_leaf_came_about() {
    let again = [
        "UPDATE postcall.delivery SET xact = DEFAULT WHERE delivery_id = '$id'",
        "DROP INDEX postcall.seal_slice_by_place;
         UPDATE postcall.seal_slice SET through_xact = (SELECT xact - 1 FROM postcall.delivery WHERE delivery_id = '$id'),
             through_kind = 32766, through_id = 'ffffffff-ffff-ffff-ffff-ffffffffffff'
         WHERE size = (SELECT max(size) FROM postcall.seal_slice)",
    ];
    for again in again {
        let database = database_with(3).await;
        seal(&database, None).await;
        let id = ended(&database, "delivered", 1).await.remove(0);
        let mut sealer = sealer(&database);
        seal_by(&database, &mut sealer).await;
        let place = "SELECT string_agg(concat_ws(' ', size, through_xact, through_kind, through_id), ',') FROM postcall.seal_slice";
        let before = database.text(place).await.unwrap();
        unguarded(
            &database,
            &format!(
                "UPDATE postcall.delivery SET response_code = 204 WHERE delivery_id = '{id}'; {}",
                again.replace("$id", &id)
            ),
        )
        .await;
        // Something else happens, so that the log goes on, and what was changed of it is put back.
        ended(&database, "delivered", 1).await;
        seal_by(&database, &mut sealer).await;
        for slice in before.split(',') {
            let [size, xact, kind, through] = slice.split(' ').collect::<Vec<_>>()[..] else { panic!("{slice}") };
            let back = format!(
                "UPDATE postcall.seal_slice SET through_xact = {xact}, through_kind = {kind}, through_id = '{through}' WHERE size = {size}"
            );
            unguarded(&database, &back).await;
        }
        let named = found(&database);
        assert!(named.contains(&format!("twice delivery {id}")), "{again}: {named:?}");
    }
}

#[tokio::test]
async fn a_row_that_was_inserted_beside_all_numbers_of_transactions_is_named_and_covers_no_removal() {
    let database = database_with(10).await;
    seal(&database, None).await;
    let removed = deliveries(&database).await;
    let copy = "CREATE TEMP TABLE copied AS SELECT * FROM postcall.delivery LIMIT 1;
                ALTER TABLE postcall.delivery ALTER xact DROP NOT NULL;
                ALTER TABLE postcall.pruning ALTER xact DROP NOT NULL";
    let insert = |last: i32, xact: &str| {
        format!(
            "UPDATE copied SET delivery_id = '{:08x}-0000-7000-8000-000000000000', xact = {xact};
             INSERT INTO postcall.delivery SELECT * FROM copied",
            last + 0x1000_0000
        )
    };
    let numbers = ["-1", "-5", "NULL", "-9223372036854775808", "9223372036854775807"];
    let inserts: Vec<String> = (1..).zip(numbers).map(|(last, xact)| insert(last, xact)).collect();
    unguarded(
        &database,
        &format!(
            "{copy}; {}; INSERT INTO postcall.pruning (history_begins, xact) VALUES (now() + interval '1 day', NULL);
             DELETE FROM postcall.delivery WHERE delivery_id = '{}'",
            inserts.join("; "),
            removed[3]
        ),
    )
    .await;
    let expected = [
        "forged delivery 10000003-0000-7000-8000-000000000000",
        "forged delivery 10000004-0000-7000-8000-000000000000",
        "forged delivery 10000005-0000-7000-8000-000000000000",
        "forged pruning 1",
        "inserted delivery 10000001-0000-7000-8000-000000000000",
        "inserted delivery 10000002-0000-7000-8000-000000000000",
    ];
    assert_eq!(found(&database), expected);
}

#[tokio::test]
async fn what_hides_among_more_rows_that_are_not_sealed_than_are_read_is_named() {
    let database = database_with(1).await;
    seal(&database, None).await;
    let id = ended(&database, "delivered", 1).await.remove(0);
    unguarded(
        &database,
        &format!("UPDATE postcall.delivery SET xact = 9223372036854775807 WHERE delivery_id = '{id}'"),
    )
    .await;
    ended(&database, "delivered", 10_001).await;
    assert_eq!(found(&database), [format!("forged delivery {id}")]);
}

#[tokio::test]
async fn an_altered_node_or_frontier_is_named_before_somebody_needs_a_proof() {
    let database = database_with(1_000).await;
    seal(&database, None).await;
    let id = deliveries(&database).await.remove(7);
    unguarded(&database, "UPDATE postcall.seal_node SET hash = sha256(hash) WHERE level = 8 AND position = 2").await;
    assert!(stderr(&postcall_on(&database, &["audit", "prove", &id])).contains("is not what was sealed"));
    assert_eq!(
        found(&database),
        ["log the node 2 of level 8 was altered or removed: proofs that need it cannot be made"]
    );
    unguarded(
        &database,
        "DELETE FROM postcall.seal_node; UPDATE postcall.seal_slice SET frontier = set_byte(frontier, 0, 255 - get_byte(frontier, 0)) WHERE size = 1002",
    )
    .await;
    let named = found(&database);
    assert_eq!(named.len(), 4, "{named:?}");
    assert_eq!(named[0], "log the frontier behind leaf 1002 was altered: nothing is sealed behind it");
}

#[tokio::test]
async fn a_finding_of_no_known_source_is_a_row_like_another() {
    let database = database_with(1).await;
    let unknown = ended(&database, "unknown", 1).await.remove(0);
    seal(&database, None).await;
    unguarded(
        &database,
        &format!(
            "ALTER TABLE postcall.resolution DROP CONSTRAINT resolution_source_check;
             INSERT INTO postcall.resolution (delivery_id, source, state, resolved_by, reason, xact)
             VALUES ('{unknown}', 'another', 'delivered', 'Eve', 'r', 1)"
        ),
    )
    .await;
    assert_eq!(found(&database), [format!("inserted finding {unknown}")]);
}

/// Whoever has taken over a dispatcher writes history as he likes. One row must not keep all others from being sealed.
#[tokio::test]
async fn no_row_that_a_dispatcher_may_write_keeps_others_from_being_sealed_or_fills_the_memory() {
    let database = database_with(1).await;
    let id = deliveries(&database).await.remove(0);
    let columns = "call_id, claim, action_id, created_at, claimed_at, finished_at, action_version, dispatcher_id, state, response_code,
                   response_bytes, response_sha256, body_end, latency_ms";
    let write = |fields: &str, values: &str| {
        format!(
            "INSERT INTO postcall.delivery (delivery_id, {columns}, {fields})
             SELECT '20000000-0000-7000-8000-000000000000', {columns}, {values} FROM postcall.delivery WHERE delivery_id = '{id}'"
        )
    };
    let mut dispatcher = database.connect_as(&["postcall_dispatcher"]).await;
    let refused = [
        "ARRAY[NULL]::text[]",
        "ARRAY['a', NULL]",
        "'{{a,b},{c,d}}'::text[]",
        "ARRAY[repeat('x', 5000)]",
        "array_fill('x'::text, ARRAY[100])",
    ];
    for unresolved in refused {
        let statement = write("agent, method, url, unresolved", &format!("agent, method, url, {unresolved}"));
        assert!(sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut dispatcher).await.is_err(), "{unresolved}");
    }
    for (fields, values) in [
        ("agent, method, url, call_sid", "agent, method, url, repeat('x', 257)"),
        ("agent, method, url", "agent, method, repeat('x', 2049)"),
        ("agent, method, url", "agent, repeat('x', 17), url"),
        ("agent, method, url", "repeat('x', 201), method, url"),
    ] {
        let statement = write(fields, values);
        assert!(sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut dispatcher).await.is_err(), "{values}");
    }
    let allowed = write("agent, method, url, unresolved", "agent, method, url, '{}'::text[]");
    sqlx::raw_sql(AssertSqlSafe(allowed)).execute(&mut dispatcher).await.unwrap();
    // A time that is none is the owner's to write only. It is sealed, and verifying goes on.
    unguarded(
        &database,
        "ALTER TABLE postcall.delivery DROP CONSTRAINT delivery_times_are_in_range;
         UPDATE postcall.delivery SET finished_at = 'infinity'; INSERT INTO postcall.pruning (history_begins) VALUES ('infinity')",
    )
    .await;
    seal(&database, None).await;
    let rows = database.store.sealed_rows(&Place::FIRST, &Place::LAST, 100).await.unwrap();
    assert!(rows.iter().all(|row| leaf::leaf(Kind::numbered(row.place.kind as u8).unwrap(), &row.record).is_ok()));
    assert_eq!(found(&database), [] as [String; 0]);
    unguarded(&database, "DELETE FROM postcall.action_switch").await;
    assert_eq!(found(&database).len(), 1);
}

#[tokio::test]
async fn a_file_of_keys_that_was_emptied_lets_nothing_be_verified_without_a_key() {
    let database = database_with(1).await;
    seal(&database, None).await;
    for text in ["", "\n \n"] {
        let file = file(text);
        let output = postcall_on(&database, &["audit", "verify", "--key", file.path().to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(1));
        assert!(stderr(&output).contains("the file holds no key"), "{}", stderr(&output));
    }
}

#[tokio::test]
async fn whoever_hides_rows_from_everybody_is_named_and_nobody_is_told_to_want_a_role() {
    for table in ["delivery", "seal_slice", "action_version"] {
        let database = database_with(1).await;
        seal(&database, None).await;
        database.execute(&format!("ALTER TABLE postcall.{table} ENABLE ROW LEVEL SECURITY")).await;
        let auditor = database.login(&["postcall_auditor"]).await;
        let fault = format!("{table}: row-level security is on");
        let verified = postcall_at(&auditor, &["audit", "verify", "--key", &public()]);
        let said = stdout(&verified) + &stderr(&verified);
        assert!(verified.status.code() == Some(1) && said.contains(&format!("schema    {fault}")), "{said}");
        assert!(!said.contains("postcall_auditor") && !said.contains("signatures were verified"), "{said}");
        let as_json = stdout(&postcall_at(&auditor, &["audit", "verify", "--json", "--key", &public()]));
        assert!(as_json.contains(&fault) && as_json.contains("\"rows_are_hidden\": true"), "{as_json}");
        let checked = postcall_at(&auditor, &["check-invariants"]);
        let said = stdout(&checked) + &stderr(&checked);
        assert!(
            checked.status.code() == Some(1) && said.contains("VIOLATED  guards_on") && said.contains(&fault),
            "{said}"
        );
        assert!(table != "delivery" || said.contains("nothing else was checked"), "{said}");
    }
}

#[tokio::test]
async fn a_key_that_signed_nothing_verifies_no_signature_and_no_log_that_is_gone() {
    let database = database_with(3).await;
    seal(&database, None).await;
    let stranger = Signer::from_seed("test.example/history", &[9; 32]).unwrap().verifier().to_string();
    let by = |key: Option<&str>, more: &[&str]| {
        let key = key.map_or(Vec::new(), |key| vec!["--key", key]);
        postcall_on(&database, &[&["audit", "verify"][..], &key, more].concat())
    };
    let wrong = by(Some(&stranger), &[]);
    let said = stdout(&wrong);
    assert!(wrong.status.code() == Some(1) && said.contains("of which 0 have a signature of --key"), "{said}");
    assert!(!said.contains("signatures were verified"), "{said}");
    let as_json: serde_json::Value = serde_json::from_str(&stdout(&by(Some(&stranger), &["--json"]))).unwrap();
    assert_eq!((&as_json["signatures_verified"], &as_json["signed_by_key"]), (&false.into(), &0.into()), "{as_json}");
    let right: serde_json::Value = serde_json::from_str(&stdout(&by(Some(&public()), &["--json"]))).unwrap();
    assert_eq!((&right["signatures_verified"], &right["signed_by_key"]), (&true.into(), &right["checkpoints"]));
    unguarded(&database, "DELETE FROM postcall.seal_slice; DELETE FROM postcall.seal_node").await;
    assert!(by(None, &[]).status.success(), "without a key, nothing says that there was a log");
    let wiped = by(Some(&public()), &[]);
    let said = stdout(&wiped);
    assert!(wiped.status.code() == Some(1) && said.contains("log       there is no checkpoint"), "{said}");
}

#[tokio::test]
async fn a_turn_that_somebody_took_for_ever_keeps_nothing_from_being_sealed() {
    let database = database_with(1).await;
    database.execute("UPDATE postcall.seal_turn SET held_by = gen_random_uuid(), held_until = 'infinity'").await;
    database
        .until(
            "SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint > (SELECT max(xact) FROM postcall.delivery)",
        )
        .await;
    sealer(&database).round().await.unwrap();
    assert_eq!(database.number("SELECT max(size) FROM postcall.seal_slice").await, 3);
}

#[tokio::test]
async fn a_checkpoint_that_is_exported_while_history_is_verified_accuses_nobody() {
    let (database, directory) = (database_with(1).await, tempfile::tempdir().unwrap());
    seal(&database, Some(directory.path())).await;
    let keys = [key().verifier().clone()];
    let mut verified = verify(&database.store, &keys, |_| {}).await.unwrap();
    ended(&database, "delivered", 1).await;
    seal(&database, Some(directory.path())).await;
    let file = std::fs::read_dir(directory.path()).unwrap().next().unwrap().unwrap().path();
    let text = std::fs::read_to_string(file).unwrap();
    compare_exported(&database.store, &keys, &"file".into(), &notes(&text), &mut verified).await.unwrap();
    assert_eq!((verified.wrong, verified.exported > 1), (Vec::new(), true));
}

#[tokio::test]
async fn whoever_calls_young_history_old_and_removes_a_part_of_it_is_given_away_by_the_rest() {
    let database = database_with(10).await;
    seal(&database, None).await;
    let removed = deliveries(&database).await.remove(4);
    database.execute("UPDATE postcall.retention SET history_begins = clock_timestamp() + interval '1 second'").await;
    unguarded(&database, &format!("DELETE FROM postcall.delivery WHERE delivery_id = '{removed}'")).await;
    let told = stdout(&postcall_on(&database, &["audit", "verify", "--key", &public()]));
    assert!(told.contains("1 sealed rows have left with old history, which begins 20"), "{told}");
    assert!(told.contains("older deliveries are there all the same"), "{told}");
    unguarded(&database, "DELETE FROM postcall.delivery").await;
    let told = stdout(&postcall_on(&database, &["audit", "verify", "--key", &public()]));
    assert!(told.contains("10 sealed rows have left") && !told.contains("all the same"), "{told}");
}

#[tokio::test]
async fn whoever_shows_other_history_than_there_is_by_a_view_or_a_function_is_named() {
    let database = database_with(3).await;
    seal(&database, None).await;
    assert_eq!(found(&database), [] as [String; 0]);
    let view =
        "SELECT format('CREATE OR REPLACE VIEW postcall.delivery_history AS SELECT * FROM (%s) AS honest LIMIT 1',
                              rtrim(pg_get_viewdef('postcall.delivery_history'::regclass), ';'))";
    let view = database.text(view).await.unwrap();
    database.execute(&view).await;
    let digest = "CREATE OR REPLACE FUNCTION postcall.version_digest(action_id bigint, version integer) RETURNS bytea LANGUAGE sql STABLE
                      SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$ SELECT postcall.honest_digest(action_id, version) $$";
    database
        .execute(&format!("ALTER FUNCTION postcall.version_digest(bigint, integer) RENAME TO honest_digest; {digest}"))
        .await;
    let expected = [
        "schema function version_digest is not the one that was shipped",
        "schema view delivery_history is not the one that was shipped",
    ];
    assert_eq!(found(&database), expected);
    // An auditor finds the same.
    let auditor = postcall_at(&database.login(&["postcall_auditor"]).await, &["audit", "verify"]);
    assert!(
        expected.iter().all(|line| stdout(&auditor).contains(&line[7..])),
        "{}{}",
        stdout(&auditor),
        stderr(&auditor)
    );
}

/// Signs the newest slices anew, from this size of the log on, as somebody can who has stolen the key.
async fn sign_anew(database: &Database, from: i64, thief: &Signer) {
    for slice in database.store.slices_after(from - 1, 100).await.unwrap() {
        let note = Checkpoint::unverified(&slice.checkpoint).unwrap().signed_by(thief);
        unguarded(
            database,
            &format!("UPDATE postcall.seal_slice SET checkpoint = '{note}' WHERE size = {}", slice.size),
        )
        .await;
    }
}

#[tokio::test]
async fn a_key_that_another_one_has_replaced_signs_nothing_that_is_trusted() {
    let (database, directory) = (database_with(3).await, tempfile::tempdir().unwrap());
    let (old, new) = (key(), || Signer::from_seed("test.example/history", &[11; 32]).unwrap());
    seal_by(&database, &mut sealer_with(&database, key(), Some(directory.path()))).await;
    let mut sizes = Vec::new();
    let mut sealer = sealer_after(&database, new(), &old, Some(directory.path()));
    for _ in 0..2 {
        ended(&database, "delivered", 2).await;
        seal_by(&database, &mut sealer).await;
        sizes.push(database.number("SELECT max(size) FROM postcall.seal_slice").await);
    }
    let (public_of_new, checkpoints) = (new().verifier().to_string(), directory.path().to_str().unwrap().to_owned());
    let verify = |more: &[&str]| {
        let keys = public();
        let arguments = [&["audit", "verify", "--key", &keys, "--key", &public_of_new], more].concat();
        let output = postcall_on(&database, &arguments);
        (output.status.success(), stdout(&output))
    };
    let well = verify(&["--checkpoints", &checkpoints]);
    assert!(well.0, "a change of the key is no finding: {}", well.1);

    sign_anew(&database, sizes[1], &old).await;
    let (holds, said) = verify(&[]);
    let words =
        format!("the checkpoint of {} leaves is signed by a key that another one had replaced before", sizes[1]);
    assert!(!holds && said.contains(&words), "{said}");
    ended(&database, "delivered", 1).await;
    // Also a sealer that has just started, and knows the log alone.
    for mut honest in
        [sealer_after(&database, new(), &old, None), sealer_after(&database, new(), &old, Some(directory.path()))]
    {
        database.execute("UPDATE postcall.seal_turn SET held_until = NULL").await;
        let error = honest.round().await.unwrap_err().to_string();
        assert!(error.contains("by a key that another one has replaced"), "{error}");
    }
    // Who takes back all that the newer key signed is given away by what was exported alone.
    sign_anew(&database, sizes[0], &old).await;
    assert!(verify(&[]).0);
    let (holds, said) = verify(&["--checkpoints", &checkpoints]);
    let words = format!("the checkpoint of {} leaves in checkpoints-", sizes[1]);
    assert!(!holds && said.contains(&words) && said.contains("is signed by another key than in the log"), "{said}");
    database.execute("UPDATE postcall.seal_turn SET held_until = NULL").await;
    let mut honest = sealer_after(&database, new(), &old, Some(directory.path()));
    assert!(honest.round().await.unwrap_err().to_string().contains("by a key that another one has replaced"));
}

#[tokio::test]
async fn of_several_keys_each_follows_what_the_one_before_it_has_signed_and_none_follows_one_that_came_back() {
    let database = database_with(1).await;
    let signer = |seed: u8| Signer::from_seed("test.example/history", &[seed; 32]).unwrap();
    let sealer_of = |seed: u8, earlier: &[u8]| {
        let earlier = earlier.iter().map(|seed| signer(*seed).verifier().clone()).collect();
        let keys = Arc::new(SealKeys { signer: signer(seed), earlier });
        Sealer::new(
            &database.store,
            Sealing { keys, checkpoints: None, outlet: None, authority: None },
            &Arc::default(),
        )
    };
    // Each process learns from the log alone what was signed before it.
    for (seed, earlier) in [(1, &[][..]), (1, &[]), (2, &[1]), (2, &[1])] {
        seal_by(&database, &mut sealer_of(seed, earlier)).await;
        ended(&database, "delivered", 1).await;
    }
    let newest = database.number("SELECT max(size) FROM postcall.seal_slice").await;
    sign_anew(&database, newest, &signer(1)).await;
    database.execute("UPDATE postcall.seal_turn SET held_until = NULL").await;
    let error = sealer_of(3, &[1, 2]).round().await.unwrap_err().to_string();
    assert!(error.contains("by a key that another one has replaced"), "{error}");
    sign_anew(&database, newest, &signer(2)).await;
    seal_by(&database, &mut sealer_of(3, &[1, 2])).await;
}

#[tokio::test]
async fn a_key_that_is_given_in_the_place_of_another_or_of_a_file_is_not_printed() {
    let signer = key().text_of(&[7; 32]).to_string();
    let wrapping = stdout(&postcall(&["secret", "new-key"])).trim().to_owned();
    assert!(wrapping.starts_with("postcall-key-1:"), "{wrapping}");
    let proof = file("{}");
    let proof = proof.path().to_str().unwrap();
    let at = "postgres://nobody@127.0.0.1:1/none";
    let almost = signer.replace("PRIVATE+KEY+", "PRIVATE-KEY+");
    for (arguments, key, words) in [
        (&["audit", "verify", "--database-url", at, "--key", &signer][..], &signer, "this is the key that signs"),
        (&["audit", "check", proof, "--key", &signer], &signer, "this is the key that signs"),
        (&["audit", "check", proof, "--key", &almost], &almost, "this is not a key that verifies"),
        (
            &["run", "--database-url", at, "--key-file", &wrapping],
            &wrapping,
            "this is a key, and not the name of a file",
        ),
        (
            &["secret", "set", "a", "S", "--database-url", at, "--key-file", &wrapping],
            &wrapping,
            "this is a key, and not the name of a file",
        ),
    ] {
        let output = postcall(arguments);
        let said = stdout(&output) + &stderr(&output);
        assert!(!output.status.success() && said.contains(words) && !said.contains(&key[key.len() - 20..]), "{said}");
    }
    let url = crate::support::database::Database::new().await.login(&["postcall_dispatcher", "postcall_sealer"]).await;
    let output = postcall_at(&url, &["run", "--seal-key-file", &signer]);
    let said = stdout(&output) + &stderr(&output);
    assert!(
        said.contains("this is a key, and not the name of a file") && !said.contains(&signer[signer.len() - 20..]),
        "{said}"
    );
}
