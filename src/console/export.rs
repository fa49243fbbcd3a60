//! Exports: a whole result as one answer, as long as it is, in bounded memory.
//!
//! The result is read step by step, each by short statements of its own. A session is held only while a step is read, and
//! never while a reader takes what was read. Whoever takes nothing for [`STALLED`] is cut off. An answer that could not be
//! brought to its end is broken off, so that every client sees that something is missing.

use std::time::Duration;

use http::{HeaderValue, Version, header};
use hyper::body::Bytes;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;
use tracing::debug;

use super::answer::{Answer, CutOff, Pieces};
use super::failure::Trouble;
use crate::service::audit::WholeAudit;
use crate::service::export::{Form, Record};
use crate::service::history::Whole;
use crate::store::Store;
use crate::store::acts::ActRow;
use crate::store::history::HistoryRow;
use crate::store::standby::Standby;

/// The most exports at the same time; each has one session while it reads.
pub(super) const EXPORTS: usize = 2;
/// How long a step of an export may take.
const STEP_TIME: Duration = Duration::from_secs(20);
/// How long a reader may take for a piece.
const STALLED: Duration = Duration::from_secs(30);
/// How long an export may take. Whoever reads as slowly as [`STALLED`] allows does not keep others from exporting for ever.
const EXPORT_TIME: Duration = Duration::from_secs(60 * 60);
/// The largest piece, in bytes.
const PIECE: usize = 64 * 1024;

/// A result that is exported.
#[derive(Debug)]
pub(super) enum Exported {
    Deliveries(Whole),
    Acts(WholeAudit),
}

impl Exported {
    fn name(&self) -> &'static str {
        match self {
            Exported::Deliveries(_) => "deliveries",
            Exported::Acts(_) => "audit",
        }
    }

    fn head(&self, form: Form) -> Result<Vec<u8>, Trouble> {
        let mut text = Vec::new();
        match self {
            Exported::Deliveries(_) => form.write_head::<HistoryRow>(&mut text),
            Exported::Acts(_) => form.write_head::<ActRow>(&mut text),
        }
        .map_err(|_| Trouble::Defect)?;
        Ok(text)
    }

    /// Reads the next rows as text; `None` after the last ones.
    async fn step(&mut self, store: &Store, form: Form) -> Result<Option<Vec<u8>>, Trouble> {
        let step = async {
            match self {
                Exported::Deliveries(whole) => whole.step(store).await?.map(|rows| written(form, &rows)).transpose(),
                Exported::Acts(whole) => whole.step(store).await?.map(|rows| written(form, &rows)).transpose(),
            }
        };
        timeout(STEP_TIME, step).await.unwrap_or(Err(Trouble::TooSlow))
    }
}

fn written<R: Record>(form: Form, rows: &[R]) -> Result<Vec<u8>, Trouble> {
    let mut text = Vec::new();
    form.write_rows(&mut text, rows).map_err(|_| Trouble::Defect)?;
    Ok(text)
}

/// Whether a client of this version sees it if an answer is broken off. For one of HTTP/1.0, the end of the connection is
/// the end of the answer.
pub(super) fn can_be_broken_off(version: Version) -> bool {
    version >= Version::HTTP_11
}

/// Begins an export. What keeps it from being read at all is said instead of it.
pub(super) async fn begin(
    (mut exported, form): (Exported, Form),
    store: Store,
    permit: OwnedSemaphorePermit,
    streams: &TaskTracker,
) -> Result<Answer, Trouble> {
    // Asked before anything is read: what is committed until then is in the file, if it matches.
    let source = store.standby().await?.map(|standby| of_standby(&standby)).unwrap_or_default();
    let mut text = exported.head(form)?;
    let first = exported.step(&store, form).await?;
    let is_over = first.is_none();
    text.extend(first.unwrap_or_default());
    let kind = match form {
        Form::Csv => "text/csv; charset=utf-8; header=present",
        Form::JsonLines => "application/jsonl; charset=utf-8",
    };
    let (answer, pieces) = Answer::streamed(kind);
    let file = match form {
        Form::Csv => "csv",
        Form::JsonLines => "jsonl",
    };
    let file = format!("attachment; filename=\"{}{source}.{file}\"", exported.name());
    streams.spawn(async move {
        let _permit = permit;
        send(exported, form, &store, text, is_over, pieces).await;
    });
    match HeaderValue::from_str(&file) {
        Ok(file) => Ok(answer.with(header::CONTENT_DISPOSITION, file)),
        Err(_) => Ok(answer),
    }
}

/// What the name of a file says if it is read from a standby: it may lack what was committed later.
fn of_standby(standby: &Standby) -> String {
    let until = standby.shows_until.map(|until| format!("-until-{}", until.format("%Y-%m-%dT%H%M%SZ")));
    format!("-from-standby{}", until.unwrap_or_default())
}

async fn send(
    mut exported: Exported,
    form: Form,
    store: &Store,
    mut text: Vec<u8>,
    mut is_over: bool,
    mut pieces: Pieces,
) {
    let all = async {
        loop {
            hand_over(&mut pieces, text).await?;
            if is_over {
                return Ok(());
            }
            // The cause stands in the log already.
            let step = exported.step(store, form).await.map_err(|_| Cut::Unread)?;
            is_over = step.is_none();
            text = step.unwrap_or_default();
        }
    };
    match timeout(EXPORT_TIME, all).await.unwrap_or(Err(Cut::TooLong)) {
        // Dropping the sender ends the answer well.
        Ok(()) => {}
        Err(cut) => {
            debug!(?cut, "an export was broken off");
            pieces.abort(CutOff);
        }
    }
}

/// Why an export is not brought to its end.
#[derive(Clone, Copy, Debug)]
enum Cut {
    /// The database gave no more.
    Unread,
    /// The reader is gone.
    Gone,
    /// The reader took nothing for too long.
    Stalled,
    /// It took too long.
    TooLong,
}

async fn hand_over(pieces: &mut Pieces, text: Vec<u8>) -> Result<(), Cut> {
    let mut text = Bytes::from(text);
    while !text.is_empty() {
        let piece = text.split_to(text.len().min(PIECE));
        match timeout(STALLED, pieces.send_data(piece)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Err(Cut::Gone),
            Err(_) => return Err(Cut::Stalled),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_reader_who_takes_nothing_is_cut_off_after_a_while_and_one_who_takes_all_gets_all() {
        let text = vec![b'x'; 100 * PIECE];
        let (_unread, mut pieces) = Answer::streamed("text/plain");
        let begun = tokio::time::Instant::now();
        assert!(matches!(hand_over(&mut pieces, text.clone()).await, Err(Cut::Stalled)));
        assert_eq!(begun.elapsed(), STALLED);
        let (answer, mut pieces) = Answer::streamed("text/plain");
        let sent = async move { hand_over(&mut pieces, text).await };
        let (sent, read) = tokio::join!(sent, answer.into_response().into_body().collect());
        assert!(sent.is_ok() && read.is_ok_and(|read| read.to_bytes().len() == 100 * PIECE));
        let (answer, mut pieces) = Answer::streamed("text/plain");
        drop(answer);
        assert!(matches!(hand_over(&mut pieces, vec![0]).await, Err(Cut::Gone)));
    }
}
