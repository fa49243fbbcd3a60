//! The program as operators run it: a process with arguments, signals, output and an exit status.

use std::io::Write;
use std::process::{Output, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, Command};

use super::database::Database;

/// The program under test.
pub const POSTCALL: &str = env!("CARGO_BIN_EXE_postcall");

/// How long any event is waited for before the test fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs a command to its end, without a database.
pub fn postcall(arguments: &[&str]) -> Output {
    std::process::Command::new(POSTCALL).env_remove("DATABASE_URL").args(arguments).output().unwrap()
}

/// Runs a command to its end on a database.
pub fn postcall_on(database: &Database, arguments: &[&str]) -> Output {
    postcall_at(&database.url, arguments)
}

/// As [`postcall_on`], for threads of their own and for other users of a database.
pub fn postcall_at(url: &str, arguments: &[&str]) -> Output {
    std::process::Command::new(POSTCALL).env("DATABASE_URL", url).args(arguments).output().unwrap()
}

/// A file with this text, for as long as the value lives.
pub fn file(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

/// What a command printed to stdout.
pub fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// What a command printed to stderr.
pub fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// A running `postcall run`, killed when it is dropped.
pub struct Dispatcher {
    child: Child,
    log: Lines<BufReader<ChildStderr>>,
    id: i32,
}

impl Dispatcher {
    /// Starts a dispatcher that may call this machine, and waits until it dispatches.
    pub async fn start(database: &Database, arguments: &[&str]) -> Dispatcher {
        Dispatcher::start_at(&database.url, arguments).await
    }

    /// As [`Dispatcher::start`], for another user of a database.
    pub async fn start_at(url: &str, arguments: &[&str]) -> Dispatcher {
        Dispatcher::started(Dispatcher::command(url).args(arguments)).await
    }

    /// A dispatcher with this lease and this many requests in flight.
    pub async fn start_leased(url: &str, lease_ms: u64, permits: usize) -> Dispatcher {
        let mut command = Dispatcher::command(url);
        let settings = [("POSTCALL_LEASE_MS", lease_ms.to_string()), ("POSTCALL_CONCURRENCY", permits.to_string())];
        Dispatcher::started(command.envs(settings)).await
    }

    fn command(url: &str) -> Command {
        let mut command = Command::new(POSTCALL);
        command.stdout(Stdio::null()).env("DATABASE_URL", url).args([
            "run",
            "--allow-http",
            "--allow-target",
            "127.0.0.0/8,::1/128",
        ]);
        command
    }

    async fn started(command: &mut Command) -> Dispatcher {
        let mut child = command.stderr(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
        let log = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut dispatcher = Dispatcher { child, log, id: 0 };
        let line = dispatcher.says("registered").await;
        let id = line.split_once("dispatcher_id=").and_then(|(_, rest)| rest.split(' ').next());
        dispatcher.id = id.and_then(|id| id.parse().ok()).expect("a dispatcher says which it is");
        dispatcher.says("dispatching").await;
        dispatcher
    }

    /// Its id in the database, as long as nobody declares it lost.
    pub fn id(&self) -> i32 {
        self.id
    }

    /// Reads the log until a line contains `words`, and returns that line.
    pub async fn says(&mut self, words: &str) -> String {
        let found = async {
            while let Some(line) = self.log.next_line().await.unwrap() {
                if line.contains(words) {
                    return line;
                }
            }
            panic!("the dispatcher ended without saying: {words}");
        };
        tokio::time::timeout(PATIENCE, found).await.unwrap_or_else(|_| panic!("waited in vain for: {words}"))
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().unwrap().try_into().unwrap()), signal).unwrap();
    }

    /// Waits for its end; whether it ended well, and what it said last.
    pub async fn ended(self) -> (bool, String) {
        let (well, mut lines) = self.ended_saying().await;
        (well, lines.pop().unwrap_or_default())
    }

    /// Waits for its end; whether it ended well, and all it has said since it was last listened to.
    pub async fn ended_saying(mut self) -> (bool, Vec<String>) {
        let mut lines = Vec::new();
        let ended = async {
            while let Some(line) = self.log.next_line().await.unwrap() {
                lines.push(line);
            }
            self.child.wait().await.unwrap().success()
        };
        let well = tokio::time::timeout(PATIENCE, ended).await;
        (well.unwrap_or_else(|_| panic!("waited in vain for its end: {lines:#?}")), lines)
    }
}
