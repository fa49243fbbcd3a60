//! Answers of any size and form: what still counts as an answer, where reading ends, and that nothing else waits for
//! it.

use std::future::pending;
use std::io::{Read, Write};
use std::sync::Arc;

use postcall::domain::delivery::{BodyEnd, UnknownReason};
use postcall::domain::request::Request;
use postcall::webhook::SendGate;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::support::attempt::{
    AMPLE_MS, OK, SHORT_MS, answer, assert_answered, assert_one_request, assert_unknown, at_least, post, send, webhook,
};
use crate::support::receiver::Receiver;

/// Answers every request with `start`, and then with `piece` without end.
async fn endless(start: &'static [u8], piece: &'static [u8]) -> Receiver {
    let pieces = piece.repeat(16 * 1024 / piece.len());
    Receiver::start(move |mut peer| {
        let pieces = pieces.clone();
        async move {
            peer.request().await;
            peer.write(start).await;
            while peer.write(&pieces).await {}
        }
    })
    .await
}

/// What may come before the end of a head, and never ends.
const ENDLESS_HEADS: [(&[u8], &[u8]); 5] = [
    (b"", b"HTTP/1.1 102 Processing\r\n\r\n"),
    (b"", b"\r\n"),
    (b"HTTP/1.1 200 OK\r\n", b"name: value\r\n"),
    (b"HTTP/1.1 200 OK\r\nname: value\r\n", b" more of it\r\n"),
    (b"HTTP/1.1 200 OK\r\nname: ", b"x"),
];

/// What may come after a head, and never ends, with the end of the body that is noted.
const ENDLESS_BODIES: [(&[u8], &[u8], BodyEnd); 6] = [
    (b"HTTP/1.1 200 OK\r\n\r\n", b"x", BodyEnd::Truncated),
    (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", b"1\r\nx\r\n", BodyEnd::Truncated),
    (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1;", b"extension;", BodyEnd::Reset),
    (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n", b"name: value\r\n", BodyEnd::Reset),
    (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", b"0000000000000000", BodyEnd::Truncated),
    (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1", b"                ", BodyEnd::Truncated),
];

#[tokio::test]
async fn a_head_without_end_is_unknown_long_before_the_deadline() {
    for (start, piece) in ENDLESS_HEADS {
        let receiver = endless(start, piece).await;
        let attempt = send(&post(&receiver.url("/"), AMPLE_MS)).await;
        assert_unknown(&attempt, UnknownReason::Protocol);
        assert!(!at_least(&attempt, AMPLE_MS) && attempt.timing.head.is_none());
        assert_one_request(&receiver);
    }
}

#[tokio::test]
async fn a_body_that_never_ends_in_any_way_leaves_the_delivery_delivered() {
    for (start, piece, body_end) in ENDLESS_BODIES {
        let receiver = endless(start, piece).await;
        let attempt = send(&post(&receiver.url("/"), AMPLE_MS)).await;
        assert_eq!((answer(&attempt).response_code, answer(&attempt).body_end), (200, body_end));
        assert_one_request(&receiver);
    }
}

#[tokio::test]
async fn a_body_is_read_for_so_many_chunks_and_no_more_however_short_they_are() {
    let start = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    for (chunks, body_end) in [(511, BodyEnd::Complete), (2_000, BodyEnd::Truncated)] {
        let whole: &'static [u8] = format!("{start}{}0\r\n\r\n", "1\r\nx\r\n".repeat(chunks)).leak().as_bytes();
        let attempt = send(&post(&Receiver::answering(whole).await.url("/"), AMPLE_MS)).await;
        let answer = answer(&attempt);
        assert_eq!((answer.response_bytes, answer.body_end), (chunks.min(512) as u64, body_end));
    }
}

/// As many as a dispatcher has in flight, all of them reading from receivers that never stop.
const GREEDY: usize = 64;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn receivers_that_never_stop_sending_hold_up_nobody_else() {
    let webhook = Arc::new(webhook());
    let mut endless_receivers = Vec::new();
    for (start, piece) in ENDLESS_HEADS {
        endless_receivers.push(endless(start, piece).await);
    }
    for (start, piece, _) in ENDLESS_BODIES {
        endless_receivers.push(endless(start, piece).await);
    }
    let mut greedy = JoinSet::new();
    for turn in 0..GREEDY {
        let (webhook, url) = (webhook.clone(), endless_receivers[turn % endless_receivers.len()].url("/"));
        greedy.spawn(async move {
            // Each attempt is followed by another, as a backlog would.
            loop {
                let attempt = webhook.send(&post(&url, AMPLE_MS), Uuid::now_v7(), &SendGate::open(), pending()).await;
                assert!(!at_least(&attempt, AMPLE_MS), "{:?}", attempt.ending);
            }
        });
    }
    let honest = Receiver::answering(OK).await;
    for _ in 0..20 {
        // Far less than `AMPLE_MS`, and far more than it takes.
        let request = post(&honest.url("/"), AMPLE_MS / 4);
        let attempt = webhook.send(&request, Uuid::now_v7(), &SendGate::open(), pending()).await;
        assert_answered(&attempt, 200, b"ok", BodyEnd::Complete);
    }
    assert!(greedy.try_join_next().is_none(), "each of them ends by its own bounds, and goes on");
    greedy.shutdown().await;
}

// What is still an answer.

/// The answer of a receiver that sends `head` and a body of two bytes.
async fn answer_with(head: &str) -> postcall::webhook::Attempt {
    let bytes: &'static [u8] = format!("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n{head}\r\nok").leak().as_bytes();
    let receiver = Receiver::answering(bytes).await;
    let attempt = send(&post(&receiver.url("/"), AMPLE_MS)).await;
    assert_one_request(&receiver);
    attempt
}

#[tokio::test]
async fn many_headers_large_ones_and_folded_ones_are_still_an_answer() {
    for head in [
        "name: value\r\n".repeat(511),
        format!("name: {}\r\n", "x".repeat(200 * 1024)),
        "name: one\r\n two\r\n\tthree\r\n".to_owned(),
    ] {
        assert_answered(&answer_with(&head).await, 200, b"ok", BodyEnd::Complete);
    }
}

#[tokio::test]
async fn more_than_an_answers_head_may_have_is_unknown() {
    for head in ["name: value\r\n".repeat(512), format!("name: {}\r\n", "x".repeat(256 * 1024))] {
        assert_unknown(&answer_with(&head).await, UnknownReason::Protocol);
    }
}

#[tokio::test]
async fn an_answer_counts_although_the_connection_breaks_under_the_rest_of_the_request() {
    // A thread of its own, so that it is quick enough to answer while the client is in the middle of a write.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            stream.read_exact(&mut [0]).unwrap();
            stream.write_all(b"HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").unwrap();
            // With bytes unread, the end of the connection is a reset.
        }
    });
    let request = Request { body: Some("x".repeat(5 << 20)), ..post(&url, AMPLE_MS) };
    let webhook = webhook();
    for _ in 0..200 {
        let attempt = webhook.send(&request, Uuid::now_v7(), &SendGate::open(), pending()).await;
        assert_answered(&attempt, 413, b"", BodyEnd::Complete);
    }
}

#[tokio::test]
async fn a_receiver_that_accepts_and_never_reads_is_unknown_by_the_deadline() {
    let receiver = Receiver::start(|peer| async move {
        let _open = peer.into_stream();
        pending().await
    })
    .await;
    let request = Request { body: Some("x".repeat(16 << 20)), ..post(&receiver.url("/"), 10 * SHORT_MS) };
    assert_unknown(&send(&request).await, UnknownReason::Timeout);
}
