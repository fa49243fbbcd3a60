//! Tests dispatchers in which one worker fails, against a real server and a real receiver. The test replaces the work of
//! a worker by work that panics or returns. The program itself has no switch that makes a worker fail.

use std::panic::resume_unwind;
use std::sync::atomic::{AtomicU32, Ordering};

use axum::Router;
use axum::http::StatusCode;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::*;
use crate::domain::action_file::ActionFile;
use crate::webhook::Webhook;

/// How long a test waits for any event before it fails.
const PATIENCE: Duration = Duration::from_secs(30);
const PLACES: usize = 4;

/// A migrated database of a test's own, on the server that `scripts/test` started.
pub(super) struct Database {
    pub(super) store: Store,
    pub(super) connection: PgConnection,
}

impl Database {
    pub(super) async fn new() -> Database {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let server = std::env::var("DATABASE_URL").expect("DATABASE_URL is not set: run the tests by scripts/test");
        let name = format!("rooms_{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let mut admin = PgConnection::connect(&server).await.unwrap();
        let create = format!("CREATE DATABASE {name} TEMPLATE template0");
        sqlx::raw_sql(AssertSqlSafe(create)).execute(&mut admin).await.unwrap();
        let url = format!("{}/{name}", server.rsplit_once('/').unwrap().0);
        let store = Store::connect(&url, 2).await.unwrap();
        store.migrate().await.unwrap();
        Database { store, connection: PgConnection::connect(&url).await.unwrap() }
    }

    pub(super) async fn calls_for(&mut self, receiver: &Receiver, calls: usize) {
        let file = format!(r#"{{"method": "POST", "url": "{}"}}"#, receiver.url);
        let file = ActionFile::parse(&file).unwrap();
        self.store.publish_action("a", "default", &file.spec, true, "test").await.unwrap();
        for _ in 0..calls {
            let insert = "INSERT INTO postcall.outbox (agent, call) VALUES ('a', '{}')";
            sqlx::raw_sql(insert).execute(&mut self.connection).await.unwrap();
        }
    }

    pub(super) async fn states(&mut self) -> String {
        let states = "SELECT coalesce(string_agg(state || ' ' || n, ', ' ORDER BY state), '')
                      FROM (SELECT state, count(*) AS n FROM postcall.delivery_history GROUP BY state) AS states";
        sqlx::query_scalar(states).fetch_one(&mut self.connection).await.unwrap()
    }
}

/// Accepts requests, and answers them when it is told to.
pub(super) struct Receiver {
    url: String,
    requests: watch::Sender<usize>,
    answering: watch::Sender<bool>,
}

impl Receiver {
    pub(super) async fn holding() -> Receiver {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let (requests, answering) = (watch::Sender::new(0), watch::Sender::new(false));
        let (arrived, may_answer) = (requests.clone(), answering.clone());
        let router = Router::new().fallback(move || {
            arrived.send_modify(|count| *count += 1);
            let mut may_answer = may_answer.subscribe();
            async move {
                may_answer.wait_for(|answers| *answers).await.unwrap();
                StatusCode::OK
            }
        });
        tokio::spawn(async move { axum::serve(listener, router).await });
        Receiver { url, requests, answering }
    }

    async fn has(&self, count: usize) {
        let mut requests = self.requests.subscribe();
        in_time(requests.wait_for(|have| *have >= count)).await.unwrap();
    }

    fn answer_all(&self) {
        self.answering.send_replace(true);
    }
}

/// A dispatcher that has not begun, with its workers.
async fn prepared(database: &Database) -> (Dispatcher, Workers) {
    let allow_targets = vec!["127.0.0.0/8".parse().unwrap()];
    let targets = crate::webhook::TargetRules { allow_http: true, allow_targets, ..Default::default() };
    let webhook = crate::webhook::WebhookSettings { targets, ..Default::default() };
    let settings = DispatcherSettings {
        limits: Limits {
            in_flight: PLACES,
            per_agent: PLACES,
            per_host: PLACES,
            adapt: false,
            hold_unreachable: false,
        },
        max_unrecorded: 0,
        lease: Duration::from_secs(60),
        drain_timeout: PATIENCE,
        policy: webhook.targets.policy(),
        change_policy: false,
        max_call_bytes: DEFAULT_MAX_CALL_BYTES,
        max_bytes_in_flight: DEFAULT_MAX_BYTES_IN_FLIGHT,
        retention: Default::default(),
        keep_excerpts: Default::default(),
        keys: None,
        spans: None,
        sealing: None,
    };
    let seat = Seat::all(Webhook::new(webhook).unwrap(), settings.limits.clone(), 1).remove(0);
    let prepared =
        Dispatcher::prepare(&database.store, seat, settings, "test", StopTokens::default(), &Metrics::default()).await;
    prepared.unwrap_or_else(|error| panic!("{error}"))
}

/// Does the same work until `due`, and then panics in the middle of it.
fn panics_when(due: CancellationToken, work: Work) -> Work {
    Box::pin(async move {
        due.run_until_cancelled(work).await;
        panic!("a defect, as this test wants it")
    })
}

/// Does the same work until `due`, and then returns as if it had been told to stop.
fn returns_when(due: CancellationToken, work: Work) -> Work {
    Box::pin(async move {
        due.run_until_cancelled(work).await;
        Ok(())
    })
}

/// Does the same work, but makes no step while it is `held`, as on a machine that is too busy to run it.
fn standing_still_while(mut held: watch::Receiver<bool>, mut work: Work) -> Work {
    Box::pin(async move {
        loop {
            tokio::select! {
                biased;
                is = held.wait_for(|held| *held) => drop(is),
                ended = &mut work => return ended,
            }
            drop(held.wait_for(|held| !*held).await);
        }
    })
}

/// Waits for an event that must come, with a time limit.
pub(super) async fn in_time<T>(event: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, event).await.expect("waited in vain")
}

/// Runs the dispatcher until it ends by itself.
async fn ended(running: tokio::task::JoinHandle<Result<Tally, RunError>>) -> (StopCause, Tally) {
    match in_time(running).await {
        Ok(Err(RunError::Stopped { cause, tally })) => (cause, tally),
        Ok(other) => panic!("{other:?}"),
        Err(error) => resume_unwind(error.into_panic()),
    }
}

#[tokio::test]
async fn whichever_worker_ends_early_the_dispatcher_drains_records_what_it_can_and_names_the_worker() {
    for worker in [Worker::Claimer, Worker::Lease, Worker::Recovery, Worker::Housekeeping] {
        for fails in [panics_when as fn(CancellationToken, Work) -> Work, returns_when] {
            let (mut database, receiver) = (Database::new().await, Receiver::holding().await);
            database.calls_for(&receiver, PLACES + 3).await;
            let (dispatcher, mut workers) = prepared(&database).await;
            let due = CancellationToken::new();
            let place = match worker {
                Worker::Scout => &mut workers.scout,
                Worker::Claimer => &mut workers.claimer,
                Worker::Lease => &mut workers.lease,
                Worker::Recovery => &mut workers.recovery,
                _ => &mut workers.housekeeping,
            };
            let work = std::mem::replace(place, ends_well(async {}));
            *place = fails(due.clone(), work);
            let stopping = dispatcher.stop.drain.clone();
            let running = tokio::spawn(dispatcher.supervise(workers));
            receiver.has(PLACES).await;
            due.cancel();
            in_time(stopping.cancelled()).await;
            receiver.answer_all();
            let (cause, tally) = ended(running).await;
            assert!(cause == StopCause::Panicked(worker) || cause == StopCause::Ended(worker), "{cause:?}");
            assert_eq!((tally.delivered, tally.unwritten), (PLACES, 0), "{cause:?}");
            assert_eq!(database.states().await, format!("delivered {PLACES}, waiting 3"), "{cause:?}");
        }
    }
}

#[tokio::test]
async fn without_a_finisher_nothing_begins_and_every_result_in_hand_is_counted_as_unwritten() {
    let (mut database, receiver) = (Database::new().await, Receiver::holding().await);
    database.calls_for(&receiver, PLACES + 3).await;
    let (dispatcher, mut workers) = prepared(&database).await;
    let due = CancellationToken::new();
    workers.finisher = panics_when(due.clone(), workers.finisher);
    let (lease, stopping) = (dispatcher.lease.clone(), dispatcher.stop.drain.clone());
    let running = tokio::spawn(dispatcher.supervise(workers));
    receiver.has(PLACES).await;
    due.cancel();
    in_time(stopping.cancelled()).await;
    assert!(lease.current().send_gate.is_closed(), "the gate is closed by the time that it drains");
    receiver.answer_all();
    let (cause, tally) = ended(running).await;
    assert_eq!(cause, StopCause::Panicked(Worker::Finisher));
    assert_eq!((tally.delivered, tally.unwritten), (0, PLACES));
    // The database still shows them in flight under a dispatcher that has stopped, so any other gives them up as
    // unknown.
    assert_eq!(database.states().await, format!("sending {PLACES}, waiting 3"));
    assert_eq!(*receiver.requests.borrow(), PLACES);
}

#[tokio::test]
async fn what_the_finisher_recorded_before_its_defect_is_told_at_the_end() {
    let (mut database, receiver) = (Database::new().await, Receiver::holding().await);
    receiver.answer_all();
    database.calls_for(&receiver, 3).await;
    let (dispatcher, mut workers) = prepared(&database).await;
    let due = CancellationToken::new();
    workers.finisher = panics_when(due.clone(), workers.finisher);
    let running = tokio::spawn(dispatcher.supervise(workers));
    in_time(async {
        while database.states().await != "delivered 3" {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    due.cancel();
    let (cause, tally) = ended(running).await;
    assert_eq!(cause, StopCause::Panicked(Worker::Finisher));
    assert_eq!((tally.delivered, tally.unwritten), (3, 0));
}

/// Between the end of a worker's work and the end of its task, other workers may end. In whatever order they end, none of
/// them must look like a defect.
#[tokio::test]
async fn whichever_worker_is_late_to_end_none_is_taken_for_a_defect() {
    let database = Database::new().await;
    let all = [
        Worker::Scout,
        Worker::Claimer,
        Worker::Finisher,
        Worker::Lease,
        Worker::Recovery,
        Worker::Housekeeping,
        Worker::Prober,
        Worker::Reporter,
        Worker::Sealer,
    ];
    for late in all {
        let (dispatcher, mut workers) = prepared(&database).await;
        let place = match late {
            Worker::Scout => &mut workers.scout,
            Worker::Claimer => &mut workers.claimer,
            Worker::Finisher => &mut workers.finisher,
            Worker::Lease => &mut workers.lease,
            Worker::Recovery => &mut workers.recovery,
            Worker::Housekeeping => &mut workers.housekeeping,
            Worker::Prober => &mut workers.prober,
            Worker::Reporter => &mut workers.reporter,
            Worker::Sealer => &mut workers.sealer,
        };
        let work = std::mem::replace(place, ends_well(async {}));
        *place = Box::pin(async move {
            let ended = work.await;
            // This is longer than the others need for their last statement.
            tokio::time::sleep(Duration::from_millis(300)).await;
            ended
        });
        let stopping = dispatcher.stop.drain.clone();
        let running = tokio::spawn(dispatcher.supervise(workers));
        stopping.cancel();
        let ended = in_time(running).await.unwrap();
        assert!(ended.is_ok(), "{late}: {ended:?}");
    }
}

#[tokio::test]
async fn asked_to_stop_it_ends_without_a_complaint() {
    let (mut database, receiver) = (Database::new().await, Receiver::holding().await);
    database.calls_for(&receiver, 2).await;
    let (dispatcher, workers) = prepared(&database).await;
    let stopping = dispatcher.stop.drain.clone();
    let running = tokio::spawn(dispatcher.supervise(workers));
    receiver.has(2).await;
    stopping.cancel();
    receiver.answer_all();
    let tally = in_time(running).await.unwrap().unwrap();
    assert_eq!((tally.delivered, tally.unwritten), (2, 0));
}

#[tokio::test]
async fn a_place_that_comes_free_after_the_drain_is_not_filled_however_late_the_claimer_sees_both() {
    let (mut database, receiver) = (Database::new().await, Receiver::holding().await);
    database.calls_for(&receiver, PLACES + 1).await;
    let (dispatcher, mut workers) = prepared(&database).await;
    let held = watch::Sender::new(false);
    let claimer = std::mem::replace(&mut workers.claimer, ends_well(async {}));
    workers.claimer = standing_still_while(held.subscribe(), claimer);
    let stopping = dispatcher.stop.drain.clone();
    let running = tokio::spawn(dispatcher.supervise(workers));
    receiver.has(PLACES).await;
    // This is long enough for the claimer to wait for a place. If it stopped earlier, it would not be at the tested
    // point.
    tokio::time::sleep(Duration::from_millis(50)).await;
    held.send_replace(true);
    stopping.cancel();
    receiver.answer_all();
    let expected = format!("delivered {PLACES}, waiting 1");
    in_time(async { while database.states().await != expected {} }).await;
    held.send_replace(false);
    in_time(running).await.unwrap().unwrap();
    assert_eq!(database.states().await, expected);
}

#[tokio::test]
async fn a_delivery_that_cannot_be_claimed_holds_up_nothing_behind_it_in_its_lane() {
    let (mut database, receiver) = (Database::new().await, Receiver::holding().await);
    receiver.answer_all();
    database.calls_for(&receiver, PLACES + 2).await;
    let refuses = "DO $$ BEGIN EXECUTE format('ALTER TABLE postcall.sending ADD CHECK (delivery_id <> %L)',
                       (SELECT delivery_id FROM postcall.waiting ORDER BY 1 LIMIT 1)); END $$";
    sqlx::raw_sql(refuses).execute(&mut database.connection).await.unwrap();
    let (dispatcher, workers) = prepared(&database).await;
    let stopping = dispatcher.stop.drain.clone();
    let running = tokio::spawn(dispatcher.supervise(workers));
    let expected = format!("delivered {}, waiting 1", PLACES + 1);
    in_time(async { while database.states().await != expected {} }).await;
    stopping.cancel();
    in_time(running).await.unwrap().unwrap();
}
