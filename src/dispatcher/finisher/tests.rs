use sqlx::AssertSqlSafe;
use uuid::Uuid;

use super::super::tests::{Database, Receiver, in_time};
use super::*;
use crate::domain::policy::Policy;
use crate::store::claim::{Ask, Claimant, Portion};
use crate::store::dispatchers::{Newcomer, Registering, Standing};

#[tokio::test]
async fn a_delivery_that_the_database_refuses_to_take_back_keeps_no_other_one_in_flight() {
    const CALLS: usize = 5;
    let (mut database, receiver) = (Database::new().await, Receiver::holding().await);
    database.calls_for(&receiver, CALLS).await;
    let mut session = database.store.session(Duration::from_secs(30));
    let (policy, standing) = (Policy::default(), Standing::BeforeAll);
    let newcomer = Newcomer { name: "test", version: "0", lease: Duration::from_secs(60), policy: &policy, standing };
    let Registering::Registered { dispatcher_id, .. } = session.register(newcomer).await.unwrap() else {
        panic!("there is no other dispatcher")
    };
    let asks = [Ask { action_id: 1, deliveries: CALLS, after: Uuid::nil() }];
    let claim = session.claim(Claimant { dispatcher_id, epoch: 1 }, Uuid::now_v7(), &asks, Portion::UNBOUNDED);
    let tokens: Vec<ClaimToken> = claim.await.unwrap().claimed.into_iter().map(|one| one.token).collect();
    assert_eq!(tokens.len(), CALLS);
    let refused = tokens[3].delivery_id();
    let constraint = format!("ALTER TABLE postcall.waiting ADD CHECK (delivery_id <> '{refused}')");
    sqlx::raw_sql(AssertSqlSafe(constraint)).execute(&mut database.connection).await.unwrap();

    let (_results, inbox) = mpsc::channel(1);
    let mut finisher = Finisher::new(session, inbox, CALLS, CancellationToken::new(), Arc::default(), Books::default());
    in_time(finisher.release(tokens)).await;
    assert_eq!((finisher.tally.returned, finisher.tally.unwritten), (CALLS - 1, 1));
    assert_eq!(database.states().await, "sending 1, waiting 4");
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
