//! All ways in which an attempt over plain TCP can end, against real sockets, and what is known afterwards.

use std::future::pending;
use std::time::Duration;

use postcall::domain::delivery::{BodyEnd, Ending, Failure, Outcome, State, UnknownReason};
use postcall::domain::request::Request;
use postcall::webhook::SendGate;
use tokio::net::{TcpSocket, TcpStream};
use uuid::Uuid;

use crate::support::attempt::{
    AMPLE_MS, OK, SHORT_MS, answer, assert_answered, assert_failed, assert_one_request, assert_unknown, at_least, get,
    post, send, webhook_with,
};
use crate::support::receiver::Receiver;

// Answered.

#[tokio::test]
async fn the_status_code_decides_and_nothing_is_sent_twice() {
    let cases: [(u16, &'static [u8], State); 6] = [
        (200, b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nx", State::Delivered),
        (204, b"HTTP/1.1 204 No Content\r\n\r\n", State::Delivered),
        (404, b"HTTP/1.1 404 Not Found\r\ncontent-length: 1\r\n\r\nx", State::Rejected),
        (429, b"HTTP/1.1 429 Too Many Requests\r\nretry-after: 0\r\ncontent-length: 1\r\n\r\nx", State::Rejected),
        (500, b"HTTP/1.1 500 Oops\r\ncontent-length: 1\r\n\r\nx", State::Rejected),
        (503, b"HTTP/1.1 503 Busy\r\nretry-after: 0\r\ncontent-length: 1\r\n\r\nx", State::Rejected),
    ];
    for (code, response, state) in cases {
        let receiver = Receiver::answering(response).await;
        let attempt = send(&post(&receiver.url("/"), AMPLE_MS)).await;
        assert_eq!(answer(&attempt).response_code, code);
        assert_eq!(Outcome::Answered(answer(&attempt).clone()).state(), state);
        assert_eq!(answer(&attempt).body_end, BodyEnd::Complete);
        assert_one_request(&receiver);
    }
}

#[tokio::test]
async fn a_redirect_is_a_rejection_and_its_target_sees_no_connection() {
    let target = Receiver::answering(OK).await;
    for code in ["301", "302", "303", "307", "308"] {
        let location = target.url("/elsewhere");
        let redirect = format!("HTTP/1.1 {code} Moved\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n");
        let receiver = Receiver::start(move |mut peer| {
            let redirect = redirect.clone();
            async move {
                peer.request().await;
                peer.write(redirect.as_bytes()).await;
                peer.hang().await;
            }
        })
        .await;
        let attempt = send(&post(&receiver.url("/"), AMPLE_MS)).await;
        assert_eq!(answer(&attempt).response_code.to_string(), code);
        assert_one_request(&receiver);
    }
    assert!(target.received().is_empty());
}

#[tokio::test]
async fn interim_responses_are_passed_over() {
    let receiver = Receiver::answering(
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
    )
    .await;
    assert_answered(&send(&post(&receiver.url("/"), AMPLE_MS)).await, 200, b"ok", BodyEnd::Complete);
    assert_one_request(&receiver);
}

#[tokio::test]
async fn an_answer_before_the_whole_request_was_read_counts() {
    let receiver = Receiver::start(|mut peer| async move {
        peer.something().await;
        peer.write(b"HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await;
        peer.hang().await;
    })
    .await;
    let request = Request { body: Some("x".repeat(5 << 20)), ..post(&receiver.url("/"), AMPLE_MS) };
    assert_answered(&send(&request).await, 413, b"", BodyEnd::Complete);
}

#[tokio::test]
async fn a_body_that_breaks_off_leaves_the_delivery_delivered() {
    let receiver = Receiver::start(|mut peer| async move {
        peer.request().await;
        peer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf").await;
    })
    .await;
    assert_answered(&send(&post(&receiver.url("/"), AMPLE_MS)).await, 200, b"half", BodyEnd::Reset);
    assert_one_request(&receiver);
}

#[tokio::test]
async fn a_body_that_drips_past_the_deadline_leaves_the_delivery_delivered() {
    let receiver = Receiver::start(|mut peer| async move {
        peer.request().await;
        peer.write(b"HTTP/1.1 201 Created\r\ncontent-length: 10\r\n\r\ndrip").await;
        peer.hang().await;
    })
    .await;
    let attempt = send(&post(&receiver.url("/"), SHORT_MS)).await;
    assert_answered(&attempt, 201, b"drip", BodyEnd::Timeout);
    assert!(at_least(&attempt, SHORT_MS), "latency holds the whole attempt: {:?}", attempt.timing);
    assert!(attempt.timing.head.unwrap() < attempt.timing.latency);
}

#[tokio::test]
async fn a_body_without_end_is_read_to_the_bound_and_no_further() {
    let receiver = Receiver::start(|mut peer| async move {
        peer.request().await;
        peer.write(b"HTTP/1.1 200 OK\r\n\r\n").await;
        while peer.write(&[b'x'; 8192]).await {}
    })
    .await;
    let attempt = send(&post(&receiver.url("/"), AMPLE_MS)).await;
    assert_answered(&attempt, 200, &[b'x'; 64 * 1024], BodyEnd::Truncated);
}

#[tokio::test]
async fn a_body_of_exactly_the_bound_is_complete() {
    let receiver = Receiver::start(|mut peer| async move {
        peer.request().await;
        peer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 65536\r\n\r\n").await;
        peer.write(&[b'x'; 64 * 1024]).await;
        peer.hang().await;
    })
    .await;
    let attempt = send(&post(&receiver.url("/"), AMPLE_MS)).await;
    assert_answered(&attempt, 200, &[b'x'; 64 * 1024], BodyEnd::Complete);
}

// Certain that nothing was sent.

#[tokio::test]
async fn a_refused_connection_is_failed_at_connect() {
    let address = {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap()
    };
    let attempt = send(&post(&format!("http://{address}/"), AMPLE_MS)).await;
    assert_eq!(assert_failed(&attempt, Failure::Connect), "no TCP connection: connection refused");
    assert_eq!((attempt.timing.connected, attempt.timing.head), (None, None));
}

#[tokio::test]
async fn a_name_that_does_not_resolve_is_failed_at_dns() {
    let attempt = send(&post("http://nonexistent.invalid/", AMPLE_MS)).await;
    assert_failed(&attempt, Failure::Dns);
}

#[tokio::test]
async fn a_connection_that_never_opens_is_failed_at_connect_by_the_deadline() {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut queued = Vec::new();
    while let Ok(connected) = tokio::time::timeout(Duration::from_millis(200), TcpStream::connect(address)).await {
        queued.push(connected.unwrap());
    }
    let attempt = send(&post(&format!("http://{address}/"), SHORT_MS)).await;
    assert!(assert_failed(&attempt, Failure::Connect).contains("deadline"));
    assert!(at_least(&attempt, SHORT_MS));
}

#[tokio::test]
async fn plain_http_and_addresses_inside_are_blocked_before_any_connection() {
    let receiver = Receiver::answering(OK).await;
    let port = receiver.address().port();
    let outside_only: &[&str] = &[];
    let cases = [
        (true, outside_only, format!("http://127.0.0.1:{port}/")),
        (true, outside_only, format!("http://localhost:{port}/")),
        (true, outside_only, format!("http://[::ffff:127.0.0.1]:{port}/")),
        (false, outside_only, format!("https://127.0.0.1:{port}/")),
        (false, outside_only, format!("https://localhost:{port}/")),
        (false, &["127.0.0.0/8"], format!("http://127.0.0.1:{port}/")),
    ];
    for (allow_http, allow_targets, url) in cases {
        let webhook = webhook_with(allow_http, allow_targets);
        let attempt = webhook.send(&post(&url, AMPLE_MS), Uuid::now_v7(), &SendGate::open(), pending()).await;
        assert_failed(&attempt, Failure::Blocked);
    }
    assert!(receiver.received().is_empty());
}

#[tokio::test]
async fn a_request_that_cannot_be_written_as_http_is_failed_at_render() {
    let receiver = Receiver::answering(OK).await;
    let headers = [("x-large", "x".repeat(256 * 1024)), ("x-line", "a\nb".to_owned()), ("no token", String::new())];
    for (name, value) in headers {
        let request = Request { headers: vec![(name.to_owned(), value)], ..post(&receiver.url("/"), AMPLE_MS) };
        assert_failed(&send(&request).await, Failure::Render);
    }
    assert!(receiver.received().is_empty());
}

#[tokio::test]
async fn a_name_that_resolves_to_an_allowed_address_is_called() {
    let receiver = Receiver::answering(OK).await;
    let attempt = send(&post(&format!("http://localhost:{}/", receiver.address().port()), AMPLE_MS)).await;
    assert_answered(&attempt, 200, b"ok", BodyEnd::Complete);
    assert!(attempt.timing.dns.unwrap() <= attempt.timing.connected.unwrap());
    assert!(attempt.timing.connected.unwrap() <= attempt.timing.head.unwrap());
}

// Sent, perhaps, and never answered.

#[tokio::test]
async fn a_connection_reset_with_the_request_unread_is_unknown() {
    let receiver = Receiver::start(|mut peer| async move {
        peer.something().await;
        peer.reset();
    })
    .await;
    assert_unknown(&send(&post(&receiver.url("/"), AMPLE_MS)).await, UnknownReason::Reset);
    assert_eq!(receiver.received().len(), 1);
}

#[tokio::test]
async fn a_connection_reset_after_the_request_is_unknown() {
    let receiver = Receiver::start(|mut peer| async move {
        peer.request().await;
        peer.reset();
    })
    .await;
    assert_unknown(&send(&post(&receiver.url("/"), AMPLE_MS)).await, UnknownReason::Reset);
    assert_one_request(&receiver);
}

#[tokio::test]
async fn a_connection_closed_in_order_without_an_answer_is_unknown_for_every_method() {
    for request in [post, get] {
        let receiver = Receiver::start(|mut peer| async move {
            peer.request().await;
            peer.finish().await;
            peer.hang().await;
        })
        .await;
        assert_unknown(&send(&request(&receiver.url("/"), AMPLE_MS)).await, UnknownReason::Reset);
        assert_one_request(&receiver);
    }
}

#[tokio::test]
async fn a_connection_reset_as_soon_as_it_is_accepted_is_never_taken_for_an_answer_and_never_tried_again() {
    let receiver = Receiver::start(|peer| async move { peer.reset() }).await;
    let attempt = send(&post(&receiver.url("/"), AMPLE_MS)).await;
    // Which of the two depends on whether the reset or the request is quicker; both are true when they are said.
    let certain = matches!(attempt.ending, Ending::Final(Outcome::Failed { kind: Failure::Connect, .. }));
    let doubtful = matches!(attempt.ending, Ending::Final(Outcome::Unknown { kind: UnknownReason::Reset, .. }));
    assert!(certain || doubtful, "{:?}", attempt.ending);
    assert_eq!(receiver.received().len(), 1);
}

#[tokio::test]
async fn a_receiver_that_hangs_is_unknown_by_the_deadline_for_every_method() {
    for request in [post, get] {
        let receiver = Receiver::start(|mut peer| async move { peer.hang().await }).await;
        let attempt = send(&request(&receiver.url("/"), SHORT_MS)).await;
        assert_unknown(&attempt, UnknownReason::Timeout);
        assert!(at_least(&attempt, SHORT_MS));
        assert!(attempt.timing.connected.is_some() && attempt.timing.head.is_none());
        assert_one_request(&receiver);
    }
}

#[tokio::test]
async fn half_a_response_head_is_no_answer() {
    let receiver = Receiver::start(|mut peer| async move {
        peer.request().await;
        peer.write(b"HTTP/1.1 200 OK\r\ncontent-le").await;
    })
    .await;
    assert_unknown(&send(&post(&receiver.url("/"), AMPLE_MS)).await, UnknownReason::Reset);
}

#[tokio::test]
async fn what_is_not_http_is_unknown() {
    let garbage: [&'static [u8]; 3] =
        [b"SSH-2.0-OpenSSH_9.2\r\n", b"\x15\x03\x01\x00\x02\x02\x46", b"HTTP/1.1 2x0 OK\r\n\r\n"];
    for bytes in garbage {
        let receiver = Receiver::answering(bytes).await;
        assert_unknown(&send(&post(&receiver.url("/"), AMPLE_MS)).await, UnknownReason::Protocol);
        assert_one_request(&receiver);
    }
}
