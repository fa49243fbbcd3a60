//! `run --seal-key-file`: a dispatcher seals history, by the rights of two roles and no more, and nothing of it hinders deliveries.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nix::sys::signal::Signal;
use serde_json::json;

use crate::support::database::Database;
use crate::support::inbox::Inbox;
use crate::support::intruder::attempt;
use crate::support::process::{Dispatcher, postcall, postcall_at, stderr, stdout};

const SEALED: &str = "SELECT coalesce(max(size), 0) FROM postcall.seal_slice";

/// Makes a key as people do. Returns what verifies.
fn new_key(file: &Path) -> String {
    let output = postcall(&["audit", "new-key", "test.example/history", file.to_str().unwrap()]);
    assert!(output.status.success(), "{}", stderr(&output));
    stdout(&output).trim().to_owned()
}

async fn database_of(inbox: &Inbox) -> Database {
    let database = Database::new().await;
    database.publish("a", "default", &json!({"method": "POST", "url": inbox.url("/")})).await;
    database
}

#[tokio::test]
async fn a_dispatcher_with_the_key_seals_what_it_delivered_and_exports_each_checkpoint() {
    let (inbox, directory) = (Inbox::open().await, tempfile::tempdir().unwrap());
    let (database, key_file, exported) =
        (database_of(&inbox).await, directory.path().join("seal.key"), directory.path().join("checkpoints"));
    let key = new_key(&key_file);
    std::fs::create_dir(&exported).unwrap();
    let url = database.login(&["postcall_dispatcher", "postcall_sealer"]).await;
    let arguments = ["--seal-key-file", key_file.to_str().unwrap(), "--checkpoint-dir", exported.to_str().unwrap()];
    database.insert_call("a", &json!({})).await;
    let first = Dispatcher::start_at(&url, &arguments).await;
    database.settled().await;
    // What was published is sealed at once, and the delivery by a later round.
    database.until("SELECT max(size) >= 2 FROM postcall.seal_slice").await;
    // Killed: another one goes on where it ended, when its turn is over.
    first.signal(Signal::SIGKILL);
    database.execute("UPDATE postcall.seal_turn SET held_until = now()").await;
    let _second = Dispatcher::start_at(&url, &arguments).await;
    database.until("SELECT max(size) = 3 FROM postcall.seal_slice").await;
    let auditor = database.login(&["postcall_auditor"]).await;
    let checkpoints = exported.to_str().unwrap();
    let verified = || {
        let found = postcall_at(&auditor, &["audit", "verify", "--json", "--key", &key, "--checkpoints", checkpoints]);
        assert!(found.status.success(), "{}{}", stdout(&found), stderr(&found));
        serde_json::from_str::<serde_json::Value>(&stdout(&found)).unwrap()
    };
    // The export comes behind the commit.
    while verified()["exported"] == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!((&verified()["sealed"], &verified()["unsealed"]), (&json!(3), &json!(0)));
    for role in ["postcall_auditor", "postcall_publisher", "postcall_dispatcher"] {
        let found = postcall_at(&database.login(&[role]).await, &["doctor"]);
        assert!(stdout(&found).contains("history is sealed, last at"), "{role}: {}", stdout(&found));
    }
}

#[tokio::test]
async fn a_directory_of_checkpoints_that_hangs_hinders_no_delivery_and_not_the_end_of_the_dispatcher() {
    let (inbox, directory) = (Inbox::open().await, tempfile::tempdir().unwrap());
    let (database, key_file) = (database_of(&inbox).await, directory.path().join("seal.key"));
    new_key(&key_file);
    let url = database.login(&["postcall_dispatcher", "postcall_sealer"]).await;
    let exported = directory.path().to_str().unwrap();
    let arguments = ["--seal-key-file", key_file.to_str().unwrap(), "--checkpoint-dir", exported];
    // Whoever opens it to write waits until somebody reads, which nobody does.
    let day = database.text("SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD')").await.unwrap();
    let file = directory.path().join(format!("checkpoints-{day}.txt"));
    assert!(std::process::Command::new("mkfifo").arg(&file).status().unwrap().success());
    let dispatcher = Dispatcher::start_at(&url, &arguments).await;
    database.insert_call("a", &json!({})).await;
    database.settled().await;
    dispatcher.signal(Signal::SIGTERM);
    assert!(dispatcher.ended().await.0);
}

#[tokio::test]
async fn trouble_with_sealing_is_said_and_hinders_no_delivery() {
    let (inbox, directory) = (Inbox::open().await, tempfile::tempdir().unwrap());
    let (database, key_file) = (database_of(&inbox).await, directory.path().join("seal.key"));
    new_key(&key_file);
    // A log that another key has signed.
    crate::support::sealing::seal(&database, None).await;
    database.execute("UPDATE postcall.seal_turn SET held_until = now()").await;
    let url = database.login(&["postcall_dispatcher", "postcall_sealer"]).await;
    let mut dispatcher = Dispatcher::start_at(&url, &["--seal-key-file", key_file.to_str().unwrap()]).await;
    dispatcher.says("history is not sealed").await;
    let before = database.number(SEALED).await;
    database.insert_call("a", &json!({})).await;
    database.settled().await;
    assert_eq!(database.number("SELECT count(*) FROM postcall.delivery WHERE state = 'delivered'").await, 1);
    assert_eq!(database.number(SEALED).await, before);
    // It leaves the turn to others, who perhaps have the right key.
    database.until("SELECT held_until <= clock_timestamp() FROM postcall.seal_turn").await;
}

#[tokio::test]
async fn what_keeps_a_sealer_from_starting_is_said_at_the_start_with_its_cure() {
    let (database, directory) = (Database::new().await, tempfile::tempdir().unwrap());
    let key_file = directory.path().join("seal.key");
    let public = new_key(&key_file);
    assert_eq!(std::fs::metadata(&key_file).unwrap().permissions().mode() & 0o777, 0o600);
    let again = postcall(&["audit", "new-key", "test.example/history", key_file.to_str().unwrap()]);
    assert!(again.status.code() == Some(1) && stderr(&again).contains("cannot write"), "{}", stderr(&again));
    assert_eq!(postcall(&["audit", "new-key", "a+b", "/nowhere"]).status.code(), Some(2));

    let (key, public_file) = (key_file.to_str().unwrap(), directory.path().join("public"));
    std::fs::write(&public_file, &public).unwrap();
    std::fs::set_permissions(&public_file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let both = database.login(&["postcall_dispatcher", "postcall_sealer"]).await;
    let dispatcher = database.login(&["postcall_dispatcher"]).await;
    for (url, arguments, code, words) in [
        (&dispatcher, vec!["--seal-key-file", key], 1, "let the owner GRANT postcall_sealer to it"),
        (&both, vec!["--checkpoint-dir", "/tmp"], 2, "--checkpoint-dir needs --seal-key-file"),
        (&both, vec!["--seal-key-file", key, "--checkpoint-dir", "/nowhere"], 1, "Make the directory"),
        (&both, vec!["--seal-key-file", public_file.to_str().unwrap()], 1, "this is not a key that signs"),
        (&both, vec!["--seal-key-file", "/nowhere"], 1, "cannot read /nowhere"),
    ] {
        let output = postcall_at(url, &[vec!["run"], arguments].concat());
        assert_eq!((output.status.code(), stderr(&output).contains(words)), (Some(code), true), "{}", stderr(&output));
    }
    for mode in [0o640, 0o604] {
        std::fs::set_permissions(&key_file, std::fs::Permissions::from_mode(mode)).unwrap();
        let open = postcall_at(&both, &["run", "--seal-key-file", key]);
        assert!(
            open.status.code() == Some(1) && stderr(&open).contains("others may read the key"),
            "{}",
            stderr(&open)
        );
    }
    let doctor = stdout(&postcall_at(&dispatcher, &["doctor"]));
    assert!(doctor.contains("history is not sealed") && doctor.contains("audit new-key"), "{doctor}");
}

/// It would seal rows without the fields that it does not know, and they would count as altered.
#[tokio::test]
async fn a_sealer_of_an_earlier_release_adds_nothing_to_the_log() {
    let database = crate::support::sealing::database_with(3).await;
    let slice = |column: &str, value: &str| {
        format!(
            "INSERT INTO postcall.seal_slice (size, first_leaf, through_xact, through_kind, through_id, kinds, ids, hashes, frontier, root,
                 checkpoint{column})
             VALUES (1, 0, 0, 1, gen_random_uuid(), '1', uuid_send(gen_random_uuid()), sha256(''), sha256(''), sha256(''), ''{value})"
        )
    };
    for (column, value) in [("", ""), (", leaf_fields", ", NULL"), (", leaf_fields", ", 27")] {
        let refused = attempt(&mut database.connect_as(&["postcall_sealer"]).await, &slice(column, value)).await;
        let refused = refused.unwrap();
        assert!(refused.contains("leaves_have_all_fields"), "{value}: {refused}");
    }
    let fields = postcall::seal::fields::DELIVERY_FIELDS;
    database.execute(&slice(", leaf_fields", &format!(", {fields}"))).await;
}

/// What somebody can do who has taken over a dispatcher that seals: add, and nothing else.
#[tokio::test]
async fn a_sealer_adds_to_the_log_and_can_change_nothing_and_a_dispatcher_cannot_add() {
    let database = crate::support::sealing::database_with(3).await;
    crate::support::sealing::seal(&database, None).await;
    let slice = "INSERT INTO postcall.seal_slice (size, first_leaf, through_xact, through_kind, through_id, kinds, ids, hashes, frontier,
                     root, checkpoint, leaf_fields)
                 SELECT size, first_leaf, through_xact, through_kind, through_id, kinds, ids, hashes, frontier, root, checkpoint, leaf_fields
                 FROM postcall.seal_slice";
    let attempts = [
        ("postcall_sealer", slice, "duplicate key"),
        ("postcall_sealer", "UPDATE postcall.seal_slice SET checkpoint = ''", "permission denied"),
        ("postcall_sealer", "DELETE FROM postcall.seal_slice", "permission denied"),
        ("postcall_sealer", "UPDATE postcall.seal_node SET hash = ''", "permission denied"),
        ("postcall_sealer", "UPDATE postcall.seal_turn SET ahead = 7", "permission denied"),
        ("postcall_sealer", "INSERT INTO postcall.pruning (history_begins) VALUES (now())", "permission denied"),
        ("postcall_sealer", "SELECT url FROM postcall.action_version", "permission denied"),
        ("postcall_sealer", "SELECT call FROM postcall.outbox", "permission denied"),
        ("postcall_sealer", "SELECT postcall.continue_seals()", "permission denied"),
        ("postcall_sealer", "DELETE FROM postcall.delivery", "permission denied"),
        ("postcall_dispatcher", slice, "permission denied"),
        ("postcall_dispatcher", "INSERT INTO postcall.seal_node VALUES (8, 0, sha256(''))", "permission denied"),
        ("postcall_dispatcher", "UPDATE postcall.seal_turn SET held_by = NULL", "permission denied"),
        ("postcall_dispatcher", "INSERT INTO postcall.delivery SELECT * FROM postcall.delivery", "permission denied"),
        ("postcall_auditor", "UPDATE postcall.seal_turn SET held_by = NULL", "permission denied"),
        ("postcall_publisher", "INSERT INTO postcall.pruning (history_begins) VALUES (now())", "permission denied"),
    ];
    for (role, sql, refusal) in attempts {
        let mut connection = database.connect_as(&[role]).await;
        let error = sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut connection).await.expect_err(sql);
        assert!(error.to_string().contains(refusal), "{role}: {sql}: {error}");
    }
}
