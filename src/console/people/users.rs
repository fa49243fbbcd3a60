//! The file of those who may log in: one line for each, `name:role[,role]:hash`. It is read again when it has changed.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};
use tracing::{info, warn};

use super::Role;
use super::passwords::Hash;
use crate::domain::chain::chain;
use crate::service::attribution;

/// The largest file, in bytes.
const MOST_BYTES: u64 = 512 * 1024;
/// The most users.
pub(super) const MOST_USERS: usize = 1_000;
/// How long the file is not looked at again.
const BETWEEN_LOOKS: Duration = Duration::from_secs(1);

/// Why a file of users, or of a key, is refused.
#[derive(Debug, thiserror::Error)]
pub enum UsersError {
    /// It cannot be read.
    #[error("cannot read {path}")]
    File {
        /// The file.
        path: String,
        /// What the system says.
        source: io::Error,
    },
    /// Everybody on the machine may read it, or write it.
    #[error("{path} may be read or written by everybody on this machine: chmod o= {path}")]
    Open {
        /// The file.
        path: String,
    },
    /// It is too large.
    #[error("{path} is larger than {} KiB", MOST_BYTES / 1024)]
    TooLarge {
        /// The file.
        path: String,
    },
    /// A line is not what it should be.
    #[error("{path}, line {line}: {what}")]
    Line {
        /// The file.
        path: String,
        /// The number of the line, from 1.
        line: usize,
        /// What is wrong, without anything of the line's content.
        what: &'static str,
    },
    /// There is nobody in it.
    #[error("{path} names nobody: add a line by `postcall console hash-password`")]
    Empty {
        /// The file.
        path: String,
    },
}

/// Somebody who may log in.
pub(super) struct User {
    pub(super) role: Role,
    pub(super) hash: Hash,
    /// Of the whole line. A session ends if the line of its user changes.
    pub(super) digest: [u8; 32],
}

/// Those who may log in, as the file had them when it was read.
pub(super) struct Users(HashMap<String, User>);

/// The file, and what was read of it last.
pub struct UsersFile {
    path: PathBuf,
    state: Mutex<State>,
}

struct State {
    users: Arc<Users>,
    /// What the file looked like when it was read, well or not.
    version: Option<Version>,
    looked: Instant,
}

/// Changes whenever the file does.
type Version = (u64, u64, i64, i64, i64, i64);

/// A line of the file for a person with these roles.
///
/// # Errors
/// What is wrong with the name or with the roles.
pub fn line(name: &str, roles: &str, hash: &str) -> Result<String, &'static str> {
    named(name)?;
    Role::all_of(roles).ok_or(WRONG_ROLE)?;
    Ok(format!("{name}:{roles}:{hash}"))
}

const WRONG_ROLE: &str = "its second field is not a list of the roles viewer, auditor, operator and publisher";

fn named(name: &str) -> Result<(), &'static str> {
    let is_plain = attribution::person(name).is_ok_and(|plain| plain == name);
    let is_plain = is_plain && !name.contains(':') && !name.starts_with('#');
    if is_plain { Ok(()) } else { Err("its name is empty, too long, or begins or ends with a blank") }
}

impl UsersFile {
    /// Reads the file.
    ///
    /// # Errors
    /// A file that cannot be read, that everybody may read, or that has a line that cannot be read.
    pub fn open(path: &Path) -> Result<UsersFile, UsersError> {
        let (users, version) = Users::read(path)?;
        let state = State { users: Arc::new(users), version: Some(version), looked: Instant::now() };
        Ok(UsersFile { path: path.to_owned(), state: Mutex::new(state) })
    }

    /// Those who may log in now. If the file has changed and cannot be read, those who might before, and the log says why.
    pub(super) fn current(&self) -> Arc<Users> {
        // Nobody panics with the lock held; and what is in it would be whole.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.looked.elapsed() < BETWEEN_LOOKS {
            return Arc::clone(&state.users);
        }
        state.looked = Instant::now();
        let version = fs::metadata(&self.path).ok().map(|metadata| version(&metadata));
        if version == state.version {
            return Arc::clone(&state.users);
        }
        state.version = version;
        match Users::read(&self.path) {
            Ok((users, version)) => {
                info!("the file of users has changed and was read again");
                state.users = Arc::new(users);
                state.version = Some(version);
            }
            Err(error) => {
                warn!(error = %chain(&error), "the changed file of users cannot be read; the users are as before")
            }
        }
        Arc::clone(&state.users)
    }
}

fn version(metadata: &fs::Metadata) -> Version {
    let (dev, ino) = (metadata.dev(), metadata.ino());
    (dev, ino, metadata.mtime(), metadata.mtime_nsec(), metadata.ctime(), metadata.ctime_nsec())
}

/// The content of a file that holds secrets, if not everybody may read it; and its version.
pub(super) fn read_secret(path: &Path) -> Result<(Vec<u8>, Version), UsersError> {
    let shown = || path.display().to_string();
    let failed = |source| UsersError::File { path: shown(), source };
    // What is looked at is what is read, even if another file takes its place in the meantime.
    let file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if metadata.mode() & 0o006 != 0 {
        return Err(UsersError::Open { path: shown() });
    }
    let mut bytes = Vec::new();
    file.take(MOST_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > MOST_BYTES {
        return Err(UsersError::TooLarge { path: shown() });
    }
    Ok((bytes, version(&metadata)))
}

impl Users {
    fn read(path: &Path) -> Result<(Users, Version), UsersError> {
        let (bytes, version) = read_secret(path)?;
        Ok((Users::of(&bytes, &path.display().to_string())?, version))
    }

    fn of(bytes: &[u8], path: &str) -> Result<Users, UsersError> {
        let mut users = HashMap::new();
        for (number, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
            let wrong = |what| UsersError::Line { path: path.to_owned(), line: number + 1, what };
            let line = std::str::from_utf8(line).map_err(|_| wrong("it is not UTF-8"))?.trim_end_matches('\r');
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            let (name, user) = user(line).map_err(wrong)?;
            if users.len() >= MOST_USERS {
                return Err(wrong("there are more than 1,000 users"));
            }
            if users.insert(name, user).is_some() {
                return Err(wrong("an earlier line has the same name"));
            }
        }
        if users.is_empty() { Err(UsersError::Empty { path: path.to_owned() }) } else { Ok(Users(users)) }
    }

    /// The user of this name.
    pub(super) fn get(&self, name: &str) -> Option<&User> {
        self.0.get(name)
    }

    /// The hash to check a password with that is given for this name, and whether the name exists. For one that does not, it is
    /// that of somebody else, always the same for the same name: so it costs what it costs for others, and tells nothing.
    pub(super) fn hash_for(&self, name: &str) -> Option<(&Hash, bool)> {
        if let Some(user) = self.0.get(name) {
            return Some((&user.hash, true));
        }
        let digest = |of: &[u8]| <[u8; 32]>::from(Sha256::digest([of, b"\0", name.as_bytes()].concat()));
        let chosen = self.0.values().max_by_key(|user| digest(&user.digest))?;
        Some((&chosen.hash, false))
    }
}

/// The user of a line.
fn user(line: &str) -> Result<(String, User), &'static str> {
    let mut fields = line.splitn(3, ':');
    let (Some(name), Some(roles), Some(hash)) = (fields.next(), fields.next(), fields.next()) else {
        return Err("expected name:role[,role]:hash");
    };
    named(name)?;
    let role = Role::all_of(roles).ok_or(WRONG_ROLE)?;
    let user = User { role, hash: Hash::of(hash)?, digest: Sha256::digest(line).into() };
    Ok((name.to_owned(), user))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "$2b$04$1WAoyTVKIRvkUQzwGA/8IeDPz7iSYm4mLxBLSRUaLOtUZ1XyLJ3N.";

    fn read(text: &str) -> Result<Users, String> {
        Users::of(text.as_bytes(), "users").map_err(|error| error.to_string())
    }

    #[test]
    fn each_line_is_somebody_with_roles_of_which_the_last_counts() {
        let users =
            read(&format!("# people\n\nada:publisher:{HASH}\nbob:viewer,operator,auditor:{HASH}\r\n")).ok().unwrap();
        assert_eq!(users.get("ada").map(|user| user.role), Some(Role::Publisher));
        assert_eq!(users.get("bob").map(|user| user.role), Some(Role::Operator));
        assert!(users.get("Ada").is_none() && users.get("").is_none());
    }

    #[test]
    fn what_cannot_be_read_is_refused_with_its_line_and_nothing_of_its_content() {
        let good = format!("ada:viewer:{HASH}\n");
        for (line, said) in [
            ("ada", "expected name:role[,role]:hash"),
            ("bob:viewer", "expected name:role[,role]:hash"),
            ("bob:owner:$2b$", "its second field"),
            ("bob::$2b$", "its second field"),
            ("bob:viewer,:$2b$", "its second field"),
            (" bob:viewer:x", "its name"),
            (":viewer:x", "its name"),
            ("bob:viewer:secret", "its third field"),
            ("bob:viewer:$argon2id$secret", "its argon2 hash cannot be read"),
        ] {
            let error = read(&format!("{good}{line}\n")).err().unwrap();
            assert!(error.starts_with(&format!("users, line 2: {said}")), "{line}: {error}");
            assert!(!error.contains("secret") && !error.contains("bob"), "{error}");
        }
        assert!(read(&format!("{good}{good}")).err().unwrap().contains("line 2: an earlier line"));
        assert!(read("# nobody\n").err().unwrap().contains("names nobody"));
        let many: String = (0..=MOST_USERS).map(|number| format!("u{number}:viewer:{HASH}\n")).collect();
        assert!(read(&many).err().unwrap().contains("line 1001"));
    }

    #[test]
    fn a_name_that_does_not_exist_is_checked_with_somebody_s_hash_and_always_the_same() {
        let other = HASH.replace("1WAo", "2WAo");
        let users = read(&format!("ada:viewer:{HASH}\nbob:viewer:{other}\n")).ok().unwrap();
        let chosen: Vec<bool> = (0..64)
            .map(|number| {
                let name = format!("nobody {number}");
                let (hash, exists) = users.hash_for(&name).unwrap();
                assert!(!exists && users.hash_for(&name).unwrap().0 == hash);
                *hash == Hash::Bcrypt(HASH.to_owned())
            })
            .collect();
        assert!(chosen.contains(&true) && chosen.contains(&false), "the costs are mixed as those of people are");
    }
}
