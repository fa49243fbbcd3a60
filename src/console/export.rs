//! Exports: a whole result as one answer, as long as it is, in bounded memory.
//!
//! The result is read step by step, each by short statements of its own. A session is held only while a step is read, and
//! never while a reader takes what was read. Whoever takes nothing for [`STALLED`] is cut off. An answer that could not be
//! brought to its end is broken off, so that every client sees that something is missing.
//!
//! An export of all of several databases is one of each: it holds a place for exports in all of them, and reads them side by side. If one
//! of them cannot be read, it does not begin; if one fails later, it is broken off.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;
use http::{HeaderValue, Version, header};
use hyper::body::Bytes;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;
use tracing::{debug, error_span};

use super::answer::{Answer, CutOff, Pieces};
use super::databases::{Database, WAIT};
use super::failure::Trouble;
use super::pages;
use super::people::Visit;
use super::route::Route;
use super::server::PAGE_TIME;
use super::together::All;
use crate::service::audit::WholeAudit;
use crate::service::export::{Form, Record};
use crate::service::merged::Located;
use crate::service::whole_of_all::{Lost, OfOne, Steps, WholeOfAll};
use crate::store::acts::ActRow;
use crate::store::history::HistoryRow;
use crate::store::standby::Standby;
use crate::store::{Store, StoreError};

/// The most exports of a database at the same time; each has one session while it reads.
pub(super) const EXPORTS: usize = 2;
/// How long a step of an export may take, for each database.
pub(super) const STEP_TIME: Duration = Duration::from_secs(20);
/// How long a reader may take for a piece.
const STALLED: Duration = Duration::from_secs(30);
/// How long an export may take. Whoever reads as slowly as [`STALLED`] allows does not keep others from exporting for ever.
const EXPORT_TIME: Duration = Duration::from_secs(60 * 60);
/// The largest piece, in bytes.
const PIECE: usize = 64 * 1024;

/// A result that is exported, and from where it is read.
pub(super) enum Exported {
    Deliveries(OfOne),
    Acts(WholeAudit, Store),
    /// Deliveries of all databases, with the standbys among these.
    OfAll(Box<WholeOfAll<String>>, Vec<Standby>),
}

impl Exported {
    fn name(&self) -> &'static str {
        match self {
            Exported::Deliveries(_) => "deliveries",
            Exported::Acts(..) => "audit",
            Exported::OfAll(..) => "deliveries-of-all",
        }
    }

    /// What the name of the file says of where it is read from.
    async fn source(&self) -> Result<String, Trouble> {
        let standby = match self {
            Exported::Deliveries(OfOne { store, .. }) | Exported::Acts(_, store) => store.standby().await?,
            // The one that shows least.
            Exported::OfAll(_, standbys) => standbys.iter().min_by_key(|standby| standby.shows_until).copied(),
        };
        Ok(standby.map(|standby| of_standby(&standby)).unwrap_or_default())
    }

    fn head(&self, form: Form) -> Result<Vec<u8>, Trouble> {
        let mut text = Vec::new();
        match self {
            Exported::Deliveries(_) => form.write_head::<HistoryRow>(&mut text),
            Exported::Acts(..) => form.write_head::<ActRow>(&mut text),
            Exported::OfAll(..) => form.write_head::<Located>(&mut text),
        }
        .map_err(|_| Trouble::Defect)?;
        Ok(text)
    }

    /// Reads the next rows as text; `None` after the last ones.
    async fn step(&mut self, form: Form) -> Result<Option<Vec<u8>>, Trouble> {
        match self {
            Exported::Deliveries(one) => {
                let rows = in_time(one.step()).await?;
                rows.map(|rows| written(form, &rows)).transpose()
            }
            Exported::Acts(whole, store) => {
                let rows = in_time(whole.step(store)).await?;
                rows.map(|rows| written(form, &rows)).transpose()
            }
            // Each database has the same time of its own, and is named if it does not answer.
            Exported::OfAll(whole, _) => {
                let located = |(database, row)| Located { database, row };
                let rows = whole.step().await.map_err(incomplete)?;
                rows.map(|rows| written(form, &rows.into_iter().map(located).collect::<Vec<_>>())).transpose()
            }
        }
    }
}

/// What a step gives in its time.
async fn in_time<T>(step: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    timeout(STEP_TIME, step).await.unwrap_or(Err(StoreError::Unanswered(STEP_TIME)))
}

/// What a database that is lost keeps from being whole. The log says which it is.
fn incomplete(Lost { database, error, .. }: Lost<String>) -> Trouble {
    let trouble = error_span!("exporting", database).in_scope(|| Trouble::from(error));
    lacking(&database, trouble)
}

/// What is said of an export of all if one database cannot be read, because of this trouble.
fn lacking(database: &str, trouble: Trouble) -> Trouble {
    match trouble {
        // It is about who asks, or how.
        Trouble::Forbidden | Trouble::OneAgentOnly | Trouble::NeedsRole(_) | Trouble::Wrong(_) => trouble,
        trouble => Trouble::Incomplete { database: database.to_owned(), why: trouble.title() },
    }
}

fn written<R: Record>(form: Form, rows: &[R]) -> Result<Vec<u8>, Trouble> {
    let mut text = Vec::new();
    form.write_rows(&mut text, rows).map_err(|_| Trouble::Defect)?;
    Ok(text)
}

/// That a client of this version sees it if an answer is broken off. For one of HTTP/1.0, the end of the connection is the end of the
/// answer.
fn require_broken_off_seen(version: Version) -> Result<(), Trouble> {
    if version >= Version::HTTP_11 { Ok(()) } else { Err(Trouble::OldHttp) }
}

/// A place for an export of this database, for as long as it takes.
async fn place(database: &Database) -> Result<OwnedSemaphorePermit, Trouble> {
    match timeout(WAIT, Arc::clone(&database.exports).acquire_owned()).await {
        Ok(Ok(permit)) => Ok(permit),
        // The semaphore is never closed.
        Ok(Err(_)) | Err(_) => Err(Trouble::Busy),
    }
}

/// The beginning of an export of a database, which goes on among `streams`.
pub(super) async fn of_one(
    database: &Database,
    (route, query): (&Route, &str),
    version: Version,
    visit: &Visit<'_>,
    streams: &TaskTracker,
) -> Result<Answer, Trouble> {
    require_broken_off_seen(version)?;
    let _there = database.there()?;
    let permit = place(database).await?;
    let begun = async {
        let (exported, form) = pages::exported(route, query, visit).await?.ok_or(Trouble::NoPage)?;
        begin((exported, form), vec![permit], streams).await
    };
    timeout(PAGE_TIME, begun).await.unwrap_or(Err(Trouble::Away))
}

/// The beginning of an export of all databases.
pub(super) async fn of_all(
    all: &All<'_>,
    (form, query): (Form, &str),
    version: Version,
    streams: &TaskTracker,
) -> Result<Answer, Trouble> {
    require_broken_off_seen(version)?;
    let _there = all.databases.all().iter().map(|database| database.there()).collect::<Result<Vec<_>, _>>()?;
    let permits = try_join_all(all.databases.all().iter().map(|database| place(database))).await?;
    let begun = async {
        let exported = pages::exported_of_all(query, all).await?;
        begin((exported, form), permits, streams).await
    };
    timeout(PAGE_TIME, begun).await.unwrap_or(Err(Trouble::Away))
}

/// What a database gives for an export of all: its deliveries, and what it shows if it is a standby.
pub(super) type Given = Result<(OfOne, Option<Standby>), Trouble>;

/// The deliveries of all databases, once each of them has said what it gives.
pub(super) fn together(answers: impl Iterator<Item = (String, Given)>) -> Result<Exported, Trouble> {
    let (mut each, mut standbys) = (Vec::new(), Vec::new());
    for (name, answer) in answers {
        let (one, standby) = answer.map_err(|trouble| lacking(&name, trouble))?;
        each.push((name, one));
        standbys.extend(standby);
    }
    Ok(Exported::OfAll(Box::new(WholeOfAll::new(each, STEP_TIME)), standbys))
}

/// Begins an export. What keeps it from being read at all is said instead of it.
async fn begin(
    (mut exported, form): (Exported, Form),
    permits: Vec<OwnedSemaphorePermit>,
    streams: &TaskTracker,
) -> Result<Answer, Trouble> {
    // Asked before anything is read: what is committed until then is in the file, if it matches.
    let source = exported.source().await?;
    let mut text = exported.head(form)?;
    let first = exported.step(form).await?;
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
        let _permits = permits;
        send(exported, form, text, is_over, pieces).await;
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

async fn send(mut exported: Exported, form: Form, mut text: Vec<u8>, mut is_over: bool, mut pieces: Pieces) {
    let all = async {
        loop {
            hand_over(&mut pieces, text).await?;
            if is_over {
                return Ok(());
            }
            // The cause stands in the log already.
            let step = exported.step(form).await.map_err(|_| Cut::Unread)?;
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
