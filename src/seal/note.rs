//! Checkpoints: the size and the root of the tree, as signed notes of C2SP (c2sp.org/tlog-checkpoint,
//! c2sp.org/signed-note).
//!
//! ```text
//! postcall.example/history          the name of the log, which is that of its key
//! 1000000                           how many leaves the tree has
//! 3iO7…                             its root, in base64
//! rows 9fGq…                        SHA-256 of the kinds and ids of the leaves that it adds, in base64
//!
//! — postcall.example/history ab12…  the signature of the lines above, with the key's id before it, in base64
//! ```

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use super::key::{Signer, Verifier};
use super::tree::Hash;

/// How a line with a signature begins.
const SIGNATURE: &str = "\u{2014} ";
/// The longest note that is read, in bytes. Ours have about 250.
pub const MAX_NOTE_BYTES: usize = 4_096;

/// How the line with the digest of the rows begins.
const ROWS: &str = "rows ";

/// What a checkpoint says of the rows whose leaves its slice adds: the SHA-256 of their kinds, a byte each, and their
/// ids, 16 bytes each. A leaf names its row only to whoever has the row. Without this, somebody who removes a row could
/// say that its leaf is that of another one.
pub fn rows_digest(kinds: &[u8], ids: &[u8]) -> Hash {
    Sha256::new().chain_update(kinds).chain_update(ids).finalize().into()
}

/// The size and the root of the tree at one time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// How many leaves the tree had.
    pub size: u64,
    /// Its root.
    pub root: Hash,
    /// The digest of the rows whose leaves it adds ([`rows_digest`]).
    pub rows: Hash,
}

/// Why a note is not a checkpoint that can be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadNote {
    /// It has not the form of a checkpoint.
    #[error("it is damaged: it has not the form of a checkpoint")]
    Damaged,
    /// None of the keys signed it, or one of them did not sign this text.
    #[error("it is not signed by the key, or was altered after it had been signed")]
    NotSigned,
}

impl Checkpoint {
    /// The note that this key signs.
    pub fn signed_by(&self, key: &Signer) -> String {
        let (verifier, text) = (key.verifier(), self.text(key.verifier().name()));
        let signature = [verifier.id().as_slice(), &key.sign(&text)].concat();
        format!("{text}\n{SIGNATURE}{} {}\n", verifier.name(), STANDARD.encode(signature))
    }

    /// The checkpoint in a note, if one of the keys signed it.
    ///
    /// # Errors
    /// If it is not a checkpoint, or no key signed it.
    pub fn open(note: &str, keys: &[Verifier]) -> Result<Checkpoint, BadNote> {
        Checkpoint::opened_by(note, keys).map(|(checkpoint, _)| checkpoint)
    }

    /// The same, with the key that signed it.
    ///
    /// # Errors
    /// If it is not a checkpoint, or no key signed it.
    pub fn opened_by<'k>(note: &str, keys: &'k [Verifier]) -> Result<(Checkpoint, &'k Verifier), BadNote> {
        let (origin, checkpoint, signatures) = read(note).ok_or(BadNote::Damaged)?;
        let text = checkpoint.text(origin);
        let is_signed = |key: &&Verifier| {
            let by =
                |line: &str| line.strip_prefix(key.name()).and_then(|rest| rest.strip_prefix(' ')).map(str::to_owned);
            let signature = signatures.lines().filter_map(|line| line.strip_prefix(SIGNATURE)).find_map(by);
            let bytes = signature.and_then(|base64| STANDARD.decode(base64).ok()).unwrap_or_default();
            key.name() == origin
                && bytes.split_first_chunk::<4>().is_some_and(|(id, rest)| *id == key.id() && key.verifies(&text, rest))
        };
        let key = keys.iter().find(is_signed).ok_or(BadNote::NotSigned)?;
        Ok((checkpoint, key))
    }

    /// The checkpoint in a note, whoever signed it.
    ///
    /// # Errors
    /// If it has not the form of a checkpoint.
    pub fn unverified(note: &str) -> Result<Checkpoint, BadNote> {
        read(note).map(|(_, checkpoint, _)| checkpoint).ok_or(BadNote::Damaged)
    }

    fn text(&self, origin: &str) -> String {
        let [root, rows] = [self.root, self.rows].map(|hash| STANDARD.encode(hash));
        format!("{origin}\n{}\n{root}\n{ROWS}{rows}\n", self.size)
    }
}

/// The parts of a note: the log, the checkpoint, and the lines with signatures. Only one form is read, so that what is
/// signed is what was read.
fn read(note: &str) -> Option<(&str, Checkpoint, &str)> {
    if note.len() > MAX_NOTE_BYTES {
        return None;
    }
    let (text, signatures) = note.split_once("\n\n")?;
    let mut lines = text.split('\n');
    let (origin, size, root, rows) = (lines.next()?, lines.next()?, lines.next()?, lines.next()?);
    let hash = |base64: &str| Hash::try_from(STANDARD.decode(base64).ok()?).ok();
    let checkpoint = Checkpoint {
        size: size.parse().ok().filter(|number: &u64| number.to_string() == size)?,
        root: hash(root)?,
        rows: hash(rows.strip_prefix(ROWS)?)?,
    };
    let whole = lines.next().is_none() && signatures.ends_with('\n') && !origin.is_empty();
    whole.then_some((origin, checkpoint, signatures))
}

/// How many lines a note has: name, size, root, rows, nothing, signature.
const LINES: usize = 6;

/// The notes in a text that holds one after the other. What is not a note (a line that was torn by a crash) is returned
/// as it is found, and hides no note that follows.
pub fn notes(text: &str) -> Vec<&str> {
    let (mut found, mut starts, mut at) = (Vec::new(), Vec::new(), 0);
    for line in text.split_inclusive('\n') {
        starts.push(at);
        at += line.len();
        if line.starts_with(SIGNATURE) {
            let from = starts[starts.len().saturating_sub(LINES)];
            found.extend([&text[starts[0]..from], &text[from..at]]);
            starts.clear();
        }
    }
    found.extend(starts.first().map(|from| &text[*from..]));
    found.retain(|piece| !piece.trim().is_empty());
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signer(name: &str, seed: u8) -> Signer {
        Signer::from_seed(name, &[seed; 32]).unwrap()
    }

    #[test]
    fn a_checkpoint_is_opened_by_its_key_alone_and_only_as_it_was_signed() {
        let (key, checkpoint) = (signer("log", 1), Checkpoint { size: 12, root: [9; 32], rows: [7; 32] });
        let note = checkpoint.signed_by(&key);
        let keys = [signer("log", 2).verifier().clone(), key.verifier().clone()];
        assert_eq!(Checkpoint::open(&note, &keys), Ok(checkpoint.clone()));
        assert_eq!(Checkpoint::unverified(&note), Ok(checkpoint));
        for others in [&keys[..1], &[signer("other", 1).verifier().clone()], &[]] {
            assert_eq!(Checkpoint::open(&note, others), Err(BadNote::NotSigned));
        }
        assert_eq!(Checkpoint::open(&note.replace("12", "13"), &keys), Err(BadNote::NotSigned));
        for damaged in ["", "log\n12\n", &note[..note.len() - 1], &note.replace("12", "012"), &note.replace("12", "-1")]
        {
            assert_eq!(Checkpoint::open(damaged, &keys), Err(BadNote::Damaged), "{damaged}");
        }
        let longer = note.replacen("\n\n", "\nan extension\n\n", 1);
        assert_eq!(Checkpoint::open(&longer, &keys), Err(BadNote::Damaged));
    }

    #[test]
    fn notes_are_found_one_after_the_other_and_a_torn_one_hides_no_other() {
        let key = signer("log", 1);
        let [one, two] = [1, 2].map(|size| Checkpoint { size, root: [0; 32], rows: [0; 32] }.signed_by(&key));
        fn found(text: &str) -> Vec<Option<u64>> {
            notes(text).into_iter().map(|note| Checkpoint::unverified(note).ok().map(|read| read.size)).collect()
        }
        assert_eq!(found(&format!("{one}\n{two}\n")), [Some(1), Some(2)]);
        assert_eq!(found(&format!("{one}{two}")), [Some(1), Some(2)]);
        assert_eq!(found(&format!("{one}\n{}", &two[..20])), [Some(1), None]);
        assert_eq!(found(&format!("{}\n{two}\n", &one[..one.len() - 120])), [None, Some(2)]);
        assert_eq!(found(&format!("log\n1\n{two}\n{one}")), [None, Some(2), Some(1)]);
        assert_eq!(found(""), []);
    }
}
