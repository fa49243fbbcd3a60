//! The operator's keys: `postcall-key-1:BASE64`, one a line. The first one encrypts, and all of them decrypt.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chacha20poly1305::aead::Generate;
use nix::unistd::geteuid;
use secrecy::{ExposeSecret, SecretBox};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::digest::DigestKey;
use crate::domain::body_digest::KEY_ID_BYTES;

/// What each line of a key file begins with: the version of its format.
const PREFIX: &str = "postcall-key-1:";
/// Bytes of a key.
pub(super) const KEY_BYTES: usize = 32;
/// The largest number of keys in a file.
const MAX_KEYS: usize = 16;
/// The largest key file, in bytes.
const MAX_FILE_BYTES: usize = 4_096;

/// The keys of a key file; never none.
pub struct Keyring {
    first: WrappingKey,
    others: Vec<WrappingKey>,
}

/// One key, and the id by which rows name it.
pub(super) struct WrappingKey {
    id: String,
    bytes: SecretBox<[u8; KEY_BYTES]>,
    digests: Arc<DigestKey>,
}

/// Why there are no keys.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    /// The file cannot be read.
    #[error("cannot read the key file {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// Others may read the file.
    #[error("others may read the key file {}: `chmod 600` it, and make a new key if somebody may have read it", .0.display())]
    Exposed(PathBuf),
    /// A key was given in the place of the name of its file. It is not told.
    #[error(
        "this is a key, and not the name of a file that holds it. Other users of this machine, and its records, may have seen it: make a new one, and write it to a file that only its owner can read"
    )]
    NotAFile,
    /// The file holds no keys.
    #[error("the key file holds no key: `postcall secret new-key` prints one")]
    Empty,
    /// The file holds more than the limit.
    #[error("the key file is larger than {MAX_FILE_BYTES} bytes, or has more than {MAX_KEYS} keys")]
    TooLarge,
    /// A line is no key. The line itself is not told.
    #[error("line {0} of the key file is not `{PREFIX}` with {KEY_BYTES} bytes in base64")]
    BadLine(usize),
    /// The system gives no random bytes.
    #[error("no key can be made: the system gives no random bytes")]
    NoRandomBytes,
}

/// Reads a file of keys that nobody may read but its owner and those whom root lets read it, of at most `most` bytes. What was read
/// is wiped.
///
/// # Errors
/// It cannot be read, others may read it, or it is too large.
pub fn read_private(path: &Path, most: usize) -> Result<Zeroizing<String>, KeyringError> {
    let unreadable = |source| KeyringError::Unreadable { path: path.to_owned(), source };
    if looks_like_a_key(path) {
        return Err(KeyringError::NotAFile);
    }
    let file = File::open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    if is_exposed(metadata.mode(), metadata.uid(), geteuid().as_raw()) {
        return Err(KeyringError::Exposed(path.to_owned()));
    }
    // With room for all of it: a text that grows leaves copies behind that are not wiped.
    let mut text = Zeroizing::new(String::with_capacity(2 * most));
    file.take(most as u64 + 1).read_to_string(&mut text).map_err(unreadable)?;
    if text.len() > most { Err(KeyringError::TooLarge) } else { Ok(text) }
}

/// Whether others may read a file with this mode and this owner than its owner and this reader. Root's files may be readable by a group
/// for a reader that is not root: a credential of systemd and a secret that Kubernetes mounts are such files, because only so the service
/// can read them, which is not their owner.
fn is_exposed(mode: u32, owner: u32, reader: u32) -> bool {
    let by_root_for_another = owner == 0 && reader != 0;
    mode & if by_root_for_another { 0o037 } else { 0o077 } != 0
}

/// Whether somebody gave a key in the place of the name of a file: it begins as the keys of secrets or of seals do.
fn looks_like_a_key(path: &Path) -> bool {
    path.to_str()
        .is_some_and(|text| [PREFIX, "PRIVATE+KEY+"].iter().any(|begins| text.trim_start().starts_with(begins)))
}

impl Keyring {
    /// Reads a key file that nobody but its owner may read.
    ///
    /// # Errors
    /// It cannot be read, others may read it, or it holds no keys.
    pub fn read(path: &Path) -> Result<Keyring, KeyringError> {
        Keyring::parse(&read_private(path, MAX_FILE_BYTES)?)
    }

    /// Reads the lines of a key file. Empty lines, and those that begin with `#`, are passed over.
    ///
    /// # Errors
    /// There is no key, or a line is none.
    pub fn parse(text: &str) -> Result<Keyring, KeyringError> {
        let lines =
            text.lines().map(str::trim).enumerate().filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
        let mut keys = lines.map(|(index, line)| WrappingKey::parse(line).ok_or(KeyringError::BadLine(index + 1)));
        let first = keys.next().ok_or(KeyringError::Empty)??;
        let others = keys.collect::<Result<Vec<_>, _>>()?;
        if others.len() >= MAX_KEYS { Err(KeyringError::TooLarge) } else { Ok(Keyring { first, others }) }
    }

    /// The key that encrypts.
    pub(super) fn first(&self) -> &WrappingKey {
        &self.first
    }

    /// The id of the key that encrypts.
    pub fn first_id(&self) -> &str {
        &self.first.id
    }

    /// All keys, the one that encrypts first.
    pub(super) fn all(&self) -> impl Iterator<Item = &WrappingKey> {
        std::iter::once(&self.first).chain(&self.others)
    }

    /// The key with this id.
    pub(super) fn with_id(&self, id: &str) -> Option<&WrappingKey> {
        self.all().find(|key| key.id == id)
    }
}

impl WrappingKey {
    fn parse(line: &str) -> Option<WrappingKey> {
        let decoded = Zeroizing::new(STANDARD.decode(line.strip_prefix(PREFIX)?).ok()?);
        let bytes = <[u8; KEY_BYTES]>::try_from(decoded.as_slice()).ok()?;
        // An id that says nothing about the key, and that no two keys share.
        let digest = Sha256::new().chain_update(b"postcall key id").chain_update(bytes).finalize();
        let id = *digest.first_chunk::<KEY_ID_BYTES>()?;
        let digests = Arc::new(DigestKey::derived(id, &decoded)?);
        Some(WrappingKey { id: hex::encode(id), bytes: SecretBox::new(Box::new(bytes)), digests })
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn digest_key(&self) -> &Arc<DigestKey> {
        &self.digests
    }

    pub(super) fn key(&self) -> &[u8; KEY_BYTES] {
        self.bytes.expose_secret()
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids: Vec<&str> = self.all().map(|key| &*key.id).collect();
        f.debug_struct("Keyring").field("ids", &ids).finish_non_exhaustive()
    }
}

/// A line of a key file with a new key.
///
/// # Errors
/// The system gives no random bytes.
pub fn new_key_line() -> Result<Zeroizing<String>, KeyringError> {
    let key = <[u8; KEY_BYTES]>::try_generate().map(Zeroizing::new).map_err(|_| KeyringError::NoRandomBytes)?;
    let encoded = Zeroizing::new(STANDARD.encode(key.as_slice()));
    Ok(Zeroizing::new([PREFIX, &encoded].concat()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_that_is_no_key_file_is_refused_without_telling_what_it_holds() {
        let short = format!("{PREFIX}{}", STANDARD.encode([7; 31]));
        for (text, told) in
            [("", "holds no key"), ("# a\n\n", "holds no key"), ("\nhunter2", "line 2"), (&*short, "line 1")]
        {
            let error = Keyring::parse(text).unwrap_err().to_string();
            assert!(error.contains(told) && !error.contains("hunter2"), "{error}");
        }
        let line = new_key_line().unwrap();
        assert!(matches!(Keyring::parse(&format!("{}\n", *line).repeat(MAX_KEYS + 1)), Err(KeyringError::TooLarge)));
        let ring = Keyring::parse(&line).unwrap();
        assert!(!format!("{ring:?}").contains(&line[PREFIX.len()..]));
    }

    #[test]
    fn a_key_file_that_others_may_read_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        std::fs::write(&path, &*new_key_line().unwrap()).unwrap();
        for (mode, read) in [(0o640, false), (0o604, false), (0o600, true), (0o400, true)] {
            std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
            assert_eq!(Keyring::read(&path).is_ok(), read, "{mode:o}");
        }
    }

    #[test]
    fn a_group_may_read_the_file_only_if_it_is_root_s_and_the_reader_is_not_root() {
        for (mode, owner, reader, exposed) in [
            (0o100_440, 0, 65_532, false),
            (0o100_640, 0, 65_532, false),
            (0o100_400, 0, 65_532, false),
            (0o100_600, 65_532, 65_532, false),
            (0o100_444, 0, 65_532, true),
            (0o100_660, 0, 65_532, true),
            (0o100_450, 0, 65_532, true),
            (0o100_440, 0, 0, true),
            (0o100_440, 65_532, 65_532, true),
            (0o100_440, 65_532, 0, true),
            (0o100_440, 1_000, 65_532, true),
        ] {
            assert_eq!(is_exposed(mode, owner, reader), exposed, "{mode:o} of {owner} for {reader}");
        }
    }

    #[test]
    fn a_file_is_read_up_to_its_limit_and_not_past_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        for (bytes, read) in [(0, true), (9, true), (10, true), (11, false), (12, false), (1_000, false)] {
            std::fs::write(&path, "x".repeat(bytes)).unwrap();
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
            match read_private(&path, 10) {
                Ok(text) => assert!(read && text.len() == bytes, "{bytes}"),
                Err(error) => assert!(!read && matches!(error, KeyringError::TooLarge), "{bytes}"),
            }
        }
    }
}
