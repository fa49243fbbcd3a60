//! A Postgres server of a test's own, which the test can stop, crash, starve, copy and promote.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use super::database::Server;
use super::proxy::Proxy;

/// What every server here is set to. Crash safety is left on: what was committed must survive.
const SETTINGS: &[&str] = &[
    "listen_addresses=127.0.0.1",
    "max_connections=100",
    "shared_buffers=32MB",
    "timezone=UTC",
    "fsync=on",
    "max_prepared_transactions=10",
    // A standby that is promoted is the same server under another address, so it must not lag behind by much.
    "wal_receiver_status_interval=1",
];

/// One server with its own data directory and port. Stops and disappears when it is dropped, and stops when the test
/// program dies.
pub struct Cluster {
    home: TempDir,
    port: u16,
    postmaster: Option<Child>,
}

impl Cluster {
    /// A new server, running.
    pub async fn start() -> Cluster {
        let mut cluster = Cluster::unborn();
        let data = cluster.data();
        let data = data.to_str().unwrap();
        run("initdb", &["-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"]).await;
        cluster.start_again().await;
        cluster
    }

    fn unborn() -> Cluster {
        // Not where TMPDIR says: the names of sockets must be short.
        let place = std::env::var_os("POSTCALL_TEST_HOME").unwrap_or_else(|| "/tmp".into());
        let home = tempfile::Builder::new().prefix("postcall-cluster.").tempdir_in(place).unwrap();
        own(home.path());
        Cluster { home, port: free_port(), postmaster: None }
    }

    fn data(&self) -> PathBuf {
        self.home.path().join("data")
    }

    /// The server, for [`super::database::Database`].
    pub fn server(&self) -> Server {
        Server { url: self.url_of("postgres") }
    }

    /// The URL of one of its databases.
    pub fn url_of(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    /// `host:port`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Starts the server on the data it has, and waits until it takes connections.
    pub async fn start_again(&mut self) {
        assert!(self.postmaster.is_none(), "it runs already");
        let data = self.data();
        let port = self.port.to_string();
        let home = self.home.path().to_str().unwrap().to_owned();
        let mut command = unprivileged("postgres", &["--pdeathsig", "QUIT"]);
        command.arg("-D").arg(data).args(["-p", &port, "-k", &home]);
        for setting in SETTINGS {
            command.args(["-c", setting]);
        }
        let log = std::fs::File::options().create(true).append(true).open(self.home.path().join("log")).unwrap();
        command.stdout(Stdio::null()).stderr(log).stdin(Stdio::null()).kill_on_drop(true);
        self.postmaster = Some(command.spawn().unwrap());
        self.ready().await;
    }

    /// Waits until it takes connections.
    pub async fn ready(&mut self) {
        let mut look = tokio::time::interval(Duration::from_millis(20));
        for _ in 0..3_000 {
            look.tick().await;
            if PgConnection::connect(&self.server().url).await.is_ok() {
                return;
            }
            if let Some(status) = self.postmaster.as_mut().and_then(|child| child.try_wait().unwrap()) {
                panic!("the server ended ({status}):\n{}", self.log());
            }
        }
        panic!("the server takes no connections:\n{}", self.log());
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.home.path().join("log")).unwrap_or_default()
    }

    /// Ends all sessions and the server at once, without a checkpoint: what a crash looks like to clients, and what the
    /// next start has to recover from.
    pub async fn stop_immediately(&mut self) {
        self.stop(Signal::SIGQUIT).await;
    }

    /// Rolls back what is open, writes everything down and stops.
    pub async fn stop_fast(&mut self) {
        self.stop(Signal::SIGINT).await;
    }

    async fn stop(&mut self, signal: Signal) {
        let mut postmaster = self.postmaster.take().unwrap();
        kill(Pid::from_raw(postmaster.id().unwrap().try_into().unwrap()), signal).unwrap();
        postmaster.wait().await.unwrap();
    }

    /// Kills the process behind one session. The server takes that for a corruption of its memory, ends every other
    /// session too, and recovers as after a crash.
    pub async fn crash(&mut self) {
        let mut connection = PgConnection::connect(&self.server().url).await.unwrap();
        let backend: i32 = sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(&mut connection).await.unwrap();
        kill(Pid::from_raw(backend), Signal::SIGKILL).unwrap();
        let ended = sqlx::query("SELECT pg_sleep(60)").execute(&mut connection).await;
        assert!(ended.is_err(), "the session died");
        self.ready().await;
    }

    /// Stops all its processes where they are, as a machine does that stands still. Connections stay open.
    pub fn freeze(&self) {
        self.signal_all(Signal::SIGSTOP);
    }

    /// Lets them go on.
    pub fn thaw(&self) {
        self.signal_all(Signal::SIGCONT);
    }

    fn signal_all(&self, signal: Signal) {
        let postmaster = self.postmaster.as_ref().and_then(Child::id).unwrap();
        // The postmaster is first stopped and last continued, so that it starts no process in between.
        let children = std::fs::read_to_string(format!("/proc/{postmaster}/task/{postmaster}/children")).unwrap();
        let children = children.split_whitespace().map(|id| id.parse::<u32>().unwrap());
        let mut all: Vec<u32> = std::iter::once(postmaster).chain(children).collect();
        if signal == Signal::SIGCONT {
            all.reverse();
        }
        for id in all {
            kill(Pid::from_raw(id.try_into().unwrap()), signal).ok();
        }
    }

    /// Runs a statement as superuser, outside of any test database.
    pub async fn execute(&self, sql: &str) {
        let mut connection = PgConnection::connect(&self.server().url).await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
    }

    /// Changes a setting for all sessions, those that exist too.
    pub async fn configure(&self, setting: &str, value: &str) {
        self.execute(&format!("ALTER SYSTEM SET {setting} = {value}")).await;
        self.execute("SELECT pg_reload_conf()").await;
    }

    /// A second server that follows this one through `line`, and that every durable commit here waits for from now on.
    pub async fn synchronous_standby(&self, line: &Proxy) -> Cluster {
        let mut standby = Cluster::unborn();
        let follow = format!("host=127.0.0.1 port={} user=postgres application_name=standby", line.port());
        let data = standby.data();
        let data = data.to_str().unwrap();
        run("pg_basebackup", &["-D", data, "-d", &follow, "-R", "-X", "stream", "--checkpoint=fast", "--no-sync"])
            .await;
        standby.start_again().await;
        self.configure("synchronous_standby_names", "'FIRST 1 (standby)'").await;
        self.until("SELECT EXISTS (SELECT FROM pg_stat_replication WHERE sync_state = 'sync')").await;
        standby
    }

    /// Makes a standby take writes.
    pub async fn promote(&self) {
        self.execute("SELECT pg_promote()").await;
        self.until("SELECT NOT pg_is_in_recovery()").await;
    }

    async fn until(&self, condition: &str) {
        let mut connection = PgConnection::connect(&self.server().url).await.unwrap();
        let mut look = tokio::time::interval(Duration::from_millis(10));
        for _ in 0..3_000 {
            look.tick().await;
            if sqlx::query_scalar(AssertSqlSafe(condition)).fetch_one(&mut connection).await.unwrap() {
                return;
            }
        }
        panic!("waited half a minute for: {condition}\n{}", self.log());
    }
}

impl Drop for Cluster {
    /// SIGQUIT lets the postmaster end its children; a kill would leave them behind.
    fn drop(&mut self) {
        let Some(postmaster) = &mut self.postmaster else { return };
        let Some(id) = postmaster.id() else { return };
        kill(Pid::from_raw(id.try_into().unwrap()), Signal::SIGCONT).ok();
        kill(Pid::from_raw(id.try_into().unwrap()), Signal::SIGQUIT).ok();
        while let Ok(None) = postmaster.try_wait() {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// One of Postgres' programs, as a user that Postgres agrees to run as.
fn unprivileged(program: &str, setpriv: &[&str]) -> Command {
    let programs = std::env::var("POSTGRES_BIN").expect("POSTGRES_BIN is not set: run the tests by scripts/test");
    let mut command = Command::new("setpriv");
    if nix::unistd::geteuid().is_root() {
        let user = user();
        let group = user.gid.to_string();
        command.args(["--reuid", &user.name, "--regid", &group, "--clear-groups"]);
    }
    command.args(setpriv).arg("--").arg(Path::new(&programs).join(program)).current_dir("/tmp");
    command
}

async fn run(program: &str, arguments: &[&str]) {
    let output = unprivileged(program, &["--no-new-privs"]).args(arguments).output().await.unwrap();
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Whom the servers of root run as.
fn user() -> nix::unistd::User {
    let known = ["postgres", "nobody"].into_iter().find_map(|name| nix::unistd::User::from_name(name).unwrap());
    known.expect("a user to run Postgres as")
}

/// Gives a directory to the user that the servers run as.
pub fn own(directory: &Path) {
    if nix::unistd::geteuid().is_root() {
        std::os::unix::fs::chown(directory, Some(user().uid.as_raw()), None).unwrap();
    }
}

/// A port that is free now, below those that the kernel hands out to outgoing connections, so that it is still free when
/// a server comes back to it.
fn free_port() -> u16 {
    loop {
        let port = fastrand::u16(10_000..20_000);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
