//! What the platform and the dispatchers notice while full partitions leave.

use std::time::{Duration, Instant};

use postcall::dispatcher::retention::{Outcome, PRUNING_PATIENCE, prune};
use postcall::domain::retention::{Days, Retention};
use postcall::store::retention::What;
use sqlx::AssertSqlSafe;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::calls;
use crate::database::Database;
use crate::print::{chapter, figure, note, rounded};

/// Sessions that insert, and sessions that claim.
const WRITERS: usize = 4;
const CLAIMERS: usize = 2;
/// Full partitions that leave, one after the other.
const WEEKS: i64 = 4;
/// What one claim takes: its share in what is inserted meanwhile, so that the queue keeps its length.
const CLAIM: &str = "WITH taken AS (DELETE FROM postcall.waiting WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM postcall.waiting WHERE delivery_id > postcall.uuid_v7_floor(now() - interval '1 hour')
        ORDER BY delivery_id LIMIT 2 FOR UPDATE SKIP LOCKED)) RETURNING call_id)
    SELECT (SELECT octet_length(call::text) FROM postcall.outbox WHERE id = taken.call_id) FROM taken";

/// Measures and prints.
pub async fn measure(calls_in_each: usize, waiting: i64, seconds: u64) {
    chapter("What is noticed while full partitions of calls leave");
    let database = Database::new("bench_prune").await;
    database.publish("https://receiver.example/").await;
    let bytes = fill(&database, calls_in_each, waiting).await;
    note(&format!("{WEEKS} partitions of {calls_in_each} calls, {bytes:.0} MB together; {waiting} deliveries wait."));
    let turn = Duration::from_secs(seconds);
    let quiet = Load::start(&database);
    tokio::time::sleep(turn).await;
    let quiet = quiet.stop().await;
    let busy = Load::start(&database);
    let took = let_go(&database).await;
    let busy = busy.stop().await;
    for (what, quiet, busy) in [("insert", &quiet.0, &busy.0), ("claim", &quiet.1, &busy.1)] {
        let name = format!("longest {what}, of {} without and {} with pruning", quiet.len(), busy.len());
        let longest = |waits: &[Duration]| rounded(waits.iter().max().map_or(0.0, Duration::as_secs_f64) * 1_000.0);
        figure(&name, format!("{} and {}", longest(quiet), longest(busy)), "ms");
    }
    figure("all partitions together took", rounded(took.as_secs_f64() * 1_000.0), "ms");
    database.close().await;
}

/// Makes old partitions, fills them, and a queue. How many MB the partitions have.
async fn fill(database: &Database, calls_in_each: usize, waiting: i64) -> f64 {
    let text = calls::nth(&calls::all(), 0);
    database
        .execute(&format!(
            "DO $$ DECLARE week timestamptz; BEGIN
                 FOR n IN 0..{WEEKS} - 1 LOOP
                     week := '2025-06-02Z'::timestamptz + n * interval '7 days';
                     EXECUTE format('CREATE TABLE postcall.%I PARTITION OF postcall.outbox FOR VALUES FROM (%L) TO (%L)',
                         'outbox_old_' || n, postcall.uuid_v7_floor(week), postcall.uuid_v7_floor(week + interval '7 days'));
                 END LOOP;
             END $$;
             INSERT INTO postcall.waiting (delivery_id, call_id, agent, action_id, created_at)
             SELECT postcall.uuid_v7(), postcall.uuid_v7(), 'a', 1, now() FROM generate_series(1, {waiting})"
        ))
        .await;
    sqlx::query(
        "INSERT INTO postcall.outbox (id, agent, call)
         SELECT overlay(gen_random_uuid()::text PLACING left(postcall.uuid_v7_floor(
                    '2025-06-03Z'::timestamptz + week * interval '7 days' + n * interval '1 ms')::text, 14) FROM 1 FOR 14)::uuid,
                'nobody', $3::text::json
         FROM generate_series(0, $1 - 1) AS week, generate_series(1, $2) AS n",
    )
    .bind(WEEKS)
    .bind(i64::try_from(calls_in_each).unwrap())
    .bind(text)
    .execute(&database.pool)
    .await
    .unwrap();
    // What autovacuum would do at once, and then hold them.
    database.execute("VACUUM (FREEZE, ANALYZE) postcall.outbox").await;
    database
        .number("SELECT sum(pg_total_relation_size(oid)) / 1e6 FROM pg_class WHERE relname ~ '^outbox_old_' AND relkind = 'r'")
        .await
}

/// Lets all old partitions go; how long that took.
async fn let_go(database: &Database) -> Duration {
    let retention = Retention::new("30".parse().unwrap(), Days::default()).unwrap();
    let began = Instant::now();
    let mut left = 0;
    let mut session = database.store.session(PRUNING_PATIENCE);
    let pruned = prune(&mut session, retention, |_, planned, outcome| {
        left += i64::from(outcome == Outcome::Left(None) && planned.is_some_and(|planned| planned.what == What::Calls));
    });
    pruned.await.unwrap();
    assert_eq!(left, WEEKS, "not all partitions have left");
    began.elapsed()
}

/// Sessions that insert and claim as fast as they can.
struct Load {
    stop: CancellationToken,
    writers: Vec<JoinHandle<Vec<Duration>>>,
    claimers: Vec<JoinHandle<Vec<Duration>>>,
}

impl Load {
    fn start(database: &Database) -> Load {
        let stop = CancellationToken::new();
        let insert = format!("INSERT INTO postcall.outbox (agent, call) VALUES ('{}', '{{}}')", calls::agent(0));
        let writers = (0..WRITERS).map(|_| repeated(database, &stop, insert.clone())).collect();
        let claimers = (0..CLAIMERS).map(|_| repeated(database, &stop, CLAIM.to_owned())).collect();
        Load { stop, writers, claimers }
    }

    /// How long each insert and each claim took.
    async fn stop(self) -> (Vec<Duration>, Vec<Duration>) {
        self.stop.cancel();
        let (mut inserts, mut claims) = (Vec::new(), Vec::new());
        for writer in self.writers {
            inserts.extend(writer.await.unwrap());
        }
        for claimer in self.claimers {
            claims.extend(claimer.await.unwrap());
        }
        (inserts, claims)
    }
}

fn repeated(database: &Database, stop: &CancellationToken, sql: String) -> JoinHandle<Vec<Duration>> {
    let (pool, stop) = (database.pool.clone(), stop.clone());
    tokio::spawn(async move {
        let mut connection = pool.acquire().await.unwrap();
        let mut waits = Vec::new();
        while !stop.is_cancelled() {
            let began = Instant::now();
            sqlx::query(AssertSqlSafe(sql.clone())).execute(&mut *connection).await.unwrap();
            waits.push(began.elapsed());
        }
        waits
    })
}
