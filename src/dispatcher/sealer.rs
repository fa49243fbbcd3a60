//! Seals history: hashes what has ended into one growing tree, and signs its root (crate::seal). One dispatcher at a time does
//! it; the others would find nothing to do. Its trouble hinders no delivery: it has a session of its own, and it never stops the
//! dispatcher.
//!
//! What must not break:
//! - A row is sealed once, and none is passed over: a slice holds all rows from the end of the log up to a place before which
//!   nothing can appear any more.
//! - Nothing is signed that does not continue what was signed before: neither what this process has signed, nor what stands in the
//!   directory of checkpoints, nor the newest slice of the log, which must have the signature of a key that is trusted.
//! - A checkpoint is exported after its slice is committed. So one that is exported and not in the log was taken out of it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info};
use uuid::Uuid;

use super::STATEMENT_TIMEOUT;
use super::backoff::Outage;
use super::checkpoint_exporter::{CheckpointExporter, Newest};
use super::checkpoint_outlet::CheckpointOutlet;
use super::checkpoint_stamper::{CheckpointStamper, TimestampAuthority};
use super::checkpoints::{CheckpointDir, DirError};
use crate::domain::chain::chain;
use crate::domain::seal::{Kind, Place};
use crate::metrics::{Counters, Operation};
use crate::seal::fields::DELIVERY_FIELDS;
use crate::seal::key::{Signer, Verifier};
use crate::seal::leaf::{Unreadable, write_leaf};
use crate::seal::nodes::is_kept;
use crate::seal::note::{Checkpoint, rows_digest};
use crate::seal::tree::{Frontier, leaf_hash};
use crate::store::sealed_rows::{SealedRow, Unsealed};
use crate::store::seals::{Added, LogEnd, NewSlice};
use crate::store::session::Session;
use crate::store::{Store, StoreError};

/// How often history is sealed.
const EVERY: Duration = Duration::from_secs(15);
/// For how long a sealer that is gone keeps its turn: longer than [`EVERY`], so that one sealer goes on, and so short that what was written
/// when it died is sealed by another one within a minute.
const TURN: Duration = Duration::from_secs(20);
/// The most leaves of a slice: what of history is in memory at the same time, and what is lost if a sealer dies.
const MOST_LEAVES: usize = 8_192;

/// The keys of a sealer.
#[derive(Debug)]
pub struct SealKeys {
    /// What it signs with.
    pub signer: Signer,
    /// The keys with which others signed the log before: it goes on from there. Its own is one of them in any case.
    pub earlier: Vec<Verifier>,
}

/// What a sealer needs.
#[derive(Clone, Debug)]
pub struct Sealing {
    /// Its keys.
    pub keys: Arc<SealKeys>,
    /// Where checkpoints are exported, if anywhere.
    pub checkpoints: Option<CheckpointDir>,
    /// To which URL, if to any.
    pub outlet: Option<Arc<CheckpointOutlet>>,
    /// Who timestamps checkpoints, if anybody.
    pub authority: Option<Arc<TimestampAuthority>>,
}

/// Why nothing is sealed, until somebody does something about it.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// The database did not do what it should.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The newest slice is not signed by a key that is trusted, or is damaged.
    #[error(
        "the newest checkpoint of the log is not signed by this key or an earlier one: nothing is built on it. `postcall audit verify` says more; if the key was changed, add the earlier key's public line to the key file"
    )]
    NotTrusted,
    /// The newest slice is signed by a key that another one has replaced.
    #[error(
        "the newest checkpoint of the log is signed by a key that another one has replaced: nothing is built on it, because that key was perhaps stolen. `postcall audit verify --key …` says more; a key that was replaced is never used again: make a new one"
    )]
    Returned,
    /// The log lacks what was signed.
    #[error(
        "the log does not continue the checkpoint of {size} leaves that was signed before: a backup was restored, or the log was altered. `postcall audit verify` says more"
    )]
    Broken {
        /// How many leaves the log had.
        size: u64,
    },
    /// The server counts its transactions anew.
    #[error(
        "this server counts its transactions anew, as after a dump was restored: let the owner run SELECT postcall.continue_seals()"
    )]
    CountsAnew,
    /// A row cannot be read.
    #[error(transparent)]
    Row(#[from] Unreadable),
    /// A checkpoint cannot be exported.
    #[error(transparent)]
    Export(#[from] DirError),
}

/// Seals history until `stop`, if there is a sealer.
pub(super) async fn run(sealer: Option<Sealer>, stop: CancellationToken) {
    match sealer {
        Some(sealer) => sealer.run(stop).await,
        None => stop.cancelled().await,
    }
}

/// Seals history for as long as the dispatcher runs.
pub struct Sealer {
    session: Session,
    sealing: Sealing,
    trusted: Vec<Verifier>,
    /// Who it is, for the turn.
    id: Uuid,
    /// The newest checkpoint that is known to have been signed, and the key that signed it.
    signed: Option<(Checkpoint, Verifier)>,
    /// The newest checkpoint that stands in the directory.
    exported: Option<(Checkpoint, Verifier)>,
    /// The newest checkpoint, for what takes it elsewhere; `None` while it is not this one's turn.
    newest: watch::Sender<Option<Newest>>,
    /// What does that, until it is started.
    exporter: Option<CheckpointExporter>,
    /// What has checkpoints timestamped, until it is started.
    stamper: Option<CheckpointStamper>,
}

impl Sealer {
    /// A sealer that has not begun yet. `counters` counts the statements that fail, and checkpoints.
    pub fn new(store: &Store, sealing: Sealing, counters: &Arc<Counters>) -> Sealer {
        let (id, (newest, watched)) = (Uuid::now_v7(), watch::channel(None));
        let own = sealing.keys.signer.verifier().clone();
        let trusted = [std::slice::from_ref(&own), &sealing.keys.earlier].concat();
        let session = || store.session(STATEMENT_TIMEOUT).counting(counters.errors(Operation::Seal));
        let exporter = sealing.outlet.clone().map(|outlet| CheckpointExporter {
            session: session(),
            outlet,
            sealer: id,
            trusted: trusted.clone(),
            newest: watched.clone(),
            counters: counters.clone(),
        });
        let stamper = sealing.authority.clone().map(|authority| CheckpointStamper {
            authority,
            directory: sealing.checkpoints.clone(),
            outlet: sealing.outlet.clone(),
            newest: watched,
            counters: counters.clone(),
        });
        Sealer { session: session(), sealing, trusted, id, signed: None, exported: None, newest, exporter, stamper }
    }

    /// Seals until `stop`. Each piece of trouble is said once, and tried again.
    async fn run(mut self, stop: CancellationToken) {
        let mut rounds = tokio::time::interval(EVERY);
        rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (mut outage, mut told) = (Outage::none("sealer"), None);
        self.start_others(&stop);
        while stop.run_until_cancelled(rounds.tick()).await.is_some() {
            match stop.run_until_cancelled(self.round()).await {
                None => break,
                Some(Ok(())) => {
                    outage.over();
                    told = None;
                }
                Some(Err(Trouble::Store(error))) => {
                    stop.run_until_cancelled(outage.wait(&error)).await;
                }
                Some(Err(trouble)) => {
                    let words = chain(&trouble).to_string();
                    if told.as_ref() != Some(&words) {
                        error!(error = words, "history is not sealed");
                        told = Some(words);
                    }
                    // Another one may have the right keys.
                    stop.run_until_cancelled(self.session.leave_turn_to_seal(self.id)).await;
                }
            }
        }
        // Without this, the next one would only have to wait.
        let _left = self.session.leave_turn_to_seal(self.id).await;
    }

    /// Starts what takes checkpoints elsewhere, beside this one.
    fn start_others(&mut self, stop: &CancellationToken) {
        let exporter = self.exporter.take().map(|exporter| exporter.start(stop.clone()));
        let stamper = self.stamper.take().map(|stamper| stamper.start(stop.clone()));
        for cause in [exporter, stamper].into_iter().flatten().filter_map(Result::err) {
            error!(error = %chain(&cause), "there is no thread that exports checkpoints, or has them timestamped");
        }
    }

    /// Seals what can be sealed now, if it is this sealer's turn.
    ///
    /// # Errors
    /// If something keeps it from sealing. It can be tried again.
    pub async fn round(&mut self) -> Result<(), Trouble> {
        if self.signed.is_none() {
            self.recall().await?;
        }
        loop {
            if !self.session.take_turn_to_seal(self.id, TURN).await? {
                self.newest.send_replace(None);
                break;
            }
            let end = self.session.log_end().await?;
            let frontier = self.trusted_frontier(end.as_ref()).await?;
            if let Some(end) = &end {
                self.export(end).await?;
            }
            let after = end.as_ref().map_or(Place::FIRST, |end| end.through);
            let unsealed = self.session.unsealed(&after, MOST_LEAVES).await?;
            if unsealed.counts_anew {
                return Err(Trouble::CountsAnew);
            }
            if unsealed.rows.is_empty() {
                break;
            }
            let complete = unsealed.complete;
            self.seal(frontier, unsealed).await?;
            if complete {
                break;
            }
        }
        Ok(())
    }

    /// Learns from the directory what was signed before this process started.
    async fn recall(&mut self) -> Result<(), Trouble> {
        if let Some(directory) = self.sealing.checkpoints.clone() {
            self.exported = directory.newest(&self.trusted).await?;
            self.signed = self.exported.clone();
        }
        Ok(())
    }

    /// The frontier of the log, if it continues what was signed before.
    async fn trusted_frontier(&mut self, end: Option<&LogEnd>) -> Result<Frontier, Trouble> {
        let (frontier, newest) = match end {
            None => (Frontier::default(), None),
            Some(end) => {
                let opened = Checkpoint::opened_by(&end.checkpoint, &self.trusted).map_err(|_| Trouble::NotTrusted)?;
                let (newest, key) = (opened.0, opened.1.clone());
                let frontier = Frontier::from_bytes(newest.size, &end.frontier).ok_or(Trouble::NotTrusted)?;
                if frontier.root() != newest.root || i64::try_from(newest.size) != Ok(end.size) {
                    return Err(Trouble::NotTrusted);
                }
                if self.is_replaced(&key).await? {
                    return Err(Trouble::Returned);
                }
                (frontier, Some((newest, key)))
            }
        };
        if let Some((signed, _)) = &self.signed {
            let broken = Trouble::Broken { size: signed.size };
            let size = i64::try_from(signed.size).unwrap_or(i64::MAX);
            if self.session.log_root(size).await?.is_none_or(|root| root != signed.root) {
                return Err(broken);
            }
        }
        // Another dispatcher may have sealed meanwhile.
        self.signed = newest;
        Ok(frontier)
    }

    /// Whether another key has signed behind the first checkpoint of this one, as far as the log, the directory and this process know: whoever
    /// has stolen a key that was replaced must not add to the log with it. Its own key is the newest: nothing replaces it.
    async fn is_replaced(&mut self, key: &Verifier) -> Result<bool, StoreError> {
        let own = self.sealing.keys.signer.verifier();
        if key == own {
            return Ok(false);
        }
        let first = self.session.signed_with(&key.mark()).await?.map_or(i64::MAX, |(first, _)| first);
        let mut signed: Vec<(&Verifier, i64)> =
            self.signed.iter().map(|(signed, by)| (by, number(signed.size))).collect();
        for other in &self.trusted {
            signed.extend(self.session.signed_with(&other.mark()).await?.map(|(_, last)| (other, last)));
        }
        Ok(is_followed(key, first, own, &signed))
    }

    /// Adds one slice to the log.
    async fn seal(&mut self, frontier: Frontier, unsealed: Unsealed) -> Result<(), Trouble> {
        let leaves = unsealed.rows.len();
        let (slice, checkpoint) = slice_of(frontier, unsealed, &self.sealing.keys.signer)?;
        let Added::Sealed(sealed_at) = self.session.add_slice(&slice).await? else { return Ok(()) };
        debug!(leaves, size = checkpoint.size, "sealed history");
        let end = LogEnd {
            size: slice.size,
            through: slice.through,
            frontier: slice.frontier,
            checkpoint: slice.checkpoint,
            sealed_at,
        };
        self.signed = Some((checkpoint, self.sealing.keys.signer.verifier().clone()));
        self.export(&end).await
    }

    /// Exports the newest checkpoint, if it is not exported yet.
    async fn export(&mut self, end: &LogEnd) -> Result<(), Trouble> {
        if let Some(directory) = self.sealing.checkpoints.clone() {
            if self.exported.is_none() {
                info!(size = end.size, "exporting checkpoints of sealed history");
            }
            if self.exported != self.signed {
                directory.append(end.sealed_at.date_naive(), end.checkpoint.clone()).await?;
                self.exported = self.signed.clone();
            }
        }
        // Last: a URL gets nothing that the directory lacks.
        let newest = self.signed.as_ref().map(|(checkpoint, _)| Newest {
            size: end.size,
            checkpoint: checkpoint.clone(),
            note: end.checkpoint.as_str().into(),
        });
        self.newest.send_if_modified(|known| {
            let is_new = *known != newest;
            *known = newest;
            is_new
        });
        Ok(())
    }
}

/// Whether another key than this one has signed behind the first checkpoint of this one; `own`, the newest of all, never signs before it.
fn is_followed(key: &Verifier, first: i64, own: &Verifier, signed: &[(&Verifier, i64)]) -> bool {
    signed.iter().any(|(by, last)| *by != key && (*by == own || *last > first))
}

fn number(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// The slice of these rows behind a log with this frontier, and its checkpoint.
fn slice_of(mut tree: Frontier, unsealed: Unsealed, key: &Signer) -> Result<(NewSlice, Checkpoint), Unreadable> {
    let first_leaf = number(tree.size());
    let (mut kinds, mut ids, mut hashes, mut nodes) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut leaf = Vec::new();
    for SealedRow { place, record } in unsealed.rows {
        let kind = u8::try_from(place.kind).ok().and_then(Kind::numbered).ok_or(Unreadable)?;
        write_leaf(kind, &record, &mut leaf)?;
        let hash = leaf_hash(&leaf);
        kinds.push(kind.number());
        ids.extend_from_slice(place.id.as_bytes());
        hashes.extend_from_slice(&hash);
        tree.append(hash, |level, position, node| {
            if is_kept(level) {
                nodes.push((i16::try_from(level).unwrap_or(i16::MAX), number(position), node.to_vec()));
            }
        });
    }
    let checkpoint = Checkpoint { size: tree.size(), root: tree.root(), rows: rows_digest(&kinds, &ids) };
    let slice = NewSlice {
        first_leaf,
        size: number(tree.size()),
        through: unsealed.through,
        kinds,
        ids,
        hashes,
        frontier: tree.to_bytes(),
        root: checkpoint.root.to_vec(),
        checkpoint: checkpoint.signed_by(key),
        leaf_fields: DELIVERY_FIELDS,
        nodes,
    };
    Ok((slice, checkpoint))
}

#[cfg(test)]
mod tests;
