//! The demo's receiver: a small HTTP server that counts requests by message id.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::PoisonError;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use tokio::net::{TcpListener, TcpSocket};

use super::Shared;
use crate::cli::CliError;

/// The header by which receivers distinguish messages.
const MESSAGE_ID: HeaderName = HeaderName::from_static("webhook-id");

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
        let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
        let listener = TcpListener::bind(any_port).await?;
        let nobody = TcpSocket::new_v4()?;
        nobody.bind(any_port)?;
        let counts = Shared::default();
        let router = Router::new().fallback(answer).with_state(counts.clone());
        let address = listener.local_addr()?;
        tokio::spawn(async move { axum::serve(listener, router).await });
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

async fn answer(State(counts): State<Shared<Counts>>, request: Request) -> Response {
    let id = request.headers().get(MESSAGE_ID).and_then(|value| value.to_str().ok()).unwrap_or("none").to_owned();
    *counts.lock().unwrap_or_else(PoisonError::into_inner).entry(id).or_default() += 1;
    match request.uri().path() {
        "/tickets" => (StatusCode::UNPROCESSABLE_ENTITY, "no such queue").into_response(),
        "/moved" => (StatusCode::FOUND, [(header::LOCATION, "/crm/calls")]).into_response(),
        "/never" => std::future::pending().await,
        _ => StatusCode::CREATED.into_response(),
    }
}
