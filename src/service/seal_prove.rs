//! Makes a proof for one delivery: that its row is the one that was sealed.

use uuid::Uuid;

use crate::domain::seal::Kind;
use crate::seal::leaf::leaf;
use crate::seal::nodes::{Nodes, needed};
use crate::seal::note::Checkpoint;
use crate::seal::proof::Proof;
use crate::seal::tree::{HASH_BYTES, Hash, includes, leaf_hash};
use crate::store::{Store, StoreError};

/// The result of making a proof.
#[derive(Debug)]
pub enum Proving {
    /// The proof.
    Proved(Proof),
    /// History has no such delivery: it has not ended, or has left, or never was.
    NoSuchDelivery,
    /// The delivery is not sealed yet.
    NotSealed,
    /// The row, or the log, is not what was sealed.
    Differs,
}

/// Proves that a delivery is in the newest checkpoint. The work does not grow with the length of history.
///
/// # Errors
/// Only those of the database.
pub async fn prove(store: &Store, delivery_id: Uuid) -> Result<Proving, StoreError> {
    let Some(place) = store.place_of_delivery(delivery_id).await? else { return Ok(Proving::NoSuchDelivery) };
    let (Some(slice), Some(newest)) = (store.slice_of(&place).await?, store.newest_slice().await?) else {
        return Ok(Proving::NotSealed);
    };
    let rows = store.sealed_rows(&place.just_before(), &place, 1).await?;
    let row_leaf = rows.first().and_then(|row| leaf(Kind::Delivery, &row.record).ok());
    let (Some(row_leaf), Ok(checkpoint)) = (row_leaf, Checkpoint::unverified(&newest.checkpoint)) else {
        return Ok(Proving::Differs);
    };
    let leaves = store.leaves(slice.first_leaf, slice.size).await?;
    let is_it = |(kind, id): (&u8, &[u8; 16])| *kind == Kind::Delivery.number() && id == delivery_id.as_bytes();
    let Some(within) = leaves.kinds.iter().zip(leaves.ids.as_chunks::<16>().0).position(is_it) else {
        return Ok(Proving::Differs);
    };
    let index = u64::try_from(slice.first_leaf).unwrap_or(0) + within as u64;
    let Some(path) = nodes(store, index, checkpoint.size).await?.path(index, checkpoint.size) else {
        return Ok(Proving::Differs);
    };
    if !includes(index, checkpoint.size, leaf_hash(&row_leaf), &path, &checkpoint.root) {
        return Ok(Proving::Differs);
    }
    Ok(Proving::Proved(Proof::new(&row_leaf, index, &path, newest.checkpoint)))
}

/// Reads the nodes from which a proof is made.
async fn nodes(store: &Store, index: u64, size: u64) -> Result<Nodes, StoreError> {
    let mut nodes = Nodes::default();
    let number = |position: u64| i64::try_from(position).unwrap_or(i64::MAX);
    let mut add = |level: u32, position: u64, hash: &[u8]| {
        if let Ok(hash) = Hash::try_from(hash) {
            nodes.add(level, position, hash);
        }
    };
    for span in needed(index, size) {
        if span.level > 0 {
            let level = i16::try_from(span.level).unwrap_or(i16::MAX);
            for (position, hash) in store.seal_nodes(level, number(span.from), number(span.to)).await? {
                add(span.level, u64::try_from(position).unwrap_or(0), &hash);
            }
            continue;
        }
        let Some(first) = store.first_leaf_around(number(span.from)).await? else { continue };
        let leaves = store.leaves(number(span.from), number(span.to)).await?;
        let first = u64::try_from(first).unwrap_or(0);
        for (position, hash) in (first..).zip(leaves.hashes.as_chunks::<HASH_BYTES>().0) {
            add(0, position, hash);
        }
    }
    Ok(nodes)
}
