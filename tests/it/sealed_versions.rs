//! Sealed versions: what customers type into templates is nowhere at rest, is sent as it was written, and is opened in its own place only.

use std::fmt::Write as _;
use std::process::Output;

use postcall::vault::Keyring;
use serde_json::{Value, json};
use tempfile::NamedTempFile;

use crate::support::console::Console;
use crate::support::database::Database;
use crate::support::inbox::Inbox;
use crate::support::intruder::{EVERYBODY, refused};
use crate::support::keys::{key_file, new_key, secret, started};
use crate::support::process::{Dispatcher, THIS_MACHINE, file, postcall, postcall_at, postcall_on, stderr, stdout};
use crate::support::sealing::{public, seal, unguarded};

/// What a customer typed into the path, a header and the body.
const PLANTED: [&str; 3] = ["B0paZ9xQ7", "hdrT0k3nK2", "bodyT0k3nW5"];

fn action(url: &str) -> Value {
    let [path, header, body] = PLANTED;
    json!({"method": "POST", "url": format!("{url}services/{path}?id=${{callInfo.callSid}}"),
           "headers": {"authorization": format!("Bearer {header}")},
           "body": format!("{{\"token\": \"{body}\", \"call\": \"${{callInfo.callSid}}\"}}")})
}

fn path(keys: &NamedTempFile) -> &str {
    keys.path().to_str().unwrap()
}

/// Publishes an action file with this key file, or without one.
fn publish(url: &str, keys: Option<&NamedTempFile>, agent: &str, action: &Value) -> Output {
    let action = file(&action.to_string());
    let arguments = ["action", "publish", agent, path(&action), "--by", "Ada"];
    postcall_at(url, &[&arguments[..], &keys.map_or(Vec::new(), |keys| vec!["--key-file", path(keys)])].concat())
}

fn published(database: &Database, keys: &NamedTempFile, agent: &str, action: &Value) {
    let output = publish(&database.url, Some(keys), agent, action);
    assert!(output.status.success(), "{}", stderr(&output));
}

/// Sends one call, and gives what became of its delivery.
async fn ends(database: &Database, agent: &str) -> String {
    database.insert_call(agent, &json!({"callInfo": {"callSid": "CA1"}})).await;
    database.settled().await;
    let last = "SELECT concat_ws(' ', state, error_kind, error_detail) FROM postcall.delivery ORDER BY delivery_id DESC LIMIT 1";
    database.text(last).await.unwrap()
}

/// Everything that the tables hold, as text; encrypted columns are printed in hexadecimal.
async fn at_rest(database: &Database) -> String {
    let tables =
        "SELECT string_agg(format('SELECT t::text FROM postcall.%I AS t', relname), ' UNION ALL ') FROM pg_class
                  WHERE relnamespace = 'postcall'::regnamespace AND relkind IN ('r', 'p')";
    let tables = database.text(tables).await.unwrap();
    database.text(&format!("SELECT string_agg(t, E'\\n') FROM ({tables}) AS all_of_it (t)")).await.unwrap()
}

fn holds_nothing_planted(text: &str) {
    for planted in PLANTED.map(str::to_owned).into_iter().chain(PLANTED.map(hex::encode)) {
        assert!(!text.contains(&planted), "{planted} in:\n{text}");
    }
}

fn verified(database: &Database) {
    let output = postcall_on(database, &["audit", "verify", "--key", &public()]);
    assert!(output.status.success(), "{}{}", stdout(&output), stderr(&output));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_typed_into_templates_is_sent_as_it_was_and_is_nowhere_at_rest() {
    let (database, inbox, keys) = (Database::new().await, Inbox::open().await, key_file(&[&new_key()]));
    published(&database, &keys, "a", &action(&inbox.url("/")));
    published(&database, &keys, "a", &json!({"method": "GET", "url": inbox.url("/B0paZ9xQ7")}));
    published(&database, &keys, "a", &action(&inbox.url("/")));
    let dispatcher = Dispatcher::start(&database, &["--key-file", path(&keys), "--log", "trace"]).await;
    assert_eq!(ends(&database, "a").await, "delivered");
    dispatcher.signal(nix::sys::signal::Signal::SIGTERM);
    let (_, log) = dispatcher.ended_saying().await;
    let received = &inbox.received()[0];
    assert_eq!(received.target, "/services/B0paZ9xQ7?id=CA1");
    assert_eq!(received.header("authorization"), Some("Bearer hdrT0k3nK2"));
    assert_eq!(received.body, "{\"token\": \"bodyT0k3nW5\", \"call\": \"CA1\"}");

    let mut seen = at_rest(&database).await;
    write!(seen, "\n{}", log.join("\n")).unwrap();
    let id = database.text("SELECT delivery_id::text FROM postcall.delivery").await.unwrap();
    for (arguments, told) in [
        (&["action", "list"][..], "(sealed)"),
        (&["action", "list", "--format", "json"], "\"origin\""),
        (&["action", "show", "a"], "are sealed"),
        (&["action", "diff", "a"], "are sealed"),
        (&["action", "versions", "a"], "perhaps its sealed templates"),
        (&["show", &id], "are sealed"),
        (&["show", &id, "--json"], "are sealed"),
        (&["action", "test", "a", "--by", "Ada", "--reason", "r"], "are sealed"),
        (&["secret", "list", "a"], "3 are sealed"),
        (&["doctor"], "all of which are sealed"),
        (&["history"], "delivered"),
        (&["status"], ""),
        (&["audit"], "Ada"),
    ] {
        let output = postcall_on(&database, arguments);
        let output = format!("{}{}", stdout(&output), stderr(&output));
        assert!(output.contains(told), "{arguments:?}: {output}");
        write!(seen, "\n{output}").unwrap();
    }
    holds_nothing_planted(&seen);

    // With the key file they see what they may see of any action.
    let with_key = |arguments: &[&str]| {
        let output = postcall_on(&database, &[arguments, &["--key-file", path(&keys)]].concat());
        format!("{}{}", stdout(&output), stderr(&output))
    };
    let shown = postcall_on(&database, &["action", "show", "a", "--key-file", path(&keys)]);
    let shown: Value = serde_json::from_str(&stdout(&shown)).unwrap();
    assert_eq!((&shown["url"], &shown["body"]), (&action(&inbox.url("/"))["url"], &action(&inbox.url("/"))["body"]));
    for (arguments, told) in [
        (&["action", "list"][..], "/services/B0paZ9xQ7"),
        (&["action", "diff", "a"], "bodyT0k3nW5"),
        (&["show", &id], "bodyT0k3nW5"),
    ] {
        assert!(with_key(arguments).contains(told), "{}", with_key(arguments));
    }
    let test = ["action", "test", "a", "--by", "Ada", "--reason", "r", "--key-file", path(&keys)];
    let tested = postcall_on(&database, &[&test[..], &THIS_MACHINE].concat());
    assert!(tested.status.success(), "{}{}", stdout(&tested), stderr(&tested));
    assert_eq!(inbox.received()[1].header("authorization"), Some("Bearer hdrT0k3nK2"));
    holds_nothing_planted(&at_rest(&database).await);
}

#[tokio::test]
async fn without_the_key_deliveries_of_sealed_actions_fail_and_no_others_do() {
    let (database, inbox, keys) = (Database::new().await, Inbox::open().await, key_file(&[&new_key()]));
    database.publish("b", "default", &json!({"method": "GET", "url": inbox.url("/clear")})).await;
    published(&database, &keys, "a", &action(&inbox.url("/")));
    let mut dispatcher = Dispatcher::start(&database, &[]).await;
    let failed = ends(&database, "a").await;
    assert!(failed.starts_with("failed render action: the templates") && failed.contains("--key-file"), "{failed}");
    dispatcher.says("sealed templates that cannot be opened").await;
    assert_eq!(ends(&database, "b").await, "delivered");
    drop(dispatcher);
    let dispatcher = started(&database, &key_file(&[&new_key()])).await;
    let failed = ends(&database, "a").await;
    assert!(failed.contains("lacks the key"), "{failed}");
    drop(dispatcher);
    assert_eq!(inbox.received().len(), 1);
    let _dispatcher = started(&database, &keys).await;
    assert_eq!(ends(&database, "a").await, "delivered");
}

#[tokio::test]
async fn sealed_templates_that_were_moved_to_another_version_agent_or_host_are_not_sent() {
    let (database, inbox, keys) = (Database::new().await, Inbox::open().await, key_file(&[&new_key()]));
    published(&database, &keys, "a", &action(&inbox.url("/")));
    published(&database, &keys, "b", &json!({"method": "GET", "url": inbox.url("/of-b")}));
    published(&database, &keys, "b", &json!({"method": "GET", "url": inbox.url("/newest-of-b")}));
    let _dispatcher = started(&database, &keys).await;
    let kept = "CREATE TABLE kept AS SELECT * FROM postcall.action_version";
    database.execute(kept).await;
    let columns = "key_id = s.key_id, wrapped_key = s.wrapped_key, sealed_value = s.sealed_value, digest = s.digest";
    let from = |of: &str| format!("FROM kept AS s WHERE v.action_id = 2 AND v.version = 2 AND {of}");
    for forgery in [
        format!("UPDATE postcall.action_version AS v SET {columns} {}", from("s.action_id = 2 AND s.version = 1")),
        format!("UPDATE postcall.action_version AS v SET {columns} {}", from("s.action_id = 1")),
        "UPDATE postcall.action_version SET url = 'https://elsewhere.example/${' WHERE action_id = 2 AND version = 2"
            .to_owned(),
        "UPDATE postcall.action_version SET digest = sha256('') WHERE action_id = 2 AND version = 2".to_owned(),
    ] {
        unguarded(&database, &forgery).await;
        let failed = ends(&database, "b").await;
        assert!(
            failed.starts_with("failed render") && failed.contains("changed in the database"),
            "{forgery}: {failed}"
        );
        let restore = format!("UPDATE postcall.action_version AS v SET url = s.url, {columns}");
        unguarded(&database, &format!("{restore} {}", from("s.action_id = 2 AND s.version = 2"))).await;
    }
    assert!(inbox.received().is_empty());
    assert_eq!(ends(&database, "b").await, "delivered");
    assert_eq!(inbox.received()[0].target, "/newest-of-b");
}

#[tokio::test]
async fn once_a_version_is_sealed_all_later_ones_are_and_an_identical_one_is_still_none() {
    let (database, keys) = (Database::new().await, key_file(&[&new_key()]));
    let publisher = database.login(&["postcall_publisher"]).await;
    let publish = |keys, action: &Value| publish(&publisher, keys, "a", action);
    let clear = publish(None, &action("https://h.example/"));
    assert!(clear.status.success(), "{}", stderr(&clear));
    let sealed = publish(Some(&keys), &action("https://other.example/"));
    assert!(stdout(&sealed).contains("version 2"), "{}{}", stdout(&sealed), stderr(&sealed));
    let same = publish(Some(&keys), &action("https://other.example/"));
    assert!(stdout(&same).contains("version 2 is the same already"), "{}{}", stdout(&same), stderr(&same));
    let refused = publish(None, &action("https://h.example/"));
    assert!(!refused.status.success() && stderr(&refused).contains("--key-file"), "{}", stderr(&refused));
    // The key is lost: what cannot be opened may be anything, and can be replaced.
    let new = key_file(&[&new_key()]);
    let begun = secret(&publisher, &new, &["set", "a", "T", "--by", "Ada", "--old-keys-are-lost"], "value");
    assert!(begun.status.success(), "{}", stderr(&begun));
    let other = publish(Some(&new), &action("https://other.example/"));
    assert!(stdout(&other).contains("version 3"), "{}{}", stdout(&other), stderr(&other));
    let kinds = "SELECT string_agg(CASE WHEN key_id IS NULL THEN 'clear' ELSE 'sealed' END, ' ' ORDER BY version) FROM postcall.action_version";
    assert_eq!(database.text(kinds).await.unwrap(), "clear sealed sealed");
    let outline =
        "SELECT url || coalesce(headers, '') || coalesce(body, '') FROM postcall.action_version WHERE version = 2";
    assert_eq!(database.text(outline).await.unwrap(), "https://other.example/${");
}

#[tokio::test]
async fn what_stood_in_clear_is_sealed_rekeyed_sent_and_still_what_history_proves() {
    let (old_key, new_key) = (new_key(), new_key());
    let (old, both, new) = (key_file(&[&old_key]), key_file(&[&new_key, &old_key]), key_file(&[&new_key]));
    let (database, inbox) = (Database::new().await, Inbox::open().await);
    for version in 0..25 {
        let action =
            json!({"method": "POST", "url": inbox.url(&format!("/B0paZ9xQ7/{version}")), "body": "\"é bodyT0k3nW5\""});
        database.publish("a", "default", &action).await;
    }
    let tls = json!({"method": "POST", "url": "https://h.example/B0paZ9xQ7", "client_certificate": "tls"});
    database.publish("b", "default", &tls).await;
    let dispatcher = started(&database, &both).await;
    assert_eq!(ends(&database, "a").await, "delivered");
    seal(&database, None).await;
    verified(&database);

    let sealed = postcall_on(&database, &["action", "seal", "--key-file", path(&old)]);
    assert!(
        stdout(&sealed).starts_with("26 versions are sealed, and none is left"),
        "{}{}",
        stdout(&sealed),
        stderr(&sealed)
    );
    // The update's old rows are gone from the table's pages only after a vacuum; nobody can read them by SQL.
    holds_nothing_planted(&at_rest(&database).await);
    verified(&database);
    let again = postcall_on(&database, &["action", "seal", "--key-file", path(&old)]);
    assert!(stdout(&again).starts_with("0 versions are sealed"), "{}", stdout(&again));

    let without = secret(&database.url, &new, &["rekey"], "");
    assert!(!without.status.success() && stderr(&without).contains("at least 26 are left"), "{}", stderr(&without));
    published(&database, &old, "a", &action(&inbox.url("/")));
    seal(&database, None).await;
    verified(&database);
    let rekeyed = secret(&database.url, &both, &["rekey"], "");
    let told = "0 secrets and 27 sealed versions of actions are encrypted with the first key, and none is left";
    assert!(stdout(&rekeyed).contains(told), "{}{}", stdout(&rekeyed), stderr(&rekeyed));
    let first = Keyring::parse(&new_key).unwrap();
    let others = format!("SELECT count(*) FROM postcall.action_version WHERE key_id <> '{}'", first.first_id());
    assert_eq!(database.number(&others).await, 0);
    verified(&database);
    assert_eq!(ends(&database, "a").await, "delivered");
    drop(dispatcher);
    let _dispatcher = started(&database, &new).await;
    assert_eq!(ends(&database, "a").await, "delivered");
    assert_eq!(inbox.received()[2].header("authorization"), Some("Bearer hdrT0k3nK2"));
    let targets: Vec<String> = inbox.received().into_iter().map(|request| request.target).collect();
    assert_eq!(targets[0], "/B0paZ9xQ7/24");

    // Whoever owns the database alters what is sealed: history says so.
    unguarded(&database, "UPDATE postcall.action_version SET digest = sha256('') WHERE action_id = 1 AND version = 26")
        .await;
    let altered = postcall_on(&database, &["audit", "verify", "--key", &public()]);
    assert!(!altered.status.success() && stdout(&altered).contains("version"), "{}", stdout(&altered));
}

#[tokio::test]
async fn the_digest_of_a_sealed_version_is_not_that_of_its_texts() {
    let (database, keys) = (Database::new().await, key_file(&[&new_key()]));
    let action = json!({"method": "GET", "url": "https://h.example/1234"});
    database.publish("a", "default", &action).await;
    let digest = |version: i32| format!("SELECT encode(postcall.version_digest(1, {version}), 'hex')");
    let clear = database.text(&digest(1)).await.unwrap();
    published(&database, &keys, "a", &json!({"method": "GET", "url": "https://h.example/12345"}));
    published(&database, &keys, "a", &action);
    let sealed = database.text(&digest(3)).await.unwrap();
    assert!(sealed != clear && sealed.len() == 64, "{sealed}");
    let auditor = database.login(&["postcall_auditor"]).await;
    let listed = stderr(&postcall_at(&auditor, &["secret", "list", "a"]));
    assert!(listed.contains("2 are sealed with keys of the key file, and 1 are not"), "{listed}");
    let checked = stdout(&postcall_at(&auditor, &["doctor"]));
    assert!(checked.contains("postcall action seal"), "{checked}");
    let texts = ["sealed_value", "wrapped_key", "digest", "url", "body"]
        .map(|column| format!("SELECT {column} FROM postcall.action_version"));
    refused(&database, &[EVERYBODY[3]], &texts.each_ref().map(String::as_str)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_key_nobody_can_try_by_its_digest_what_a_body_was_and_show_compares_it_with_the_key() {
    let (old_key, new_key) = (new_key(), new_key());
    let (database, inbox) = (Database::new().await, Inbox::open().await);
    let (old, both, new) = (key_file(&[&old_key]), key_file(&[&new_key, &old_key]), key_file(&[&new_key]));
    let number = json!({"method": "POST", "url": inbox.url("/"), "body": "\"${callInfo.callSid}\""});
    database.publish("a", "default", &number).await;
    let plain = "SELECT encode(sha256('\"CA1\"'), 'hex')";
    let plain = database.text(plain).await.unwrap();
    let dispatcher = Dispatcher::start(&database, &[]).await;
    assert_eq!(ends(&database, "a").await, "delivered");
    assert!(at_rest(&database).await.contains(&plain), "without a key as before");
    drop(dispatcher);
    let _dispatcher = started(&database, &old).await;
    assert_eq!(ends(&database, "a").await, "delivered");
    let test = ["action", "test", "a", "--by", "Ada", "--reason", "r", "--key-file", path(&old)];
    let tested = postcall_on(&database, &[&test[..], &THIS_MACHINE].concat());
    assert!(tested.status.success(), "{}{}", stdout(&tested), stderr(&tested));
    assert_eq!(
        database.number("SELECT count(*) FROM postcall.action_test WHERE octet_length(request_sha256) = 40").await,
        1
    );
    let last = "SELECT delivery_id::text FROM postcall.delivery ORDER BY delivery_id DESC LIMIT 1";
    let id = database.text(last).await.unwrap();
    let same = |arguments: &[&str]| {
        let output = postcall_on(&database, &[&["show", &id, "--json"], arguments].concat());
        let shown: Value = serde_json::from_str(&stdout(&output)).unwrap();
        assert_ne!(shown["request_sha256"], json!(plain));
        shown["request"]["same_as_sent"].clone()
    };
    assert_eq!(same(&[]), Value::Null);
    assert_eq!(same(&["--key-file", path(&new)]), Value::Null);
    assert_eq!(same(&["--key-file", path(&old)]), json!(true));
    assert_eq!(same(&["--key-file", path(&both)]), json!(true));
    let shown = stdout(&postcall_on(&database, &["show", &id]));
    assert!(shown.contains("body hmac") && shown.contains("compared with --key-file"), "{shown}");
    let altered =
        "UPDATE postcall.delivery SET request_sha256 = set_byte(request_sha256, 39, 255 - get_byte(request_sha256, 39))
                   WHERE octet_length(request_sha256) = 40";
    unguarded(&database, altered).await;
    assert_eq!(same(&["--key-file", path(&old)]), json!(false));
    seal(&database, None).await;
    verified(&database);
}

#[tokio::test]
async fn nothing_is_sealed_while_a_dispatcher_runs_that_cannot_open_it_and_none_such_starts_afterwards() {
    let (database, keys) = (Database::new().await, key_file(&[&new_key()]));
    database.publish("b", "default", &action("https://h.example/")).await;
    let mut session = database.session();
    Database::register(&mut session).await;
    database.execute("UPDATE postcall.dispatcher SET knows_sealed_versions = false").await;
    for output in [
        publish(&database.url, Some(&keys), "a", &action("https://h.example/")),
        postcall_on(&database, &["action", "seal", "--key-file", path(&keys)]),
    ] {
        assert!(!output.status.success() && stderr(&output).contains("0.3.0 or earlier"), "{}", stderr(&output));
    }
    database.execute("UPDATE postcall.dispatcher SET stopped_at = clock_timestamp()").await;
    published(&database, &keys, "a", &action("https://h.example/"));
    // As 0.3.0 registers.
    let register = "INSERT INTO postcall.dispatcher (name, version, lease_until, policy)
                    VALUES ('d', '0.3.0', clock_timestamp() + interval '1 minute', '{}')";
    let error = database.error_of(register).await;
    assert!(error.contains("cannot open them"), "{error}");
    Database::register(&mut session).await;
    // And if one had a sealed version all the same: no release makes a request of what stands in clear.
    let outline = file("{\"method\": \"POST\", \"url\": \"https://h.example/${\"}");
    let checked = postcall(&["action", "check", path(&outline)]);
    assert!(!checked.status.success() && stderr(&checked).contains("url"), "{}", stderr(&checked));
}

#[tokio::test]
async fn nobody_changes_a_sealed_version_and_a_publisher_does_not_even_encrypt_its_key_anew() {
    let (database, keys) = (Database::new().await, key_file(&[&new_key()]));
    published(&database, &keys, "a", &action("https://h.example/"));
    let rewrap = "UPDATE postcall.action_version SET wrapped_key = decode(repeat('00', 72), 'hex')";
    refused(&database, &EVERYBODY, &[rewrap, "DELETE FROM postcall.action_version"]).await;
    for change in
        ["sealed_value = decode(repeat('00', 80), 'hex')", "digest = sha256('')", "timeout_ms = 200", "key_id = NULL"]
    {
        let error = database.error_of(&format!("UPDATE postcall.action_version SET {change}")).await;
        assert!(error.contains("never changed") || error.contains("as_a_whole"), "{change}: {error}");
    }
    database.execute(rewrap).await;
}

#[tokio::test]
async fn the_console_shows_and_changes_sealed_templates_with_the_key_and_says_without_it_what_is_missing() {
    let (database, keys) = (Database::new().await, key_file(&[&new_key()]));
    published(
        &database,
        &keys,
        "a",
        &json!({"method": "POST", "url": "https://h.example/B0paZ9xQ7", "body": "\"bodyT0k3nW5\""}),
    );
    let form = "/change/action?agent=a&name=default";
    let without = Console::start_with(&database.url, &["--write", "--as", "Ada"]).await;
    let page = without.page("/agents/a").await.words();
    assert!(page.contains("are sealed") && page.contains("https://h.example"), "{page}");
    for address in [form, "/change/test?agent=a&name=default"] {
        let page = without.get(address).await;
        assert!(page.status == 409 && page.words().contains("--key-file"), "{address}: {}", page.words());
        holds_nothing_planted(&page.body);
    }
    let with = Console::start_with(&database.url, &["--write", "--as", "Ada", "--key-file", path(&keys)]).await;
    assert!(with.page("/agents/a").await.words().contains("bodyT0k3nW5"));
    assert!(with.page(form).await.body.contains("B0paZ9xQ7"));
    let change = [
        ("agent", "a"),
        ("name", "default"),
        ("over", "1"),
        ("step", "publish"),
        ("method", "POST"),
        ("url", "https://h.example/B0paZ9xQ7"),
        ("timeout", "1000"),
        ("headers", ""),
        ("body", "\"bodyT0k3nW5\""),
        ("enabled", "on"),
        ("reason", "r"),
    ];
    let refused = without.sends("", "/change/action", &change).await;
    assert!(refused.status == 409 && refused.words().contains("--key-file"), "{}", refused.words());
    let done = with.sends("", "/change/action", &change).await;
    assert_eq!(done.status, 303, "{}", done.words());
    assert_eq!(database.number("SELECT count(key_id) FROM postcall.action_version").await, 2);
    holds_nothing_planted(&at_rest(&database).await);
}
