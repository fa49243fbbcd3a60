//! The program as operators run it: a process with arguments, signals, output and an exit status.

use std::io::Write;
use std::path::Path;
use std::process::{Output, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use chrono::{DateTime, Utc};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, Command};

use super::database::Database;
use super::tools;

/// The program under test.
pub const POSTCALL: &str = env!("CARGO_BIN_EXE_postcall");

/// Arguments of a dispatcher that may call this machine.
pub const THIS_MACHINE: [&str; 3] = ["--allow-http", "--allow-target", "127.0.0.0/8,::1/128"];

/// How long any event is waited for before the test fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// Settings with which one host may hold all of 64 places.
pub const ALL_FOR_ONE: [&str; 8] = [
    "--concurrency",
    "64",
    "--concurrency-per-agent",
    "64",
    "--concurrency-per-host",
    "64",
    "--adapt-to-hosts",
    "false",
];

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

/// The real sqlx-cli: `sqlx migrate …`, in this directory. It must succeed.
pub fn sqlx_migrate(url: &str, directory: &Path, arguments: &[&str]) -> Output {
    let mut command = std::process::Command::new(tools::sqlx());
    command.arg("migrate").args(arguments).current_dir(directory).env("DATABASE_URL", url);
    let output = command.output().unwrap();
    assert!(output.status.success(), "sqlx migrate {arguments:?}: {}", stderr(&output));
    output
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

/// A signal that a test sent to a dispatcher.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    /// The process, which a dispatcher has in its name.
    pub process: u32,
    pub signal: Signal,
    pub at: DateTime<Utc>,
}

/// All signals that the tests of this program sent, in the order in which they did.
static SIGNALS: Mutex<Vec<Sent>> = Mutex::new(Vec::new());

/// The signals that were sent to this process since then.
pub fn signals_to(process: u32, since: DateTime<Utc>) -> Vec<Sent> {
    let signals = SIGNALS.lock().unwrap();
    signals.iter().filter(|sent| sent.process == process && sent.at >= since).copied().collect()
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

    /// As [`Dispatcher::start_at`], but what it may call is said by the arguments alone.
    pub async fn start_strict(url: &str, arguments: &[&str]) -> Dispatcher {
        let mut command = Command::new(POSTCALL);
        command.stdout(Stdio::null()).env("DATABASE_URL", url).arg("run").args(arguments);
        Dispatcher::started(&mut command).await
    }

    /// A dispatcher with this lease and this many requests in flight, to whatever host and for whatever agent, and no result
    /// that waits to be recorded beside them.
    pub async fn start_leased(url: &str, lease_ms: u64, places: usize) -> Dispatcher {
        let mut command = Dispatcher::command(url);
        let settings = [
            ("POSTCALL_LEASE_MS", lease_ms.to_string()),
            ("POSTCALL_CONCURRENCY", places.to_string()),
            ("POSTCALL_CONCURRENCY_PER_AGENT", places.to_string()),
            ("POSTCALL_CONCURRENCY_PER_HOST", places.to_string()),
            ("POSTCALL_MAX_UNRECORDED", 0.to_string()),
            ("POSTCALL_ADAPT_TO_HOSTS", false.to_string()),
            ("POSTCALL_HOLD_UNREACHABLE", false.to_string()),
        ];
        Dispatcher::started(command.envs(settings)).await
    }

    /// As [`Dispatcher::start`], where these two files are `/etc/resolv.conf` and `/etc/hosts`. `None` where this user
    /// may not make a mount namespace.
    pub async fn start_resolving_by(
        database: &Database,
        resolv_conf: &Path,
        hosts: &Path,
        arguments: &[&str],
    ) -> Option<Dispatcher> {
        let possible = std::process::Command::new("unshare").args(["--mount", "true"]).output();
        if !possible.is_ok_and(|output| output.status.success()) {
            return None;
        }
        let mount = r#"mount --bind "$1" /etc/resolv.conf && mount --bind "$2" /etc/hosts && shift 2 && exec "$@""#;
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", mount, "sh"]).args([resolv_conf, hosts]).arg(POSTCALL);
        Some(Dispatcher::started(Dispatcher::configured(&mut command, &database.url).args(arguments)).await)
    }

    /// The command of a dispatcher that may call this machine.
    pub fn command(url: &str) -> Command {
        let mut command = Command::new(POSTCALL);
        Dispatcher::configured(&mut command, url);
        command
    }

    fn configured<'a>(command: &'a mut Command, url: &str) -> &'a mut Command {
        command.stdout(Stdio::null()).env("DATABASE_URL", url).arg("run").args(THIS_MACHINE)
    }

    /// A dispatcher that may call this machine and has just been started: nothing of its log has been read.
    pub fn starting(url: &str) -> Dispatcher {
        Dispatcher::spawned(&mut Dispatcher::command(url))
    }

    /// A dispatcher started by a command of the test's own: nothing of its log has been read.
    pub fn spawned(command: &mut Command) -> Dispatcher {
        let mut child = command.stderr(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
        let log = BufReader::new(child.stderr.take().unwrap()).lines();
        Dispatcher { child, log, id: 0 }
    }

    /// Starts a dispatcher by a command of the test's own, and waits until it dispatches.
    pub async fn started(command: &mut Command) -> Dispatcher {
        let mut dispatcher = Dispatcher::spawned(command);
        let line = dispatcher.says("registered").await;
        // The second is how the previous release says it.
        let id = line.split_once("dispatcher.id=").or_else(|| line.split_once("dispatcher_id="));
        let id = id.and_then(|(_, rest)| rest.split(' ').next());
        dispatcher.id = id.and_then(|id| id.parse().ok()).expect("a dispatcher says which it is");
        dispatcher.says("dispatching").await;
        dispatcher
    }

    /// Its id in the database, as long as nobody declares it lost.
    pub fn id(&self) -> i32 {
        self.id
    }

    /// The most memory that it has held so far, in bytes (Linux).
    pub fn peak_memory(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id().unwrap())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("Linux says how much it was");
        line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
    }

    /// Reads the log until a line contains `words`, and returns that line.
    pub async fn says(&mut self, words: &str) -> String {
        self.lines_until(words).await.pop().expect("the line with the words")
    }

    /// Reads the log until a line contains `words`, and returns all that was read.
    pub async fn lines_until(&mut self, words: &str) -> Vec<String> {
        let mut lines = Vec::new();
        let found = async {
            while let Some(line) = self.log.next_line().await.unwrap() {
                lines.push(line);
                if lines.last().is_some_and(|line| line.contains(words)) {
                    return true;
                }
            }
            false
        };
        match tokio::time::timeout(PATIENCE, found).await {
            Ok(true) => lines,
            Ok(false) => panic!("the dispatcher ended without saying: {words}\n{}", lines.join("\n")),
            Err(_) => panic!("waited in vain for: {words}\n{}", lines.join("\n")),
        }
    }

    /// The threads that it has now (Linux).
    pub fn threads(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id().unwrap())).unwrap();
        let threads = status.lines().find_map(|line| line.strip_prefix("Threads:"));
        threads.and_then(|count| count.trim().parse().ok()).expect("a number of threads")
    }

    /// Sends it a signal, and writes down when.
    pub fn signal(&self, signal: Signal) {
        let process = self.child.id().unwrap();
        SIGNALS.lock().unwrap().push(Sent { process, signal, at: Utc::now() });
        kill(Pid::from_raw(process.try_into().unwrap()), signal).unwrap();
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
