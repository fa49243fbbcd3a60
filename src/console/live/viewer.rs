//! What one viewer sees, until the connection ends.

use std::pin::pin;
use std::time::Duration;

use futures_util::stream::unfold;
use futures_util::{Stream, StreamExt};
use http_body_util::channel::SendError;
use hyper::body::Bytes;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, timeout};

use super::event::{News, told};
use super::{Beginning, Lifetime};
use crate::console::answer::{CutOff, Pieces};

/// How soon a browser comes back when its stream has ended, in milliseconds.
const COMES_BACK_MS: u64 = 1_000;
/// How long before the end of its connection a stream ends, so that it ends in order.
const BEFORE_THE_END: Duration = Duration::from_secs(5);
/// How often something is sent in any case: it shows the browser, and what stands between, that the stream is alive, and the
/// console that the browser is still there.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// How long a viewer may take none of what is sent.
const STUCK: Duration = Duration::from_secs(10);

/// Shows one viewer `first`, and then the texts that come, until the connection is over, the console ends, or the viewer is stuck or gone.
pub(super) async fn show(
    mut pieces: Pieces,
    first: String,
    texts: impl Stream<Item = String> + Send,
    lifetime: Lifetime,
) {
    let until = lifetime.until.checked_sub(BEFORE_THE_END).unwrap_or(lifetime.until);
    let shown = tokio::select! {
        shown = tell(&mut pieces, first, texts) => shown,
        () = tokio::time::sleep_until(until) => Ok(()),
        () = lifetime.stop.cancelled() => Ok(()),
    };
    if shown.is_err() {
        pieces.abort(CutOff);
    }
}

/// What the viewer of one database sees first, and what comes.
pub(super) fn of_one(beginning: Beginning) -> (String, impl Stream<Item = String> + Send) {
    let Beginning { news, said, recent, has_gap } = beginning;
    let first = first(&said.text(), has_gap, recent.iter().map(|event| &*event.text));
    let texts = all(news).map(|next| match next {
        Ok(News::Ended(event)) => event.text.clone(),
        Ok(News::Said(said)) => said.text(),
        Err(lost) => told(&format!("Live. {lost} events came faster than they could be sent, and are missing.")),
    });
    (first, texts)
}

/// What a viewer sees first: what is said about the tail, whether something may be missing, and what has ended lately.
pub(super) fn first<'e>(said: &str, has_gap: bool, recent: impl Iterator<Item = &'e str>) -> String {
    let mut first = format!("retry: {COMES_BACK_MS}\n\n{said}");
    if has_gap {
        first.push_str(&told("Live. What has come to an end meanwhile may be missing here: reload the page."));
    }
    recent.for_each(|event| first.push_str(event));
    first
}

/// What comes, or how much of it was lost because the viewer is slow.
pub(super) fn all(news: Receiver<News>) -> impl Stream<Item = Result<News, u64>> + Send {
    unfold(news, |mut news| async {
        let next = match news.recv().await {
            Ok(next) => Ok(next),
            Err(RecvError::Lagged(lost)) => Err(lost),
            Err(RecvError::Closed) => return None,
        };
        Some((next, news))
    })
}

/// The viewer is stuck or gone.
struct Lost;

async fn send(pieces: &mut Pieces, text: String) -> Result<(), Lost> {
    let sent: Result<Result<(), SendError>, _> = timeout(STUCK, pieces.send_data(Bytes::from(text))).await;
    sent.map_err(|_| Lost)?.map_err(|_| Lost)
}

async fn tell(pieces: &mut Pieces, first: String, texts: impl Stream<Item = String>) -> Result<(), Lost> {
    let mut texts = pin!(texts.fuse());
    send(pieces, first).await?;
    let mut heartbeat = tokio::time::interval_at(Instant::now() + HEARTBEAT, HEARTBEAT);
    loop {
        let text = tokio::select! {
            Some(text) = texts.next() => text,
            _ = heartbeat.tick() => ":\n\n".to_owned(),
        };
        send(pieces, text).await?;
    }
}
