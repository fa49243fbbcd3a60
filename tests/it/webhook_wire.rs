//! What requests look like on the wire, and how many connections they use.

use std::future::pending;
use std::sync::Arc;

use postcall::domain::action::Method;
use postcall::domain::delivery::{BodyEnd, UnknownReason};
use postcall::domain::request::Request;
use postcall::webhook::SendGate;
use tokio::sync::Notify;
use uuid::Uuid;

use crate::support::attempt::{
    AMPLE_MS, OK, assert_answered, assert_one_request, assert_unknown, get, post, send, webhook,
};
use crate::support::receiver::Receiver;

#[tokio::test]
async fn a_post_goes_out_byte_for_byte() {
    let receiver = Receiver::answering(OK).await;
    let mut request = post(&receiver.url("/hook?x=%20y"), AMPLE_MS);
    request.headers.push(("x-name".to_owned(), "Grüße ".trim_end().to_owned()));
    request.body = Some("{ \"ü\" : \"\\u0000\" }".to_owned());
    let id = Uuid::now_v7();
    let attempt = webhook().send(&request, id, &SendGate::open(), pending()).await;
    assert_answered(&attempt, 200, b"ok", BodyEnd::Complete);
    let expected = format!(
        "POST /hook?x=%20y HTTP/1.1\r\ncontent-type: application/json\r\nx-name: Grüße\r\nwebhook-id: {id}\r\n\
         accept: */*\r\nuser-agent: postcall/{}\r\nhost: {}\r\ncontent-length: 19\r\n\r\n{{ \"ü\" : \"\\u0000\" }}",
        env!("CARGO_PKG_VERSION"),
        receiver.address(),
    );
    assert_eq!(receiver.texts(), [expected]);
}

#[tokio::test]
async fn a_get_goes_out_without_body_or_any_framing_of_one() {
    let receiver = Receiver::answering(OK).await;
    let id = Uuid::now_v7();
    let attempt = webhook().send(&get(&receiver.url("/"), AMPLE_MS), id, &SendGate::open(), pending()).await;
    assert_answered(&attempt, 200, b"ok", BodyEnd::Complete);
    let expected = format!(
        "GET / HTTP/1.1\r\nwebhook-id: {id}\r\naccept: */*\r\nuser-agent: postcall/{}\r\nhost: {}\r\n\r\n",
        env!("CARGO_PKG_VERSION"),
        receiver.address(),
    );
    assert_eq!(receiver.texts(), [expected]);
}

#[tokio::test]
async fn a_large_body_arrives_whole() {
    let receiver = Receiver::answering(OK).await;
    let request = Request { body: Some("x".repeat(5 << 20)), ..post(&receiver.url("/"), AMPLE_MS) };
    assert_answered(&send(&request).await, 200, b"ok", BodyEnd::Complete);
    assert_one_request(&receiver);
    assert!(receiver.texts()[0].ends_with(request.body.as_deref().unwrap()));
}

#[tokio::test]
async fn a_put_may_have_an_empty_body_and_says_so() {
    let receiver = Receiver::answering(OK).await;
    let request = Request { method: Method::Put, body: Some(String::new()), ..post(&receiver.url("/"), AMPLE_MS) };
    assert_answered(&send(&request).await, 200, b"ok", BodyEnd::Complete);
    assert!(receiver.texts()[0].contains("\r\ncontent-length: 0\r\n"));
}

// Kept-alive connections.

#[tokio::test]
async fn a_second_request_goes_over_the_same_connection() {
    let receiver = Receiver::answering(OK).await;
    let webhook = webhook();
    let request = post(&receiver.url("/"), AMPLE_MS);
    let first = webhook.send(&request, Uuid::now_v7(), &SendGate::open(), pending()).await;
    let second = webhook.send(&request, Uuid::now_v7(), &SendGate::open(), pending()).await;
    assert_answered(&first, 200, b"ok", BodyEnd::Complete);
    assert_answered(&second, 200, b"ok", BodyEnd::Complete);
    assert!(first.timing.connected.is_some() && second.timing.connected.is_none());
    assert_eq!(receiver.received().len(), 1);
}

#[tokio::test]
async fn a_request_after_the_idle_connection_was_closed_arrives_once_on_a_new_one() {
    let gone = Arc::new(Notify::new());
    let signal = Arc::clone(&gone);
    let receiver = Receiver::start(move |mut peer| {
        let gone = Arc::clone(&signal);
        async move {
            peer.request().await;
            peer.write(OK).await;
            if peer.number() == 0 {
                peer.finish().await;
                // The client closes its half when it has seen the end of this one.
                peer.hang().await;
                gone.notify_one();
            }
            peer.hang().await;
        }
    })
    .await;
    let webhook = webhook();
    let request = post(&receiver.url("/"), AMPLE_MS);
    assert_answered(
        &webhook.send(&request, Uuid::now_v7(), &SendGate::open(), pending()).await,
        200,
        b"ok",
        BodyEnd::Complete,
    );
    gone.notified().await;
    let second = webhook.send(&request, Uuid::now_v7(), &SendGate::open(), pending()).await;
    assert_answered(&second, 200, b"ok", BodyEnd::Complete);
    assert!(second.timing.connected.is_some());
    let requests: Vec<usize> = receiver.texts().iter().map(|text| text.matches("POST / ").count()).collect();
    assert_eq!(requests, [1, 1]);
}

#[tokio::test]
async fn a_kept_alive_connection_that_dies_under_a_request_is_unknown_and_the_request_not_repeated() {
    let receiver = Receiver::start(|mut peer| async move {
        peer.request().await;
        peer.write(OK).await;
        peer.request().await;
        peer.reset();
    })
    .await;
    for request in [post, get] {
        let webhook = webhook();
        let request = request(&receiver.url("/"), AMPLE_MS);
        let before = receiver.received().len();
        assert_answered(
            &webhook.send(&request, Uuid::now_v7(), &SendGate::open(), pending()).await,
            200,
            b"ok",
            BodyEnd::Complete,
        );
        assert_unknown(
            &webhook.send(&request, Uuid::now_v7(), &SendGate::open(), pending()).await,
            UnknownReason::Reset,
        );
        assert_eq!(receiver.received().len(), before + 1);
    }
}
