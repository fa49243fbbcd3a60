//! `postcall history --follow` while the server of a database is restarted, crashes, or comes back with other passwords: each end comes
//! once, and what is said of it is a few lines and not one for each try.

use std::collections::BTreeSet;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};
use tokio::time::timeout;

use crate::several_databases::listed;
use crate::support::cluster::Cluster;
use crate::support::database::Database;
use crate::support::endings::ended;
use crate::support::process::POSTCALL;

/// How long any event is waited for before the test fails.
const PATIENCE: Duration = Duration::from_secs(120);
/// What is said of a database that is away, behind why, and of one that is back.
const AWAY: &str = "; asking again until it answers";
const BACK: &str = "it answers again, and is followed from where it was";

async fn on(cluster: &Cluster) -> Database {
    let database = Database::on(&cluster.server(), "").await;
    database.publish("a", "default", &json!({"method": "POST", "url": "https://receiver.example/"})).await;
    database
}

/// `postcall history --follow`, killed when it is dropped.
struct Following {
    child: Child,
    rows: Lines<BufReader<ChildStdout>>,
    says: Lines<BufReader<ChildStderr>>,
    /// The ids that have come, in their order.
    seen: Vec<String>,
    _list: Option<tempfile::NamedTempFile>,
}

impl Following {
    /// Follows one database by its URL, or several by their names, from an hour ago on.
    fn begin(databases: &[(&str, &str)]) -> Following {
        let mut command = Command::new(POSTCALL);
        command.env_remove("DATABASE_URL").args(["history", "--follow", "--since", "1h", "--format", "jsonl"]);
        let list = match databases {
            [(_, url)] => {
                command.env("DATABASE_URL", url);
                None
            }
            several => {
                let list = listed(several);
                command.args(["--databases", list.path().to_str().unwrap()]);
                Some(list)
            }
        };
        // The driver logs warnings about connections that end. What the program says itself is no log.
        command.env("POSTCALL_LOG", "off");
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
        let rows = BufReader::new(child.stdout.take().unwrap()).lines();
        let says = BufReader::new(child.stderr.take().unwrap()).lines();
        Following { child, rows, says, seen: Vec::new(), _list: list }
    }

    /// Reads until all of these have come.
    async fn shows(&mut self, ids: &[String]) {
        while !ids.iter().all(|id| self.seen.contains(id)) {
            let line = timeout(PATIENCE, self.rows.next_line()).await.expect("a row comes").unwrap();
            let row: Value = serde_json::from_str(&line.expect("it goes on")).unwrap();
            self.seen.push(row["delivery_id"].as_str().unwrap().to_owned());
        }
    }

    /// The next line that it says.
    async fn said(&mut self) -> String {
        let line = timeout(PATIENCE, self.says.next_line()).await.expect("it says something").unwrap();
        line.expect("it goes on")
    }

    /// What it has said since the last time, once it is ended.
    async fn rest(mut self) -> Vec<String> {
        assert!(self.child.try_wait().unwrap().is_none(), "it goes on until somebody ends it");
        self.child.kill().await.unwrap();
        let mut rest = Vec::new();
        while let Some(line) = self.says.next_line().await.unwrap() {
            rest.push(line);
        }
        rest
    }
}

/// Each once, and nothing else.
fn are_all(seen: &[String], ended: &[String]) {
    assert_eq!(seen.len(), ended.len(), "each once: {seen:?}");
    assert_eq!(seen.iter().collect::<BTreeSet<_>>(), ended.iter().collect::<BTreeSet<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_database_is_followed_through_restarts_and_a_crash_and_each_end_comes_once() {
    let mut cluster = Cluster::start().await;
    let database = on(&cluster).await;
    let mut following = Following::begin(&[("", &database.url)]);
    let mut all = ended(&database, "failed", 3).await;
    following.shows(&all).await;
    for is_a_crash in [false, true] {
        // What ends just before is committed, and perhaps not seen yet.
        all.extend(ended(&database, "failed", 2).await);
        if is_a_crash {
            cluster.stop_immediately().await
        } else {
            cluster.stop_fast().await
        }
        let said = following.said().await;
        assert!(said.starts_with("postcall: ") && said.ends_with(AWAY), "{said}");
        cluster.start_again().await;
        // What ends before it has looked again, and what ends after that.
        all.extend(ended(&database, "failed", 2).await);
        assert_eq!(following.said().await, format!("postcall: {BACK}"));
        all.extend(ended(&database, "failed", 2).await);
        following.shows(&all).await;
    }
    are_all(&following.seen, &all);
    assert_eq!(following.rest().await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn of_several_databases_one_that_is_restarted_is_followed_again_and_the_others_go_on_meanwhile() {
    let mut cluster = Cluster::start().await;
    let restarted = on(&cluster).await;
    let well = Database::new().await;
    well.publish("a", "default", &json!({"method": "POST", "url": "https://receiver.example/"})).await;
    let mut following = Following::begin(&[("restarted", &restarted.url), ("well", &well.url)]);
    let mut all = ended(&restarted, "failed", 2).await;
    all.extend(ended(&well, "failed", 2).await);
    following.shows(&all).await;
    all.extend(ended(&restarted, "failed", 2).await);
    cluster.stop_fast().await;
    let said = following.said().await;
    assert!(said.starts_with("postcall: restarted: ") && said.ends_with(AWAY), "{said}");
    let meanwhile = ended(&well, "failed", 2).await;
    following.shows(&meanwhile).await;
    all.extend(meanwhile);
    cluster.start_again().await;
    all.extend(ended(&restarted, "failed", 2).await);
    assert_eq!(following.said().await, format!("postcall: restarted: {BACK}"));
    all.extend(ended(&restarted, "failed", 2).await);
    following.shows(&all).await;
    are_all(&following.seen, &all);
    assert_eq!(following.rest().await, Vec::<String>::new());
}

/// Whoever follows is not let in any more: that is said, it is tried less and less often, and goes on when it is mended.
#[tokio::test(flavor = "multi_thread")]
async fn a_password_that_is_wrong_after_a_restart_is_said_once_and_tried_seldom_until_it_is_right_again() {
    let mut cluster = Cluster::start().await;
    let database = on(&cluster).await;
    let login = database.login(&["postcall_auditor"]).await;
    let (_, place) = login.split_once("://").unwrap();
    let (user, place) = place.split_once('@').unwrap();
    database.execute(&format!("ALTER ROLE {user} PASSWORD 'Xyzzy-1'")).await;
    // From the next start on, the password is asked for, and who fails leaves a line in the log.
    let rules = database.text("SHOW hba_file").await.unwrap();
    let old = std::fs::read_to_string(&rules).unwrap();
    std::fs::write(&rules, format!("host all {user} 127.0.0.1/32 scram-sha-256\n{old}")).unwrap();
    cluster.stop_fast().await;
    cluster.start_again().await;
    let url = format!("postgres://{user}:Xyzzy-1@{place}");
    let mut following = Following::begin(&[("", &url)]);
    let mut all = ended(&database, "failed", 2).await;
    following.shows(&all).await;
    database.execute(&format!("ALTER ROLE {user} PASSWORD 'Xyzzy-2'")).await;
    cluster.stop_fast().await;
    let said = following.said().await;
    assert!(said.ends_with(AWAY), "{said}");
    cluster.start_again().await;
    let said = following.said().await;
    assert!(said.contains("password authentication failed") && said.ends_with(AWAY), "{said}");
    assert!(!said.contains("Xyzzy"), "{said}");
    // While it is tried, others are served, and each try is one line of the server's log.
    all.extend(ended(&database, "failed", 2).await);
    let tries = || cluster.log().matches("password authentication failed").count();
    let begun = std::time::Instant::now();
    let tried = async {
        let mut look = tokio::time::interval(Duration::from_millis(50));
        while tries() < 3 {
            look.tick().await;
        }
    };
    timeout(PATIENCE, tried).await.expect("it is tried again");
    // The first look that failed was that of the stop. So the waits between these tries are at least 2 and 4 s.
    assert!(begun.elapsed() > Duration::from_secs(5), "{} tries in {:?}", tries(), begun.elapsed());
    database.execute(&format!("ALTER ROLE {user} PASSWORD 'Xyzzy-1'")).await;
    PgConnection::connect(&url).await.unwrap().close().await.unwrap();
    assert_eq!(following.said().await, format!("postcall: {BACK}"));
    all.extend(ended(&database, "failed", 1).await);
    following.shows(&all).await;
    are_all(&following.seen, &all);
    assert_eq!(following.rest().await, Vec::<String>::new());
}

/// What keeps it from beginning is an error and no absence: nobody waits for a right.
#[tokio::test]
async fn who_may_not_read_history_is_told_so_at_once_and_nothing_is_asked_again() {
    let database = Database::new().await;
    let login = database.login(&["postcall_auditor"]).await;
    database.execute("REVOKE SELECT ON postcall.delivery FROM postcall_auditor").await;
    let output = tokio::task::spawn_blocking(move || {
        crate::support::process::postcall_at(&login, &["history", "--follow", "--format", "jsonl"])
    });
    let output = timeout(PATIENCE, output).await.expect("it ends").unwrap();
    let said = crate::support::process::stderr(&output);
    assert!(output.status.code() == Some(1) && !said.contains(AWAY), "{said}");
    assert!(said.contains("permission denied for table delivery"), "{said}");
}
