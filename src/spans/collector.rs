//! The exporter's own HTTP client. It sends one batch of spans over a connection of its own, and reads a bounded answer.
//!
//! It is not the client for webhooks: the operator has chosen the collector, so it may be on this machine or in a private network,
//! and the guard of targets has no say. Redirects are not followed, and no proxy is used.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::header::{HOST, HeaderValue};
use http::{Request, Response, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use opentelemetry_http::{HttpClient, HttpError};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;
use url::Host;

use super::Endpoint;

/// The largest answer of a collector that is read, in bytes.
const MOST_ANSWER_BYTES: usize = 64 * 1024;
/// The largest head of an answer, in bytes.
const MOST_HEAD_BYTES: usize = 16 * 1024;

/// Why a batch of spans was not taken. It has nothing of what the collector has written but the code.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    /// No connection could be opened.
    #[error("cannot connect to the collector")]
    Connect(#[source] io::Error),
    /// No TLS session could be opened.
    #[error("cannot open a TLS session with the collector")]
    Tls(#[source] io::Error),
    /// The connection broke, or what came is no answer of HTTP.
    #[error("the collector gave no answer")]
    NoAnswer(#[source] hyper::Error),
    /// The answer's body could not be read, or is too long.
    #[error("the collector's answer broke off, or is larger than 64 KiB")]
    BadBody,
    /// It answered, but not with 2xx.
    #[error("the collector answered {0}")]
    Refused(u16),
    /// It took too long.
    #[error("the collector did not answer in time")]
    TimedOut,
    /// The batch could not be put into a request.
    #[error("the spans cannot be sent")]
    Unsendable,
}

/// The client. Clones share what they note.
#[derive(Clone)]
pub(super) struct Collector {
    endpoint: Endpoint,
    tls: Option<TlsConnector>,
    /// Why the last batch failed. The SDK's error does not tell it.
    trouble: Arc<Mutex<Option<Trouble>>>,
}

impl Collector {
    /// A client for this collector. `tls` is needed for an https URL.
    pub(super) fn new(endpoint: Endpoint, tls: Option<ClientConfig>) -> Collector {
        let tls = tls.map(|config| TlsConnector::from(Arc::new(config)));
        Collector { endpoint, tls, trouble: Arc::default() }
    }

    /// Takes the reason why the last batch failed.
    pub(super) fn take_trouble(&self) -> Option<Trouble> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, Trouble> {
        let port = self.endpoint.port();
        let stream = match self.endpoint.host() {
            Host::Domain(name) => TcpStream::connect((name, port)).await,
            Host::Ipv4(address) => TcpStream::connect((address, port)).await,
            Host::Ipv6(address) => TcpStream::connect((address, port)).await,
        };
        let stream = stream.map_err(Trouble::Connect)?;
        match &self.tls {
            None => exchange(stream, request).await,
            Some(tls) => {
                let name = self.server_name().ok_or(Trouble::Unsendable)?;
                exchange(tls.connect(name, stream).await.map_err(Trouble::Tls)?, request).await
            }
        }
    }

    fn server_name(&self) -> Option<ServerName<'static>> {
        match self.endpoint.host() {
            Host::Domain(name) => ServerName::try_from(name.to_owned()).ok(),
            Host::Ipv4(address) => Some(ServerName::from(IpAddr::from(address))),
            Host::Ipv6(address) => Some(ServerName::from(IpAddr::from(address))),
        }
    }
}

/// Sends the request and reads the answer. The connection ends with this future.
async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    request: Request<Bytes>,
) -> Result<Response<Bytes>, Trouble> {
    let mut http = http1::Builder::new();
    http.max_buf_size(MOST_HEAD_BYTES);
    let (mut sender, connection) = http.handshake(TokioIo::new(stream)).await.map_err(Trouble::NoAnswer)?;
    let answered = async {
        let answer = sender.send_request(in_form(request)?).await.map_err(Trouble::NoAnswer)?;
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, MOST_ANSWER_BYTES).collect().await.map_err(|_| Trouble::BadBody)?;
        if head.status.is_success() {
            Ok(Response::from_parts(head, body.to_bytes()))
        } else {
            Err(Trouble::Refused(head.status.as_u16()))
        }
    };
    let mut answered = std::pin::pin!(answered);
    tokio::select! {
        biased;
        answered = &mut answered => answered,
        // The connection has nothing more to do, and the answer may be complete all the same.
        _ended = connection => answered.await,
    }
}

/// The request in the form that goes to a server: with its host as a header, and its path alone.
fn in_form(request: Request<Bytes>) -> Result<Request<Full<Bytes>>, Trouble> {
    let mut request = request.map(Full::new);
    let authority = request.uri().authority().ok_or(Trouble::Unsendable)?;
    let host = HeaderValue::from_str(authority.as_str()).map_err(|_| Trouble::Unsendable)?;
    let path = request.uri().path_and_query().cloned().ok_or(Trouble::Unsendable)?;
    request.headers_mut().insert(HOST, host);
    *request.uri_mut() = Uri::from(path);
    Ok(request)
}

/// The trait has the form that `async_trait` gives it.
impl HttpClient for Collector {
    fn send_bytes<'a, 'f>(
        &'a self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'f>>
    where
        'a: 'f,
        Self: 'f,
    {
        Box::pin(async move {
            self.send(request).await.map_err(|trouble| {
                *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(trouble);
                HttpError::from("the batch was not taken")
            })
        })
    }
}

impl fmt::Debug for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Collector").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}
