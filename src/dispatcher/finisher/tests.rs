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
