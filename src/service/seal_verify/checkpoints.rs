//! Checkpoints: whether they are those of the leaves, and which key signed them. A key that another one has replaced was perhaps stolen.

use std::sync::Arc;

use hashbrown::HashMap;

use super::{Verified, number};
use crate::seal::key::Verifier;
use crate::seal::note::{BadNote, Checkpoint};
use crate::seal::tree::{Frontier, Hash};
use crate::store::seal_log::Slice;
use crate::store::{Store, StoreError};

/// A checkpoint and the key that signed it, if it was asked who did.
type Opened<'k> = Result<(Checkpoint, Option<&'k Verifier>), BadNote>;

/// Without keys, signatures are not looked at.
fn opened<'k>(note: &str, keys: &'k [Verifier]) -> Opened<'k> {
    if keys.is_empty() {
        Checkpoint::unverified(note).map(|checkpoint| (checkpoint, None))
    } else {
        Checkpoint::opened_by(note, keys).map(|(checkpoint, key)| (checkpoint, Some(key)))
    }
}

impl Verified {
    /// Notes who signed the checkpoint of this size.
    fn signed(&mut self, by: &Verifier, size: u64) {
        if self.signers.last().is_some_and(|(newest, _)| newest == by) {
            return;
        }
        if self.signers.iter().any(|(earlier, _)| earlier == by) {
            self.log(format!(
                "the checkpoint of {size} leaves is signed by a key that another one had replaced before: {by}"
            ));
        }
        self.signers.push((by.clone(), size));
    }

    /// Notes that this checkpoint was exported to the file `place`, and is one that a key signed.
    fn exported(&mut self, size: u64, place: &Arc<str>) {
        self.exported_leaves = self.exported_leaves.max(size);
        if self.broken_off && size > self.sealed && self.beyond.as_ref().is_none_or(|(newest, _)| *newest < size) {
            self.beyond = Some((size, place.clone()));
        }
    }

    /// Says what the exported checkpoints say of a log that could not be followed to its end. To be called when all of them are compared.
    pub fn conclude(&mut self) {
        if let Some((size, place)) = self.beyond.take() {
            self.log(format!(
                "the checkpoint of {size} leaves in {place} says that there were {} more leaves than could be verified",
                size - self.sealed
            ));
        }
    }

    /// The key that signed the checkpoint of this size in the log.
    fn signer_at(&self, size: u64) -> Option<&Verifier> {
        self.signers.iter().rev().find(|(_, first)| *first <= size).map(|(by, _)| by)
    }
}

/// Compares a checkpoint with the tree of the leaves up to its slice's end. `rows` is the digest of the slice's rows.
pub(super) fn judge(found: &mut Verified, tree: &Frontier, keys: &[Verifier], slice: &Slice, rows: Hash) {
    let opened = opened(&slice.checkpoint, keys);
    let size = slice.size;
    if let Ok((Checkpoint { size, .. }, Some(key))) = &opened {
        found.signed(key, *size);
        found.signatures += 1;
    }
    match opened.map(|(checkpoint, _)| checkpoint) {
        Err(error) => found.log(format!("the checkpoint of {size} leaves cannot be trusted: {error}")),
        Ok(Checkpoint { size, root, .. }) if size != tree.size() || root != tree.root() || slice.root != root => {
            found.log(format!(
                "the leaves up to number {} are not those that were signed: their hashes were altered, or some were removed or inserted",
                tree.size()
            ));
        }
        Ok(Checkpoint { rows: signed, .. }) if signed != rows => found.log(format!(
            "the rows of the leaves up to number {size} are not those that were signed: their kinds or ids were altered, so which rows \
             were removed is not certain"
        )),
        Ok(_) if slice.frontier != tree.to_bytes() => found.log(format!(
            "the frontier behind leaf {size} was altered: nothing is sealed behind it"
        )),
        Ok(_) => {}
    }
}

/// Compares checkpoints that were exported with the log, which [`verify`](super::verify()) has verified. `notes` come from the file `place`.
///
/// # Errors
/// Only those of the database.
pub async fn compare_exported(
    store: &Store,
    keys: &[Verifier],
    place: &Arc<str>,
    notes: &[&str],
    found: &mut Verified,
) -> Result<(), StoreError> {
    let opened: Vec<Opened<'_>> = notes.iter().map(|note| opened(note, keys)).collect();
    let sizes: Vec<i64> = opened.iter().flatten().map(|(checkpoint, _)| number(checkpoint.size)).collect();
    let roots: HashMap<i64, Vec<u8>> = store.roots_at(&sizes).await?.into_iter().collect();
    let held = |size| roots.get(&number(size));
    for note in opened {
        found.exported += 1;
        if let Ok((checkpoint, _)) = &note {
            found.exported(checkpoint.size, place);
        }
        match note {
            Err(error) => found.log(format!("a checkpoint in {place} cannot be trusted: {error}")),
            // Sealing goes on: it is perhaps newer than what was verified, and in the log by now.
            Ok((Checkpoint { size, root, .. }, _)) if size > found.sealed && held(size).is_none_or(|held| *held != root) => found.log(format!(
                "the checkpoint of {size} leaves in {place} is ahead of the log, which has {}: an old backup was restored, or the \
                 newest of the log was removed",
                found.sealed
            )),
            Ok((Checkpoint { size, root, .. }, _)) if held(size).is_none_or(|held| *held != root) => found.log(format!(
                "the checkpoint of {size} leaves in {place} is not one of this log: what was sealed before it was replaced"
            )),
            // The same leaves under another signature: whoever signed them anew hides that a key had replaced his.
            Ok((Checkpoint { size, .. }, Some(key))) if size <= found.sealed && found.signer_at(size) != Some(key) => found.log(format!(
                "the checkpoint of {size} leaves in {place} is signed by another key than in the log: {key}"
            )),
            Ok(_) => {}
        }
    }
    Ok(())
}
