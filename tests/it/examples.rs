//! The examples for those who integrate with postcall: the programs in `examples/` work, and the snippets of
//! `docs/platform.md` are well formed.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use crate::support::database::Database;
use crate::support::not_tested::impossible;
use crate::support::process::{Dispatcher, postcall_on, stderr, stdout};
use crate::support::tools::example;

const AGENT: &str = "agent_7f3k2";

/// How long a line is waited for before the test fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// The example receiver as a process, killed when it is dropped.
struct Receiver {
    _child: Child,
    output: Lines<BufReader<ChildStdout>>,
}

impl Receiver {
    /// Starts it on a free port, and returns its URL, too.
    async fn start() -> (Receiver, String) {
        let mut command = Command::new(example("receiver"));
        let mut child = command.arg("127.0.0.1:0").stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut receiver = Receiver { _child: child, output };
        let line = receiver.line().await;
        let url = line.strip_prefix("listening on ").expect("the receiver says where it listens").to_owned();
        (receiver, url)
    }

    async fn line(&mut self) -> String {
        let line = tokio::time::timeout(PATIENCE, self.output.next_line()).await.expect("the receiver says something");
        line.unwrap().expect("the receiver goes on")
    }

    /// The ids of the next so many messages, each of which must be a first copy.
    async fn first_copies(&mut self, count: usize) -> BTreeSet<String> {
        let mut ids = BTreeSet::new();
        for _ in 0..count {
            let line = self.line().await;
            let (id, _) = line.strip_prefix("first copy of ").and_then(|rest| rest.split_once(',')).expect(&line);
            ids.insert(id.to_owned());
        }
        ids
    }
}

/// Runs the example platform as the user of this URL; what it says.
fn platform(url: &str, arguments: &[&str]) -> String {
    let mut command = std::process::Command::new(example("platform"));
    let output = command.env("DATABASE_URL", url).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    stdout(&output)
}

/// What stands behind `word` in the lines that begin with it.
fn after(text: &str, word: &str) -> BTreeSet<String> {
    text.lines().filter_map(|line| Some(line.strip_prefix(word)?.trim().to_owned())).collect()
}

/// A column of a query, as a set.
async fn column(database: &Database, sql: &'static str) -> BTreeSet<String> {
    let values: Vec<String> = sqlx::query_scalar(sql).fetch_all(&database.pool).await.unwrap();
    values.into_iter().collect()
}

#[tokio::test]
async fn the_example_platform_s_commits_reach_the_example_receiver_once_and_a_replay_is_dropped_there() {
    let database = Database::new().await;
    let (mut receiver, url) = Receiver::start().await;
    database.publish(AGENT, "default", &json!({"method": "POST", "url": url, "body": "${callInfo.callSid}"})).await;
    platform(&database.url, &["setup"]);
    let said = platform(&database.login(&["postcall_platform"]).await, &[AGENT, "3"]);

    // The call that was rolled back is still going on in the platform's table, and is unknown to postcall.
    let committed = after(&said, "committed ");
    assert_eq!((committed.len(), after(&said, "rolled back ").len()), (3, 1), "{said}");
    assert_eq!(column(&database, "SELECT id::text FROM postcall.outbox").await, committed);
    assert_eq!(database.number("SELECT count(*) FROM phone_call WHERE seconds IS NOT NULL").await, 3);
    assert_eq!(database.number("SELECT count(*) FROM phone_call WHERE seconds IS NULL").await, 1);

    let _dispatcher = Dispatcher::start(&database, &[]).await;
    let received = receiver.first_copies(3).await;
    database.settled().await;
    let delivered = "SELECT message_id::text FROM postcall.delivery_history WHERE state = 'delivered'";
    assert_eq!(column(&database, delivered).await, received);

    let of_all = database.text("SELECT min(delivery_id::text) FROM postcall.delivery").await.unwrap();
    let why = ["--include-delivered", "--reason", "the receiver lost it", "--by", "Ada"];
    let replay = postcall_on(&database, &[&["replay", &of_all], &why[..]].concat());
    assert!(replay.status.success(), "{}", stderr(&replay));
    assert_eq!(receiver.line().await, format!("second copy of {of_all}, dropped"));
    database.settled().await;
    // To the platform's people the replay is a success, as it should be: the receiver has the message.
    assert_eq!(database.number("SELECT count(*) FROM postcall.delivery WHERE state = 'delivered'").await, 4);
}

/// The fenced blocks of `docs/platform.md` in this language.
fn blocks(language: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/platform.md");
    let text = std::fs::read_to_string(path).unwrap();
    let opening = format!("\n```{language}\n");
    text.split(&opening)
        .skip(1)
        .map(|rest| rest.split_once("\n```").expect("a fenced block is closed").0.to_owned())
        .collect()
}

/// Lets an interpreter check each block of a language. An interpreter that is not there is said.
fn well_formed(language: &str, suffix: &str, check: &[&str]) {
    let blocks = blocks(language);
    assert!(!blocks.is_empty(), "docs/platform.md has no example in {language}");
    if std::process::Command::new(check[0]).arg("--version").output().is_err() {
        impossible(&format!("the examples in {language}; there is no {}", check[0]));
        return;
    }
    for block in blocks {
        let mut file = tempfile::Builder::new().suffix(suffix).tempfile().unwrap();
        file.write_all(block.as_bytes()).unwrap();
        let output = std::process::Command::new(check[0]).args(&check[1..]).arg(file.path()).output().unwrap();
        assert!(output.status.success(), "{}\n{block}", stderr(&output));
    }
}

#[test]
fn the_platform_s_examples_in_other_languages_are_well_formed() {
    let parse = "import ast, sys; ast.parse(open(sys.argv[1], encoding='utf-8').read())";
    well_formed("python", ".py", &["python3", "-c", parse]);
    // The example in TypeScript has no type annotations, so that any node can check it as JavaScript.
    well_formed("typescript", ".mjs", &["node", "--check"]);
}
