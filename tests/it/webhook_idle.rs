//! Idle connections, which wait for their next request, and what may happen to them meanwhile.

use std::future::pending;
use std::sync::Arc;

use postcall::domain::delivery::{BodyEnd, Ending, Failure, Outcome, UnknownReason};
use postcall::webhook::SendGate;
use tokio::sync::{Barrier, mpsc, watch};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::support::attempt::{AMPLE_MS, OK, assert_answered, post, webhook};
use crate::support::receiver::{Peer, Receiver};

/// A receiver that answers one request on each connection and sends `uncalled_for` whenever it is told to, on the
/// connection that was opened last. It counts the requests of each connection in its log.
async fn talkative(
    answer: &'static [u8],
    uncalled_for: &'static [u8],
) -> (Receiver, mpsc::Sender<()>, mpsc::Receiver<()>) {
    let (tell, told) = mpsc::channel::<()>(1);
    let (said, has_said) = mpsc::channel(1);
    let told = Arc::new(tokio::sync::Mutex::new(told));
    let receiver = Receiver::start(move |mut peer: Peer| {
        let (told, said) = (Arc::clone(&told), said.clone());
        async move {
            peer.request().await;
            peer.write(answer).await;
            if told.lock().await.recv().await.is_some() {
                peer.write(uncalled_for).await;
                said.send(()).await.ok();
            }
            // Would answer a request that came after all.
            while peer.request().await && peer.write(OK).await {}
        }
    })
    .await;
    (receiver, tell, has_said)
}

/// The runtime has two threads, so that it may hear of the bytes before, while or after the connection is used again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_came_uncalled_for_on_an_idle_connection_is_never_taken_for_an_answer() {
    const TIMEOUT_408: &[u8] = b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    const OK_204: &[u8] = b"HTTP/1.1 204 No Content\r\n\r\n";
    for (answer, uncalled_for) in [(OK, TIMEOUT_408), (OK_204, b"not expected".as_slice()), (OK, b"\r\n")] {
        let webhook = webhook();
        let (receiver, tell, mut has_said) = talkative(answer, uncalled_for).await;
        let request = post(&receiver.url("/"), AMPLE_MS);
        for round in 0..100 {
            let attempt = webhook.send(&request, Uuid::now_v7(), &SendGate::open(), pending()).await;
            let Ending::Final(Outcome::Answered(answer)) = &attempt.ending else {
                panic!("round {round}: {:?}", attempt.ending)
            };
            assert_eq!(answer.response_code / 100, 2, "round {round}");
            assert!(attempt.timing.connected.is_some(), "round {round}: the connection was used again");
            tell.send(()).await.unwrap();
            has_said.recv().await.unwrap();
        }
        let texts = receiver.texts();
        assert!(texts.iter().all(|text| text.matches("POST / ").count() == 1), "each connection carries one request");
    }
}

#[tokio::test]
async fn a_host_that_speaks_first_is_never_said_to_have_no_request_when_it_has_one() {
    let (ended, mut connections_ended) = watch::channel(0);
    let receiver = Receiver::start(move |mut peer| {
        let ended = ended.clone();
        async move {
            peer.write(b"220 mail.example ESMTP\r\n").await;
            peer.hang().await;
            ended.send_modify(|count| *count += 1);
        }
    })
    .await;
    for round in 0..50 {
        let request = post(&receiver.url("/"), AMPLE_MS);
        let attempt = webhook().send(&request, Uuid::now_v7(), &SendGate::open(), pending()).await;
        connections_ended.wait_for(|ended| *ended == round + 1).await.unwrap();
        match attempt.ending {
            Ending::Final(Outcome::Failed { kind: Failure::Connect, .. }) => {
                assert!(receiver.texts()[round].is_empty(), "round {round}");
            }
            Ending::Final(Outcome::Unknown { kind: UnknownReason::Protocol, .. }) => {}
            other => panic!("round {round}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn idle_connections_to_one_receiver_are_bounded_and_do_not_last() {
    const AT_ONCE: usize = 300;
    const MAX_IDLE_PER_TARGET: usize = 256;
    let (ended, mut connections_ended) = watch::channel(0);
    let all_arrived = Arc::new(Barrier::new(AT_ONCE));
    let receiver = Receiver::start(move |mut peer| {
        let (ended, all_arrived) = (ended.clone(), Arc::clone(&all_arrived));
        async move {
            peer.request().await;
            // So that no connection can be used again before all are open.
            all_arrived.wait().await;
            peer.write(OK).await;
            peer.hang().await;
            ended.send_modify(|count| *count += 1);
        }
    })
    .await;
    let webhook = Arc::new(webhook());
    let mut senders = JoinSet::new();
    for _ in 0..AT_ONCE {
        let (webhook, request) = (Arc::clone(&webhook), post(&receiver.url("/"), AMPLE_MS));
        senders.spawn(async move { webhook.send(&request, Uuid::now_v7(), &SendGate::open(), pending()).await });
    }
    for attempt in senders.join_all().await {
        assert_answered(&attempt, 200, b"ok", BodyEnd::Complete);
    }
    connections_ended.wait_for(|ended| *ended >= AT_ONCE - MAX_IDLE_PER_TARGET).await.unwrap();
    // The others follow although nobody uses the client.
    connections_ended.wait_for(|ended| *ended == AT_ONCE).await.unwrap();
    assert_eq!(receiver.received().len(), AT_ONCE);
    drop(webhook);
}
