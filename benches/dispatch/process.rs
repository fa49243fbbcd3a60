//! Runs `postcall run` as operators do, and measures what processes have used.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::OnceLock;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signal::{Signal, kill};
use nix::sys::time::TimeValLike;
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// The ticks of `/proc/PID/stat` in a second. There are 100 on every Linux.
const TICKS: f64 = 100.0;
/// How many warnings of a dispatcher are shown. The rest are counted.
const WARNINGS_SHOWN: usize = 5;
/// Settings that an earlier release may not have.
const OWN_LIMITS: [&str; 2] = ["--concurrency-per-agent", "--concurrency-per-host"];

/// A build of postcall.
#[derive(Debug)]
pub struct Program {
    /// Its name in the figures.
    pub label: &'static str,
    path: PathBuf,
    help: String,
    has_prune: bool,
    /// Further arguments of its `run`.
    run_arguments: Vec<String>,
}

impl Program {
    /// The build of this source tree.
    pub fn candidate() -> &'static Program {
        static CANDIDATE: OnceLock<Program> = OnceLock::new();
        CANDIDATE.get_or_init(|| Program::at("this build", Path::new(env!("CARGO_BIN_EXE_postcall"))))
    }

    /// The build at `path`.
    pub fn at(label: &'static str, path: &Path) -> Program {
        let ask = |arguments: &[&str]| std::process::Command::new(path).args(arguments).output().unwrap();
        let help = String::from_utf8(ask(&["run", "--help"]).stdout).unwrap();
        assert!(help.contains("--concurrency"), "{} is no postcall", path.display());
        let has_prune = ask(&["prune", "--help"]).status.success();
        Program { label, path: path.to_owned(), help, has_prune, run_arguments: Vec::new() }
    }

    /// The same build, whose `run` gets these arguments, too.
    pub fn told(&self, label: &'static str, arguments: &[&str]) -> Program {
        let run_arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        Program { label, path: self.path.clone(), help: self.help.clone(), has_prune: self.has_prune, run_arguments }
    }

    /// The version that it prints.
    pub fn version(&self) -> String {
        let output = std::process::Command::new(&self.path).arg("--version").output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Whether it has the command `prune`.
    pub fn has_prune(&self) -> bool {
        self.has_prune
    }

    /// A command of this build on a database.
    pub fn command(&self, database_url: &str) -> Command {
        let mut command = Command::new(&self.path);
        command.env("DATABASE_URL", database_url).kill_on_drop(true);
        command
    }

    /// Makes the schema of this build.
    pub async fn migrate(&self, database_url: &str) {
        let output = self.command(database_url).arg("migrate").output().await.unwrap();
        assert!(output.status.success(), "migrate: {}", String::from_utf8_lossy(&output.stderr));
    }
}

/// How many of the places one agent and one host may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shares {
    /// The program's defaults.
    Default,
    /// All places, so that a single receiver is served as fast as possible.
    All,
}

/// A running dispatcher, killed when it is dropped.
pub struct Dispatcher {
    child: Child,
    log: JoinHandle<Vec<String>>,
}

impl Dispatcher {
    /// Starts a dispatcher of this build in which one agent and one host may take all places, and waits until it
    /// dispatches.
    pub async fn start(database_url: &str, concurrency: usize) -> Dispatcher {
        Dispatcher::of(Program::candidate(), database_url, concurrency, Shares::All).await
    }

    /// Starts a dispatcher that may call this machine, and waits until it dispatches.
    pub async fn of(program: &Program, database_url: &str, concurrency: usize, shares: Shares) -> Dispatcher {
        let mut command = program.command(database_url);
        command.args(["run", "--allow-http", "--allow-target", "127.0.0.0/8", "--concurrency"]);
        command.arg(concurrency.to_string()).args(&program.run_arguments);
        for limit in OWN_LIMITS.iter().filter(|limit| shares == Shares::All && program.help.contains(**limit)) {
            command.arg(limit).arg(concurrency.to_string());
        }
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let (started, dispatches) = oneshot::channel();
        // A task reads the log to its end, because a full pipe would hold up the dispatcher.
        let log = tokio::spawn(read_log(child.stderr.take().unwrap(), started));
        assert!(dispatches.await.is_ok(), "the dispatcher did not start: {:?}", log.await);
        Dispatcher { child, log }
    }

    /// The CPU seconds that it has used so far.
    pub fn cpu_seconds(&self) -> f64 {
        cpu_seconds(self.child.id().unwrap())
    }

    /// Its peak resident memory so far, in megabytes.
    pub fn peak_megabytes(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id().unwrap())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
    }

    /// Stops it in good order, and prints its warnings.
    pub async fn stop(mut self) {
        kill(Pid::from_raw(self.child.id().unwrap().try_into().unwrap()), Signal::SIGTERM).unwrap();
        for warning in self.log.await.unwrap() {
            println!("dispatcher: {warning}");
        }
        assert!(self.child.wait().await.unwrap().success(), "the dispatcher did not end well");
    }

    /// Kills it. This is for scenes in which receivers that hang would delay its end, and requests in flight do not
    /// matter.
    pub async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }
}

/// Reads a log to its end. Returns the first warnings, and how many more there were.
async fn read_log(log: tokio::process::ChildStderr, started: oneshot::Sender<()>) -> Vec<String> {
    let mut lines = BufReader::new(log).lines();
    let (mut started, mut warnings, mut more) = (Some(started), Vec::new(), 0);
    while let Some(line) = lines.next_line().await.unwrap() {
        if started.is_some() && line.contains("dispatching") {
            started.take().and_then(|started| started.send(()).ok());
        } else if line.contains("WARN") || line.contains("ERROR") || line.starts_with("postcall:") {
            if warnings.len() < WARNINGS_SHOWN { warnings.push(line) } else { more += 1 }
        }
    }
    if more > 0 {
        warnings.push(format!("and {more} more warnings"));
    }
    warnings
}

/// The CPU seconds that a process has used, in its own code and in the kernel. 0 for a process that has ended.
pub fn cpu_seconds(pid: u32) -> f64 {
    // utime and stime are fields 14 and 15.
    seconds_in_stat(pid, 14)
}

/// The CPU seconds of the processes that a process has started, that have ended, and that it has waited for.
pub fn cpu_seconds_of_ended_children(pid: u32) -> f64 {
    // cutime and cstime are fields 16 and 17.
    seconds_in_stat(pid, 16)
}

/// The sum of two neighbouring fields of `/proc/PID/stat`, in seconds. Fields are counted from 1.
fn seconds_in_stat(pid: u32, field: usize) -> f64 {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return 0.0 };
    // The second field is the program's name in brackets, which may hold any character.
    let after_name = stat.rsplit_once(')').unwrap().1;
    after_name.split_whitespace().skip(field - 3).take(2).map(|ticks| ticks.parse::<f64>().unwrap()).sum::<f64>()
        / TICKS
}

/// The CPU seconds of all processes that this one has started and that have ended.
pub fn cpu_seconds_of_children() -> f64 {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap();
    (usage.user_time() + usage.system_time()).num_microseconds() as f64 / 1e6
}

/// The peak resident memory of the largest of these processes, in megabytes.
pub fn peak_megabytes_of_children() -> f64 {
    getrusage(UsageWho::RUSAGE_CHILDREN).unwrap().max_rss() as f64 / 1024.0
}

/// A key that seals history, in a file that leaves with it.
pub struct SealKey {
    path: String,
    verifier: String,
    _directory: tempfile::TempDir,
}

impl SealKey {
    /// Makes a key.
    pub fn new() -> SealKey {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("seal.key").to_str().unwrap().to_owned();
        let made = std::process::Command::new(&Program::candidate().path)
            .args(["audit", "new-key", "bench.example/postcall", &path])
            .output()
            .unwrap();
        assert!(made.status.success(), "new-key: {}", String::from_utf8_lossy(&made.stderr));
        let verifier = String::from_utf8(made.stdout).unwrap().trim().to_owned();
        SealKey { path, verifier, _directory: directory }
    }

    /// The file with the key that signs.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The key that verifies.
    pub fn verifier(&self) -> &str {
        &self.verifier
    }
}
