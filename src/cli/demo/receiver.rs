//! The demo's receiver: a small HTTP server that counts requests by message id.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::PoisonError;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpSocket};

use super::Shared;
use crate::cli::CliError;

/// The header by which receivers distinguish messages.
const MESSAGE_ID: HeaderName = HeaderName::from_static("webhook-id");

/// How long no connection is taken after the system refused one, because it has no file left for it, for example.
const AFTER_A_REFUSAL: Duration = Duration::from_millis(50);

type Counts = HashMap<String, usize>;

/// A running receiver; it ends with the process.
pub(super) struct Receiver {
    address: SocketAddr,
    /// A socket that reserves a port on which nobody listens.
    nobody: TcpSocket,
    counts: Shared<Counts>,
}

impl Receiver {
    pub(super) async fn start() -> Result<Receiver, CliError> {
        Receiver::open().await.map_err(|source| CliError::System { what: "open the demo's receiver", source })
    }

    async fn open() -> std::io::Result<Receiver> {
        let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
        let listener = TcpListener::bind(any_port).await?;
        let nobody = TcpSocket::new_v4()?;
        nobody.bind(any_port)?;
        let counts = Shared::default();
        let address = listener.local_addr()?;
        tokio::spawn(serve(listener, Shared::clone(&counts)));
        Ok(Receiver { address, nobody, counts })
    }

    /// The URL of `path` at this receiver.
    pub(super) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The URL of `path` at a port on which nobody listens.
    pub(super) fn url_of_nobody(&self, path: &str) -> String {
        let port = self.nobody.local_addr().map_or(1, |address| address.port());
        format!("http://127.0.0.1:{port}{path}")
    }

    /// The number of requests for each message id.
    pub(super) fn requests_per_message(&self) -> Counts {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn serve(listener: TcpListener, counts: Shared<Counts>) {
    loop {
        let Ok((connection, _)) = listener.accept().await else {
            tokio::time::sleep(AFTER_A_REFUSAL).await;
            continue;
        };
        let counts = Shared::clone(&counts);
        let service = service_fn(move |request| answer(Shared::clone(&counts), request));
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(connection), service));
    }
}

async fn answer(counts: Shared<Counts>, request: Request<Incoming>) -> Result<Response<String>, Infallible> {
    let id = request.headers().get(MESSAGE_ID).and_then(|value| value.to_str().ok()).unwrap_or("none").to_owned();
    *counts.lock().unwrap_or_else(PoisonError::into_inner).entry(id).or_default() += 1;
    let mut response = Response::new(String::new());
    match request.uri().path() {
        "/tickets" => {
            *response.status_mut() = StatusCode::UNPROCESSABLE_ENTITY;
            response.body_mut().push_str("no such queue");
        }
        "/moved" => {
            *response.status_mut() = StatusCode::FOUND;
            response.headers_mut().insert(header::LOCATION, HeaderValue::from_static("/crm/calls"));
        }
        "/never" => std::future::pending().await,
        _ => *response.status_mut() = StatusCode::CREATED,
    }
    Ok(response)
}
