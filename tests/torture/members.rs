//! The dispatchers: real processes that are killed, paused and started again, and what is known of each.

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// Requests that a dispatcher may have in flight,
pub const PLACES: usize = 32;
/// and results of it that may wait to be recorded beside them.
pub const UNRECORDED: usize = 16;
/// How long a dispatcher may not be heard of.
pub const LEASE_MS: u64 = 4_000;
/// The largest call that is sent.
pub const MAX_CALL_BYTES: usize = 65_536;

/// What happened to a dispatcher, under one id, that may leave doubts behind.
#[derive(Clone, Copy, Debug, Default)]
pub struct Life {
    pub killed: bool,
    pub paused: bool,
}

/// What is known of all that ever ran, by their ids.
#[derive(Default)]
pub struct Register {
    pub lives: Mutex<HashMap<i32, Life>>,
    /// What should never happen to a process.
    pub wrongs: Mutex<Vec<String>>,
}

/// A running dispatcher, killed when it is dropped.
pub struct Member {
    child: Child,
    log: Arc<Log>,
    register: Arc<Register>,
}

/// What it has said.
#[derive(Default)]
struct Log {
    /// Its id now; another after it was declared lost.
    id: Mutex<Option<i32>>,
    dispatches: std::sync::atomic::AtomicBool,
    last: Mutex<VecDeque<String>>,
}

const LINES_KEPT: usize = 12;

impl Member {
    /// Starts one, and does not wait for it.
    pub fn start(binary: &PathBuf, url: &str, register: &Arc<Register>) -> Member {
        let mut command = Command::new(binary);
        command.env("DATABASE_URL", url).args(["run", "--allow-http", "--allow-target", "127.0.0.0/8"]);
        command.args(["--concurrency", &PLACES.to_string(), "--max-unrecorded", &UNRECORDED.to_string()]);
        command.args(["--lease-ms", &LEASE_MS.to_string(), "--max-call-bytes", &MAX_CALL_BYTES.to_string()]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let log = Arc::new(Log::default());
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let (heard, known) = (log.clone(), register.clone());
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                heard.hear(line, &known);
            }
        });
        Member { child, log, register: register.clone() }
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        if let Some(id) = self.child.id() {
            kill(Pid::from_raw(id.try_into().unwrap()), signal).ok();
        }
    }

    /// Writes down what happens to it.
    pub fn mark(&self, what: impl Fn(&mut Life)) {
        if let Some(id) = *self.log.id.lock().unwrap() {
            what(self.register.lives.lock().unwrap().entry(id).or_default());
        }
    }

    /// Kills it, and waits until it is gone.
    pub async fn kill(mut self) {
        // Before and afterwards: it may just be taking a new id.
        self.mark(|life| life.killed = true);
        self.signal(Signal::SIGKILL);
        self.child.wait().await.unwrap();
        tokio::task::yield_now().await;
        self.mark(|life| life.killed = true);
    }

    /// Stops it in good order, and waits for its end.
    pub async fn retire(mut self) {
        self.signal(Signal::SIGTERM);
        let ended = tokio::time::timeout(std::time::Duration::from_secs(150), self.child.wait()).await;
        match ended {
            Ok(status) if status.as_ref().is_ok_and(|status| status.success()) => {}
            other => self.wrong(&format!("a dispatcher that was told to stop ended with {other:?}")),
        }
    }

    /// Whether it has ended by itself. If it had dispatched already, that is wrong.
    pub fn has_ended(&mut self) -> bool {
        let Ok(Some(status)) = self.child.try_wait() else { return false };
        if self.dispatches() {
            self.wrong(&format!("a dispatcher ended by itself, with {status}"));
        }
        true
    }

    /// Whether it has begun to dispatch.
    pub fn dispatches(&self) -> bool {
        self.log.dispatches.load(std::sync::atomic::Ordering::Relaxed)
    }

    fn wrong(&self, what: &str) {
        let last = self.log.last.lock().unwrap().iter().cloned().collect::<Vec<_>>().join("\n    ");
        self.register.wrongs.lock().unwrap().push(format!("{what}; it said last:\n    {last}"));
    }

    /// Its memory now, in bytes (Linux).
    pub fn memory(&self) -> Option<u64> {
        memory_of(&self.child.id()?.to_string(), "VmRSS:")
    }
}

/// A figure about the memory of a process, in bytes (Linux).
pub fn memory_of(process: &str, figure: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(figure))?;
    Some(line.trim().trim_end_matches(" kB").parse::<u64>().ok()? * 1024)
}

impl Log {
    fn hear(&self, line: String, register: &Register) {
        if line.contains("registered")
            && let Some((_, rest)) = line.split_once("dispatcher.id=")
            && let Some(id) = rest.split(' ').next().and_then(|id| id.parse().ok())
        {
            *self.id.lock().unwrap() = Some(id);
            register.lives.lock().unwrap().entry(id).or_default();
        }
        if line.contains("dispatching") {
            self.dispatches.store(true, std::sync::atomic::Ordering::Relaxed);
        }
        let mut last = self.last.lock().unwrap();
        last.push_back(line);
        while last.len() > LINES_KEPT {
            last.pop_front();
        }
    }
}
