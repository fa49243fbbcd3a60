//! Tests of actions that name secrets: sent with the values, seen without them, and never sent with anything else in their place.

use std::process::Output;

use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};
use tokio::process::Command;

use crate::support::console::Console;
use crate::support::database::Database;
use crate::support::intruder::attempt;
use crate::support::keys::{key_file, new_key, secret, set};
use crate::support::process::{POSTCALL, THIS_MACHINE, file, postcall_at, stderr, stdout};
use crate::support::receiver::Receiver;

const TAKEN: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
/// A value that would show at once wherever it came.
const VALUE: &str = "tok-9Vw";
const MASK: &str = "••• secret.token";

/// A database whose agent a has an action that names the secret in its URL, headers and body.
async fn database(receiver: &Receiver) -> Database {
    let database = Database::new().await;
    let action = json!({"method": "POST", "url": receiver.url("/hook?t=${secret.token}"), "headers": {"x-key": "Key ${secret.token}"},
                        "body": "{\"t\": \"${secret.token}\"}"});
    database.publish("a", "default", &action).await;
    database
}

/// Tests the action of agent a as a user who is a publisher and nothing else.
async fn tested(publisher: &str, more: &[&str]) -> Output {
    let said = ["action", "test", "a", "--by", "Ada", "--reason", "does it work?"];
    let mut command = Command::new(POSTCALL);
    command.env("DATABASE_URL", publisher).args(said).args(THIS_MACHINE).args(more);
    command.output().await.unwrap()
}

/// Everything that is in the tables, as text. Encrypted columns are hexadecimal.
async fn tables(database: &Database) -> String {
    let tables =
        "SELECT string_agg(format('SELECT t::text FROM postcall.%I AS t', relname), ' UNION ALL ') FROM pg_class
                  WHERE relnamespace = 'postcall'::regnamespace AND relkind IN ('r', 'p')";
    let tables = database.text(tables).await.unwrap();
    database.text(&format!("SELECT string_agg(t, E'\\n') FROM ({tables}) AS all_of_it (t)")).await.unwrap()
}

fn shows_no_value(seen: &str) {
    for value in [VALUE, &hex::encode(VALUE)] {
        assert!(!seen.contains(value), "{value} in {seen}");
    }
}

#[tokio::test]
async fn a_test_arrives_with_the_secret_and_every_output_and_table_shows_it_masked() {
    let receiver = Receiver::answering(TAKEN).await;
    let (database, keys) = (database(&receiver).await, key_file(&[&new_key()]));
    set(&database, &keys, "a", "token", VALUE);
    set(&database, &keys, "b", "token", "of-another");
    let publisher = database.login(&["postcall_publisher"]).await;
    let key = ["--key-file", keys.path().to_str().unwrap()];
    let report = tested(&publisher, &key).await;
    assert!(report.status.success(), "{}", stderr(&report));
    let as_json = tested(&publisher, &[&key[..], &["--format", "json", "--log", "trace"]].concat()).await;
    let of_a_file = file(
        &json!({"method": "GET", "url": receiver.url("/file"), "headers": {"x-key": "Key ${secret.token}"}})
            .to_string(),
    );
    let of_a_file = tested(&publisher, &[&key[..], &["--file", of_a_file.path().to_str().unwrap()]].concat()).await;
    let arrived = receiver.texts();
    assert_eq!(arrived.len(), 3);
    for request in &arrived {
        assert!(request.contains("x-key: Key tok-9Vw\r\n") && !request.contains("•••"), "{request}");
    }
    assert!(
        arrived[0].starts_with("POST /hook?t=tok-9Vw ") && arrived[0].contains("{\"t\": \"tok-9Vw\"}"),
        "{arrived:?}"
    );

    let list = postcall_at(&publisher, &["action", "tests", "a", "--format", "json"]);
    let mut seen = tables(&database).await;
    for output in [&report, &as_json, &of_a_file, &list] {
        assert!(output.status.success(), "{}", stderr(output));
        seen += &format!("{}{}", stdout(output), stderr(output));
    }
    shows_no_value(&seen);
    assert!(stdout(&report).contains(MASK), "{}", stdout(&report));
    let as_json: Value = serde_json::from_str(&stdout(&as_json)).unwrap();
    assert_eq!(as_json["request"]["body"], format!("{{\"t\": \"{MASK}\"}}"));
    assert_eq!(as_json["url"], receiver.url("/hook?t=…"));
    let openings =
        "SELECT string_agg(concat_ws(' ', agent, names, opened_by, reason), '; ') FROM postcall.secret_opening";
    let each = "a {token} Ada does it work?";
    assert_eq!(database.text(openings).await.unwrap(), [each; 3].join("; "));
}

#[tokio::test]
async fn without_the_key_or_the_secret_nothing_is_sent_and_why_is_said() {
    let receiver = Receiver::answering(TAKEN).await;
    let (database, keys, others) = (database(&receiver).await, key_file(&[&new_key()]), key_file(&[&new_key()]));
    let publisher = database.login(&["postcall_publisher"]).await;
    let key = ["--key-file", keys.path().to_str().unwrap()];
    let unset = tested(&publisher, &key).await;
    assert!(stdout(&unset).contains("the agent has no secret `token`"), "{}", stdout(&unset));
    set(&database, &keys, "a", "token", VALUE);
    let tests = "SELECT count(*) FROM postcall.action_test";
    let before = database.number(tests).await;
    let refused = tested(&publisher, &[]).await;
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("`token`") && stderr(&refused).contains("--key-file"), "{}", stderr(&refused));
    assert_eq!(database.number(tests).await, before, "what is refused is no test");
    let other = tested(&publisher, &["--key-file", others.path().to_str().unwrap()]).await;
    assert!(stdout(&other).contains("the key file lacks the key"), "{}", stdout(&other));
    for output in [unset, refused, other] {
        assert!(!output.status.success());
        shows_no_value(&format!("{}{}", stdout(&output), stderr(&output)));
    }
    assert!(receiver.received().is_empty());
}

/// Sends the form of the console, and returns the page to which it leads.
async fn sent_form(console: &Console) -> (u16, String) {
    let page = console.page("/change/test?agent=a&name=default").await;
    let hidden = |name: &str| {
        let (_, rest) = page.body.split_once(&format!("name=\"{name}\" value=\"")).expect("a field");
        rest.split('"').next().unwrap().to_owned()
    };
    let (form, version) = (hidden("form"), hidden("version"));
    let fields =
        [("form", &*form), ("agent", "a"), ("name", "default"), ("version", &version), ("call", ""), ("reason", "why")];
    let answer = console.sends("", "/change/test", &fields).await;
    let Some(address) = answer.header("location") else { return (answer.status, answer.words()) };
    loop {
        let page = console.get(address).await;
        if !page.words().contains("There is no result yet") {
            return (answer.status, page.body);
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_console_tests_with_secrets_only_if_it_was_given_the_key() {
    let receiver = Receiver::answering(TAKEN).await;
    let (database, keys) = (database(&receiver).await, key_file(&[&new_key()]));
    set(&database, &keys, "a", "token", VALUE);
    let publisher = database.login(&["postcall_publisher"]).await;
    let settings = [&["--write", "--as", "Ada"][..], &THIS_MACHINE].concat();
    let (status, said) = sent_form(&Console::start_with(&publisher, &settings).await).await;
    assert_eq!(status, 409, "{said}");
    assert!(said.contains("Nothing was sent.") && said.contains("--key-file"), "{said}");
    assert!(receiver.received().is_empty());
    let settings = [&settings[..], &["--key-file", keys.path().to_str().unwrap()]].concat();
    let (status, page) = sent_form(&Console::start_with(&publisher, &settings).await).await;
    assert!(status == 303 && page.contains("with status 200"), "{status} {page}");
    shows_no_value(&page);
    assert!(receiver.texts()[0].contains("x-key: Key tok-9Vw\r\n"), "{:?}", receiver.texts());
}

#[tokio::test]
async fn nobody_gets_an_encrypted_secret_without_a_record_that_stays() {
    let (database, keys) = (Database::new().await, key_file(&[&new_key()]));
    set(&database, &keys, "a", "token", VALUE);
    let url = database.login(&["postcall_publisher"]).await;
    let mut publisher = PgConnection::connect(&url).await.unwrap();
    let record =
        "INSERT INTO postcall.secret_opening (agent, names, opened_by, reason) VALUES ('a', '{token}', 'Ada', 'r')
                  RETURNING opening_id";
    let given = "SELECT count(*) FROM postcall.secrets_for_test($1)";
    for savepoint in ["", "; SAVEPOINT one"] {
        sqlx::raw_sql(sqlx::AssertSqlSafe(format!("BEGIN{savepoint}"))).execute(&mut publisher).await.unwrap();
        let opening: i64 = sqlx::query_scalar(record).fetch_one(&mut publisher).await.unwrap();
        let count: i64 = sqlx::query_scalar(given).bind(opening).fetch_one(&mut publisher).await.unwrap();
        assert_eq!(count, 0, "a record that can still be taken back gives nothing");
        sqlx::raw_sql("ROLLBACK").execute(&mut publisher).await.unwrap();
    }
    let opening: i64 = sqlx::query_scalar(record).fetch_one(&mut publisher).await.unwrap();
    let count: i64 = sqlx::query_scalar(given).bind(opening).fetch_one(&mut publisher).await.unwrap();
    assert_eq!(count, 1);
    // Another's record gives nothing, nor does an old one.
    let mut another = database.connect_as(&["postcall_publisher"]).await;
    let count: i64 = sqlx::query_scalar(given).bind(opening).fetch_one(&mut another).await.unwrap();
    assert_eq!(count, 0);
    database
        .execute(
            "ALTER TABLE postcall.secret_opening DISABLE TRIGGER secret_openings_are_immutable;
             UPDATE postcall.secret_opening SET opened_at = opened_at - interval '1 minute'",
        )
        .await;
    let count: i64 = sqlx::query_scalar(given).bind(opening).fetch_one(&mut publisher).await.unwrap();
    assert_eq!(count, 0);
    for sql in [
        "INSERT INTO postcall.secret_opening (agent, names, opened_by, reason, db_user) VALUES ('a', '{token}', 'Ada', 'r', 'x')",
        "INSERT INTO postcall.secret_opening (agent, names, opened_by, reason, transaction) VALUES ('a', '{token}', 'Ada', 'r', '3')",
        "UPDATE postcall.secret_opening SET opened_at = now()",
        "DELETE FROM postcall.secret_opening",
    ] {
        assert!(attempt(&mut publisher, sql).await.is_some_and(|error| error.starts_with("42501")), "{sql}");
    }
}

#[tokio::test]
async fn no_secret_is_named_while_a_dispatcher_of_an_earlier_release_runs() {
    let database = Database::new().await;
    let publisher = database.login(&["postcall_publisher"]).await;
    let keys = key_file(&[&new_key()]);
    let key = ["--key-file", keys.path().to_str().unwrap()];
    let publish = |url: &str| {
        let action = file(&json!({"method": "GET", "url": url}).to_string());
        let arguments = ["action", "publish", "a", action.path().to_str().unwrap(), "--by", "Ada"];
        // A key seals what is published, which such a dispatcher could not open either.
        let key = if url.contains("{secret.") || url.contains("secret['") { &key[..] } else { &[] };
        postcall_at(&publisher, &[&arguments[..], key].concat())
    };
    // As those of release 0.3.0 register.
    let earlier = "INSERT INTO postcall.dispatcher (name, version, lease_until) VALUES ('old', '0.3.0', now() + interval '1 hour')";
    database.execute(earlier).await;
    for url in ["https://h.example/?t=${secret.TOKEN}", "https://h.example/?t=${ secret['TOKEN'] }"] {
        let refused = publish(url);
        assert_eq!(refused.status.code(), Some(1));
        assert!(stderr(&refused).contains("release 0.3.0 or earlier is running"), "{}", stderr(&refused));
    }
    // The form of the console is refused as the command is.
    let console = Console::start_with(&publisher, &[&["--write", "--as", "Ada"][..], &key].concat()).await;
    let url = ("url", "https://h.example/${secret.TOKEN}");
    let form = [
        ("agent", "a"),
        ("name", "b"),
        ("over", ""),
        ("method", "GET"),
        url,
        ("timeout", ""),
        ("headers", ""),
        ("body", ""),
    ];
    let step = |step| [&form[..], &[("reason", "r"), ("step", step)]].concat();
    let review = console.sends("", "/change/action", &step("review")).await;
    assert!(review.words().contains("The agent has no secret TOKEN"), "{}", review.words());
    let refused = console.sends("", "/change/action", &step("publish")).await;
    assert!(refused.words().contains("release 0.3.0 or earlier is running"), "{} {}", refused.status, refused.words());
    assert_eq!(database.number("SELECT count(*) FROM postcall.action").await, 0);
    for url in ["https://h.example/?t=${context.secret}", "https://h.example/?t=${secrets.a}"] {
        assert!(publish(url).status.success(), "{url}");
    }
    database.execute("UPDATE postcall.dispatcher SET lease_until = now() - interval '1 second'").await;
    let mut session = database.session();
    Database::register(&mut session).await;
    let published = publish("https://h.example/?t=${secret.TOKEN}");
    assert!(published.status.success(), "{}", stderr(&published));
    assert_eq!(secret(&publisher, &key_file(&[&new_key()]), &["list", "a"], "").status.code(), Some(0));
}
