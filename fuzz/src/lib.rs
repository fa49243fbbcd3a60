//! What must hold whatever the bytes are: of an action file, of each template with a call, and of an answer. A fuzzer calls
//! these functions (`fuzz_targets/`), and a test of the program does (`tests/it/fuzz.rs`), with the seeds and some mutations.
//! They panic where something does not hold.

use std::future::pending;
use std::net::SocketAddr;

use postcall::domain::action::{ActionSpec, DEFAULT_TIMEOUT_MS, Method};
use postcall::domain::call::Call;
use postcall::domain::delivery::{Ending, Outcome};
use postcall::domain::problem::Problem;
use postcall::domain::request::Request;
use postcall::render::CompiledAction;
use postcall::service::examination;
use postcall::webhook::{SendGate, TargetRules, Webhook, WebhookSettings};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use uuid::Uuid;

/// What parts a template from the call behind it.
const PARTING: char = '\0';
/// The host of each URL that is tried, if the template has no host of its own.
const HOST: &str = "https://receiver.example";
/// What of an answer is played: less than one read of the client.
const MAX_ANSWER_BYTES: usize = 8 * 1024;
/// The status of each answer but the first.
const NEXT_STATUS: u16 = 299;

/// An action file: what can be published can be compiled, and each problem and warning can be shown.
pub fn action_file(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let _looked_at = examination::look_at(text, examination::Storage::InClear);
    match examination::examine(text) {
        Ok(file) => {
            assert!(CompiledAction::compile(&file.spec).is_ok(), "what passes the examination compiles");
            for warning in examination::warnings(&file.spec, examination::Storage::InClear) {
                assert!(!warning.shown().is_empty());
            }
        }
        Err(problems) => {
            assert!(!problems.is_empty(), "whatever is refused is refused for a reason");
            for problem in &problems {
                let range = problem.range();
                assert!(range.is_none_or(|range| range.start <= range.end), "a range is one");
            }
            assert!(!examination::shown(&problems).is_empty());
        }
    }
}

/// A URL template and a call: whatever the call holds, the request goes to the scheme, host and port that are written.
pub fn url(data: &[u8]) {
    let Some((template, call)) = parts(data) else { return };
    let template = if template.starts_with('/') { format!("{HOST}{template}") } else { template.to_owned() };
    let Some(Ok(with_call)) = rendered(spec(&template, None, None), call) else { return };
    let Some(Ok(without)) = rendered(spec(&template, None, None), "{}") else { return };
    let [with_call, without] = [with_call, without].map(|request| url::Url::parse(&request.url).expect("a URL"));
    assert_eq!(with_call.origin(), without.origin());
    assert!(with_call.username().is_empty() && with_call.password().is_none());
    assert_eq!(with_call.fragment(), None);
}

/// A header template and a call: each header can be sent, and the call adds none.
pub fn headers(data: &[u8]) {
    let Some((template, call)) = parts(data) else { return };
    let Some(Ok(with_call)) = rendered(spec(HOST, Some(template), None), call) else { return };
    for (name, value) in &with_call.headers {
        assert!(http::HeaderName::from_bytes(name.as_bytes()).is_ok(), "{name:?}");
        assert!(http::HeaderValue::from_str(value).is_ok() || http::HeaderValue::from_bytes(value.as_bytes()).is_ok());
        assert!(!value.contains(['\r', '\n', '\0']), "a line of its own");
    }
    if let Some(Ok(without)) = rendered(spec(HOST, Some(template), None), "{}") {
        let names = |request: &Request| request.headers.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&with_call), names(&without));
    }
}

/// A body template and a call: the body is JSON, and so is the body without a template, the whole call.
pub fn body(data: &[u8]) {
    let Some((template, call)) = parts(data) else { return };
    for template in [Some(template), None] {
        let Some(Ok(request)) = rendered(spec(HOST, None, template), call) else { continue };
        let body = request.body.expect("a POST has a body");
        // A raw value is checked and not kept, and serde_json's own limit of depth is above that of calls and templates.
        assert!(serde_json::from_str::<serde::de::IgnoredAny>(&body).is_ok(), "{body}");
    }
}

/// An answer: the request counts as answered or unknown and never as failed, because it has left; bounds hold; and nothing of
/// the answer is taken for the answer to the next request.
pub fn answer(data: &[u8]) {
    let data = data[..data.len().min(MAX_ANSWER_BYTES)].to_vec();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let url = url_of(listener.local_addr().expect("an address"));
        let receiver = tokio::spawn(receives(listener, data));
        let webhook = webhook();
        let first = webhook.send(&post(&url), Uuid::now_v7(), &SendGate::open(), pending()).await;
        match &first.ending {
            Ending::Final(Outcome::Answered(answer)) => {
                assert!((100..=999).contains(&answer.response_code), "{answer:?}");
                assert!(answer.response_bytes <= 64 * 1024 && answer.excerpt.is_none(), "{answer:?}");
            }
            Ending::Final(Outcome::Unknown { .. }) => {}
            other => panic!("a request that has left is {other:?}"),
        }
        let next = webhook.send(&post(&url), Uuid::now_v7(), &SendGate::open(), pending()).await;
        if let Ending::Final(Outcome::Answered(answer)) = &next.ending {
            assert_eq!(answer.response_code, NEXT_STATUS, "an answer to another request");
        }
        receiver.abort();
    });
}

/// Answers the first request with `data`, and each other one with [`NEXT_STATUS`], whatever connection it comes on.
async fn receives(listener: TcpListener, data: Vec<u8>) {
    let mut first = Some(data);
    loop {
        let Ok((mut stream, _)) = listener.accept().await else { return };
        let _nodelay = stream.set_nodelay(true);
        let data = first.take();
        // One connection at a time is enough: the client opens the next one when it has given up the last.
        if let Some(data) = data {
            tokio::spawn(async move {
                if !request(&mut stream).await || stream.write_all(&data).await.is_err() {
                    return;
                }
                // A client that waits for more is told that there is none, unless it comes with its next request first.
                let next = tokio::time::timeout(std::time::Duration::from_millis(20), request(&mut stream)).await;
                if next == Ok(true) {
                    let _taken = stream.write_all(b"HTTP/1.1 299 Next\r\ncontent-length: 0\r\n\r\n").await;
                }
            });
        } else {
            tokio::spawn(async move {
                while request(&mut stream).await {
                    let _taken = stream.write_all(b"HTTP/1.1 299 Next\r\ncontent-length: 0\r\n\r\n").await;
                }
            });
        }
    }
}

/// Reads one request. Its body is on the line behind its head, and is known.
async fn request(stream: &mut TcpStream) -> bool {
    let mut seen = Vec::new();
    let mut buffer = [0; 2_048];
    while !seen.ends_with(BODY.as_bytes()) {
        match stream.read(&mut buffer).await {
            Ok(read @ 1..) => seen.extend_from_slice(&buffer[..read]),
            Ok(0) | Err(_) => return false,
        }
    }
    true
}

/// The body of each request.
const BODY: &str = r#"{"end":"of the request"}"#;

fn post(url: &str) -> Request {
    Request {
        method: Method::Post,
        url: url.to_owned(),
        headers: vec![("content-type".to_owned(), "application/json".to_owned())],
        body: Some(BODY.to_owned()),
        timeout_ms: 10_000,
        unresolved: Vec::new(),
        client_certificate: None,
    }
}

fn url_of(address: SocketAddr) -> String {
    format!("http://{address}/")
}

/// A client of its own for each run, so that no run depends on those before it.
fn webhook() -> Webhook {
    let allow_targets = vec!["127.0.0.0/8".parse().expect("a network")];
    let targets = TargetRules { allow_http: true, allow_targets, ..TargetRules::default() };
    Webhook::new(WebhookSettings { targets, ..WebhookSettings::default() }).expect("a client")
}

/// A template, and the call behind it.
fn parts(data: &[u8]) -> Option<(&str, &str)> {
    std::str::from_utf8(data).ok()?.split_once(PARTING)
}

fn spec(url: &str, headers: Option<&str>, body: Option<&str>) -> ActionSpec {
    ActionSpec {
        method: Method::Post,
        url: url.to_owned(),
        timeout_ms: DEFAULT_TIMEOUT_MS,
        headers: headers.map(str::to_owned),
        body: body.map(str::to_owned),
        client_certificate: None,
    }
}

/// The request, if there is an action and a call to make it of. A problem is shown, as people would see it.
fn rendered(spec: ActionSpec, call: &str) -> Option<Result<Request, Problem>> {
    let action = CompiledAction::compile(&spec).ok()?;
    let call = Call::new(call).ok()?;
    let rendered = action.render(call);
    assert_eq!(rendered.is_ok(), action.render(call).is_ok(), "the same twice");
    Some(rendered)
}
