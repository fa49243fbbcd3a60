//! What history keeps to compare with: digests of what was sent and of what came back, which nobody without the key can try.

use postcall::domain::body_digest::KEYED_BYTES;
use serde_json::{Value, json};
use tempfile::NamedTempFile;

use crate::support::console::Console;
use crate::support::database::Database;
use crate::support::inbox::Inbox;
use crate::support::keys::{key_file, new_key, set, started};
use crate::support::process::{Dispatcher, THIS_MACHINE, postcall_on, stderr, stdout};
use crate::support::receiver::Receiver;
use crate::support::sealing::{public, seal, unguarded};

fn path(keys: &NamedTempFile) -> &str {
    keys.path().to_str().unwrap()
}

/// The delivery of an agent.
async fn delivery(database: &Database, agent: &str) -> String {
    let id = format!("SELECT delivery_id::text FROM postcall.delivery WHERE agent = '{agent}'");
    database.text(&id).await.unwrap()
}

/// A delivery as `postcall show` has it, as text and as JSON.
fn shown(database: &Database, id: &str, more: &[&str]) -> (String, Value) {
    let [text, object] = [&[][..], &["--json"]].map(|json| {
        let output = postcall_on(database, &[&["show", id], json, more].concat());
        assert!(output.status.success(), "{}", stderr(&output));
        stdout(&output)
    });
    (text, serde_json::from_str(&object).unwrap())
}

/// Whether all, the head, and the body are what was sent.
fn as_sent(shown: &Value) -> [Option<bool>; 3] {
    ["same_as_sent", "head_as_sent", "body_as_sent"].map(|part| shown["request"][part].as_bool())
}

fn verified(database: &Database) -> bool {
    postcall_on(database, &["audit", "verify", "--key", &public()]).status.success()
}

/// Agents with their actions: the call stands in the URL alone, in a header beside a fixed body, and beside a secret.
async fn three_agents(database: &Database, inbox: &Inbox, keys: &NamedTempFile) {
    let get = json!({"method": "GET", "url": inbox.url("/get?phone=${from}")});
    database.publish("url", "default", &get).await;
    let post =
        json!({"method": "POST", "url": inbox.url("/post"), "headers": {"x-from": "${from}"}, "body": "\"fixed\""});
    database.publish("header", "default", &post).await;
    set(database, keys, "secret", "TOKEN", "s3cret");
    let headers = json!({"authorization": "Bearer ${secret.TOKEN}"});
    let secret =
        json!({"method": "POST", "url": inbox.url("/post?phone=${from}"), "headers": headers, "body": "\"${from}\""});
    database.publish("secret", "default", &secret).await;
}

const YES: Option<bool> = Some(true);
const NO: Option<bool> = Some(false);

#[tokio::test(flavor = "multi_thread")]
async fn a_url_or_a_header_that_was_not_sent_is_never_shown_as_what_was_sent_where_there_is_a_key() {
    let (database, inbox, keys) = (Database::new().await, Inbox::open().await, key_file(&[&new_key()]));
    three_agents(&database, &inbox, &keys).await;
    let dispatcher = started(&database, &keys).await;
    for agent in ["url", "header", "secret"] {
        database.insert_call(agent, &json!({"from": "+49301112222"})).await;
    }
    database.settled().await;
    drop(dispatcher);
    assert_eq!(inbox.received().len(), 3);
    let made = format!("SELECT count(*) FROM postcall.delivery WHERE octet_length(request_head_hmac) = {KEYED_BYTES}");
    assert_eq!(database.number(&made).await, 3);
    seal(&database, None).await;
    let console = Console::start_with(&database.url, &["--key-file", path(&keys)]).await;
    let with_key = ["--key-file", path(&keys)];
    for (agent, body, without) in [("url", None, [None; 3]), ("header", YES, [None; 3]), ("secret", YES, [None; 3])] {
        let id = delivery(&database, agent).await;
        let (text, object) = shown(&database, &id, &with_key);
        assert_eq!(as_sent(&object), [YES, YES, body], "{agent}: {text}");
        assert!(text.contains("head hmac") && !text.contains("WARNING") && !text.contains("not compared"), "{text}");
        assert_eq!(as_sent(&shown(&database, &id, &[]).1), without, "{agent}, without the key");
        assert!(!console.page(&format!("/deliveries/{id}")).await.body.contains("recorded as sent"), "{agent}");
    }
    // Whoever owns the database lets it look as if somebody else had called.
    unguarded(&database, "UPDATE postcall.outbox SET call = replace(call::text, '1112222', '3334444')::json").await;
    for (agent, body, told) in [
        ("url", None, "this is not the URL, or these are not the headers, that were recorded as sent"),
        ("header", YES, "this is not the URL, or these are not the headers, that were recorded as sent"),
        ("secret", NO, "this is not the request that was recorded as sent"),
    ] {
        let id = delivery(&database, agent).await;
        let (text, object) = shown(&database, &id, &with_key);
        assert_eq!(as_sent(&object), [NO, NO, body], "{agent}: {text}");
        assert!(text.contains(&format!("WARNING: {told}")), "{text}");
        let page = console.page(&format!("/deliveries/{id}")).await.words();
        assert!(page.contains(&told[1..]), "{agent}: {page}");
    }
    assert!(verified(&database));
    let altered =
        "UPDATE postcall.delivery SET request_head_hmac = decode(repeat('00', 40), 'hex') WHERE agent = 'url'";
    unguarded(&database, altered).await;
    assert!(!verified(&database), "a sealed row covers the digest");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_key_no_digest_of_a_url_is_kept_and_what_is_not_compared_is_said() {
    let (database, inbox) = (Database::new().await, Inbox::open().await);
    let action = json!({"method": "POST", "url": inbox.url("/?phone=${from}"), "body": "\"${from}\""});
    database.publish("a", "default", &action).await;
    let dispatcher = Dispatcher::start(&database, &[]).await;
    database.insert_call("a", &json!({"from": "+49301112222"})).await;
    database.settled().await;
    drop(dispatcher);
    assert_eq!(database.number("SELECT count(request_head_hmac) FROM postcall.delivery").await, 0);
    let id = delivery(&database, "a").await;
    let (text, object) = shown(&database, &id, &[]);
    assert_eq!(as_sent(&object), [None, None, YES]);
    assert!(text.contains("URL and headers were not compared"), "{text}");
    let page = Console::start(&database.url).await.page(&format!("/deliveries/{id}")).await.words();
    assert!(page.contains("URL and headers were not compared with what was sent."), "{page}");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_key_nobody_can_try_by_its_digest_what_a_receiver_sent_back() {
    let (database, keys) = (Database::new().await, key_file(&[&new_key()]));
    let echo = Receiver::answering(b"HTTP/1.1 200 OK\r\ncontent-length: 14\r\n\r\n\"+49301112222\"").await;
    let action = json!({"method": "POST", "url": echo.url("/"), "body": "${from}"});
    database.publish("clear", "default", &action).await;
    database.publish("keyed", "default", &action).await;
    let plain = database.text("SELECT encode(sha256('\"+49301112222\"'), 'hex')").await.unwrap();
    let recorded = |agent: &str| {
        format!("SELECT encode(response_sha256, 'hex') FROM postcall.delivery_history WHERE agent = '{agent}'")
    };
    let dispatcher = Dispatcher::start(&database, &[]).await;
    database.insert_call("clear", &json!({"from": "+49301112222"})).await;
    database.settled().await;
    drop(dispatcher);
    assert_eq!(database.text(&recorded("clear")).await, Some(plain.clone()), "without a key as before");
    let dispatcher = started(&database, &keys).await;
    database.insert_call("keyed", &json!({"from": "+49301112222"})).await;
    database.settled().await;
    drop(dispatcher);
    let keyed = database.text(&recorded("keyed")).await.unwrap();
    assert!(keyed.len() == 2 * KEYED_BYTES && !keyed.contains(&plain), "{keyed}");
    let of_request = "SELECT encode(request_sha256, 'hex') FROM postcall.delivery WHERE agent = 'keyed'";
    let of_request = database.text(of_request).await.unwrap();
    assert_ne!(of_request, keyed, "a receiver cannot let postcall make the digest of a body that it wants to try");
    let (text, _) = shown(&database, &delivery(&database, "keyed").await, &[]);
    assert_eq!(text.matches("body hmac").count(), 2, "{text}");

    // Neither by those of a test.
    let test = ["action", "test", "keyed", "--by", "Ada", "--reason", "r", "--key-file", path(&keys)];
    let tested = postcall_on(&database, &[&test[..], &THIS_MACHINE].concat());
    assert!(tested.status.success() && stdout(&tested).contains("body hmac"), "{}{}", stdout(&tested), stderr(&tested));
    let of_test = "SELECT count(*) FROM postcall.action_test_history
                   WHERE octet_length(response_sha256) = 40 AND octet_length(request_head_hmac) = 40";
    assert_eq!(database.number(of_test).await, 1);
}
