//! The Merkle tree of RFC 9162, section 2.1: what hashes a leaf and a node, what is kept to append, and how a proof is
//! verified.

use sha2::{Digest, Sha256};

/// The length of a hash in bytes.
pub const HASH_BYTES: usize = 32;

/// A SHA-256 of a leaf, a node or a root.
pub type Hash = [u8; HASH_BYTES];

/// The most hashes that a proof can have: the height of a tree of 2^63 leaves.
pub const MOST_STEPS: usize = 63;

/// The hash of a leaf, from its bytes.
pub fn leaf_hash(leaf: &[u8]) -> Hash {
    Sha256::new().chain_update([0]).chain_update(leaf).finalize().into()
}

/// The hash of a node, from those of its children.
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    Sha256::new().chain_update([1]).chain_update(left).chain_update(right).finalize().into()
}

/// What has to be kept of a tree in order to append to it: how many leaves it has, and the roots of its largest
/// complete subtrees, from left to right.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    peaks: Vec<Hash>,
}

impl Frontier {
    /// The frontier of a tree with `size` leaves, from what [`Frontier::to_bytes`] made of it; `None` if that cannot
    /// be.
    pub fn from_bytes(size: u64, bytes: &[u8]) -> Option<Frontier> {
        let (hashes, rest) = bytes.as_chunks::<HASH_BYTES>();
        let fits = rest.is_empty() && hashes.len() == size.count_ones() as usize;
        fits.then(|| Frontier { size, peaks: hashes.to_vec() })
    }

    /// The peaks, one after the other.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.peaks.concat()
    }

    /// The number of leaves.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Appends a leaf. Calls `completed` with the level, the position and the hash of every node that is complete now:
    /// the node at position p of level l is the root of the leaves from p × 2^l up to (p + 1) × 2^l.
    pub fn append(&mut self, leaf: Hash, mut completed: impl FnMut(u32, u64, &Hash)) {
        let mut hash = leaf;
        for level in 0..self.size.trailing_ones() {
            // There are as many peaks as ones in the size, so there is one for each of its last ones.
            let Some(left) = self.peaks.pop() else { break };
            hash = node_hash(&left, &hash);
            completed(level + 1, self.size >> (level + 1), &hash);
        }
        self.peaks.push(hash);
        self.size += 1;
    }

    /// The root of the tree.
    pub fn root(&self) -> Hash {
        let mut peaks = self.peaks.iter().rev();
        match peaks.next() {
            // The hash of an empty tree is that of nothing.
            None => Sha256::digest([]).into(),
            Some(last) => peaks.fold(*last, |right, left| node_hash(left, &right)),
        }
    }
}

/// Whether `path` shows that `leaf` is the leaf number `index` (counted from 0) of the tree with `size` leaves and this
/// root (RFC 9162, section 2.1.3.2).
pub fn includes(index: u64, size: u64, leaf: Hash, path: &[Hash], root: &Hash) -> bool {
    if index >= size {
        return false;
    }
    let (mut node, mut last, mut hash) = (index, size - 1, leaf);
    for step in path {
        if last == 0 {
            return false;
        }
        if node & 1 == 1 || node == last {
            hash = node_hash(step, &hash);
            while node & 1 == 0 && node != 0 {
                (node, last) = (node >> 1, last >> 1);
            }
        } else {
            hash = node_hash(&hash, step);
        }
        (node, last) = (node >> 1, last >> 1);
    }
    last == 0 && hash == *root
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The root as RFC 9162 defines it, by recursion.
    fn defined(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => Sha256::digest([]).into(),
            [leaf] => *leaf,
            _ => {
                let half = leaves.len().next_power_of_two() / 2;
                node_hash(&defined(&leaves[..half]), &defined(&leaves[half..]))
            }
        }
    }

    #[test]
    fn the_root_of_every_size_is_the_defined_one_and_survives_being_stored() {
        let leaves: Vec<Hash> = (0..70_u8).map(|number| leaf_hash(&[number])).collect();
        let mut tree = Frontier::default();
        let mut nodes = Vec::new();
        for (count, leaf) in leaves.iter().enumerate() {
            assert_eq!(tree.root(), defined(&leaves[..count]), "{count}");
            tree.append(*leaf, |level, position, hash| nodes.push((level, position, *hash)));
            tree = Frontier::from_bytes(tree.size(), &tree.to_bytes()).unwrap();
        }
        for (level, position, hash) in nodes {
            let from = (position << level) as usize;
            assert_eq!(hash, defined(&leaves[from..from + (1 << level)]), "{level} {position}");
        }
        assert_eq!(Frontier::from_bytes(3, &[0; HASH_BYTES]), None);
    }

    /// Published test vectors of RFC 6962, whose hashes RFC 9162 kept.
    #[test]
    fn hashes_are_those_of_certificate_transparency() {
        let inputs =
            ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"];
        let mut tree = Frontier::default();
        assert_eq!(hex::encode(tree.root()), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        for input in inputs {
            tree.append(leaf_hash(&hex::decode(input).unwrap()), |_, _, _| {});
        }
        assert_eq!(hex::encode(tree.root()), "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328");
    }
}
