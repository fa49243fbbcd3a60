//! A proof for one row: the row's leaf, its place, the path to the root, and the checkpoint with the root. Whoever has
//! the key that verifies can check it without any database.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::key::Verifier;
use super::leaf;
use super::note::{BadNote, Checkpoint};
use super::tree::{HASH_BYTES, Hash, MOST_STEPS, includes, leaf_hash};
use crate::domain::seal::Kind;

/// The form of the file.
const FORMAT: &str = "postcall-proof-1";
/// The longest file that is read, in bytes.
pub const MAX_PROOF_BYTES: usize = 1024 * 1024;

/// A proof, as its file holds it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proof {
    format: String,
    leaf: String,
    index: u64,
    path: String,
    checkpoint: String,
}

/// What a proof shows.
#[derive(Debug, PartialEq)]
pub struct Proved {
    /// The kind of the row.
    pub kind: Kind,
    /// The row.
    pub row: Map<String, Value>,
    /// The place of its leaf.
    pub index: u64,
    /// The checkpoint that covers it.
    pub checkpoint: Checkpoint,
}

/// Why a proof shows nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The file has another form.
    #[error("this is not a proof of postcall ({FORMAT})")]
    Form,
    /// The checkpoint cannot be trusted.
    #[error("its checkpoint cannot be trusted")]
    Checkpoint(#[source] BadNote),
    /// The leaf is not in the tree of the checkpoint.
    #[error("the row is not the one that was sealed: its leaf is not in the tree of the checkpoint")]
    NotIncluded,
    /// The leaf is in the tree, and this release cannot read it.
    #[error("the row was sealed, and this release cannot read it: a newer one wrote it")]
    Newer,
}

impl Proof {
    /// A proof from its parts.
    pub fn new(leaf: &[u8], index: u64, path: &[Hash], checkpoint: String) -> Proof {
        let (leaf, path) = (STANDARD.encode(leaf), STANDARD.encode(path.concat()));
        Proof { format: FORMAT.to_owned(), leaf, index, path, checkpoint }
    }

    /// Reads a file.
    ///
    /// # Errors
    /// If it has another form.
    pub fn parse(text: &str) -> Result<Proof, Refused> {
        let proof: Proof = serde_json::from_str(text).map_err(|_| Refused::Form)?;
        if proof.format == FORMAT { Ok(proof) } else { Err(Refused::Form) }
    }

    /// What it shows to whoever trusts these keys.
    ///
    /// # Errors
    /// If it shows nothing.
    pub fn check(&self, keys: &[Verifier]) -> Result<Proved, Refused> {
        let checkpoint = Checkpoint::open(&self.checkpoint, keys).map_err(Refused::Checkpoint)?;
        let bytes = |text: &str| STANDARD.decode(text).map_err(|_| Refused::Form);
        let (leaf, path) = (bytes(&self.leaf)?, bytes(&self.path)?);
        let (path, rest) = path.as_chunks::<HASH_BYTES>();
        if !rest.is_empty() || path.len() > MOST_STEPS {
            return Err(Refused::Form);
        }
        if !includes(self.index, checkpoint.size, leaf_hash(&leaf), path, &checkpoint.root) {
            return Err(Refused::NotIncluded);
        }
        let (kind, row) = leaf::read(&leaf).map_err(|_| Refused::Newer)?;
        Ok(Proved { kind, row, index: self.index, checkpoint })
    }
}

#[cfg(test)]
mod tests {
    use super::super::key::Signer;
    use super::super::tree::node_hash;
    use super::*;

    #[test]
    fn what_a_proof_has_beside_its_row_is_less_than_2_kb_in_a_log_of_a_billion_rows() {
        let key = Signer::from_seed(&"a.log.with.a.long.name.example/".repeat(2), &[1; 32]).unwrap();
        let size = 1 << 30;
        let checkpoint = Checkpoint { size, root: [255; HASH_BYTES], rows: [255; HASH_BYTES] }.signed_by(&key);
        let beside = |row: &[u8]| {
            let proof = Proof::new(row, size - 1, &[[255; HASH_BYTES]; 30], checkpoint.clone());
            serde_json::to_string(&proof).unwrap().len() - STANDARD.encode(row).len()
        };
        assert!(beside(b"") < 2_048, "{}", beside(b""));
        assert_eq!(beside(&[7; 9_000]), beside(b""));
    }

    #[test]
    fn a_proof_is_valid_under_its_key_alone_and_only_unaltered() {
        let key = Signer::from_seed("log", &[1; 32]).unwrap();
        let (leaf, other) = (b"\x01\x08\x01\x017".as_slice(), leaf_hash(b"other"));
        let checkpoint = Checkpoint { size: 2, root: node_hash(&leaf_hash(leaf), &other), rows: [0; 32] };
        let text = serde_json::to_string(&Proof::new(leaf, 0, &[other], checkpoint.signed_by(&key))).unwrap();
        let keys = [key.verifier().clone()];
        let proved = Proof::parse(&text).unwrap().check(&keys).unwrap();
        assert_eq!((proved.kind, &proved.row["pause_id"]), (Kind::PauseEnd, &Value::from(7)));

        let stranger = [Signer::from_seed("log", &[2; 32]).unwrap().verifier().clone()];
        let refused = Proof::parse(&text).unwrap().check(&stranger);
        assert_eq!(refused, Err(Refused::Checkpoint(BadNote::NotSigned)));
        let altered =
            |from: &str, to: &str| Proof::parse(&text.replacen(from, to, 1)).and_then(|proof| proof.check(&keys));
        let forged = STANDARD.encode(b"\x01\x08\x01\x018");
        assert_eq!(altered(&STANDARD.encode(leaf), &forged), Err(Refused::NotIncluded));
        assert_eq!(altered("\"index\":0", "\"index\":1"), Err(Refused::NotIncluded));
        assert_eq!(altered(&STANDARD.encode(other), ""), Err(Refused::NotIncluded));
        for (steps, refused) in
            [(MOST_STEPS, Refused::NotIncluded), (MOST_STEPS + 1, Refused::Form), (99, Refused::Form)]
        {
            let path = STANDARD.encode([7; HASH_BYTES].repeat(steps));
            assert_eq!(altered(&STANDARD.encode(other), &path), Err(refused), "{steps} steps");
        }
        assert_eq!(altered("log\\n2", "log\\n3"), Err(Refused::Checkpoint(BadNote::NotSigned)));
        assert_eq!(altered("proof-1", "proof-2"), Err(Refused::Form));
    }
}
