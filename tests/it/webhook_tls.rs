//! Attempts over TLS, and how the environment says which certificates to trust.

use std::future::pending;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use postcall::domain::delivery::{BodyEnd, Ending, Failure, Outcome, UnknownReason};
use postcall::webhook::{SendGate, TargetRules, Webhook, WebhookSettings};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;
use uuid::Uuid;

use crate::support::attempt::{AMPLE_MS, OK, SHORT_MS, assert_answered, assert_failed, at_least, post, send, webhook};
use crate::support::receiver::Receiver;
use crate::support::tls::{Authority, acceptor, acceptor_with, self_signed, server_config};

/// Answers every request on every connection, over TLS.
async fn tls_receiver(certificate: CertificateDer<'static>, key: PrivateKeyDer<'static>) -> Receiver {
    let acceptor = acceptor(certificate, key);
    Receiver::start(move |peer| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(mut stream) = acceptor.accept(peer.into_stream()).await else { return };
            while read_request(&mut stream).await && stream.write_all(OK).await.is_ok() {}
        }
    })
    .await
}

/// The first bytes of a request, which is all of it here.
async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> bool {
    stream.read(&mut [0; 4096]).await.is_ok_and(|count| count > 0)
}

fn https(receiver: &Receiver) -> String {
    format!("https://localhost:{}/", receiver.address().port())
}

#[tokio::test]
async fn a_certificate_of_an_unknown_issuer_is_failed_at_tls() {
    let (certificate, key) = Authority::new().issue(&["localhost"], |_| {});
    let receiver = tls_receiver(certificate, key).await;
    let attempt = send(&post(&https(&receiver), AMPLE_MS)).await;
    let detail = assert_failed(&attempt, Failure::Tls);
    assert_eq!(detail, "the server's certificate was not accepted: its issuer is not trusted here");
    assert!(attempt.timing.dns.is_some() && attempt.timing.connected.is_none());
}

#[tokio::test]
async fn a_handshake_that_stalls_is_failed_at_tls_by_the_deadline() {
    let receiver = Receiver::start(|mut peer| async move { peer.hang().await }).await;
    let attempt = send(&post(&https(&receiver), SHORT_MS)).await;
    assert!(assert_failed(&attempt, Failure::Tls).contains("deadline"));
    assert!(at_least(&attempt, SHORT_MS));
    assert_eq!(receiver.received().len(), 1);
}

#[tokio::test]
async fn a_handshake_that_breaks_off_or_meets_plain_text_is_failed_at_tls() {
    let closing = Receiver::start(|mut peer| async move {
        peer.something().await;
        peer.reset();
    })
    .await;
    let plain = Receiver::start(|mut peer| async move {
        peer.something().await;
        peer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        peer.hang().await;
    })
    .await;
    for receiver in [closing, plain] {
        assert_failed(&send(&post(&https(&receiver), AMPLE_MS)).await, Failure::Tls);
        assert_eq!(receiver.received().len(), 1);
    }
}

/// Set in the child process: the file with the certificate to trust, and its key.
const CHILD: &str = "POSTCALL_TEST_CERTIFICATE";

/// A process's environment cannot be changed safely while it runs, so this test runs itself once more in a child that
/// has the environment from its start.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_environment_names_roots_to_trust_and_never_a_proxy() {
    if let Some(file) = std::env::var_os(CHILD) {
        return send_trusting(file.as_ref()).await;
    }
    let proxy = Receiver::answering(OK).await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, self_signed().2).unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "webhook_tls::the_environment_names_roots_to_trust_and_never_a_proxy"]);
    child.env(CHILD, file.path()).env("SSL_CERT_FILE", file.path()).env_remove("SSL_CERT_DIR");
    for name in ["http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
        child.env(name, proxy.url("/"));
    }
    child.env_remove("no_proxy").env_remove("NO_PROXY");
    let output = tokio::task::spawn_blocking(move || child.output().unwrap()).await.unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && told.contains("1 passed"), "{told}");
    assert!(proxy.received().is_empty());
}

async fn send_trusting(file: &Path) {
    let certificate = CertificateDer::from_pem_file(file).unwrap();
    let receiver = tls_receiver(certificate, PrivateKeyDer::from_pem_file(file).unwrap()).await;
    let webhook = webhook();
    let request = post(&https(&receiver), AMPLE_MS);
    let first = webhook.send(&request, Uuid::now_v7(), &SendGate::open(), pending()).await;
    assert_answered(&first, 200, b"ok", BodyEnd::Complete);
    assert!(first.timing.dns.unwrap() < first.timing.connected.unwrap());
    let second = webhook.send(&request, Uuid::now_v7(), &SendGate::open(), pending()).await;
    assert_answered(&second, 200, b"ok", BodyEnd::Complete);
    assert_eq!((second.timing.connected, receiver.received().len()), (None, 1));

    assert_nothing_uncalled_for_is_an_answer(file).await;

    let plain = Receiver::answering(OK).await;
    assert_answered(&send(&post(&plain.url("/"), AMPLE_MS)).await, 200, b"ok", BodyEnd::Complete);
}

/// A server that answers and then, when told, sends an answer to nothing on the idle connection.
async fn assert_nothing_uncalled_for_is_an_answer(file: &Path) {
    let acceptor = acceptor(CertificateDer::from_pem_file(file).unwrap(), PrivateKeyDer::from_pem_file(file).unwrap());
    let (told, said) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let signals = (Arc::clone(&told), Arc::clone(&said));
    let receiver = Receiver::start(move |peer| {
        let (acceptor, (told, said)) = (acceptor.clone(), signals.clone());
        async move {
            let mut stream = acceptor.accept(peer.into_stream()).await.unwrap();
            assert!(read_request(&mut stream).await);
            stream.write_all(OK).await.unwrap();
            told.notified().await;
            stream.write_all(b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\n\r\n").await.unwrap();
            stream.flush().await.unwrap();
            said.notify_one();
            assert!(!read_request(&mut stream).await, "a request came after the answer to nothing");
        }
    })
    .await;
    let (webhook, request) = (webhook(), post(&https(&receiver), AMPLE_MS));
    for _ in 0..200 {
        let attempt = webhook.send(&request, Uuid::now_v7(), &SendGate::open(), pending()).await;
        assert_answered(&attempt, 200, b"ok", BodyEnd::Complete);
        assert!(attempt.timing.connected.is_some());
        told.notify_one();
        said.notified().await;
    }
}

#[tokio::test]
async fn a_file_of_authorities_is_trusted_and_one_that_is_none_ends_the_start() {
    let (certificate, key, pem) = self_signed();
    let receiver = tls_receiver(certificate, key).await;
    let file = tempfile::NamedTempFile::new().unwrap();
    let trusting = |content: &str| {
        std::fs::write(&file, content).unwrap();
        let targets = TargetRules { allow_targets: vec!["127.0.0.0/8".parse().unwrap()], ..TargetRules::default() };
        let ca_file = Some(file.path().to_owned());
        Webhook::new(WebhookSettings { targets, ca_file, ..WebhookSettings::default() })
    };
    let webhook = trusting(&pem).unwrap();
    let request = post(&https(&receiver), AMPLE_MS);
    let attempt = webhook.send(&request, Uuid::now_v7(), &SendGate::open(), pending()).await;
    assert_answered(&attempt, 200, b"ok", BodyEnd::Complete);

    let no_certificate = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let no_pem = "-----BEGIN CERTIFICATE-----\n!";
    for (content, reason) in [("", "no certificate"), (no_certificate, "cannot be used"), (no_pem, "not a file of")] {
        let refused = trusting(content).unwrap_err().to_string();
        assert!(refused.contains("--ca-file") && refused.contains(reason), "{refused}");
    }
}

#[tokio::test]
async fn why_a_handshake_failed_is_said_in_words_that_a_customer_understands() {
    let plain = Receiver::start(|mut peer| async move {
        peer.something().await;
        peer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        peer.hang().await;
    })
    .await;
    let detail = assert_failed(&send(&post(&https(&plain), AMPLE_MS)).await, Failure::Tls);
    assert_eq!(detail, "the TLS handshake failed: what answers does not speak TLS; is it a port for plain http?");

    let (certificate, key) = authority_of_itself();
    let receiver = tls_receiver(certificate, key).await;
    let detail = assert_failed(&send(&post(&https(&receiver), AMPLE_MS)).await, Failure::Tls);
    assert!(detail.ends_with("it is self-signed, and one of an authority (CA:TRUE) and not of a server"), "{detail}");
}

/// What `openssl req -x509` makes: a certificate that is an authority's, and that a server shows as its own.
fn authority_of_itself() -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut parameters = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
    parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let certificate = parameters.self_signed(&key).unwrap();
    (certificate.into(), PrivateKeyDer::try_from(key.serialize_der()).unwrap())
}

/// What is said of a certificate that an authority has issued whom the client trusts.
async fn said_of(names: &[&str], change: impl FnOnce(&mut rcgen::CertificateParams)) -> String {
    let authority = Authority::new();
    let (certificate, key) = authority.issue(names, change);
    let receiver = tls_receiver(certificate, key).await;
    let (webhook, request) = (trusting(&authority), post(&https(&receiver), AMPLE_MS));
    let attempt = webhook.send(&request, Uuid::now_v7(), &SendGate::open(), pending()).await;
    let detail = assert_failed(&attempt, Failure::Tls);
    detail.strip_prefix("the server's certificate was not accepted: ").unwrap().to_owned()
}

/// A client that trusts this authority, too.
fn trusting(authority: &Authority) -> Webhook {
    trusting_pem(&authority.pem())
}

fn trusting_pem(pem: &str) -> Webhook {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, pem).unwrap();
    let targets = TargetRules { allow_targets: vec!["127.0.0.0/8".parse().unwrap()], ..TargetRules::default() };
    let ca_file = Some(file.path().to_owned());
    Webhook::new(WebhookSettings { targets, ca_file, ..WebhookSettings::default() }).unwrap()
}

#[tokio::test]
async fn a_self_signed_certificate_is_told_from_one_of_an_unknown_issuer() {
    let (certificate, key, _) = self_signed();
    let receiver = tls_receiver(certificate, key).await;
    let detail = assert_failed(&send(&post(&https(&receiver), AMPLE_MS)).await, Failure::Tls);
    assert!(detail.ends_with("it is self-signed, and no authority vouches for it"), "{detail}");
}

#[tokio::test]
async fn of_a_certificate_out_of_its_time_the_day_is_said() {
    let expired = said_of(&["localhost"], |certificate| {
        certificate.not_before = rcgen::date_time_ymd(2020, 1, 1);
        certificate.not_after = rcgen::date_time_ymd(2021, 2, 3);
    });
    assert_eq!(expired.await, "it expired on 2021-02-03 (UTC)");
    let early = said_of(&["localhost"], |certificate| {
        certificate.not_before = rcgen::date_time_ymd(4000, 1, 2);
        certificate.not_after = rcgen::date_time_ymd(4001, 1, 1);
    });
    assert_eq!(early.await, "it is not valid yet; it will be on 4000-01-02 (UTC)");
}

#[tokio::test]
async fn of_a_certificate_for_another_name_its_names_are_said_as_far_as_they_are_names() {
    let other = said_of(&["hooks.example", "*.b.example", "<b>John Doe</b>", "+49 170 1234567"], |_| {});
    assert_eq!(other.await, "it is for another name; it has hooks.example, *.b.example and 2 more");
}

#[tokio::test]
async fn of_a_certificate_that_is_not_for_servers_that_is_said() {
    let client = said_of(&["localhost"], |certificate| {
        certificate.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    });
    assert_eq!(client.await, "it was not issued for servers");
}

#[tokio::test]
async fn an_alert_of_the_server_is_said_in_words() {
    let neither = "the server speaks neither TLS 1.3 nor TLS 1.2 with a safe cipher";
    for (alert, words) in [
        (70, neither),
        (71, neither),
        (40, "the server refused it; it may want another cipher, or a client's certificate"),
        (112, "the server does not know this name"),
        (120, "the server does not offer HTTP/1.1"),
        (80, "the server refused it"),
    ] {
        let receiver = Receiver::start(move |mut peer| async move {
            peer.something().await;
            peer.write(&[21, 3, 3, 0, 2, 2, alert]).await;
            peer.hang().await;
        })
        .await;
        let detail = assert_failed(&send(&post(&https(&receiver), AMPLE_MS)).await, Failure::Tls);
        assert_eq!(detail, format!("the TLS handshake failed: {words}"));
    }
}

/// With TLS 1.2 the handshake fails. With TLS 1.3 the client has written its request when it hears of it, so nobody here knows
/// how far the server has read.
#[tokio::test]
async fn a_server_that_wants_the_clients_certificate_is_told_with_either_version_of_tls() {
    let authority = Authority::new();
    let (certificate, key) = authority.issue(&["localhost"], |_| {});
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let acceptor = acceptor_with(server_config(&[version], Some(&authority), certificate.clone(), key.clone_key()));
        let receiver = Receiver::start(move |peer| {
            let acceptor = acceptor.clone();
            async move { assert!(acceptor.accept(peer.into_stream()).await.is_err(), "a client without a certificate") }
        })
        .await;
        let webhook = trusting(&authority);
        let attempt =
            webhook.send(&post(&https(&receiver), AMPLE_MS), Uuid::now_v7(), &SendGate::open(), pending()).await;
        let detail = match &attempt.ending {
            Ending::Final(Outcome::Failed { kind: Failure::Tls, detail }) if *version == rustls::version::TLS12 => {
                detail
            }
            Ending::Final(Outcome::Unknown { kind: UnknownReason::Reset, detail })
                if *version == rustls::version::TLS13 =>
            {
                detail
            }
            other => panic!("{version:?}: {other:?}"),
        };
        assert!(detail.contains("client's certificate"), "{version:?}: {detail}");
    }
}
