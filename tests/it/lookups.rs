//! Rows that are moved are found by their key, whatever else is in flight or in history, and whatever statistics the
//! planner has.

use postcall::domain::claim::{AttemptRecord, ClaimToken, Completion, Finished, Texts};
use postcall::domain::delivery::{Ending, Failure, Outcome};
use postcall::store::session::Session;
use uuid::Uuid;

use crate::support::database::Database;

/// Rows that are none of a statement's business.
const OTHERS: i64 = 3_000;
/// Deliveries that each statement is about.
const EACH: usize = 2;
/// Statements that are about deliveries in flight, and about those that are in doubt.
const STATEMENTS: usize = 3;
/// An index entry for each look-up, and as many again for what a partition does not have.
const MOST_ENTRIES_READ: i64 = (2 * STATEMENTS * EACH) as i64;

/// A result: no template, nothing sent.
fn failed(token: ClaimToken) -> Finished {
    let outcome = Outcome::Failed { kind: Failure::Render, detail: "no template".to_owned() };
    match token.complete(Ending::Final(outcome), AttemptRecord::default()) {
        Completion::Finished(finished) => finished,
        Completion::Unsent(_) => panic!("an outcome finishes"),
    }
}

/// One hold for each row of the answer.
async fn holds(database: &Database, sql: &'static str) -> Vec<ClaimToken> {
    let rows: Vec<(Uuid, Uuid)> = sqlx::query_as(sql).fetch_all(&database.pool).await.unwrap();
    rows.into_iter().map(|(delivery_id, claim)| ClaimToken::new(delivery_id, claim)).collect()
}

async fn move_on(session: &mut Session, held: &mut Vec<ClaimToken>) -> [usize; STATEMENTS] {
    let mut some = || held.split_off(held.len() - EACH);
    let finished: Vec<Finished> = some().into_iter().map(failed).collect();
    session.finish(&finished).await.unwrap();
    let released = session.release(&some()).await.unwrap();
    let given_up = session.mark_in_flight_unknown(&some(), Texts::Kept).await.unwrap();
    [finished.len(), released.len(), usize::try_from(given_up).unwrap()]
}

/// The plans are made while the tables are empty, as the server believes for good: a session makes them once.
async fn session_with_plans_for_empty_tables(database: &Database) -> Session {
    database.execute("VACUUM ANALYZE postcall.sending").await;
    database.execute("VACUUM ANALYZE postcall.delivery").await;
    let mut session = database.session();
    let nobody_s = || ClaimToken::new(Uuid::nil(), Uuid::nil());
    move_on(&mut session, &mut (0..STATEMENTS * EACH).map(|_| nobody_s()).collect()).await;
    session.record_evidence(&[failed(nobody_s())]).await.unwrap();
    session.record_unsent(&[&nobody_s()]).await.unwrap();
    session
}

/// Deliveries in flight of a dispatcher that nobody knows.
async fn fill_sending(database: &Database) {
    let fill = format!(
        "INSERT INTO postcall.sending (delivery_id, call_id, agent, action_id, action_version, created_at, dispatcher_id, claim,
                                       claimed_at, call_bytes)
         SELECT postcall.uuid_v7(), postcall.uuid_v7(), 'a', 1, 1, now(), 1, gen_random_uuid(), now(), 2
         FROM generate_series(1, {OTHERS})"
    );
    database.execute(&fill).await;
}

#[tokio::test]
async fn what_is_in_flight_is_found_by_its_key_whatever_else_is_in_flight() {
    let database = Database::new().await;
    let mut session = session_with_plans_for_empty_tables(&database).await;
    fill_sending(&database).await;
    let mut held = holds(&database, "SELECT delivery_id, claim FROM postcall.sending ORDER BY claim LIMIT 6").await;
    assert_eq!(move_on(&mut session, &mut held).await, [EACH; STATEMENTS]);
    // The server counts what a session did when the session ends.
    drop(session);
    database.until("SELECT n_tup_del = 6 FROM pg_stat_user_tables WHERE relname = 'sending'").await;
    let read = "SELECT idx_tup_read FROM pg_stat_user_indexes WHERE indexrelname = 'sending_pkey'";
    let read = database.number(read).await;
    assert!(read <= MOST_ENTRIES_READ, "{read} entries were read");
}

/// The key leads to each row that was ever in flight, one by one, as long as somebody holds an old snapshot.
#[tokio::test]
async fn what_was_left_behind_is_looked_for_page_by_page() {
    let database = Database::new().await;
    let mut session = database.session();
    assert!(session.left_behind(Uuid::nil(), 10).await.unwrap().is_empty());
    fill_sending(&database).await;
    let first = session.left_behind(Uuid::nil(), 10).await.unwrap();
    let second = session.left_behind(first[9].delivery_id(), 10).await.unwrap();
    let ids: Vec<Uuid> = first.iter().chain(&second).map(ClaimToken::delivery_id).collect();
    assert!(ids.len() == 20 && ids.is_sorted(), "{ids:?}");
    drop(session);
    database.until("SELECT seq_scan >= 3 FROM pg_stat_user_tables WHERE relname = 'sending'").await;
    let read = "SELECT idx_tup_read FROM pg_stat_user_indexes WHERE indexrelname = 'sending_pkey'";
    assert_eq!(database.number(read).await, 0);
}

#[tokio::test]
async fn late_evidence_finds_its_delivery_by_its_key_whatever_else_is_in_doubt() {
    let database = Database::new().await;
    let mut session = session_with_plans_for_empty_tables(&database).await;
    let fill = format!(
        "INSERT INTO postcall.delivery (delivery_id, call_id, claim, action_id, created_at, claimed_at, finished_at,
                                        action_version, dispatcher_id, agent, state, error_kind, latency_ms)
         SELECT postcall.uuid_v7(), postcall.uuid_v7(), gen_random_uuid(), 1, now(), now(), now(), 1, 1, 'a', 'unknown',
                'timeout', 1
         FROM generate_series(1, {OTHERS})"
    );
    database.execute(&fill).await;
    let held = holds(&database, "SELECT delivery_id, claim FROM postcall.delivery ORDER BY claim LIMIT 6").await;
    let mut held = held.into_iter();
    let late: Vec<Finished> = held.by_ref().take(EACH).map(failed).collect();
    assert_eq!(session.record_evidence(&late).await.unwrap(), 2);
    let unsent: Vec<ClaimToken> = held.by_ref().take(EACH).collect();
    assert_eq!(session.record_unsent(&unsent.iter().collect::<Vec<_>>()).await.unwrap(), 2);
    let again: Vec<Finished> = held.take(EACH).map(failed).collect();
    session.finish(&again).await.unwrap();
    drop(session);
    database.until("SELECT n_tup_ins = 4 FROM pg_stat_user_tables WHERE relname = 'resolution'").await;
    let read = "SELECT sum(idx_tup_read)::bigint FROM pg_stat_user_indexes WHERE relname LIKE 'delivery\\_%'";
    let read = database.number(read).await;
    assert!(read <= MOST_ENTRIES_READ, "{read} entries were read");
}
