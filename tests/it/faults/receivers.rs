//! Receivers that misbehave in ways that tempt a client to send twice, or to doubt without need.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use postcall::domain::delivery::BodyEnd;
use postcall::webhook::{SendGate, Webhook};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::support::attempt::{AMPLE_MS, OK, answer, assert_answered, assert_one_request, post, send, webhook};
use crate::support::receiver::{Peer, Receiver};
use crate::support::seed::chance;

/// How long Node's HTTP server keeps an idle connection by default.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// Receivers that are called side by side, so that a thousand calls every five seconds take half a minute.
const RECEIVERS: usize = 200;
const CALLS_EACH: usize = 5;

/// Answers requests, and closes the connection when none has come for the time that it keeps it.
async fn keep_alive_server(mut peer: Peer) {
    while let Ok(true) = tokio::time::timeout(KEEP_ALIVE, peer.request()).await {
        peer.write(OK).await;
    }
    peer.finish().await;
}

/// In real time, nothing scaled: each receiver is called as often as it closes its idle connections.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_closes_idle_connections_when_it_is_called_again_causes_no_doubt() {
    let mut chance = chance("a_server_that_closes_idle_connections_when_it_is_called_again_causes_no_doubt");
    let webhook = Arc::new(webhook());
    let mut callers = JoinSet::new();
    for _ in 0..RECEIVERS {
        callers.spawn(call_every_keep_alive(webhook.clone(), chance.fork()));
    }
    let calls: usize = callers.join_all().await.into_iter().sum();
    assert_eq!(calls, RECEIVERS * CALLS_EACH);
    println!("{calls} calls about every {KEEP_ALIVE:?}, all answered");
}

async fn call_every_keep_alive(webhook: Arc<Webhook>, mut chance: fastrand::Rng) -> usize {
    let receiver = Receiver::start(keep_alive_server).await;
    let request = post(&receiver.url("/"), AMPLE_MS);
    for _ in 0..CALLS_EACH {
        let attempt = webhook.send(&request, Uuid::now_v7(), &SendGate::open(), pending()).await;
        assert_answered(&attempt, 200, b"ok", BodyEnd::Complete);
        // The schedule under test: a little before, at and a little after the moment at which the server closes.
        tokio::time::sleep(KEEP_ALIVE - Duration::from_millis(20) + Duration::from_millis(chance.u64(..40))).await;
    }
    receiver.texts().iter().map(|text| text.matches("POST / ").count()).sum()
}

#[tokio::test]
async fn a_second_answer_is_not_taken_for_that_of_the_next_request() {
    let receiver = Receiver::start(|mut peer| async move {
        peer.request().await;
        peer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 500 No\r\ncontent-length: 2\r\n\r\nno")
            .await;
        while peer.request().await {
            peer.write(OK).await;
        }
    })
    .await;
    let webhook = webhook();
    let request = post(&receiver.url("/"), AMPLE_MS);
    for _ in 0..2 {
        let attempt = webhook.send(&request, Uuid::now_v7(), &SendGate::open(), pending()).await;
        assert_answered(&attempt, 200, b"ok", BodyEnd::Complete);
    }
    let requests: usize = receiver.texts().iter().map(|text| text.matches("POST / ").count()).sum();
    assert_eq!(requests, 2);
}

#[tokio::test]
async fn an_answer_on_a_connection_whose_other_half_is_closed_counts() {
    let receiver = Receiver::start(|mut peer| async move {
        peer.request().await;
        peer.write(OK).await;
        peer.finish().await;
        peer.hang().await;
    })
    .await;
    assert_answered(&send(&post(&receiver.url("/"), AMPLE_MS)).await, 200, b"ok", BodyEnd::Complete);
    assert_one_request(&receiver);
}

#[tokio::test]
async fn interim_responses_without_end_are_no_answer_and_no_reason_to_send_again() {
    let receiver = Receiver::start(|mut peer| async move {
        peer.request().await;
        for _ in 0..50 {
            peer.write(b"HTTP/1.1 102 Processing\r\n\r\n").await;
        }
        peer.write(OK).await;
        peer.hang().await;
    })
    .await;
    let attempt = send(&post(&receiver.url("/"), AMPLE_MS)).await;
    assert_eq!(answer(&attempt).response_code, 200);
    assert_one_request(&receiver);
}
