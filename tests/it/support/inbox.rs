//! A well-behaved receiver: it answers every request at once, and keeps what it got.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::to_bytes;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};

/// How long requests are waited for before the test fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// One request as it arrived.
#[derive(Clone, Debug)]
pub struct Received {
    pub method: String,
    /// Path and query.
    pub target: String,
    pub headers: HeaderMap,
    pub body: String,
}

impl Received {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| std::str::from_utf8(value.as_bytes()).unwrap())
    }
}

/// The receiver. A path that begins with a number is answered with that status, others with 200.
#[derive(Clone)]
pub struct Inbox {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    received: Mutex<Vec<Received>>,
    count: watch::Sender<usize>,
    /// Answers that may go out; closed means: all of them.
    answers: Semaphore,
}

impl Inbox {
    /// Answers at once.
    pub async fn open() -> Inbox {
        let inbox = Inbox::holding().await;
        inbox.shared.answers.close();
        inbox
    }

    /// Takes requests and answers none until [`Inbox::answer`] says so.
    pub async fn holding() -> Inbox {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared =
            Arc::new(Shared { received: Mutex::default(), count: watch::Sender::new(0), answers: Semaphore::new(0) });
        let router = Router::new().fallback(receive).with_state(shared.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Inbox { address, shared }
    }

    /// Lets `count` held requests be answered.
    pub fn answer(&self, count: usize) {
        self.shared.answers.add_permits(count);
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Waits until at least `count` requests have arrived.
    pub async fn has(&self, count: usize) {
        let mut have = self.shared.count.subscribe();
        let arrived = have.wait_for(|have| *have >= count);
        tokio::time::timeout(PATIENCE, arrived).await.expect("waited in vain for requests").unwrap();
    }

    pub fn received(&self) -> Vec<Received> {
        self.shared.received.lock().unwrap().clone()
    }

    /// How often each value of a header arrived.
    pub fn counts_by(&self, header: &str) -> HashMap<String, usize> {
        let mut counts = HashMap::new();
        for request in self.shared.received.lock().unwrap().iter() {
            *counts.entry(request.header(header).unwrap_or("none").to_owned()).or_default() += 1;
        }
        counts
    }
}

async fn receive(State(shared): State<Arc<Shared>>, request: Request) -> StatusCode {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap();
    let target = parts.uri.path_and_query().map(|target| target.to_string()).unwrap_or_default();
    let status = parts.uri.path().split('/').nth(1).and_then(|first| first.parse().ok()).unwrap_or(200);
    shared.received.lock().unwrap().push(Received {
        method: parts.method.to_string(),
        target,
        headers: parts.headers,
        body: String::from_utf8(body.to_vec()).unwrap(),
    });
    shared.count.send_modify(|count| *count += 1);
    if let Ok(permit) = shared.answers.acquire().await {
        permit.forget();
    }
    StatusCode::from_u16(status).unwrap()
}
