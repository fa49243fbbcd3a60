//! Spans of deliveries (`--otlp-endpoint`): they say what history says, have nothing of a call, and a collector in whatever trouble
//! costs no delivery anything.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use serde_json::json;

use crate::support::collector::{Collector, Manner, Seen};
use crate::support::database::Database;
use crate::support::inbox::Inbox;
use crate::support::process::{Dispatcher, file, postcall_on, stderr};
use crate::support::receiver::Receiver;
use crate::support::scrape::{Scraper, start};
use crate::support::tls;

/// The caller's number, in every place of a call and of an action that could get into a span.
const NUMBER: &str = "4930123456";
/// A value that an author has put into a header.
const SECRET: &str = "Xyzzy-7391";
/// How long a stop may take beside a collector that hangs: [`postcall::spans::LAST_SPANS`], and what a busy machine needs.
const STOP: Duration = postcall::spans::LAST_SPANS.saturating_add(Duration::from_secs(10));

async fn call_for(database: &Database, agent: &str, url: &str) {
    let url = format!("{url}${{callInfo.from}}?from=${{callInfo.from}}");
    let action = json!({"method": "POST", "url": url, "timeout": 1_000,
                        "headers": {"x-from": "${callInfo.from}", "authorization": SECRET},
                        "body": r#"{"number": "${callInfo.from}"}"#});
    database.publish(agent, "default", &action).await;
    database.insert_call(agent, &json!({"callInfo": {"callSid": NUMBER, "from": NUMBER}, "text": NUMBER})).await;
}

/// What history says of a delivery: its columns by name.
async fn history(database: &Database, delivery_id: &str) -> BTreeMap<String, String> {
    let columns =
        format!("SELECT row_to_json(h)::text FROM postcall.delivery_history AS h WHERE delivery_id = '{delivery_id}'");
    let row: serde_json::Value = serde_json::from_str(&database.text(&columns).await.unwrap()).unwrap();
    let text = |value: &serde_json::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    row.as_object().unwrap().iter().filter(|(_, value)| !value.is_null()).map(|(k, v)| (k.clone(), text(v))).collect()
}

#[tokio::test]
async fn each_delivery_that_ended_has_one_span_with_what_history_says_and_nothing_of_its_call() {
    let (database, inbox, silent) = (Database::new().await, Inbox::open().await, Inbox::holding().await);
    let collector = Collector::start(Manner::Takes).await;
    let nobody = tokio::net::TcpSocket::new_v4().unwrap();
    nobody.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let closed = format!("http://{}/", nobody.local_addr().unwrap());
    let rubbish = Receiver::answering(b"I speak no HTTP\r\n\r\n").await;
    let expected = [
        ("ok", inbox.url("/200/"), "delivered", ""),
        ("moved", inbox.url("/302/"), "rejected", "302"),
        ("broken", inbox.url("/503/"), "rejected", "503"),
        ("silent", silent.url("/"), "unknown", "timeout"),
        ("rubbish", rubbish.url("/"), "unknown", "protocol"),
        ("closed", closed, "failed", "connect"),
        ("private", "https://10.1.2.3/".to_owned(), "failed", "blocked"),
        ("off", inbox.url("/"), "skipped", ""),
    ];
    for (agent, url, ..) in &expected {
        call_for(&database, agent, url).await;
    }
    let off = postcall_on(&database, &["action", "disable", "off"]);
    assert!(off.status.success(), "{}", stderr(&off));
    let mut command = Dispatcher::command(&database.url);
    command.args(["--otlp-endpoint", &collector.url(), "--hold-unreachable", "false"]);
    command.env("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=blue").env("OTEL_RESOURCE_ATTRIBUTES", "deployment=test");
    let dispatcher = Dispatcher::started(&mut command).await;
    database.settled().await;
    let spans = collector.has(expected.len()).await;
    assert_eq!(spans.len(), expected.len());
    for (agent, _, state, error_type) in &expected {
        let seen = spans.iter().find(|seen| seen.get("postcall.agent") == *agent).expect("a span of each agent");
        assert_eq!((seen.get("postcall.state"), seen.get("error.type")), (*state, *error_type), "{seen:?}");
        agrees_with_history(seen, &history(&database, seen.get("postcall.delivery.id")).await);
    }
    let ids: BTreeSet<String> = spans.iter().map(Seen::traceparent).collect();
    assert_eq!(ids.len(), expected.len(), "each has a trace of its own");
    for secret in [NUMBER, SECRET, "callSid", "?from", "x-from"] {
        assert!(!collector.holds(secret), "{secret}: {spans:#?}");
    }
    for head in collector.heads() {
        let head = head.to_ascii_lowercase();
        assert!(head.starts_with("post /v1/traces http/1.1"), "{head}");
        assert!(head.contains("x-tenant: blue") && head.contains("content-type: application/x-protobuf"), "{head}");
    }
    assert!(inbox.received().iter().all(|request| request.header("x-tenant").is_none()));
    assert!(inbox.received().iter().all(|request| request.header("traceparent").is_none()), "only if asked to");
    drop(dispatcher);
}

/// Checks each part of a span against the row of its delivery.
fn agrees_with_history(seen: &Seen, row: &BTreeMap<String, String>) {
    let column = |name: &str| row.get(name).map_or("", String::as_str);
    for (attribute, name) in [
        ("postcall.message.id", "message_id"),
        ("postcall.agent", "agent"),
        ("postcall.action.version", "action_version"),
        ("postcall.state", "state"),
        ("postcall.error_kind", "error_kind"),
        ("http.request.method", "method"),
        ("http.response.status_code", "response_code"),
    ] {
        assert_eq!(seen.get(attribute), column(name), "{attribute}: {seen:?}\n{row:?}");
    }
    for (attribute, name) in
        [("queue_ms", "queue_ms"), ("dns_ms", "dns_ms"), ("connected_ms", "connected_ms"), ("head_ms", "head_ms")]
    {
        near(seen.get(&format!("postcall.{attribute}")), column(name), seen);
    }
    let took = (seen.span.end_time_unix_nano - seen.span.start_time_unix_nano) / 1_000_000;
    let (latency, attempted) = (column("latency_ms"), row.contains_key("latency_ms"));
    if attempted {
        near(&took.to_string(), latency, seen);
    }
    let now = chrono::DateTime::parse_from_rfc3339(column("finished_at")).unwrap().timestamp_nanos_opt().unwrap();
    let off_by = now.abs_diff(seen.span.end_time_unix_nano.try_into().unwrap());
    assert!(off_by < 10_000_000_000, "ended {off_by} ns from when it was recorded");
    let kind = if attempted { SpanKind::Client } else { SpanKind::Internal };
    assert_eq!((seen.span.kind, seen.span.name.as_str()), (kind as i32, if attempted { "POST" } else { "no request" }));
    let is_error = !["delivered", "skipped"].contains(&column("state"));
    let status = seen.span.status.as_ref().map_or(StatusCode::Unset, |status| status.code());
    assert_eq!(status, if is_error { StatusCode::Error } else { StatusCode::Unset }, "{seen:?}");
    if let Some(url) = row.get("url") {
        let url = url::Url::parse(url).unwrap();
        assert_eq!(seen.get("server.address"), url.host_str().unwrap());
        assert_eq!(seen.get("server.port"), url.port_or_known_default().unwrap().to_string());
        assert_eq!(seen.get("url.scheme"), url.scheme());
    }
    assert_eq!(seen.resource["service.name"], "postcall");
    assert_eq!(seen.resource["service.version"], env!("CARGO_PKG_VERSION"));
    assert!(seen.resource["service.instance.id"].contains(':'), "{:?}", seen.resource);
    assert_eq!(seen.resource["deployment"], "test");
}

/// Two numbers of milliseconds, of which one may be rounded, or neither.
fn near(one: &str, other: &str, seen: &Seen) {
    let number = |text: &str| if text.is_empty() { None } else { Some(text.parse::<f64>().unwrap()) };
    match (number(one), number(other)) {
        (Some(one), Some(other)) => assert!((one - other).abs() <= 1.0, "{one} {other} {seen:?}"),
        (one, other) => assert_eq!(one, other, "{seen:?}"),
    }
}

#[tokio::test]
async fn the_collector_is_the_operators_and_passes_no_rule_for_targets() {
    let (database, collector) = (Database::new().await, Collector::start(Manner::Takes).await);
    call_for(&database, "a", "https://10.1.2.3/").await;
    let arguments = ["--otlp-endpoint", &collector.url(), "--deny-target", "127.0.0.0/8", "--only-port", "443"];
    let _dispatcher = Dispatcher::start_strict(&database.url, &arguments).await;
    assert_eq!(collector.has(1).await[0].get("error.type"), "blocked");
}

#[tokio::test]
async fn a_collector_with_tls_is_trusted_by_the_file_of_authorities_only() {
    let (certificate, key, pem) = tls::self_signed();
    let acceptor = tls::acceptor(certificate, key);
    let (database, inbox) = (Database::new().await, Inbox::open().await);
    let collector = Collector::with_tls(Manner::Takes, Some(acceptor)).await;
    call_for(&database, "a", &inbox.url("/")).await;
    let url = format!("https://localhost:{}", collector.address.port());
    let mut untrusting = Dispatcher::start(&database, &["--otlp-endpoint", &url]).await;
    let line = untrusting.says("spans are not exported").await;
    assert!(line.contains("cannot open a TLS session with the collector"), "{line}");
    drop(untrusting);
    assert!(collector.spans().is_empty());
    let trusted = file(&pem);
    let arguments = ["--otlp-endpoint", &url, "--ca-file", trusted.path().to_str().unwrap()];
    let _dispatcher = Dispatcher::start(&database, &arguments).await;
    call_for(&database, "b", &inbox.url("/")).await;
    collector.has(1).await;
}

#[tokio::test]
async fn a_collector_in_trouble_changes_no_delivery_and_delays_the_end_for_a_bounded_time() {
    let manners = [Manner::Hangs, Manner::Refuses, Manner::Babbles, Manner::NeverEnds];
    let cases = manners.map(Some).into_iter().chain([None]);
    futures_util::future::join_all(cases.map(beside_a_collector_that)).await;
}

/// `None`: there is none at its address.
async fn beside_a_collector_that(manner: Option<Manner>) {
    const CALLS: usize = 40;
    let (database, inbox) = (Database::new().await, Inbox::open().await);
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let collector = Collector::start(manner.unwrap_or(Manner::Takes)).await;
    let url = match manner {
        Some(_) => collector.url(),
        None => format!("http://{}", socket.local_addr().unwrap()),
    };
    let (mut dispatcher, scraper) = start(&database.url, &["--otlp-endpoint", &url]).await;
    database.publish("a", "default", &json!({"method": "POST", "url": inbox.url("/")})).await;
    for _ in 0..CALLS {
        database.insert_call("a", &json!({"callInfo": {"from": NUMBER}})).await;
    }
    database.settled().await;
    let line = dispatcher.says("spans are not exported; deliveries go on without them").await;
    assert!(!line.contains(NUMBER) && !line.contains("planted") && !line.contains("postcall.agent"), "{line}");
    let dropped = |scraper: Scraper| scraper.until(|scrape| scrape.value("postcall_spans_dropped_total", &[]) > 0.0);
    let scrape = dropped(scraper).await;
    assert_eq!(scrape.value("postcall_spans_exported_total", &[]), 0.0);
    // Some more, so that spans wait when it ends.
    for _ in 0..CALLS {
        database.insert_call("a", &json!({"callInfo": {"from": NUMBER}})).await;
    }
    inbox.has(2 * CALLS).await;
    database.settled().await;
    let delivered = "SELECT count(*) FROM postcall.delivery_history WHERE state = 'delivered'";
    assert_eq!(database.number(delivered).await, 2 * CALLS as i64, "{manner:?}");
    assert_eq!(inbox.received().len(), 2 * CALLS);
    let stopping = Instant::now();
    dispatcher.signal(Signal::SIGTERM);
    let (well, lines) = dispatcher.ended_saying().await;
    assert!(well && stopping.elapsed() < STOP, "{manner:?} {:?} {lines:#?}", stopping.elapsed());
    let said = lines.iter().filter(|line| line.contains("spans are not exported")).count();
    assert_eq!(said, 0, "it is said once: {lines:#?}");
    assert!(lines.iter().all(|line| !line.contains(NUMBER) && !line.contains("planted")), "{lines:#?}");
}

#[tokio::test]
async fn when_the_collector_is_back_spans_are_exported_again_and_the_last_ones_before_the_end() {
    let (database, inbox) = (Database::new().await, Inbox::holding().await);
    let collector = Collector::start(Manner::Refuses).await;
    let (mut dispatcher, scraper) = start(&database.url, &["--otlp-endpoint", &collector.url()]).await;
    call_for(&database, "a", &inbox.url("/")).await;
    inbox.has(1).await;
    inbox.answer(1);
    dispatcher.says("spans are not exported").await;
    collector.behaves(Manner::Takes);
    call_for(&database, "b", &inbox.url("/")).await;
    inbox.has(2).await;
    inbox.answer(1);
    let line = dispatcher.says("spans are exported again").await;
    assert!(line.contains("spans.dropped=1"), "{line}");
    let scrape = scraper.until(|scrape| scrape.value("postcall_spans_exported_total", &[]) == 1.0).await;
    assert_eq!(scrape.value("postcall_spans_dropped_total", &[]), 1.0);
    call_for(&database, "c", &inbox.url("/")).await;
    inbox.has(3).await;
    dispatcher.signal(Signal::SIGTERM);
    dispatcher.says("draining").await;
    inbox.answer(1);
    assert!(dispatcher.ended().await.0);
    let agents: Vec<String> = collector.spans().iter().map(|seen| seen.get("postcall.agent").to_owned()).collect();
    assert_eq!(agents, ["a", "b", "c"], "the one that ended in the drain, too");
}

#[tokio::test]
async fn receivers_get_the_ids_of_the_span_if_asked_to_and_never_in_place_of_what_the_author_has_set() {
    let (database, inbox, collector) =
        (Database::new().await, Inbox::open().await, Collector::start(Manner::Takes).await);
    let own = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";
    for (agent, headers) in [("none", json!({})), ("own", json!({"TraceParent": own}))] {
        let action = json!({"method": "POST", "url": inbox.url(&format!("/200/{agent}")), "headers": headers});
        database.publish(agent, "default", &action).await;
        database.insert_call(agent, &json!({"traceparent": NUMBER})).await;
    }
    let _dispatcher = Dispatcher::start(&database, &["--otlp-endpoint", &collector.url(), "--send-traceparent"]).await;
    let spans = collector.has(2).await;
    let span_of = |agent: &str| spans.iter().find(|seen| seen.get("postcall.agent") == agent).unwrap();
    for request in inbox.received() {
        let values: Vec<_> = request.headers.get_all("traceparent").iter().collect();
        let expected = match request.target.as_str() {
            "/200/own" => own.to_owned(),
            _ => span_of("none").traceparent(),
        };
        assert_eq!(values, [expected.as_str()], "{}", request.target);
    }
    assert_eq!(inbox.received().len(), 2);
}

#[tokio::test]
async fn settings_that_cannot_be_meant_are_refused_with_what_to_do() {
    let database = Database::new().await;
    for (arguments, words) in [
        (&["run", "--send-traceparent"][..], "--send-traceparent needs --otlp-endpoint"),
        (&["run", "--otlp-endpoint", "collector:4318"], "give an http or https URL, such as http://127.0.0.1:4318"),
        (&["run", "--otlp-endpoint", "http://collector:4317"], "OTLP over HTTP, usually at port 4318"),
        (&["run", "--otlp-endpoint", "http://u:p@collector:4318"], "OTEL_EXPORTER_OTLP_HEADERS"),
    ] {
        let refused = postcall_on(&database, arguments);
        assert!(!refused.status.success() && stderr(&refused).contains(words), "{}", stderr(&refused));
    }
}
