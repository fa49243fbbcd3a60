//! `postcall run` as operators run it, and what processes have used.

use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, Command};

/// Ticks in a second of `/proc/PID/stat`: 100 on every Linux there is.
const TICKS: f64 = 100.0;

/// A running dispatcher, killed when it is dropped.
pub struct Dispatcher {
    child: Child,
    log: Lines<BufReader<ChildStderr>>,
}

impl Dispatcher {
    /// Starts one that may call this machine, and waits until it dispatches.
    pub async fn start(database_url: &str, concurrency: usize) -> Dispatcher {
        let mut child = Command::new(env!("CARGO_BIN_EXE_postcall"))
            .env("DATABASE_URL", database_url)
            .args(["run", "--allow-http", "--allow-target", "127.0.0.0/8", "--concurrency"])
            .arg(concurrency.to_string())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
        while let Some(line) = log.next_line().await.unwrap() {
            if line.contains("dispatching") {
                return Dispatcher { child, log };
            }
            eprintln!("{line}");
        }
        panic!("the dispatcher did not start");
    }

    /// CPU seconds used so far.
    pub fn cpu_seconds(&self) -> f64 {
        cpu_seconds(self.child.id().unwrap())
    }

    /// Peak resident memory so far, in megabytes.
    pub fn peak_megabytes(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id().unwrap())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
    }

    /// Ends it in good order. What it warned about is shown.
    pub async fn stop(mut self) {
        kill(Pid::from_raw(self.child.id().unwrap().try_into().unwrap()), Signal::SIGTERM).unwrap();
        while let Some(line) = self.log.next_line().await.unwrap() {
            if line.contains("WARN") || line.contains("ERROR") {
                println!("dispatcher: {line}");
            }
        }
        assert!(self.child.wait().await.unwrap().success(), "the dispatcher did not end well");
    }
}

/// CPU seconds that a process has used, in its own code and in the kernel's; 0 for one that is gone.
pub fn cpu_seconds(pid: u32) -> f64 {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return 0.0 };
    // The second field is the program's name in brackets and may hold anything; utime and stime are 14 and 15.
    let after_name = stat.rsplit_once(')').unwrap().1;
    after_name.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<f64>().unwrap()).sum::<f64>() / TICKS
}
