//! Signals to a dispatcher: those that ask it to end let it drain, and no other signal ends it.

use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use crate::support::database::Database;
use crate::support::inbox::Inbox;
use crate::support::process::Dispatcher;
use crate::support::proxy::{Fate, Proxy};

const STATES: &str = "SELECT string_agg(state || ' ' || n, ', ' ORDER BY state)
                      FROM (SELECT state, count(*) AS n FROM postcall.delivery_history GROUP BY state) AS states";

async fn database_with_action(inbox: &Inbox) -> Database {
    let database = Database::new().await;
    database.publish("a", "default", &json!({"method": "POST", "url": inbox.url("/")})).await;
    database
}

#[tokio::test]
async fn every_signal_that_means_an_end_lets_what_is_in_flight_finish() {
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT] {
        let inbox = Inbox::holding().await;
        let database = database_with_action(&inbox).await;
        for _ in 0..3 {
            database.insert_call("a", &json!({})).await;
        }
        let mut dispatcher = Dispatcher::start(&database, &["--concurrency", "2", "--adapt-to-hosts", "false"]).await;
        inbox.has(2).await;
        dispatcher.signal(signal);
        dispatcher.says(signal.as_str()).await;
        inbox.answer(3);
        let (well, last) = dispatcher.ended().await;
        assert!(well, "{signal}: {last}");
        assert_eq!(database.text(STATES).await.unwrap(), "delivered 2, waiting 1", "{signal}");
    }
}

#[tokio::test]
async fn no_other_signal_ends_a_dispatcher() {
    let inbox = Inbox::holding().await;
    let database = database_with_action(&inbox).await;
    database.insert_call("a", &json!({})).await;
    let dispatcher = Dispatcher::start(&database, &[]).await;
    inbox.has(1).await;
    for signal in [Signal::SIGUSR1, Signal::SIGUSR2, Signal::SIGALRM, Signal::SIGPIPE, Signal::SIGCHLD, Signal::SIGURG]
    {
        dispatcher.signal(signal);
    }
    inbox.answer(1);
    database.settled().await;
    assert_eq!(database.text(STATES).await.unwrap(), "delivered 1");
    dispatcher.signal(Signal::SIGTERM);
    assert!(dispatcher.ended().await.0);
}

/// `nohup` means that the end of a terminal is not to end the program.
#[tokio::test]
async fn a_hangup_that_was_ignored_at_the_start_stays_ignored() {
    let inbox = Inbox::holding().await;
    let database = database_with_action(&inbox).await;
    database.insert_call("a", &json!({})).await;
    let command = Dispatcher::command(&database.url);
    let mut shell = Command::new("sh");
    shell.args(["-c", r#"trap "" HUP; exec "$@""#, "sh"]).arg(command.as_std().get_program());
    shell.args(command.as_std().get_args()).env("DATABASE_URL", &database.url).stdout(Stdio::null());
    let dispatcher = Dispatcher::started(&mut shell).await;
    inbox.has(1).await;
    dispatcher.signal(Signal::SIGHUP);
    inbox.answer(1);
    database.settled().await;
    database.insert_call("a", &json!({})).await;
    inbox.has(2).await;
    dispatcher.signal(Signal::SIGTERM);
    inbox.answer(1);
    let (well, last) = dispatcher.ended().await;
    assert!(well && last.contains("delivered=2"), "{last}");
}

/// Whoever read the log has gone: every line that is written fails from then on.
#[tokio::test]
async fn a_log_that_nobody_reads_any_more_stops_nothing() {
    let inbox = Inbox::open().await;
    let database = database_with_action(&inbox).await;
    let mut command = Dispatcher::command(&database.url);
    let mut child = command.args(["--log", "debug"]).stderr(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
    while let Some(line) = log.next_line().await.unwrap() {
        if line.contains("dispatching") {
            break;
        }
    }
    drop(log);
    for _ in 0..20 {
        database.insert_call("a", &json!({})).await;
    }
    database.settled().await;
    assert_eq!(database.text(STATES).await.unwrap(), "delivered 20");
    kill(Pid::from_raw(child.id().unwrap().try_into().unwrap()), Signal::SIGTERM).unwrap();
    assert!(child.wait().await.unwrap().success());
    assert_eq!(database.number("SELECT count(*) FROM postcall.dispatcher WHERE stopped_at IS NOT NULL").await, 1);
}

#[tokio::test]
async fn results_that_the_database_does_not_take_are_counted_when_a_dispatcher_ends() {
    let inbox = Inbox::holding().await;
    let database = database_with_action(&inbox).await;
    for _ in 0..3 {
        database.insert_call("a", &json!({})).await;
    }
    let proxy = Proxy::to_server_of(&database.url).await;
    proxy.judge(|sql| if sql.contains("WITH done AS") { Fate::LoseStatement } else { Fate::Pass });
    let dispatcher = Dispatcher::start_at(&proxy.url_of(&database.url), &[]).await;
    inbox.has(3).await;
    inbox.answer(3);
    proxy.intervened(1).await;
    dispatcher.signal(Signal::SIGTERM);
    let (well, log) = dispatcher.ended_saying().await;
    assert!(!well && log.last().unwrap().contains("3 results could not be written"), "{log:?}");
    // However many batches they were in.
    let given_up =
        log.iter().filter_map(|line| line.split_once("did not take results.unwritten=")?.1.split(' ').next());
    assert_eq!(given_up.map(|count| count.parse::<usize>().unwrap()).sum::<usize>(), 3, "{log:?}");
    assert_eq!(database.text(STATES).await.unwrap(), "sending 3");
}
