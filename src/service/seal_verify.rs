//! Verifies history: whether its rows are those that were sealed, and whether the log of what was sealed is the one that was
//! signed. It reads all of it in portions, so it needs little memory however long history is.

mod checkpoints;
mod nodes;

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use hashbrown::HashMap;
use serde_json::Value;
use tokio::task::{JoinError, JoinSet};
use uuid::Uuid;

pub use self::checkpoints::compare_exported;
use self::checkpoints::judge;
use self::nodes::{Node, compare_nodes};
use crate::domain::seal::{Kind, Place, named};
use crate::seal::key::Verifier;
use crate::seal::leaf::{self, leaf, write_leaf};
use crate::seal::nodes::is_kept;
use crate::seal::note::rows_digest;
use crate::seal::tree::{Frontier, HASH_BYTES, Hash, leaf_hash};
use crate::store::seal_log::{Leaves, Slice};
use crate::store::sealed_rows::SealedRow;
use crate::store::{Store, StoreError};

/// How many leaves are verified in one portion, if slices are smaller.
const PORTION: i64 = 16_384;
/// How many slices are read at once.
const SLICES: i64 = 500;
/// How many portions are compared with their rows at the same time, each with a connection.
pub const SIDE_BY_SIDE: usize = 2;
/// How many rows that were inserted between sealed ones are read of one portion.
const MOST_INSERTED: usize = 10_000;
/// How many rows that are not sealed yet are read.
const MOST_UNSEALED: usize = 10_000;
/// How many findings are named; all are counted.
pub const MOST_NAMED: usize = 1_000;

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// A row is not as it was when it was sealed.
    Altered(Kind, Uuid),
    /// A row that was sealed is not there.
    Removed(Kind, Uuid),
    /// A row was inserted among those that were sealed already.
    Inserted(Kind, Uuid),
    /// A row bears the number of a transaction that has not happened, or none.
    Ahead(Kind, Uuid),
    /// A row was sealed a second time.
    Twice(Kind, Uuid),
    /// The log of leaves, or a checkpoint, is not what it must be.
    Log(String),
    /// A view or a function, by which history is shown, is not the one that was shipped; or rows are hidden.
    Definition(String),
}

impl Wrong {
    /// What it is, in a word, and what it is about.
    pub fn words(&self) -> (&'static str, String) {
        match self {
            Wrong::Altered(kind, id) => ("altered", named(*kind, *id)),
            Wrong::Removed(kind, id) => ("removed", named(*kind, *id)),
            Wrong::Inserted(kind, id) => ("inserted", named(*kind, *id)),
            Wrong::Ahead(kind, id) => ("forged", named(*kind, *id)),
            Wrong::Twice(kind, id) => ("twice", named(*kind, *id)),
            Wrong::Log(words) => ("log", words.clone()),
            Wrong::Definition(words) => ("schema", words.clone()),
        }
    }
}

/// What was found.
#[derive(Debug, Default)]
pub struct Verified {
    /// How many leaves the log has.
    pub sealed: u64,
    /// How many checkpoints it has.
    pub checkpoints: u64,
    /// How many exported checkpoints were compared with it.
    pub exported: u64,
    /// How many leaves the newest of them has.
    pub exported_leaves: u64,
    /// How many sealed rows have left with old history.
    pub left: u64,
    /// Since when there is history, if some of it was removed because it was old.
    pub history_begins: Option<DateTime<Utc>>,
    /// Whether deliveries from before that time are there all the same: then those that have left did not leave together.
    pub older_are_there: bool,
    /// When the newest slice was sealed.
    pub sealed_at: Option<DateTime<Utc>>,
    /// How many rows are not sealed yet; it is counted up to 10,000.
    pub unsealed: usize,
    /// How long ago the oldest of them was written.
    pub oldest_unsealed: Option<TimeDelta>,
    /// How many checkpoints of the log have a signature of one of the keys.
    pub signatures: u64,
    /// Whether row-level security hides rows, so that nothing else was verified.
    pub rows_are_hidden: bool,
    /// Whether views and functions were compared with those that were shipped.
    pub definitions_compared: bool,
    /// The keys that signed the log, each with the size of the first checkpoint from which on it did.
    signers: Vec<(Verifier, u64)>,
    /// Whether the log could not be followed to its end.
    broken_off: bool,
    /// The newest exported checkpoint that lies behind the place where it broke off, and its file.
    beyond: Option<(u64, Arc<str>)>,
    /// How many things are wrong.
    pub wrong_in_all: u64,
    /// What is wrong: the first 1,000.
    pub wrong: Vec<Wrong>,
}

impl Verified {
    fn add(&mut self, wrong: Wrong) {
        self.wrong_in_all += 1;
        if self.wrong.len() < MOST_NAMED {
            self.wrong.push(wrong);
        }
    }

    fn log(&mut self, words: String) {
        self.add(Wrong::Log(words));
    }
}

/// What became of one portion.
#[derive(Default)]
struct Compared {
    wrong: Vec<Wrong>,
    left: u64,
}

/// How many leaves a portion had, and what became of it.
type Portion = Result<(u64, Compared), StoreError>;

/// Verifies all of history, as `verify_rows` does; or says that rows are hidden, if that keeps it from reading them.
///
/// # Errors
/// Only those of the database.
pub async fn verify(store: &Store, keys: &[Verifier], progress: impl FnMut(u64)) -> Result<Verified, StoreError> {
    match verify_rows(store, keys, progress).await {
        Err(error) if error.hides_rows() => {
            let definitions = store.definitions().await?;
            let mut found =
                Verified { rows_are_hidden: true, definitions_compared: definitions.compared, ..Verified::default() };
            definitions.faults.into_iter().for_each(|fault| found.add(Wrong::Definition(fault)));
            Ok(found)
        }
        other => other,
    }
}

/// Verifies all of history, and calls `progress` with how many leaves are verified. Without a key, signatures are not looked at.
///
/// # Errors
/// Only those of the database.
async fn verify_rows(store: &Store, keys: &[Verifier], mut progress: impl FnMut(u64)) -> Result<Verified, StoreError> {
    let (mut found, mut tree, mut end) = (Verified::default(), Frontier::default(), Place::FIRST);
    let mut comparing: JoinSet<Portion> = JoinSet::new();
    'log: loop {
        let slices = store.slices_after(number(tree.size()), SLICES).await?;
        if slices.is_empty() {
            break;
        }
        for portion in portions(&slices) {
            let (Some(first), Some(last)) = (portion.first(), portion.last()) else { continue };
            if first.first_leaf != number(tree.size()) {
                found.log(format!("leaves are missing behind number {}: what follows cannot be verified", tree.size()));
                found.broken_off = true;
                break 'log;
            }
            let leaves = store.leaves(first.first_leaf, last.size).await?;
            let mut nodes = Vec::new();
            if !check_slices(&mut found, &mut tree, &mut nodes, keys, portion, &leaves) {
                found.broken_off = true;
                break 'log;
            }
            compare_nodes(store, &mut found, nodes).await?;
            if comparing.len() >= SIDE_BY_SIDE {
                settle(&mut found, comparing.join_next().await, &mut progress)?;
            }
            if last.through <= end {
                found.log(format!("the slice that ends at leaf {} begins before its predecessor ends", last.size));
            }
            comparing.spawn(compare(store.clone(), end, last.through, leaves));
            (end, found.sealed_at) = (last.through, Some(last.sealed_at));
        }
    }
    while let Some(ended) = comparing.join_next().await {
        settle(&mut found, Some(ended), &mut progress)?;
    }
    found.sealed = tree.size();
    if !keys.is_empty() && found.checkpoints == 0 && !found.broken_off {
        found.log(
            "there is no checkpoint that a key could have signed: nothing was ever sealed, or the log was removed"
                .to_owned(),
        );
    }
    look_at_the_rest(store, &mut found, end).await?;
    let definitions = store.definitions().await?;
    definitions.faults.into_iter().for_each(|fault| found.add(Wrong::Definition(fault)));
    found.definitions_compared = definitions.compared;
    found.history_begins = store.pruned_until().await?;
    if let Some(begins) = found.history_begins {
        found.older_are_there = store.has_deliveries_before(begins).await?;
    }
    Ok(found)
}

fn number(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Slices in portions of a bounded number of leaves. A slice is never divided, and those of a portion follow each other: what is before a
/// gap is verified.
fn portions(slices: &[Slice]) -> impl Iterator<Item = &[Slice]> {
    let mut rest = slices;
    std::iter::from_fn(move || {
        let first = rest.first()?.first_leaf;
        let fit = rest.iter().take_while(|slice| slice.size - first <= PORTION).count().max(1);
        let whole = 1 + rest[..fit].windows(2).take_while(|pair| pair[1].first_leaf == pair[0].size).count();
        let (portion, behind) = rest.split_at(whole);
        rest = behind;
        Some(portion)
    })
}

/// Adds the leaves to the tree, and compares its root with that of each slice and its checkpoint. Says whether the log can be
/// followed further.
fn check_slices(
    found: &mut Verified,
    tree: &mut Frontier,
    nodes: &mut Vec<Node>,
    keys: &[Verifier],
    slices: &[Slice],
    leaves: &Leaves,
) -> bool {
    let mut hashes = leaves.hashes.as_chunks::<HASH_BYTES>().0.iter();
    let mut at = 0;
    for slice in slices {
        let wanted = usize::try_from(slice.size - slice.first_leaf).unwrap_or(0);
        let before = tree.size();
        let mut keep = |level, position, hash: &Hash| {
            if is_kept(level) {
                nodes.push((level, position, *hash));
            }
        };
        hashes.by_ref().take(wanted).for_each(|hash| tree.append(*hash, &mut keep));
        let rows = leaves.kinds.get(at..at + wanted).zip(leaves.ids.get(16 * at..16 * (at + wanted)));
        at += wanted;
        let (Some((kinds, ids)), true) = (rows, tree.size() - before == wanted as u64) else {
            found.log(format!(
                "the slice that ends at leaf {} lacks leaves: what follows cannot be verified",
                slice.size
            ));
            return false;
        };
        found.checkpoints += 1;
        judge(found, tree, keys, slice, rows_digest(kinds, ids));
    }
    true
}

fn settle(
    found: &mut Verified,
    ended: Option<Result<Portion, JoinError>>,
    progress: &mut impl FnMut(u64),
) -> Result<(), StoreError> {
    match ended {
        Some(Ok(compared)) => {
            let (leaves, Compared { wrong, left }) = compared?;
            wrong.into_iter().for_each(|wrong| found.add(wrong));
            found.left += left;
            progress(leaves);
        }
        // A panic, which is a defect: what it was about is not verified.
        Some(Err(_)) => found.log("a portion could not be compared, by a defect of postcall".to_owned()),
        None => {}
    }
    Ok(())
}

/// Compares the rows of a range with their leaves. Returns how many leaves there are, and what was found.
async fn compare(store: Store, after: Place, through: Place, leaves: Leaves) -> Portion {
    let limit = leaves.kinds.len() + MOST_INSERTED;
    let rows = store.sealed_rows(&after, &through, limit).await?;
    let (mut wrong, missing) = differences(&leaves, &rows);
    let mut left = 0;
    if !missing.is_empty() {
        // Asked behind the rows: what was removed before they were read is recorded by now.
        let until = store.pruned_until().await?.map_or(0, |until| until.timestamp_millis());
        for (kind, id) in missing {
            let written_at = (id.as_u128() >> 80) as i64;
            if kind.may_leave() && written_at < until {
                left += 1;
            } else {
                wrong.push(Wrong::Removed(kind, id));
            }
        }
    }
    Ok((leaves.kinds.len() as u64, Compared { wrong, left }))
}

/// The rows that differ from their leaves or have none, and the leaves that have no row.
fn differences(leaves: &Leaves, rows: &[SealedRow]) -> (Vec<Wrong>, Vec<(Kind, Uuid)>) {
    let ids = leaves.ids.as_chunks::<16>().0.iter().map(|id| Uuid::from_bytes(*id));
    let keys = leaves.kinds.iter().map(|kind| Kind::numbered(*kind)).zip(ids);
    let mut sealed: HashMap<(Kind, Uuid), &Hash> = HashMap::with_capacity(leaves.kinds.len());
    let (mut wrong, mut of_no_kind) = (Vec::new(), 0_usize);
    for ((kind, id), hash) in keys.zip(leaves.hashes.as_chunks::<HASH_BYTES>().0) {
        match kind.map(|kind| (kind, sealed.insert((kind, id), hash))) {
            // The leaf that was there first would not be compared with anything.
            Some((kind, Some(_))) => wrong.push(Wrong::Twice(kind, id)),
            Some((_, None)) => {}
            None => of_no_kind += 1,
        }
    }
    if of_no_kind > 0 {
        let words =
            "leaves are of kinds that this release does not know, and were not compared: a newer one sealed them";
        wrong.push(Wrong::Log(format!("{of_no_kind} {words}")));
    }
    let mut leaf = Vec::new();
    for SealedRow { place, record } in rows {
        let Some(kind) = u8::try_from(place.kind).ok().and_then(Kind::numbered) else { continue };
        let hash = write_leaf(kind, record, &mut leaf).map(|()| leaf_hash(&leaf));
        match sealed.remove(&(kind, place.id)) {
            None => wrong.push(Wrong::Inserted(kind, place.id)),
            Some(expected) if hash.as_ref() != Ok(expected) => wrong.push(Wrong::Altered(kind, place.id)),
            Some(_) => {}
        }
    }
    (wrong, sealed.into_keys().collect())
}

/// Looks at the rows behind the end of the log.
async fn look_at_the_rest(store: &Store, found: &mut Verified, end: Place) -> Result<(), StoreError> {
    let rows = store.sealed_rows(&end, &Place::LAST, MOST_UNSEALED).await?;
    found.unsealed = rows.len();
    // Beside those, however many there are: what bears a number behind that of the next transaction, before and after it was read.
    let (next, _) = store.next_transaction().await?;
    let ahead = store.sealed_rows(&Place::before(next), &Place::LAST, MOST_UNSEALED).await?;
    let (next, now) = store.next_transaction().await?;
    let ahead = ahead.iter().map(|row| row.place).filter(|place| place.xact >= next);
    for place in ahead.chain(store.rows_of_no_transaction(MOST_UNSEALED).await?) {
        if let Some(kind) = u8::try_from(place.kind).ok().and_then(Kind::numbered) {
            found.add(Wrong::Ahead(kind, place.id));
        }
    }
    for SealedRow { place, record } in rows {
        let Some(kind) = u8::try_from(place.kind).ok().and_then(Kind::numbered) else { continue };
        let age = written_at(kind, &record).map(|at| (now - at).max(TimeDelta::zero()));
        found.oldest_unsealed = found.oldest_unsealed.max(age);
    }
    Ok(())
}

/// When a row was written, as it says.
fn written_at(kind: Kind, record: &[u8]) -> Option<DateTime<Utc>> {
    let name = match kind {
        Kind::Delivery => "finished_at",
        Kind::LateResult | Kind::Finding => "resolved_at",
        Kind::Replay => "created_at",
        Kind::Version => "published_at",
        Kind::Switch => "switched_at",
        Kind::Pause => "paused_at",
        Kind::PauseEnd => "resumed_at",
        Kind::Pruning => "pruned_at",
    };
    let (_, row) = leaf::read(&leaf(kind, record).ok()?).ok()?;
    row.get(name).and_then(Value::as_str).and_then(|time| time.parse().ok())
}
