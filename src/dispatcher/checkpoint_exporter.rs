//! Exports the checkpoints of the log to the operator's URL, the oldest first, beside the sealer and on a thread of its
//! own: a URL that hangs, refuses or is gone delays neither sealing nor a delivery. The log holds every checkpoint, so
//! what is not exported is exported later.
//!
//! What must not break:
//! - Only what a trusted key has signed leaves by this way, and only as the checkpoint of the size under which it
//!   stands in the log.
//! - A checkpoint counts as exported when the URL has said so. Whoever dies before that is noted exports it again.
//! - The newest checkpoint leaves as the sealer has it in memory, also if it is not in the log any more.
//! - What the database says of how far exporting is decides nothing but where to begin: each sealer exports the newest
//!   checkpoint when its turn begins, and from then on every one.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};
use uuid::Uuid;

use super::backoff::{ELSEWHERE, Outage, Outside};
use super::beside::Part;
use super::blocked::OnceAMinute;
use super::checkpoint_outlet::{CheckpointOutlet, Taken};
use crate::metrics::Counters;
use crate::operator;
use crate::seal::key::Verifier;
use crate::seal::note::Checkpoint;
use crate::store::StoreError;
use crate::store::seals::LoggedCheckpoint;
use crate::store::session::Session;

/// How many checkpoints are read, exported and noted together at most.
const PER_PASS: i64 = 64;
/// The name that the log shows.
const WORKER: &str = "checkpoint exporter";
/// The URL.
const URL: Outside = Outside {
    away: "checkpoints are not exported to --checkpoint-url; sealing goes on, and it is tried again",
    back: "checkpoints are exported to --checkpoint-url again",
    pauses: ELSEWHERE,
};

/// The newest checkpoint, as its sealer has signed or verified it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Newest {
    /// How many leaves the log has.
    pub(super) size: i64,
    /// The checkpoint.
    pub(super) checkpoint: Checkpoint,
    /// Its signed note.
    pub(super) note: Arc<str>,
}

/// The checkpoint that stands in the log, if a trusted key has signed it, as the one of its size.
fn signed(logged: &LoggedCheckpoint, trusted: &[Verifier]) -> Option<Checkpoint> {
    let checkpoint = Checkpoint::open(&logged.note, trusted).ok()?;
    (i64::try_from(checkpoint.size) == Ok(logged.size)).then_some(checkpoint)
}

/// Whether a page holds all checkpoints behind a size. Then the newest one is at its end, even if somebody has taken it out of the log since it was
/// sealed.
fn complete(page: &mut Vec<LoggedCheckpoint>, from: i64, newest: &Newest) -> bool {
    let is_whole = (page.len() as i64) < PER_PASS;
    if is_whole && page.last().map_or(from, |last| last.size) < newest.size {
        page.push(LoggedCheckpoint { size: newest.size, note: newest.note.to_string() });
    }
    is_whole
}

/// Why a pass has ended early.
enum Failed {
    Store(StoreError),
    Outlet(operator::Trouble),
}

impl From<StoreError> for Failed {
    fn from(error: StoreError) -> Failed {
        Failed::Store(error)
    }
}

impl From<operator::Trouble> for Failed {
    fn from(trouble: operator::Trouble) -> Failed {
        Failed::Outlet(trouble)
    }
}

/// Exports checkpoints for as long as its sealer seals.
pub(super) struct CheckpointExporter {
    pub(super) session: Session,
    pub(super) outlet: Arc<CheckpointOutlet>,
    /// The sealer beside which it works.
    pub(super) sealer: Uuid,
    /// The keys whose signatures count.
    pub(super) trusted: Vec<Verifier>,
    /// The newest checkpoint; `None` while it is not the sealer's turn.
    pub(super) newest: watch::Receiver<Option<Newest>>,
    pub(super) counters: Arc<Counters>,
}

/// What it knows, and has said.
struct Progress {
    /// Up to which size everything is exported; `None` if that is to be asked.
    exported: Option<i64>,
    url: Outage,
    /// Says that a checkpoint is not signed.
    unsigned: OnceAMinute,
}

impl CheckpointExporter {
    /// Starts it on a thread of its own, for which nobody waits when the process ends: what it has not noted is
    /// exported again.
    ///
    /// # Errors
    /// If the system gives it no thread.
    pub(super) fn start(mut self, stop: CancellationToken) -> io::Result<()> {
        let part = Part { worker: WORKER, thread: "checkpoint-url", counters: self.counters.clone() };
        let mut has_begun = false;
        part.start(stop, async move || {
            // What panicked was a try, and failed.
            if std::mem::replace(&mut has_begun, true) {
                self.counters.checkpoint_not_exported();
            }
            self.run().await;
        })
    }

    async fn run(&mut self) {
        info!(address = %self.outlet.address(), "exporting checkpoints of sealed history to --checkpoint-url");
        let mut outage = Outage::none(WORKER);
        let mut progress =
            Progress { exported: None, url: Outage::none_of(URL, WORKER), unsigned: OnceAMinute::default() };
        loop {
            let newest = self.newest.borrow_and_update().clone();
            let passed = match newest {
                Some(newest) => self.pass(newest, &mut progress).await,
                None => {
                    // Another sealer goes on from what is noted.
                    progress.exported = None;
                    Ok(false)
                }
            };
            match passed {
                Ok(is_behind) => {
                    outage.over();
                    if !is_behind && self.newest.changed().await.is_err() {
                        return;
                    }
                }
                Err(Failed::Store(error)) => outage.wait(&error).await,
                Err(Failed::Outlet(trouble)) => {
                    self.counters.checkpoint_not_exported();
                    progress.url.wait(&trouble).await;
                }
            }
        }
    }

    /// Exports what is not exported yet, up to a bound. Says whether there may be more.
    async fn pass(&mut self, newest: Newest, progress: &mut Progress) -> Result<bool, Failed> {
        let from = match progress.exported {
            Some(size) => size,
            // The newest in any case. If none was ever exported, that one alone: it continues all earlier ones.
            None => self.session.exported_size().await?.unwrap_or(i64::MAX).min(newest.size - 1),
        };
        let mut page = self.session.checkpoints_after(from, PER_PASS).await?;
        let is_whole = complete(&mut page, from, &newest);
        let (mut through, mut failed) = (from, None);
        for logged in &page {
            if let Err(trouble) = self.export(logged, progress).await {
                failed = Some(trouble);
                break;
            }
            through = logged.size;
        }
        if through != from {
            self.session.note_exported(self.sealer, through).await?;
        }
        progress.exported = Some(through);
        match failed {
            Some(trouble) => Err(trouble.into()),
            None => Ok(!is_whole),
        }
    }

    /// Exports one checkpoint, if it is one.
    async fn export(&self, logged: &LoggedCheckpoint, progress: &mut Progress) -> Result<(), operator::Trouble> {
        let Some(checkpoint) = signed(logged, &self.trusted) else {
            if let Some(count) = progress.unsigned.due(1, Instant::now()) {
                error!(
                    size = logged.size,
                    count, "a checkpoint of the log is not what a trusted key has signed: it is not exported"
                );
            }
            return Ok(());
        };
        let taken = self.outlet.export(&checkpoint, &logged.note).await?;
        progress.url.over();
        self.counters.checkpoint_exported();
        if taken == Taken::Differs {
            error!(size = logged.size, "another text stands at --checkpoint-url under the name of this checkpoint");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_checkpoint_is_at_the_end_of_the_last_page_and_of_no_other_whoever_took_it_out_of_the_log() {
        let checkpoint = Checkpoint { size: 100, root: [0; 32], rows: [0; 32] };
        let newest = Newest { size: 100, checkpoint, note: "newest".into() };
        let logged = |size| LoggedCheckpoint { size, note: String::new() };
        for (sizes, whole, last) in [
            (1..PER_PASS + 1, false, "64 "),
            (1..PER_PASS, true, "100 newest"),
            (90..101, true, "100 "),
            (90..102, true, "101 "),
            (1..1, true, "100 newest"),
        ] {
            let mut page: Vec<LoggedCheckpoint> = sizes.clone().map(logged).collect();
            assert_eq!(complete(&mut page, 99, &newest), whole, "{sizes:?}");
            let found = page.last().map(|last| format!("{} {}", last.size, last.note));
            assert_eq!(found.as_deref(), Some(last), "{sizes:?}");
        }
        let mut nothing = Vec::new();
        assert!(complete(&mut nothing, 100, &newest) && nothing.is_empty(), "it is exported already");
    }
}
