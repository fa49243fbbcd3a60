//! Gives each test a database of its own, copied from one that was migrated once.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use postcall::store::Store;
use postcall::store::claim::Ask;
use postcall::store::dispatchers::{Newcomer, Registering, Standing};
use postcall::store::session::Session;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool};
use uuid::Uuid;

use super::tools;

/// A server on which databases can be made.
pub struct Server {
    /// The URL of one of its databases, for a superuser.
    pub url: String,
}

impl Server {
    /// The private server that `scripts/test` started.
    fn shared() -> Server {
        Server { url: std::env::var("DATABASE_URL").expect("DATABASE_URL is not set: run the tests by scripts/test") }
    }

    /// The URL of one of its databases.
    fn url_of(&self, database: &str) -> String {
        let (host, _) = self.url.rsplit_once('/').expect("the server's URL ends in /database");
        format!("{host}/{database}")
    }

    /// Makes a database. `how` is the end of the statement.
    async fn create(&self, name: &str, how: &str) {
        let options: PgConnectOptions = self.url.parse().unwrap();
        let mut connection = PgConnection::connect_with(&options).await.unwrap();
        let sql = format!("CREATE DATABASE {name} {how}");
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
    }
}

/// A migrated, empty database: on the private server that `scripts/test` started, or on one of the test's own.
pub struct Database {
    /// As `DATABASE_URL` for processes.
    pub url: String,
    /// For the test's own SQL, as a superuser.
    pub pool: PgPool,
    /// The code under test.
    pub store: Store,
}

impl Database {
    /// A migrated database.
    pub async fn new() -> Database {
        Database::copy_of(template()).await
    }

    /// A database without postcall's schema.
    pub async fn empty() -> Database {
        Database::copy_of("template0").await
    }

    /// A database with the migrations up to `version` only, as an earlier release left it.
    pub async fn at_version(version: u64) -> Database {
        let database = Database::empty().await;
        let output = std::process::Command::new(tools::sqlx())
            .args(["migrate", "run", "--target-version", &version.to_string()])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .env("DATABASE_URL", &database.url)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        database
    }

    /// The URL of a database without postcall's schema, created as the end of the statement says.
    pub async fn created(how: &str) -> String {
        let (server, name) = (Server::shared(), new_name());
        server.create(&name, how).await;
        server.url_of(&name)
    }

    async fn copy_of(template: &str) -> Database {
        let (server, name) = (Server::shared(), new_name());
        server.create(&name, &format!("TEMPLATE {template}")).await;
        Database::at(server.url_of(&name)).await
    }

    /// A new migrated database on `server`. `how` is the end of the statement that creates it.
    pub async fn on(server: &Server, how: &str) -> Database {
        server.create("postcall", how).await;
        let database = Database::at(server.url_of("postcall")).await;
        database.store.migrate().await.unwrap();
        database
    }

    /// A database that exists already.
    pub async fn at(url: String) -> Database {
        let pool = PgPoolOptions::new().max_connections(16).connect(&url).await.unwrap();
        let store = Store::connect(&url, 8).await.unwrap();
        Database { url, pool, store }
    }

    /// A session of the code under test.
    pub fn session(&self) -> Session {
        self.store.session(Duration::from_secs(30))
    }

    /// A user who can log in and has these roles, and nothing else. The URL by which to log in.
    pub async fn login(&self, roles: &[&str]) -> String {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        // Users belong to the whole server, which other tests use at the same time.
        let name = format!("user_{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        self.execute(&format!("CREATE ROLE {name} LOGIN")).await;
        for role in roles {
            self.execute(&format!("GRANT {role} TO {name}")).await;
        }
        let (_, place) = self.url.split_once('@').expect("the URL names a user");
        format!("postgres://{name}@{place}")
    }

    /// A connection as a new user with these roles.
    pub async fn connect_as(&self, roles: &[&str]) -> PgConnection {
        PgConnection::connect(&self.login(roles).await).await.unwrap()
    }

    /// Registers a dispatcher that no process runs, and returns its id.
    pub async fn register(session: &mut Session) -> i32 {
        let policy = postcall::domain::policy::Policy::default();
        let (lease, standing) = (Duration::from_secs(600), Standing::BeforeAll);
        let newcomer = Newcomer { name: "test", version: "0", lease, policy: &policy, standing };
        match session.register(newcomer).await.unwrap() {
            Registering::Registered { dispatcher_id, .. } => dispatcher_id,
            Registering::StandsBack(others) => panic!("{others:?}"),
        }
    }

    /// Runs statements, for their effect.
    pub async fn execute(&self, sql: &str) {
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&self.pool).await.unwrap();
    }

    /// Runs one statement and returns its error's message.
    pub async fn error_of(&self, sql: &str) -> String {
        let error = sqlx::raw_sql(AssertSqlSafe(sql)).execute(&self.pool).await.expect_err(sql);
        error.as_database_error().expect("an error of the database").message().to_owned()
    }

    /// Runs an insert into history with a single one of its named CHECK constraints in force, and returns the refusal.
    pub async fn error_with_only(&self, constraint: &str, insert: &str) -> String {
        let others: Vec<String> = sqlx::query_scalar(
            "SELECT format('ALTER TABLE postcall.delivery DROP CONSTRAINT %I', conname) FROM pg_constraint
             WHERE conrelid = 'postcall.delivery'::regclass AND contype = 'c' AND conname <> $1",
        )
        .bind(constraint)
        .fetch_all(&self.pool)
        .await
        .unwrap();
        // The failure rolls the whole script back, the constraints with it.
        let script = format!("{}; {insert}; SELECT 1/0", others.join("; "));
        let error = sqlx::raw_sql(AssertSqlSafe(script)).execute(&self.pool).await.expect_err(insert);
        error.as_database_error().expect("an error of the database").message().to_owned()
    }

    /// One number.
    pub async fn number(&self, sql: &str) -> i64 {
        sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&self.pool).await.unwrap()
    }

    /// One text.
    pub async fn text(&self, sql: &str) -> Option<String> {
        sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&self.pool).await.unwrap()
    }

    /// The name of each table and view but the calls', and its rows as text, encrypted columns in hexadecimal.
    pub async fn tables(&self) -> Vec<(String, String)> {
        let names =
            "SELECT relname::text FROM pg_class WHERE relnamespace = 'postcall'::regnamespace AND relkind IN ('r', 'v')
                     AND relname !~ '^outbox' ORDER BY 1";
        let names: Vec<String> = sqlx::query_scalar(names).fetch_all(&self.pool).await.unwrap();
        let mut tables = Vec::new();
        for name in names {
            let rows = self.text(&format!("SELECT string_agg(t::text, E'\\n') FROM postcall.{name} AS t")).await;
            tables.push((name, rows.unwrap_or_default()));
        }
        tables
    }

    /// Publishes an action from its file's JSON.
    pub async fn publish(&self, agent: &str, name: &str, file: &serde_json::Value) {
        let file = postcall::domain::action_file::ActionFile::parse(&file.to_string()).unwrap();
        self.store.publish_action(agent, name, &file.spec, file.enabled, "the test").await.unwrap();
    }

    /// Inserts a call as the platform does, and returns its id.
    pub async fn insert_call(&self, agent: &str, call: &serde_json::Value) -> Uuid {
        sqlx::query_scalar("INSERT INTO postcall.outbox (agent, call) VALUES ($1, $2::text::json) RETURNING id")
            .bind(agent)
            .bind(call.to_string())
            .fetch_one(&self.pool)
            .await
            .unwrap()
    }

    /// Waits until nothing waits and nothing is in flight.
    pub async fn settled(&self) {
        self.until("SELECT NOT EXISTS (SELECT FROM postcall.waiting) AND NOT EXISTS (SELECT FROM postcall.sending)")
            .await;
    }

    /// Waits until a condition, asked of the database, holds.
    pub async fn until(&self, condition: &str) {
        let mut look = tokio::time::interval(Duration::from_millis(10));
        for _ in 0..6_000 {
            look.tick().await;
            let holds: bool = sqlx::query_scalar(AssertSqlSafe(condition)).fetch_one(&self.pool).await.unwrap();
            if holds {
                return;
            }
        }
        panic!("waited a minute for: {condition}");
    }
}

fn new_name() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("test_{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// The migrated database that others are copied from, made by whichever test comes first, unless `POSTCALL_TEST_TEMPLATE` names one.
fn template() -> &'static str {
    static TEMPLATE: OnceLock<String> = OnceLock::new();
    TEMPLATE.get_or_init(|| {
        if let Ok(name) = std::env::var("POSTCALL_TEST_TEMPLATE") {
            return name;
        }
        // A thread, because the test that comes first already runs inside a runtime.
        std::thread::spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let name = format!("template_{}", std::process::id());
                let server = Server::shared();
                server.create(&name, "TEMPLATE template0").await;
                let store = Store::connect(&server.url_of(&name), 1).await.unwrap();
                store.migrate().await.unwrap();
                store.close().await;
                name
            })
        })
        .join()
        .unwrap()
    })
}

/// What a claim asks the lane of the first action of a database for.
pub fn first_lane(deliveries: usize) -> [Ask; 1] {
    [Ask { action_id: 1, deliveries, after: Uuid::nil() }]
}
