//! The nodes from which proofs are made: whether they are those that the leaves make.

use hashbrown::HashMap;

use super::{Verified, number};
use crate::seal::tree::Hash;
use crate::store::{Store, StoreError};

/// A node of the tree: its level, its position and its hash.
pub(super) type Node = (u32, u64, Hash);

/// Compares the nodes of the levels that are kept with those that the leaves make.
pub(super) async fn compare_nodes(store: &Store, found: &mut Verified, nodes: Vec<Node>) -> Result<(), StoreError> {
    let mut levels: HashMap<u32, Vec<(u64, Hash)>> = HashMap::new();
    for (level, position, hash) in nodes {
        levels.entry(level).or_default().push((position, hash));
    }
    for (level, nodes) in levels {
        let (Some((from, _)), Some((last, _))) = (nodes.first(), nodes.last()) else { continue };
        let (kept, to) = (i16::try_from(level).unwrap_or(i16::MAX), number(*last).saturating_add(1));
        let held: HashMap<i64, Vec<u8>> = store.seal_nodes(kept, number(*from), to).await?.into_iter().collect();
        for (position, hash) in nodes {
            if held.get(&number(position)).is_none_or(|held| held[..] != hash) {
                found.log(format!(
                    "the node {position} of level {level} was altered or removed: proofs that need it cannot be made"
                ));
            }
        }
    }
    Ok(())
}
