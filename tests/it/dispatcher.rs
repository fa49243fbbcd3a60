//! The dispatcher's loop: what it claims, what it sends, and what it never does.

use std::time::Duration;

use nix::sys::signal::Signal;
use postcall::domain::body_digest::BodyDigest;
use postcall::domain::claim::{AttemptRecord, ClaimToken, Completion};
use postcall::domain::delivery::{Answer, BodyEnd, Ending, Outcome};
use postcall::store::claim::{Claimant, Portion, Revoked};
use postcall::store::finish::Recording;
use postcall::store::session::Session;
use postcall::store::wake::WakeUp;
use serde_json::json;
use uuid::Uuid;

use crate::support::database::{Database, first_lane};
use crate::support::inbox::Inbox;
use crate::support::process::Dispatcher;
use crate::support::proxy::{Fate, Proxy};

const STATES: &str = "SELECT string_agg(state || ' ' || n, ', ' ORDER BY state)
                      FROM (SELECT state, count(*) AS n FROM postcall.delivery_history GROUP BY state) AS states";

#[tokio::test]
async fn the_newest_version_is_sent_even_for_calls_that_waited_already() {
    let (database, inbox) = (Database::new().await, Inbox::open().await);
    database.publish("a", "default", &json!({"method": "POST", "url": inbox.url("/old")})).await;
    database.insert_call("a", &json!({})).await;
    database.publish("a", "default", &json!({"method": "PUT", "url": inbox.url("/new"), "body": "[1]"})).await;
    let _dispatcher = Dispatcher::start(&database, &[]).await;
    database.settled().await;
    let [received] = &inbox.received()[..] else { panic!("one request") };
    assert_eq!((received.method.as_str(), received.target.as_str(), received.body.as_str()), ("PUT", "/new", "[1]"));
    assert_eq!(database.number("SELECT action_version::bigint FROM postcall.delivery_history").await, 2);
}

#[tokio::test]
async fn a_disabled_action_sends_nothing_and_what_waited_is_skipped() {
    let (database, inbox) = (Database::new().await, Inbox::open().await);
    database.publish("a", "default", &json!({"method": "POST", "url": inbox.url("/")})).await;
    database.insert_call("a", &json!({"callInfo": {"callSid": "CA1"}})).await;
    database.store.switch_action("a", "default", false, "the test").await.unwrap();
    let _dispatcher = Dispatcher::start(&database, &[]).await;
    database.settled().await;
    assert_eq!(database.text(STATES).await.unwrap(), "skipped 1");
    assert_eq!(database.text("SELECT call_sid FROM postcall.delivery_history").await.unwrap(), "CA1");
    assert!(inbox.received().is_empty());
}

#[tokio::test]
async fn no_more_is_claimed_than_can_be_sent_and_no_transaction_is_open_meanwhile() {
    let (database, inbox) = (Database::new().await, Inbox::holding().await);
    database.publish("a", "default", &json!({"method": "POST", "url": inbox.url("/")})).await;
    for _ in 0..20 {
        database.insert_call("a", &json!({})).await;
    }
    let _dispatcher = Dispatcher::start(&database, &["--concurrency", "7", "--adapt-to-hosts", "false"]).await;
    inbox.has(7).await;
    assert_eq!(database.text(STATES).await.unwrap(), "sending 7, waiting 13");
    // Every connection of the dispatcher is between transactions: none holds a snapshot, a lock or an id.
    let open = "SELECT count(*) FROM pg_stat_activity
                WHERE datname = current_database() AND application_name = 'postcall'
                  AND (xact_start IS NOT NULL AND state <> 'active' OR backend_xid IS NOT NULL)";
    assert_eq!(database.number(open).await, 0);
    inbox.answer(20);
    database.settled().await;
    assert_eq!(database.text(STATES).await.unwrap(), "delivered 20");
    assert_eq!(inbox.received().len(), 20);
}

#[tokio::test]
async fn a_sleeping_dispatcher_is_woken_by_the_next_call() {
    let (database, inbox) = (Database::new().await, Inbox::open().await);
    database.publish("a", "default", &json!({"method": "POST", "url": inbox.url("/")})).await;
    let proxy = Proxy::to_server_of(&database.url).await;
    let (silenced, mut silences) = tokio::sync::mpsc::unbounded_channel();
    proxy.judge(move |sql| {
        if sql.contains("setval('postcall.bell', 0)") {
            silenced.send(()).ok();
        }
        Fate::Pass
    });
    let _dispatcher = Dispatcher::start_at(&proxy.url_of(&database.url), &[]).await;
    for round in 1..=3 {
        // Asleep: it has asked for the bell.
        database.until("SELECT last_value > 0 FROM postcall.bell").await;
        database.insert_call("a", &json!({})).await;
        inbox.has(round).await;
        database.settled().await;
    }
    // Only who was woken by the bell silences it.
    tokio::time::timeout(Duration::from_secs(60), silences.recv()).await.expect("the bell has woken it").unwrap();
}

#[tokio::test]
async fn on_sigterm_it_claims_no_more_finishes_what_is_in_flight_and_writes_every_result() {
    let (database, inbox) = (Database::new().await, Inbox::holding().await);
    database.publish("a", "default", &json!({"method": "POST", "url": inbox.url("/")})).await;
    for _ in 0..8 {
        database.insert_call("a", &json!({})).await;
    }
    let mut dispatcher = Dispatcher::start(&database, &["--concurrency", "5", "--adapt-to-hosts", "false"]).await;
    inbox.has(5).await;
    dispatcher.signal(Signal::SIGTERM);
    dispatcher.says("draining").await;
    inbox.answer(8);
    let (well, last) = dispatcher.ended().await;
    assert!(well, "{last}");
    assert!(last.contains("delivered=5") && last.contains("unknown=0"), "{last}");
    assert_eq!(database.text(STATES).await.unwrap(), "delivered 5, waiting 3");
    assert_eq!(inbox.received().len(), 5);
    assert_eq!(database.number("SELECT count(*) FROM postcall.dispatcher WHERE stopped_at IS NOT NULL").await, 1);
}

#[tokio::test]
async fn what_the_drain_time_cuts_off_is_unknown_and_never_waits_again() {
    for (arguments, second_signal) in [(["--drain-timeout-ms", "100"], false), (["--drain-timeout-ms", "600000"], true)]
    {
        let (database, inbox) = (Database::new().await, Inbox::holding().await);
        database.publish("a", "default", &json!({"method": "POST", "url": inbox.url("/")})).await;
        database.insert_call("a", &json!({})).await;
        let mut dispatcher = Dispatcher::start(&database, &arguments).await;
        inbox.has(1).await;
        dispatcher.signal(Signal::SIGINT);
        dispatcher.says("draining").await;
        if second_signal {
            dispatcher.signal(Signal::SIGINT);
        }
        let (well, last) = dispatcher.ended().await;
        assert!(well && last.contains("unknown=1"), "{last}");
        let record = "SELECT concat_ws(' ', state, error_kind) FROM postcall.delivery_history";
        assert_eq!(database.text(record).await.unwrap(), "unknown dispatcher_lost");
        // A later dispatcher leaves it alone: the call after it is sent, it is not.
        let _later = Dispatcher::start(&database, &[]).await;
        database.insert_call("a", &json!({})).await;
        inbox.has(2).await;
        inbox.answer(2);
        database.settled().await;
        assert_eq!(database.text(STATES).await.unwrap(), "delivered 1, unknown 1");
    }
}

#[tokio::test]
async fn an_unreadable_call_fails_by_itself_and_holds_up_nobody() {
    let (database, inbox) = (Database::new().await, Inbox::open().await);
    database.publish("a", "default", &json!({"method": "POST", "url": inbox.url("/")})).await;
    database
        .execute("INSERT INTO postcall.outbox (agent, call) SELECT 'a', ('{\"a\":' || repeat('[', 500) || repeat(']', 500) || '}')::json")
        .await;
    database.insert_call("a", &json!({"fine": true})).await;
    let _dispatcher = Dispatcher::start(&database, &[]).await;
    database.settled().await;
    assert_eq!(database.text(STATES).await.unwrap(), "delivered 1, failed 1");
    let detail = database.text("SELECT error_detail FROM postcall.delivery WHERE state = 'failed'").await.unwrap();
    assert!(detail.contains("bad_call"), "{detail}");
}

#[tokio::test]
async fn a_payload_that_is_gone_is_a_failure_with_its_reason() {
    let (database, inbox) = (Database::new().await, Inbox::open().await);
    database.publish("a", "default", &json!({"method": "POST", "url": inbox.url("/")})).await;
    database.insert_call("a", &json!({})).await;
    database.execute("DELETE FROM postcall.outbox").await;
    let _dispatcher = Dispatcher::start(&database, &[]).await;
    database.settled().await;
    assert_eq!(database.text(STATES).await.unwrap(), "failed 1");
    assert!(inbox.received().is_empty());
}

/// A dispatcher's session, and the name in which it claims.
async fn session(database: &Database) -> (Session, Claimant) {
    let mut session = database.store.session(Duration::from_secs(10));
    let dispatcher_id = Database::register(&mut session).await;
    (session, Claimant { dispatcher_id, epoch: 1 })
}

fn delivered(token: ClaimToken) -> Completion {
    let answer = Answer {
        response_code: 200,
        response_bytes: 0,
        response_digest: BodyDigest::Plain([0; 32]),
        body_end: BodyEnd::Complete,
        excerpt: None,
    };
    let sent = postcall::domain::claim::SentRequest {
        method: postcall::domain::action::Method::Get,
        url: "https://receiver.example/".to_owned(),
        body_bytes: None,
        body_digest: None,
        head_digest: None,
        unresolved: Vec::new(),
    };
    let record = AttemptRecord { sent: Some(sent), timing: Some(Default::default()) };
    token.complete(Ending::Final(Outcome::Answered(answer)), record)
}

async fn finish(session: &mut Session, token: ClaimToken) -> Recording {
    let Completion::Finished(finished) = delivered(token) else { panic!("finished") };
    session.finish(&[finished]).await.unwrap()[0]
}

#[tokio::test]
async fn a_result_counts_only_under_the_claim_that_still_holds_and_only_once() {
    let database = Database::new().await;
    database.publish("a", "default", &json!({"method": "GET", "url": "https://receiver.example/"})).await;
    database.insert_call("a", &json!({})).await;
    let (mut session, claimant) = session(&database).await;
    let (first, second) = (Uuid::now_v7(), Uuid::now_v7());
    let id = session.claim(claimant, first, &first_lane(10), Portion::UNBOUNDED).await.unwrap().claimed[0]
        .token
        .delivery_id();
    // Revoked as never sent, and claimed again: the first claim is worth nothing now.
    let Revoked { claimant, released, .. } = session.revoke_claim(claimant, first).await.unwrap();
    assert_eq!(released, [id]);
    assert_eq!(session.claim(claimant, second, &first_lane(10), Portion::UNBOUNDED).await.unwrap().claimed.len(), 1);
    assert_eq!(finish(&mut session, ClaimToken::new(id, first)).await, Recording::NotHeld);
    assert_eq!(session.release(&[ClaimToken::new(id, first)]).await.unwrap(), Vec::<Uuid>::new());
    assert_eq!(database.text(STATES).await.unwrap(), "sending 1");
    // The second counts, and its repetition (after an answer that was lost) changes nothing.
    assert_eq!(finish(&mut session, ClaimToken::new(id, second)).await, Recording::Recorded);
    assert_eq!(finish(&mut session, ClaimToken::new(id, second)).await, Recording::AlreadyRecorded);
    assert_eq!(finish(&mut session, ClaimToken::new(id, first)).await, Recording::NotHeld);
    let revoked = session.revoke_claim(claimant, second).await.unwrap();
    assert!(revoked.released.is_empty(), "what is final never waits again");
    assert_eq!(database.text(STATES).await.unwrap(), "delivered 1");
}

#[tokio::test]
async fn a_claim_that_was_revoked_takes_nothing_however_late_it_arrives() {
    let database = Database::new().await;
    database.publish("a", "default", &json!({"method": "GET", "url": "https://receiver.example/"})).await;
    database.insert_call("a", &json!({})).await;
    let (mut session, claimant) = session(&database).await;
    let late = Uuid::now_v7();
    // Revoked before it reached the server, as when a connection breaks with the statement still on its way.
    let Revoked { claimant: current, released, .. } = session.revoke_claim(claimant, late).await.unwrap();
    assert!(released.is_empty());
    assert!(session.claim(claimant, late, &first_lane(10), Portion::UNBOUNDED).await.unwrap().claimed.is_empty());
    assert_eq!(database.text(STATES).await.unwrap(), "waiting 1");
    assert_eq!(
        session.claim(current, Uuid::now_v7(), &first_lane(10), Portion::UNBOUNDED).await.unwrap().claimed.len(),
        1
    );
}

#[tokio::test]
async fn a_claim_says_whether_it_has_left_some_of_what_it_saw_and_what_waits_is_found_by_its_order() {
    let database = Database::new().await;
    database.publish("a", "default", &json!({"method": "GET", "url": "https://receiver.example/"})).await;
    for _ in 0..2 {
        database.insert_call("a", &json!({})).await;
    }
    let (mut session, claimant) = session(&database).await;
    let [first, second]: [Uuid; 2] = sqlx::query_scalar("SELECT delivery_id FROM postcall.waiting ORDER BY 1")
        .fetch_all(&database.pool)
        .await
        .unwrap()
        .try_into()
        .unwrap();
    for (lane, after, expected) in
        [(1, Uuid::nil(), Some(first)), (1, first, Some(second)), (1, second, None), (2, Uuid::nil(), None)]
    {
        assert_eq!(session.first_waiting(lane, after).await.unwrap(), expected, "{lane} {after}");
    }
    let small = Portion { bytes: 1, ..Portion::UNBOUNDED };
    for (portion, expected) in [(small, (1, 2, true)), (Portion::UNBOUNDED, (1, 1, false))] {
        let taken = session.claim(claimant, Uuid::now_v7(), &first_lane(10), portion).await.unwrap();
        assert_eq!((taken.claimed.len(), taken.seen[&1], taken.cut_short), expected);
    }
}

#[tokio::test]
async fn a_listener_is_woken_by_a_call_and_by_nothing_else() {
    // No call rings for somebody who says that it sleeps for longer than 10 s.
    const SLEEP: Duration = Duration::from_secs(9);
    let database = Database::new().await;
    database.publish("a", "default", &json!({"method": "GET", "url": "https://receiver.example/"})).await;
    let (mut session, _) = session(&database).await;
    let mut listener = database.store.call_listener(Duration::from_secs(30)).await.unwrap();
    assert_eq!(session.request_wake_up(SLEEP).await.unwrap(), WakeUp::Requested);
    tokio::select! {
        biased;
        woken = listener.notified() => panic!("nothing has come: {woken:?}"),
        () = std::future::ready(()) => {}
    }
    database.insert_call("a", &json!({})).await;
    listener.notified().await.unwrap();
    session.request_wake_up(SLEEP).await.unwrap();
    session.cancel_wake_up().await.unwrap();
    assert_eq!(database.number("SELECT last_value FROM postcall.bell").await, 0, "nobody is to be woken");
}

/// Its answer did not come in time, so it was repeated, with success; then the first one reaches the server after all.
#[tokio::test]
async fn a_revocation_that_was_repeated_takes_nothing_from_later_claims_however_late_it_arrives() {
    let database = Database::new().await;
    database.publish("a", "default", &json!({"method": "GET", "url": "https://receiver.example/"})).await;
    database.insert_call("a", &json!({})).await;
    let (mut session, claimant) = session(&database).await;
    let in_doubt = Uuid::now_v7();
    let Revoked { claimant: current, .. } = session.revoke_claim(claimant, in_doubt).await.unwrap();
    let mut late = database.store.session(Duration::from_secs(30));
    late.revoke_claim(claimant, in_doubt).await.unwrap();
    let taken = session.claim(current, Uuid::now_v7(), &first_lane(10), Portion::UNBOUNDED).await.unwrap();
    assert_eq!(taken.claimed.len(), 1, "otherwise this dispatcher would never claim anything again");
}

/// That so many sessions of this database wait for a lock.
fn waiting_sessions(count: usize) -> String {
    format!(
        "SELECT count(*) = {count} FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
}

#[tokio::test]
async fn revoking_a_claim_waits_until_it_is_through_and_gives_back_all_of_it() {
    let database = Database::new().await;
    database.publish("a", "default", &json!({"method": "GET", "url": "https://receiver.example/"})).await;
    database.insert_call("a", &json!({})).await;
    let (mut claiming, claimant) = session(&database).await;
    let token = Uuid::now_v7();
    // An insert of the same key holds the claim in the middle, after it has taken the row.
    let mut lock = database.pool.begin().await.unwrap();
    sqlx::query(
        "INSERT INTO postcall.sending SELECT delivery_id, call_id, agent, action_id, 1, now(), 0, call_id, now()
         FROM postcall.waiting",
    )
    .execute(&mut *lock)
    .await
    .unwrap();
    let claim = tokio::spawn(async move {
        claiming.claim(claimant, token, &first_lane(10), Portion::UNBOUNDED).await.map(|taken| taken.claimed.len())
    });
    database.until(&waiting_sessions(1)).await;
    let mut revoking = database.store.session(Duration::from_secs(30));
    let mut revoke =
        tokio::spawn(async move { revoking.revoke_claim(claimant, token).await.map(|revoked| revoked.released.len()) });
    let both_wait = waiting_sessions(2);
    tokio::select! {
        released = &mut revoke => panic!("it has not waited for the claim: {released:?}"),
        () = database.until(&both_wait) => {}
    }
    lock.rollback().await.unwrap();
    assert_eq!(claim.await.unwrap().unwrap(), 1);
    assert_eq!(revoke.await.unwrap().unwrap(), 1);
    assert_eq!(database.text(STATES).await.unwrap(), "waiting 1");
}

#[tokio::test]
async fn a_dispatcher_outlives_a_database_that_cuts_its_connections() {
    let (database, inbox) = (Database::new().await, Inbox::open().await);
    database.publish("a", "default", &json!({"method": "POST", "url": inbox.url("/")})).await;
    let dispatcher = Dispatcher::start(&database, &[]).await;
    for round in 1..=5_usize {
        database
            .execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                 WHERE datname = current_database() AND application_name = 'postcall'",
            )
            .await;
        database.insert_call("a", &json!({})).await;
        tokio::time::timeout(Duration::from_secs(30), inbox.has(round)).await.unwrap();
    }
    database.settled().await;
    dispatcher.signal(Signal::SIGTERM);
    assert!(dispatcher.ended().await.0);
    assert_eq!(database.text(STATES).await.unwrap(), "delivered 5");
    assert_eq!(inbox.received().len(), 5);
}
