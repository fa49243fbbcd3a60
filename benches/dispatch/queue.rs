//! Measures whether a claim costs the same with a short and a long queue.

use std::time::{Duration, Instant};

use postcall::domain::policy::Policy;
use postcall::store::claim::{Ask, Claimant, Portion};
use postcall::store::dispatchers::{Newcomer, Registering, Standing};
use postcall::store::session::Session;
use uuid::Uuid;

use crate::database::Database;
use crate::print::{chapter, figure, note, percentile, rounded};

/// How many deliveries one claim takes.
const CLAIM: usize = 64;
/// How many claims are timed for one figure.
const CLAIMS: usize = 100;
/// How many rows the short queue has. All of them are claimed, so the queue is empty at the end.
const SHORT: i64 = (CLAIM * CLAIMS) as i64;
/// How many deliveries are claimed under a held snapshot, in claims of [`LARGE_CLAIM`].
const CLAIMED_BEFORE: i64 = 100_000;
const LARGE_CLAIM: usize = 500;
/// The statement timeout, which is longer than any statement here takes.
const PATIENCE: Duration = Duration::from_secs(60);
/// How many claims are made before the queue is filled, so that the server keeps one plan from then on.
const HABIT: usize = 10;

/// Measures and prints all figures of this subject.
pub async fn measure(long: i64) {
    chapter("The queue: milliseconds of a claim of 64, its commit included, without payloads");
    note("The session has claimed from an empty queue before, so its plan was made for one; no ANALYZE in between.");
    for (what, rows) in [("a short queue", SHORT), ("a long queue", long)] {
        let database = Database::new("bench_queue").await;
        let mut claimer = Claimer::start(&database).await;
        claimer.time(HABIT, 0).await;
        fill(&database, rows).await;
        let first = claimer.time(1, CLAIM).await[0];
        let mut rest = claimer.time(CLAIMS - 1, CLAIM).await;
        figure(&format!("{what} of {rows}: the first claim"), rounded(first), "ms");
        let [median, most] = [0.5, 1.0].map(|share| rounded(percentile(&mut rest, share)));
        figure(
            &format!("{what} of {rows}: the median of 99 more (and the longest)"),
            format!("{median} ({most})"),
            "ms",
        );
        if rows == long {
            database.execute("VACUUM ANALYZE postcall.waiting").await;
            let mut again = claimer.time(CLAIMS, CLAIM).await;
            figure("the same after VACUUM ANALYZE, median", rounded(percentile(&mut again, 0.5)), "ms");
        }
        database.close().await;
    }
    held_snapshot().await;
}

/// Measures what a claim costs while vacuum cannot remove the rows of earlier claims.
async fn held_snapshot() {
    let database = Database::new("bench_queue").await;
    let mut claimer = Claimer::start(&database).await;
    fill(&database, CLAIMED_BEFORE + 2 * SHORT).await;
    figure("before, median", rounded(percentile(&mut claimer.time(CLAIMS, CLAIM).await, 0.5)), "ms");
    let mut report = database.pool.begin().await.unwrap();
    sqlx::query("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ").execute(&mut *report).await.unwrap();
    sqlx::query("SELECT FROM postcall.waiting LIMIT 1").execute(&mut *report).await.unwrap();
    for _ in 0..CLAIMED_BEFORE / LARGE_CLAIM as i64 {
        claimer.claim(LARGE_CLAIM).await;
    }
    let what = format!("after {CLAIMED_BEFORE} claimed under a snapshot that somebody holds, median");
    figure(&what, rounded(percentile(&mut claimer.time(CLAIMS / 2, CLAIM).await, 0.5)), "ms");
    report.rollback().await.unwrap();
    claimer.time(2, CLAIM).await;
    let what = "when it has been let go, before any vacuum, median";
    figure(what, rounded(percentile(&mut claimer.time(CLAIMS / 4, CLAIM).await, 0.5)), "ms");
    database.close().await;
}

/// Inserts `rows` waiting deliveries of one agent, whose calls do not exist.
async fn fill(database: &Database, rows: i64) {
    database
        .execute(&format!(
            "INSERT INTO postcall.action (agent, name, enabled, version) VALUES ('agent', 'default', true, 1);
             INSERT INTO postcall.action_version (action_id, version, method, url, timeout_ms)
             VALUES (1, 1, 'GET', 'https://receiver.example/', 1000);
             INSERT INTO postcall.waiting (delivery_id, call_id, agent, action_id, created_at)
             SELECT postcall.uuid_v7(), gen_random_uuid(), 'agent', 1, now() FROM generate_series(1, {rows});
             CHECKPOINT"
        ))
        .await;
}

/// The id of the first agent's action.
const FIRST_LANE: i64 = 1;

/// Makes claims like a dispatcher's claimer, but attempts nothing.
struct Claimer {
    session: Session,
    claimant: Claimant,
}

impl Claimer {
    async fn start(database: &Database) -> Claimer {
        let mut session = database.store.session(PATIENCE);
        let (policy, standing) = (Policy::default(), Standing::BeforeAll);
        let newcomer = Newcomer { name: "bench", version: "0", lease: PATIENCE * 60, policy: &policy, standing };
        let Registering::Registered { dispatcher_id, .. } = session.register(newcomer).await.unwrap() else {
            panic!("nobody stands before it")
        };
        Claimer { session, claimant: Claimant { dispatcher_id, epoch: 1 } }
    }

    async fn claim(&mut self, limit: usize) -> usize {
        let lane = [Ask { action_id: FIRST_LANE, deliveries: limit, after: Uuid::nil() }];
        self.session.claim(self.claimant, Uuid::now_v7(), &lane, Portion::UNBOUNDED).await.unwrap().claimed.len()
    }

    /// The milliseconds of each of `count` claims. Each claim must find `found` deliveries.
    async fn time(&mut self, count: usize, found: usize) -> Vec<f64> {
        let mut times = Vec::with_capacity(count);
        for _ in 0..count {
            let started = Instant::now();
            let claimed = self.claim(CLAIM).await;
            times.push(started.elapsed().as_secs_f64() * 1_000.0);
            assert_eq!(claimed, found);
        }
        times
    }
}
