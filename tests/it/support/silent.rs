//! A receiver that takes a request and never answers.

use std::time::Duration;

use tokio::sync::mpsc;

use crate::support::receiver::Receiver;

/// How long a request is waited for before the test fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// A receiver that says when a request has arrived, and never answers.
pub async fn silent() -> (Receiver, mpsc::Receiver<()>) {
    let (arrived, arrivals) = mpsc::channel(16);
    let receiver = Receiver::start(move |mut peer| {
        let arrived = arrived.clone();
        async move {
            peer.request().await;
            arrived.send(()).await.unwrap();
            peer.hang().await;
        }
    })
    .await;
    (receiver, arrivals)
}

/// Waits until a request has arrived.
pub async fn arrives(arrivals: &mut mpsc::Receiver<()>) {
    tokio::time::timeout(PATIENCE, arrivals.recv()).await.expect("no request arrives").unwrap();
}
