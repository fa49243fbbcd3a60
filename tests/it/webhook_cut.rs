//! Attempts that the dispatcher ends early: what was not sent is unsent, and what may have been sent is not called
//! unsent.

use std::collections::HashSet;
use std::future::pending;
use std::sync::Arc;

use postcall::domain::delivery::{BodyEnd, Ending, UnknownReason};
use postcall::webhook::SendGate;
use tokio::net::TcpStream;
use tokio::sync::{Notify, watch};
use uuid::Uuid;

use crate::support::attempt::{AMPLE_MS, OK, assert_answered, assert_one_request, assert_unknown, get, post, webhook};
use crate::support::receiver::Receiver;

#[tokio::test]
async fn an_attempt_cut_before_the_request_went_out_is_unsent() {
    let begun = Arc::new(Notify::new());
    let signal = Arc::clone(&begun);
    let receiver = Receiver::start(move |mut peer| {
        let begun = Arc::clone(&signal);
        async move {
            peer.something().await;
            begun.notify_one();
            peer.hang().await;
        }
    })
    .await;
    let request = post(&format!("https://{}/", receiver.address()), AMPLE_MS);
    let attempt = webhook().send(&request, Uuid::now_v7(), &SendGate::open(), begun.notified()).await;
    assert_eq!(attempt.ending, Ending::Unsent);
}

#[tokio::test]
async fn an_attempt_cut_after_the_request_went_out_is_unknown() {
    for request in [post, get] {
        let arrived = Arc::new(Notify::new());
        let signal = Arc::clone(&arrived);
        let receiver = Receiver::start(move |mut peer| {
            let arrived = Arc::clone(&signal);
            async move {
                peer.request().await;
                arrived.notify_one();
                peer.hang().await;
            }
        })
        .await;
        let request = request(&receiver.url("/"), AMPLE_MS);
        let attempt = webhook().send(&request, Uuid::now_v7(), &SendGate::open(), arrived.notified()).await;
        assert_unknown(&attempt, UnknownReason::DispatcherLost);
        assert_one_request(&receiver);
    }
}

#[tokio::test]
async fn an_attempt_cut_inside_the_response_body_keeps_its_answer() {
    let written = Arc::new(Notify::new());
    let signal = Arc::clone(&written);
    let receiver = Receiver::start(move |mut peer| {
        let written = Arc::clone(&signal);
        async move {
            peer.request().await;
            peer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n").await;
            written.notify_one();
            peer.hang().await;
        }
    })
    .await;
    let cut = async {
        written.notified().await;
        // The head is on its way; one round trip through the same loopback is later than it.
        drop(TcpStream::connect(receiver.address()).await);
    };
    let attempt = webhook().send(&post(&receiver.url("/"), AMPLE_MS), Uuid::now_v7(), &SendGate::open(), cut).await;
    assert_answered(&attempt, 200, b"", BodyEnd::Cut);
}

/// The connection is another task, which may take the request at the very moment at which the attempt is cut.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whenever_it_is_cut_a_request_called_unsent_never_arrives() {
    let (ended, mut connections_ended) = watch::channel(0);
    let receiver = Receiver::start(move |mut peer| {
        let ended = ended.clone();
        async move {
            while peer.request().await && peer.write(OK).await {}
            ended.send_modify(|count| *count += 1);
        }
    })
    .await;
    let webhook = webhook();
    let request = post(&receiver.url("/"), AMPLE_MS);
    let mut unsent = HashSet::new();
    let mut others = 0;
    for round in 0..600 {
        // Leaves a connection behind, so that the next request can be taken at once.
        webhook.send(&request, Uuid::now_v7(), &SendGate::open(), pending()).await;
        let cut = async move {
            for _ in 0..round % 6 {
                tokio::task::yield_now().await;
            }
        };
        let id = Uuid::now_v7();
        match webhook.send(&request, id, &SendGate::open(), cut).await.ending {
            Ending::Unsent => drop(unsent.insert(id.to_string())),
            Ending::Final(_) => others += 1,
        }
    }
    drop(webhook);
    let opened = receiver.received().len();
    connections_ended.wait_for(|ended| *ended >= opened).await.unwrap();
    let arrived: HashSet<String> = receiver.texts().iter().flat_map(|text| webhook_ids(text)).collect();
    assert!(!unsent.is_empty() && others > 0, "{} unsent, {others} others", unsent.len());
    assert_eq!(arrived.intersection(&unsent).count(), 0);
}

fn webhook_ids(text: &str) -> Vec<String> {
    text.lines().filter_map(|line| line.strip_prefix("webhook-id: ")).map(str::to_owned).collect()
}
