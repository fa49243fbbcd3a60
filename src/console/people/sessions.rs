//! Who has logged in. A session is known by a random number, which only its browser has: here is no more than a digest of it.
//! Sessions are in memory, and end with the console.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use ring::rand::{SecureRandom, SystemRandom};
use sha2::{Digest, Sha256};

/// How long a session lives without a request.
pub(super) const IDLE: Duration = Duration::from_secs(60 * 60);
/// How long a session lives at most.
pub(super) const ABSOLUTE: Duration = Duration::from_secs(12 * 60 * 60);
/// The most sessions of one person: the oldest ends if there would be more.
const MOST_OF_ONE: usize = 8;
/// The most sessions: the one that was idle for the longest ends if there would be more.
const MOST: usize = 2_000;

/// Somebody who has logged in.
struct Session {
    name: String,
    /// Of the user's line in the file when they logged in.
    digest: [u8; 32],
    begun: Instant,
    seen: Instant,
}

impl Session {
    fn is_over(&self, now: Instant) -> bool {
        now.duration_since(self.seen) >= IDLE || now.duration_since(self.begun) >= ABSOLUTE
    }
}

/// All sessions, by the digests of their tokens.
#[derive(Default)]
pub(super) struct Sessions(HashMap<[u8; 32], Session>);

impl Sessions {
    /// Begins a session, and returns its token. `None` if the system has no random numbers.
    pub(super) fn begin(&mut self, name: &str, digest: [u8; 32], now: Instant) -> Option<String> {
        self.0.retain(|_, session| !session.is_over(now));
        let own = self.0.values().filter(|session| session.name == name).count();
        if own >= MOST_OF_ONE {
            self.end_first(|session| (session.name == name).then_some(session.begun));
        }
        if self.0.len() >= MOST {
            self.end_first(|session| Some(session.seen));
        }
        let mut random = [0; 32];
        SystemRandom::new().fill(&mut random).ok()?;
        let token = hex::encode(random);
        self.0.insert(key(&token), Session { name: name.to_owned(), digest, begun: now, seen: now });
        Some(token)
    }

    /// Ends the session for which `age` is the least.
    fn end_first(&mut self, age: impl Fn(&Session) -> Option<Instant>) {
        let first = self.0.iter().filter_map(|(key, session)| Some((age(session)?, *key))).min();
        if let Some((_, key)) = first {
            self.0.remove(&key);
        }
    }

    /// The name and the digest of the session with this token, which lives on by it.
    pub(super) fn of(&mut self, token: &str, now: Instant) -> Option<(String, [u8; 32])> {
        let key = key(token);
        let session = self.0.get_mut(&key)?;
        if session.is_over(now) {
            self.0.remove(&key);
            return None;
        }
        session.seen = now;
        Some((session.name.clone(), session.digest))
    }

    /// Ends the session with this token.
    pub(super) fn end(&mut self, token: &str) {
        self.0.remove(&key(token));
    }
}

/// A token has 256 random bits, so its digest needs no salt; and whoever compares digests learns nothing from how long it takes.
fn key(token: &str) -> [u8; 32] {
    Sha256::digest(token).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_ends_when_it_is_idle_when_it_is_old_and_when_it_is_ended() {
        let (mut sessions, start) = (Sessions::default(), Instant::now());
        let token = sessions.begin("ada", [1; 32], start).unwrap();
        assert_eq!(token.len(), 64);
        assert_eq!(sessions.of(&token, start), Some(("ada".to_owned(), [1; 32])));
        assert_eq!(sessions.of(&token.replace(['0', '1'], "2"), start), None);
        let minute = Duration::from_secs(60);
        let mut now = start;
        while now < start + ABSOLUTE - IDLE {
            now += IDLE - minute;
            assert!(sessions.of(&token, now).is_some(), "it is used");
        }
        assert_eq!(sessions.of(&token, start + ABSOLUTE), None, "it is old");
        let idle = sessions.begin("ada", [1; 32], start).unwrap();
        assert_eq!(sessions.of(&idle, start + IDLE), None, "it is idle");
        assert_eq!(sessions.of(&idle, start), None, "and does not come back");
        let ended = sessions.begin("ada", [1; 32], start).unwrap();
        sessions.end(&ended);
        assert_eq!(sessions.of(&ended, start), None);
    }

    #[test]
    fn there_are_so_many_sessions_and_whoever_begins_many_ends_their_own_first() {
        let (mut sessions, now) = (Sessions::default(), Instant::now());
        let bob = sessions.begin("bob", [2; 32], now).unwrap();
        let of_ada: Vec<String> =
            (0..20).map(|second| sessions.begin("ada", [1; 32], now + Duration::from_secs(second)).unwrap()).collect();
        let alive: Vec<bool> = of_ada.iter().map(|token| sessions.of(token, now + IDLE / 2).is_some()).collect();
        assert_eq!(alive, [[false; 12].as_slice(), &[true; 8]].concat());
        assert!(sessions.of(&bob, now + IDLE / 2).is_some());
        for number in 0..MOST {
            sessions.begin(&format!("user {number}"), [3; 32], now + IDLE / 2).unwrap();
        }
        assert_eq!(sessions.0.len(), MOST);
    }
}
