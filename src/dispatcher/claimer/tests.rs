use std::sync::atomic::Ordering;

use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use super::super::attempt::Means;
use super::super::budget::{Budget, DEFAULT_MAX_BYTES_IN_FLIGHT, DEFAULT_MAX_CALL_BYTES};
use super::super::lease::Registration;
use super::super::schedule::Schedule;
use super::super::tests::{Database, Receiver};
use super::*;
use crate::domain::policy::Policy;
use crate::scheduler::Limits;
use crate::store::claim::Ask;
use crate::store::dispatchers::{Newcomer, Registering, Standing};
use crate::store::lanes::LaneAbout;
use crate::webhook::{SendGate, Webhook, WebhookSettings};

const PLACES: usize = 4;

/// A claimer that is registered, with the lane of two calls that wait.
async fn claimer(database: &mut Database) -> Claimer {
    database.calls_for(&Receiver::holding().await, 2).await;
    let mut session = database.store.session(Duration::from_secs(30));
    let (policy, standing) = (Policy::default(), Standing::BeforeAll);
    let newcomer = Newcomer { name: "test", version: "0", lease: Duration::from_secs(60), policy: &policy, standing };
    let Registering::Registered { dispatcher_id, .. } = session.register(newcomer).await.unwrap() else {
        panic!("there is no other dispatcher")
    };
    let limits =
        Limits { in_flight: PLACES, per_agent: PLACES, per_host: PLACES, adapt: false, hold_unreachable: false };
    let schedule = Schedule::all(limits, 1).remove(0);
    let lane = LaneSeen { action_id: 1, version: 1, enabled: true };
    let url = "http://receiver.example/".to_owned();
    schedule.introduce(&[lane], vec![LaneAbout { lane, agent: "a".to_owned(), url, answered: Some(true) }]);
    let means = Means {
        webhook: Arc::new(Webhook::new(WebhookSettings::default()).unwrap()),
        budget: Arc::new(Budget::new(DEFAULT_MAX_BYTES_IN_FLIGHT, DEFAULT_MAX_CALL_BYTES)),
        cut: CancellationToken::new(),
        spans: None,
    };
    let starter = Starter { attempts: TaskTracker::new(), means, results: mpsc::channel(PLACES).0 };
    let opened =
        Caches { templates: Templates::new(None), secrets: SecretCache::new(None), signing: SigningCache::new(None) };
    let lease = Arc::new(Lease::of(Registration { dispatcher_id, send_gate: SendGate::open() }));
    let places = Places::new(schedule, 0, Arc::default());
    Claimer::new(&database.store, lease, places, starter, CancellationToken::new(), opened)
}

/// A claim of all that waits, whose answer this claimer does not have.
async fn claim_in_doubt(claimer: &mut Claimer) {
    let (claimant, token) = (claimer.claimant, Uuid::now_v7());
    let asks = [Ask { action_id: 1, deliveries: 2, after: Uuid::nil() }];
    let taken = claimer.session.claim(claimant, token, &asks, Portion::UNBOUNDED).await.unwrap();
    assert_eq!(taken.claimed.len(), 2);
    claimer.in_doubt = Some(ClaimInDoubt { claimant, token });
}

#[tokio::test]
async fn in_an_outage_the_database_has_to_answer_before_any_place_is_taken() {
    let mut database = Database::new().await;
    let mut claimer = claimer(&mut database).await;
    claimer.session = database.store.session(Duration::ZERO);
    claimer.make_sure_of_database().await.expect("there is no outage");
    claimer.outage.wait(&std::fmt::Error).await;
    claimer.make_sure_of_database().await.expect_err("the database is not asked in time");
    claimer.outage.over();
    claimer.in_doubt = Some(ClaimInDoubt { claimant: claimer.claimant, token: Uuid::now_v7() });
    claimer.make_sure_of_database().await.expect_err("a claim is in doubt");
}

#[tokio::test]
async fn a_claim_in_doubt_is_revoked_and_the_next_one_is_made_under_another_epoch() {
    let mut database = Database::new().await;
    let mut claimer = claimer(&mut database).await;
    let epoch = claimer.claimant.epoch;
    claim_in_doubt(&mut claimer).await;
    assert_eq!(database.states().await, "sending 2");
    claimer.make_sure_of_database().await.unwrap();
    assert!(claimer.in_doubt.is_none() && claimer.claimant.epoch > epoch);
    assert_eq!(database.states().await, "waiting 2");
}

#[tokio::test]
async fn a_single_delivery_that_does_not_come_in_time_is_passed_over_and_several_are_not() {
    let mut database = Database::new().await;
    let mut claimer = claimer(&mut database).await;
    let schedule = claimer.places.schedule.clone();
    let mut turns = schedule.turns(1).await;
    let lane = turns.as_slice()[0].lane;
    claim_in_doubt(&mut claimer).await;
    claimer.pass_over_what_is_too_slow(&[]).await;
    assert!(claimer.in_doubt.is_none() && schedule.after(lane).is_nil());
    claim_in_doubt(&mut claimer).await;
    claimer.pass_over_what_is_too_slow(turns.as_slice()).await;
    let last: Uuid = sqlx::query_scalar("SELECT delivery_id FROM postcall.waiting ORDER BY 1 DESC LIMIT 1")
        .fetch_one(&mut database.connection)
        .await
        .unwrap();
    assert_eq!(schedule.after(lane), last);
    schedule.shrink(turns.first_mut().unwrap(), 0);
}

#[tokio::test]
async fn a_claim_that_is_not_answered_in_time_is_in_doubt_and_the_next_one_is_smaller() {
    let mut database = Database::new().await;
    let mut claimer = claimer(&mut database).await;
    claimer.session = database.store.session(Duration::ZERO);
    let turns = claimer.places.schedule.turns(1).await;
    let largest = claimer.pace.deliveries();
    let mut group = Group { turns, fetch: true };
    claimer.take(&mut group, true).await.map(drop).expect_err("it has no time");
    assert!(claimer.in_doubt.is_some() && claimer.pace.deliveries() < largest);
}

/// The connection of this claimer.
async fn connection(claimer: &mut Claimer, database: &mut Database) -> i32 {
    claimer.session.ping().await.unwrap();
    let newest = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND query = 'SELECT'
                  ORDER BY backend_start DESC LIMIT 1";
    sqlx::query_scalar(newest).fetch_one(&mut database.connection).await.unwrap()
}

#[tokio::test]
async fn a_connection_is_kept_as_long_as_the_time_of_a_claim_stays_the_same() {
    let mut database = Database::new().await;
    let mut claimer = claimer(&mut database).await;
    let first = connection(&mut claimer, &mut database).await;
    claimer.change_pace(|pace| pace.answered(1));
    assert_eq!(connection(&mut claimer, &mut database).await, first);
    let timeout = claimer.pace.statement_timeout();
    while claimer.pace.statement_timeout() == timeout {
        assert!(!claimer.change_pace(Pace::unanswered));
    }
    assert_ne!(connection(&mut claimer, &mut database).await, first);
    assert_eq!(claimer.places.counts.errors(Operation::Claim).load(Ordering::Relaxed), 0);
}
