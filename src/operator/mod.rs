//! The HTTP client for what the operator has chosen: the collector of spans, the URL to which checkpoints are exported,
//! and the authority that timestamps them. It sends one request over a connection of its own, and reads a bounded
//! answer.
//!
//! It is not the client for webhooks: the operator has given the address at the start, so it may be on this machine or
//! in a private network, and the guard of targets has no say. Nothing of a call and nothing of a customer chooses where
//! it goes. Redirects are not followed, and no proxy is used. How long it may take is bounded by whoever calls it.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{HOST, HeaderValue};
use http::{Request, Response, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
pub use tokio_rustls::rustls::ClientConfig as TlsConfig;
use tokio_rustls::rustls::pki_types::ServerName;
use url::{Host, Url};

mod address;

pub use address::{Address, NotAnAddress};

/// The largest answer that is read, in bytes.
const MOST_ANSWER_BYTES: usize = 64 * 1024;
/// The largest head of an answer, in bytes.
const MOST_HEAD_BYTES: usize = 16 * 1024;

/// Why a request was not taken. It names who should have taken it, and has nothing of what that one has written but the
/// code.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// No connection could be opened.
    #[error("cannot connect to {0}")]
    Connect(&'static str, #[source] io::Error),
    /// No TLS session could be opened.
    #[error("cannot open a TLS session with {0}")]
    Tls(&'static str, #[source] io::Error),
    /// The connection broke, or what came is no answer of HTTP.
    #[error("{0} gave no answer")]
    NoAnswer(&'static str, #[source] hyper::Error),
    /// The answer's body could not be read, or is too long.
    #[error("the answer of {0} broke off, or is larger than 64 KiB")]
    BadBody(&'static str),
    /// It answered, but not that it has taken the request.
    #[error("{0} answered {1}")]
    Refused(&'static str, u16),
    /// It took too long.
    #[error("{0} did not answer in time")]
    TimedOut(&'static str),
    /// What is to be sent makes no request.
    #[error("no request for {0} can be made of this")]
    Unsendable(&'static str),
}

/// The client of one address.
#[derive(Clone)]
pub struct Client {
    who: &'static str,
    host: Host<String>,
    port: u16,
    tls: Option<TlsConnector>,
}

impl Client {
    /// A client for the host and port of this URL. `tls` is needed for an https URL. `who` names it in errors.
    pub fn new(who: &'static str, url: &Url, tls: Option<TlsConfig>) -> Client {
        // An http URL always has a host and a port.
        let host = url.host().map_or_else(|| Host::Domain(String::new()), |host| host.to_owned());
        let port = url.port_or_known_default().unwrap_or_default();
        let tls = tls.map(|config| TlsConnector::from(Arc::new(config)));
        Client { who, host, port, tls }
    }

    /// Who is at the address, for errors.
    pub fn who(&self) -> &'static str {
        self.who
    }

    /// Sends a request and reads the answer, whatever its code is. The connection ends with this future.
    ///
    /// # Errors
    /// If there is no whole answer, or it is too long.
    pub async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, Trouble> {
        let (who, port) = (self.who, self.port);
        let stream = match &self.host {
            Host::Domain(name) => TcpStream::connect((name.as_str(), port)).await,
            Host::Ipv4(address) => TcpStream::connect((*address, port)).await,
            Host::Ipv6(address) => TcpStream::connect((*address, port)).await,
        };
        let stream = stream.map_err(|error| Trouble::Connect(who, error))?;
        match &self.tls {
            None => self.exchange(stream, request).await,
            Some(tls) => {
                let name = self.server_name().ok_or(Trouble::Unsendable(who))?;
                let stream = tls.connect(name, stream).await.map_err(|error| Trouble::Tls(who, error))?;
                self.exchange(stream, request).await
            }
        }
    }

    fn server_name(&self) -> Option<ServerName<'static>> {
        match &self.host {
            Host::Domain(name) => ServerName::try_from(name.clone()).ok(),
            Host::Ipv4(address) => Some(ServerName::from(IpAddr::from(*address))),
            Host::Ipv6(address) => Some(ServerName::from(IpAddr::from(*address))),
        }
    }

    async fn exchange(
        &self,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        request: Request<Bytes>,
    ) -> Result<Response<Bytes>, Trouble> {
        let who = self.who;
        let no_answer = |error| Trouble::NoAnswer(who, error);
        let mut http = http1::Builder::new();
        http.max_buf_size(MOST_HEAD_BYTES);
        let (mut sender, connection) = http.handshake(TokioIo::new(stream)).await.map_err(no_answer)?;
        let answered = async {
            let request = in_form(request).ok_or(Trouble::Unsendable(who))?;
            let answer = sender.send_request(request).await.map_err(no_answer)?;
            let (head, body) = answer.into_parts();
            let body = Limited::new(body, MOST_ANSWER_BYTES).collect().await.map_err(|_| Trouble::BadBody(who))?;
            Ok(Response::from_parts(head, body.to_bytes()))
        };
        let mut answered = std::pin::pin!(answered);
        tokio::select! {
            biased;
            answered = &mut answered => answered,
            // The connection has nothing more to do, and the answer may be complete all the same.
            _ended = connection => answered.await,
        }
    }
}

/// The request in the form that goes to a server: with its host as a header, and its path alone.
fn in_form(request: Request<Bytes>) -> Option<Request<Full<Bytes>>> {
    let mut request = request.map(Full::new);
    let host = HeaderValue::from_str(request.uri().authority()?.as_str()).ok()?;
    let path = request.uri().path_and_query().cloned()?;
    request.headers_mut().insert(HOST, host);
    *request.uri_mut() = Uri::from(path);
    Some(request)
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("host", &self.host).field("port", &self.port).finish_non_exhaustive()
    }
}
