//! One run of some tests in a process, which leaves nothing behind.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::server::Server;

/// What runs on behalf of a test has this in its environment, with a value that no other run has.
const MARK: &str = "POSTCALL_MUTANT_RUN";
/// KiB of address space for each process.
const MEMORY: u32 = 8 << 20;
/// How often is looked whether a process has ended.
const LOOK: Duration = Duration::from_millis(5);
/// How often is looked for processes that are left, before the rest is left alone.
const LOOKS: u32 = 200;

/// Some tests to run.
pub struct Tests<'a> {
    /// The test program.
    pub program: &'a Path,
    /// Their names.
    pub names: Vec<&'a str>,
    /// How many at a time.
    pub threads: usize,
    /// The mutant; 0 is none.
    pub mutant: u32,
    /// How long they may take.
    pub limit: Duration,
    /// The file that gets the numbers of the mutants to which they come.
    pub reached: Option<&'a Path>,
}

/// What has become of them.
pub struct Ran {
    /// Whether all passed.
    pub passed: bool,
    /// Whether they did not end in time.
    pub too_long: bool,
    /// How long they took.
    pub time: Duration,
    /// What the test program said.
    pub said: String,
}

/// Where one of those that run tests does this.
pub struct Place {
    tree: PathBuf,
    /// What the tests write goes here, below `/tmp`, and is deleted after each run.
    home: PathBuf,
    server: Server,
    runs: u64,
}

impl Place {
    /// A place with a server.
    pub fn new(tree: &Path, program: &Path, index: usize) -> Result<Place, String> {
        let home = std::env::temp_dir().join(format!("postcall-mutants.{}.{index}", std::process::id()));
        let tree = tree.canonicalize().map_err(|error| format!("{}: {error}", tree.display()))?;
        Ok(Place { server: Server::start(&tree, program)?, tree, home, runs: 0 })
    }

    /// Runs tests.
    pub fn run(&mut self, tests: &Tests) -> Result<Ran, String> {
        self.runs += 1;
        let mark = format!("{}/{}", self.home.display(), self.runs);
        let said = |error: std::io::Error| format!("{}: {error}", self.home.display());
        let _ = std::fs::remove_dir_all(&self.home);
        std::fs::create_dir_all(&self.home).map_err(said)?;
        let output = self.home.join("output");
        let start = Instant::now();
        let mut child =
            self.command(tests, &mark).stdout(File::create(&output).map_err(said)?).spawn().map_err(said)?;
        let status = loop {
            match child.try_wait().map_err(said)? {
                None if start.elapsed() < tests.limit => std::thread::park_timeout(LOOK),
                ended => break ended,
            }
        };
        let time = start.elapsed();
        end_all(&mark, child.id());
        child.wait().map_err(said)?;
        self.server.clean()?;
        let text = std::fs::read(&output).map_err(said)?;
        let passed = status.is_some_and(|status| status.success());
        Ok(Ran { passed, too_long: status.is_none(), time, said: String::from_utf8_lossy(&text).into_owned() })
    }

    fn command(&self, tests: &Tests, mark: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("ulimit -v {MEMORY}; exec \"$0\" \"$@\"")]).arg(tests.program);
        command.arg("--exact").args(&tests.names).arg(format!("--test-threads={}", tests.threads));
        command.env("POSTCALL_MUTANT", tests.mutant.to_string()).env("POSTCALL_TEST_HOME", &self.home);
        command.env("TMPDIR", &self.home).env(MARK, mark).current_dir(&self.tree).process_group(0);
        if let Some(path) = tests.reached {
            command.env("POSTCALL_MUTANT_REACHED", path);
        }
        self.server.offer(&mut command);
        command.stdin(Stdio::null()).stderr(Stdio::null());
        command
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.home);
    }
}

/// Kills a process and all that it has started, whatever group or session they are in now.
fn end_all(mark: &str, first: u32) {
    let first = first.to_string();
    for look in 0..LOOKS {
        let mut left = marked(mark);
        if look == 0 && !left.contains(&first) && Path::new("/proc").join(&first).exists() && !ended(&first) {
            left.push(first.clone());
        }
        if left.is_empty() {
            return;
        }
        let _ = Command::new("kill").arg("-KILL").args(&left).stderr(Stdio::null()).status();
        std::thread::park_timeout(LOOK);
    }
}

/// Whether it is one of the dead that wait for their parent.
fn ended(process: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_none_or(|(_, rest)| rest.trim_start().starts_with('Z'))
}

/// The processes that have this mark in their environment.
fn marked(mark: &str) -> Vec<String> {
    let wanted = format!("{MARK}={mark}").into_bytes();
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let has = |name: &String| {
        let environment = std::fs::read(format!("/proc/{name}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|variable| variable == wanted)
    };
    names.filter(|name| name.bytes().all(|byte| byte.is_ascii_digit())).filter(has).collect()
}
