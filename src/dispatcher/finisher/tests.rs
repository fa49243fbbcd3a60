use sqlx::AssertSqlSafe;
use uuid::Uuid;

use super::super::tests::{Database, Receiver, in_time};
use super::*;
use crate::domain::action::Method;
use crate::domain::claim::{AttemptRecord, SentRequest};
use crate::domain::delivery::{Ending, Timing};
use crate::domain::policy::Policy;
use crate::metrics::Operation;
use crate::store::claim::{Ask, Claimant, Portion};
use crate::store::dispatchers::{Newcomer, Registering, Standing};

/// So many deliveries that are claimed, and a finisher that stops trying when it is told to.
async fn claimed(database: &mut Database, calls: usize) -> (Finisher, Vec<ClaimToken>) {
    let receiver = Receiver::holding().await;
    database.calls_for(&receiver, calls).await;
    let mut session = database.store.session(Duration::from_secs(30));
    let (policy, standing) = (Policy::default(), Standing::BeforeAll);
    let newcomer = Newcomer { name: "test", version: "0", lease: Duration::from_secs(60), policy: &policy, standing };
    let Registering::Registered { dispatcher_id, .. } = session.register(newcomer).await.unwrap() else {
        panic!("there is no other dispatcher")
    };
    let asks = [Ask { action_id: 1, deliveries: calls, after: Uuid::nil() }];
    let claim = session.claim(Claimant { dispatcher_id, epoch: 1 }, Uuid::now_v7(), &asks, Portion::UNBOUNDED);
    let tokens: Vec<ClaimToken> = claim.await.unwrap().claimed.into_iter().map(|one| one.token).collect();
    assert_eq!(tokens.len(), calls);
    let (counts, inbox) = (Arc::<Counters>::default(), mpsc::channel(1).1);
    let session = session.counting(counts.errors(Operation::Finish));
    let finisher = Finisher::new(session, inbox, calls, CancellationToken::new(), counts, Books::default());
    (finisher, tokens)
}

fn answered(tokens: Vec<ClaimToken>) -> Vec<Finished> {
    let record = || {
        let sent = SentRequest {
            method: Method::Post,
            url: "http://receiver.example/".to_owned(),
            body_bytes: None,
            body_digest: None,
            head_digest: None,
            unresolved: Vec::new(),
        };
        AttemptRecord { sent: Some(sent), timing: Some(Timing::default()) }
    };
    let answered = |token: ClaimToken| match token.complete(Ending::Final(Outcome::answered(200)), record()) {
        Completion::Finished(finished) => finished,
        Completion::Unsent(_) => panic!("it has an outcome"),
    };
    tokens.into_iter().map(answered).collect()
}

async fn execute(database: &mut Database, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut database.connection).await.unwrap();
}

#[tokio::test]
async fn a_delivery_that_the_database_refuses_to_take_back_keeps_no_other_one_in_flight() {
    let mut database = Database::new().await;
    let (mut finisher, tokens) = claimed(&mut database, 5).await;
    let refused = tokens[3].delivery_id();
    execute(&mut database, &format!("ALTER TABLE postcall.waiting ADD CHECK (delivery_id <> '{refused}')")).await;
    in_time(finisher.release(tokens)).await;
    assert_eq!((finisher.tally.returned, finisher.tally.unwritten), (4, 1));
    assert_eq!(database.states().await, "sending 1, waiting 4");
}

#[tokio::test]
async fn a_result_that_history_refuses_keeps_no_other_one_from_being_recorded() {
    let mut database = Database::new().await;
    let (mut finisher, tokens) = claimed(&mut database, 5).await;
    let refused = tokens[3].delivery_id();
    execute(&mut database, &format!("ALTER TABLE postcall.delivery ADD CHECK (delivery_id <> '{refused}')")).await;
    in_time(finisher.record(answered(tokens))).await;
    assert_eq!((finisher.tally.delivered, finisher.tally.unwritten), (4, 1));
    assert_eq!(database.states().await, "delivered 4, sending 1");
}

#[tokio::test]
async fn what_was_given_up_meanwhile_is_recorded_as_evidence_or_as_never_sent_and_counts_as_neither() {
    let mut database = Database::new().await;
    let (mut finisher, mut tokens) = claimed(&mut database, 7).await;
    assert_eq!(finisher.session.mark_in_flight_unknown(&tokens[1..], Texts::Kept).await.unwrap(), 6);
    let refused = tokens[6].delivery_id();
    execute(&mut database, &format!("ALTER TABLE postcall.resolution ADD CHECK (delivery_id <> '{refused}')")).await;
    let late = tokens.split_off(2);
    in_time(finisher.release(tokens)).await;
    assert_eq!((finisher.tally.returned, finisher.tally.unwritten), (1, 0));
    in_time(finisher.record(answered(late))).await;
    assert_eq!((finisher.tally.delivered, finisher.tally.unwritten), (0, 1));
    let recorded = "SELECT string_agg(state || ' ' || n, ', ' ORDER BY state)
                    FROM (SELECT state::text, count(*) AS n FROM postcall.resolution GROUP BY state) AS states";
    let recorded: String = sqlx::query_scalar(recorded).fetch_one(&mut database.connection).await.unwrap();
    assert_eq!(recorded, "delivered 4, failed 1");
}

#[tokio::test]
async fn a_failure_that_is_not_about_the_rows_is_no_reason_to_try_them_one_by_one() {
    let mut database = Database::new().await;
    let (mut finisher, mut tokens) = claimed(&mut database, 6).await;
    finisher.stop_trying.cancel();
    for table in ["delivery", "resolution", "sending"] {
        execute(&mut database, &format!("ALTER TABLE postcall.{table} RENAME TO {table}_elsewhere")).await;
    }
    let errors = finisher.counts.errors(Operation::Finish).clone();
    let (late, of_finished) = (tokens.split_off(4), tokens.split_off(2));
    in_time(finisher.release(tokens)).await;
    in_time(finisher.record(answered(of_finished))).await;
    in_time(finisher.record_evidence(answered(late))).await;
    let tried = errors.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!((tried, finisher.tally.unwritten), (3, 6), "one statement each");
}

#[tokio::test]
async fn it_waits_before_the_next_try_and_tries_nothing_again_after_it_was_told_to_stop() {
    let mut database = Database::new().await;
    let (mut finisher, _tokens) = claimed(&mut database, 1).await;
    let (failure, begun) = (StoreError::Unanswered(Duration::ZERO), std::time::Instant::now());
    assert!(!finisher.give_up_after(&failure).await);
    assert!(begun.elapsed() >= Duration::from_millis(25));
    finisher.stop_trying.cancel();
    assert!(finisher.give_up_after(&failure).await);
}

#[test]
fn the_tally_counts_each_final_state_by_itself() {
    let mut tally = Tally::default();
    for (state, count) in [
        (State::Delivered, 1),
        (State::Rejected, 2),
        (State::Failed, 3),
        (State::Unknown, 4),
        (State::Skipped, 5),
        (State::Waiting, 6),
        (State::Sending, 7),
    ] {
        (0..count).for_each(|_| tally.count(state));
    }
    let expected = Tally { delivered: 1, rejected: 2, failed: 3, unknown: 4, skipped: 5, ..Tally::default() };
    assert_eq!(tally, expected);
}

/// How many results there are after gathering, with a paused clock, while one comes every two milliseconds.
async fn gathered(batch: usize, enough: usize) -> usize {
    let (sender, mut inbox) = mpsc::channel(10);
    let mut batch = vec![(); batch];
    let come = async move {
        for _ in 0..10 {
            tokio::time::sleep(Duration::from_millis(2)).await;
            sender.send(()).await.unwrap();
        }
    };
    tokio::select! {
        () = gather(&mut inbox, &mut batch, enough) => {}
        () = come => panic!("it gathers for longer than {GATHERING:?}"),
    }
    batch.len()
}

#[tokio::test(start_paused = true)]
async fn a_few_results_wait_for_no_others_and_more_do_until_there_are_enough_or_5_ms_are_over() {
    let gather_for = async |batch, enough| {
        let (sender, mut inbox) = mpsc::channel(100);
        for _ in 0..100 {
            sender.try_send(()).unwrap();
        }
        let mut results = vec![(); batch];
        gather(&mut inbox, &mut results, enough).await;
        results.len()
    };
    assert_eq!(gather_for(FEW - 1, 50).await, FEW - 1);
    assert_eq!(gather_for(FEW, FEW).await, FEW);
    assert_eq!(gather_for(FEW, 50).await, FEW + 100);
    assert_eq!(gathered(FEW, FEW + 1).await, FEW + 1);
    assert_eq!(gathered(FEW, 50).await, FEW + 2);
}

#[tokio::test(start_paused = true)]
async fn no_more_results_are_gathered_than_one_statement_writes_and_none_when_nobody_sends_any_more() {
    let (sender, mut inbox) = mpsc::channel(2 * MAX_BATCH);
    for _ in 0..2 * MAX_BATCH {
        sender.try_send(()).unwrap();
    }
    let mut batch = vec![(); FEW];
    gather(&mut inbox, &mut batch, MAX_BATCH).await;
    assert_eq!(batch.len(), MAX_BATCH);

    let (sender, mut inbox) = mpsc::channel(1);
    drop(sender);
    let (mut batch, began) = (vec![(); FEW], tokio::time::Instant::now());
    gather(&mut inbox, &mut batch, MAX_BATCH).await;
    assert_eq!((batch.len(), began.elapsed()), (FEW, Duration::ZERO));
}
