//! A receiver of webhooks that acts on each message once, and drops second copies.
//!
//! ```text
//! cargo run --example receiver -- 127.0.0.1:9000
//! ```
//!
//! postcall sends each message once. A second copy arrives if a person replays a delivery, for example because nobody knew
//! whether the first copy had arrived. All copies of a message carry the same header `webhook-id`.
//!
//! This example remembers the last 100,000 ids in memory. That is enough to show the idea, but it forgets them when it ends,
//! and it loses what it has accepted and not yet worked on. If your receiver has a database, let a unique index there
//! remember the ids, and answer only after the commit:
//!
//! ```text
//! CREATE TABLE received (webhook_id text PRIMARY KEY, body text NOT NULL, received_at timestamptz DEFAULT now());
//! INSERT INTO received (webhook_id, body) VALUES ($1, $2) ON CONFLICT DO NOTHING;   -- no row: a second copy
//! ```

use std::collections::{HashSet, VecDeque};
use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

/// Ids that are remembered. The oldest one is forgotten first, so that memory is bounded.
const REMEMBERED: usize = 100_000;

/// Messages that may wait for their work.
const QUEUE: usize = 1_000;

/// A message: its id and its body.
type Message = (String, Bytes);

/// The ids that were seen last.
#[derive(Default)]
struct Seen {
    ids: HashSet<String>,
    oldest_first: VecDeque<String>,
}

impl Seen {
    /// Remembers the id; whether it is new.
    fn is_new(&mut self, id: &str) -> bool {
        if !self.ids.insert(id.to_owned()) {
            return false;
        }
        self.oldest_first.push_back(id.to_owned());
        if self.oldest_first.len() > REMEMBERED
            && let Some(oldest) = self.oldest_first.pop_front()
        {
            self.ids.remove(&oldest);
        }
        true
    }
}

/// What all requests share.
struct Receiver {
    seen: Mutex<Seen>,
    queue: mpsc::Sender<Message>,
}

/// Accepts a message and answers at once. The work is done later, because an action's timeout runs until the answer is there.
async fn receive(State(receiver): State<Arc<Receiver>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let Some(id) = headers.get("webhook-id").and_then(|id| id.to_str().ok()) else {
        return StatusCode::BAD_REQUEST;
    };
    // The place comes first: an id is remembered only if its message is accepted. postcall does not retry. It records this
    // answer as "rejected", and a person can replay the delivery later.
    let Ok(place) = receiver.queue.try_reserve() else {
        return StatusCode::SERVICE_UNAVAILABLE;
    };
    if receiver.seen.lock().unwrap_or_else(PoisonError::into_inner).is_new(id) {
        place.send((id.to_owned(), body));
    } else {
        println!("second copy of {id}, dropped");
    }
    // A second copy is a success, too: what it asks for has been accepted.
    StatusCode::ACCEPTED
}

/// Does the work, one message after the other.
async fn work(mut queue: mpsc::Receiver<Message>) {
    while let Some((id, body)) = queue.recv().await {
        println!("first copy of {id}, {} bytes", body.len());
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:9000".to_owned());
    let listener = TcpListener::bind(address).await?;
    println!("listening on http://{}/", listener.local_addr()?);
    let (sender, queue) = mpsc::channel(QUEUE);
    tokio::spawn(work(queue));
    let receiver = Receiver { seen: Mutex::default(), queue: sender };
    // axum refuses bodies of more than 2 MB with 413. `axum::extract::DefaultBodyLimit` changes that.
    axum::serve(listener, Router::new().fallback(receive).with_state(Arc::new(receiver))).await?;
    Ok(())
}
