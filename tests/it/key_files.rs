//! Key files: what needs one is not published without it, and that of another database encrypts nothing here.

use std::process::Output;

use postcall::vault::Keyring;
use serde_json::{Value, json};
use tempfile::NamedTempFile;

use crate::support::console::Console;
use crate::support::database::Database;
use crate::support::keys::{key_file, new_key, secret, set};
use crate::support::process::{file, postcall, postcall_at, postcall_on, stderr, stdout};

/// The end of what is said of an action that names a secret.
const NEEDS_THE_KEY_FILE: &str = "what names a secret is published only with the key file that the dispatchers have: \
                                  name it with --key-file or POSTCALL_KEY_FILE";
const OF_ANOTHER_DATABASE: &str = "it is probably the key file of another database";
/// A token that somebody typed.
const TYPED: &str = "T0k3nTyped";

fn path(file: &NamedTempFile) -> &str {
    file.path().to_str().unwrap()
}

fn with_key<'a>(arguments: &[&'a str], keys: Option<&'a NamedTempFile>) -> Vec<&'a str> {
    [arguments, &keys.map_or(Vec::new(), |keys| vec!["--key-file", path(keys)])].concat()
}

fn publish(url: &str, keys: Option<&NamedTempFile>, action: &Value) -> Output {
    let action = file(&action.to_string());
    postcall_at(url, &with_key(&["action", "publish", "a", path(&action), "--by", "Ada"], keys))
}

fn form<'a>(url: &'a str, over: &'a str, step: &'a str) -> [(&'a str, &'a str); 10] {
    [
        ("agent", "a"),
        ("name", "default"),
        ("over", over),
        ("method", "GET"),
        ("url", url),
        ("timeout", ""),
        ("headers", ""),
        ("body", ""),
        ("reason", "r"),
        ("step", step),
    ]
}

#[tokio::test]
async fn what_names_a_secret_is_published_with_the_key_file_only_and_refused_in_the_same_words_everywhere() {
    let (database, keys) = (Database::new().await, key_file(&[&new_key()]));
    let publisher = database.login(&["postcall_publisher"]).await;
    let refused = |output: &Output, name: &str| {
        let said = stderr(output);
        assert!(output.status.code() == Some(1) && said.contains(NEEDS_THE_KEY_FILE), "{said}");
        assert!(said.contains(&format!("it names the secret `{name}`")), "{said}");
    };
    let url = "https://h.example/?x=${secret.NOPE}";
    let body = json!({"method": "POST", "url": "https://h.example/", "body": "{\"x\":\"${secret.NOPE}\"}"});
    let certificate = json!({"method": "GET", "url": "https://h.example/", "client_certificate": "tls"});
    refused(&publish(&publisher, None, &body), "NOPE");
    refused(&publish(&publisher, None, &certificate), "tls");
    let console = Console::start_with(&publisher, &["--write", "--as", "Ada"]).await;
    let page = console.sends("", "/change/action", &form(url, "", "publish")).await;
    assert!(page.words().contains(NEEDS_THE_KEY_FILE), "{}", page.words());
    assert_eq!(database.number("SELECT count(*) FROM postcall.action").await, 0);
    // As releases without this rule have published it. Nothing goes back to it without the key.
    database.publish("a", "default", &json!({"method": "GET", "url": url})).await;
    database.publish("a", "default", &json!({"method": "GET", "url": "https://h.example/"})).await;
    let back = console.sends("", "/change/action", &form(url, "2", "publish")).await;
    assert!(back.words().contains(NEEDS_THE_KEY_FILE), "{}", back.words());
    assert_eq!(database.number("SELECT count(*) FROM postcall.action_version").await, 2);
    for switch in ["disable", "enable"] {
        let switched = postcall_at(&publisher, &["action", switch, "a", "--by", "Ada"]);
        assert!(switched.status.success(), "{switch}: {}", stderr(&switched));
    }
    let published = publish(&publisher, Some(&keys), &body);
    assert!(published.status.success(), "{}", stderr(&published));
    let named = "SELECT count(*) FROM postcall.action_version WHERE key_id IS NOT NULL AND body IS NULL";
    assert_eq!(database.number(named).await, 1);
}

#[tokio::test]
async fn what_is_typed_is_warned_of_without_a_key_and_never_told() {
    let (database, keys) = (Database::new().await, key_file(&[&new_key()]));
    let publisher = database.login(&["postcall_publisher"]).await;
    let url = format!("https://h.example/services/{TYPED}");
    let action = json!({"method": "GET", "url": url, "headers": {"authorization": format!("Bearer {TYPED}")}});
    let text = file(&action.to_string());
    for (keys, expected) in [(None, 2), (Some(&keys), 0)] {
        let checked = postcall(&with_key(&["action", "check", path(&text)], keys));
        assert_eq!(stderr(&checked).matches("is probably a secret").count(), expected, "{}", stderr(&checked));
        assert!(checked.status.success() && stdout(&checked).contains("well formed"), "{}", stdout(&checked));
        let as_json = stdout(&postcall(&with_key(&["action", "check", "--json", path(&text)], keys)));
        assert_eq!(as_json.matches("typed_secret").count(), expected, "{as_json}");
        let published = publish(&publisher, keys, &action);
        assert!(published.status.success(), "{}", stderr(&published));
        assert_eq!(stderr(&published).matches("is probably a secret").count(), expected, "{}", stderr(&published));
        let all = [&checked, &published].map(|output| stderr(output) + &stdout(output)).concat() + &as_json;
        assert!(!all.contains(TYPED), "{all}");
    }
    let other = Database::new().await;
    let publisher = other.login(&["postcall_publisher"]).await;
    for (keys, warns) in [(None, true), (Some(&keys), false)] {
        let console = Console::start_with(&publisher, &with_key(&["--write", "--as", "Ada"], keys)).await;
        let review = console.sends("", "/change/action", &form(&url, "", "review")).await;
        assert_eq!(review.words().contains("is probably a secret"), warns, "{}", review.words());
    }
}

#[tokio::test]
async fn a_key_file_of_another_database_encrypts_nothing_here() {
    let (old_key, new_key) = (new_key(), new_key());
    let (old, fresh, both) = (key_file(&[&old_key]), key_file(&[&new_key]), key_file(&[&new_key, &old_key]));
    let action = json!({"method": "GET", "url": "https://h.example/"});
    let sign = ["action", "signing", "enable", "s", "--by", "Ada"];
    // Whichever kind of thing is encrypted.
    for kind in 0..3 {
        let database = Database::new().await;
        let publisher = database.login(&["postcall_publisher"]).await;
        let begun = match kind {
            0 => secret(&publisher, &old, &["set", "a", "T", "--by", "Ada"], "value"),
            1 => postcall_at(&publisher, &with_key(&["action", "signing", "enable", "b", "--by", "Ada"], Some(&old))),
            _ => publish(&publisher, Some(&old), &action),
        };
        assert!(begun.status.success(), "{}", stderr(&begun));
        let encrypted = "SELECT (SELECT count(*) FROM postcall.secret) + (SELECT count(*) FROM postcall.signing_key)
                              + (SELECT count(*) FROM postcall.action_version)";
        let console = Console::start_with(&publisher, &with_key(&["--write", "--as", "Ada"], Some(&fresh))).await;
        let page = console.sends("", "/change/action", &form("https://other.example/", "", "publish")).await;
        assert!(kind == 2 || page.words().contains(OF_ANOTHER_DATABASE), "{}", page.words());
        for output in [
            secret(&publisher, &fresh, &["set", "a", "U", "--by", "Ada"], "value"),
            publish(&publisher, Some(&fresh), &action),
            postcall_at(&publisher, &with_key(&sign, Some(&fresh))),
            postcall_on(&database, &with_key(&["action", "seal"], Some(&fresh))),
        ] {
            let said = stderr(&output);
            assert!(output.status.code() == Some(1) && said.contains(OF_ANOTHER_DATABASE), "{kind}: {said}");
            assert!(said.contains("as the first line above the old one"), "{said}");
        }
        if kind == 1 {
            let rotate = ["action", "signing", "rotate", "b", "--by", "Ada"];
            let rotated = postcall_at(&publisher, &with_key(&rotate, Some(&fresh)));
            assert!(stderr(&rotated).contains(OF_ANOTHER_DATABASE), "{}", stderr(&rotated));
        }
        assert_eq!(database.number(encrypted).await, 1, "{kind}");
        // The new key begins above the old one.
        let begun = secret(&publisher, &both, &["set", "a", "U", "--by", "Ada"], "value");
        assert!(begun.status.success(), "{}", stderr(&begun));
        for output in
            [publish(&publisher, Some(&fresh), &action), postcall_at(&publisher, &with_key(&sign, Some(&fresh)))]
        {
            assert!(output.status.success(), "{}", stderr(&output));
        }
    }
}

#[tokio::test]
async fn a_lost_key_is_replaced_only_by_who_says_that_it_is_lost() {
    let (database, old, fresh) = (Database::new().await, key_file(&[&new_key()]), key_file(&[&new_key()]));
    set(&database, &old, "a", "T", "value");
    let again = |more: &[&str]| {
        let arguments = [&["set", "a", "T", "--by", "Ada"], more].concat();
        secret(&database.url, &fresh, &arguments, "other").status.success()
    };
    assert!(!again(&[]));
    assert!(again(&["--old-keys-are-lost"]));
    assert!(again(&[]));
}

#[tokio::test]
async fn doctor_says_which_keys_are_in_use_and_which_of_them_the_file_lacks() {
    let (old_key, new_key) = (new_key(), new_key());
    let (old, both) = (key_file(&[&old_key]), key_file(&[&new_key, &old_key]));
    let id = |key: &str| Keyring::parse(key).unwrap().first_id().to_owned();
    let database = Database::new().await;
    let looked = |url: &str, keys: Option<&NamedTempFile>| -> (String, String) {
        let output = postcall_at(url, &with_key(&["doctor", "--json"], keys));
        let checks: Vec<Value> = serde_json::from_str(&stdout(&output)).unwrap();
        let check = checks.iter().find(|check| check["what"] == "keys").unwrap();
        (check["verdict"].as_str().unwrap().to_owned(), check["found"].as_str().unwrap().to_owned())
    };
    for role in ["postcall_dispatcher", "postcall_publisher", "postcall_auditor"] {
        let url = database.login(&[role]).await;
        assert_eq!(looked(&url, Some(&old)).0, "ok", "{role}: nothing is encrypted");
    }
    set(&database, &old, "a", "T", "value");
    set(&database, &both, "a", "U", "value");
    let published = publish(&database.url, Some(&both), &json!({"method": "GET", "url": "https://h.example/"}));
    assert!(published.status.success(), "{}", stderr(&published));
    for role in ["postcall_dispatcher", "postcall_publisher", "postcall_auditor"] {
        let url = database.login(&[role]).await;
        let (verdict, found) = looked(&url, None);
        assert!(verdict == "ok" && found.contains(&id(&old_key)) && found.contains(&id(&new_key)), "{role}: {found}");
        let (verdict, found) = looked(&url, Some(&old));
        let lacking = format!("the key file lacks {} (1 secrets, 0 keys that sign, 1 versions)", id(&new_key));
        assert!(verdict == "problem" && found.ends_with(&lacking), "{role}: {verdict} {found}");
        assert_eq!(looked(&url, Some(&both)).0, "warning", "{role}");
    }
}

#[tokio::test]
async fn whatever_rekeying_cannot_open_is_named_with_its_agent() {
    let (old_key, new_key) = (new_key(), new_key());
    let (database, old, fresh) = (Database::new().await, key_file(&[&old_key]), key_file(&[&new_key]));
    set(&database, &old, "voice", "TOK", "value");
    let published = publish(&database.url, Some(&old), &json!({"method": "GET", "url": "https://h.example/"}));
    assert!(published.status.success(), "{}", stderr(&published));
    let signed = ["action", "signing", "enable", "signer", "--by", "Ada"];
    assert!(postcall_on(&database, &with_key(&signed, Some(&old))).status.success());
    let said = stderr(&secret(&database.url, &fresh, &["rekey"], ""));
    for told in ["the secret TOK of voice (", "that signs for signer (", "version 1 of the action default of a ("] {
        assert!(said.contains(told), "{told}: {said}");
    }
    assert_eq!(said.matches("the key file lacks the key that it needs").count(), 3, "{said}");
    assert!(said.contains("at least 3 are left") && said.contains("3 cannot be opened"), "{said}");
    assert!(said.contains(Keyring::parse(&new_key).unwrap().first_id()), "{said}");
    for number in 0..25 {
        set(&database, &old, "many", &format!("S{number:02}"), "value");
    }
    let said = stderr(&secret(&database.url, &fresh, &["rekey"], ""));
    assert_eq!(said.matches("not opened: the secret").count(), 20, "{said}");
}
