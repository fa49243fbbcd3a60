//! The database: a primary that crashes, and a synchronous standby that takes its place and is replaced by a new one.

use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection};

use crate::cluster::Cluster;
use crate::proxy::{End, Proxy};

/// The ways to the server that is the primary now, whichever it is.
#[derive(Clone)]
pub struct Ways {
    /// Of the dispatchers. Statements and answers are lost on it.
    pub dispatchers: Arc<Proxy>,
    /// Of the platform and of people.
    pub others: Arc<Proxy>,
}

impl Ways {
    pub fn dispatchers_url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postcall", self.dispatchers.port())
    }

    pub fn others_url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postcall", self.others.port())
    }

    /// A connection of the run's own. What it commits is on the standby before it is acknowledged.
    pub async fn connect(&self) -> Result<PgConnection, sqlx::Error> {
        let options: PgConnectOptions = self.others_url().parse()?;
        let options = options.application_name("torture").options([("synchronous_commit", "on")]);
        let connected = tokio::time::timeout(PATIENCE, options.disable_statement_logging().connect()).await;
        connected.unwrap_or_else(|_| Err(sqlx::Error::PoolTimedOut))
    }

    fn switch_to(&self, address: &str) {
        for way in [&self.dispatchers, &self.others] {
            way.switch_to(address);
            way.cut_all(End::Reset);
        }
    }
}

/// How long a connection may take to open.
const PATIENCE: Duration = Duration::from_secs(10);

/// The servers that run.
pub struct Servers {
    primary: Cluster,
    /// The standby, and the line by which it follows the primary.
    standby: Option<(Cluster, Proxy)>,
    pub ways: Ways,
}

impl Servers {
    /// A primary with an empty database.
    pub async fn start() -> Servers {
        let primary = Cluster::start().await;
        primary.execute("CREATE DATABASE postcall").await;
        // Postgres looks once a minute at what has to be vacuumed, and after a crash it has forgotten what it counted. These servers
        // stop every half a minute: nothing would ever be vacuumed, and every table would grow. A standby has this setting, too.
        primary.execute("ALTER SYSTEM SET autovacuum_naptime = '5s'").await;
        primary.execute("SELECT pg_reload_conf()").await;
        let address = primary.address();
        let (dispatchers, others) = (Proxy::to(&address).await, Proxy::of_bytes(&address).await);
        Servers { primary, standby: None, ways: Ways { dispatchers: dispatchers.into(), others: others.into() } }
    }

    /// Gives the primary a synchronous standby. Commits that do not ask for it do not wait for the standby from then on, so
    /// that whatever the promise needs has to ask for it.
    pub async fn follow(&mut self) {
        let line = Proxy::of_bytes(&self.primary.address()).await;
        let standby = self.primary.synchronous_standby(&line).await;
        self.primary.execute("ALTER DATABASE postcall SET synchronous_commit = local").await;
        self.standby = Some((standby, line));
    }

    /// The primary stops in one of three ways, and comes back with the data it has.
    pub async fn crash(&mut self, how: u8) -> &'static str {
        let how = match how % 3 {
            0 => {
                self.primary.crash().await;
                "a session of the server was killed, and it recovered"
            }
            1 => {
                self.primary.stop_fast().await;
                self.primary.start_again().await;
                "the server was stopped and started"
            }
            _ => {
                self.primary.stop_immediately().await;
                self.primary.start_again().await;
                "the server stopped at once and was started"
            }
        };
        if self.standby.is_some() {
            self.until("SELECT EXISTS (SELECT FROM pg_stat_replication WHERE sync_state = 'sync')", 30).await;
        }
        how
    }

    /// The standby's network goes silent, the primary dies, and the standby takes its place: whatever the primary alone
    /// knows is lost.
    pub async fn fail_over(&mut self) {
        let (standby, line) = self.standby.take().expect("there is a standby");
        line.hold_back(true);
        self.until("SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event = 'SyncRep')", 2).await;
        self.primary.stop_immediately().await;
        standby.promote().await;
        self.ways.switch_to(&standby.address());
        let old = std::mem::replace(&mut self.primary, standby);
        // Its files are deleted, which takes its time.
        tokio::task::spawn_blocking(move || drop((old, line)));
    }

    /// Waits until a condition holds, for so many seconds at most.
    async fn until(&self, condition: &str, seconds: u64) {
        let looks = async {
            let Ok(mut connection) = PgConnection::connect(&self.primary.url_of("postgres")).await else { return };
            let ask = || sqlx::query_scalar::<_, bool>(AssertSqlSafe(condition));
            while !ask().fetch_one(&mut connection).await.unwrap_or(true) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(seconds), looks).await.ok();
    }
}
