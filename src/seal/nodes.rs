//! Which nodes of the tree are kept, and how a proof is made of them.
//!
//! Of the tree's nodes only those of every eighth level are kept, one for 256 leaves and fewer above. A proof is made
//! from at most 512 hashes of each of these levels, so its cost does not grow with the length of history.

use hashbrown::HashMap;

use super::tree::{Hash, node_hash};

/// The distance of the levels that are kept: level 0 is the leaves themselves.
pub const LEVELS_APART: u32 = 8;
/// The highest level that is kept. Above it a proof hashes the nodes of that level.
pub const HIGHEST_LEVEL: u32 = 32;

/// Whether nodes of this level are kept.
pub fn is_kept(level: u32) -> bool {
    level > 0 && level.is_multiple_of(LEVELS_APART) && level <= HIGHEST_LEVEL
}

/// A range of nodes of one level, by their positions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The level; 0 is the leaves.
    pub level: u32,
    /// The first position.
    pub from: u64,
    /// The position behind the last.
    pub to: u64,
}

/// The nodes from which the proof of the leaf `index` in the tree of `size` leaves is made: of each kept level those
/// around the leaf, and those at the right edge, where nodes are not complete.
pub fn needed(index: u64, size: u64) -> Vec<Span> {
    let mut spans = Vec::new();
    let mut level = 0;
    while level <= HIGHEST_LEVEL && size >> level > 0 {
        let complete = size >> level;
        // The highest level is read as a whole: no kept node stands above it.
        let block = |position: u64| if level == HIGHEST_LEVEL { 0 } else { position >> LEVELS_APART << LEVELS_APART };
        let (around, edge) = (block(index >> level), block(complete));
        let end = |from: u64| if level == HIGHEST_LEVEL { complete } else { complete.min(from + (1 << LEVELS_APART)) };
        for from in [around, edge] {
            let span = Span { level, from, to: end(from) };
            if span.from < span.to && !spans.contains(&span) {
                spans.push(span);
            }
        }
        level += LEVELS_APART;
    }
    spans
}

/// Nodes that were read.
#[derive(Debug, Default)]
pub struct Nodes(HashMap<(u32, u64), Hash>);

impl Nodes {
    /// Adds a node.
    pub fn add(&mut self, level: u32, position: u64, hash: Hash) {
        self.0.insert((level, position), hash);
    }

    /// The proof that the leaf `index` is in the tree of `size` leaves (RFC 9162, section 2.1.3.1), the lowest step
    /// first; `None` if a node that it needs is missing.
    pub fn path(&self, index: u64, size: u64) -> Option<Vec<Hash>> {
        let (mut from, mut to, mut path) = (0, size, Vec::new());
        if index >= size {
            return None;
        }
        while to - from > 1 {
            let middle = from + half(to - from);
            if index < middle {
                path.push(self.root_of(middle, to)?);
                to = middle;
            } else {
                path.push(self.root_of(from, middle)?);
                from = middle;
            }
        }
        path.reverse();
        Some(path)
    }

    /// The root of the leaves from `from` up to `to`.
    fn root_of(&self, from: u64, to: u64) -> Option<Hash> {
        let leaves = to - from;
        if leaves.is_power_of_two() && from.is_multiple_of(leaves) {
            let level = leaves.trailing_zeros();
            if let Some(hash) = self.0.get(&(level, from >> level)) {
                return Some(*hash);
            }
            if leaves == 1 {
                return None;
            }
        }
        let middle = from + half(leaves);
        Some(node_hash(&self.root_of(from, middle)?, &self.root_of(middle, to)?))
    }
}

/// The largest power of two below `leaves`.
fn half(leaves: u64) -> u64 {
    leaves.next_power_of_two() / 2
}

#[cfg(test)]
mod tests {
    use super::super::tree::{Frontier, includes, leaf_hash};
    use super::*;

    /// The nodes that are kept of a tree, and its root.
    fn kept(size: u64) -> (HashMap<(u32, u64), Hash>, Hash) {
        let (mut tree, mut nodes) = (Frontier::default(), HashMap::new());
        for number in 0..size {
            let leaf = leaf_hash(&number.to_be_bytes());
            nodes.insert((0, number), leaf);
            tree.append(leaf, |level, position, hash| {
                if is_kept(level) {
                    nodes.insert((level, position), *hash);
                }
            });
        }
        (nodes, tree.root())
    }

    #[test]
    fn every_leaf_is_proved_from_what_is_kept_and_from_a_bounded_part_of_it() {
        for size in [2, 3, 255, 256, 257, 511, 512, 513, 65_536, 66_049] {
            let (all, root) = kept(size);
            let some = [0, 1, 2, 254, 255, 256, 257, 300, 65_534, 65_535, 65_536, 66_000, size / 2, size - 1];
            for index in some.into_iter().filter(|index| *index < size) {
                let mut nodes = Nodes::default();
                for span in needed(index, size) {
                    assert!(span.to - span.from <= 256, "{span:?}");
                    (span.from..span.to).for_each(|at| nodes.add(span.level, at, all[&(span.level, at)]));
                }
                let path = nodes.path(index, size).unwrap_or_else(|| panic!("{index} of {size}"));
                let leaf = all[&(0, index)];
                assert!(includes(index, size, leaf, &path, &root), "{index} of {size}");
                assert!(!includes(index ^ 1, size, leaf, &path, &root), "{index} of {size}");
                assert!(!includes(index, size + 1, leaf, &path, &leaf) && !includes(index, size, root, &path, &leaf));
                let mut altered = path.clone();
                if let Some(step) = altered.first_mut() {
                    step[0] ^= 1;
                    assert!(!includes(index, size, leaf, &altered, &root));
                }
                assert!(!includes(index, size, leaf, &[path.as_slice(), &[root]].concat(), &root));
            }
        }
    }

    #[test]
    fn without_a_node_that_it_needs_there_is_no_proof() {
        let mut nodes = Nodes::default();
        nodes.add(0, 0, leaf_hash(b"a"));
        assert_eq!(nodes.path(0, 2), None);
        assert_eq!(nodes.path(2, 2), None);
    }

    #[test]
    fn every_eighth_level_is_kept_above_the_leaves_and_up_to_the_highest() {
        let kept: Vec<u32> = (0..=64).filter(|level| is_kept(*level)).collect();
        assert_eq!(kept, [8, 16, 24, 32]);
    }

    #[test]
    fn of_a_very_large_tree_the_highest_level_is_read_as_a_whole() {
        let (index, size) = (5 << 30, 7 << 32);
        let spans = needed(index, size);
        assert!(spans.contains(&Span { level: HIGHEST_LEVEL, from: 0, to: 7 }), "{spans:?}");
        assert!(spans.contains(&Span { level: 24, from: 256, to: 512 }), "{spans:?}");
    }
}
