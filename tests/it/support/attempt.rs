//! Makes attempts, and checks their endings.

use std::future::pending;
use std::time::Duration;

use postcall::domain::action::Method;
use postcall::domain::body_digest::BodyDigest;
use postcall::domain::delivery::{Answer, BodyEnd, Ending, Failure, Outcome, UnknownReason};
use postcall::domain::request::Request;
use postcall::webhook::{Attempt, SendGate, TargetRules, Webhook, WebhookSettings};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::support::receiver::Receiver;

/// Far more than any of these exchanges takes.
pub const AMPLE_MS: u32 = 20_000;
/// For the attempts that are meant to run into it.
pub const SHORT_MS: u32 = 300;

/// A delivery in full.
pub const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// A client that may call the receivers of these tests.
pub fn webhook() -> Webhook {
    webhook_with(true, &["127.0.0.0/8", "::1/128"])
}

/// A client with these settings.
pub fn webhook_with(allow_http: bool, allow_targets: &[&str]) -> Webhook {
    let allow_targets = allow_targets.iter().map(|net| net.parse().unwrap()).collect();
    let targets = TargetRules { allow_http, allow_targets, ..TargetRules::default() };
    Webhook::new(WebhookSettings { targets, ..WebhookSettings::default() }).unwrap()
}

/// A POST of a small JSON body.
pub fn post(url: &str, timeout_ms: u32) -> Request {
    Request {
        method: Method::Post,
        url: url.to_owned(),
        headers: vec![("content-type".to_owned(), "application/json".to_owned())],
        body: Some(r#"{"a":1}"#.to_owned()),
        timeout_ms,
        unresolved: Vec::new(),
        client_certificate: None,
    }
}

/// A GET.
pub fn get(url: &str, timeout_ms: u32) -> Request {
    Request { method: Method::Get, headers: Vec::new(), body: None, ..post(url, timeout_ms) }
}

/// Sends `request` over a new client and lets it run to its end.
pub async fn send(request: &Request) -> Attempt {
    webhook().send(request, Uuid::now_v7(), &SendGate::open(), pending()).await
}

/// It is certain that nothing was sent. Gives the detail.
#[track_caller]
pub fn assert_failed(attempt: &Attempt, expected: Failure) -> String {
    match &attempt.ending {
        Ending::Final(Outcome::Failed { kind, detail }) if *kind == expected => detail.clone(),
        other => panic!("not failed/{}: {other:?}", expected.as_str()),
    }
}

/// It is not known whether the receiver has it.
#[track_caller]
pub fn assert_unknown(attempt: &Attempt, expected: UnknownReason) {
    assert!(
        matches!(&attempt.ending, Ending::Final(Outcome::Unknown { kind, .. }) if *kind == expected),
        "not unknown/{}: {:?}",
        expected.as_str(),
        attempt.ending
    );
}

/// The answer that came.
#[track_caller]
pub fn answer(attempt: &Attempt) -> &Answer {
    match &attempt.ending {
        Ending::Final(Outcome::Answered(answer)) => answer,
        other => panic!("not answered: {other:?}"),
    }
}

/// It was answered with exactly this.
#[track_caller]
pub fn assert_answered(attempt: &Attempt, response_code: u16, body: &[u8], body_end: BodyEnd) {
    let expected = Answer {
        response_code,
        response_bytes: body.len() as u64,
        response_digest: BodyDigest::Plain(Sha256::digest(body).into()),
        body_end,
        excerpt: None,
    };
    assert_eq!(answer(attempt), &expected);
    assert!(attempt.timing.head.unwrap() <= attempt.timing.latency);
}

/// One connection was opened, and the bytes on it are those of one request.
#[track_caller]
pub fn assert_one_request(receiver: &Receiver) {
    let texts = receiver.texts();
    assert_eq!(texts.len(), 1, "one connection: {texts:?}");
    assert_eq!(texts[0].matches(" HTTP/1.1\r\n").count(), 1, "one request: {texts:?}");
}

/// Whether the attempt took as long as its deadline.
pub fn at_least(attempt: &Attempt, timeout_ms: u32) -> bool {
    attempt.timing.latency >= Duration::from_millis(timeout_ms.into())
}
