//! Signed requests: receivers verify them with libraries that others wrote, and nothing is ever sent unsigned that is to be signed.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use standardwebhooks::Webhook;

use crate::support::console::Console;
use crate::support::database::Database;
use crate::support::inbox::{Inbox, Received};
use crate::support::intruder::{EVERYBODY, attempt, refused};
use crate::support::keys::{key_file, new_key, secret, started};
use crate::support::process::{Dispatcher, POSTCALL, THIS_MACHINE, postcall_at, postcall_on, stderr, stdout};
use crate::support::tools::python_library;

/// Runs `postcall action signing …` with this key file.
pub fn signing(url: &str, keys: &tempfile::NamedTempFile, arguments: &[&str]) -> Output {
    let mut command = Command::new(POSTCALL);
    command.env("DATABASE_URL", url).env("POSTCALL_KEY_FILE", keys.path()).args(["action", "signing"]).args(arguments);
    command.output().unwrap()
}

/// As [`signing`], successfully; what it printed for the receivers.
pub fn changed(database: &Database, keys: &tempfile::NamedTempFile, arguments: &[&str]) -> String {
    let output = signing(&database.url, keys, &[arguments, &["--by", "Ada"]].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    stdout(&output).trim_end().to_owned()
}

/// Publishes the agent's action: a POST with the call as its body.
pub async fn publish(database: &Database, agent: &str, inbox: &Inbox) {
    database.publish(agent, "default", &json!({"method": "POST", "url": inbox.url("/hook")})).await;
}

/// Sends one call of the agent, and returns its only request.
async fn delivered(database: &Database, inbox: &Inbox, agent: &str, call: &serde_json::Value) -> Received {
    let before = inbox.received().len();
    database.insert_call(agent, call).await;
    database.settled().await;
    let received = inbox.received();
    assert_eq!(received.len(), before + 1);
    received[before].clone()
}

/// Whether the crate `standardwebhooks` takes this request with this secret.
fn verifies(request: &Received, secret: &str) -> bool {
    Webhook::new(secret).unwrap().verify(request.body.as_bytes(), &request.headers).is_ok()
}

/// Whether Python's `standardwebhooks` takes this request with this secret; `None` where it is not installed.
fn python_verifies(request: &Received, secret: &str) -> Option<bool> {
    let headers: serde_json::Map<_, _> = ["webhook-id", "webhook-timestamp", "webhook-signature"]
        .map(|name| (name.to_owned(), request.header(name).unwrap_or_default().into()))
        .into_iter()
        .collect();
    let script = "import json, sys, standardwebhooks as s\n\
                  given = json.load(sys.stdin)\n\
                  s.Webhook(given['secret']).verify(given['body'], given['headers'], json_parse=False)";
    let mut python = Command::new("python3");
    python.env("PYTHONPATH", python_library()?).args(["-c", script]).stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut child = python.spawn().unwrap();
    let given = json!({"secret": secret, "body": request.body, "headers": headers}).to_string();
    child.stdin.take().unwrap().write_all(given.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let refused = stderr(&output).contains("WebhookVerificationError");
    assert!(output.status.success() || refused, "{}", stderr(&output));
    Some(output.status.success())
}

/// Whether ed25519-dalek finds that one of the request's signatures was made by the owner of this public key.
fn verifies_by(request: &Received, public: &str) -> bool {
    let key = STANDARD.decode(public.strip_prefix("whpk_").unwrap()).unwrap();
    let key = ed25519_dalek::VerifyingKey::from_bytes(key.as_slice().try_into().unwrap()).unwrap();
    let header = |name| request.header(name).unwrap();
    let signed = format!("{}.{}.{}", header("webhook-id"), header("webhook-timestamp"), request.body);
    header("webhook-signature").split(' ').filter_map(|one| one.strip_prefix("v1a,")).any(|signature| {
        let signature = ed25519_dalek::Signature::from_slice(&STANDARD.decode(signature).unwrap()).unwrap();
        key.verify_strict(signed.as_bytes(), &signature).is_ok()
    })
}

fn signatures(request: &Received) -> usize {
    request.header("webhook-signature").map_or(0, |all| all.split(' ').count())
}

/// The request with another body, id or time.
fn altered(request: &Received) -> Vec<Received> {
    let mut body = request.clone();
    body.body.push(' ');
    let with = |name: &'static str, value: &str| {
        let mut other = request.clone();
        other.headers.insert(name, value.parse().unwrap());
        other
    };
    let time: i64 = request.header("webhook-timestamp").unwrap().parse().unwrap();
    vec![
        body,
        with("webhook-id", &uuid::Uuid::now_v7().to_string()),
        with("webhook-timestamp", &(time + 1).to_string()),
    ]
}

#[tokio::test]
async fn libraries_that_others_wrote_verify_what_arrives_and_refuse_everything_else() {
    let (database, inbox, keys) = (Database::new().await, Inbox::open().await, key_file(&[&new_key()]));
    publish(&database, "a", &inbox).await;
    let get = json!({"method": "GET", "url": inbox.url("/get?sid=${callInfo.callSid}")});
    database.publish("get", "default", &get).await;
    let put = json!({"method": "PUT", "url": inbox.url("/put"), "body": "{\"é\": \"${callInfo.text}\"}"});
    database.publish("put", "default", &put).await;
    let _dispatcher = started(&database, &keys).await;
    // Larger than what is rendered beside other attempts.
    let large = json!({"callInfo": {"callSid": "CA1", "text": "ü\u{1f600}\n".repeat(100_000)}});
    for agent in ["a", "get", "put"] {
        let secret = changed(&database, &keys, &["enable", agent]);
        for call in [&json!({"callInfo": {"callSid": "CA1", "text": "\"x\""}}), &large] {
            let request = delivered(&database, &inbox, agent, call).await;
            assert_eq!(request.body.is_empty(), agent == "get");
            assert!(verifies(&request, &secret) && python_verifies(&request, &secret) != Some(false), "{agent}");
            assert_eq!(signatures(&request), 1);
            for other in altered(&request) {
                assert!(!verifies(&other, &secret), "{agent}");
                // A library takes long to start, so one of them is enough.
                if call != &large && agent == "a" {
                    assert_ne!(python_verifies(&other, &secret), Some(true));
                }
            }
            // The key, in the form of the standard.
            let bytes = STANDARD.decode(secret.strip_prefix("whsec_").unwrap()).unwrap();
            assert!((24..=64).contains(&bytes.len()));
            let now = database.number("SELECT extract(epoch FROM clock_timestamp())::bigint").await;
            let time: i64 = request.header("webhook-timestamp").unwrap().parse().unwrap();
            assert!((now - 60..=now).contains(&time), "{time} {now}");
        }
        let public = changed(&database, &keys, &["disable", agent]);
        assert!(public.contains("is not signed from now on"), "{public}");
        let public = changed(&database, &keys, &["enable", agent, "--asymmetric"]);
        let shown = stdout(&postcall_on(&database, &["action", "signing", "show-public", agent]));
        assert!(shown.contains(&public) && shown.contains("v1a"), "{shown}");
        for call in [&json!({}), &large] {
            let request = delivered(&database, &inbox, agent, call).await;
            assert!(verifies_by(&request, &public) && !verifies(&request, &secret), "{agent}");
            assert!(altered(&request).iter().all(|other| !verifies_by(other, &public)), "{agent}");
        }
    }
}

/// Each change counts for what is claimed behind it, and nothing has to be waited for.
#[tokio::test]
async fn every_change_of_signing_holds_for_the_next_claim() {
    let (database, inbox, keys) = (Database::new().await, Inbox::open().await, key_file(&[&new_key()]));
    publish(&database, "a", &inbox).await;
    publish(&database, "b", &inbox).await;
    let _dispatcher = started(&database, &keys).await;
    assert!(!database.store.was_signed("a", None).await.unwrap());
    let mut old = String::new();
    for (round, arguments) in [
        &["enable", "a"][..],
        &["rotate", "a", "--keep-old", "1h"],
        &["rotate", "a", "--keep-old", "0s"],
        &["disable", "a"],
        &["enable", "a", "--asymmetric"],
        &["rotate", "a"],
        &["disable", "a"],
    ]
    .iter()
    .enumerate()
    {
        let new = changed(&database, &keys, arguments);
        let request = delivered(&database, &inbox, "a", &json!({"round": round})).await;
        match round {
            0 => assert!(verifies(&request, &new) && signatures(&request) == 1),
            1 => assert!(verifies(&request, &new) && verifies(&request, &old) && signatures(&request) == 2),
            2 => assert!(verifies(&request, &new) && !verifies(&request, &old) && signatures(&request) == 1),
            4 => assert!(verifies_by(&request, &new) && signatures(&request) == 1),
            5 => assert!(verifies_by(&request, &new) && verifies_by(&request, &old) && signatures(&request) == 2),
            _ => {
                assert!(request.header("webhook-signature").is_none() && request.header("webhook-timestamp").is_none())
            }
        }
        // What is shown of a request later says whether there was a signature.
        assert_eq!(database.store.was_signed("a", None).await.unwrap(), arguments[0] != "disable", "{round}");
        // Another agent's requests are as they were.
        assert_eq!(signatures(&delivered(&database, &inbox, "b", &json!({})).await), 0);
        old = new;
    }
    let record = "SELECT string_agg(concat_ws(' ', agent, change, scheme, changed_by), ', ' ORDER BY change_id) FROM postcall.signing_change";
    assert_eq!(
        database.text(record).await.unwrap(),
        "a enabled v1 Ada, a rotated v1 Ada, a rotated v1 Ada, a disabled Ada, a enabled v1a Ada, a rotated v1a Ada, a disabled Ada"
    );
}

#[tokio::test]
async fn a_replaced_key_signs_beside_the_new_one_until_its_time_and_no_longer() {
    let (database, inbox, keys) = (Database::new().await, Inbox::open().await, key_file(&[&new_key()]));
    publish(&database, "a", &inbox).await;
    let old = changed(&database, &keys, &["enable", "a"]);
    let new = changed(&database, &keys, &["rotate", "a", "--keep-old", "3s"]);
    let _dispatcher = started(&database, &keys).await;
    let begun = std::time::Instant::now();
    let (mut together, mut alone) = (0, 0);
    while alone == 0 {
        assert!(begun.elapsed().as_secs() < 30, "the old key still signs");
        let request = delivered(&database, &inbox, "a", &json!({})).await;
        assert!(verifies(&request, &new));
        match (signatures(&request), verifies(&request, &old)) {
            (2, true) => together += 1,
            (1, false) => alone += 1,
            other => panic!("{other:?}"),
        }
    }
    let until = "SELECT count(*) FROM postcall.signing_key WHERE signs_until > clock_timestamp()";
    assert!(together > 0 && database.number(until).await == 0);
    // Not more than four at a time.
    for _ in 0..3 {
        changed(&database, &keys, &["rotate", "a"]);
    }
    assert_eq!(signatures(&delivered(&database, &inbox, "a", &json!({})).await), 4);
    let refused = signing(&database.url, &keys, &["rotate", "a", "--by", "Ada"]);
    assert!(!refused.status.success() && stderr(&refused).contains("four keys of this agent"), "{}", stderr(&refused));
    let last = changed(&database, &keys, &["rotate", "a", "--keep-old", "0s"]);
    let request = delivered(&database, &inbox, "a", &json!({})).await;
    assert!(signatures(&request) == 1 && verifies(&request, &last));
}

#[tokio::test]
async fn a_dispatcher_that_cannot_open_the_key_sends_nothing_for_that_agent() {
    let (database, inbox) = (Database::new().await, Inbox::open().await);
    let (keys, others) = (key_file(&[&new_key()]), key_file(&[&new_key()]));
    publish(&database, "a", &inbox).await;
    publish(&database, "b", &inbox).await;
    changed(&database, &keys, &["enable", "a"]);
    let failed = async |told: &str| {
        database.insert_call("a", &json!({"callInfo": {}})).await;
        assert_eq!(signatures(&delivered(&database, &inbox, "b", &json!({})).await), 0);
        let detail = "SELECT concat_ws(' ', state, error_kind, error_detail) FROM postcall.delivery WHERE agent = 'a'
                      ORDER BY delivery_id DESC LIMIT 1";
        let detail = database.text(detail).await.unwrap();
        assert!(
            detail.starts_with("failed render") && detail.contains("no_signing_key") && detail.contains(told),
            "{detail}"
        );
    };
    let mut dispatcher = Dispatcher::start(&database, &[]).await;
    failed("there is no key file").await;
    dispatcher.says("nothing is sent unsigned").await;
    drop(dispatcher);
    let dispatcher = started(&database, &others).await;
    failed("lacks the key").await;
    drop(dispatcher);
    // Changed by somebody with the owner's rights, who switches off what would refuse it: the key of another agent.
    changed(&database, &keys, &["enable", "c"]);
    database
        .execute(
            "ALTER TABLE postcall.signing_key DISABLE TRIGGER ALL;
             UPDATE postcall.signing_key AS mine SET sealed_value = c.sealed_value, wrapped_key = c.wrapped_key
             FROM postcall.signing_key AS c WHERE mine.agent = 'a' AND c.agent = 'c';
             ALTER TABLE postcall.signing_key ENABLE TRIGGER ALL",
        )
        .await;
    let _dispatcher = started(&database, &keys).await;
    failed("changed in the database").await;
    assert!(inbox.received().iter().all(|request| request.body == "{}"));
}

#[tokio::test]
async fn without_a_key_file_or_beside_an_earlier_dispatcher_signing_is_not_enabled() {
    let (database, keys) = (Database::new().await, key_file(&[&new_key()]));
    let publisher = database.login(&["postcall_publisher"]).await;
    let without = postcall_at(&publisher, &["action", "signing", "enable", "a"]);
    assert!(!without.status.success() && stderr(&without).contains("--key-file"), "{}", stderr(&without));
    // As those of release 0.3.0 register.
    let earlier = "INSERT INTO postcall.dispatcher (name, version, lease_until) VALUES ('old', '0.3.0', now() + interval '1 hour')";
    database.execute(earlier).await;
    let refused = signing(&publisher, &keys, &["enable", "a"]);
    assert!(
        !refused.status.success() && stderr(&refused).contains("0.3.0 or earlier is running"),
        "{}",
        stderr(&refused)
    );
    assert!(stdout(&refused).is_empty());
    database.execute("UPDATE postcall.dispatcher SET lease_until = now() - interval '1 second'").await;
    let begun = signing(&publisher, &keys, &["enable", "a"]);
    assert!(begun.status.success() && stdout(&begun).starts_with("whsec_"), "{}", stderr(&begun));
    assert!(stderr(&begun).contains("shown this one time"), "{}", stderr(&begun));
    // Neither can it come back while requests are to be signed.
    let error = database.error_of(earlier).await;
    assert!(error.contains("this dispatcher signs nothing"), "{error}");
    Database::register(&mut database.session()).await;
    for (arguments, told) in [(["enable", "a"], "signed already"), (["rotate", "b"], "are not signed")] {
        let refused = signing(&publisher, &keys, &arguments);
        assert!(refused.status.code() == Some(1) && stderr(&refused).contains(told), "{}", stderr(&refused));
    }
    for arguments in [["show-public", "b"], ["disable", "b"]] {
        let refused = signing(&publisher, &keys, &arguments);
        assert!(
            refused.status.code() == Some(1) && stderr(&refused).contains("are not signed"),
            "{}",
            stderr(&refused)
        );
    }
    for span in ["31d", "1", "-1s"] {
        assert_eq!(signing(&publisher, &keys, &["rotate", "a", "--keep-old", span]).status.code(), Some(2), "{span}");
    }
    assert!(signing(&publisher, &keys, &["disable", "a"]).status.success());
    database.execute(earlier).await;
}

#[tokio::test]
async fn no_key_and_no_signature_is_in_any_log_table_or_output() {
    let (database, inbox, keys) = (Database::new().await, Inbox::open().await, key_file(&[&new_key()]));
    publish(&database, "a", &inbox).await;
    let secret = changed(&database, &keys, &["enable", "a", "--log", "trace"]);
    let arguments = ["--key-file", keys.path().to_str().unwrap(), "--log", "trace"];
    let dispatcher = Dispatcher::start(&database, &arguments).await;
    let request = delivered(&database, &inbox, "a", &json!({"callInfo": {"callSid": "CA1"}})).await;
    dispatcher.signal(nix::sys::signal::Signal::SIGTERM);
    let (_, log) = dispatcher.ended_saying().await;
    let id = database.text("SELECT delivery_id::text FROM postcall.delivery").await.unwrap();
    let mut seen = log.join("\n");
    let mut tested = vec!["action", "test", "a", "--by", "Ada", "--reason", "r", "--log", "trace", "--key-file"];
    tested.push(keys.path().to_str().unwrap());
    tested.extend(THIS_MACHINE);
    for arguments in [
        &tested[..],
        &["show", &id],
        &["show", &id, "--json"],
        &["history", "--format", "csv"],
        &["action", "signing", "show-public", "a"],
        &["action", "signing", "show-public", "a", "--format", "json"],
        &["action", "show", "a"],
        &["audit", "--format", "json"],
        &["status"],
        &["doctor"],
    ] {
        let output = postcall_on(&database, arguments);
        write!(seen, "\n{}{}", stdout(&output), stderr(&output)).unwrap();
    }
    let shown = stdout(&postcall_on(&database, &["show", &id]));
    assert!(shown.contains("webhook-timestamp: ***") && shown.contains("webhook-signature: ***"), "{shown}");
    let tables =
        "SELECT string_agg(format('SELECT t::text FROM postcall.%I AS t', relname), ' UNION ALL ') FROM pg_class
                  WHERE relnamespace = 'postcall'::regnamespace AND relkind IN ('r', 'p')";
    let tables = database.text(tables).await.unwrap();
    seen += &database.text(&format!("SELECT string_agg(t, E'\\n') FROM ({tables}) AS all_of_it (t)")).await.unwrap();
    assert!(seen.contains("CA1") && seen.contains("signing_enabled"));
    let received = inbox.received();
    let key = secret.strip_prefix("whsec_").unwrap();
    let bytes = hex::encode(STANDARD.decode(key).unwrap());
    let mut hidden = vec![key.to_owned(), bytes];
    hidden.extend(received.iter().map(|one| one.header("webhook-signature").unwrap()["v1,".len()..].to_owned()));
    assert!(verifies(&request, &secret) && hidden.len() == 4);
    for hidden in hidden {
        assert!(!seen.contains(&hidden), "{hidden} in:\n{seen}");
    }
}

#[tokio::test]
async fn a_test_is_signed_as_a_delivery_is_and_without_the_key_nothing_is_sent() {
    let (database, inbox, keys) = (Database::new().await, Inbox::open().await, key_file(&[&new_key()]));
    publish(&database, "a", &inbox).await;
    let publisher = database.login(&["postcall_publisher"]).await;
    let secret_text = {
        let output = signing(&publisher, &keys, &["enable", "a", "--by", "Ada"]);
        stdout(&output).trim_end().to_owned()
    };
    let test = |more: &[&str]| {
        let said = ["action", "test", "a", "--by", "Ada", "--reason", "does it work?"];
        let mut command = tokio::process::Command::new(POSTCALL);
        command.env("DATABASE_URL", &publisher).args(said).args(THIS_MACHINE).args(more);
        async move { command.output().await.unwrap() }
    };
    let refused = test(&[]).await;
    assert!(
        !refused.status.success() && stderr(&refused).contains("only be sent with the key file"),
        "{}",
        stderr(&refused)
    );
    let others = key_file(&[&new_key()]);
    let failed = test(&["--key-file", others.path().to_str().unwrap()]).await;
    assert!(stdout(&failed).contains("lacks the key that it needs"), "{}", stdout(&failed));
    assert!(inbox.received().is_empty());
    let done = test(&["--key-file", keys.path().to_str().unwrap()]).await;
    assert!(done.status.success() && stdout(&done).contains("webhook-signature: ***"), "{}", stdout(&done));
    assert!(verifies(&inbox.received()[0], &secret_text));

    let settings = ["--write", "--as", "Ada", "--key-file", keys.path().to_str().unwrap()];
    let console = Console::start_with(&publisher, &[&settings[..], &THIS_MACHINE].concat()).await;
    let page = console.page("/change/test?agent=a&name=default").await;
    let form =
        page.body.split("name=\"form\" value=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap().to_owned();
    let fields = [
        ("form", &*form),
        ("agent", "a"),
        ("name", "default"),
        ("version", "1"),
        ("call", ""),
        ("reason", "does it work?"),
    ];
    console.sends("", "/change/test", &fields).await;
    inbox.has(2).await;
    assert!(verifies(&inbox.received()[1], &secret_text));
    let opened =
        "SELECT string_agg(concat_ws(' ', agent, names, opened_by, reason), ', ') FROM postcall.secret_opening";
    let one = "a {\"signing key\"} Ada does it work?";
    assert_eq!(database.text(opened).await.unwrap(), [one; 3].join(", "));
}

#[tokio::test]
async fn signing_keys_are_wrapped_anew_with_the_first_key_while_they_sign() {
    let (old_key, new) = (new_key(), new_key());
    let (database, inbox) = (Database::new().await, Inbox::open().await);
    let (old, both) = (key_file(&[&old_key]), key_file(&[&new, &old_key]));
    publish(&database, "a", &inbox).await;
    let first = changed(&database, &old, &["enable", "a"]);
    let second = changed(&database, &old, &["rotate", "a"]);
    let refused = secret(&database.url, &key_file(&[&new]), &["rekey"], "");
    assert!(!refused.status.success() && stderr(&refused).contains("at least 2 are left"), "{}", stderr(&refused));
    let dispatcher = started(&database, &both).await;
    let done = secret(&database.url, &both, &["rekey"], "");
    assert!(
        stdout(&done).contains("0 secrets and 2 signing keys are encrypted with the first key, and none is left"),
        "{done:?}"
    );
    delivered(&database, &inbox, "a", &json!({})).await;
    drop(dispatcher);
    let _dispatcher = started(&database, &key_file(&[&new])).await;
    delivered(&database, &inbox, "a", &json!({})).await;
    assert!(inbox.received().iter().all(|request| verifies(request, &first) && verifies(request, &second)));
    assert_eq!(database.number("SELECT count(*) FROM postcall.signing_change").await, 2, "a new wrapping is no change");
}

#[tokio::test]
async fn who_changed_signing_stays_on_record_and_nobody_but_a_dispatcher_reads_a_key() {
    let (database, keys) = (Database::new().await, key_file(&[&new_key()]));
    let publisher = database.login(&["postcall_publisher"]).await;
    for arguments in
        [&["enable", "a", "--asymmetric"][..], &["rotate", "a"], &["disable", "a"], &["enable", "a"], &["rotate", "a"]]
    {
        let output = signing(&publisher, &keys, &[arguments, &["--by", "Ada", "--reason", "quarterly"]].concat());
        assert!(output.status.success(), "{}", stderr(&output));
    }
    let auditor = database.login(&["postcall_auditor"]).await;
    let acts = stdout(&postcall_at(&auditor, &["audit", "--agent", "a", "--format", "csv"]));
    let found: Vec<&str> =
        ["signing_rotated", "signing_enabled", "signing_disabled", "signing_rotated", "signing_enabled"].to_vec();
    let told: Vec<&str> = acts.lines().skip(1).filter_map(|line| line.split('"').nth(3)).collect();
    assert!(told == found && acts.matches("quarterly").count() == 5, "{acts}");
    let one = stdout(&postcall_at(&auditor, &["audit", "--act", "signing_disabled", "--format", "jsonl"]));
    assert!(one.lines().count() == 1 && one.contains("\"Ada\""), "{one}");
    let console = Console::start(&auditor).await;
    assert!(console.page("/audit").await.words().contains("signing_rotated"));
    let listed = postcall_at(&auditor, &["action", "signing", "show-public", "a"]);
    assert!(stdout(&listed).contains("none: a shared secret"), "{}", stderr(&listed));

    let reads = [
        "SELECT sealed_value FROM postcall.signing_key",
        "SELECT wrapped_key FROM postcall.signing_key",
        "SELECT signing_key FROM postcall.signing_key",
        "COPY postcall.signing_key TO STDOUT",
        "DELETE FROM postcall.signing_key RETURNING sealed_value",
        "SELECT FROM postcall.signing_key WHERE sealed_value > ''",
    ];
    refused(&database, &[EVERYBODY[0], EVERYBODY[2], EVERYBODY[3], EVERYBODY[4]], &reads).await;
    let writes = [
        "UPDATE postcall.signing_key SET agent = 'b'",
        "UPDATE postcall.signing_key SET signs_until = now()",
        "INSERT INTO postcall.signing_change (agent, change) VALUES ('a', 'enabled')",
        "DELETE FROM postcall.signing_change",
    ];
    refused(&database, &EVERYBODY, &writes).await;
    let of_publishers = ["DELETE FROM postcall.signing_key"];
    refused(&database, &[EVERYBODY[0], EVERYBODY[1], EVERYBODY[3], EVERYBODY[4]], &of_publishers).await;
    // Whoever may disable signing cannot end a rotation early, and not leave the end of signing out of the record.
    let mut connection = database.connect_as(EVERYBODY[2]).await;
    let early = attempt(&mut connection, "DELETE FROM postcall.signing_key WHERE signs_until IS NOT NULL").await;
    assert!(early.as_deref().is_some_and(|error| error.contains("ends by its time")), "{early:?}");
    // Nor does that role read what encrypts a key without a record that is committed.
    let open =
        "INSERT INTO postcall.secret_opening (agent, names, opened_by, reason) VALUES ('a', '{signing key}', 'x', 'r')";
    let given = "SELECT count(*) FROM postcall.secret_opening, postcall.signing_keys_for_test(opening_id)";
    let mut given_after = async |sql: &'static str| -> i64 {
        sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
        sqlx::query_scalar(given).fetch_one(&mut connection).await.unwrap()
    };
    assert_eq!(given_after("BEGIN").await, 0);
    assert_eq!(given_after(open).await, 0);
    assert_eq!(given_after("COMMIT").await, 2);
    assert_eq!(given_after("DELETE FROM postcall.signing_key").await, 0);
    assert_eq!(database.number("SELECT count(*) FROM postcall.signing_change WHERE change = 'disabled'").await, 2);
}

#[tokio::test]
async fn of_two_changes_at_the_same_moment_one_is_refused() {
    let (database, keys) = (Database::new().await, key_file(&[&new_key()]));
    changed(&database, &keys, &["enable", "a"]);
    let current = "SELECT signing_key_id::text FROM postcall.signing_key WHERE signs_until IS NULL";
    let current = database.text(current).await.unwrap();
    let add = |replaces: &str| {
        format!(
            "INSERT INTO postcall.signing_key (signing_key_id, agent, scheme, key_id, wrapped_key, sealed_value, replaces)
             VALUES (postcall.uuid_v7(), 'a', 'v1', '0123456789abcdef', decode(repeat('00', 72), 'hex'), decode(repeat('00', 72), 'hex'), {replaces})"
        )
    };
    let (mut one, mut other) = (database.pool.acquire().await.unwrap(), database.pool.acquire().await.unwrap());
    let quoted = format!("'{current}'");
    sqlx::raw_sql(sqlx::AssertSqlSafe(format!("BEGIN; {}", add(&quoted)))).execute(&mut *one).await.unwrap();
    let second = tokio::spawn({
        let sql = add(&quoted);
        async move {
            sqlx::raw_sql(sqlx::AssertSqlSafe(sql))
                .execute(&mut *other)
                .await
                .map(drop)
                .map_err(|error| error.to_string())
        }
    });
    database.until("SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'INSERT INTO postcall.signing_key%')").await;
    sqlx::raw_sql("COMMIT").execute(&mut *one).await.unwrap();
    let error = second.await.unwrap().unwrap_err();
    assert!(error.contains("does not replace the current one"), "{error}");
    assert_eq!(database.number("SELECT count(*) FROM postcall.signing_change").await, 2);
    let error = database.error_of(&add("NULL")).await;
    assert!(error.contains("does not replace the current one"), "{error}");
}

#[tokio::test]
async fn what_is_claimed_as_its_key_is_replaced_goes_back_and_is_signed_with_the_new_one() {
    let (database, inbox, keys) = (Database::new().await, Inbox::open().await, key_file(&[&new_key()]));
    publish(&database, "a", &inbox).await;
    let old = changed(&database, &keys, &["enable", "a"]);
    database.execute("CREATE TABLE public.older AS TABLE postcall.signing_key").await;
    let new = changed(&database, &keys, &["rotate", "a", "--keep-old", "0s"]);
    // The same rotation once more, by the statement of the claim itself: what it returns is from before.
    database
        .execute(
            "CREATE TABLE public.newer AS TABLE postcall.signing_key;
             ALTER TABLE postcall.signing_key DISABLE TRIGGER ALL;
             DELETE FROM postcall.signing_key;
             INSERT INTO postcall.signing_key SELECT * FROM public.older;
             ALTER TABLE postcall.signing_key ENABLE TRIGGER ALL;
             CREATE FUNCTION public.rotate_now() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN
                 WITH taken AS (DELETE FROM public.newer RETURNING *) INSERT INTO postcall.signing_key SELECT * FROM taken;
                 RETURN NEW;
             END $$;
             CREATE TRIGGER rotate_now BEFORE INSERT ON postcall.sending FOR EACH ROW EXECUTE FUNCTION public.rotate_now()",
        )
        .await;
    let _dispatcher = started(&database, &keys).await;
    let request = delivered(&database, &inbox, "a", &json!({})).await;
    assert!(verifies(&request, &new) && !verifies(&request, &old) && signatures(&request) == 1);
    assert_eq!(database.number("SELECT count(*) FROM public.newer").await, 0);
    assert_eq!(database.number("SELECT count(*) FROM postcall.signing_change").await, 3);
}
