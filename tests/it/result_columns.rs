//! Each value of a result stands in its own column, in history and in what is learnt late: no two are exchanged.

use std::time::Duration;

use postcall::domain::action::Method;
use postcall::domain::body_digest::{BodyDigest, KEYED_BYTES};
use postcall::domain::claim::{AttemptRecord, ClaimToken, Completion, Finished, SentRequest};
use postcall::domain::delivery::{Answer, BodyEnd, Ending, Failure, Outcome, Timing};
use postcall::store::claim::{Claimant, Portion};
use postcall::store::history::HistoryRow;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::database::{Database, first_lane};

/// A result in which no two values are equal.
fn distinct(token: ClaimToken, outcome: Outcome) -> Finished {
    let sent = SentRequest {
        method: Method::Put,
        url: "https://receiver.example/distinct".to_owned(),
        body_bytes: Some(11),
        body_digest: Some(BodyDigest::Plain([12; 32])),
        head_digest: Some([19; KEYED_BYTES]),
        unresolved: vec!["first".to_owned(), "second".to_owned()],
    };
    let millis = Duration::from_millis;
    let timing =
        Timing { latency: millis(16), dns: Some(millis(13)), connected: Some(millis(14)), head: Some(millis(15)) };
    let record = AttemptRecord { sent: Some(sent), timing: Some(timing) };
    match token.complete(Ending::Final(outcome), record) {
        Completion::Finished(finished) => finished,
        Completion::Unsent(_) => panic!("an outcome finishes"),
    }
}

fn answered() -> Outcome {
    Outcome::Answered(Answer {
        response_code: 299,
        response_bytes: 17,
        response_digest: BodyDigest::Keyed([18; KEYED_BYTES]),
        body_end: BodyEnd::Truncated,
        excerpt: None,
    })
}

fn failed() -> Outcome {
    Outcome::Failed { kind: Failure::Tls, detail: "a detail".to_owned() }
}

/// The columns that both kinds of result have.
fn of_any_result(state: &str) -> Value {
    json!({
        "state": state, "method": "PUT", "url": "https://receiver.example/distinct", "request_bytes": 11,
        "request_sha256": format!("\\x{}", "0c".repeat(32)), "unresolved": ["first", "second"], "latency_ms": 16,
        "dns_ms": 13, "connected_ms": 14, "head_ms": 15,
        "request_head_hmac": format!("\\x{}", "13".repeat(KEYED_BYTES)),
    })
}

fn of_an_answer() -> Value {
    let mut columns = of_any_result("delivered");
    columns["response_code"] = json!(299);
    columns["response_bytes"] = json!(17);
    columns["response_sha256"] = json!(format!("\\x{}", "12".repeat(KEYED_BYTES)));
    columns["body_end"] = json!("truncated");
    columns
}

fn of_a_failure() -> Value {
    let mut columns = of_any_result("failed");
    columns["error_kind"] = json!("tls");
    columns["error_detail"] = json!("a detail");
    columns
}

/// What people and commands read.
const VIEW: &str = "postcall.delivery_history";

/// A row's result columns, as far as they hold something.
async fn columns(database: &Database, table: &str, delivery_id: Uuid) -> Value {
    let sql = format!(
        "SELECT (jsonb_strip_nulls(to_jsonb(row)) - 'delivery_id' - 'call_id' - 'claim' - 'action_id' - 'created_at'
                 - 'claimed_at' - 'finished_at' - 'action_version' - 'dispatcher_id' - 'agent' - 'call_sid'
                 - 'source' - 'resolved_by' - 'resolved_at' - 'reason' - 'db_user'
                 - 'action' - 'queue_ms' - 'dispatcher' - 'message_id' - 'recorded_state' - 'recorded_error_kind'
                 - 'resolved_from' - 'resolution_reason' - 'recorded_error_detail' - 'xact')::text
         FROM {table} AS row WHERE delivery_id = '{delivery_id}'"
    );
    serde_json::from_str(&database.text(&sql).await.unwrap()).unwrap()
}

#[tokio::test]
async fn each_value_of_a_result_stands_in_its_own_column_of_history() {
    let database = Database::new().await;
    database.publish("a", "default", &json!({"method": "PUT", "url": "https://receiver.example/"})).await;
    for _ in 0..2 {
        database.insert_call("a", &json!({"callInfo": {"callSid": "CA19"}})).await;
    }
    let mut session = database.session();
    let claimant = Claimant { dispatcher_id: Database::register(&mut session).await, epoch: 1 };
    let claim = Uuid::now_v7();
    let taken = session.claim(claimant, claim, &first_lane(10), Portion::UNBOUNDED).await.unwrap();
    let [first, second] = [0, 1].map(|at| taken.claimed[at].token.delivery_id());
    let of_first = distinct(ClaimToken::new(first, claim), answered());
    let of_second = distinct(ClaimToken::new(second, claim), failed());
    session.finish(&[of_first, of_second]).await.unwrap();
    assert_eq!(columns(&database, "postcall.delivery", first).await, of_an_answer());
    assert_eq!(columns(&database, "postcall.delivery", second).await, of_a_failure());
    let known =
        database.text("SELECT string_agg(DISTINCT claim || ' ' || call_sid, ', ') FROM postcall.delivery").await;
    assert_eq!(known.unwrap(), format!("{claim} CA19"));
}

#[tokio::test]
async fn each_value_of_a_late_result_stands_in_its_own_column_beside_history() {
    let database = Database::new().await;
    let lose =
        "INSERT INTO postcall.delivery (delivery_id, call_id, claim, action_id, created_at, claimed_at, finished_at,
                                               action_version, dispatcher_id, agent, state, error_kind, error_detail)
                VALUES (postcall.uuid_v7(), postcall.uuid_v7(), gen_random_uuid(), 1, now(), now(), now(), 1, 1, 'a',
                        'unknown', 'dispatcher_lost', 'lost')
                RETURNING delivery_id, claim";
    let mut lost = Vec::new();
    for _ in 0..2 {
        lost.push(sqlx::query_as::<_, (Uuid, Uuid)>(lose).fetch_one(&database.pool).await.unwrap());
    }
    let [(first, claim_of_first), (second, claim_of_second)] = lost[..] else { panic!("two") };
    let of_first = distinct(ClaimToken::new(first, claim_of_first), answered());
    let of_second = distinct(ClaimToken::new(second, claim_of_second), failed());
    assert_eq!(database.session().record_evidence(&[of_first, of_second]).await.unwrap(), 2);
    assert_eq!(columns(&database, "postcall.resolution", first).await, of_an_answer());
    assert_eq!(columns(&database, "postcall.resolution", second).await, of_a_failure());
    // And so it is shown.
    assert_eq!(columns(&database, VIEW, first).await, of_an_answer(), "the view");
    assert_eq!(columns(&database, VIEW, second).await, of_a_failure(), "the view");
    let shown = database.store.delivery(first).await.unwrap().unwrap();
    let object = serde_json::to_value(&shown).unwrap();
    assert_eq!(
        object.as_object().unwrap().keys().collect::<Vec<_>>(),
        HistoryRow::COLUMNS,
        "in the order of its fields"
    );
    assert_eq!(
        (shown.dns_ms, shown.connected_ms, shown.head_ms, shown.latency_ms),
        (Some(13), Some(14), Some(15), Some(16))
    );
    assert_eq!((shown.request_bytes, shown.response_bytes, shown.response_code), (Some(11), Some(17), Some(299)));
}
