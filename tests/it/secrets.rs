//! Secrets: sent where a template names them, and seen nowhere else.

use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt;

use postcall::store::secrets::SecretChange;
use postcall::vault::{Keyring, Owner};
use serde_json::json;
use sqlx::AssertSqlSafe;

use crate::support::database::Database;
use crate::support::inbox::Inbox;
use crate::support::intruder::{EVERYBODY, attempt, refused};
use crate::support::keys::{key_file, new_key, secret, set, started};
use crate::support::process::{Dispatcher, file, postcall, postcall_at, postcall_on, stderr, stdout};

/// A value that would show at once wherever it came.
const VALUE: &str = "tok-7Qz\"&/9x";
/// How it looks where its characters are escaped.
const ESCAPED: &str = "7Qz";

/// An action that names the secret in its URL, headers and body.
fn action(inbox: &Inbox) -> serde_json::Value {
    json!({"method": "POST", "url": inbox.url("/hook?t=${secret.TOKEN}"), "headers": {"x-mine": "Key ${secret.TOKEN}"},
           "body": "{\"t\": \"${secret.TOKEN}\", \"mine\": \"${context.secret}\", \"call\": \"${callInfo.callSid}\"}"})
}

#[tokio::test]
async fn a_secret_reaches_its_receiver_and_nothing_else() {
    let (database, inbox, keys) = (Database::new().await, Inbox::open().await, key_file(&[&new_key()]));
    set(&database, &keys, "a", "TOKEN", &format!("{VALUE}\n"));
    // The secret of another agent, and of the call, under the same name.
    set(&database, &keys, "b", "TOKEN", "of-another");
    database.publish("a", "default", &action(&inbox)).await;
    let shadow =
        json!({"callInfo": {"callSid": "CA1"}, "secret": {"TOKEN": "of-the-call"}, "context": {"secret": "named"}});
    database.insert_call("a", &shadow).await;
    let arguments = ["--key-file", keys.path().to_str().unwrap(), "--log", "trace"];
    let dispatcher = Dispatcher::start(&database, &arguments).await;
    database.settled().await;
    dispatcher.signal(nix::sys::signal::Signal::SIGTERM);
    let (_, log) = dispatcher.ended_saying().await;
    let received = &inbox.received()[0];
    assert_eq!(received.target, "/hook?t=tok-7Qz%22%26%2F9x");
    assert_eq!(received.header("x-mine"), Some("Key tok-7Qz\"&/9x"));
    let sent: serde_json::Value = serde_json::from_str(&received.body).unwrap();
    assert_eq!(sent, json!({"t": VALUE, "mine": "named", "call": "CA1"}));

    let id = database.text("SELECT delivery_id::text FROM postcall.delivery").await.unwrap();
    let mut seen = log.join("\n");
    for arguments in [
        &["show", &id][..],
        &["show", &id, "--json"],
        &["history", "--format", "csv"],
        &["status"],
        &["secret", "list", "a", "--format", "json"],
        &["secret", "list", "b"],
        &["action", "show", "a"],
        &["calls"],
        &["doctor"],
        &["check-invariants"],
    ] {
        let output = postcall_on(&database, arguments);
        write!(seen, "\n{}{}", stdout(&output), stderr(&output)).unwrap();
    }
    let tables = "SELECT string_agg(format('SELECT t::text FROM postcall.%I AS t', relname), ' UNION ALL ') FROM pg_class
                  WHERE relnamespace = 'postcall'::regnamespace AND relkind IN ('r', 'p') AND relname NOT LIKE 'outbox%'";
    let tables = database.text(tables).await.unwrap();
    seen += &database.text(&format!("SELECT string_agg(t, E'\\n') FROM ({tables}) AS all_of_it (t)")).await.unwrap();
    assert!(seen.contains("••• secret.TOKEN") && seen.contains("CA1"), "{seen}");
    // Encrypted columns are printed in hexadecimal.
    for value in [ESCAPED, "of-another", &hex::encode(VALUE), &hex::encode("of-another")] {
        assert!(!seen.contains(value), "{value} in:\n{seen}");
    }
}

#[tokio::test]
async fn without_its_secret_a_delivery_fails_and_nothing_is_sent() {
    let (database, inbox) = (Database::new().await, Inbox::open().await);
    let (keys, others) = (key_file(&[&new_key()]), key_file(&[&new_key()]));
    database.publish("a", "default", &action(&inbox)).await;
    let failed = async |count: i64, told: &str| {
        database.insert_call("a", &json!({"secret": {"TOKEN": "of-the-call"}})).await;
        database.settled().await;
        let detail = database
            .text("SELECT concat_ws(' ', state, error_kind, error_detail) FROM postcall.delivery ORDER BY delivery_id DESC LIMIT 1")
            .await
            .unwrap();
        assert!(detail.starts_with("failed render") && detail.contains("`TOKEN`") && detail.contains(told), "{detail}");
        assert_eq!(database.number("SELECT count(*) FROM postcall.delivery").await, count);
    };
    let dispatcher = started(&database, &keys).await;
    failed(1, "the agent has no secret").await;
    drop(dispatcher);
    set(&database, &keys, "a", "TOKEN", VALUE);
    let mut dispatcher = Dispatcher::start(&database, &[]).await;
    failed(2, "the dispatcher has no key").await;
    dispatcher.says("secrets that cannot be opened").await;
    drop(dispatcher);
    let dispatcher = started(&database, &others).await;
    failed(3, "lacks the key").await;
    drop(dispatcher);
    // Another agent's secret, put in its place by somebody with the owner's rights.
    set(&database, &keys, "b", "TOKEN", VALUE);
    database
        .execute(
            "UPDATE postcall.secret AS mine SET sealed_value = b.sealed_value, wrapped_key = b.wrapped_key
             FROM postcall.secret AS b WHERE mine.agent = 'a' AND b.agent = 'b'",
        )
        .await;
    let _dispatcher = started(&database, &keys).await;
    failed(4, "changed in the database").await;
    assert!(inbox.received().is_empty());
}

#[tokio::test]
async fn a_new_value_is_sent_within_seconds() {
    let (database, inbox, keys) = (Database::new().await, Inbox::open().await, key_file(&[&new_key()]));
    set(&database, &keys, "a", "TOKEN", "first");
    database.publish("a", "default", &action(&inbox)).await;
    let _dispatcher = started(&database, &keys).await;
    database.insert_call("a", &json!({})).await;
    database.settled().await;
    set(&database, &keys, "a", "TOKEN", "second");
    // The call that is sent with the new value is waited for, however many come before it.
    let started = std::time::Instant::now();
    while !inbox.received().iter().any(|request| request.target.ends_with("=second")) {
        assert!(started.elapsed().as_secs() < 30, "the new value is not used");
        database.insert_call("a", &json!({})).await;
        database.settled().await;
    }
    let removed = secret(&database.url, &keys, &["remove", "a", "TOKEN", "--by", "Ada", "--reason", "gone"], "");
    assert!(removed.status.success(), "{}", stderr(&removed));
    let record = "SELECT string_agg(concat_ws(' ', change, changed_by, reason), ', ' ORDER BY change_id) FROM postcall.secret_change";
    assert_eq!(database.text(record).await.unwrap(), "set Ada, set Ada, removed Ada gone");
    assert_eq!(secret(&database.url, &keys, &["remove", "a", "TOKEN"], "").status.code(), Some(1));
}

#[tokio::test]
async fn secrets_are_wrapped_anew_with_the_first_key_and_what_cannot_be_opened_is_left_and_said() {
    let (old_key, new_key) = (new_key(), new_key());
    let (database, old, both) = (Database::new().await, key_file(&[&old_key]), key_file(&[&new_key, &old_key]));
    set(&database, &old, "a", "TOKEN", VALUE);
    // Without the old key.
    let refused = secret(&database.url, &key_file(&[&new_key]), &["rekey"], "");
    assert!(
        refused.status.code() == Some(1) && stderr(&refused).contains("at least 1 are left"),
        "{}",
        stderr(&refused)
    );
    for number in 0..5 {
        set(&database, &old, "b", &format!("S{number}"), VALUE);
    }
    let done = secret(&database.url, &both, &["rekey"], "");
    assert!(
        stdout(&done).contains("6 secrets are encrypted with the first key, and none is left"),
        "{}",
        stderr(&done)
    );
    let again = secret(&database.url, &both, &["rekey"], "");
    assert!(stdout(&again).contains("0 secrets are encrypted"), "{}", stdout(&again));
    let inbox = Inbox::open().await;
    database.publish("a", "default", &action(&inbox)).await;
    database.insert_call("a", &json!({})).await;
    let _dispatcher = started(&database, &key_file(&[&new_key])).await;
    database.settled().await;
    assert_eq!(inbox.received()[0].header("x-mine"), Some("Key tok-7Qz\"&/9x"));
    assert_eq!(database.number("SELECT count(*) FROM postcall.secret_change").await, 6, "a new key is no change");
}

#[tokio::test]
async fn a_secret_comes_from_standard_input_and_is_neither_empty_nor_too_long() {
    let (database, keys) = (Database::new().await, key_file(&[&new_key()]));
    for (input, told) in [("", "is empty"), ("\n", "is empty"), (&*"x".repeat(4_097), "more than 4096 bytes")] {
        let output = secret(&database.url, &keys, &["set", "a", "TOKEN"], input);
        assert!(!output.status.success() && stderr(&output).contains(told), "{}", stderr(&output));
    }
    set(&database, &keys, "a", "TOKEN", &format!("{}\r\n", "x".repeat(4_096)));
    assert_eq!(secret(&database.url, &keys, &["set", "a", "2x"], VALUE).status.code(), Some(2));
    assert_eq!(secret(&database.url, &keys, &["set", "a", "TOKEN", VALUE], "").status.code(), Some(2));
    std::fs::set_permissions(keys.path(), PermissionsExt::from_mode(0o640)).unwrap();
    for output in [
        secret(&database.url, &keys, &["set", "a", "TOKEN"], VALUE),
        postcall_on(&database, &["run", "--key-file", keys.path().to_str().unwrap()]),
    ] {
        assert!(
            !output.status.success() && stderr(&output).contains("others may read the key file"),
            "{}",
            stderr(&output)
        );
    }
    let without = postcall_on(&database, &["secret", "set", "a", "TOKEN"]);
    assert!(stderr(&without).contains("--key-file"), "{}", stderr(&without));
}

#[tokio::test]
async fn an_unknown_secret_is_told_at_publish_and_one_out_of_place_refused() {
    let (database, keys) = (Database::new().await, key_file(&[&new_key()]));
    let publisher = database.login(&["postcall_publisher"]).await;
    let key_file = keys.path().to_str().unwrap();
    let publish = |url: &str| {
        let action = file(&json!({"method": "GET", "url": url}).to_string());
        let arguments =
            ["action", "publish", "a", action.path().to_str().unwrap(), "--by", "Ada", "--key-file", key_file];
        postcall_at(&publisher, &arguments)
    };
    let warned = publish("https://h.example/?t=${secret.TOKEN}");
    assert!(warned.status.success() && stderr(&warned).contains("has no secret `TOKEN`"), "{}", stderr(&warned));
    let output = secret(&publisher, &keys, &["set", "a", "TOKEN", "--by", "Ada"], VALUE);
    assert!(output.status.success(), "a publisher sets a secret: {}", stderr(&output));
    let output = secret(&publisher, &keys, &["set", "a", "TOKEN", "--by", "Ada"], "other");
    assert!(output.status.success(), "and sets it again: {}", stderr(&output));
    let quiet = publish("https://h.example/?u=${secret.TOKEN}");
    assert!(quiet.status.success() && stderr(&quiet).is_empty(), "{}", stderr(&quiet));
    for url in ["https://h.example/?t=${secret}", "https://h.example/?t=${secret.a.b}"] {
        let refused = publish(url);
        assert!(!refused.status.success() && stderr(&refused).contains("`secret` is reserved"), "{}", stderr(&refused));
    }
    let action = file(&json!({"method": "GET", "url": "https://h.example/?t=${secret.TOKEN}"}).to_string());
    let call = file("{\"secret\": {\"TOKEN\": \"of-the-call\"}}");
    let paths = [action.path().to_str().unwrap(), call.path().to_str().unwrap()];
    let rendered = stdout(&postcall(&["render", "--action", paths[0], "--call", paths[1]]));
    assert!(rendered.contains("https://h.example/?t=••• secret.TOKEN"), "{rendered}");
}

#[tokio::test]
async fn what_encrypts_a_secret_is_read_by_dispatchers_alone_and_its_record_is_nobody_s_to_write() {
    let (database, keys) = (Database::new().await, key_file(&[&new_key()]));
    set(&database, &keys, "a", "TOKEN", VALUE);
    let reads = [
        "SELECT sealed_value FROM postcall.secret",
        "SELECT wrapped_key FROM postcall.secret",
        "SELECT secret FROM postcall.secret",
        "COPY postcall.secret TO STDOUT",
        "DELETE FROM postcall.secret RETURNING sealed_value",
        "SELECT FROM postcall.secret WHERE sealed_value > ''",
    ];
    refused(&database, &[EVERYBODY[0], EVERYBODY[2], EVERYBODY[3], EVERYBODY[4]], &reads).await;
    let writes = [
        "UPDATE postcall.secret SET agent = 'b'",
        "UPDATE postcall.secret SET set_at = now()",
        "INSERT INTO postcall.secret_change (agent, name, change) VALUES ('a', 'TOKEN', 'set')",
        "DELETE FROM postcall.secret_change",
    ];
    refused(&database, &EVERYBODY, &writes).await;
    let of_publishers = ["DELETE FROM postcall.secret", "UPDATE postcall.secret SET sealed_value = sealed_value"];
    refused(&database, &[EVERYBODY[0], EVERYBODY[1], EVERYBODY[3], EVERYBODY[4]], &of_publishers).await;
    let mut auditor = database.connect_as(EVERYBODY[3]).await;
    for names in ["SELECT agent, name, key_id, set_at FROM postcall.secret", "SELECT * FROM postcall.secret_change"] {
        assert_eq!(attempt(&mut auditor, names).await, None, "{names}");
    }
    // Whoever sets a secret cannot say that it was another time, nor leave it out of the record.
    assert_eq!(database.number("SELECT count(*) FROM postcall.secret_change").await, 1);
}

#[tokio::test]
async fn a_publisher_who_may_set_secrets_changes_none_without_a_record() {
    let database = Database::new().await;
    let ring = Keyring::parse(&new_key()).unwrap();
    let sealed = ring.seal(Owner { agent: "a", name: "T" }, "value").unwrap();
    let change = SecretChange { agent: "a", name: "T", by: "Ada", reason: None };
    database.store.set_secret(&change, &sealed).await.unwrap();
    let listed = database.store.secrets("a", 10).await.unwrap();
    let listed: Vec<_> = listed.iter().map(|one| (&one.name[..], one.set_by.as_deref())).collect();
    assert_eq!(listed, [("T", Some("Ada"))]);
    let before = database.text("SELECT secret::text FROM postcall.secret").await;
    let mut publisher = database.connect_as(&["postcall_publisher"]).await;
    for change in ["wrapped_key = decode(repeat('00', 72), 'hex')", "key_id = '0000000000000000'"] {
        let statement = format!("UPDATE postcall.secret SET {change}");
        let error = sqlx::query(AssertSqlSafe(statement)).execute(&mut publisher).await.unwrap_err().to_string();
        assert!(error.contains("the key of a secret changes with its value"), "{error}");
    }
    assert_eq!(database.text("SELECT secret::text FROM postcall.secret").await, before);
    let whole = "UPDATE postcall.secret SET key_id = '0000000000000000', wrapped_key = decode(repeat('00', 72), 'hex'),
                     sealed_value = decode(repeat('00', 72), 'hex')";
    sqlx::query(whole).execute(&mut publisher).await.unwrap();
    assert_eq!(database.number("SELECT count(*) FROM postcall.secret_change WHERE change = 'set'").await, 2);
}
