//! Excerpts of responses: kept only if the operator says so, for those who may read them, until their time is past.

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::database::Database;
use crate::support::keys::{key_file, new_key, set};
use crate::support::process::{Dispatcher, file, postcall_at, postcall_on, stderr, stdout};
use crate::support::receiver::Receiver;

/// A response that is no 2xx and longer than what is kept: a beginning, a middle and an end.
async fn refusing() -> Receiver {
    Receiver::start(|mut peer| async move {
        while peer.request().await {
            let body = format!("{{\"error\": \"no such lead\"}}{}the end", "x".repeat(5_000));
            let head = format!("HTTP/1.1 422 Unprocessable\r\ncontent-length: {}\r\n\r\n", body.len());
            if !peer.write((head + &body).as_bytes()).await {
                return;
            }
        }
    })
    .await
}

/// Delivers one call of an agent to `receiver`, by a dispatcher with these arguments, which keeps the excerpt after the result.
/// Returns the dispatcher, and the delivery's id.
async fn rejected(database: &Database, receiver: &Receiver, arguments: &[&str]) -> (Dispatcher, String) {
    database.publish("a", "default", &json!({"method": "POST", "url": receiver.url("/")})).await;
    let call = database.insert_call("a", &json!({"callInfo": {"callSid": "CA1"}})).await;
    let dispatcher = Dispatcher::start(database, arguments).await;
    database.settled().await;
    let ended =
        format!("SELECT delivery_id::text FROM postcall.delivery WHERE call_id = '{call}' AND state = 'rejected'");
    (dispatcher, database.text(&ended).await.unwrap())
}

#[tokio::test]
async fn the_beginning_and_the_end_of_a_refusal_are_shown_to_those_who_may_read_them_alone() {
    let (database, receiver) = (Database::new().await, refusing().await);
    let (_dispatcher, delivery) = rejected(&database, &receiver, &["--keep-responses-days", "3"]).await;
    database.until("SELECT EXISTS (SELECT FROM postcall.response_excerpt)").await;
    let shown = stdout(&postcall_on(&database, &["show", &delivery]));
    let (_, excerpt) = shown.split_once("\nfrom the response\n").unwrap();
    assert!(
        excerpt.starts_with("  {\"error\": \"no such lead\"}xxx") && excerpt.trim_end().ends_with("xthe end"),
        "{excerpt}"
    );
    assert!(excerpt.contains("  … 936 bytes …\n"), "{excerpt}");
    let hours = "SELECT extract(epoch FROM kept_until - now() + interval '1 minute')::bigint / 3600 FROM postcall.response_excerpt";
    assert_eq!(database.number(hours).await, 72);

    let auditor = database.login(&["postcall_auditor"]).await;
    let shown: Value = serde_json::from_str(&stdout(&postcall_at(&auditor, &["show", &delivery, "--json"]))).unwrap();
    assert_eq!((&shown["response_code"], &shown["response_excerpt"]), (&json!(422), &Value::Null));
}

#[tokio::test]
async fn none_is_kept_unless_the_operator_says_so() {
    let (database, receiver) = (Database::new().await, refusing().await);
    let (dispatcher, _) = rejected(&database, &receiver, &[]).await;
    // It ends in order, so that nothing is kept later.
    dispatcher.signal(Signal::SIGTERM);
    assert!(dispatcher.ended().await.0);
    assert_eq!(database.number("SELECT count(*) FROM postcall.response_excerpt").await, 0);
}

#[tokio::test]
async fn results_are_recorded_although_their_excerpts_cannot_be_kept() {
    let (database, receiver) = (Database::new().await, refusing().await);
    database.execute("REVOKE INSERT ON postcall.response_excerpt FROM postcall_dispatcher").await;
    let url = database.login(&["postcall_dispatcher"]).await;
    database.publish("a", "default", &json!({"method": "POST", "url": receiver.url("/")})).await;
    let mut dispatcher = Dispatcher::start_at(&url, &["--keep-responses-days", "3"]).await;
    database.insert_call("a", &json!({})).await;
    dispatcher.says("excerpts of responses cannot be kept").await;
    database.settled().await;
    assert_eq!(database.number("SELECT count(*) FROM postcall.delivery WHERE state = 'rejected'").await, 1);
}

#[tokio::test]
async fn what_is_past_its_time_is_not_shown_and_goes_portion_by_portion_and_nothing_else_goes() {
    let database = Database::new().await;
    let fill = |rows: u32, until: &str| {
        format!(
            "INSERT INTO postcall.response_excerpt SELECT gen_random_uuid(), '\\x61', '', 0, now() + interval '{until}'
             FROM generate_series(1, {rows})"
        )
    };
    database.execute(&fill(1_500, "-1 second")).await;
    database.execute(&fill(2, "1 day")).await;
    let old =
        database.text("SELECT delivery_id::text FROM postcall.response_excerpt ORDER BY kept_until LIMIT 1").await;
    let mut session = database.session();
    assert!(database.store.excerpt(old.unwrap().parse().unwrap()).await.unwrap().is_none());
    for expected in [1_000, 500, 0] {
        assert_eq!(session.expire_excerpts().await.unwrap(), expected);
    }
    assert_eq!(database.number("SELECT count(*) FROM postcall.response_excerpt").await, 2);
}

#[tokio::test]
async fn a_dispatcher_deletes_what_is_past_its_time_and_says_how_many() {
    let database = Database::new().await;
    // More than one portion.
    let old =
        "INSERT INTO postcall.response_excerpt SELECT gen_random_uuid(), '\\x61', '', 0, now() - interval '1 second'
               FROM generate_series(1, 1500)";
    database.execute(old).await;
    let mut dispatcher = Dispatcher::start(&database, &[]).await;
    let said = dispatcher.says("deleted excerpts of responses that were past their time").await;
    assert!(said.contains("1500"), "{said}");
    assert_eq!(database.number("SELECT count(*) FROM postcall.response_excerpt").await, 0);
}

#[tokio::test]
async fn a_lock_on_the_excerpts_keeps_results_waiting_for_half_a_second_at_most() {
    let (database, receiver) = (Database::new().await, refusing().await);
    database.publish("a", "default", &json!({"method": "POST", "url": receiver.url("/")})).await;
    let mut holder = database.pool.begin().await.unwrap();
    sqlx::query("LOCK TABLE postcall.response_excerpt").execute(&mut *holder).await.unwrap();
    let mut dispatcher = Dispatcher::start(&database, &["--keep-responses-days", "3"]).await;
    for _ in 0..3 {
        database.insert_call("a", &json!({})).await;
    }
    let said = dispatcher.says("excerpts of responses cannot be kept").await;
    assert!(said.contains("within 500ms"), "{said}");
    // While the table is still locked.
    database.settled().await;
    assert_eq!(database.number("SELECT count(*) FROM postcall.delivery WHERE state = 'rejected'").await, 3);
    holder.rollback().await.unwrap();
}

#[tokio::test]
async fn a_secret_that_a_receiver_sends_back_does_not_get_into_the_database() {
    let database = Database::new().await;
    let echoing = Receiver::start(|mut peer| async move {
        while peer.request().await {
            let got = format!("you sent s3cr\\\"t and s3cr%22t and s3cr\"t, 16 {}", peer.number());
            let head = format!("HTTP/1.1 422 Unprocessable\r\ncontent-length: {}\r\n\r\n", got.len());
            if !peer.write((head + &got).as_bytes()).await {
                return;
            }
        }
    })
    .await;
    let keys = key_file(&[&new_key()]);
    set(&database, &keys, "a", "K", "s3cr\"t");
    let action = json!({"method": "POST", "url": echoing.url("/"), "headers": {"x-key": "${secret.K}"}});
    database.publish("a", "default", &action).await;
    database.insert_call("a", &json!({})).await;
    let keys = keys.path().to_str().unwrap();
    let _dispatcher = Dispatcher::start(&database, &["--keep-responses-days", "3", "--key-file", keys]).await;
    database.until("SELECT EXISTS (SELECT FROM postcall.response_excerpt)").await;
    let kept = "SELECT convert_from(beginning, 'UTF8') FROM postcall.response_excerpt";
    let kept = database.text(kept).await.unwrap();
    assert!(kept.starts_with("you sent *** and *** and ***, 16 "), "{kept}");
    assert!(String::from_utf8_lossy(&echoing.received()[0]).contains("s3cr\"t"));
}

#[tokio::test]
async fn a_token_that_was_typed_into_a_sealed_version_does_not_come_back_in_clear() {
    let database = Database::new().await;
    let answer = b"HTTP/1.1 422 Unprocessable\r\ncontent-length: 70\r\n\r\n\
                   /hook/pathT0k3nA1 Authorization: Bearer hdrT0k3nB2, bad lead in body!!";
    let echoing = Receiver::answering(answer).await;
    let keys = key_file(&[&new_key()]);
    let key = keys.path().to_str().unwrap();
    let action = file(
        &json!({"method": "POST", "url": echoing.url("/hook/pathT0k3nA1"),
                "headers": {"authorization": "Bearer hdrT0k3nB2"}})
        .to_string(),
    );
    let publish = ["action", "publish", "a", action.path().to_str().unwrap(), "--by", "Ada", "--key-file", key];
    let published = postcall_on(&database, &publish);
    assert!(published.status.success(), "{}", stderr(&published));
    database.insert_call("a", &json!({})).await;
    let _dispatcher = Dispatcher::start(&database, &["--keep-responses-days", "3", "--key-file", key]).await;
    database.until("SELECT EXISTS (SELECT FROM postcall.response_excerpt)").await;
    let kept = "SELECT convert_from(beginning, 'UTF8') FROM postcall.response_excerpt";
    let kept = database.text(kept).await.unwrap();
    assert_eq!(kept, "/hook/*** Authorization: ***, bad lead in body!!");
    assert!(String::from_utf8_lossy(&echoing.received()[0]).contains("hdrT0k3nB2"));
}
