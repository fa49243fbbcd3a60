//! Links that show one agent for a while, for somebody who has no password here. A link is signed, and says for itself until when
//! it counts; nothing is kept of it. With another key, all earlier links end.

use std::path::Path;

use ring::hmac;

use super::users::{UsersError, read_secret};

/// How long a link may count at most, in seconds.
pub const LONGEST_LINK: i64 = 30 * 24 * 60 * 60;
/// The shortest key, in bytes.
const SHORTEST_KEY: usize = 32;
/// The longest agent, in bytes: 200 characters.
const LONGEST_AGENT: usize = 800;
/// What is signed begins with this, so that the key signs nothing else by accident.
const PURPOSE: &str = "postcall console link";
/// The versions of the form of a link: of the only database of a console, and of one of several, which it names.
const OF_THE_ONLY_ONE: &str = "v1";
const OF_ONE_OF_SEVERAL: &str = "v2";

/// Why a key is refused.
#[derive(Debug, thiserror::Error)]
pub enum LinkKeyError {
    /// The file is refused.
    #[error(transparent)]
    File(#[from] UsersError),
    /// The key is too short.
    #[error(
        "the key has fewer than {SHORTEST_KEY} bytes. Make one: (umask 077; head -c 32 /dev/urandom | base64 > FILE)"
    )]
    Short,
}

/// The key that signs links.
pub struct LinkKey(hmac::Key);

/// Why a link shows nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::console) enum LinkRefused {
    /// It was not signed by this key.
    Forged,
    /// Its time is over.
    Over,
    /// No database could be opened so far whose clock says what time it is.
    NoClock,
}

/// What a link shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Link {
    /// The database, if it is one of several.
    pub(super) database: Option<String>,
    pub(super) agent: String,
    /// How many seconds it still counts.
    pub(super) left: i64,
}

impl LinkKey {
    /// Reads the key.
    ///
    /// # Errors
    /// A file that cannot be read, or that everybody may read, or a key that is too short.
    pub fn read(path: &Path) -> Result<LinkKey, LinkKeyError> {
        let (bytes, _) = read_secret(path)?;
        LinkKey::of(bytes.trim_ascii()).ok_or(LinkKeyError::Short)
    }

    fn of(bytes: &[u8]) -> Option<LinkKey> {
        (bytes.len() >= SHORTEST_KEY).then(|| LinkKey(hmac::Key::new(hmac::HMAC_SHA256, bytes)))
    }

    /// The token of a link that shows this agent until then, in seconds since 1970. If the console serves several databases, it
    /// shows the agent in the one that is named, and in no other.
    pub fn token(&self, database: Option<&str>, agent: &str, until: i64) -> String {
        let agent = hex::encode(agent);
        let said = match database {
            None => format!("{OF_THE_ONLY_ONE}.{until}.{agent}"),
            Some(name) => format!("{OF_ONE_OF_SEVERAL}.{until}.{agent}.{}", hex::encode(name)),
        };
        let signature = hmac::sign(&self.0, format!("{PURPOSE} {said}").as_bytes());
        format!("{said}.{}", hex::encode(signature.as_ref()))
    }

    /// What the link with this token shows. `now` is the time of the database that it names.
    pub(super) fn link(
        &self,
        token: &str,
        now: impl Fn(Option<&str>) -> Result<i64, LinkRefused>,
    ) -> Result<Link, LinkRefused> {
        let (said, signature) = token.rsplit_once('.').ok_or(LinkRefused::Forged)?;
        let signature = hex::decode(signature).map_err(|_| LinkRefused::Forged)?;
        // Compares in constant time.
        hmac::verify(&self.0, format!("{PURPOSE} {said}").as_bytes(), &signature).map_err(|_| LinkRefused::Forged)?;
        let mut parts = said.split('.');
        let (Some(version), Some(until), Some(agent)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(LinkRefused::Forged);
        };
        let text = |hex: &str| hex::decode(hex).ok().and_then(|text| String::from_utf8(text).ok());
        let database = match (version, parts.next(), parts.next()) {
            (OF_THE_ONLY_ONE, None, None) => None,
            (OF_ONE_OF_SEVERAL, Some(name), None) => Some(text(name).ok_or(LinkRefused::Forged)?),
            _ => return Err(LinkRefused::Forged),
        };
        let now = now(database.as_deref())?;
        let until: i64 = until.parse().map_err(|_| LinkRefused::Forged)?;
        let agent = text(agent);
        let agent =
            agent.filter(|agent| !agent.is_empty() && agent.len() <= LONGEST_AGENT).ok_or(LinkRefused::Forged)?;
        match until.saturating_sub(now) {
            left if left <= 0 => Err(LinkRefused::Over),
            // No command makes such a link.
            left if left > LONGEST_LINK => Err(LinkRefused::Forged),
            left => Ok(Link { database, agent, left }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_795_000_000;

    fn at(now: i64) -> impl Fn(Option<&str>) -> Result<i64, LinkRefused> {
        move |database| (database != Some("elsewhere")).then_some(now).ok_or(LinkRefused::Forged)
    }

    #[test]
    fn a_link_shows_its_agent_until_its_time_is_over() {
        let key = LinkKey::of(&[7; 32]).unwrap();
        for agent in ["a", "a.b/c", "é \"<>", &"x".repeat(800)] {
            for database in [None, Some("host:5432/é")] {
                let token = key.token(database, agent, NOW + 60);
                assert!(token.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'.'), "{token}");
                let link = Link { database: database.map(str::to_owned), agent: agent.to_owned(), left: 60 };
                assert_eq!(key.link(&token, at(NOW)), Ok(link));
                assert_eq!(key.link(&token, at(NOW + 60)), Err(LinkRefused::Over));
            }
        }
        assert_eq!(key.link(&key.token(Some("elsewhere"), "a", NOW + 60), at(NOW)), Err(LinkRefused::Forged));
        assert_eq!(key.link(&key.token(None, "a", NOW + LONGEST_LINK + 1), at(NOW)), Err(LinkRefused::Forged));
    }

    #[test]
    fn whatever_is_changed_in_a_link_makes_it_a_forgery() {
        let key = LinkKey::of(&[7; 32]).unwrap();
        let token = key.token(Some("north"), "agent", NOW + 60);
        let other = LinkKey::of(&[8; 32]).unwrap();
        assert_eq!(other.link(&token, at(NOW)), Err(LinkRefused::Forged));
        for length in 0..token.len() {
            let mut bytes = token.clone().into_bytes();
            bytes[length] = if bytes[length] == b'1' { b'2' } else { b'1' };
            let changed = String::from_utf8(bytes).unwrap();
            assert_eq!(key.link(&changed, at(NOW)), Err(LinkRefused::Forged), "{changed}");
            assert_eq!(key.link(&token[..length], at(NOW)), Err(LinkRefused::Forged));
        }
        // A signature of something else by the same key.
        let unsaid = hex::encode(hmac::sign(&key.0, format!("v1.{}.61", NOW + 60).as_bytes()).as_ref());
        assert_eq!(key.link(&format!("v1.{}.61.{unsaid}", NOW + 60), at(NOW)), Err(LinkRefused::Forged));
        assert!(LinkKey::of(&[7; 31]).is_none());
    }
}
