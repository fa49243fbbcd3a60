//! A new key for all secrets: in batches, while dispatchers send, and from where it stopped if it was killed.

use std::process::Stdio;

use postcall::domain::sealed_version::SealedTemplates;
use postcall::domain::secret::Sealed;
use postcall::store::secrets::SecretChange;
use postcall::vault::{Keyring, Owner};
use serde_json::json;
use sqlx::{Connection, PgConnection};
use tokio::process::Command;
use uuid::Uuid;

use crate::support::database::Database;
use crate::support::inbox::Inbox;
use crate::support::keys::{key_file, new_key, secret, started};
use crate::support::process::{POSTCALL, stderr, stdout};

/// More than two batches of 100.
const SECRETS: usize = 250;
/// The last one before which it is killed, in the second batch.
const HELD: &str = "S149";

/// Under which of the two keys secrets are: how many under each.
async fn under(database: &Database, key: &str) -> i64 {
    let ring = Keyring::parse(key).unwrap();
    database.number(&format!("SELECT count(*) FROM postcall.secret WHERE key_id = '{}'", ring.first_id())).await
}

/// Sends a call of each of these agents, and expects that its secret arrives.
async fn sends(database: &Database, inbox: &Inbox, agents: [&str; 2]) {
    let before = inbox.received().len();
    for agent in agents {
        database.insert_call(agent, &json!({})).await;
    }
    database.settled().await;
    let received = inbox.received();
    let mut values: Vec<&str> = received[before..].iter().filter_map(|request| request.header("x-key")).collect();
    values.sort_unstable();
    assert_eq!(values, ["value of a", "value of z"]);
}

#[tokio::test]
async fn a_rekeying_that_was_killed_goes_on_when_it_is_run_again_and_dispatchers_send_all_the_time() {
    let (old_key, new_key) = (new_key(), new_key());
    let (database, inbox, both) = (Database::new().await, Inbox::open().await, key_file(&[&new_key, &old_key]));
    let ring = Keyring::parse(&old_key).unwrap();
    let set = async |agent: &str, name: &str, value: &str| {
        let sealed = ring.seal(Owner { agent, name }, value).unwrap();
        database.store.set_secret(&SecretChange { agent, name, by: "Ada", reason: None }, &sealed).await.unwrap();
    };
    for number in 0..SECRETS {
        set("m", &format!("S{number:03}"), "v").await;
    }
    for agent in ["a", "z"] {
        set(agent, "K", &format!("value of {agent}")).await;
        let action = json!({"method": "GET", "url": inbox.url("/"), "headers": {"x-key": "${secret.K}"}});
        database.publish(agent, "default", &action).await;
    }
    let dispatcher = started(&database, &both).await;
    sends(&database, &inbox, ["a", "z"]).await;

    // It comes as far as this row, and is killed there.
    let mut holder = PgConnection::connect(&database.url).await.unwrap();
    let mut held = holder.begin().await.unwrap();
    let lock = "SELECT FROM postcall.secret WHERE agent = 'm' AND name = $1 FOR UPDATE";
    sqlx::query(lock).bind(HELD).execute(&mut *held).await.unwrap();
    let mut command = Command::new(POSTCALL);
    command.env("DATABASE_URL", &database.url).env("POSTCALL_KEY_FILE", both.path()).args(["secret", "rekey"]);
    let mut rekeying = command.stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true).spawn().unwrap();
    let waits = "SELECT count(*) = 1 FROM pg_stat_activity
                 WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE 'UPDATE postcall.secret %'";
    database.until(waits).await;
    rekeying.kill().await.unwrap();
    sends(&database, &inbox, ["a", "z"]).await;
    let (done, left) = (under(&database, &new_key).await, under(&database, &old_key).await);
    // a, and S000 to S148.
    assert_eq!((done, left), (150, SECRETS as i64 + 2 - 150));
    held.rollback().await.unwrap();

    let again = secret(&database.url, &both, &["rekey"], "");
    assert!(again.status.success(), "{}", stderr(&again));
    assert!(stdout(&again).contains("none is left"), "{}", stdout(&again));
    assert_eq!((under(&database, &new_key).await, under(&database, &old_key).await), (SECRETS as i64 + 2, 0));
    sends(&database, &inbox, ["a", "z"]).await;
    drop(dispatcher);
    let _dispatcher = started(&database, &key_file(&[&new_key])).await;
    sends(&database, &inbox, ["a", "z"]).await;
    let changes = database.number("SELECT count(*) FROM postcall.secret_change").await;
    assert_eq!(changes, SECRETS as i64 + 2, "a new key is no change");
}

#[tokio::test]
async fn what_has_changed_or_gone_since_it_was_read_is_not_said_to_be_encrypted_anew() {
    let (database, key) = (Database::new().await, new_key());
    let ring = Keyring::parse(&key).unwrap();
    let sealed = || ring.seal(Owner { agent: "a", name: "K" }, "v").unwrap();
    let change = SecretChange { agent: "a", name: "K", by: "Ada", reason: None };
    database.store.set_secret(&change, &sealed()).await.unwrap();
    let old = database.store.secrets_to_rewrap("", ("", ""), 1).await.unwrap().remove(0);
    assert!(database.store.rewrap_secret(&old, &sealed()).await.unwrap());
    assert!(!database.store.rewrap_secret(&old, &sealed()).await.unwrap());
    assert!(!database.store.rewrap_signing_key(Uuid::now_v7(), &sealed()).await.unwrap());

    let action = json!({"method": "GET", "url": "https://receiver.example/"});
    database.publish("a", "default", &action).await;
    let clear = database.store.clear_versions(None, (0, 0), 1).await.unwrap().remove(0);
    let digest = database.text("SELECT encode(postcall.version_digest(1, 1), 'hex')").await.unwrap();
    // Nobody opens it here.
    let sealed_value = vec![7; 1_000];
    let templates =
        SealedTemplates { sealed: Sealed { sealed_value, ..sealed() }, digest: hex::decode(digest).unwrap() };
    assert!(database.store.seal_version(&clear, &templates).await.unwrap());
    assert!(!database.store.seal_version(&clear, &templates).await.unwrap());
    let old = database.store.versions_to_rewrap("", (0, 0), 1).await.unwrap().remove(0);
    assert!(database.store.rewrap_version(&old, &sealed()).await.unwrap());
    assert!(!database.store.rewrap_version(&old, &sealed()).await.unwrap());
}
