//! What makes history prove itself: how a row becomes a leaf, how leaves become a tree, and how the tree's root is
//! signed. Pure: rows, keys and texts go in, digests and texts come out.
//!
//! Rows of history are hashed into one growing Merkle tree, as RFC 9162 hashes it. Its root, signed, is a
//! **checkpoint**: a signed note of C2SP. Whoever has a checkpoint from outside of the database can tell whether any
//! row from before it was altered, removed or inserted. docs/auditing.md says all of it for those who want to check it
//! with programs of their own.

pub mod fields;
pub mod key;
pub mod leaf;
pub mod nodes;
pub mod note;
pub mod proof;
pub mod timestamp;
pub mod tree;
