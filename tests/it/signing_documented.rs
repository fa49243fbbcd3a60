//! The examples of docs/receivers.md: each verifies real deliveries, and refuses everything else.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::json;

use crate::signing::{changed, publish};
use crate::support::database::Database;
use crate::support::inbox::{Inbox, Received};
use crate::support::keys::{key_file, new_key, started};
use crate::support::not_tested::impossible;
use crate::support::tools::example;

/// A program that verifies, as docs/receivers.md has it.
struct Example {
    command: Vec<PathBuf>,
    /// Whether it also verifies by a public key.
    is_asymmetric: bool,
    /// The text of the program, as long as it is needed.
    _text: tempfile::NamedTempFile,
}

/// The only fenced block of this language.
fn block(language: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/receivers.md");
    let text = std::fs::read_to_string(path).unwrap();
    let opening = format!("\n```{language}\n");
    let mut blocks = text.split(&opening).skip(1);
    let block = blocks.next().expect("an example").split_once("```\n").expect("a fenced block is closed").0.to_owned();
    assert!(blocks.next().is_none(), "one example in {language}");
    block
}

impl Example {
    /// `None` if this machine has no such language, which is said. Where CI runs, it must have it.
    fn of(language: &str, suffix: &str, interpreter: &str, is_asymmetric: bool) -> Option<Example> {
        if Command::new(interpreter).arg("--version").output().is_err() {
            assert!(std::env::var_os("CI").is_none(), "there is no {interpreter}");
            impossible(&format!("the example in {language} of docs/receivers.md; there is no {interpreter}"));
            return None;
        }
        let mut text = tempfile::Builder::new().suffix(suffix).tempfile().unwrap();
        text.write_all(block(language).as_bytes()).unwrap();
        Some(Example { command: vec![interpreter.into(), text.path().to_owned()], is_asymmetric, _text: text })
    }

    /// The program of the file in `examples/`, whose text is that of the document.
    fn rust() -> Example {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/verify.rs");
        assert_eq!(
            std::fs::read_to_string(file).unwrap(),
            block("rust"),
            "examples/verify.rs is not the example of the document"
        );
        let text = tempfile::NamedTempFile::new().unwrap();
        Example { command: vec![example("verify")], is_asymmetric: false, _text: text }
    }

    fn verifies(&self, request: &Received, key: &str) -> bool {
        let mut command = Command::new(&self.command[0]);
        let headers =
            ["webhook-id", "webhook-timestamp", "webhook-signature"].map(|name| request.header(name).unwrap());
        command.args(&self.command[1..]).args(headers).env("WEBHOOK_SECRET", key);
        let mut child = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // Whoever refuses the time does not read the body.
        child.stdin.take().unwrap().write_all(request.body.as_bytes()).ok();
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.is_empty() && output.status.code().is_some_and(|code| code < 2), "{:?}: {said}", self.command);
        output.status.success()
    }
}

/// The request with a header changed.
fn with(request: &Received, name: &'static str, value: &str) -> Received {
    let mut other = request.clone();
    other.headers.insert(name, value.parse().unwrap());
    other
}

#[tokio::test]
async fn each_example_for_receivers_takes_what_postcall_sends_and_nothing_else() {
    let (database, inbox, keys) = (Database::new().await, Inbox::open().await, key_file(&[&new_key()]));
    publish(&database, "a", &inbox).await;
    let get = json!({"method": "GET", "url": inbox.url("/get")});
    database.publish("a", "get", &get).await;
    publish(&database, "pair", &inbox).await;
    let old = changed(&database, &keys, &["enable", "a"]);
    let new = changed(&database, &keys, &["rotate", "a"]);
    let public = changed(&database, &keys, &["enable", "pair", "--asymmetric"]);
    let _dispatcher = started(&database, &keys).await;
    for agent in ["a", "pair"] {
        database.insert_call(agent, &json!({"callInfo": {"callSid": "CA1", "text": "\u{e9}\u{1f600} \\u0000"}})).await;
    }
    database.settled().await;
    let received = inbox.received();
    let (signed_twice, by_pair): (Vec<_>, Vec<_>) =
        received.iter().partition(|request| request.header("webhook-signature").unwrap().starts_with("v1,"));
    assert_eq!((signed_twice.len(), by_pair.len()), (2, 1));
    let examples = [
        Example::of("python", ".py", "python3", false),
        Example::of("javascript", ".mjs", "node", true),
        Some(Example::rust()),
    ];
    for example in examples.iter().flatten() {
        let takes = |request: &Received, key: &str| example.verifies(request, key);
        for request in &signed_twice {
            assert!(takes(request, &new) && takes(request, &old), "{:?}", example.command);
            let mut other = (*request).clone();
            other.body.push(' ');
            let time: i64 = request.header("webhook-timestamp").unwrap().parse().unwrap();
            let changed = [
                other,
                with(request, "webhook-id", &uuid::Uuid::now_v7().to_string()),
                with(request, "webhook-timestamp", &(time - 1).to_string()),
                with(request, "webhook-signature", "v1,AAAA"),
            ];
            assert!(changed.iter().all(|other| !takes(other, &new)), "{:?}", example.command);
            assert!(!takes(request, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"), "{:?}", example.command);
        }
        for request in by_pair.iter().filter(|_| example.is_asymmetric) {
            assert!(takes(request, &public), "{:?}", example.command);
            let mut other = (*request).clone();
            other.body.push(' ');
            assert!(!takes(&other, &public), "{:?}", example.command);
        }
    }
    // What is old is refused although its signature is right: the library's own signature, of ten minutes ago.
    let now = database.number("SELECT extract(epoch FROM clock_timestamp())::bigint").await;
    let (id, webhook) = ("m1", standardwebhooks::Webhook::new(&new).unwrap());
    for (ago, is_taken) in [(0, true), (600, false), (-600, false)] {
        let mut request = signed_twice[0].clone();
        let signature = webhook.sign(id, now - ago, request.body.as_bytes()).unwrap();
        for (name, value) in
            [("webhook-id", id), ("webhook-timestamp", &(now - ago).to_string()), ("webhook-signature", &signature)]
        {
            request = with(&request, name, value);
        }
        for example in examples.iter().flatten() {
            assert_eq!(example.verifies(&request, &new), is_taken, "{:?} {ago}", example.command);
        }
    }
}
