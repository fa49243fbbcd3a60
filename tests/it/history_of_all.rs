//! `postcall history` over several databases of which some stop, freeze or lose their connections in the middle: what the others have is
//! listed, and nothing is missing without being said.

use std::process::Stdio;
use std::time::Duration;

use postcall::service::history::Following;
use postcall::service::tail::Tail;
use postcall::store::Store;
use postcall::store::history::{HistoryFilter, HistoryRow};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::{Instant, timeout};

use crate::several_databases::listed;
use crate::support::cluster::Cluster;
use crate::support::database::Database;
use crate::support::endings::ended;
use crate::support::process::{POSTCALL, postcall, stderr, stdout};
use crate::support::proxy::{End, Fate, Proxy};

/// How long any event is waited for before the test fails.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long a database may take to answer, as the program has it.
const ANSWER_TIME: Duration = Duration::from_secs(20);

async fn with_agent(database: Database) -> Database {
    database.publish("a", "default", &json!({"method": "POST", "url": "https://receiver.example/"})).await;
    database
}

/// A listing that a test reads as far as it wants.
struct Printing {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    _list: tempfile::NamedTempFile,
}

impl Printing {
    fn begin(databases: &[(&str, &str)], arguments: &[&str]) -> Printing {
        let list = listed(databases);
        let mut command = Command::new(POSTCALL);
        command.env_remove("DATABASE_URL").args(["history", "--format", "jsonl"]).args(arguments);
        command.args(["--databases", list.path().to_str().unwrap()]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Printing { child, lines, _list: list }
    }

    /// The next row, as the name of its database and its id.
    async fn next(&mut self) -> Option<(String, String)> {
        let line = timeout(PATIENCE, self.lines.next_line()).await.expect("a row, or the end").unwrap()?;
        let row: Value = serde_json::from_str(&line).unwrap();
        let text = |name: &str| row[name].as_str().unwrap().to_owned();
        Some((text("database"), text("delivery_id")))
    }

    /// The other rows, what was said on stderr, and the exit status.
    async fn finish(mut self) -> (Vec<(String, String)>, String, Option<i32>) {
        let mut rows = Vec::new();
        while let Some(row) = self.next().await {
            rows.push(row);
        }
        let mut said = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut said).await.unwrap();
        (rows, said, self.child.wait().await.unwrap().code())
    }
}

fn of<'r>(rows: &'r [(String, String)], name: &str) -> Vec<&'r str> {
    rows.iter().filter(|(of, _)| of == name).map(|(_, id)| id.as_str()).collect()
}

/// Behind which delivery of this database the rest is said to be missing.
fn behind(said: &str, name: &str) -> String {
    let start = format!("{name}: what is older than ");
    let line = said.lines().find_map(|line| line.strip_prefix(&start)).unwrap_or_else(|| panic!("{said}"));
    let (id, rest) = line.split_once(" is missing").unwrap();
    assert!(rest.ends_with(&format!("list this database alone with --after {id}")), "{said}");
    id.to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_listing_goes_on_without_what_stops_or_freezes_in_the_middle_and_says_from_where_on_it_is_missing() {
    let (mut stopped, frozen) = (Cluster::start().await, Cluster::start().await);
    let of_stopped = with_agent(Database::on(&stopped.server(), "").await).await;
    let of_frozen = with_agent(Database::on(&frozen.server(), "").await).await;
    let well = with_agent(Database::new().await).await;
    let databases = [("stopped", &of_stopped), ("frozen", &of_frozen), ("well", &well)];
    let mut ids = std::collections::HashMap::<&str, Vec<String>>::new();
    for _ in 0..6 {
        for (name, database) in databases {
            ids.entry(name).or_default().extend(ended(database, "failed", 400).await);
        }
    }
    // The newest first, as they are listed.
    ids.values_mut().for_each(|ids| ids.sort_by(|a, b| b.cmp(a)));
    let urls = databases.map(|(name, database)| (name, &*database.url));
    let mut printing = Printing::begin(&urls, &["--all"]);
    // More than the reader takes fits into no pipe, so the program is in the middle of it.
    let mut rows = vec![printing.next().await.unwrap()];
    frozen.freeze();
    stopped.stop_immediately().await;
    let begun = Instant::now();
    let (rest, said, status) = printing.finish().await;
    frozen.thaw();
    rows.extend(rest);
    assert!(begun.elapsed() < ANSWER_TIME * 2, "it delays the listing once: {:?}", begun.elapsed());
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("2 of 3 databases are not in this listing, or not whole"), "{said}");
    assert_eq!(of(&rows, "well"), ids["well"]);
    assert!(rows.is_sorted_by(|(_, newer), (_, older)| newer > older));
    stopped.start_again().await;
    for (name, why) in [("stopped", ""), ("frozen", "no answer within 20000 ms")] {
        assert_eq!(said.matches(&format!("postcall: {name}: ")).count(), 1, "{said}");
        assert!(said.contains(why), "{said}");
        let shown = of(&rows, name);
        assert!(!shown.is_empty() && shown.len() < ids[name].len(), "{name}: {}", shown.len());
        let last = behind(&said, name);
        assert_eq!(shown.last(), Some(&last.as_str()));
        // What is said leads to the rest, without a gap and without a row twice.
        let url = urls.iter().find(|(of, _)| *of == name).unwrap().1;
        let alone = ["history", "--all", "--format", "jsonl", "--after", &last, "--database-url", url];
        let output = postcall(&alone);
        assert!(output.status.success(), "{}", stderr(&output));
        let rest = stdout(&output);
        let rest: Vec<Value> = rest.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let all: Vec<&str> =
            shown.iter().copied().chain(rest.iter().map(|row| row["delivery_id"].as_str().unwrap())).collect();
        assert_eq!(all, ids[name], "{name}");
    }
}

#[tokio::test]
async fn a_page_has_what_the_others_have_if_databases_are_lost_or_silent_after_they_were_opened() {
    let (cut, silent, well) = (
        with_agent(Database::new().await).await,
        with_agent(Database::new().await).await,
        with_agent(Database::new().await).await,
    );
    for database in [&cut, &silent] {
        ended(database, "failed", 3).await;
    }
    let id = ended(&well, "failed", 1).await.remove(0);
    for arguments in [&[][..], &["--all"]] {
        let (to_cut, to_silent) = (Proxy::to_server_of(&cut.url).await, Proxy::to_server_of(&silent.url).await);
        to_cut.once("REPEATABLE READ READ ONLY", Fate::LoseStatement);
        to_silent.once("REPEATABLE READ READ ONLY", Fate::Hold);
        let (cut, silent) = (to_cut.url_of(&cut.url), to_silent.url_of(&silent.url));
        let databases = [("cut", &*cut), ("silent", &*silent), ("well", &*well.url)];
        let (rows, said, status) = Printing::begin(&databases, arguments).finish().await;
        assert_eq!((to_cut.interventions(), to_silent.interventions()), (1, 1), "{said}");
        assert_eq!(rows, [("well".to_owned(), id.clone())], "{said}");
        assert_eq!(status, Some(1), "{said}");
        assert!(said.contains("postcall: cut: database: "), "{said}");
        assert!(said.contains("postcall: silent: database: no answer within 20000 ms"), "{said}");
        assert!(said.contains("2 of 3 databases are not in this listing, or not whole"), "{said}");
        if !arguments.is_empty() {
            assert!(said.contains("\ncut: nothing of it is in this listing\n"), "{said}");
        }
    }
}

#[tokio::test]
async fn a_look_that_fails_or_is_given_up_in_the_middle_loses_nothing_of_what_it_had_begun_to_read() {
    let database = with_agent(Database::new().await).await;
    let proxy = Proxy::to_server_of(&database.url).await;
    let store = Store::connect(&proxy.url_of(&database.url), 1).await.unwrap();
    let since = store.now().await.unwrap();
    let (mut following, mut tail) = (Following::since(since, HistoryFilter::default()), Tail::default());
    let id = |rows: &[HistoryRow]| rows.iter().map(|row| row.delivery_id.to_string()).collect::<Vec<_>>();
    for fate in [Fate::LoseStatement, Fate::Hold] {
        let ended = ended(&database, "failed", 1).await;
        // Which deliveries have ended was read then, and not yet what they are.
        proxy.once("REPEATABLE READ READ ONLY", fate);
        let failed = timeout(Duration::from_secs(2), following.look(&store)).await;
        assert!(failed.is_err() || failed.unwrap().is_err(), "{fate:?}");
        proxy.cut_all(End::Reset);
        let found = until(async || following.look(&store).await.ok()).await;
        assert_eq!(id(&found.rows), ended, "{fate:?}");
        // The tail looks at some seconds only, so it is asked about one that has just ended.
        let ended = crate::support::endings::ended(&database, "failed", 1).await;
        tail.look(&database.store).await.unwrap();
        let _shown_by_the_other = following.look(&database.store).await.unwrap();
        let last = crate::support::endings::ended(&database, "failed", 1).await;
        proxy.once("REPEATABLE READ READ ONLY", fate);
        let failed = timeout(Duration::from_secs(1), tail.look(&store)).await;
        assert!(failed.is_err() || failed.unwrap().is_err(), "{fate:?}");
        let found = id(&tail.look(&database.store).await.unwrap().rows);
        assert_eq!(found, last, "{fate:?}: {ended:?} was seen before");
        following.look(&database.store).await.unwrap();
        proxy.cut_all(End::Reset);
    }
}

/// What comes once the connection is there again.
async fn until<T>(mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let found = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
        }
    };
    timeout(PATIENCE, found).await.expect("it answers again")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ends_in_one_is_followed_while_another_cannot_be_opened_and_a_third_freezes_and_comes_back() {
    let frozen = Cluster::start().await;
    let of_frozen = with_agent(Database::on(&frozen.server(), "").await).await;
    let well = with_agent(Database::new().await).await;
    let gone = "postgres://u:Xyzzy@127.0.0.1:1/d";
    let all = [("gone", gone), ("frozen", &*of_frozen.url), ("well", &*well.url)];
    let before = [ended(&of_frozen, "failed", 1).await.remove(0), ended(&well, "failed", 1).await.remove(0)];
    let mut following = Printing::begin(&all, &["--follow", "--since", "1h"]);
    let mut first = vec![following.next().await.unwrap().1, following.next().await.unwrap().1];
    first.sort();
    assert_eq!(first, before);
    // The end of this one is recorded, and cannot be seen as long as its server stands still.
    let hidden = ended(&of_frozen, "failed", 1).await.remove(0);
    frozen.freeze();
    let mut seen = Vec::new();
    for _ in 0..3 {
        let id = ended(&well, "failed", 1).await.remove(0);
        loop {
            let row = following.next().await.unwrap();
            seen.push(row.clone());
            if row.1 == id {
                break;
            }
        }
    }
    frozen.thaw();
    while !seen.iter().any(|(_, id)| *id == hidden) {
        seen.push(following.next().await.unwrap());
    }
    let late = ended(&of_frozen, "failed", 1).await.remove(0);
    while !seen.iter().any(|(_, id)| *id == late) {
        seen.push(following.next().await.unwrap());
    }
    assert_eq!(seen.len(), 5, "each once: {seen:?}");
    // Nobody is left: that is an error, and no listing that never ends.
    let nowhere = [("gone", gone), ("away", "postgres://u:Xyzzy@127.0.0.1:2/d")];
    let (rows, said, status) = Printing::begin(&nowhere, &["--follow"]).finish().await;
    assert!(rows.is_empty() && status == Some(1), "{said}");
    assert!(said.contains("postcall: gone: cannot connect") && said.contains("2 of 2 databases"), "{said}");
    assert!(!said.contains("Xyzzy"), "{said}");
}
