//! From a name to a connection: which of the addresses is called, which step failed, and how long each step took.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use postcall::domain::delivery::{BodyEnd, Ending, Failure};
use postcall::webhook::{SendGate, Webhook};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::Notify;
use tokio::time::sleep;
use uuid::Uuid;

use crate::support::attempt::{
    AMPLE_MS, OK, SHORT_MS, answer, assert_answered, assert_failed, assert_one_request, at_least, post, send, webhook,
    webhook_with,
};
use crate::support::namespace::{LIVING, SILENT, World};
use crate::support::receiver::Receiver;
use crate::support::tls::{acceptor, self_signed_for};

/// A client that may call the addresses of [`World`].
fn webhook_there() -> Webhook {
    webhook_with(true, &["10.9.0.0/24", "203.0.113.0/24"])
}

// Which step failed.

#[tokio::test]
async fn a_name_whose_address_refuses_is_failed_at_connect_and_not_at_dns() {
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let attempt = send(&post(&format!("http://localhost:{port}/"), AMPLE_MS)).await;
    assert_eq!(assert_failed(&attempt, Failure::Connect), "no TCP connection: connection refused");
    assert!(attempt.timing.dns.is_some() && attempt.timing.connected.is_none(), "{:?}", attempt.timing);
}

#[tokio::test]
async fn a_name_whose_address_is_silent_is_failed_at_connect_and_its_time_is_not_the_resolvers() {
    let hosts = format!("{} silent.test", SILENT[0]);
    let world = World { hosts: &hosts, roots: "" };
    let name = "a_name_whose_address_is_silent_is_failed_at_connect_and_its_time_is_not_the_resolvers";
    if !world.enter(&format!("webhook_connect::{name}")).await {
        return;
    }
    let request = post("http://silent.test/", SHORT_MS);
    let attempt = webhook_there().send(&request, Uuid::now_v7(), &SendGate::open(), pending()).await;
    assert!(assert_failed(&attempt, Failure::Connect).contains("deadline"));
    assert!(at_least(&attempt, SHORT_MS));
    // The hosts file answers at once; the rest of the time went into connecting.
    assert!(attempt.timing.dns.unwrap() * 2 < attempt.timing.latency, "{:?}", attempt.timing);
}

const DNS_DELAY: Duration = Duration::from_millis(150);
const HANDSHAKE_DELAY: Duration = Duration::from_millis(350);
const HEAD_DELAY: Duration = Duration::from_millis(250);
const BODY_DELAY: Duration = Duration::from_millis(450);

#[tokio::test]
async fn each_step_has_its_own_time() {
    let pem = self_signed_for("slow.test").2;
    let world = World { hosts: "", roots: &pem };
    if !world.enter("webhook_connect::each_step_has_its_own_time").await {
        return;
    }
    let socket = UdpSocket::bind("127.0.0.1:53").await.unwrap();
    tokio::spawn(slow_name_server(Arc::new(socket)));
    let roots = std::env::var_os("SSL_CERT_FILE").unwrap();
    let acceptor =
        acceptor(CertificateDer::from_pem_file(&roots).unwrap(), PrivateKeyDer::from_pem_file(&roots).unwrap());
    let receiver = Receiver::start_at(LIVING, move |peer| {
        let acceptor = acceptor.clone();
        async move {
            sleep(HANDSHAKE_DELAY).await;
            let mut stream = acceptor.accept(peer.into_stream()).await.unwrap();
            assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0);
            sleep(HEAD_DELAY).await;
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n").await.unwrap();
            stream.flush().await.unwrap();
            sleep(BODY_DELAY).await;
            stream.write_all(b"ok").await.unwrap();
            stream.flush().await.unwrap();
            pending().await
        }
    })
    .await;
    let request = post(&format!("https://slow.test:{}/", receiver.address().port()), AMPLE_MS);
    let attempt = webhook_there().send(&request, Uuid::now_v7(), &SendGate::open(), pending()).await;
    assert_answered(&attempt, 200, b"ok", BodyEnd::Complete);
    let timing = attempt.timing;
    let (dns, connected, head) = (timing.dns.unwrap(), timing.connected.unwrap(), timing.head.unwrap());
    // Timers may be early by their granularity, a millisecond.
    let steps = [(Duration::ZERO, dns, DNS_DELAY), (dns, connected, HANDSHAKE_DELAY), (connected, head, HEAD_DELAY)];
    for (from, to, delay) in steps.into_iter().chain([(head, timing.latency, BODY_DELAY)]) {
        assert!(to - from + Duration::from_millis(2) >= delay, "{delay:?} of {timing:?}");
    }
}

/// Says of every name, after a while, that it is at [`LIVING`] and has no IPv6 address (RFC 1035, section 4.1).
async fn slow_name_server(socket: Arc<UdpSocket>) {
    loop {
        let mut message = vec![0; 512];
        let (count, client) = socket.recv_from(&mut message).await.unwrap();
        message.truncate(count);
        let socket = Arc::clone(&socket);
        tokio::spawn(async move {
            sleep(DNS_DELAY).await;
            socket.send_to(&address_record(&message), client).await.unwrap();
        });
    }
}

/// The answer to a query of one question.
fn address_record(query: &[u8]) -> Vec<u8> {
    const HEADER: usize = 12;
    let name_end = HEADER + query[HEADER..].iter().position(|byte| *byte == 0).unwrap() + 1;
    let question = &query[HEADER..name_end + 4];
    let wants_ipv4 = query[name_end..name_end + 2] == [0, 1];
    let mut answer = query[..2].to_vec();
    answer.extend([0x81, 0x80, 0, 1, 0, u8::from(wants_ipv4), 0, 0, 0, 0]);
    answer.extend(question);
    if wants_ipv4 {
        // The question's name, type A, class IN, a lifetime of a second, four bytes.
        answer.extend([0xc0, HEADER as u8, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4]);
        answer.extend(LIVING.parse::<std::net::Ipv4Addr>().unwrap().octets());
    }
    answer
}

// Which address is called.

#[tokio::test]
async fn silent_addresses_hide_no_living_one() {
    // Resolvers put a name's addresses in an order of their own. Whatever it is, silent ones come first in one of these.
    let silent_first: Vec<String> = SILENT.iter().map(|address| format!("{address} first.test")).collect();
    let silent_last: Vec<String> = SILENT.iter().map(|address| format!("{address} last.test")).collect();
    let hosts = format!(
        "{}\n{LIVING} first.test\n{LIVING} last.test\n{}\n{} one.test\n{LIVING} one.test\n",
        silent_first.join("\n"),
        silent_last.join("\n"),
        SILENT[0]
    );
    let world = World { hosts: &hosts, roots: "" };
    if !world.enter("webhook_connect::silent_addresses_hide_no_living_one").await {
        return;
    }
    for name in ["one.test", "first.test", "last.test"] {
        let receiver =
            Receiver::start_at(LIVING, |mut peer| async move { while peer.request().await && peer.write(OK).await {} })
                .await;
        let request = post(&format!("http://{name}:{}/", receiver.address().port()), AMPLE_MS);
        let attempt = webhook_there().send(&request, Uuid::now_v7(), &SendGate::open(), pending()).await;
        assert_answered(&attempt, 200, b"ok", BodyEnd::Complete);
        assert_one_request(&receiver);
    }
}

#[tokio::test]
async fn a_name_with_one_address_inside_is_not_called_at_any() {
    let hosts = format!("{LIVING} mixed.test\n127.0.0.1 mixed.test\n{LIVING} outside.test");
    let world = World { hosts: &hosts, roots: "" };
    if !world.enter("webhook_connect::a_name_with_one_address_inside_is_not_called_at_any").await {
        return;
    }
    let receiver =
        Receiver::start_at("0.0.0.0", |mut peer| async move { while peer.request().await && peer.write(OK).await {} })
            .await;
    let url = |name: &str| format!("http://{name}:{}/", receiver.address().port());
    let mixed = post(&url("mixed.test"), AMPLE_MS);
    let mixed = webhook_there().send(&mixed, Uuid::now_v7(), &SendGate::open(), pending()).await;
    assert_failed(&mixed, Failure::Blocked);
    assert!(mixed.timing.dns.is_some() && mixed.timing.connected.is_none());
    assert!(receiver.received().is_empty());
    let outside = post(&url("outside.test"), AMPLE_MS);
    let outside = webhook_there().send(&outside, Uuid::now_v7(), &SendGate::open(), pending()).await;
    assert_eq!(answer(&outside).response_code, 200);
}

// What becomes of a connection whose attempt is over.

#[tokio::test]
async fn an_attempt_that_ends_takes_its_connection_with_it() {
    for scheme in ["https", "http"] {
        let (begun, gone) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let signals = (Arc::clone(&begun), Arc::clone(&gone));
        let receiver = Receiver::start(move |mut peer| {
            let (begun, gone) = signals.clone();
            async move {
                peer.something().await;
                begun.notify_one();
                // Until the other side ends the connection.
                peer.hang().await;
                gone.notify_one();
            }
        })
        .await;
        let webhook = webhook();
        let request = post(&format!("{scheme}://{}/", receiver.address()), AMPLE_MS);
        let attempt = webhook.send(&request, Uuid::now_v7(), &SendGate::open(), begun.notified()).await;
        assert_eq!(attempt.ending == Ending::Unsent, scheme == "https", "{:?}", attempt.ending);
        gone.notified().await;

        let (send_gate, abandoned) = (SendGate::open(), Uuid::now_v7());
        tokio::select! {
            attempt = webhook.send(&request, abandoned, &send_gate, pending()) => panic!("{:?}", attempt.ending),
            () = begun.notified() => {}
        }
        gone.notified().await;
    }
}
