//! An OpenTelemetry collector on a real socket: it keeps what it gets to the byte, and decodes the spans.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

/// How long spans are waited for before the test fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the collector does with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    Takes,
    /// It reads, and answers nothing.
    Hangs,
    /// It answers 500, and repeats the request, as a server may that tells what it got.
    Refuses,
    /// It answers what is not HTTP.
    Babbles,
    /// Its answer has no end.
    NeverEnds,
}

pub struct Collector {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    /// Head and body of each request.
    requests: Mutex<Vec<(String, Vec<u8>)>>,
    count: watch::Sender<usize>,
    manner: Mutex<Manner>,
}

impl Collector {
    pub async fn start(manner: Manner) -> Collector {
        Collector::with_tls(manner, None).await
    }

    pub async fn with_tls(manner: Manner, tls: Option<TlsAcceptor>) -> Collector {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared =
            Arc::new(Shared { requests: Mutex::default(), count: watch::Sender::new(0), manner: Mutex::new(manner) });
        let of_server = shared.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (shared, tls) = (of_server.clone(), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => serve(stream, &shared).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, &shared).await;
                            }
                        }
                    }
                });
            }
        });
        Collector { address, shared }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn behaves(&self, manner: Manner) {
        *self.shared.manner.lock().unwrap() = manner;
    }

    /// Waits until at least so many spans have come, and returns all.
    pub async fn has(&self, spans: usize) -> Vec<Seen> {
        let mut count = self.shared.count.subscribe();
        let have = async {
            while self.spans().len() < spans {
                count.changed().await.unwrap();
            }
        };
        tokio::time::timeout(PATIENCE, have).await.expect("waited in vain for spans");
        self.spans()
    }

    /// The spans that have come.
    pub fn spans(&self) -> Vec<Seen> {
        let requests = self.shared.requests.lock().unwrap();
        requests.iter().flat_map(|(_, body)| seen(body)).collect()
    }

    /// The head of each request.
    pub fn heads(&self) -> Vec<String> {
        self.shared.requests.lock().unwrap().iter().map(|(head, _)| head.clone()).collect()
    }

    /// Whether these bytes stand anywhere in what has come.
    pub fn holds(&self, text: &str) -> bool {
        let requests = self.shared.requests.lock().unwrap();
        let in_body = |body: &[u8]| body.windows(text.len()).any(|part| part == text.as_bytes());
        requests.iter().any(|(head, body)| head.contains(text) || in_body(body))
    }
}

/// A span, with its attributes and those of its resource as text.
#[derive(Debug)]
pub struct Seen {
    pub span: Span,
    pub attributes: BTreeMap<String, String>,
    pub resource: BTreeMap<String, String>,
}

impl Seen {
    pub fn get(&self, attribute: &str) -> &str {
        self.attributes.get(attribute).map_or("", String::as_str)
    }

    /// The header `traceparent` that names this span.
    pub fn traceparent(&self) -> String {
        format!("00-{}-{}-01", hex::encode(&self.span.trace_id), hex::encode(&self.span.span_id))
    }
}

fn seen(body: &[u8]) -> Vec<Seen> {
    let request = ExportTraceServiceRequest::decode(body).expect("OTLP in protobuf");
    let mut all = Vec::new();
    for of_resource in request.resource_spans {
        let resource = of_resource.resource.map(|resource| texts(resource.attributes)).unwrap_or_default();
        for span in of_resource.scope_spans.into_iter().flat_map(|of_scope| of_scope.spans) {
            all.push(Seen { attributes: texts(span.attributes.clone()), resource: resource.clone(), span });
        }
    }
    all
}

/// Attributes by name. Each has one value.
fn texts(attributes: Vec<KeyValue>) -> BTreeMap<String, String> {
    let mut texts = BTreeMap::new();
    for KeyValue { key, value, .. } in attributes {
        let text = match value.and_then(|value| value.value).expect("a value") {
            Value::StringValue(text) => text,
            Value::IntValue(number) => number.to_string(),
            other => panic!("{key}: {other:?}"),
        };
        assert_eq!(texts.insert(key, text), None, "an attribute twice");
    }
    texts
}

async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin, shared: &Shared) {
    let Some((head, body)) = request(&mut stream).await else { return };
    let manner = *shared.manner.lock().unwrap();
    let repeated = String::from_utf8_lossy(&body).into_owned();
    shared.requests.lock().unwrap().push((head, body));
    shared.count.send_modify(|count| *count += 1);
    let answer = match manner {
        Manner::Takes => "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".to_owned(),
        Manner::Refuses => {
            format!("HTTP/1.1 500 No\r\ncontent-length: {}\r\nx-repeated: planted\r\n\r\n{repeated}", repeated.len())
        }
        Manner::Babbles => "I speak no HTTP\r\n\r\n".to_owned(),
        Manner::Hangs | Manner::NeverEnds => String::new(),
    };
    stream.write_all(answer.as_bytes()).await.ok();
    if manner == Manner::NeverEnds {
        stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await.ok();
        while stream.write_all(b"400\r\n").await.is_ok()
            && stream.write_all(&[b'x'; 0x400]).await.is_ok()
            && stream.write_all(b"\r\n").await.is_ok()
        {}
    }
    // Until the other side ends it.
    stream.read_to_end(&mut Vec::new()).await.ok();
}

async fn request(stream: &mut (impl AsyncRead + Unpin)) -> Option<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("a length");
            if bytes.len() >= end + 4 + length.parse::<usize>().unwrap() {
                return Some((head, bytes.split_off(end + 4)));
            }
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
}
