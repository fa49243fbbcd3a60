//! What is kept of a password: a hash of argon2 or bcrypt, in the usual forms. Hashing takes time and memory on purpose, so both
//! are bounded, whatever the file of users says.

use std::str::FromStr;

use argon2::password_hash::phc::PasswordHash;
use argon2::{Argon2, Params, PasswordHasher, PasswordVerifier};
use bcrypt::HashParts;
use ring::rand::{SecureRandom, SystemRandom};

/// The longest password, in bytes. bcrypt refuses more than 72.
pub(super) const LONGEST_PASSWORD: usize = 1_024;
/// The most memory that checking a password may take, in KiB. New hashes take 19 MiB.
const MOST_KIB: u32 = 64 * 1024;
/// The most passes over that memory.
const MOST_PASSES: u32 = 10;
/// The most lanes.
const MOST_LANES: u32 = 4;
/// The largest cost of bcrypt: about a second.
const MOST_COST: u32 = 14;

/// Why a password cannot be hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PasswordError {
    /// There is none.
    #[error("the password is empty")]
    Empty,
    /// It is too long.
    #[error("the password is longer than {LONGEST_PASSWORD} bytes: shorten it")]
    TooLong,
    /// It cannot be hashed.
    #[error("the password cannot be hashed")]
    Unhashable,
}

/// A new hash of a password, by Argon2id, as a PHC string.
///
/// # Errors
/// A password that is empty or too long.
pub fn hash(password: &str) -> Result<String, PasswordError> {
    match password.len() {
        0 => return Err(PasswordError::Empty),
        bytes if bytes > LONGEST_PASSWORD => return Err(PasswordError::TooLong),
        _ => {}
    }
    let mut salt = [0; 16];
    SystemRandom::new().fill(&mut salt).map_err(|_| PasswordError::Unhashable)?;
    let hash: PasswordHash =
        Argon2::default().hash_password_with_salt(password.as_bytes(), &salt).map_err(|_| PasswordError::Unhashable)?;
    Ok(hash.to_string())
}

/// A hash that can be checked within the bounds.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Hash {
    Argon2(String),
    Bcrypt(String),
}

impl Hash {
    /// Reads a hash. The error says what is wrong with it, and nothing of it.
    pub(super) fn of(text: &str) -> Result<Hash, &'static str> {
        if text.starts_with("$argon2") {
            return of_argon2(text);
        }
        if !["$2a$", "$2b$", "$2y$"].iter().any(|start| text.starts_with(start)) {
            return Err("its third field is neither an argon2 hash ($argon2id$…) nor a bcrypt hash ($2b$…)");
        }
        let parts = HashParts::from_str(text).map_err(|_| "its bcrypt hash cannot be read")?;
        if parts.get_cost() > MOST_COST {
            return Err("its bcrypt hash has a cost of more than 14");
        }
        Ok(Hash::Bcrypt(text.to_owned()))
    }

    /// Whether this is the password. It takes a while, and much memory.
    pub(super) fn is_of(&self, password: &str) -> bool {
        match self {
            Hash::Argon2(hash) => PasswordHash::new(hash)
                .is_ok_and(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok()),
            Hash::Bcrypt(hash) => bcrypt::non_truncating_verify(password, hash).unwrap_or(false),
        }
    }
}

fn of_argon2(text: &str) -> Result<Hash, &'static str> {
    let unreadable = "its argon2 hash cannot be read";
    let hash = PasswordHash::new(text).map_err(|_| unreadable)?;
    if hash.salt.is_none() || hash.hash.is_none() {
        return Err(unreadable);
    }
    let params = Params::try_from(&hash).map_err(|_| unreadable)?;
    if params.m_cost() > MOST_KIB || params.t_cost() > MOST_PASSES || params.p_cost() > MOST_LANES {
        return Err("its argon2 hash takes more than 64 MiB, 10 passes or 4 lanes");
    }
    Ok(Hash::Argon2(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_of_its_password_and_of_no_other() {
        let argon2 = Hash::of(&hash("correct horse").unwrap()).ok().unwrap();
        let bcrypt = Hash::of(&bcrypt::hash("correct horse", 4).unwrap()).ok().unwrap();
        for hash in [argon2, bcrypt] {
            assert!(hash.is_of("correct horse"));
            for other in ["", "correct horse ", "Correct horse", "correct hors"] {
                assert!(!hash.is_of(other), "{other}");
            }
        }
        assert_ne!(hash("a").unwrap(), hash("a").unwrap(), "each has a salt of its own");
        assert_eq!(hash(""), Err(PasswordError::Empty));
        assert_eq!(hash(&"x".repeat(LONGEST_PASSWORD + 1)), Err(PasswordError::TooLong));
    }

    #[test]
    fn a_hash_that_would_take_more_than_its_share_or_is_none_is_refused() {
        let good = hash("a").unwrap();
        for text in [
            "",
            "secret",
            "$1$abc",
            "$argon2id$",
            "$argon2id$v=19$m=19456,t=2,p=1",
            &good.replace("m=19456", "m=1048576"),
            &good.replace("t=2", "t=1000"),
            &good.replace("p=1", "p=64"),
            "$2b$31$abcdefghijklmnopqrstuuABCDEFGHIJKLMNOPQRSTUVWXYZ01234",
            "$2b$10$short",
        ] {
            assert!(Hash::of(text).is_err(), "{text}");
        }
    }
}
