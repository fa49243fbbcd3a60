//! Gives each subject a database of its own, and reads the server's counters.

use std::ops::Range;

use postcall::store::Store;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool, Postgres, Transaction};

use crate::calls;
use crate::lanes::{Body, Lane};
use crate::process::{self, Program};

/// How many calls one statement inserts while a queue is filled.
const FILL_BATCH: usize = 500;
/// How many calls one statement inserts if the server makes the calls.
const PILE_BATCH: usize = 50_000;

/// A migrated database on the server that `scripts/bench` started.
pub struct Database {
    /// The URL, for other processes.
    pub url: String,
    /// Connections for the benchmark's own SQL.
    pub pool: PgPool,
    /// postcall's own store, which is measured.
    pub store: Store,
}

/// The server's counters. Sessions report to them when they end, or after about a second.
#[derive(Clone, Copy)]
pub struct Counters {
    /// Bytes of WAL of the whole server.
    pub wal_bytes: i64,
    /// Full pages in the WAL. A page is written in full when it changes for the first time after a checkpoint.
    pub full_pages: i64,
    /// Transactions of this database, pings included.
    pub transactions: i64,
}

impl Database {
    /// An empty database called `name`, with the schema of this build. An existing one with that name is dropped.
    pub async fn new(name: &str) -> Database {
        Database::of(Program::candidate(), name).await
    }

    /// An empty database called `name`, with the schema of `program`.
    pub async fn of(program: &Program, name: &str) -> Database {
        let server = server_url();
        let mut connection = PgConnection::connect(&server).await.unwrap();
        for sql in [format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"), format!("CREATE DATABASE {name}")] {
            sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
        }
        let url = format!("{}/{name}", server.rsplit_once('/').expect("DATABASE_URL ends in /database").0);
        program.migrate(&url).await;
        Database::at(&url).await
    }

    /// A database that exists.
    pub async fn at(url: &str) -> Database {
        let options: PgConnectOptions = url.parse().unwrap();
        let pool = PgPoolOptions::new()
            .min_connections(8)
            .max_connections(16)
            .test_before_acquire(false)
            .connect_with(options)
            .await
            .unwrap();
        let store = Store::connect(url, 1).await.unwrap();
        Database { url: url.to_owned(), pool, store }
    }

    /// Publishes one action for each of the usual agents. All actions send to `url`.
    pub async fn publish(&self, url: &str) {
        let lane = |number| Lane { agent: calls::agent_of(number), url: url.to_owned(), body: Body::Rendered };
        self.publish_lanes(&(0..calls::AGENTS).map(lane).collect::<Vec<_>>()).await;
    }

    /// Publishes the actions of all these lanes. It does so by SQL, which is the same for every release, and takes a
    /// second for ten thousand.
    pub async fn publish_lanes(&self, lanes: &[Lane]) {
        let agents: Vec<&str> = lanes.iter().map(|lane| lane.agent.as_str()).collect();
        let urls: Vec<&str> = lanes.iter().map(|lane| lane.url.as_str()).collect();
        let bodies: Vec<Option<&str>> =
            lanes.iter().map(|lane| (lane.body == Body::Rendered).then_some(calls::BODY)).collect();
        sqlx::query(
            "WITH published AS (
                 INSERT INTO postcall.action (agent, name, enabled, version)
                 SELECT agent, 'default', true, 1 FROM unnest($1::text[]) AS lane (agent)
                 RETURNING agent, action_id)
             INSERT INTO postcall.action_version (action_id, version, method, url, timeout_ms, headers, body)
             SELECT action_id, 1, 'POST', url, $4, $5, body
             FROM unnest($1::text[], $2::text[], $3::text[]) AS lane (agent, url, body) JOIN published USING (agent)",
        )
        .bind(agents)
        .bind(urls)
        .bind(bodies)
        .bind(i32::try_from(calls::TIMEOUT_MS).unwrap())
        .bind(calls::HEADERS)
        .execute(&self.pool)
        .await
        .unwrap();
    }

    /// Commits `count` small calls of the usual agents at once.
    pub async fn fill(&self, count: usize) {
        self.inserted_calls(count).await.commit().await.unwrap();
    }

    /// Commits the calls of these numbers at once, one for each agent in turn.
    pub async fn fill_with(&self, numbers: Range<usize>, agents: &[String], texts: &[String]) {
        self.inserted(numbers, agents, texts).await.commit().await.unwrap();
    }

    /// Inserts `count` small calls of the usual agents. They arrive with the commit of what is returned.
    pub async fn inserted_calls(&self, count: usize) -> Transaction<'static, Postgres> {
        let agents: Vec<String> = (0..calls::AGENTS).map(calls::agent_of).collect();
        self.inserted(0..count, &agents, &calls::all()).await
    }

    async fn inserted(
        &self,
        numbers: Range<usize>,
        agents: &[String],
        texts: &[String],
    ) -> Transaction<'static, Postgres> {
        let mut transaction = self.pool.begin().await.unwrap();
        for start in numbers.clone().step_by(FILL_BATCH) {
            let range = start..numbers.end.min(start + FILL_BATCH);
            let whose: Vec<&str> = range.clone().map(|index| agents[index % agents.len()].as_str()).collect();
            let batch: Vec<String> = range.map(|index| calls::nth(texts, index)).collect();
            sqlx::query(
                "INSERT INTO postcall.outbox (agent, call)
                 SELECT agent, call::json FROM unnest($1::text[], $2::text[]) AS new_call (agent, call)",
            )
            .bind(whose)
            .bind(batch)
            .execute(&mut *transaction)
            .await
            .unwrap();
        }
        transaction
    }

    /// Commits the calls of these numbers, of some 130 bytes each, one for each of the first `agents` agents in turn.
    /// The server makes their texts, so this can be used for millions of calls. Each portion is a transaction of its
    /// own.
    pub async fn pile(&self, numbers: Range<usize>, agents: usize) {
        for start in numbers.clone().step_by(PILE_BATCH) {
            let end = numbers.end.min(start + PILE_BATCH) - 1;
            self.execute(&format!(
                "INSERT INTO postcall.outbox (agent, call)
                 SELECT 'agent_' || lpad((n % {agents})::text, 5, '0'),
                        format('{{\"callInfo\":{{\"callSid\":\"CA%s%s\",\"from\":\"+15551234567\"}},\"outcome\":\"qualified\"}}',
                               left(md5(n::text), 16), lpad(to_hex(n), 16, '0'))::json
                 FROM generate_series({start}, {end}) AS n"
            ))
            .await;
        }
    }

    /// Runs statements for their effect.
    pub async fn execute(&self, sql: &str) {
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&self.pool).await.unwrap();
    }

    /// Removes everything from `waiting`, and vacuums it. It uses DELETE, because `waiting` refuses TRUNCATE.
    pub async fn empty_queue(&self) {
        self.execute("DELETE FROM postcall.waiting").await;
        self.execute("VACUUM postcall.waiting").await;
    }

    /// The number that a query returns.
    pub async fn number(&self, sql: &str) -> f64 {
        let sql = format!("SELECT ({sql})::float8");
        sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&self.pool).await.unwrap()
    }

    /// The number that a query returns. `None` if the tables of this release cannot answer the query.
    pub async fn number_if_known(&self, sql: &str) -> Option<f64> {
        let sql = format!("SELECT ({sql})::float8");
        sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&self.pool).await.ok()
    }

    /// Waits until history holds `count` deliveries.
    pub async fn has_recorded(&self, count: usize) {
        for _ in 0..3_000 {
            if self.number("SELECT count(*) FROM postcall.delivery").await >= count as f64 {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        panic!("LOST: not all of {count} deliveries were recorded");
    }

    /// Checks that every committed call and action is in exactly one state, `delivered`.
    pub async fn assert_all_delivered(&self, count: usize) {
        // The view is used because it is the same for every release, whatever the tables look like.
        let delivered = self.number("SELECT count(*) FROM postcall.delivery_history WHERE state = 'delivered'").await;
        let open =
            self.number("(SELECT count(*) FROM postcall.waiting) + (SELECT count(*) FROM postcall.sending)").await;
        assert_eq!((delivered, open), (count as f64, 0.0), "LOST: delivered, and still open");
    }

    /// Checks that every committed call and action is in exactly one state, whichever it is.
    pub async fn assert_accounted_for(&self, count: usize) {
        let seen = self.number("SELECT count(*) FROM postcall.delivery_history").await;
        assert_eq!(seen, count as f64, "LOST: waiting, in flight and over");
    }

    /// The counters now.
    pub async fn counters(&self) -> Counters {
        let (wal_bytes, full_pages, transactions) = sqlx::query_as(
            "SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint, (SELECT wal_fpi FROM pg_stat_wal),
                    (SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database())",
        )
        .fetch_one(&self.pool)
        .await
        .unwrap();
        Counters { wal_bytes, full_pages, transactions }
    }

    /// The CPU seconds of the server's processes that are alive now.
    pub async fn cpu_seconds(&self) -> f64 {
        let pids: Vec<i32> =
            sqlx::query_scalar("SELECT pid FROM pg_stat_activity").fetch_all(&self.pool).await.unwrap();
        pids.into_iter().map(|pid| process::cpu_seconds(pid.try_into().unwrap())).sum()
    }

    /// Switches autovacuum on or off, for the whole server.
    pub async fn set_autovacuum(&self, on: bool) {
        for statement in [format!("ALTER SYSTEM SET autovacuum = {on}"), "SELECT pg_reload_conf()".to_owned()] {
            self.execute(&statement).await;
        }
    }

    /// The CPU seconds of the whole server, with those of its processes that have ended.
    pub async fn server_cpu_seconds(&self) -> f64 {
        let pid = self.number("SELECT split_part(pg_read_file('postmaster.pid'), E'\\n', 1)::integer").await;
        self.cpu_seconds().await + process::cpu_seconds_of_ended_children(pid as u32)
    }

    /// Closes the connections, so that the next subject is alone.
    pub async fn close(self) {
        self.store.close().await;
        self.pool.close().await;
    }
}

/// The server and the settings that the figures depend on.
pub async fn describe_server() -> String {
    let mut connection = PgConnection::connect(&server_url()).await.unwrap();
    sqlx::query_scalar(
        "SELECT format('PostgreSQL %s, fsync %s, synchronous_commit %s, full_page_writes %s, shared_buffers %s',
                       current_setting('server_version'), current_setting('fsync'),
                       current_setting('synchronous_commit'), current_setting('full_page_writes'),
                       current_setting('shared_buffers'))",
    )
    .fetch_one(&mut connection)
    .await
    .unwrap()
}

fn server_url() -> String {
    std::env::var("DATABASE_URL").expect("DATABASE_URL is not set: run the benchmark by scripts/bench")
}
